//! The kernel as an oracle: what its connection tracking says of packets, plumb's says too.

#![forbid(unsafe_code)]

use core::time::Duration;
use std::path::Path;
use std::process::Command;

use plumb_nf::conntrack::{Config, Conntrack, Direction, Status, Tracked};
use plumb_nf::dissect::Dissected;
use plumb_nf::reassembly::{self, Outcome, Reassembler};
use plumb_nf::{Frame, Output, Port};
use plumb_tests::{require, run};
use plumb_wire::Instant;

#[test]
fn root_conntrack_says_of_each_packet_what_the_kernel_says() {
    require!("unshare", "ip", "ethtool", "sysctl", "nft", "python3");
    let oracle = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracles/ct_state.py");
    let path = std::env::var("PATH").unwrap_or_default();
    let (seed, scenarios) = ("1", "300");
    let done = run(Command::new("unshare")
        .args(["--net", "python3"])
        .arg(oracle)
        .args([seed, scenarios])
        .env("PATH", format!("{path}:/usr/sbin:/sbin")))
    .expect(0);
    let mut tracker = Tracker::new();
    let (mut scenario, mut same, mut different) = ("", 0, Vec::new());
    for (i, line) in done.stdout.lines().enumerate() {
        if let Some(title) = line.strip_prefix("# ") {
            scenario = title;
            continue;
        }
        let mut words = line.split(' ');
        let from = match words.next() {
            Some("left") => Port::Left,
            _ => Port::Right,
        };
        let kernel: Vec<&str> = words.by_ref().take(3).collect();
        let ours = tracker.packet(from, words);
        if ours == kernel.join(" ") {
            same += 1;
        } else {
            different.push(format!(
                "line {i}, {scenario}: kernel {kernel:?}, plumb {ours}"
            ));
        }
    }
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    assert!(
        different.is_empty(),
        "Linux {kernel}: {same} same, {different:#?}"
    );
    assert!(same > 15_000, "only {same} packets");
}

/// Connection tracking behind rules that let everything through.
struct Tracker {
    conntrack: Conntrack,
    reassembler: Reassembler,
    out: Output,
    now: Instant,
}

impl Tracker {
    fn new() -> Self {
        Self {
            conntrack: Conntrack::new(Config::default(), 1),
            reassembler: Reassembler::new(reassembly::Config::default()),
            out: Output::default(),
            now: Instant::from_millis(1),
        }
    }

    /// What is said of a packet, given as the frames that it comes in.
    fn packet<'a>(&mut self, from: Port, frames: impl Iterator<Item = &'a str>) -> String {
        let mut said = String::new();
        for frame in frames {
            self.now = self.now + Duration::from_micros(100);
            let frame = Frame::new(self.now, &bytes(frame));
            let packet = Dissected::new(&frame);
            let (now, out) = (self.now, &mut self.out);
            said = match self.reassembler.push(from, &packet, frame, now, out) {
                Outcome::Taken => "held".into(),
                Outcome::Alone(frame) => self.track(&packet, &frame),
                Outcome::Whole(datagram) => {
                    self.track(&Dissected::new(&datagram.whole), &datagram.whole)
                }
            };
        }
        said
    }

    fn track(&mut self, packet: &Dissected, frame: &Frame) -> String {
        let mut tracked = Tracked::untracked();
        self.conntrack.track(packet, frame, self.now, &mut tracked);
        // The kernel's rules see a packet before its connection is confirmed.
        let assured = u8::from(tracked.status.contains(Status::ASSURED));
        self.conntrack
            .confirm(&mut tracked, self.now)
            .expect("room for a connection");
        let direction = match (tracked.state.has_connection(), tracked.direction) {
            (false, _) => "-",
            (true, Direction::Original) => "original",
            (true, Direction::Reply) => "reply",
        };
        format!("{} {direction} {assured}", tracked.state.name())
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal digits");
    (0..hex.len()).step_by(2).map(digit).collect()
}
