//! The interface on a device without a network.

mod answers;
mod hostile;
mod neighbors;
mod packets;

use std::collections::VecDeque;
use std::vec;
use std::vec::Vec;

use plumb_sim::{Hub, Topology};
use plumb_wire::icmp::{Family, Message};
use plumb_wire::packet::Packet;
use plumb_wire::{Engine as _, icmp, protocol};
use proptest::prelude::*;

use super::super::Prefix;
use super::super::neighbors::{MOST_NEIGHBORS, MOST_WAITING};
use super::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const GATEWAY: [u8; 6] = [2, 0, 0, 0, 0, 1];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// A device without a network.
#[derive(Debug, Default)]
struct Wire {
    queue: Vec<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    arrived: VecDeque<Vec<u8>>,
    full: bool,
}

impl Nic for Wire {
    fn mac(&self) -> [u8; 6] {
        MAC
    }

    fn mtu(&self) -> usize {
        1500
    }

    fn transmit(&mut self, frame: &[u8]) -> bool {
        if !self.full {
            self.queue.push(frame.to_vec());
        }
        !self.full
    }

    fn flush(&mut self) {
        self.sent.append(&mut self.queue);
    }

    fn receive(&mut self, take: &mut dyn FnMut(&[u8])) -> bool {
        let frame = self.arrived.pop_front();
        frame.iter().for_each(|frame| take(frame));
        frame.is_some()
    }

    fn dropped(&self) -> u64 {
        0
    }
}

fn config() -> Config {
    Config {
        v4: Some(Prefix {
            address: Ipv4Addr::new(10, 0, 0, 2),
            len: 16,
        }),
        gateway_v4: Some(Ipv4Addr::new(10, 0, 0, 1)),
        v6: Some(Prefix {
            address: v6("fd00::2"),
            len: 64,
        }),
        gateway_v6: Some(v6("fe80::1")),
    }
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn ms(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn interface() -> Interface<Wire> {
    Interface::new(Wire::default(), config())
}

/// An echo message in a packet.
fn echo(src: IpAddr, dst: IpAddr, kind: icmp::Kind) -> Vec<u8> {
    let family = Family::of(dst);
    let mut message = vec![kind.number(family), 0, 0, 0, 1, 2, 3, 4, 5];
    let (IpAddr::V4(src), IpAddr::V4(dst)) = (src, dst) else {
        let (IpAddr::V6(src), IpAddr::V6(dst)) = (src, dst) else {
            panic!("two families");
        };
        icmp::fill_checksum_v6(src, dst, &mut message);
        let mut packet = vec![0; 40];
        let header = ipv6::Header {
            traffic_class: 0,
            flow_label: 0,
            payload_len: 9,
            next_header: protocol::ICMPV6,
            hop_limit: 9,
            src,
            dst,
        };
        header.emit(&mut packet);
        packet.extend(message);
        return packet;
    };
    icmp::fill_checksum_v4(&mut message);
    let mut packet = vec![0; 20];
    let header = ipv4::Header {
        tos: 0,
        total_len: 29,
        ident: 0,
        flags_fragment: 0,
        ttl: 9,
        protocol: protocol::ICMP,
        src,
        dst,
    };
    header.emit(&mut packet);
    packet.extend(message);
    packet
}

fn probe(dst: &str) -> Vec<u8> {
    let dst: IpAddr = dst.parse().unwrap();
    let src = if dst.is_ipv4() { "10.0.0.2" } else { "fd00::2" };
    echo(src.parse().unwrap(), dst, icmp::Kind::EchoRequest)
}

fn framed(src: [u8; 6], dst: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; HEADER_LEN];
    let header = ethernet::Header {
        dst,
        src,
        ethertype,
    };
    header.emit(&mut frame);
    frame.extend(payload);
    frame
}

fn arp_frame(operation: arp::Operation, sender: &str, mac: [u8; 6], target: &str) -> Vec<u8> {
    let mut payload = vec![0; 46];
    let packet = arp::Packet {
        operation,
        sender_mac: mac,
        sender: sender.parse().unwrap(),
        target_mac: MAC,
        target: target.parse().unwrap(),
    };
    packet.emit(&mut payload);
    framed(mac, MAC, ethertype::ARP, &payload)
}

fn arp_reply(sender: &str, mac: [u8; 6]) -> Vec<u8> {
    arp_frame(arp::Operation::Reply, sender, mac, "10.0.0.2")
}

fn ndp_frame(message: ndp::Message, src: &str, dst: &str) -> Vec<u8> {
    let mut packet = vec![0; ndp::MAX_PACKET_LEN];
    let len = message.emit_packet(v6(src), v6(dst), &mut packet);
    framed(OTHER, MAC, ethertype::IPV6, &packet[..len])
}

impl Interface<Wire> {
    /// What leaves with a flush.
    fn leaves(&mut self) -> Vec<Vec<u8>> {
        self.flush();
        core::mem::take(&mut self.nic.sent)
    }

    /// Lets frames arrive; what the engine is given of them.
    fn arrives(&mut self, now: Instant, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        self.nic.arrived.extend(frames.iter().cloned());
        while self.receive(now, &mut |packet| packets.push(packet.to_vec())) {}
        packets
    }

    fn fates(&mut self) -> Vec<(u64, Fate)> {
        let fates = core::iter::from_fn(|| self.poll_fate());
        fates.map(|(probe, fate)| (probe.0, fate)).collect()
    }

    /// Sends the probe with this number.
    fn sends(&mut self, number: u64, dst: &str, now: Instant) -> Fate {
        self.transmit(ProbeId(number), &probe(dst), now)
    }

    /// With a gateway that is known, and nothing under way.
    fn settled() -> Self {
        let mut link = interface();
        assert_eq!(link.sends(0, "5.0.0.1", ms(0)), Fate::Waiting);
        for round in 0..5 {
            link.arrives(ms(round), &[arp_reply("10.0.0.1", GATEWAY)]);
        }
        assert_eq!(link.fates(), [(0, Fate::Queued)]);
        link.leaves();
        assert_eq!(link.poll_timeout(), None);
        link
    }
}

fn arp_of(frame: &[u8]) -> (ethernet::Header, arp::Packet) {
    let (header, payload) = ethernet::Header::parse(frame).unwrap();
    assert_eq!(header.ethertype, ethertype::ARP);
    assert_eq!(header.src, MAC);
    (header, arp::Packet::parse(payload).unwrap())
}

fn ndp_of(frame: &[u8]) -> (ethernet::Header, ipv6::Header, ndp::Message) {
    let (header, payload) = ethernet::Header::parse(frame).unwrap();
    let (ip, rest) = ipv6::Header::parse(payload).unwrap();
    (header, ip, ndp::Message::parse(&ip, rest).unwrap())
}
