//! What is left of a machine when something of it is killed in the middle of its work: nothing.

#![forbid(unsafe_code)]

use std::process::Command;

use plumb_tests::{Directory, Done, at_once, plumb, require, run, runners, skip};

/// Pings from a machine, kills `$1` when some replies have come, and says what is there after:
/// exit status, the machine's process, its device.
const KILLED: &str = r#"
"$TESTED" vm run --runner "$RUNNER" -- ping -c 40 -i 50ms 5.0.4.2 > "$OUT" 2> "$OUT.err" &
run=$!
until [ "$(grep -c '^seq' "$OUT")" -gt 2 ]; do kill -0 $run || break; done
machine=$(cut -d ' ' -f 1 "/proc/$run/task/$run/children")
device=$(ip -o link show master lab0 | grep -o 'plumb-[0-9a-f]*')
case $KILL in
    machine) kill -KILL "$machine" ;;
    parent) kill -KILL $run ;;
    device) ip link delete "$device" ;;
    bridge) ip link delete lab0 ;;
esac
wait $run
echo "status $?"
tries=0
while [ -d "/proc/$machine" ] && [ $tries -lt 1000 ]; do tries=$((tries + 1)); sleep 0.01; done
[ -d "/proc/$machine" ] && echo "the machine is left"
ip -o link | grep "$device" && echo "the device is left"
cat "$OUT.err"
"#;

/// Kills something of a run with this runner.
fn kill(runner: &str, what: &str) -> Done {
    let directory = Directory::new();
    let lab = [
        "lab", "run", "plain", "--bridge", "lab0", "--", "sh", "-c", KILLED,
    ];
    run(Command::new(plumb())
        .args(lab)
        .env("TESTED", plumb())
        .env("RUNNER", runner)
        .env("KILL", what)
        .env("OUT", directory.file("out")))
    .expect(0)
}

#[test]
fn root_a_killed_machine_ends_its_run_with_what_it_has_and_leaves_nothing() {
    require!("ip");
    let runners = runners();
    if runners.is_empty() {
        skip!("no runner works here");
    }
    at_once(runners, |runner| {
        let done = kill(runner, "machine");
        assert!(done.stdout.starts_with("status 5\n"), "{runner}: {done}");
        assert!(
            done.stdout
                .contains("the machine ended before its work was done"),
            "{done}"
        );
        assert!(!done.stdout.contains("is left"), "{runner}: {done}");
    });
}

#[test]
fn root_a_killed_run_takes_machine_and_device_along() {
    require!("ip");
    let runners = runners();
    if runners.is_empty() {
        skip!("no runner works here");
    }
    at_once(runners, |runner| {
        let done = kill(runner, "parent");
        assert_eq!(done.stdout, "status 137\n", "{runner}: {done}");
    });
}

#[test]
fn root_an_uplink_that_vanishes_ends_a_run_in_order() {
    require!("ip");
    let runners = runners();
    if runners.is_empty() {
        skip!("no runner works here");
    }
    at_once(runners, |runner| {
        for what in ["device", "bridge"] {
            let done = kill(runner, what);
            // Some replies came before; whether the machine notices is its runner's affair.
            let status = done.stdout.lines().next().unwrap();
            assert!(
                ["status 0", "status 5"].contains(&status),
                "{runner}: {done}"
            );
            assert!(!done.stdout.contains("is left"), "{runner}: {done}");
        }
    });
}
