//! Pipelines of stages with real programs: both directions, rings and pipes, and how they end.

#![forbid(unsafe_code)]

use core::time::Duration;
use std::process::{Command, Stdio};

use plumb_tests::{Directory, Done, Running, plumb, require};

const LIMIT: Duration = Duration::from_secs(60);

/// A shell with the pipeline, in which $P is plumb.
fn shell(script: &str) -> Command {
    let mut command = Command::new("bash");
    command
        .args(["-c", script])
        .env("P", plumb())
        .stdin(Stdio::null());
    command
}

fn sh(script: &str) -> Done {
    Running::start(&mut shell(script)).finish(LIMIT)
}

/// The counters that a stage printed at its end: those of one side, as its line.
#[track_caller]
fn counters<'a>(done: &'a Done, stage: &str, side: &str) -> &'a str {
    let begin = format!("{stage}: {side}: ");
    done.stderr
        .lines()
        .find_map(|line| line.strip_prefix(&begin))
        .unwrap_or_else(|| panic!("no counters of {begin}: {done}"))
}

#[test]
fn root_two_commands_reach_each_other_through_a_pipe_that_became_a_ring() {
    require!("ping", "bash");
    let done = sh(
        "$P exec --counters --addr 10.0.0.2/24 --addr fd00::2/64 -- \
             sh -c 'ping -c 3 -i 0.2 10.0.0.1 && ping -c 1 fd00::1' | \
         $P exec --side left --addr 10.0.0.1/24 --addr fd00::1/64 -- sleep 30; \
         echo ${PIPESTATUS[@]}",
    );
    assert_eq!(done.stdout, "0 0\n", "{done}");
    assert!(done.stderr.contains("3 received, 0% packet loss"), "{done}");
    assert!(done.stderr.contains("1 received, 0% packet loss"), "{done}");
    assert!(
        counters(&done, "exec", "right")
            .ends_with("dropped 0 (no room 0, no way 0, refused 0) [ring]"),
        "{done}"
    );
}

#[test]
fn root_the_status_of_a_stage_is_that_of_its_command() {
    require!("bash");
    let done = sh("$P exec --addr 10.0.0.2/24 -- sh -c 'exit 7' | \
         $P exec --side left --addr 10.0.0.1/24 -- sh -c 'exit 9'; echo ${PIPESTATUS[@]}");
    assert_eq!(done.stdout, "7 9\n", "{done}");
}

#[test]
fn root_a_tee_between_two_stages_records_one_way_and_a_ring_carries_the_other() {
    require!("ping", "bash", "tcpdump");
    let directory = Directory::new();
    let file = directory.file("seen.pcapng");
    let done = sh(&format!(
        "$P exec --counters --addr 10.0.0.2/24 -- ping -c 3 -i 0.2 10.0.0.1 | tee {0} | \
         $P exec --side left --addr 10.0.0.1/24 -- sleep 30; echo ${{PIPESTATUS[@]}}; \
         tcpdump -nr {0} icmp 2>&1",
        file.display()
    ));
    assert!(done.stdout.starts_with("0 0 0\n"), "{done}");
    assert!(done.stderr.contains("3 received, 0% packet loss"), "{done}");
    assert!(
        counters(&done, "exec", "right").ends_with("[pipe, and a ring back]"),
        "{done}"
    );
    let requests = done.stdout.matches("ICMP echo request").count();
    assert_eq!(
        (requests, done.stdout.matches("echo reply").count()),
        (3, 0),
        "{done}"
    );
}
