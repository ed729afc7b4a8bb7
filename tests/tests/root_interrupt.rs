//! ^C, kill -9 and closed pipes: what was measured is printed, and nothing is left behind.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use core::time::Duration;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use plumb_record::{EndReason, StopReason};
use plumb_tests::{Chain, Directory, Records, Running, lab_command, plumb, require, run};

/// How long something may take that is bound to happen.
const LIMIT: Duration = Duration::from_secs(20);

/// A list of addresses that nobody answers for, at the end of a chain, and a slow trace of it.
fn slow_trace(chain: &Chain, directory: &Directory) -> Running {
    let list: String = (0..5000)
        .map(|n| format!("5.50.{}.{}\n", n / 250, n % 250))
        .collect();
    let list = directory.write("list", list);
    let mut command = chain.plumb(&["trace", "--json", "-r", "200", "--targets"]);
    let mut running = Running::start(command.arg(list));
    running.wait_until(|stdout, _| stdout.contains("\"type\":\"start\""));
    running
}

#[test]
fn root_an_interrupt_prints_what_there_is_and_the_end() {
    require!("ip", "ethtool");
    let chain = Chain::new(3);
    let directory = Directory::new();
    for signal in ["INT", "TERM"] {
        let running = slow_trace(&chain, &directory);
        running.signal(signal);
        let done = running.finish(LIMIT).expect(130);
        let records = Records::of(&done);
        assert_eq!(records.end.reason, EndReason::Interrupted, "{done}");
        assert_eq!(records.end.finished, records.traces.len() as u64);
        assert!(records.traces.len() < 5000);
        for trace in &records.traces {
            assert_eq!(trace.stop_reason, StopReason::Interrupted);
        }
    }
}

#[test]
fn root_two_interrupts_at_once_still_print_the_end() {
    require!("ip", "ethtool");
    let chain = Chain::new(3);
    let directory = Directory::new();
    let running = slow_trace(&chain, &directory);
    running.signal("INT");
    running.signal("INT");
    let done = running.finish(LIMIT).expect(130);
    assert_eq!(
        Records::of(&done).end.reason,
        EndReason::Interrupted,
        "{done}"
    );
}

#[test]
fn root_an_endless_ping_ends_with_its_summary() {
    require!("ip", "ethtool");
    let chain = Chain::new(2);
    let target = chain.target(true).to_string();
    let arguments = ["ping", "--json", "-c", "0", "-i", "20ms", &target];
    let mut running = Running::start(&mut chain.plumb(&arguments));
    running.wait_until(|stdout, _| stdout.matches("\"type\":\"reply\"").count() >= 3);
    running.signal("INT");
    let done = running.finish(LIMIT).expect(130);
    let records = Records::of(&done);
    assert_eq!(records.end.reason, EndReason::Interrupted);
    let summary = &records.pings[0];
    assert!(summary.received >= 3, "{done}");
    assert!(records.replies.len() >= 3);
    assert!(summary.sent - summary.received <= 1, "{done}");
}

/// What a command in a lab tells of the place where it runs.
struct Inside {
    net: PathBuf,
}

impl Inside {
    /// Reads it from the output of [`TELL`], waiting for it.
    fn of(running: &mut Running) -> Self {
        running.wait_until(|stdout, _| stdout.ends_with("ready\n"));
        Self {
            net: running.stdout().lines().next().unwrap().into(),
        }
    }

    /// Waits until no process is left in the lab's network namespace; with the last of them, the
    /// namespace goes, and the TUN device with it.
    #[track_caller]
    fn is_gone(&self) {
        assert_ne!(fs::read_link("/proc/self/ns/net").unwrap(), self.net);
        let started = Instant::now();
        while let Some(process) = process_in(&self.net) {
            assert!(started.elapsed() < LIMIT, "{process} is left");
            std::thread::sleep(Duration::from_millis(10));
        }
        let mounted = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let net = self.net.to_str().unwrap();
        assert!(!mounted.contains(net), "{net} is mounted:\n{mounted}");
    }
}

/// A process in the network namespace.
fn process_in(net: &Path) -> Option<String> {
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let inside = fs::read_link(entry.path().join("ns/net")).ok()? == net;
        let name = || fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        inside.then(|| format!("{} {}", entry.path().display(), name()))
    })
}

/// A script that says where it runs, starts processes in the background, and stays.
const TELL: &str = "readlink /proc/self/ns/net; ip link show uplink > /dev/null && \
    { sleep 1000 & setsid sleep 1000 & echo ready; sleep 1000; }";

#[test]
fn root_a_killed_lab_leaves_nothing() {
    require!("ip", "setsid");
    for signal in ["KILL", "TERM"] {
        let mut running = Running::start(lab_command("plain").args(["sh", "-c", TELL]));
        let inside = Inside::of(&mut running);
        assert!(process_in(&inside.net).is_some());
        running.signal(signal);
        inside.is_gone();
        let done = running.finish(LIMIT);
        assert_ne!(done.code(), Some(0), "{done}");
    }
}

#[test]
fn root_a_signal_to_a_lab_is_its_commands_to_answer() {
    require!();
    let script = "trap 'exit 9' TERM; echo ready; while true; do sleep 0.05; done";
    let mut running = Running::start(lab_command("plain").args(["sh", "-c", script]));
    running.wait_until(|stdout, _| stdout.contains("ready"));
    running.signal("TERM");
    running.finish(LIMIT).expect(9);
}

#[test]
fn root_a_lab_ends_with_its_command_whatever_that_left_running() {
    require!("ip", "setsid");
    let script = "readlink /proc/self/ns/net; sleep 1000 & setsid sleep 1000 & echo ready";
    let mut running = Running::start(lab_command("plain").args(["sh", "-c", script]));
    let inside = Inside::of(&mut running);
    running.finish(LIMIT).expect(0);
    inside.is_gone();
}

#[test]
fn root_a_lab_ends_as_its_command_does() {
    require!();
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 128 + 15)] {
        run(lab_command("plain").args(["sh", "-c", script])).expect(code);
    }
    let done = run(lab_command("plain").arg("no-such-command")).expect(127);
    assert_eq!(done.stderr.lines().count(), 1, "{done}");
    let done = run(lab_command("no-such-lab").arg("true")).expect(2);
    assert_eq!(done.stderr.lines().count(), 1, "{done}");
}

#[test]
fn root_a_keyboard_interrupt_ends_the_command_and_then_the_lab() {
    require!();
    let mut command = lab_command("silent");
    // A host that never answers.
    command
        .arg(plumb())
        .args(["ping", "--json", "-c", "0", "5.0.10.2"]);
    let mut running = Running::start(&mut command);
    running.wait_until(|stdout, _| stdout.contains("\"type\":\"start\""));
    running.signal_group("INT");
    let done = running.finish(LIMIT).expect(130);
    assert_eq!(
        Records::of(&done).end.reason,
        EndReason::Interrupted,
        "{done}"
    );
}

#[test]
fn root_a_reader_that_leaves_ends_the_run_quietly() {
    require!("bash", "ip", "ethtool");
    let chain = Chain::new(3);
    let directory = Directory::new();
    let list: String = (0..20_000)
        .map(|n| format!("5.50.{}.{}\n", n / 250, n % 250))
        .collect();
    let list = directory.write("list", list);
    // At this rate the list alone would take an hour.
    let script = format!(
        "'{}' trace --targets '{}' --json -r 50 -w 100ms | head -n 2; exit ${{PIPESTATUS[0]}}",
        plumb().display(),
        list.display()
    );
    let done = run(chain.command(0, "bash").args(["-c", &script])).expect(0);
    assert_eq!(done.stdout.lines().count(), 2, "{done}");
    // The rate is announced; that the pipe broke is not.
    assert_eq!(done.stderr.lines().count(), 1, "{done}");
    assert!(done.stderr.contains("packets a second"), "{done}");
}

#[test]
fn root_a_full_disk_is_one_line() {
    require!();
    let done = run(Command::new(plumb()).args(["trace", "--json", "-o", "/dev/full", "127.0.0.1"]));
    assert_eq!(done.stderr.lines().count(), 1, "{done}");
    assert!(done.stderr.contains("No space left"), "{done}");
    assert_ne!(done.code(), Some(0), "{done}");
}
