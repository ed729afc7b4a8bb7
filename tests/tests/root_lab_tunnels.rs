//! Every kind of tunnel, end to end: the real binary, real packets over a TUN device, each of the
//! three methods.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::collections::BTreeSet;
use std::sync::Mutex;

use plumb_record::{Revelation, StopReason, Trace};
use plumb_sim::labs;
use plumb_tests::{Records, at_once, in_lab, lab_command, line, plumb, require, run};

const METHODS: [&str; 3] = ["--icmp", "--udp", "--tcp"];

/// Hops of links with these numbers, as the labs number them.
fn hops(links: impl IntoIterator<Item = u8>) -> Vec<String> {
    links.into_iter().map(|n| format!("5.0.{n}.2")).collect()
}

fn seen(trace: &Trace) -> Vec<String> {
    let name = |hop: &plumb_record::Hop| hop.addr.map_or("*".into(), |addr| addr.to_string());
    trace.hops.iter().map(name).collect()
}

/// Traces to the lab's first target with each method, and expects these hops and tunnels.
#[track_caller]
fn expect(lab: &str, hops: &[String], tunnels: &[&str]) {
    let target = labs().iter().find(|l| l.name == lab).unwrap().targets[0];
    at_once(METHODS, |method| {
        let done = in_lab(lab, &["trace", "--json", method, target]).expect(0);
        let records = Records::of(&done);
        let trace = records.trace();
        assert_eq!(seen(trace), hops, "{done}");
        let found: Vec<String> = trace.tunnels.iter().map(line).collect();
        assert_eq!(found, tunnels, "{done}");
        assert_eq!(trace.stop_reason, StopReason::Completed, "{done}");
        assert_eq!(trace.dst.to_string(), target);
        assert_eq!(records.end.finished, 1, "{done}");
        assert_eq!(records.end.reached, 1, "{done}");
        assert_eq!(records.end.tunnels, trace.tunnels.len() as u64, "{done}");
        assert_eq!(records.end.dropped, 0, "{done}");
        check_roles(trace);
    });
}

/// Where a tunnel's edge or an LSR answered in the trace, that hop must say so.
#[track_caller]
fn check_roles(trace: &Trace) {
    for tunnel in &trace.tunnels {
        let roles: Vec<_> = trace
            .hops
            .iter()
            .filter(|hop| hop.tunnel.is_some_and(|place| place.id == tunnel.id))
            .collect();
        // What was suspected and not found is no part of the path.
        let found = tunnel.revelation != Revelation::NothingRevealed;
        assert_eq!(!roles.is_empty(), found, "{}", line(tunnel));
        for hop in roles {
            let known = [tunnel.ingress, tunnel.egress].contains(&hop.addr)
                || tunnel.lsrs.iter().any(|lsr| lsr.addr == hop.addr)
                // Behind an egress that stays hidden, the next router shows where it ends.
                || tunnel.hidden_egress.is_some();
            assert!(known, "hop {} in {}", hop.ttl, line(tunnel));
        }
    }
}

#[test]
fn root_plain_path_has_no_tunnel() {
    require!();
    expect("plain", &hops(1..=4), &[]);
}

#[test]
fn root_explicit_tunnel_shows_its_routers_and_labels() {
    require!();
    expect(
        "explicit",
        &hops(1..=8),
        &["Explicit/Lse 5.0.2.2 > 5.0.3.2 > 5.0.4.2 > 5.0.5.2 > 5.0.6.2, NotNeeded"],
    );
}

#[test]
fn root_implicit_tunnel_is_known_by_quoted_ttls() {
    require!();
    expect(
        "implicit",
        &hops(1..=8),
        &["Implicit/QuotedTtl 5.0.2.2 > 5.0.3.2 > 5.0.4.2 > 5.0.5.2 > 5.0.6.2, NotNeeded"],
    );
}

#[test]
fn root_opaque_tunnel_is_revealed_backwards() {
    require!();
    expect(
        "opaque",
        &hops([1, 2, 6, 7, 8]),
        &[
            "Opaque/LseTtl 5.0.2.2 > 5.0.3.2 Brpr3 > 5.0.4.2 Brpr2 > 5.0.5.2 Brpr1 > 5.0.6.2, Revealed",
        ],
    );
}

#[test]
fn root_hidden_tunnel_with_php_is_revealed_backwards() {
    require!();
    expect(
        "php",
        &hops([1, 2, 6, 7, 8]),
        &[
            "Invisible/Frpla 5.0.2.2 > 5.0.3.2 Brpr3 > 5.0.4.2 Brpr2 > 5.0.5.2 Brpr1 > 5.0.6.2, Revealed",
        ],
    );
}

#[test]
fn root_hidden_tunnel_with_uhp_is_revealed_by_buddies_with_its_egress() {
    require!();
    expect(
        "uhp",
        &hops([1, 2, 7, 7, 8]),
        &[
            "Invisible/DupIp 5.0.2.2 > 5.0.3.2 Buddy4 > 5.0.4.2 Buddy3 > 5.0.5.2 Buddy2 > 5.0.6.2 Buddy1, Revealed",
        ],
    );
}

#[test]
fn root_hidden_tunnel_of_host_routes_is_revealed_at_once() {
    require!();
    expect(
        "dpr",
        &hops([1, 2, 6, 7, 8]),
        &[
            "Invisible/Rtla 5.0.2.2 > 5.0.3.2 Dpr1 > 5.0.4.2 Dpr1 > 5.0.5.2 Dpr1 > 5.0.6.2, Revealed",
        ],
    );
}

#[test]
fn root_icmp_tunneling_does_not_hide_an_explicit_tunnel() {
    require!();
    expect(
        "icmp-tunneling",
        &hops(1..=8),
        &["Explicit/Lse 5.0.2.2 > 5.0.3.2 > 5.0.4.2 > 5.0.5.2 > 5.0.6.2, NotNeeded"],
    );
}

#[test]
fn root_explicit_null_makes_the_egress_a_labelled_hop() {
    require!();
    expect(
        "explicit-null",
        &hops(1..=8),
        &["Explicit/Lse 5.0.2.2 > 5.0.3.2 > 5.0.4.2 > 5.0.5.2 > 5.0.6.2, NotNeeded"],
    );
}

#[test]
fn root_tunnel_that_hides_one_router_is_revealed() {
    require!();
    expect(
        "one-hop",
        &hops([1, 2, 4, 5, 6]),
        &["Invisible/Rtla 5.0.2.2 > 5.0.3.2 OneHop1 > 5.0.4.2, Revealed"],
    );
}

#[test]
fn root_three_tunnels_on_one_path_are_all_found() {
    require!();
    expect(
        "mixed",
        &hops([1, 2].into_iter().chain(6..=13).chain(16..=18)),
        &[
            "Invisible/Frpla 5.0.2.2 > 5.0.3.2 Brpr3 > 5.0.4.2 Brpr2 > 5.0.5.2 Brpr1 > 5.0.6.2, Revealed",
            "Explicit/Lse 5.0.8.2 > 5.0.9.2 > 5.0.10.2 > 5.0.11.2, NotNeeded",
            "Invisible/Rtla 5.0.13.2 > 5.0.14.2 Dpr1 > 5.0.15.2 Dpr1 > 5.0.16.2, Revealed",
        ],
    );
}

#[test]
fn root_silent_routers_leave_a_tunnel_incomplete() {
    require!();
    let mut path = hops(1..=9);
    for silent in [2, 3, 5] {
        path[silent - 1] = "*".into();
    }
    expect(
        "silent",
        &path,
        &["Explicit/Lse * > 5.0.4.2 > * > 5.0.6.2 > 5.0.7.2, NotNeeded, incomplete"],
    );
}

#[test]
fn root_silent_target_ends_at_the_gap_limit_with_exit_code_1() {
    require!();
    let done = in_lab(
        "silent",
        &["trace", "--json", "-w", "500ms", "-g", "3", "5.0.10.2"],
    )
    .expect(1);
    let records = Records::of(&done);
    let trace = records.trace();
    assert_eq!(trace.stop_reason, StopReason::GapLimit, "{done}");
    assert_eq!(seen(trace).last().map(String::as_str), Some("*"), "{done}");
    assert!(seen(trace).contains(&"5.0.8.2".to_owned()), "{done}");
    assert_eq!(records.end.reached, 0);
    assert_eq!(records.end.finished, 1);
}

#[test]
fn root_deviations_from_rfc_4884_lose_no_label() {
    require!();
    expect(
        "rfc4884",
        &hops(1..=12),
        &[
            "Explicit/Lse 5.0.2.2 > 5.0.3.2 > 5.0.4.2 > 5.0.5.2 > 5.0.6.2 > 5.0.7.2 > 5.0.8.2 > 5.0.9.2 > 5.0.10.2, NotNeeded",
        ],
    );
}

#[test]
fn root_nat_does_not_lose_hops_and_is_named() {
    require!();
    expect("nat", &hops(1..=5), &[]);
    let done = in_lab("nat", &["trace", "--json", "5.0.5.2"]).expect(0);
    let nat: Vec<bool> = Records::of(&done)
        .trace()
        .hops
        .iter()
        .map(|h| h.nat)
        .collect();
    // The gateway quotes what came in; those behind it quote what it made of it; the target
    // quotes nothing.
    assert_eq!(nat, [false, true, true, true, false], "{done}");
}

#[test]
fn root_a_return_path_that_is_longer_reveals_nothing() {
    require!();
    expect(
        "asymmetric",
        &hops([1, 2, 3, 4, 10]),
        &[
            "Invisible/Frpla 5.0.2.2 > 5.0.3.2, NothingRevealed, incomplete",
            "Invisible/Frpla 5.0.3.2 > 5.0.4.2, NothingRevealed, incomplete",
        ],
    );
}

#[test]
fn root_loss_delay_and_reordering_hide_no_tunnel() {
    require!();
    // Which packets are lost depends on when they leave, so more attempts than usual are made.
    let done = in_lab(
        "lossy",
        &["trace", "--json", "-q", "6", "--pings", "4", "5.0.8.2"],
    )
    .expect(0);
    let records = Records::of(&done);
    let found: Vec<String> = records.trace().tunnels.iter().map(line).collect();
    assert_eq!(
        found,
        ["Invisible/Rtla 5.0.2.2 > 5.0.3.2 Dpr1 > 5.0.4.2 Dpr1 > 5.0.5.2 Dpr1 > 5.0.6.2, Revealed"],
        "{done}"
    );
}

#[test]
fn root_rate_limited_routers_are_asked_again() {
    require!();
    let done = in_lab("rate-limited", &["trace", "--json", "-q", "5", "5.0.8.2"]).expect(0);
    let records = Records::of(&done);
    let found: Vec<String> = records.trace().tunnels.iter().map(line).collect();
    assert_eq!(
        found,
        [
            "Invisible/Frpla 5.0.2.2 > 5.0.3.2 Brpr3 > 5.0.4.2 Brpr2 > 5.0.5.2 Brpr1 > 5.0.6.2, Revealed"
        ],
        "{done}"
    );
}

#[test]
fn root_ipv6_crosses_an_ipv4_core_whose_routers_stay_silent() {
    require!();
    let targets = ["5.0.8.2", "2a0b:5000:0:8::2"];
    let done = in_lab(
        "ipv6",
        &["trace", "--json", "-w", "500ms", targets[0], targets[1]],
    )
    .expect(0);
    let mut traces = Records::of(&done).traces;
    traces.sort_by_key(|trace| trace.dst);
    let found: Vec<Vec<String>> = traces
        .iter()
        .map(|trace| trace.tunnels.iter().map(line).collect())
        .collect();
    assert_eq!(
        found,
        [
            ["Explicit/Lse 5.0.2.2 > 5.0.3.2 > 5.0.4.2 > 5.0.5.2 > 5.0.6.2, NotNeeded"],
            ["Explicit/Lse 2a0b:5000:0:2::2 > * > * > * > 2a0b:5000:0:6::2, NotNeeded, incomplete"],
        ],
        "{done}"
    );
    assert_eq!(seen(&traces[0]), hops(1..=8));
    let v6: Vec<String> = (1..=8)
        .map(|n| match n {
            3..=5 => "*".to_owned(),
            n => format!("2a0b:5000:0:{n}::2"),
        })
        .collect();
    assert_eq!(seen(&traces[1]), v6);
}

#[test]
fn root_a_trace_keeps_to_one_way_through_load_balancers_and_flows_differ() {
    require!();
    let ways = Mutex::new(BTreeSet::new());
    at_once(METHODS, |method| {
        for flow in ["1001", "1002", "1003", "1004", "1005", "1006"] {
            let arguments = ["trace", "--json", method, "--flow", flow, "5.0.16.2"];
            let done = in_lab("ecmp", &arguments).expect(0);
            let path = seen(Records::of(&done).trace());
            let first = (1..=4).find(|n| path[1] == format!("5.0.{}.2", 2 * n));
            let first = first.unwrap_or_else(|| panic!("{done}"));
            let second = if path[3] == "5.0.10.2" { 10 } else { 13 };
            let way = hops([
                1,
                2 * first,
                2 * first + 1,
                second,
                second + 1,
                second + 2,
                16,
            ]);
            assert_eq!(path, way, "{done}");
            ways.lock().unwrap().insert(path);
        }
    });
    let ways = ways.into_inner().unwrap();
    assert!(ways.len() > 2, "{ways:?}");
}

#[test]
fn root_tunnels_are_found_without_raw_sockets_too() {
    require!("sysctl");
    let kinds = ["explicit", "opaque", "php", "uhp", "dpr", "icmp-tunneling"];
    at_once(kinds, |lab| {
        let target = labs().iter().find(|l| l.name == lab).unwrap().targets[0];
        for method in ["--icmp", "--udp"] {
            let with = in_lab(lab, &["trace", "--json", method, target]).expect(0);
            let script = format!(
                "sysctl -q -w net.ipv4.ping_group_range='0 0' && \
                 exec {} trace --json --mode unprivileged {method} {target}",
                plumb().display()
            );
            let without = run(lab_command(lab).args(["sh", "-c", &script])).expect(0);
            let (with, without) = (Records::of(&with), Records::of(&without));
            assert_eq!(seen(without.trace()), seen(with.trace()), "{lab} {method}");
            let found = |records: &Records| -> Vec<String> {
                records.trace().tunnels.iter().map(line).collect()
            };
            assert_eq!(found(&without), found(&with), "{lab} {method}");
            assert_eq!(found(&without).len(), 1, "{lab} {method}");
        }
    });
}
