//! A scripted network on a virtual clock: what answers at which TTL of the path to which target is
//! written down, so that a test can show the engine any behaviour, possible or not.

#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use plumb_probe::{Config, Engine, Event, Job, Trace, TraceOptions};
use plumb_record::{Hop, LsrMethod, StopReason, Tunnel};
use plumb_wire::icmp::{self, Family};
use plumb_wire::mpls::Lse;
use plumb_wire::packet::Packet;
use plumb_wire::{Engine as _, Instant, icmp_ext, ipv4, protocol, udp};

/// A router at one TTL of a path.
#[derive(Clone, Debug)]
pub(crate) struct Router {
    pub(crate) addr: Ipv4Addr,
    /// TTL of its time-exceeded messages as received.
    pub(crate) te: u8,
    /// Quoted TTL.
    pub(crate) quoted: u8,
    pub(crate) stack: Vec<Lse>,
    /// Answers this many probes out of each group of as many plus one; 0 is silent.
    pub(crate) silent: bool,
    /// Says "port unreachable" instead.
    pub(crate) refusing: bool,
    /// Ignores its first probes.
    pub(crate) deaf_for: u32,
}

pub(crate) fn router(addr: &str, te: u8) -> Router {
    Router {
        addr: addr.parse().unwrap(),
        te,
        quoted: 1,
        stack: Vec::new(),
        silent: false,
        refusing: false,
        deaf_for: 0,
    }
}

pub(crate) fn silent() -> Router {
    Router {
        silent: true,
        ..router("9.9.9.9", 0)
    }
}

impl Router {
    pub(crate) fn quoting(self, quoted: u8) -> Self {
        Self { quoted, ..self }
    }

    pub(crate) fn labelled(self, label: u32, ttl: u8) -> Self {
        let lse = Lse {
            label,
            tc: 0,
            s: true,
            ttl,
        };
        Self {
            stack: vec![lse],
            ..self
        }
    }

    pub(crate) fn refusing(self) -> Self {
        Self {
            refusing: true,
            ..self
        }
    }

    pub(crate) fn deaf_for(self, probes: u32) -> Self {
        Self {
            deaf_for: probes,
            ..self
        }
    }
}

/// How the quote of every error is spoilt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Spoil {
    #[default]
    Nothing,
    /// The quoted sequence number (or UDP checksum) is not the probe's.
    Sequence,
    /// The quoted source is not the prober's and the quoted checksum is another, as behind a NAT.
    Nat,
}

#[derive(Debug)]
pub(crate) struct World {
    /// Routers before each target; a target without a path is never reached.
    pub(crate) paths: BTreeMap<Ipv4Addr, Vec<Router>>,
    /// TTL of echo replies by address as received.
    pub(crate) echo: BTreeMap<Ipv4Addr, u8>,
    /// Address from which a target says that a UDP port is unreachable, if not its own.
    pub(crate) port_unreachable_from: BTreeMap<Ipv4Addr, Ipv4Addr>,
    pub(crate) rtt: Duration,
    pub(crate) spoil: Spoil,
    /// Every reply comes twice.
    pub(crate) duplicate: bool,
    /// Packets that the engine sent: time and bytes.
    pub(crate) sent: Vec<(Instant, Vec<u8>)>,
    heard: BTreeMap<(Ipv4Addr, u8), u32>,
    replies: VecDeque<(Instant, Vec<u8>)>,
}

pub(crate) const SOURCE: Ipv4Addr = Ipv4Addr::new(5, 0, 0, 2);

impl World {
    pub(crate) fn new(target: &str, path: Vec<Router>) -> Self {
        let mut world = Self {
            paths: BTreeMap::new(),
            echo: BTreeMap::new(),
            port_unreachable_from: BTreeMap::new(),
            rtt: Duration::from_millis(10),
            spoil: Spoil::Nothing,
            duplicate: false,
            sent: Vec::new(),
            heard: BTreeMap::new(),
            replies: VecDeque::new(),
        };
        world.path(target, path);
        world
    }

    pub(crate) fn path(&mut self, target: &str, path: Vec<Router>) {
        let target = target.parse().unwrap();
        self.echo.entry(target).or_insert(60);
        self.paths.insert(target, path);
    }

    pub(crate) fn echoes(&mut self, ttls: &[(&str, u8)]) {
        for (addr, ttl) in ttls {
            self.echo.insert(addr.parse().unwrap(), *ttl);
        }
    }

    pub(crate) fn send(&mut self, now: Instant, bytes: &[u8]) {
        self.sent.push((now, bytes.to_vec()));
        let Some(reply) = self.respond(bytes) else {
            return;
        };
        let at = now + self.rtt;
        if self.duplicate {
            self.replies.push_back((at, reply.clone()));
        }
        self.replies.push_back((at, reply));
    }

    fn respond(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let probe = Packet::parse(bytes).unwrap();
        let IpAddr::V4(target) = probe.dst else {
            return None;
        };
        let path = self.paths.get(&target);
        // An address without a path of its own is only known to answer pings.
        if let Some(router) = path.and_then(|p| p.get(usize::from(probe.ttl) - 1)) {
            let count = self.heard.entry((router.addr, probe.ttl)).or_insert(0);
            *count += 1;
            if router.silent || *count <= router.deaf_for {
                return None;
            }
            let (kind, code) = if router.refusing { (3, 3) } else { (11, 0) };
            return Some(error(bytes, kind, code, router, self.spoil));
        }
        if probe.protocol == protocol::UDP {
            path?;
            let from = self
                .port_unreachable_from
                .get(&target)
                .copied()
                .unwrap_or(target);
            let ttl = self.echo.get(&target).copied().unwrap_or(60);
            let router = Router {
                addr: from,
                ..router("0.0.0.0", ttl)
            };
            return Some(error(bytes, 3, 3, &router, self.spoil));
        }
        let ttl = *self.echo.get(&target)?;
        let mut reply = probe.transport.to_vec();
        reply[0] = 0;
        icmp::fill_checksum_v4(&mut reply);
        Some(packet(target, ttl, &reply))
    }

    fn poll_reply(&mut self, now: Instant) -> Option<(Instant, Vec<u8>)> {
        if self.replies.front()?.0 > now {
            return None;
        }
        self.replies.pop_front()
    }
}

/// An IPv4 packet with an ICMP message to the prober.
fn packet(src: Ipv4Addr, ttl: u8, icmp: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 20];
    bytes.extend(icmp);
    let header = ipv4::Header {
        tos: 0,
        total_len: u16::try_from(bytes.len()).unwrap(),
        ident: 77,
        flags_fragment: 0,
        ttl,
        protocol: protocol::ICMP,
        src,
        dst: SOURCE,
    };
    header.emit(&mut bytes);
    bytes
}

fn error(probe: &[u8], kind: u8, code: u8, from: &Router, spoil: Spoil) -> Vec<u8> {
    let mut quote = probe.to_vec();
    quote[8] = from.quoted;
    match spoil {
        Spoil::Nothing => {}
        Spoil::Sequence => quote[26] ^= 0x55,
        Spoil::Nat => {
            quote[12..16].copy_from_slice(&[172, 16, 0, 9]);
            let at = if quote[9] == protocol::UDP { 26 } else { 22 };
            quote[at] ^= 0x55;
        }
    }
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    if !from.stack.is_empty() {
        quote.resize(128, 0);
        message[5] = 32;
    }
    message.extend(&quote);
    if !from.stack.is_empty() {
        let at = message.len();
        message.resize(at + icmp_ext::mpls_len(from.stack.len()), 0);
        icmp_ext::emit_mpls(&from.stack, &mut message[at..]);
    }
    icmp::fill_checksum_v4(&mut message);
    packet(from.addr, from.te, &message)
}

/// Runs the engine in the world until neither has anything to do, or `limit` of virtual time has
/// passed; returns the events and the time at the end.
pub(crate) fn drive(
    engine: &mut Engine,
    world: &mut World,
    from: Instant,
    limit: Duration,
) -> (Vec<Event>, Instant) {
    let mut now = from;
    let end = from + limit;
    let mut events = Vec::new();
    let mut buffer = [0; 1500];
    loop {
        while let Some((at, reply)) = world.poll_reply(now) {
            engine.handle_packet(at, &reply);
        }
        engine.handle_timeout(now);
        while let Some(transmit) = engine.poll_transmit(now, &mut buffer) {
            engine.handle_sent(transmit.probe, now);
            world.send(now, &buffer[..transmit.len]);
        }
        while let Some(event) = engine.poll_event() {
            events.push(event);
        }
        let reply = world.replies.front().map(|(at, _)| *at);
        let next = match (reply, engine.poll_timeout()) {
            (Some(a), Some(b)) => a.min(b),
            (Some(a), None) | (None, Some(a)) => a,
            (None, None) => return (events, now),
        };
        if next > end {
            return (events, now);
        }
        assert!(
            next > now || reply.is_some_and(|r| r <= now),
            "the engine spins at {now:?}"
        );
        now = next;
    }
}

pub(crate) fn unlimited() -> Config {
    Config {
        rate: None,
        ..Config::default()
    }
}

pub(crate) fn trace_job(target: &str, options: TraceOptions) -> Job {
    Job::Trace(Trace {
        src: SOURCE.into(),
        dst: target.parse().unwrap(),
        options: Arc::new(options),
    })
}

/// Traces `target` alone and returns the record and how long it took.
pub(crate) fn trace(
    world: &mut World,
    target: &str,
    options: TraceOptions,
) -> (plumb_record::Trace, Duration) {
    let mut engine = Engine::new(unlimited(), 7);
    let start = Instant::from_millis(1000);
    engine.start(trace_job(target, options), start).unwrap();
    let (events, now) = drive(&mut engine, world, start, Duration::from_secs(600));
    assert_eq!(engine.active(), 0, "the trace has ended");
    let trace = events
        .into_iter()
        .find_map(|e| match e {
            Event::Trace { trace, .. } => Some(*trace),
            Event::Hop { .. } | Event::PingReply { .. } | Event::Ping { .. } => None,
        })
        .unwrap();
    let took = Duration::from_nanos(trace.duration_ns);
    assert!(took <= now.since(start));
    (trace, took)
}

pub(crate) fn addrs(hops: &[Hop]) -> Vec<String> {
    hops.iter()
        .map(|h| h.addr.map_or("*".into(), |a| a.to_string()))
        .collect()
}

/// A tunnel in one line: ingress > routers (method step) > egress.
pub(crate) fn line(t: &Tunnel) -> String {
    let name = |a: Option<IpAddr>| a.map_or("*".into(), |a| a.to_string());
    let mut line = format!("{:?}/{:?} {}", t.kind, t.trigger, name(t.ingress));
    for lsr in t.lsrs.iter().chain(&t.hidden_egress) {
        line += &format!(" > {}", name(lsr.addr));
        if lsr.method != LsrMethod::Seen {
            line += &format!(" {:?}{}", lsr.method, lsr.step);
        }
    }
    if t.hidden_egress.is_none() {
        line += &format!(" > {}", name(t.egress));
    }
    format!(
        "{line}, {:?}{}",
        t.revelation,
        if t.complete { "" } else { ", incomplete" }
    )
}

pub(crate) fn udp_ports(bytes: &[u8]) -> (u16, u16) {
    let packet = Packet::parse(bytes).unwrap();
    let (header, _) = udp::Header::parse(packet.transport).unwrap();
    (header.src_port, header.dst_port)
}

pub(crate) fn family(bytes: &[u8]) -> Family {
    Packet::parse(bytes).unwrap().family()
}

pub(crate) const COMPLETED: StopReason = StopReason::Completed;
