//! An engine behind a TUN device, and the kernel's programs before it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod router;

use core::net::IpAddr;
use core::time::Duration;
use std::process::Command;

use plumb_link::{Clock, Observer, Tun, TunOptions, Turn, run};
use plumb_wire::icmp::{self, Kind, Message};
use plumb_wire::packet::Packet;
use plumb_wire::{Engine, Instant, ProbeId, SendError, Transmit};

use router::script::packet;
use router::{in_private_network, skip};

/// Answers every echo request, as a host behind a TUN device would.
#[derive(Default)]
struct Responder {
    replies: Vec<Vec<u8>>,
    answered: usize,
}

impl Engine for Responder {
    type Event = ();

    fn handle_packet(&mut self, _at: Instant, bytes: &[u8]) {
        let Ok(request) = Packet::parse(bytes) else {
            return;
        };
        let Ok(message) = Message::parse(request.family(), request.transport) else {
            return;
        };
        if message.kind != Kind::EchoRequest {
            return;
        }
        let mut reply = request.transport.to_vec();
        reply[0] = Kind::EchoReply.number(request.family());
        match (request.dst, request.src) {
            (IpAddr::V6(src), IpAddr::V6(dst)) => icmp::fill_checksum_v6(src, dst, &mut reply),
            _ => icmp::fill_checksum_v4(&mut reply),
        }
        let reply = packet(request.dst, request.src, 61, request.protocol, &reply);
        self.replies.push(reply);
    }

    fn handle_sent(&mut self, _probe: ProbeId, _at: Instant) {
        self.answered += 1;
    }

    fn handle_send_error(&mut self, _probe: ProbeId, _at: Instant, _error: SendError) {}

    fn handle_timeout(&mut self, _now: Instant) {}

    fn poll_transmit(&mut self, _now: Instant, into: &mut [u8]) -> Option<Transmit> {
        let reply = self.replies.pop()?;
        into[..reply.len()].copy_from_slice(&reply);
        Some(Transmit {
            len: reply.len(),
            probe: ProbeId(0),
        })
    }

    fn poll_event(&mut self) -> Option<()> {
        None
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

/// Counts packets in each direction.
#[derive(Default)]
struct Counter {
    sent: usize,
    received: usize,
}

impl Observer for Counter {
    fn sent(&mut self, _at: Instant, _packet: &[u8]) {
        self.sent += 1;
    }

    fn received(&mut self, _at: Instant, _packet: &[u8]) {
        self.received += 1;
    }
}

#[test]
fn root_programs_reach_an_engine_behind_a_tun_device() {
    in_private_network(|| {
        let options = TunOptions {
            name: "uplink".to_owned(),
            v4: Some(([5, 0, 0, 1].into(), 24)),
            v6: Some(("2a0b:5000::1".parse().unwrap(), 64)),
            ..TunOptions::default()
        };
        let mut tun = match Tun::create(&options) {
            Ok(tun) => tun,
            Err(error) => return skip(&error.to_string()),
        };
        assert_eq!(tun.name(), "uplink");
        let clock = Clock::new();
        for target in ["9.9.9.9", "2620:fe::fe"] {
            let mut ping = Command::new("ping")
                .args(["-q", "-c", "5", "-i", "0.01", "-W", "2", target])
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap();
            let mut responder = Responder::default();
            let mut counter = Counter::default();
            let mut status = None;
            run(
                &mut responder,
                &mut tun,
                &clock,
                &[],
                &mut counter,
                |_, now| {
                    status = ping.try_wait().unwrap();
                    match status {
                        Some(_) => Turn::Stop,
                        None => Turn::Continue {
                            wake_at: Some(now + Duration::from_millis(5)),
                        },
                    }
                },
            )
            .unwrap();
            assert!(status.unwrap().success(), "{target} did not answer");
            assert_eq!(responder.answered, 5, "{target}");
            assert_eq!(counter.sent, 5);
            assert!(counter.received >= 5);
        }
    });
}
