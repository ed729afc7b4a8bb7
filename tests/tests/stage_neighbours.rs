//! A stage between two neighbours that this process plays: what it does when both go at once.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use core::time::Duration;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use plumb_link::stage::{
    Ends, Link as _, LinkFrame, Needs, PipeLink, PipeOptions, Received, Sent, wait_alone,
};
use plumb_tests::plumb;
use plumb_wire::frame::Port;

const STEP: Option<Duration> = Some(Duration::from_millis(10));
const LIMIT: Duration = Duration::from_secs(30);

/// Who writes to a stage, the stage, and who reads from it.
struct Between {
    left: PipeLink,
    stage: Child,
    right: PipeLink,
}

impl Between {
    fn start() -> Self {
        let (stage_reads, writer) = std::io::pipe().unwrap();
        let (reader, stage_writes) = std::io::pipe().unwrap();
        let options = |port| PipeOptions {
            port,
            upgrade: true,
            keep_offload: true,
            is_capture: false,
        };
        let stage = Command::new(plumb())
            .arg("count")
            .stdin(Stdio::from(stage_reads))
            .stdout(Stdio::from(stage_writes))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let ends = Ends {
            output: Some(OwnedFd::from(writer)),
            ..Ends::default()
        };
        let left = PipeLink::open(ends, options(Port::Right)).unwrap();
        let ends = Ends {
            input: Some(OwnedFd::from(reader)),
            ..Ends::default()
        };
        let right = PipeLink::open(ends, options(Port::Left)).unwrap();
        Self { left, stage, right }
    }

    /// Lets the rings come about, on both sides and for both ways.
    fn meet(&mut self) {
        let until = Instant::now() + LIMIT;
        let mut frame = LinkFrame::default();
        let (mut there, mut back) = (false, false);
        while !(there && back && self.is_ring()) {
            assert!(Instant::now() < until, "they do not meet");
            send(&mut self.left);
            there |= self.right.receive(&mut frame).unwrap() == Received::Frame;
            if there {
                send(&mut self.right);
            }
            back |= self.left.receive(&mut frame).unwrap() == Received::Frame;
            for link in [&mut self.left, &mut self.right] {
                link.flush().unwrap();
                wait_alone(link, Needs::default(), &[], STEP).unwrap();
            }
        }
    }

    fn is_ring(&self) -> bool {
        [&self.left, &self.right]
            .iter()
            .all(|link| link.describe() == "ring")
    }

    /// Sends both ways without receiving anything, until nothing has found room for a while.
    fn fill(&mut self) {
        let mut full_since = Instant::now();
        while full_since.elapsed() < Duration::from_millis(300) {
            for link in [&mut self.left, &mut self.right] {
                while send(link) == Sent::Taken {
                    full_since = Instant::now();
                }
                link.flush().unwrap();
                wait_alone(link, Needs::default(), &[], STEP).unwrap();
            }
        }
    }
}

fn send(link: &mut PipeLink) -> Sent {
    let frame = LinkFrame {
        bytes: vec![7; 1000],
        ..LinkFrame::default()
    };
    link.send((&frame).into()).unwrap()
}

#[test]
fn a_stage_with_packets_for_both_neighbours_ends_when_both_are_gone() {
    let mut between = Between::start();
    between.meet();
    between.fill();
    let Between {
        left,
        mut stage,
        right,
    } = between;
    drop(left);
    drop(right);
    let until = Instant::now() + LIMIT;
    while stage.try_wait().unwrap().is_none() {
        if Instant::now() > until {
            stage.kill().unwrap();
            stage.wait().unwrap();
            panic!("it waits for ever");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
