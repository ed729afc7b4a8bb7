//! Probes as an engine writes them.

#![allow(dead_code, reason = "no test file needs all of it")]

use core::net::IpAddr;

use plumb_wire::icmp::{Family, Kind};
use plumb_wire::{Checksum, ipv4, ipv6, protocol, udp};

/// A probe of a flow; its ICMP checksum is `flow`, or its UDP checksum is `seq`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) flow: u16,
    pub(crate) seq: u16,
    pub(crate) ttl: u8,
}

/// Bytes behind the ICMP or UDP header.
const PAYLOAD: usize = 16;

impl Probe {
    /// An ICMP echo request.
    pub(crate) fn echo(&self) -> Vec<u8> {
        let family = Family::of(self.dst);
        let mut t = vec![0; 8 + PAYLOAD];
        let (protocol, start) = match family {
            Family::V4 => (protocol::ICMP, Checksum::new()),
            Family::V6 => (protocol::ICMPV6, self.pseudo(protocol::ICMPV6, t.len())),
        };
        t[0] = Kind::EchoRequest.number(family);
        t[4..6].copy_from_slice(&self.flow.to_be_bytes());
        t[6..8].copy_from_slice(&self.seq.to_be_bytes());
        let word = start.bytes(&t).compensate(self.flow);
        t[8..10].copy_from_slice(&word.to_be_bytes());
        t[2..4].copy_from_slice(&self.flow.to_be_bytes());
        self.packet(protocol, &t)
    }

    /// A UDP datagram.
    pub(crate) fn udp(&self) -> Vec<u8> {
        let mut t = vec![0; 8 + PAYLOAD];
        udp::Header {
            src_port: self.flow,
            dst_port: 33_435,
            len: u16::try_from(t.len()).unwrap(),
            checksum: 0,
        }
        .emit(&mut t);
        let start = self.pseudo(protocol::UDP, t.len());
        let word = start.bytes(&t).compensate(self.seq);
        t[8..10].copy_from_slice(&word.to_be_bytes());
        t[6..8].copy_from_slice(&self.seq.to_be_bytes());
        self.packet(protocol::UDP, &t)
    }

    fn pseudo(&self, protocol: u8, len: usize) -> Checksum {
        Checksum::new().pseudo_header(self.src, self.dst, protocol, len)
    }

    /// The IP packet around a transport header and payload.
    pub(crate) fn packet(&self, protocol: u8, transport: &[u8]) -> Vec<u8> {
        let len = u16::try_from(transport.len()).unwrap();
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let mut packet = vec![0; 20];
                ipv4::Header {
                    tos: 0x28,
                    total_len: 20 + len,
                    ident: self.seq,
                    flags_fragment: ipv4::DONT_FRAGMENT,
                    ttl: self.ttl,
                    protocol,
                    src,
                    dst,
                }
                .emit(&mut packet);
                [&packet, transport].concat()
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let mut packet = vec![0; 40];
                ipv6::Header {
                    traffic_class: 0x28,
                    flow_label: u32::from(self.flow),
                    payload_len: len,
                    next_header: protocol,
                    hop_limit: self.ttl,
                    src,
                    dst,
                }
                .emit(&mut packet);
                [&packet, transport].concat()
            }
            _ => panic!("addresses of one family"),
        }
    }
}
