//! Every built-in lab, traced by the real engine through the simulated network on a virtual clock.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod world;

use core::time::Duration;
use std::sync::Arc;

use plumb_probe::{Engine, Event, Job, Trace, TraceOptions};
use plumb_record::Method;
use plumb_sim::{Network, Topology, labs};
use plumb_wire::{Engine as _, Instant};
use world::{line, unlimited};

/// Runs the engine against the network until the engine has nothing to do.
fn drive(engine: &mut Engine, network: &mut Network, from: Instant) -> Vec<Event> {
    let mut now = from;
    let mut events = Vec::new();
    let mut buffer = [0; 1500];
    let mut reply = [0; 2048];
    while engine.active() > 0 {
        network.handle_timeout(now);
        while let Some(t) = network.poll_transmit(now, &mut reply) {
            engine.handle_packet(now, &reply[..t.len]);
        }
        engine.handle_timeout(now);
        while let Some(t) = engine.poll_transmit(now, &mut buffer) {
            engine.handle_sent(t.probe, now);
            network.handle_packet(now, &buffer[..t.len]);
        }
        while let Some(event) = engine.poll_event() {
            events.push(event);
        }
        let next = [network.poll_timeout(), engine.poll_timeout()];
        let Some(next) = next.into_iter().flatten().min() else {
            break;
        };
        now = now.max(next);
        assert!(
            now.since(from) < Duration::from_secs(600),
            "the trace does not end"
        );
    }
    events
}

fn lab(name: &str, options: TraceOptions) -> Vec<plumb_record::Trace> {
    let lab = labs().iter().find(|l| l.name == name).unwrap();
    run(
        &Topology::from_toml(lab.toml).unwrap(),
        lab.targets,
        options,
    )
}

fn run(topology: &Topology, targets: &[&str], options: TraceOptions) -> Vec<plumb_record::Trace> {
    let mut network = Network::new(topology, 1);
    let vantage = network.vantage();
    let mut engine = Engine::new(unlimited(), 1);
    let start = Instant::from_millis(10);
    let options = Arc::new(options);
    for target in targets {
        let dst = target.parse().unwrap();
        let src = match dst {
            core::net::IpAddr::V4(_) => vantage.v4.unwrap().0.into(),
            core::net::IpAddr::V6(_) => vantage.v6.unwrap().0.into(),
        };
        let options = Arc::clone(&options);
        engine
            .start(Job::Trace(Trace { src, dst, options }), start)
            .unwrap();
    }
    drive(&mut engine, &mut network, start)
        .into_iter()
        .filter_map(|e| match e {
            Event::Trace { trace, .. } => Some(*trace),
            Event::Hop { .. } | Event::PingReply { .. } | Event::Ping { .. } => None,
        })
        .collect()
}

fn tunnels(traces: &[plumb_record::Trace]) -> Vec<String> {
    traces
        .iter()
        .flat_map(|t| t.tunnels.iter().map(line))
        .collect()
}

fn fast() -> TraceOptions {
    TraceOptions {
        parallel: 8,
        ..TraceOptions::default()
    }
}

/// Each lab with the tunnels that must be found in it: ingress, routers in order with method and
/// step, egress, and what came of the revelation.
const FOUND: &[(&str, &[&str])] = &[
    ("plain", &[]),
    ("ecmp", &[]),
    (
        "explicit",
        &["Explicit/Lse 5.0.2.2 > 5.0.3.2 > 5.0.4.2 > 5.0.5.2 > 5.0.6.2, NotNeeded"],
    ),
    (
        "implicit",
        &["Implicit/QuotedTtl 5.0.2.2 > 5.0.3.2 > 5.0.4.2 > 5.0.5.2 > 5.0.6.2, NotNeeded"],
    ),
    (
        "opaque",
        &[
            "Opaque/LseTtl 5.0.2.2 > 5.0.3.2 Brpr3 > 5.0.4.2 Brpr2 > 5.0.5.2 Brpr1 > 5.0.6.2, Revealed",
        ],
    ),
    (
        "php",
        &[
            "Invisible/Frpla 5.0.2.2 > 5.0.3.2 Brpr3 > 5.0.4.2 Brpr2 > 5.0.5.2 Brpr1 > 5.0.6.2, Revealed",
        ],
    ),
    (
        "uhp",
        &[
            "Invisible/DupIp 5.0.2.2 > 5.0.3.2 Buddy4 > 5.0.4.2 Buddy3 > 5.0.5.2 Buddy2 > 5.0.6.2 Buddy1, Revealed",
        ],
    ),
    (
        "dpr",
        &[
            "Invisible/Rtla 5.0.2.2 > 5.0.3.2 Dpr1 > 5.0.4.2 Dpr1 > 5.0.5.2 Dpr1 > 5.0.6.2, Revealed",
        ],
    ),
    (
        "icmp-tunneling",
        &["Explicit/Lse 5.0.2.2 > 5.0.3.2 > 5.0.4.2 > 5.0.5.2 > 5.0.6.2, NotNeeded"],
    ),
    (
        "explicit-null",
        &["Explicit/Lse 5.0.2.2 > 5.0.3.2 > 5.0.4.2 > 5.0.5.2 > 5.0.6.2, NotNeeded"],
    ),
    (
        "one-hop",
        &["Invisible/Rtla 5.0.2.2 > 5.0.3.2 OneHop1 > 5.0.4.2, Revealed"],
    ),
    (
        "mixed",
        &[
            "Invisible/Frpla 5.0.2.2 > 5.0.3.2 Brpr3 > 5.0.4.2 Brpr2 > 5.0.5.2 Brpr1 > 5.0.6.2, Revealed",
            "Explicit/Lse 5.0.8.2 > 5.0.9.2 > 5.0.10.2 > 5.0.11.2, NotNeeded",
            "Invisible/Rtla 5.0.13.2 > 5.0.14.2 Dpr1 > 5.0.15.2 Dpr1 > 5.0.16.2, Revealed",
        ],
    ),
    (
        "silent",
        &["Explicit/Lse * > 5.0.4.2 > * > 5.0.6.2 > 5.0.7.2, NotNeeded, incomplete"],
    ),
    (
        "rate-limited",
        &[
            "Invisible/Frpla 5.0.2.2 > 5.0.3.2 Brpr3 > 5.0.4.2 Brpr2 > 5.0.5.2 Brpr1 > 5.0.6.2, Revealed",
        ],
    ),
    (
        "lossy",
        &[
            "Invisible/Rtla 5.0.2.2 > 5.0.3.2 Dpr1 > 5.0.4.2 Dpr1 > 5.0.5.2 Dpr1 > 5.0.6.2, Revealed",
        ],
    ),
    ("nat", &[]),
    (
        "rfc4884",
        &[
            "Explicit/Lse 5.0.2.2 > 5.0.3.2 > 5.0.4.2 > 5.0.5.2 > 5.0.6.2 > 5.0.7.2 > 5.0.8.2 > 5.0.9.2 > 5.0.10.2, NotNeeded",
        ],
    ),
    (
        "ipv6",
        &[
            "Explicit/Lse 5.0.2.2 > 5.0.3.2 > 5.0.4.2 > 5.0.5.2 > 5.0.6.2, NotNeeded",
            "Explicit/Lse 2a0b:5000:0:2::2 > * > * > * > 2a0b:5000:0:6::2, NotNeeded, incomplete",
        ],
    ),
    (
        "asymmetric",
        &[
            "Invisible/Frpla 5.0.2.2 > 5.0.3.2, NothingRevealed, incomplete",
            "Invisible/Frpla 5.0.3.2 > 5.0.4.2, NothingRevealed, incomplete",
        ],
    ),
];

#[test]
fn every_lab_shows_its_tunnels() {
    for (name, found) in FOUND {
        assert_eq!(&tunnels(&lab(name, fast())), found, "lab {name}");
    }
    let untested = labs()
        .iter()
        .filter(|l| l.name != "wide" && FOUND.iter().all(|(n, _)| *n != l.name));
    assert_eq!(untested.count(), 0);
}

#[test]
fn one_probe_at_a_time_finds_the_same_tunnels_with_fewer_probes() {
    for (name, found) in FOUND {
        // Loss and rate limits hit other probes when they leave at other times.
        if !matches!(*name, "lossy" | "rate-limited") {
            assert_eq!(
                &tunnels(&lab(name, TraceOptions::default())),
                found,
                "lab {name}"
            );
        }
    }
    let probes = |options| lab("php", options)[0].probes_sent;
    assert!(probes(TraceOptions::default()) < probes(fast()));
}

#[test]
fn udp_and_tcp_find_the_same_tunnels_as_icmp() {
    for method in [Method::UdpParis, Method::TcpParis] {
        for (name, found) in FOUND {
            // The NAT lab and lost packets differ by design; what UDP shows of them is not this.
            if !matches!(*name, "lossy" | "rate-limited") {
                assert_eq!(
                    &tunnels(&lab(name, TraceOptions { method, ..fast() })),
                    found,
                    "lab {name}, {method:?}"
                );
            }
        }
    }
}

#[test]
fn walks_to_buddies_do_not_run_far_past_the_ingress() {
    let cost = |options| lab("uhp", options)[0].probes_sent;
    let (one_at_a_time, eight) = (cost(TraceOptions::default()), cost(fast()));
    assert!(one_at_a_time <= 70, "{one_at_a_time}");
    assert!(eight <= 120, "{eight}");
}

#[test]
fn silent_routers_of_hidden_tunnels_are_told_from_none() {
    let hidden = |name: &str, silent: &str| {
        let toml = labs().iter().find(|l| l.name == name).unwrap().toml;
        let toml = format!("{toml}\n[[router]]\nnames = \"{silent}\"\nsilent = \"all\"\n");
        let others = toml.replacen(&format!(" {silent} "), " ", 1);
        tunnels(&run(
            &Topology::from_toml(&others).unwrap(),
            &["5.0.8.2"],
            fast(),
        ))
    };
    for (name, silent, found) in [
        (
            "php",
            "P1",
            "Frpla 5.0.2.2 > * Brpr3 > 5.0.4.2 Brpr2 > 5.0.5.2 Brpr1 > 5.0.6.2, Revealed, incomplete",
        ),
        (
            "php",
            "P2",
            "Frpla 5.0.2.2 > * Brpr2 > 5.0.5.2 Brpr1 > 5.0.6.2, Revealed, incomplete",
        ),
        (
            "php",
            "P3",
            "Frpla 5.0.2.2 > * OneHop1 > 5.0.6.2, Revealed, incomplete",
        ),
        (
            "dpr",
            "P2",
            "Rtla 5.0.2.2 > 5.0.3.2 Dpr1 > * Dpr1 > 5.0.5.2 Dpr1 > 5.0.6.2, Revealed, incomplete",
        ),
        (
            "uhp",
            "PE1",
            "DupIp * > 5.0.3.2 Buddy4 > 5.0.4.2 Buddy3 > 5.0.5.2 Buddy2 > 5.0.6.2 Buddy1, Revealed",
        ),
    ] {
        let found = format!("Invisible/{found}");
        assert_eq!(hidden(name, silent), [found], "{name} without {silent}");
    }
}

#[test]
fn a_long_list_crosses_each_hidden_tunnel_once() {
    let traces = lab("wide", TraceOptions::default());
    let found = tunnels(&traces);
    assert_eq!(
        found,
        [
            "Explicit/Lse 5.0.17.2 > 5.0.18.2 > 5.0.19.2 > 5.0.20.2, NotNeeded",
            "Invisible/Rtla 5.0.10.2 > 5.0.11.2 Dpr1 > 5.0.12.2 Dpr1 > 5.0.13.2 Dpr1 > 5.0.14.2, Revealed",
            "Invisible/Frpla 5.0.3.2 > 5.0.4.2 Brpr3 > 5.0.5.2 Brpr2 > 5.0.6.2 Brpr1 > 5.0.7.2, Revealed",
        ],
    );
}

#[test]
fn a_hidden_tunnel_of_three_costs_at_most_eight_round_trips() {
    for (name, links, hidden) in [("php", 8, 3), ("dpr", 8, 3)] {
        let toml = labs().iter().find(|l| l.name == name).unwrap().toml;
        let with_delay = toml.replace("CE2 D\"", "CE2 D\"\ndelay_ms = 10");
        assert_ne!(with_delay, toml);
        let topology = Topology::from_toml(&with_delay).unwrap();
        let trace = run(&topology, &["5.0.8.2"], fast()).remove(0);
        assert_eq!(trace.tunnels[0].lsrs.len(), hidden);
        let round_trip = Duration::from_millis(2 * 10 * links);
        let took = Duration::from_nanos(trace.duration_ns);
        // The trace itself and its pings are in it.
        assert!(took <= round_trip * 8, "{name}: {took:?}");
    }
}

#[test]
fn nothing_waits_after_the_answer_has_come() {
    for name in ["php", "dpr", "opaque", "explicit", "mixed"] {
        let took = Duration::from_nanos(lab(name, fast())[0].duration_ns);
        assert!(took < Duration::from_millis(200), "{name}: {took:?}");
    }
}
