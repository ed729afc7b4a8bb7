//! `--live` and `--report` from machines.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use plumb_record::StopReason;
use plumb_tests::{Directory, Records, plumb, require, run, skip};
use serde_json::Value;

/// Skips the test that calls it where there is no runner, and names the best otherwise.
macro_rules! require_runner {
    () => {{
        require!();
        match plumb_tests::runners().first() {
            Some(runner) => *runner,
            None => skip!("it needs /dev/kvm or qemu-system-x86_64"),
        }
    }};
}

fn from_machine(runner: &str, lab: &str, arguments: &str) -> Command {
    let mut command = Command::new(plumb());
    command
        .args(["vm", "run", "--runner", runner, "--uplink", lab, "--"])
        .args(arguments.split(' '));
    command
}

#[test]
fn root_every_round_of_many_targets_is_a_record_and_each_keeps_its_flow() {
    let runner = require_runner!();
    // Each target has options of its own: more than a machine is told of at a time.
    let targets: Vec<String> = (0..40).map(|n| format!("5.16.{n}.1")).collect();
    let arguments = format!(
        "trace --live --json --rounds 3 --interval 200ms --wait 3s -r 5k {}",
        targets.join(" ")
    );
    let done = run(&mut from_machine(runner, "lab:wide,seed=7", &arguments)).expect(0);
    let records = Records::of(&done);
    // Whoever reads them learns what was typed, not how plumb works.
    let said = &records.start.arguments;
    assert_eq!(said[1..3], ["vm", "run"], "{done}");
    assert_eq!(said.last(), targets.last(), "{done}");
    let mut flows: BTreeMap<_, (usize, BTreeSet<_>)> = BTreeMap::new();
    for trace in &records.traces {
        assert_eq!(trace.stop_reason, StopReason::Completed, "{done}");
        let (rounds, ports) = flows.entry(trace.dst).or_default();
        *rounds += 1;
        ports.insert(trace.src_port);
    }
    assert_eq!(flows.len(), targets.len(), "{done}");
    for (dst, (rounds, ports)) in flows {
        assert_eq!((rounds, ports.len()), (3, 1), "{dst}: {done}");
    }
    assert_eq!(records.end.finished, 120, "{done}");
    assert!(records.end.probes_sent >= 3 * 40, "{done}");
}

/// A report's path: what each hop and tunnel is, without times and counts.
fn path(report: &Value) -> Vec<Value> {
    let mut parts = Vec::new();
    for hop in report["hops"].as_array().unwrap() {
        parts.push(hop["addr"].clone());
    }
    for tunnel in report["tunnels"].as_array().unwrap() {
        parts.push(tunnel["type"].clone());
        let lsrs = tunnel["lsrs"].as_array().unwrap();
        parts.extend(lsrs.iter().map(|lsr| lsr["addr"].clone()));
    }
    parts
}

#[test]
fn root_a_report_from_a_machine_has_the_path_that_the_native_one_has() {
    let runner = require_runner!();
    let arguments = "trace --report --json -c 3 --interval 100ms --wait 3s 5.0.8.2";
    let directory = Directory::new();
    let file = directory.file("rounds.pcapng");
    let mut command = from_machine(runner, "lab:php,seed=7", arguments);
    let machine = run(command.arg("--pcap").arg(&file)).expect(0);
    let mut command = Command::new(plumb());
    command
        .args(["lab", "run", "php", "--seed", "7", "--"])
        .arg(plumb())
        .args(arguments.split(' '));
    let native = run(&mut command).expect(0);
    let report = |text: &str| -> Value {
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let mut reports = lines.filter(|record: &Value| record["type"] == "report");
        reports.next().unwrap()
    };
    let (ours, theirs) = (report(&machine.stdout), report(&native.stdout));
    assert_eq!(path(&ours), path(&theirs), "{machine}");
    assert!(path(&ours).len() > 5, "{machine}");
    assert_eq!(ours["rounds"], 3, "{machine}");
    assert!(std::fs::metadata(&file).unwrap().len() > 1000);
}

#[test]
fn root_a_machine_that_ends_ends_the_rounds_and_what_there_was_is_reported() {
    let runner = require_runner!();
    let mut command = Command::new(plumb());
    command
        .args(["vm", "run", "--runner", runner, "--uplink", "lab:plain"])
        .args(["--deadline", "2s", "--", "trace", "--live", "--json"])
        .args(["--interval", "100ms", "5.0.4.2"]);
    let done = run(&mut command).expect(5);
    let records = Records::of(&done);
    assert!(records.traces.len() > 1, "{done}");
    let error = records.end.error.unwrap();
    assert!(error.contains("--deadline"), "{done}");
}
