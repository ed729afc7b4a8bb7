//! Tunnels on scripted paths: each class, each trigger, each way of revelation and its failures.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod world;

use core::time::Duration;

use plumb_probe::{Engine, Reveal, TraceOptions, TunnelOptions};
use plumb_record::{HopTunnel, Method, Revelation, Role};
use plumb_wire::Instant;
use world::*;

fn lines(trace: &plumb_record::Trace) -> Vec<String> {
    trace.tunnels.iter().map(line).collect()
}

const D: &str = "5.9.0.1";

#[test]
fn labels_make_an_explicit_tunnel_between_the_hops_around_them() {
    let path = vec![
        router("5.1.0.1", 255),
        router("5.1.1.1", 254),
        router("5.1.2.1", 247).labelled(19, 1),
        router("5.1.3.1", 248).labelled(20, 1).quoting(2),
        router("5.1.4.1", 250),
    ];
    let mut world = World::new(D, path);
    let (trace, _) = trace(&mut world, D, TraceOptions::default());
    assert_eq!(
        lines(&trace),
        ["Explicit/Lse 5.1.1.1 > 5.1.2.1 > 5.1.3.1 > 5.1.4.1, NotNeeded"]
    );
    let roles: Vec<_> = trace
        .hops
        .iter()
        .map(|h| h.tunnel.map(|t| t.role))
        .collect();
    assert_eq!(
        roles,
        [
            None,
            Some(Role::Ingress),
            Some(Role::Lsr),
            Some(Role::Lsr),
            Some(Role::Egress),
            None
        ]
    );
}

#[test]
fn explicit_null_at_the_last_labelled_hop_makes_it_the_egress() {
    let path = vec![
        router("5.1.1.1", 255),
        router("5.1.2.1", 248).labelled(19, 1),
        router("5.1.4.1", 253).labelled(0, 1),
        router("5.1.5.1", 252),
    ];
    let mut world = World::new(D, path);
    let (trace, _) = trace(&mut world, D, TraceOptions::default());
    assert_eq!(
        lines(&trace),
        ["Explicit/Lse 5.1.1.1 > 5.1.2.1 > 5.1.4.1, NotNeeded"]
    );
}

#[test]
fn a_silent_router_between_labelled_ones_is_part_of_the_tunnel() {
    let path = vec![
        router("5.1.1.1", 255),
        router("5.1.2.1", 254).labelled(19, 1),
        silent(),
        router("5.1.4.1", 252).labelled(21, 1),
        router("5.1.5.1", 251),
    ];
    let mut world = World::new(D, path);
    let (trace, _) = trace(&mut world, D, TraceOptions::default());
    assert_eq!(
        lines(&trace),
        ["Explicit/Lse 5.1.1.1 > 5.1.2.1 > * > 5.1.4.1 > 5.1.5.1, NotNeeded, incomplete"]
    );
}

#[test]
fn rising_quoted_ttls_make_an_implicit_tunnel_with_its_first_router_and_its_ending_hop() {
    let path = vec![
        router("5.1.1.1", 255),
        router("5.1.2.1", 254).quoting(1),
        router("5.1.3.1", 253).quoting(2),
        router("5.1.4.1", 252).quoting(3),
        router("5.1.5.1", 251).quoting(1),
        router("5.1.6.1", 250),
    ];
    let mut world = World::new(D, path);
    let (trace, _) = trace(&mut world, D, TraceOptions::default());
    assert_eq!(
        lines(&trace),
        ["Implicit/QuotedTtl 5.1.1.1 > 5.1.2.1 > 5.1.3.1 > 5.1.4.1 > 5.1.5.1 > 5.1.6.1, NotNeeded"],
    );
}

#[test]
fn a_u_turn_of_two_at_the_last_rising_hop_says_that_the_egress_follows() {
    let path = vec![
        router("5.1.1.1", 255),
        router("5.1.2.1", 248).quoting(1),
        router("5.1.3.1", 249).quoting(2),
        router("5.1.4.1", 251).quoting(1),
        router("5.1.5.1", 250),
    ];
    let mut world = World::new(D, path);
    world.echoes(&[
        ("5.1.2.1", 252),
        ("5.1.3.1", 251),
        ("5.1.4.1", 251),
        ("5.1.5.1", 250),
        ("5.1.1.1", 255),
    ]);
    let (trace, _) = trace(&mut world, D, TraceOptions::default());
    assert_eq!(
        lines(&trace),
        ["Implicit/QuotedTtl 5.1.1.1 > 5.1.2.1 > 5.1.3.1 > 5.1.4.1, NotNeeded"]
    );
}

#[test]
fn u_turns_alone_make_an_implicit_tunnel_and_the_last_one_tells_where_it_ends() {
    let path = vec![
        router("5.1.1.1", 255),
        router("5.1.2.1", 247),
        router("5.1.3.1", 248),
        router("5.1.4.1", 251),
        router("5.1.5.1", 250),
    ];
    let mut world = World::new(D, path);
    world.echoes(&[
        ("5.1.1.1", 255),
        ("5.1.2.1", 253),
        ("5.1.3.1", 252),
        ("5.1.4.1", 251),
        ("5.1.5.1", 250),
    ]);
    let options = TraceOptions {
        tunnels: Some(TunnelOptions {
            frpla_threshold: 100,
            ..TunnelOptions::default()
        }),
        ..TraceOptions::default()
    };
    let (trace, _) = trace(&mut world, D, options);
    assert_eq!(
        lines(&trace),
        ["Implicit/Uturn 5.1.1.1 > 5.1.2.1 > 5.1.3.1 > 5.1.4.1 > 5.1.5.1, NotNeeded"]
    );
}

/// CE1, PE1, PE2, CE2 of the technical report's G7, and what traces to hidden routers show.
fn brpr_world() -> World {
    let head = || vec![router("5.1.0.1", 255), router("5.1.1.1", 254)];
    let mut world = World::new(
        D,
        [head(), vec![router("5.1.5.1", 250), router("5.1.6.1", 250)]].concat(),
    );
    // Each trace to a hidden router's address shows the one before it.
    world.path("5.1.5.1", [head(), vec![router("5.1.4.1", 251)]].concat());
    world.path("5.1.4.1", [head(), vec![router("5.1.3.1", 252)]].concat());
    world.path("5.1.3.1", [head(), vec![router("5.1.2.1", 253)]].concat());
    world.path("5.1.2.1", head());
    world.echoes(&[
        ("5.1.0.1", 255),
        ("5.1.1.1", 254),
        ("5.1.2.1", 253),
        ("5.1.3.1", 252),
        ("5.1.4.1", 251),
        ("5.1.5.1", 250),
        ("5.1.6.1", 250),
    ]);
    world
}

const BRPR: &str =
    "Invisible/Frpla 5.1.1.1 > 5.1.2.1 Brpr3 > 5.1.3.1 Brpr2 > 5.1.4.1 Brpr1 > 5.1.5.1, Revealed";

#[test]
fn brpr_goes_on_until_nothing_new_comes() {
    let (trace, took) = trace(
        &mut brpr_world(),
        D,
        TraceOptions {
            parallel: 8,
            ..TraceOptions::default()
        },
    );
    assert_eq!(lines(&trace), [BRPR]);
    let tunnel = &trace.tunnels[0];
    assert_eq!(
        tunnel
            .lsrs
            .iter()
            .map(|l| l.echo_reply_ttl)
            .collect::<Vec<_>>(),
        [Some(253), Some(252), Some(251)]
    );
    assert_eq!(tunnel.estimated_lsrs, Some(3));
    // One round trip for the trace, one for the pings, four steps, and the last ping meanwhile.
    assert!(took <= Duration::from_millis(60), "{took:?}");
}

#[test]
fn the_shadow_behind_a_tunnel_is_not_taken_for_another() {
    let (trace, _) = trace(
        &mut brpr_world(),
        D,
        TraceOptions {
            tunnels: Some(TunnelOptions {
                frpla_threshold: 1,
                ..TunnelOptions::default()
            }),
            ..TraceOptions::default()
        },
    );
    assert_eq!(trace.hops[3].frpla, Some(2));
    assert_eq!(lines(&trace), [BRPR]);
}

#[test]
fn never_revealing_still_tells_the_suspicion() {
    let options = TraceOptions {
        tunnels: Some(TunnelOptions {
            reveal: Reveal::Never,
            ..TunnelOptions::default()
        }),
        ..TraceOptions::default()
    };
    let (trace, _) = trace(&mut brpr_world(), D, options);
    assert_eq!(
        lines(&trace),
        ["Invisible/Frpla 5.1.1.1 > 5.1.5.1, NotTried, incomplete"]
    );
    assert!(trace.hops.iter().all(|h| h.tunnel.is_none()));
}

#[test]
fn dpr_shows_all_hidden_routers_at_once() {
    let mut world = brpr_world();
    let all = ["5.1.0.1", "5.1.1.1", "5.1.2.1", "5.1.3.1", "5.1.4.1"];
    for (count, target) in [(5, "5.1.5.1"), (2, "5.1.2.1")] {
        world.path(
            target,
            all[..count].iter().map(|a| router(a, 250)).collect(),
        );
    }
    let (trace, _) = trace(&mut world, D, TraceOptions::default());
    assert_eq!(
        lines(&trace),
        [
            "Invisible/Frpla 5.1.1.1 > 5.1.2.1 Dpr1 > 5.1.3.1 Dpr1 > 5.1.4.1 Dpr1 > 5.1.5.1, Revealed"
        ],
    );
}

#[test]
fn a_single_hidden_router_has_no_method() {
    let mut world = brpr_world();
    world.path(
        "5.1.4.1",
        vec![router("5.1.0.1", 255), router("5.1.1.1", 254)],
    );
    let (trace, _) = trace(&mut world, D, TraceOptions::default());
    assert_eq!(
        lines(&trace),
        ["Invisible/Frpla 5.1.1.1 > 5.1.4.1 OneHop1 > 5.1.5.1, Revealed"]
    );
}

#[test]
fn a_silent_target_and_a_missing_ingress_are_not_called_no_tunnel() {
    let mut world = brpr_world();
    world.path(
        "5.1.5.1",
        vec![
            router("5.1.0.1", 255),
            router("5.1.1.1", 254),
            silent(),
            silent(),
            silent(),
            silent(),
            silent(),
        ],
    );
    let (silent, _) = trace(&mut world, D, TraceOptions::default());
    assert_eq!(
        lines(&silent),
        ["Invisible/Frpla 5.1.1.1 > 5.1.5.1, TargetSilent, incomplete"]
    );
    let mut world = brpr_world();
    world.path(
        "5.1.5.1",
        vec![router("5.1.0.1", 255), router("5.7.7.7", 254)],
    );
    let (elsewhere, _) = trace(&mut world, D, TraceOptions::default());
    assert_eq!(
        lines(&elsewhere),
        ["Invisible/Frpla 5.1.1.1 > 5.1.5.1, IngressMissing, incomplete"]
    );
}

#[test]
fn a_revelation_that_breaks_off_is_incomplete() {
    let mut world = brpr_world();
    world.path(
        "5.1.4.1",
        vec![router("5.1.0.1", 255), router("5.7.7.7", 254)],
    );
    let (trace, _) = trace(&mut world, D, TraceOptions::default());
    assert_eq!(
        lines(&trace),
        ["Invisible/Frpla 5.1.1.1 > 5.1.4.1 OneHop1 > 5.1.5.1, Revealed, incomplete"]
    );
    assert_eq!(
        trace.tunnels[0].last_step,
        Some(Revelation::IngressMissing),
        "it says why"
    );
}

#[test]
fn a_silent_router_behind_the_ingress_is_listed_and_the_tunnel_incomplete() {
    let head = || vec![router("5.1.0.1", 255), router("5.1.1.1", 254)];
    let mut world = brpr_world();
    world.path("5.1.4.1", [head(), vec![silent()]].concat());
    let (beyond_one, _) = trace(&mut world, D, TraceOptions::default());
    assert_eq!(
        lines(&beyond_one),
        ["Invisible/Frpla 5.1.1.1 > * Brpr2 > 5.1.4.1 Brpr1 > 5.1.5.1, Revealed, incomplete"]
    );
    assert_eq!(beyond_one.tunnels[0].last_step, None);
    let mut world = brpr_world();
    world.path("5.1.5.1", [head(), vec![silent()]].concat());
    let (alone, _) = trace(&mut world, D, TraceOptions::default());
    assert_eq!(
        lines(&alone),
        ["Invisible/Frpla 5.1.1.1 > * OneHop1 > 5.1.5.1, Revealed, incomplete"]
    );
}

#[test]
fn revealed_routers_come_with_the_ttls_of_the_walk_that_showed_them() {
    let (trace, _) = trace(&mut brpr_world(), D, TraceOptions::default());
    let tunnel = &trace.tunnels[0];
    let ttls: Vec<_> = tunnel.lsrs.iter().map(|l| (l.ttl, l.quoted_ttl)).collect();
    // Each was the only one that showed, right behind the ingress.
    assert_eq!(ttls, [(3, Some(1)); 3]);
    assert_eq!(tunnel.last_step, Some(Revelation::NothingRevealed));
}

#[test]
fn a_destination_that_answers_with_an_echo_reply_is_not_pinged() {
    let (trace, _) = trace(&mut brpr_world(), D, TraceOptions::default());
    let last = trace.hops.last().unwrap();
    assert!(last.echo_reply_ttl.is_some());
    assert_eq!(last.echo_reply_ttl, last.reply_ttl);
    let options = TraceOptions {
        method: Method::UdpParis,
        ..TraceOptions::default()
    };
    let (by_udp, _) = self::trace(&mut brpr_world(), D, options);
    assert_eq!(by_udp.hops.last().unwrap().echo_reply_ttl, None);
    assert_eq!(by_udp.probes_sent, trace.probes_sent);
}

#[test]
fn a_revelation_that_goes_round_ends_incomplete() {
    let mut world = brpr_world();
    let head = || vec![router("5.1.0.1", 255), router("5.1.1.1", 254)];
    world.path("5.1.3.1", [head(), vec![router("5.1.4.1", 253)]].concat());
    let (trace, _) = trace(&mut world, D, TraceOptions::default());
    assert_eq!(
        lines(&trace),
        ["Invisible/Frpla 5.1.1.1 > 5.1.3.1 Brpr2 > 5.1.4.1 Brpr1 > 5.1.5.1, Revealed, incomplete"]
    );
}

#[test]
fn a_reserved_hidden_router_is_kept_but_not_traced_to() {
    let mut world = brpr_world();
    let head = || vec![router("5.1.0.1", 255), router("5.1.1.1", 254)];
    world.path("5.1.5.1", [head(), vec![router("10.0.0.4", 251)]].concat());
    let (trace, _) = trace(&mut world, D, TraceOptions::default());
    assert_eq!(
        lines(&trace),
        ["Invisible/Frpla 5.1.1.1 > 10.0.0.4 OneHop1 > 5.1.5.1, Revealed, incomplete"]
    );
    let to_reserved = world
        .sent
        .iter()
        .any(|(_, bytes)| bytes[16..20] == [10, 0, 0, 4]);
    assert!(!to_reserved);
}

#[test]
fn an_opaque_hop_is_the_egress_and_its_label_ttl_tells_the_length() {
    let mut world = brpr_world();
    let head = vec![router("5.1.0.1", 255), router("5.1.1.1", 254)];
    let tail = vec![
        router("5.1.5.1", 250).labelled(16, 252),
        router("5.1.6.1", 250),
    ];
    world.path(D, [head, tail].concat());
    let (trace, _) = trace(&mut world, D, TraceOptions::default());
    assert_eq!(
        lines(&trace),
        [BRPR.replace("Invisible/Frpla", "Opaque/LseTtl")]
    );
    assert_eq!(trace.tunnels[0].estimated_lsrs, Some(3));
    assert_eq!(
        trace.hops[2].tunnel,
        Some(HopTunnel {
            id: 0,
            role: Role::Egress
        })
    );
}

/// G8: CE2 twice, nothing of P1, P2, P3, PE2, whose links are /30 with the far end at .2.
fn uhp_world() -> World {
    let head = || vec![router("5.1.0.1", 255), router("5.1.1.1", 254)];
    let mut world = World::new(
        D,
        [head(), vec![router("5.1.6.2", 252), router("5.1.6.2", 252)]].concat(),
    );
    world.echoes(&[("5.1.0.1", 255), ("5.1.1.1", 254), ("5.1.6.2", 252)]);
    // Towards the egress label edge router's own links nothing between shows; the buddy does.
    for (link, before) in [
        ("5.1.6", "5.1.5.2"),
        ("5.1.5", "5.1.4.2"),
        ("5.1.4", "5.1.3.2"),
        ("5.1.3", "5.1.2.2"),
    ] {
        let (far, near) = (format!("{link}.2"), format!("{link}.1"));
        world.path(&far, head());
        world.path(&near, head());
        world
            .port_unreachable_from
            .insert(near.parse().unwrap(), before.parse().unwrap());
        world.echoes(&[(before, 253)]);
    }
    world.path("5.1.2.2", head());
    world
}

#[test]
fn a_repeated_address_is_uhp_and_buddies_reveal_it() {
    let (trace, _) = trace(&mut uhp_world(), D, TraceOptions::default());
    assert_eq!(
        lines(&trace),
        [
            "Invisible/DupIp 5.1.1.1 > 5.1.2.2 Buddy4 > 5.1.3.2 Buddy3 > 5.1.4.2 Buddy2 > 5.1.5.2 Buddy1, Revealed"
        ],
    );
    assert_eq!(trace.tunnels[0].egress, Some([5, 1, 5, 2].into()));
    assert_eq!(trace.tunnels[0].lsrs.len(), 3);
}

#[test]
fn what_the_last_buddy_said_is_told() {
    let last_step = |change: &dyn Fn(&mut World)| {
        let mut world = uhp_world();
        change(&mut world);
        let (trace, _) = trace(&mut world, D, TraceOptions::default());
        (lines(&trace)[0].len(), trace.tunnels[0].last_step)
    };
    let buddy = "5.1.2.1".parse().unwrap();
    let all = lines(&trace(&mut uhp_world(), D, TraceOptions::default()).0)[0].len();
    let silent = last_step(&|_| {});
    assert_eq!(silent, (all, Some(Revelation::TargetSilent)));
    // The ingress itself is at the other end of the link: there is nothing between.
    let ingress = last_step(&|world: &mut World| {
        let ingress = "5.1.1.1".parse().unwrap();
        world.path("5.1.2.1", vec![router("5.1.0.1", 255)]);
        world.port_unreachable_from.insert(buddy, ingress);
    });
    assert_eq!(ingress, (all, Some(Revelation::NothingRevealed)));
    let elsewhere = last_step(&|world: &mut World| {
        let stranger = "5.7.7.7".parse().unwrap();
        world.path("5.1.2.1", vec![router("5.1.0.1", 255)]);
        world.port_unreachable_from.insert(buddy, stranger);
    });
    assert_eq!(elsewhere, (all, Some(Revelation::IngressMissing)));
}

#[test]
fn buddies_are_probed_by_udp_whatever_the_method() {
    let mut world = uhp_world();
    trace(
        &mut world,
        D,
        TraceOptions {
            method: Method::IcmpParis,
            ..TraceOptions::default()
        },
    );
    let to_buddy: Vec<_> = world
        .sent
        .iter()
        .filter(|(_, b)| b[16..20] == [5, 1, 6, 1])
        .collect();
    assert!(!to_buddy.is_empty());
    assert!(to_buddy.iter().all(|(_, b)| b[9] == 17));
}

#[test]
fn two_hidden_tunnels_on_one_path_are_both_revealed() {
    let head = || vec![router("5.1.0.1", 255), router("5.1.1.1", 254)];
    let middle = || [head(), vec![router("5.1.3.1", 251), router("5.1.4.1", 251)]].concat();
    let mut world = World::new(
        D,
        [
            middle(),
            vec![router("5.1.7.1", 245), router("5.1.8.1", 245)],
        ]
        .concat(),
    );
    // Junos at both egresses: RTLA 2 at the first, 4 at the second.
    world.echoes(&[
        ("5.1.0.1", 255),
        ("5.1.1.1", 254),
        ("5.1.3.1", 62),
        ("5.1.4.1", 61),
        ("5.1.7.1", 58),
        ("5.1.8.1", 56),
    ]);
    world.path(
        "5.1.3.1",
        [head(), vec![router("5.1.2.2", 253), router("5.1.2.6", 252)]].concat(),
    );
    world.path("5.1.2.2", head());
    world.path(
        "5.1.7.1",
        [
            middle(),
            vec![router("5.1.5.1", 253), router("5.1.6.1", 252)],
        ]
        .concat(),
    );
    world.path("5.1.5.1", middle());
    let both = trace(&mut world, D, TraceOptions::default()).0;
    assert_eq!(
        lines(&both),
        [
            "Invisible/Rtla 5.1.1.1 > 5.1.2.2 Dpr1 > 5.1.2.6 Dpr1 > 5.1.3.1, Revealed",
            "Invisible/Rtla 5.1.4.1 > 5.1.5.1 Dpr1 > 5.1.6.1 Dpr1 > 5.1.7.1, Revealed",
        ],
    );
    let first_only = TraceOptions {
        tunnels: Some(TunnelOptions {
            first_only: true,
            ..TunnelOptions::default()
        }),
        ..TraceOptions::default()
    };
    let first = trace(&mut world, D, first_only).0;
    assert_eq!(first.tunnels[0], both.tunnels[0]);
    assert_eq!(first.tunnels[1].lsrs, []);
}

#[test]
fn a_tunnel_is_revealed_once_for_all_traces_that_cross_it() {
    let mut world = brpr_world();
    let mut engine = Engine::new(unlimited(), 1);
    let path = world.paths[&D.parse().unwrap()].clone();
    let mut alone = brpr_world();
    let cost = trace(&mut alone, D, TraceOptions::default()).0.probes_sent;
    for last in 1..=10 {
        let target = format!("5.9.0.{last}");
        world.path(&target, path.clone());
        engine
            .start(trace_job(&target, TraceOptions::default()), Instant::ZERO)
            .unwrap();
    }
    let (events, _) = drive(
        &mut engine,
        &mut world,
        Instant::ZERO,
        Duration::from_secs(60),
    );
    assert_eq!(events.len(), 10);
    // Nine more walks of five hops, and no more pings or revelations.
    assert_eq!(world.sent.len(), usize::try_from(cost).unwrap() + 9 * 5);
}
