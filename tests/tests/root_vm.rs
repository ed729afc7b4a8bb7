//! Measurements from machines: the real binary, the real image, every runner that works here.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use core::time::Duration;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use plumb_record::{EndReason, StopReason, Trace};
use plumb_sim::labs;
use plumb_tests::{
    Directory, Records, Running, at_once, plumb, require, run, run_with, skip, timeless, traces,
};
use plumb_wire::pcapng::{Direction, Read, Reader};

/// The options for each runner that works here; QEMU does without KVM as well.
fn runners() -> Vec<&'static [&'static str]> {
    let options = |runner: &str| -> &'static [&'static str] {
        match runner {
            "embedded" => &["--runner", "embedded"],
            "firecracker" => &["--runner", "firecracker"],
            _ => &["--runner", "qemu", "--accel", "tcg"],
        }
    };
    plumb_tests::runners().into_iter().map(options).collect()
}

/// The runners; where there are none, the test that calls it is skipped.
macro_rules! require_runners {
    () => {{
        let runners = runners();
        if runners.is_empty() {
            skip!("it needs /dev/kvm or qemu-system-x86_64");
        }
        runners
    }};
}

/// A ping without an end from such a machine, which has had replies.
fn endless_ping(runner: &[&str]) -> Running {
    let mut command = vm(runner, "plain");
    command.args("ping -c 0 -i 100ms --json 5.0.4.2".split(' '));
    let mut running = Running::start(&mut command);
    running.wait_until(|out, _| out.contains("\"reply\""));
    running
}

/// The best of them.
fn best() -> Option<&'static [&'static str]> {
    runners().first().copied()
}

fn vm(runner: &[&str], lab: &str) -> Command {
    let mut command = Command::new(plumb());
    let uplink = format!("lab:{lab},seed=7");
    command
        .args(["vm", "run", "--uplink", &uplink])
        .args(runner);
    command.arg("--");
    command
}

fn native(lab: &str) -> Command {
    let mut command = Command::new(plumb());
    command
        .args(["lab", "run", lab, "--seed", "7", "--"])
        .arg(plumb());
    command
}

/// Where chance decides which packets pass.
const BY_CHANCE: [&str; 2] = ["lossy", "rate-limited"];

#[test]
fn root_in_every_lab_every_runners_records_are_those_of_the_native_command() {
    require!();
    let runners = require_runners!();
    at_once(labs(), |lab| {
        let arguments = ["trace", "--json", "--seed", "1", "--wait", "3s"];
        let expected = run(native(lab.name).args(arguments).args(lab.targets)).expect(0);
        for runner in &runners {
            let done = run(vm(runner, lab.name).args(arguments).args(lab.targets)).expect(0);
            let records = Records::of(&done);
            assert_eq!(records.end.reason, EndReason::Completed, "{done}");
            assert_eq!(records.end.dropped, 0, "{done}");
            for trace in &records.traces {
                let error = trace.rtt_error_ns.unwrap();
                assert!((1..3_000_000_000).contains(&error), "{error}: {done}");
            }
            if BY_CHANCE.contains(&lab.name) {
                assert_eq!(records.end.reached, lab.targets.len() as u64, "{done}");
            } else {
                assert_eq!(traces(&done), traces(&expected), "{runner:?}: {done}");
            }
        }
    });
}

#[test]
fn root_every_method_both_versions_and_pings_work_from_a_machine() {
    require!();
    let Some(runner) = best() else {
        skip!("it needs /dev/kvm or qemu-system-x86_64");
    };
    for (lab, arguments) in [
        ("php", "trace --json --udp --seed 1 5.0.8.2"),
        ("php", "trace --json --tcp --seed 1 5.0.8.2"),
        (
            "plain",
            "trace --json --size 1500 --dscp 46 -f 2 --seed 1 5.0.4.2",
        ),
        ("ipv6", "trace --json -T -p 443 --seed 1 2a0b:5000:0:8::2"),
    ] {
        let words = || arguments.split(' ');
        let done = run(vm(runner, lab).args(words())).expect(0);
        let expected = run(native(lab).args(words())).expect(0);
        assert_eq!(traces(&done), traces(&expected), "{done}");
    }
    let arguments = "ping --json -c 3 -i 50ms -s 100 5.0.4.2 5.0.3.2 5.0.2.99";
    let done = run(vm(runner, "plain").args(arguments.split(' '))).expect(1);
    let records = Records::of(&done);
    assert_eq!(records.replies.len(), 9, "{done}");
    for ping in &records.pings {
        let answers = if ping.dst.to_string() == "5.0.2.99" {
            0
        } else {
            3
        };
        assert_eq!((ping.sent, ping.received), (3, answers), "{done}");
        assert!(ping.rtt_error_ns.is_some(), "{done}");
        // The lab's links take that long.
        assert!(ping.rtt_min_ns.is_none_or(|rtt| rtt > 5_000_000), "{done}");
    }
}

#[test]
fn root_ten_thousand_targets_pass_through_one_machine() {
    require!();
    let Some(runner) = best() else {
        skip!("it needs /dev/kvm or qemu-system-x86_64");
    };
    let list: String = (0..10_000u32)
        .map(|n| format!("5.16.{}.{}\n", n / 250, n % 250 + 1))
        .collect();
    let mut command = vm(runner, "wide");
    command.args(["trace", "--json", "-r", "10k", "-"]);
    let done = run_with(&mut command, list.as_bytes(), Duration::from_secs(150)).expect(0);
    let records = Records::of(&done);
    assert_eq!(
        (records.end.finished, records.end.reached),
        (10_000, 10_000)
    );
    let different: BTreeSet<_> = records.traces.iter().map(|t| t.dst).collect();
    assert_eq!(different.len(), 10_000);
    let complete = |trace: &&Trace| trace.stop_reason == StopReason::Completed;
    assert_eq!(records.traces.iter().filter(complete).count(), 10_000);
}

#[test]
fn root_two_hundred_machines_at_once_are_all_right() {
    require!();
    if best().is_none_or(|runner| runner[1] != "embedded") {
        skip!("it needs /dev/kvm");
    }
    const MACHINES: usize = 200;
    let directory = Directory::new();
    // Each has the whole lab to itself, behind one bridge.
    let script = format!(
        "for i in $(seq {MACHINES}); do
            $P vm run -- trace --json --seed 1 --wait 20s 5.0.8.2 > $D/$i.json 2> $D/$i.err &
        done; wait"
    );
    let mut command = Command::new(plumb());
    command.args([
        "lab", "run", "php", "--bridge", "lab0", "--", "sh", "-c", &script,
    ]);
    command.env("P", plumb()).env("D", directory.path());
    Running::start(&mut command)
        .finish(Duration::from_secs(150))
        .expect(0);
    let read = |name: String| std::fs::read_to_string(directory.path().join(name)).unwrap();
    let mut found: Vec<Trace> = Vec::new();
    for i in 1..=MACHINES {
        let (out, err) = (read(format!("{i}.json")), read(format!("{i}.err")));
        let trace = out.lines().nth(1).map(serde_json::from_str::<Trace>);
        let Some(Ok(trace)) = trace else {
            panic!("{i}: {out}{err}");
        };
        found.push(timeless(&trace));
    }
    let first = &found[0];
    assert_eq!(first.tunnels[0].lsrs.len(), 3);
    for (i, trace) in found.iter().enumerate() {
        assert_eq!(trace, first, "machine {i}");
    }
}

#[test]
fn root_all_packets_of_a_machine_are_captured() {
    require!();
    let Some(runner) = best() else {
        skip!("it needs /dev/kvm or qemu-system-x86_64");
    };
    let directory = Directory::new();
    let file = directory.path().join("x.pcapng");
    let mut command = vm(runner, "plain");
    command
        .args(["trace", "--json", "5.0.4.2", "--pcap"])
        .arg(&file);
    let records = Records::of(&run(&mut command).expect(0));
    let bytes = std::fs::read(&file).unwrap();
    let mut reader = Reader::new();
    let mut input = bytes.as_slice();
    let (mut sent, mut received) = (0, 0);
    let (start, end) = (records.start.time.0, records.end.time.0);
    while let Read::Packet(packet) = reader.read(&mut input).unwrap() {
        assert!((start..=end).contains(&packet.at_ns));
        match packet.direction {
            Direction::Outbound => sent += 1,
            Direction::Inbound => received += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(sent, records.end.probes_sent);
    // Not all that comes answers a probe that waits.
    assert!(
        received >= records.end.replies && received <= sent,
        "{received}"
    );
}

#[test]
fn root_an_interrupt_ends_the_round_and_the_machine_with_it() {
    require!();
    for runner in require_runners!() {
        let mut command = vm(runner, "silent");
        command.args("trace --first 2 --max-hops 3 --wait 20s --json 5.0.9.2".split(' '));
        let mut running = Running::start(&mut command);
        running.wait_until(|out, _| out.contains("\"start\""));
        // Long enough that it probes, short enough that it waits.
        std::thread::sleep(Duration::from_millis(1500));
        let monitors = children(running.pid());
        assert!(!monitors.is_empty());
        running.signal_group("INT");
        let done = running.finish(Duration::from_secs(10)).expect(130);
        let records = Records::of(&done);
        assert_eq!(
            records.trace().stop_reason,
            StopReason::Interrupted,
            "{done}"
        );
        assert_eq!(records.end.reason, EndReason::Interrupted, "{done}");
        assert!(gone(&monitors), "{done}");
    }
}

#[test]
fn root_a_machine_that_is_killed_is_reported_and_leaves_nothing() {
    require!();
    for runner in require_runners!() {
        let running = endless_ping(runner);
        let monitors = children(running.pid());
        for monitor in &monitors {
            kill(monitor);
        }
        let done = running.finish(Duration::from_secs(10)).expect(5);
        let records = Records::of(&done);
        assert_eq!(records.end.reason, EndReason::Failed, "{done}");
        let said = "the machine ended before its work was done";
        assert!(records.end.error.unwrap().starts_with(said), "{done}");
        assert_eq!(done.stderr.lines().count(), 1, "{done}");
        assert!(gone(&monitors), "{done}");
    }
}

#[test]
fn root_a_machine_dies_with_the_command_that_started_it() {
    require!();
    for runner in require_runners!() {
        let running = endless_ping(runner);
        let monitors = children(running.pid());
        assert!(!monitors.is_empty());
        running.signal("KILL");
        let done = running.finish(Duration::from_secs(10));
        assert_eq!(done.signal(), Some(9));
        assert!(gone(&monitors), "{runner:?}");
    }
}

#[test]
fn root_an_image_that_hangs_or_is_none_is_ended_and_named() {
    require!();
    let Some(runner) = best() else {
        skip!("it needs /dev/kvm or qemu-system-x86_64");
    };
    let directory = Directory::new();
    let file = directory.path().join("image");
    let with = |image: &[u8]| {
        std::fs::write(&file, image).unwrap();
        let mut command = Command::new(plumb());
        command.args([
            "vm",
            "run",
            "--uplink",
            "lab:plain",
            "--deadline",
            "2s",
            "--image",
        ]);
        command.arg(&file).args(runner);
        command.args(["--", "trace", "--json", "5.0.4.2"]);
        run(&mut command)
    };
    let done = with(&hanging_image()).expect(5);
    let error = Records::of(&done).end.error.unwrap();
    assert!(
        error.starts_with("the deadline of 2 s has passed"),
        "{done}"
    );
    if runner[1] == "embedded" {
        let done = with(b"no ELF").expect(5);
        let error = Records::of(&done).end.error.unwrap();
        assert!(error.contains("its last words: "), "{done}");
        assert!(error.contains("not a 64-bit"), "{done}");
    }
}

#[test]
fn root_a_machine_that_stays_measures_as_one_that_does_not() {
    require!();
    let Some(runner) = best() else {
        skip!("it needs /dev/kvm or qemu-system-x86_64");
    };
    let directory = Directory::new();
    let stays = Stays(directory.file("state"));
    let plumb_vm = |words: &str| stays.vm(words);
    let mut start = plumb_vm("start probe --uplink lab:php,seed=7");
    run(start.args(runner)).expect(0);
    let arguments = "trace --json --seed 1 5.0.8.2";
    let expected = traces(&run(native("php").args(arguments.split(' '))).expect(0));
    for _ in 0..3 {
        let done = run(&mut plumb_vm(&format!("run --vm probe -- {arguments}"))).expect(0);
        assert_eq!(traces(&done), expected, "{done}");
        // A client that dies in mid-measurement does not spoil the next.
        let mut endless = plumb_vm("run --vm probe -- ping -c 0 -i 10ms --json 5.0.8.2");
        let mut running = Running::start(&mut endless);
        running.wait_until(|out, _| out.contains("\"reply\""));
        running.signal("KILL");
        running.finish(Duration::from_secs(10));
    }
    let mut endless = plumb_vm("run --vm probe -- ping -c 0 -i 10ms --json 5.0.8.2");
    let mut running = Running::start(&mut endless);
    running.wait_until(|out, _| out.contains("\"reply\""));
    run(&mut plumb_vm("stop probe")).expect(0);
    let done = running.finish(Duration::from_secs(10)).expect(5);
    let error = Records::of(&done).end.error.unwrap();
    assert!(
        error.starts_with("the machine closed the job channel"),
        "{done}"
    );
    let done = run(&mut plumb_vm("run --vm probe -- ping 5.0.8.2")).expect(2);
    assert!(done.stderr.contains("there is no machine probe"), "{done}");
}

#[test]
fn root_more_targets_than_a_process_can_be_handed_in_one_word_are_measured_all_the_same() {
    require!();
    let Some(runner) = best() else {
        skip!("it needs /dev/kvm or qemu-system-x86_64");
    };
    let targets = (100..206).flat_map(|a| (100..200).map(move |b| format!("5.16.{a}.{b}")));
    let mut command = vm(runner, "wide");
    command.args("ping -c 1 -w 3s -r 10k --json".split(' '));
    let done = run_with(command.args(targets), b"", Duration::from_secs(120)).expect(0);
    assert_eq!(Records::of(&done).end.reached, 106 * 100, "{}", done.stderr);
}

#[test]
fn root_what_makes_no_sense_from_a_machine_is_refused_before_there_is_one() {
    require!();
    for (arguments, said) in [
        (
            "--uplink lab:plain -- trace --mode raw 5.0.4.2",
            "--mode chooses",
        ),
        (
            "--uplink lab:plain -- trace -i eth0 5.0.4.2",
            "no --interface",
        ),
        (
            "--uplink lab:plain -- trace --live 5.0.4.2",
            "--live draws on a terminal",
        ),
        (
            "--uplink lab:plain -- trace --dry-run 5.0.4.2",
            "needs no machine",
        ),
        ("--uplink lab:plain -- lab list", "`trace` and `ping`"),
        (
            "--uplink lab:plain -- ping --source 9.9.9.9 5.0.4.2",
            "none of the machine's",
        ),
        ("--uplink lab:nowhere -- ping 5.0.4.2", "there is no lab"),
        ("-- ping 5.0.4.2", "a machine needs --uplink"),
    ] {
        let mut command = Command::new(plumb());
        command.args(["vm", "run"]).args(arguments.split(' '));
        let done = run(&mut command).expect(2);
        assert!(done.stderr.contains(said), "{done}");
        assert_eq!(done.stderr.lines().count(), 1, "{done}");
    }
}

/// Machines that stay no longer than this, with the directory that they are kept in.
struct Stays(PathBuf);

impl Stays {
    fn vm(&self, words: &str) -> Command {
        let mut command = Command::new(plumb());
        command.arg("vm").args(words.split(' '));
        command.env("PLUMB_STATE", &self.0);
        command
    }
}

impl Drop for Stays {
    fn drop(&mut self) {
        run(&mut self.vm("stop --all"));
    }
}

/// The processes that this process started.
fn children(pid: u32) -> Vec<String> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

fn kill(pid: &str) {
    run(Command::new("kill").args(["-s", "KILL", pid]));
}

/// Whether all of them end soon.
fn gone(pids: &[String]) -> bool {
    let lives = |pid: &String| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        // A zombie only waits for its parent.
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    for _ in 0..200 {
        if !pids.iter().any(lives) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

/// An image that halts at once and for ever.
fn hanging_image() -> Vec<u8> {
    const BASE: u64 = 0x20_0000;
    // cli; hlt; jmp -3
    const CODE: [u8; 4] = [0xfa, 0xf4, 0xeb, 0xfd];
    const START: u64 = 0x100;
    let mut image = b"\x7fELF\x02\x01\x01".to_vec();
    image.resize(16, 0);
    image.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for word in [BASE + START, 64, 0] {
        image.extend(word.to_le_bytes());
    }
    image.extend([0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 64, 0, 0, 0, 0, 0]);
    // The code, then the note that PVH wants.
    let note = START + 16;
    for (kind, at, len) in [(1u32, START, 64u64), (4, note, 20)] {
        image.extend(kind.to_le_bytes());
        image.extend(5u32.to_le_bytes());
        for word in [at, BASE + at, BASE + at, len, len, 4] {
            image.extend(u64::to_le_bytes(word));
        }
    }
    image.resize(0x100, 0);
    image.extend(CODE);
    image.resize(0x110, 0);
    for word in [4u32, 4, 18] {
        image.extend(word.to_le_bytes());
    }
    image.extend(b"Xen\0");
    image.extend(u32::try_from(BASE + START).unwrap().to_le_bytes());
    image.resize(0x140, 0);
    image
}
