//! The unikernel's link layer, with bytes in charge of frames, probes and time.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use std::collections::VecDeque;

use plumb_unikernel::link::{Fate, Link};
use plumb_unikernel::net::{Config, Interface, Prefix};
use plumb_unikernel::platform::Nic;
use plumb_wire::ethernet::{self, HEADER_LEN, ethertype};
use plumb_wire::{Instant, ProbeId, arp, ipv4, ipv6, ndp};

use crate::bytes::Bytes;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const MTU: usize = 1500;

/// A device whose queue may be full.
#[derive(Debug, Default)]
struct Wire {
    sent: Vec<Vec<u8>>,
    arrived: VecDeque<Vec<u8>>,
    full: bool,
}

impl Nic for Wire {
    fn mac(&self) -> [u8; 6] {
        MAC
    }

    fn mtu(&self) -> usize {
        MTU
    }

    fn transmit(&mut self, frame: &[u8]) -> bool {
        if !self.full {
            self.sent.push(frame.to_vec());
        }
        !self.full
    }

    fn flush(&mut self) {}

    fn receive(&mut self, take: &mut dyn FnMut(&[u8])) -> bool {
        let frame = self.arrived.pop_front();
        frame.iter().for_each(|frame| take(frame));
        frame.is_some()
    }

    fn dropped(&self) -> u64 {
        0
    }
}

/// Frames, probes and time in any order.
///
/// # Panics
/// If the link layer breaks a promise.
pub fn interface(data: &[u8]) {
    let mut bytes = Bytes(data);
    let shape = bytes.next();
    let part = |bit: u8| shape & bit != 0;
    let config = Config {
        v4: part(1).then_some(Prefix {
            address: V4,
            len: bytes.next(),
        }),
        gateway_v4: part(2).then_some(Ipv4Addr::new(10, 0, 0, 1)),
        v6: part(4).then_some(Prefix {
            address: V6,
            len: bytes.next(),
        }),
        gateway_v6: part(8).then_some(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)),
    };
    let mut link = Interface::new(Wire::default(), config);
    let mut now = Instant::from_millis(1);
    link.start(now);
    let mut waiting = Vec::new();
    let mut next = 0;
    while !bytes.0.is_empty() {
        match bytes.next() % 6 {
            0 => {
                now = now + Duration::from_millis(bytes.word().into());
                link.handle_timeout(now);
                let due = link.poll_timeout();
                assert!(due.is_none_or(|due| due > now), "the link is always late");
            }
            1 => {
                next += 1;
                if link.transmit(ProbeId(next), &probe(&mut bytes), now) == Fate::Waiting {
                    waiting.push(next);
                }
            }
            2 => {
                let full = bytes.next().is_multiple_of(4);
                link.nic_mut().full = full;
            }
            kind => {
                let frame = frame(&mut bytes, kind);
                link.nic_mut().arrived.push_back(frame);
                while link.receive(now, &mut |packet| check_packet(packet)) {}
            }
        }
        while let Some((probe, fate)) = link.poll_fate() {
            assert!(matches!(fate, Fate::Queued | Fate::Failed(_)));
            let at = waiting.iter().position(|waits| *waits == probe.0);
            let at = at.expect("a packet that does not wait");
            waiting.remove(at);
        }
        link.nic_mut().sent.drain(..).for_each(|f| check_frame(&f));
    }
    // What waits comes to an end by itself.
    link.nic_mut().full = false;
    while let Some(due) = link.poll_timeout() {
        now = now.max(due);
        link.handle_timeout(now);
    }
    while let Some((probe, _)) = link.poll_fate() {
        waiting.retain(|waits| *waits != probe.0);
    }
    assert!(waiting.is_empty(), "a packet waits for ever");
}

fn check_packet(packet: &[u8]) {
    let dst: IpAddr = match packet[0] >> 4 {
        4 => ipv4::Header::parse(packet).expect("a header").0.dst.into(),
        _ => ipv6::Header::parse(packet).expect("a header").0.dst.into(),
    };
    let own = [V4.into(), V6.into(), ndp::link_local(MAC).into()];
    assert!(own.contains(&dst), "the engine is given another's packet");
}

fn check_frame(frame: &[u8]) {
    let (header, _) = ethernet::Header::parse(frame).expect("a header");
    assert_eq!(header.src, MAC, "the machine speaks for another");
    assert!(frame.len() <= HEADER_LEN + MTU);
}

/// Any bytes, or a packet to one of a few neighbours or beyond.
fn probe(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let [kind, host, net] = [bytes.next(), bytes.next(), bytes.next()];
    let mut packet = vec![0; 60];
    match kind % 3 {
        0 => {
            let header = ipv4::Header {
                tos: 0,
                total_len: 60,
                ident: 0,
                flags_fragment: 0,
                ttl: 1,
                protocol: 1,
                src: V4,
                dst: Ipv4Addr::new(10, 0, net, host),
            };
            header.emit(&mut packet);
        }
        1 => {
            let header = ipv6::Header {
                traffic_class: 0,
                flow_label: 0,
                payload_len: 20,
                next_header: 58,
                hop_limit: 1,
                src: V6,
                dst: Ipv6Addr::new(0xfd00, 0, 0, net.into(), 0, 0, 0, host.into()),
            };
            header.emit(&mut packet);
        }
        _ => packet = bytes.take(host.into()).to_vec(),
    }
    packet
}

/// A frame that is right but for a few bytes, or one that is not.
fn frame(bytes: &mut Bytes<'_>, kind: u8) -> Vec<u8> {
    let host = bytes.next();
    let other = [2, 0, 0, 0, 1, host];
    let mut frame = vec![0; HEADER_LEN + ndp::MAX_PACKET_LEN];
    let mut ethertype = ethertype::ARP;
    match kind {
        3 => {
            let packet = arp::Packet {
                operation: match bytes.next() % 2 {
                    0 => arp::Operation::Request,
                    _ => arp::Operation::Reply,
                },
                sender_mac: other,
                sender: Ipv4Addr::new(10, 0, bytes.next() % 2, host),
                target_mac: MAC,
                target: V4,
            };
            packet.emit(&mut frame[HEADER_LEN..]);
        }
        4 => {
            ethertype = ethertype::IPV6;
            let src = match bytes.next() % 3 {
                0 => Ipv6Addr::UNSPECIFIED,
                1 => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, host.into()),
                _ => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host.into()),
            };
            let flags = bytes.next();
            let mac = (flags & 8 != 0).then_some(other);
            let message = if flags & 16 != 0 {
                ndp::Message::Solicitation(ndp::Solicitation {
                    target: if flags & 1 != 0 { V6 } else { src },
                    source_mac: mac,
                })
            } else {
                ndp::Message::Advertisement(ndp::Advertisement {
                    target: src,
                    router: false,
                    solicited: flags & 2 != 0,
                    overrides: flags & 4 != 0,
                    target_mac: mac,
                })
            };
            let len = message.emit_packet(src, V6, &mut frame[HEADER_LEN..]);
            frame.truncate(HEADER_LEN + len);
        }
        _ => {
            ethertype = [ethertype::IPV4, ethertype::IPV6, bytes.word()][usize::from(host % 3)];
            let len = bytes.word() % 1600;
            frame.truncate(HEADER_LEN);
            frame.extend(bytes.take(len.into()));
        }
    }
    let header = ethernet::Header {
        dst: MAC,
        src: other,
        ethertype,
    };
    header.emit(&mut frame);
    for _ in 0..bytes.next() % 4 {
        let [at, by] = [bytes.next(), bytes.next()];
        let len = frame.len();
        frame[usize::from(at) % len] = by;
    }
    frame
}
