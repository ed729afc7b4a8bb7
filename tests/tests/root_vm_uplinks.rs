//! Machines on devices of this system: new ones and those that somebody set up.

#![forbid(unsafe_code)]

use std::process::Command;

use plumb_tests::{Done, at_once, plumb, require, run, runners, skip};

/// Runs a script in an empty network namespace.
fn alone(runner: &str, script: &str) -> Done {
    run(Command::new("unshare")
        .args(["--net", "sh", "-ec", script])
        .env("TESTED", plumb())
        .env("RUNNER", runner))
}

/// Links, but for loopback, by name.
const LINKS: &str = "ip -o link | grep -v ': lo:' || echo none";

#[test]
fn root_a_new_device_leads_to_this_system_by_both_ip_versions_and_goes() {
    require!("ip", "unshare");
    let runners = runners();
    if runners.is_empty() {
        skip!("no runner works here");
    }
    let script = format!(
        "\"$TESTED\" vm run --runner $RUNNER --uplink t0 --address 10.0.0.2/24 --gateway 10.0.0.1 \
         --address fd00::2/64 --gateway fd00::1 -- ping -c 3 -i 50ms 10.0.0.1 fd00::1; {LINKS}"
    );
    at_once(runners, |runner| {
        let done = alone(runner, &script).expect(0);
        for target in ["10.0.0.1", "fd00::1"] {
            let mut summary = done.stdout.lines().filter(|line| line.starts_with(target));
            let summary = summary.next_back().unwrap_or_default();
            let words: Vec<&str> = summary.split_whitespace().collect();
            assert_eq!(words[1..4], ["3", "3", "0%"], "{runner}: {done}");
        }
        assert!(done.stdout.ends_with("none\n"), "{runner}: {done}");
    });
}

#[test]
fn root_a_device_that_somebody_set_up_is_used_as_it_is_and_stays() {
    require!("ip", "unshare");
    let runners = runners();
    if runners.is_empty() {
        skip!("no runner works here");
    }
    let script = "ip tuntap add dev mine mode tap
        ip address add 10.1.0.1/24 dev mine
        ip link set mine mtu 1400 up
        \"$TESTED\" vm run --runner $RUNNER --uplink mine --address 10.1.0.2/24 \
         --gateway 10.1.0.1 -- ping -c 2 -i 50ms 10.1.0.1
        ip -o address show mine; ip -o link show mine
        # The same device cannot be two machines'.
        export PLUMB_STATE=$(mktemp -d)
        \"$TESTED\" vm start a --runner $RUNNER --uplink mine --address 10.1.0.2/24 2> /dev/null
        \"$TESTED\" vm start b --runner $RUNNER --uplink mine --address 10.1.0.3/24 || echo status $?
        \"$TESTED\" vm stop --all
        rmdir $PLUMB_STATE";
    at_once(runners, |runner| {
        let done = alone(runner, script).expect(0);
        assert!(done.stdout.contains("0%"), "{runner}: {done}");
        assert!(done.stdout.contains("inet 10.1.0.1/24"), "{runner}: {done}");
        assert!(done.stdout.contains("mtu 1400"), "{runner}: {done}");
        assert!(done.stdout.ends_with("a\nstatus 2\n"), "{runner}: {done}");
        assert!(
            done.stderr.contains("cannot open the TAP device \"mine\""),
            "{runner}: {done}"
        );
    });
}
