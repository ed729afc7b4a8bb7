//! The probing engine against the simulated internet, over a link that loses, doubles, damages and
//! delays as the bytes say.

use core::time::Duration;
use std::sync::{Arc, OnceLock};

use plumb_probe::{Config, Engine, Job, Reveal, Trace, TraceOptions, TunnelOptions};
use plumb_record::{Method, Revelation};
use plumb_sim::{Network, Topology, labs};
use plumb_wire::{Engine as _, Instant};

fn topologies() -> &'static [(Topology, Vec<core::net::IpAddr>)] {
    static ALL: OnceLock<Vec<(Topology, Vec<core::net::IpAddr>)>> = OnceLock::new();
    ALL.get_or_init(|| {
        let load = |lab: &plumb_sim::Lab| {
            let topology = Topology::from_toml(lab.toml).ok()?;
            let targets = topology.targets().to_vec();
            Some((topology, targets))
        };
        labs().iter().filter_map(load).collect()
    })
}

/// Traces through a lab. Whatever is lost or damaged on the way, the trace ends, and its record
/// makes sense.
///
/// # Panics
/// If that is not so.
pub fn lab(data: &[u8]) {
    let Some((head, mut harm)) = data.split_first_chunk::<8>() else {
        return;
    };
    let all = topologies();
    let (topology, targets) = &all[usize::from(head[0]) % all.len()];
    let mut network = Network::new(topology, u64::from(head[1]));
    let mut engine = Engine::new(
        Config {
            rate: None,
            ..Config::default()
        },
        u64::from(head[2]),
    );
    let reveals = [Reveal::Auto, Reveal::Always, Reveal::Never];
    let methods = [Method::IcmpParis, Method::UdpParis, Method::TcpParis];
    let options = Arc::new(TraceOptions {
        method: methods[usize::from(head[3] % 3)],
        parallel: head[4] % 10 + 1,
        attempts: head[5] % 4 + 1,
        tunnels: Some(TunnelOptions {
            reveal: reveals[usize::from(head[6] % 3)],
            frpla_threshold: i16::from(head[7] % 4),
            ..TunnelOptions::default()
        }),
        ..TraceOptions::default()
    });
    let vantage = network.vantage();
    let mut now = Instant::from_millis(1);
    for dst in targets {
        let src = match dst {
            core::net::IpAddr::V4(_) => vantage.v4.map(|(a, _)| a.into()),
            core::net::IpAddr::V6(_) => vantage.v6.map(|(a, _)| a.into()),
        };
        let options = Arc::clone(&options);
        let job = src.map(|src| {
            Job::Trace(Trace {
                src,
                dst: *dst,
                options,
            })
        });
        let _ = job.map(|job| engine.start(job, now));
    }
    let end = now + Duration::from_secs(3600);
    let (mut probe, mut reply) = ([0; 1500], [0; 2048]);
    while engine.active() > 0 {
        network.handle_timeout(now);
        while let Some(t) = network.poll_transmit(now, &mut reply) {
            let mut times = 1;
            if let Some((&by, rest)) = harm.split_first() {
                harm = rest;
                match by % 16 {
                    0 => times = 0,
                    1 => times = 2,
                    2 => reply[usize::from(by) % t.len] ^= by,
                    _ => {}
                }
            }
            (0..times).for_each(|_| engine.handle_packet(now, &reply[..t.len]));
        }
        engine.handle_timeout(now);
        while let Some(t) = engine.poll_transmit(now, &mut probe) {
            engine.handle_sent(t.probe, now);
            network.handle_packet(now, &probe[..t.len]);
        }
        while let Some(event) = engine.poll_event() {
            if let plumb_probe::Event::Trace { trace, .. } = event {
                check(&trace);
            }
        }
        let next = [network.poll_timeout(), engine.poll_timeout()];
        let next = next.into_iter().flatten().min();
        now = now.max(next.unwrap_or(end));
        assert!(engine.active() == 0 || now < end, "a trace does not end");
    }
}

/// What holds for every record.
fn check(trace: &plumb_record::Trace) {
    for (hop, ttl) in trace.hops.iter().zip(trace.first_ttl..) {
        assert_eq!(hop.ttl, ttl);
        let id = hop.tunnel.map(|t| usize::from(t.id));
        assert!(id.is_none_or(|id| id < trace.tunnels.len()));
    }
    for (tunnel, id) in trace.tunnels.iter().zip(0..) {
        assert_eq!(tunnel.id, id);
        let found = !tunnel.lsrs.is_empty() || tunnel.hidden_egress.is_some();
        assert!(found || tunnel.revelation != Revelation::Revealed);
    }
}
