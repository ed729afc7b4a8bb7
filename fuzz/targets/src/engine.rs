//! The probing engine alone, with bytes in charge of everything that happens to it.

use core::net::IpAddr;
use core::time::Duration;
use std::sync::Arc;

use plumb_probe::{
    Config, Engine, Headers, Job, JobId, Ping, PingOptions, Reveal, Trace, TraceOptions,
    TunnelOptions,
};
use plumb_record::Method;
use plumb_wire::{Engine as _, Instant, ProbeId, SendError};

use crate::bytes::Bytes;

/// Packets that the engine sent, for replies that fit them.
const REMEMBERED: usize = 32;

/// Jobs, packets, times and failures in any order.
///
/// # Panics
/// If the engine breaks a promise.
pub fn engine(data: &[u8]) {
    let mut bytes = Bytes(data);
    let rate = Some(u32::from(bytes.next()) * 100).filter(|rate| *rate > 0);
    let shape = bytes.next();
    let config = Config {
        rate,
        window: usize::from(shape % 8) + 1,
        cache_lifetime: Duration::from_millis(bytes.word().into()),
        cache_entries: usize::from(bytes.next()),
        headers: if shape & 0x80 == 0 {
            Headers::Received
        } else {
            Headers::Rebuilt
        },
    };
    let mut engine = Engine::new(config, u64::from(bytes.next()));
    let mut now = Instant::from_millis(1);
    let mut jobs: Vec<JobId> = Vec::new();
    let mut sent: Vec<(ProbeId, Vec<u8>)> = Vec::new();
    let mut buffer = [0; 1500];
    while !bytes.0.is_empty() {
        match bytes.next() % 8 {
            0 => jobs.extend(engine.start(job(&mut bytes), now)),
            1 => {
                if let Some(job) = jobs.pop() {
                    engine.stop(job, now);
                }
            }
            2 | 3 => {
                now = now + Duration::from_millis(bytes.word().into());
                engine.handle_timeout(now);
            }
            4 => {
                let len = usize::from(bytes.next());
                let (packet, rest) = bytes.0.split_at(len.min(bytes.0.len()));
                bytes.0 = rest;
                engine.handle_packet(now, packet);
            }
            5 => {
                let at = usize::from(bytes.next());
                let reply = sent.get(at).map(|(_, probe)| reply(&mut bytes, probe));
                reply
                    .into_iter()
                    .for_each(|r| engine.handle_packet(now, &r));
            }
            6 => {
                let at = usize::from(bytes.next());
                if let Some((probe, _)) = sent.get(at) {
                    engine.handle_send_error(*probe, now, SendError::Other);
                }
            }
            _ => {
                for _ in 0..64 {
                    let Some(transmit) = engine.poll_transmit(now, &mut buffer) else {
                        break;
                    };
                    engine.handle_sent(transmit.probe, now);
                    if sent.len() == REMEMBERED {
                        sent.remove(0);
                    }
                    sent.push((transmit.probe, buffer[..transmit.len].to_vec()));
                }
            }
        }
        while engine.poll_event().is_some() {}
        assert!(engine.active() <= 8);
    }
    jobs.into_iter().for_each(|job| engine.stop(job, now));
    assert_eq!(engine.active(), 0, "a job outlives its end");
    // What is left, shared revelations and pings, comes to rest by itself.
    for _ in 0..200_000 {
        while engine.poll_transmit(now, &mut buffer).is_some() {}
        let Some(next) = engine.poll_timeout() else {
            return;
        };
        now = now.max(next);
        engine.handle_timeout(now);
    }
    panic!("the engine does not come to rest");
}

fn job(bytes: &mut Bytes<'_>) -> Job {
    let v6 = bytes.next().is_multiple_of(4);
    let host = bytes.next();
    let address = |host: u8| match v6 {
        true => IpAddr::from([0x2a00, 0, 0, 0, 0, 0, 0, u16::from(host)]),
        false => IpAddr::from([5, 0, 0, host]),
    };
    let (src, dst) = (address(255), address(host));
    if bytes.next().is_multiple_of(4) {
        let options = PingOptions {
            count: Some(u32::from(bytes.next())),
            interval: Duration::from_millis(bytes.word().into()),
            wait: Duration::from_millis(bytes.word().into()),
            ttl: bytes.next(),
            tos: bytes.next(),
            size: bytes.word(),
            report_replies: true,
        };
        let options = Arc::new(options);
        return Job::Ping(Ping { src, dst, options });
    }
    let reveal = [Reveal::Auto, Reveal::Always, Reveal::Never][usize::from(bytes.next() % 3)];
    let tunnels = TunnelOptions {
        reveal,
        frpla_threshold: i16::from(bytes.next() % 5),
        rtla_threshold: i16::from(bytes.next() % 5),
        uturn_threshold: i16::from(bytes.next() % 5),
        opaque_ttl: bytes.next(),
        pings: bytes.next() % 4,
        first_only: bytes.next().is_multiple_of(2),
    };
    let methods = [Method::IcmpParis, Method::UdpParis, Method::TcpParis];
    let options = TraceOptions {
        method: methods[usize::from(bytes.next() % 3)],
        first_ttl: bytes.next() % 8,
        max_ttl: bytes.next(),
        attempts: bytes.next() % 17,
        gap_limit: bytes.next(),
        wait: Duration::from_millis(bytes.word().into()),
        parallel: bytes.next(),
        dst_port: bytes.word(),
        flow: (bytes.next().is_multiple_of(2)).then(|| bytes.word()),
        tos: bytes.next(),
        size: bytes.word(),
        tunnels: (!bytes.next().is_multiple_of(8)).then_some(tunnels),
        report_hops: bytes.next().is_multiple_of(2),
    };
    let options = Arc::new(options);
    Job::Trace(Trace { src, dst, options })
}

/// An ICMP error or an echo reply that answers `probe`, from an address and with a TTL, a quoted
/// TTL and a label of the bytes' choice.
fn reply(bytes: &mut Bytes<'_>, probe: &[u8]) -> Vec<u8> {
    let v6 = probe[0] >> 4 == 6;
    let header = if v6 { 40 } else { 20 };
    let mut ip = probe[..header].to_vec();
    // Back to the prober, from one of a few routers.
    if v6 {
        ip.copy_within(8..24, 24);
        ip[23] = bytes.next() % 8;
        ip[6] = 58;
        ip[7] = bytes.next();
    } else {
        ip.copy_within(12..16, 16);
        ip[15] = bytes.next() % 8;
        ip[9] = 1;
        ip[8] = bytes.next();
    }
    let mut message = match (bytes.next() % 4, v6) {
        (0, false) => vec![0, 0, 0, 0],
        (0, true) => vec![129, 0, 0, 0],
        (1, false) => vec![3, bytes.next() % 4, 0, 0],
        (1, true) => vec![1, bytes.next() % 5, 0, 0],
        (_, false) => vec![11, 0, 0, 0],
        (_, true) => vec![3, 0, 0, 0],
    };
    if matches!(message[0], 0 | 129) {
        message.extend(&probe[header + 4..]);
    } else {
        let mut quote = probe.to_vec();
        quote[if v6 { 7 } else { 8 }] = bytes.next() % 6;
        message.extend([0; 4]);
        if bytes.next().is_multiple_of(2) {
            quote.resize(128, 0);
            let [label, ttl] = [bytes.next(), bytes.next()];
            quote.extend([0x20, 0, 0, 0, 0, 8, 1, 1, 0, label, 1, ttl]);
        }
        message.extend(quote);
    }
    let len = u16::try_from(message.len() + if v6 { 0 } else { 20 }).unwrap_or(0);
    let at = if v6 { 4 } else { 2 };
    ip[at..at + 2].copy_from_slice(&len.to_be_bytes());
    ip.extend(message);
    ip
}
