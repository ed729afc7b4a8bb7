//! The kernel as an oracle: what it makes of packets, plumb makes of them too.

#![forbid(unsafe_code)]

use std::path::Path;
use std::process::Command;

use plumb_tests::{plumb, require, run};

#[test]
fn root_nat_makes_the_same_packets_as_nft_masquerade_but_for_the_ports() {
    require!("unshare", "ip", "ethtool", "sysctl", "nft", "python3");
    let oracle = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracles/nat_masquerade.py");
    let path = std::env::var("PATH").unwrap_or_default();
    let done = run(Command::new("unshare")
        .args(["--net", "python3"])
        .arg(oracle)
        .arg(plumb())
        .arg("1")
        .env("PATH", format!("{path}:/usr/sbin:/sbin")))
    .expect(0);
    assert_eq!(
        done.stdout.lines().last(),
        Some("same 136 different 0"),
        "{}",
        done.stdout
    );
}

/// What the STUN client of RFC 3489 finds out about a NAT between itself and a server.
fn behaviour(options: &str) -> String {
    let script = format!(
        "$P exec --addr 10.0.0.2/8 -- sh -c 'stun 10.0.1.2 >&2; true' | \
         $P nat --outside 10.0.1.1 {options} | \
         $P exec --addr 10.0.1.2/24 --addr 10.0.1.3/24 -- stund -h 10.0.1.2 -a 10.0.1.3"
    );
    let path = std::env::var("PATH").unwrap_or_default();
    let done = run(Command::new("bash")
        .args(["-c", &script])
        .env("P", plumb())
        .env("PATH", format!("{path}:/usr/sbin:/sbin")));
    let line = done
        .stderr
        .lines()
        .find_map(|line| line.strip_prefix("Primary: "));
    line.unwrap_or_else(|| panic!("{done}")).trim().to_owned()
}

#[test]
fn root_stun_finds_an_endpoint_independent_mapping_that_filters_as_asked_and_hairpins() {
    require!("bash", "stun", "stund");
    // The client gives a lost packet a few seconds, so a machine under load may need another try.
    for (options, expected) in [
        (
            "--filtering endpoint-independent",
            "Independent Mapping, Independent Filter, random port, will hairpin",
        ),
        (
            "--filtering address-dependent",
            "Independent Mapping, Address Dependent Filter, random port, will hairpin",
        ),
        (
            "--filtering address-and-port-dependent",
            "Independent Mapping, Port Dependent Filter, random port, will hairpin",
        ),
        (
            "--no-hairpin --filtering endpoint-independent",
            "Independent Mapping, Independent Filter, random port, no hairpin",
        ),
        (
            "--preserve-ports --filtering endpoint-independent",
            "Independent Mapping, Independent Filter, preserves ports, will hairpin",
        ),
    ] {
        let found: Vec<_> = (0..3)
            .map(|_| behaviour(options))
            .take_while(|found| found != expected)
            .collect();
        assert!(found.len() < 3, "{options}: {found:?}");
    }
}
