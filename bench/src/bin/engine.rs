//! What the probing engine itself costs: no kernel, no network. Every probe is answered at once by
//! a path of five routers and the target; prints nanoseconds and heap bytes per probe and trace.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "it prints its measurements")]

use core::net::{IpAddr, Ipv4Addr};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time;

use plumb_probe::{Config, Engine, Event, Job, Trace, TraceOptions};
use plumb_wire::{Engine as _, Instant, icmp, ipv4};

const HOPS: u8 = 6;

/// Writes the reply to an ICMP probe.
fn reply(probe: &[u8], into: &mut [u8; 128]) -> usize {
    let ttl = probe[8];
    let dst = Ipv4Addr::new(probe[16], probe[17], probe[18], probe[19]);
    let (src, len) = if ttl < HOPS {
        into[20..28].fill(0);
        into[20] = 11;
        into[28..28 + 28].copy_from_slice(&probe[..28]);
        into[28 + 8] = 1;
        (Ipv4Addr::new(5, 0, ttl, 1), 56)
    } else {
        into[20..probe.len()].copy_from_slice(&probe[20..]);
        into[20] = 0;
        (dst, probe.len())
    };
    icmp::fill_checksum_v4(&mut into[20..len]);
    let header = ipv4::Header {
        tos: 0,
        total_len: u16::try_from(len).unwrap_or(0),
        ident: 1,
        flags_fragment: 0,
        ttl: 255 - ttl,
        protocol: 1,
        src,
        dst: Ipv4Addr::new(probe[12], probe[13], probe[14], probe[15]),
    };
    header.emit(into);
    len
}

fn main() {
    let argument = |n: usize, default: u32| -> u32 {
        std::env::args()
            .nth(n)
            .and_then(|a| a.parse().ok())
            .unwrap_or(default)
    };
    let (targets, window, write) = (
        argument(1, 200_000),
        argument(2, 10_000),
        argument(3, 1) == 1,
    );
    let config = Config {
        rate: None,
        window: window as usize,
        ..Config::default()
    };
    let mut engine = Engine::new(config, 1);
    let options = Arc::new(TraceOptions::default());
    let src: IpAddr = [5, 255, 0, 2].into();
    let mut next = 0u32;
    let mut clock = 0u64;
    let (mut finished, mut bytes) = (0u32, 0usize);
    let mut queue: VecDeque<([u8; 128], usize)> = VecDeque::new();
    let (mut probe, mut line) = ([0; 1500], Vec::new());
    let begin = time::Instant::now();
    while finished < targets {
        let now = Instant::from_nanos(clock);
        while next < targets && engine.has_room() {
            let dst = Ipv4Addr::from_bits(0x0600_0000 + next).into();
            let options = Arc::clone(&options);
            if engine
                .start(Job::Trace(Trace { src, dst, options }), now)
                .is_err()
            {
                break;
            }
            next += 1;
        }
        for _ in 0..64 {
            let Some(transmit) = engine.poll_transmit(now, &mut probe) else {
                break;
            };
            engine.handle_sent(transmit.probe, now);
            let mut packet = [0; 128];
            let len = reply(&probe[..transmit.len], &mut packet);
            queue.push_back((packet, len));
        }
        clock += 10_000;
        // Answers come when a window's worth of probes is out.
        while queue.len() > window as usize / 2
            || (!queue.is_empty() && engine.poll_timeout().is_none_or(|t| t > now))
        {
            let Some((packet, len)) = queue.pop_front() else {
                break;
            };
            engine.handle_packet(Instant::from_nanos(clock), &packet[..len]);
        }
        engine.handle_timeout(Instant::from_nanos(clock));
        while let Some(event) = engine.poll_event() {
            if let Event::Trace { trace, .. } = event {
                finished += 1;
                assert_eq!(trace.hops.len(), usize::from(HOPS));
                if write {
                    line.clear();
                    if serde_json::to_writer(&mut line, &trace).is_ok() {
                        bytes += line.len();
                    }
                }
            }
        }
    }
    let took = begin.elapsed();
    let sent = engine.stats().sent;
    println!(
        "{targets} traces of {HOPS} hops, {window} at once: {sent} probes in {took:.3?}, {:.0} ns a probe, {:.0} kpps, {} JSON bytes a trace",
        took.as_nanos() as f64 / sent as f64,
        sent as f64 / took.as_secs_f64() / 1e3,
        bytes / targets as usize,
    );
}
