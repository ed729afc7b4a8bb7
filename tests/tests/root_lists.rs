//! Long lists of targets: each exactly once, in little memory, and lines that are none.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use core::fmt::Write as _;
use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;
use std::collections::BTreeSet;

use plumb_record::{EndReason, StopReason, Trace};
use plumb_tests::{Directory, Records, in_lab, lab_command, line, plumb, require, run_with};

/// `count` addresses behind each of the four providers of the lab `wide`.
fn targets(count: u32) -> Vec<IpAddr> {
    (0..count)
        .flat_map(|n| {
            [16, 20, 24, 28].map(|provider| {
                let first = Ipv4Addr::new(5, provider, 0, 1).to_bits();
                Ipv4Addr::from_bits(first + n * 37).into()
            })
        })
        .collect()
}

fn lines(targets: &[IpAddr]) -> String {
    let mut list = String::new();
    for target in targets {
        writeln!(list, "{target}").unwrap();
    }
    list
}

/// The tunnel on the way to a target of the lab `wide`.
fn tunnel_to(target: IpAddr) -> &'static [&'static str] {
    let IpAddr::V4(v4) = target else {
        panic!("{target}")
    };
    match v4.octets()[1] / 4 {
        4 => &[
            "Invisible/Frpla 5.0.3.2 > 5.0.4.2 Brpr3 > 5.0.5.2 Brpr2 > 5.0.6.2 Brpr1 > 5.0.7.2, Revealed",
        ],
        5 => &[
            "Invisible/Rtla 5.0.10.2 > 5.0.11.2 Dpr1 > 5.0.12.2 Dpr1 > 5.0.13.2 Dpr1 > 5.0.14.2, Revealed",
        ],
        6 => &["Explicit/Lse 5.0.17.2 > 5.0.18.2 > 5.0.19.2 > 5.0.20.2, NotNeeded"],
        7 => &[],
        _ => panic!("{target}"),
    }
}

fn tunnels(trace: &Trace) -> Vec<String> {
    trace.tunnels.iter().map(line).collect()
}

#[track_caller]
fn each_once(records: &Records, targets: &[IpAddr]) {
    let traced: BTreeSet<IpAddr> = records.traces.iter().map(|trace| trace.dst).collect();
    assert_eq!(records.traces.len(), traced.len());
    assert_eq!(traced, targets.iter().copied().collect());
}

/// Most memory that 20 000 targets may take, in KiB; a debug build took 35 424.
const MOST_MEMORY_KIB: u64 = 64 << 10;

#[test]
fn root_twenty_thousand_targets_are_each_traced_once_in_little_memory() {
    require!();
    let directory = Directory::new();
    let targets = targets(5000);
    let list = directory.write("list", lines(&targets));
    let memory = directory.file("memory");
    // How much memory a process had at most is gone with the process.
    let script = format!(
        "'{}' trace --targets '{}' --json -r 10k -q 4 & pid=$!\n\
         while grep VmHWM /proc/$pid/status > '{1}.now'; do mv '{1}.now' '{}'; sleep 0.1; done\n\
         wait $pid",
        plumb().display(),
        list.display(),
        memory.display()
    );
    let mut command = lab_command("wide");
    let done = run_with(
        command.args(["sh", "-c", &script]),
        b"",
        Duration::from_secs(170),
    );
    let done = done.expect(0);
    let records = Records::of(&done);
    each_once(&records, &targets);
    let end = &records.end;
    assert_eq!(end.reason, EndReason::Completed);
    assert_eq!((end.finished, end.reached), (20_000, 20_000));
    assert_eq!(records.start.arguments[1], "trace");
    assert!(records.start.time < end.time);
    let found: usize = records.traces.iter().map(|trace| trace.tunnels.len()).sum();
    assert_eq!(end.tunnels, found as u64);
    let mut whole = 0;
    for trace in &records.traces {
        assert_eq!(trace.stop_reason, StopReason::Completed, "{}", trace.dst);
        // A machine that is short of time may lose packets in a queue, and so a hop.
        if trace.hops.iter().all(|hop| hop.addr.is_some()) {
            whole += 1;
            assert_eq!(tunnels(trace), tunnel_to(trace.dst), "{}", trace.dst);
        }
    }
    assert!(whole > 19_000, "{whole}");
    // Revelations and fingerprints are shared; without that it would take some 400 000 probes.
    assert!(end.probes_sent < 200_000, "{}", end.probes_sent);
    let memory = std::fs::read_to_string(memory).unwrap();
    let memory: u64 = memory.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(memory < MOST_MEMORY_KIB, "{memory} KiB");
    // Nobody watches: no bars, no cursor codes.
    assert!(!done.stderr.contains(['\r', '\x1b']), "{done}");
    assert!(
        done.stderr.contains("20000 targets, 20000 reached"),
        "{done}"
    );
}

#[test]
fn root_a_list_from_standard_input_may_have_comments_and_duplicates() {
    require!();
    let targets = targets(25);
    let list = format!(
        "# a list\n\n{}  {}   # again\r\n{}\n",
        lines(&targets),
        targets[0],
        targets[1]
    );
    for arguments in [
        &["trace", "--json", "-"][..],
        &["trace", "--json", "--targets", "-"],
    ] {
        let mut command = lab_command("wide");
        command.arg(plumb()).args(arguments);
        let done = run_with(&mut command, list.as_bytes(), Duration::from_secs(60)).expect(0);
        let records = Records::of(&done);
        each_once(&records, &targets);
        assert_eq!(records.end.finished, 100);
        for trace in &records.traces {
            assert_eq!(tunnels(trace), tunnel_to(trace.dst), "{}", trace.dst);
        }
        assert!(
            done.stderr.contains("2 targets were given more than once"),
            "{done}"
        );
    }
}

#[test]
fn root_lines_that_are_no_targets_are_named_and_the_others_traced() {
    require!();
    let directory = Directory::new();
    let good = targets(2);
    let list = format!(
        "{}300.1.2.3\nwhat is this\n{}\n",
        lines(&good),
        "x".repeat(3000)
    );
    let list = directory.write("list", list);
    let list = list.to_str().unwrap();
    for (command, options) in [("trace", &["--json"][..]), ("ping", &["--json", "-c", "1"])] {
        let mut arguments = vec![command, "--targets", list];
        arguments.extend(options);
        let done = in_lab("wide", &arguments).expect(5);
        let records = Records::of(&done);
        assert_eq!(
            (records.end.finished, records.end.reached),
            (8, 8),
            "{done}"
        );
        assert_eq!(records.traces.len() + records.pings.len(), 8);
        for line in [9, 10, 11] {
            assert!(done.stderr.contains(&format!("{list}:{line}: ")), "{done}");
        }
    }
}

#[test]
fn root_a_list_without_any_target_is_refused() {
    require!();
    let directory = Directory::new();
    for (content, said) in [
        (&b""[..], "is empty"),
        (b"\x7fELF\x02\0\0\0", "not text"),
        (b"300.1.2.3\n", ":1: "),
    ] {
        let list = directory.write("list", content);
        let done = in_lab("plain", &["trace", "--targets", list.to_str().unwrap()]).expect(2);
        assert!(done.stderr.contains(said), "{done}");
        assert_eq!(done.stdout, "", "{done}");
    }
}

#[test]
fn root_a_list_can_be_pinged() {
    require!();
    let targets = targets(250);
    let mut command = lab_command("wide");
    command.arg(plumb());
    command.args([
        "ping", "--json", "-q", "-c", "2", "-i", "100ms", "-r", "5k", "-",
    ]);
    let list = lines(&targets);
    let done = run_with(&mut command, list.as_bytes(), Duration::from_secs(60)).expect(0);
    let records = Records::of(&done);
    let pinged: BTreeSet<IpAddr> = records.pings.iter().map(|ping| ping.dst).collect();
    assert_eq!(records.pings.len(), 1000);
    assert_eq!(pinged, targets.into_iter().collect());
    assert!(records.replies.is_empty());
    assert!(
        records
            .pings
            .iter()
            .all(|ping| ping.sent == 2 && ping.received > 0)
    );
}
