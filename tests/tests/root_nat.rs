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
