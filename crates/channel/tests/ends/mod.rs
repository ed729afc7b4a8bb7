//! A host and a guest, and what carries bytes between them.

#![allow(dead_code, reason = "no test file needs all of it")]

use core::net::IpAddr;
use std::sync::Arc;

use plumb_channel::{Configure, Fault, Guest, Host, Limits, News, Order, Ready};
use plumb_probe::{Config, Engine, Event, Job, Ping, PingOptions, Trace, TraceOptions};
use plumb_sim::{Network, Topology, labs};
use plumb_wire::{Engine as _, Instant};

pub(crate) const NOW: Instant = Instant::from_millis(1000);

pub(crate) fn configure(session: u64) -> Configure {
    Configure {
        session,
        engine: Config::default(),
        seed: 7,
        packets: true,
    }
}

pub(crate) fn host(session: u64) -> Host {
    Host::new(&configure(session), Limits::default(), NOW)
}

pub(crate) fn ready(session: u64) -> Ready {
    Ready {
        session,
        time: Instant::from_millis(5),
        mac: [2, 0, 0, 0, 0, 1],
        mtu: 1500,
        window: 100,
        addresses: vec![([10, 0, 0, 2].into(), 24), ("fd00::2".parse().unwrap(), 64)],
    }
}

pub(crate) fn trace_job(dst: IpAddr, options: TraceOptions) -> Job {
    Job::Trace(Trace {
        src: [5, 0, 1, 1].into(),
        dst,
        options: Arc::new(options),
    })
}

pub(crate) fn ping_job(count: u32) -> Job {
    Job::Ping(Ping {
        src: [5, 0, 1, 1].into(),
        dst: [5, 0, 8, 2].into(),
        options: Arc::new(PingOptions {
            count: Some(count),
            ..PingOptions::default()
        }),
    })
}

/// Moves what the host has to say to the guest, and returns the orders.
pub(crate) fn to_guest(host: &mut Host, guest: &mut Guest) -> Vec<Order> {
    let mut orders = Vec::new();
    while !host.transmit().is_empty() {
        let len = host.transmit().len().min(Guest::CHUNK);
        guest.handle_bytes(&host.transmit()[..len]);
        host.handle_sent(len);
        while let Some(order) = guest.poll_order().unwrap() {
            orders.push(order);
        }
    }
    orders
}

/// All that the guest has to say, as if there were room for anything.
pub(crate) fn says(guest: &mut Guest) -> Vec<u8> {
    let bytes = u64::MAX;
    guest.handle_bytes(&Order::Received { bytes }.frame());
    assert!(matches!(guest.poll_order(), Ok(None)));
    let mut all = Vec::new();
    while !guest.transmit().is_empty() {
        let bytes = guest.transmit();
        all.extend_from_slice(bytes);
        let len = bytes.len();
        guest.handle_sent(len);
    }
    all
}

/// Moves what the guest has to say to the host, and returns the news.
pub(crate) fn to_host(guest: &mut Guest, host: &mut Host) -> Result<Vec<News>, Fault> {
    let bytes = says(guest);
    host.handle_bytes(&bytes, NOW)?;
    Ok(core::iter::from_fn(|| host.poll_news()).collect())
}

/// A session that has begun.
pub(crate) fn begun() -> (Host, Guest) {
    let (mut host, mut guest) = (host(1), Guest::default());
    to_guest(&mut host, &mut guest);
    guest.ready(ready(1));
    to_host(&mut guest, &mut host).unwrap();
    (host, guest)
}

/// What the engine finds in a lab.
pub(crate) fn events(lab: &str, job: Job) -> Vec<Event> {
    let lab = labs().iter().find(|l| l.name == lab).unwrap();
    let mut network = Network::new(&Topology::from_toml(lab.toml).unwrap(), 1);
    let mut engine = Engine::new(Config::default(), 1);
    let mut now = NOW;
    engine.start(job, now).unwrap();
    let mut events = Vec::new();
    let mut buffer = [0; 2048];
    while engine.active() > 0 {
        network.handle_timeout(now);
        while let Some(t) = network.poll_transmit(now, &mut buffer) {
            engine.handle_packet(now, &buffer[..t.len]);
        }
        engine.handle_timeout(now);
        while let Some(t) = engine.poll_transmit(now, &mut buffer) {
            engine.handle_sent(t.probe, now);
            network.handle_packet(now, &buffer[..t.len]);
        }
        events.extend(core::iter::from_fn(|| engine.poll_event()));
        let next = [network.poll_timeout(), engine.poll_timeout()];
        now = now.max(next.into_iter().flatten().min().unwrap_or(now));
    }
    events
}
