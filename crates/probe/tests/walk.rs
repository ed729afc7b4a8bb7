//! Walking a path: what is asked, how long is waited, what ends it.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod world;

use core::time::Duration;

use plumb_probe::{Config, Engine, Event, Headers, TraceOptions};
use plumb_record::{Method, StopReason};
use plumb_wire::packet::Packet;
use plumb_wire::{Engine as _, Instant, SendError};
use world::*;

fn plain() -> TraceOptions {
    TraceOptions {
        tunnels: None,
        ..TraceOptions::default()
    }
}

fn four_routers() -> Vec<Router> {
    vec![
        router("5.1.0.1", 255),
        router("5.1.1.1", 254),
        router("5.1.2.1", 253),
        router("5.1.3.1", 252),
    ]
}

#[test]
fn a_path_is_walked_hop_by_hop_in_as_many_round_trips_and_probes_as_it_has_hops() {
    for method in [Method::IcmpParis, Method::UdpParis] {
        let mut world = World::new("5.9.0.1", four_routers());
        let (trace, took) = trace(&mut world, "5.9.0.1", TraceOptions { method, ..plain() });
        assert_eq!(
            addrs(&trace.hops),
            ["5.1.0.1", "5.1.1.1", "5.1.2.1", "5.1.3.1", "5.9.0.1"]
        );
        assert_eq!((trace.stop_reason, trace.probes_sent), (COMPLETED, 5));
        assert_eq!(took, Duration::from_millis(50));
        assert!(
            trace
                .hops
                .iter()
                .all(|h| h.rtt_ns == Some(10_000_000) && h.attempt == 1)
        );
    }
}

#[test]
fn with_eight_ttls_at_once_the_same_path_takes_one_round_trip() {
    let mut world = World::new("5.9.0.1", four_routers());
    let options = TraceOptions {
        parallel: 8,
        ..plain()
    };
    let (fast, took) = trace(&mut world, "5.9.0.1", options);
    assert_eq!(took, Duration::from_millis(10));
    assert_eq!(fast.hops.len(), 5);
    assert_eq!(fast.probes_sent, 8);
}

#[test]
fn what_is_found_does_not_depend_on_how_many_ttls_are_probed_at_once() {
    let paths = [
        four_routers(),
        vec![router("5.1.0.1", 255), silent(), router("5.1.2.1", 253)],
        vec![
            router("5.1.0.1", 255),
            silent(),
            silent(),
            silent(),
            silent(),
            silent(),
            router("5.1.2.1", 9),
        ],
        vec![
            router("5.1.0.1", 255),
            router("5.1.1.1", 254),
            router("5.1.0.1", 253),
            router("5.1.1.1", 254),
        ],
        vec![
            router("5.1.0.1", 255),
            router("5.1.1.1", 254),
            router("5.1.1.1", 254),
            router("5.1.2.1", 253),
        ],
    ];
    for path in paths {
        let found = |parallel| {
            let mut world = World::new("5.9.0.1", path.clone());
            let (trace, _) = trace(
                &mut world,
                "5.9.0.1",
                TraceOptions {
                    parallel,
                    ..plain()
                },
            );
            (addrs(&trace.hops), trace.stop_reason)
        };
        let one = found(1);
        for parallel in [2, 3, 8, 32] {
            assert_eq!(found(parallel), one);
        }
    }
}

#[test]
fn a_silent_hop_gets_all_attempts_and_the_walk_goes_on() {
    let path = vec![router("5.1.0.1", 255), silent(), router("5.1.2.1", 253)];
    let mut world = World::new("5.9.0.1", path);
    let (trace, took) = trace(
        &mut world,
        "5.9.0.1",
        TraceOptions {
            attempts: 3,
            ..plain()
        },
    );
    assert_eq!(addrs(&trace.hops), ["5.1.0.1", "*", "5.1.2.1", "5.9.0.1"]);
    assert_eq!((trace.hops[1].attempt, trace.hops[1].rtt_ns), (3, None));
    assert_eq!(trace.probes_sent, 6);
    assert_eq!(took, Duration::from_millis(3 * 1000 + 3 * 10));
}

#[test]
fn a_router_that_misses_the_first_probe_is_found_by_the_second() {
    let mut world = World::new("5.9.0.1", vec![router("5.1.0.1", 255).deaf_for(1)]);
    let (trace, _) = trace(&mut world, "5.9.0.1", plain());
    assert_eq!((trace.hops[0].attempt, trace.probes_sent), (2, 3));
    assert_eq!(trace.hops[0].rtt_ns, Some(10_000_000));
}

#[test]
fn five_silent_hops_end_a_walk() {
    let mut path = vec![router("5.1.0.1", 255)];
    path.resize(20, silent());
    let mut world = World::new("5.9.0.1", path);
    let (trace, _) = trace(&mut world, "5.9.0.1", plain());
    assert_eq!(
        (trace.stop_reason, trace.hops.len()),
        (StopReason::GapLimit, 6)
    );
    assert_eq!(trace.probes_sent, 11);
}

#[test]
fn the_hop_limit_ends_a_walk() {
    let mut world = World::new("5.9.0.1", four_routers());
    let (trace, _) = trace(
        &mut world,
        "5.9.0.1",
        TraceOptions {
            first_ttl: 2,
            max_ttl: 3,
            ..plain()
        },
    );
    assert_eq!(
        (trace.stop_reason, trace.first_ttl),
        (StopReason::HopLimit, 2)
    );
    assert_eq!(addrs(&trace.hops), ["5.1.1.1", "5.1.2.1"]);
}

#[test]
fn a_loop_ends_a_walk_but_one_address_twice_in_a_row_is_no_loop() {
    let twice = vec![
        router("5.1.0.1", 255),
        router("5.1.1.1", 254),
        router("5.1.1.1", 254),
    ];
    let mut world = World::new("5.9.0.1", twice);
    assert_eq!(
        trace(&mut world, "5.9.0.1", plain()).0.stop_reason,
        COMPLETED
    );
    let around = vec![
        router("5.1.0.1", 255),
        router("5.1.1.1", 254),
        router("5.1.0.1", 253),
    ];
    let mut world = World::new("5.9.0.1", around);
    let (trace, _) = trace(&mut world, "5.9.0.1", plain());
    assert_eq!((trace.stop_reason, trace.hops.len()), (StopReason::Loop, 3));
}

#[test]
fn a_rewritten_sequence_number_or_a_nat_does_not_hide_a_hop() {
    for spoil in [Spoil::Sequence, Spoil::Nat] {
        for method in [Method::IcmpParis, Method::UdpParis] {
            let mut world = World::new("5.9.0.1", four_routers());
            world.spoil = spoil;
            let (trace, _) = trace(&mut world, "5.9.0.1", TraceOptions { method, ..plain() });
            assert_eq!(
                (trace.hops.len(), trace.probes_sent),
                (5, 5),
                "{spoil:?} {method:?}"
            );
            let nat = spoil == Spoil::Nat || method == Method::UdpParis;
            assert_eq!(trace.hops[0].nat, nat, "{spoil:?} {method:?}");
        }
    }
}

#[test]
fn duplicates_are_counted_and_change_nothing() {
    let mut world = World::new("5.9.0.1", four_routers());
    world.duplicate = true;
    let mut engine = Engine::new(unlimited(), 1);
    engine
        .start(trace_job("5.9.0.1", plain()), Instant::ZERO)
        .unwrap();
    drive(
        &mut engine,
        &mut world,
        Instant::ZERO,
        Duration::from_secs(10),
    );
    assert_eq!(
        (
            engine.stats().sent,
            engine.stats().replies,
            engine.stats().duplicates
        ),
        (5, 5, 4)
    );
}

#[test]
fn a_reply_after_the_wait_still_names_its_hop_with_its_true_time() {
    let mut world = World::new("5.9.0.1", four_routers());
    world.rtt = Duration::from_millis(1500);
    let (trace, _) = trace(&mut world, "5.9.0.1", plain());
    assert_eq!(
        addrs(&trace.hops[..4]),
        ["5.1.0.1", "5.1.1.1", "5.1.2.1", "5.1.3.1"]
    );
    assert!(trace.hops.iter().all(|h| h.rtt_ns == Some(1_500_000_000)));
}

#[test]
fn a_probe_that_cannot_be_sent_ends_its_trace_as_unreachable() {
    let mut engine = Engine::new(unlimited(), 1);
    engine
        .start(trace_job("5.9.0.1", plain()), Instant::ZERO)
        .unwrap();
    let mut buffer = [0; 1500];
    let transmit = engine.poll_transmit(Instant::ZERO, &mut buffer).unwrap();
    engine.handle_send_error(transmit.probe, Instant::ZERO, SendError::NoRoute);
    let Some(Event::Trace { trace, .. }) = engine.poll_event() else {
        panic!("no end of the trace");
    };
    assert_eq!(trace.stop_reason, StopReason::Unreachable);
    assert_eq!(engine.active(), 0);
}

#[test]
fn a_stopped_trace_reports_what_it_knows() {
    let mut world = World::new("5.9.0.1", vec![router("5.1.0.1", 255), silent(), silent()]);
    let mut engine = Engine::new(unlimited(), 1);
    let job = engine
        .start(trace_job("5.9.0.1", plain()), Instant::ZERO)
        .unwrap();
    let (events, now) = drive(
        &mut engine,
        &mut world,
        Instant::ZERO,
        Duration::from_millis(500),
    );
    assert!(events.is_empty());
    engine.stop(job, now);
    let Some(Event::Trace { trace, .. }) = engine.poll_event() else {
        panic!("no record of the trace");
    };
    assert_eq!(trace.stop_reason, StopReason::Interrupted);
    assert_eq!(addrs(&trace.hops), ["5.1.0.1"]);
    engine.stop(job, now);
    assert!(engine.poll_event().is_none());
}

#[test]
fn probes_of_all_traces_together_keep_to_the_rate() {
    let mut world = World::new("5.9.0.1", four_routers());
    let mut config = unlimited();
    config.rate = Some(100);
    let mut engine = Engine::new(config, 1);
    for last in 1..=40 {
        let target = format!("5.9.0.{last}");
        world.path(&target, four_routers());
        engine
            .start(trace_job(&target, plain()), Instant::ZERO)
            .unwrap();
    }
    drive(
        &mut engine,
        &mut world,
        Instant::ZERO,
        Duration::from_secs(60),
    );
    assert_eq!(world.sent.len(), 200);
    let times: Vec<_> = world.sent.iter().map(|(at, _)| *at).collect();
    assert!(
        times
            .windows(2)
            .all(|w| w[1].since(w[0]) == Duration::from_millis(10))
    );
}

#[test]
fn the_same_seed_and_input_give_the_same_bytes() {
    let bytes = |seed| {
        let mut world = World::new("5.9.0.1", four_routers());
        let mut engine = Engine::new(unlimited(), seed);
        engine
            .start(trace_job("5.9.0.1", TraceOptions::default()), Instant::ZERO)
            .unwrap();
        drive(
            &mut engine,
            &mut world,
            Instant::ZERO,
            Duration::from_secs(60),
        );
        world.sent
    };
    assert_eq!(bytes(3), bytes(3));
    assert_ne!(bytes(3), bytes(4));
}

#[test]
fn retries_of_one_hop_differ_in_sequence_but_not_in_flow() {
    let mut world = World::new("5.9.0.1", vec![silent()]);
    trace(
        &mut world,
        "5.9.0.1",
        TraceOptions {
            attempts: 3,
            method: Method::UdpParis,
            ..plain()
        },
    );
    let ports: Vec<_> = world
        .sent
        .iter()
        .map(|(_, bytes)| udp_ports(bytes))
        .collect();
    assert!(ports.windows(2).all(|w| w[0] == w[1]));
    let sums: Vec<_> = world
        .sent
        .iter()
        .map(|(_, b)| Packet::parse(b).unwrap().transport[6..8].to_vec())
        .collect();
    assert!(sums.windows(2).all(|w| w[0] != w[1]));
}

#[test]
fn what_a_driver_rebuilt_is_reported_as_unknown_and_udp_walks_one_ttl_at_a_time() {
    for method in [Method::IcmpParis, Method::UdpParis] {
        let config = Config {
            headers: Headers::Rebuilt,
            ..unlimited()
        };
        let options = TraceOptions {
            method,
            parallel: 8,
            ..plain()
        };
        let mut world = World::new("5.9.0.1", four_routers());
        let mut engine = Engine::new(config, 7);
        let start = Instant::from_millis(1000);
        engine.start(trace_job("5.9.0.1", options), start).unwrap();
        let (events, _) = drive(&mut engine, &mut world, start, Duration::from_secs(60));
        let [Event::Trace { trace, .. }] = events.as_slice() else {
            panic!("{events:?}");
        };
        assert_eq!(trace.hops.len(), 5);
        for hop in &trace.hops {
            assert!(hop.reply_ttl.is_some() && hop.reply_tos.is_some());
            let unknown = (
                hop.reply_ip_id,
                hop.quoted_ttl,
                hop.quoted_tos,
                hop.quoted_size,
            );
            assert_eq!(unknown, (None, None, None, None));
        }
        let round_trips = if method == Method::UdpParis { 5 } else { 1 };
        assert_eq!(trace.duration_ns, round_trips * 10_000_000, "{method:?}");
    }
}

#[test]
fn port_unreachable_from_the_way_is_no_arrival_of_an_echo_request() {
    let path = vec![router("5.1.0.1", 255), router("5.1.1.1", 254).refusing()];
    let mut world = World::new("5.9.0.1", path);
    let (trace, _) = trace(&mut world, "5.9.0.1", plain());
    assert_eq!(
        (trace.stop_reason, trace.hops.len()),
        (StopReason::Unreachable, 2)
    );
}
