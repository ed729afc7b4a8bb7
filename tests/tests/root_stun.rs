//! What a foreign STUN client (RFC 3489) finds out about the NAT between it and its server.

#![forbid(unsafe_code)]

use core::time::Duration;
use std::process::{Command, Stdio};

use plumb_tests::{Directory, Running, at_once, plumb, require};

/// What `stun` says behind a NAT that filters like this.
fn discovered(filtering: &str) -> String {
    let directory = Directory::new();
    let found = directory.file("found");
    // A server without an answer yet looks like a firewall that lets nothing through.
    let script = "\
        $P exec --addr 10.0.0.2/8 -- sh -c '
            ping -q -c 1 -w 30 10.1.0.11
            for try in 1 2 3 4 5; do
                stun 10.1.0.10 >$FOUND 2>&1
                grep -q Blocked $FOUND || break
            done' |
        $P nat --outside 10.1.0.1 --filtering $FILTERING |
        $P exec --addr 10.1.0.10/24 -- sh -c '
            ip addr add 10.1.0.11/24 dev eth0
            exec stund -h 10.1.0.10 -a 10.1.0.11'";
    let mut command = Command::new("bash");
    command
        .args(["-c", script])
        .env("P", plumb())
        .env("FOUND", &found)
        .env("FILTERING", filtering)
        .stdin(Stdio::null());
    let done = Running::start(&mut command).finish(Duration::from_secs(120));
    let text = std::fs::read_to_string(&found).unwrap_or_default();
    assert!(text.contains("Primary: "), "{text} {done}");
    text
}

#[test]
fn root_a_stun_client_finds_independent_mappings_the_chosen_filter_and_hairpinning() {
    require!("stun", "stund", "bash", "ip", "ping");
    let says = [
        ("endpoint-independent", "Independent Filter"),
        ("address-dependent", "Address Dependent Filter"),
        ("address-and-port-dependent", "Port Dependent Filter"),
    ];
    at_once(says, |(filtering, filter)| {
        let found = discovered(filtering);
        let wanted = format!("Primary: Independent Mapping, {filter}, random port, will hairpin");
        assert!(found.contains(&wanted), "{filtering}: {found}");
    });
}
