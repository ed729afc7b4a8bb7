//! Probe packets, and what of them comes back in a quote.

use core::net::IpAddr;

use plumb_record::Method;
use plumb_wire::icmp::{Family, Kind};
use plumb_wire::{Checksum, icmp, ipv4, ipv6, protocol, tcp, udp};

/// One probe, ready to be written.
///
/// Constant within a trace: addresses, TOS, flow label, and the first four bytes of the transport
/// header (ports, or ICMP type, code and checksum) with the ICMP identifier. Different in each:
/// TTL, IP identification, and `seq`, which is the ICMP sequence number, the UDP checksum or the
/// low half of the TCP sequence number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub(crate) method: Method,
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) flow: u16,
    pub(crate) dst_port: u16,
    pub(crate) seq: u16,
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
    /// Wished length in bytes with IP header; at least what the method needs is written.
    pub(crate) size: u16,
}

/// Least bytes behind the ICMP or UDP header: one word that compensates the checksum.
const COMPENSATION: usize = 2;

/// Longest probe: what a driver's buffer holds.
const LONGEST: usize = 1500;

/// Bytes behind the headers if no size was wished: as scamper's probes, 44 bytes over IPv4.
const USUAL_PAYLOAD: usize = 16;

impl Probe {
    /// Writes the packet and returns its length.
    ///
    /// `into` holds at least 1500 bytes.
    pub(crate) fn emit(&self, into: &mut [u8]) -> usize {
        let ip_len = match self.dst {
            IpAddr::V4(_) => ipv4::HEADER_LEN,
            IpAddr::V6(_) => ipv6::HEADER_LEN,
        };
        let (header, least) = match self.method {
            Method::IcmpParis => (icmp::HEADER_LEN, icmp::HEADER_LEN + COMPENSATION),
            Method::UdpParis => (udp::HEADER_LEN, udp::HEADER_LEN + COMPENSATION),
            Method::TcpParis => (tcp::HEADER_LEN, tcp::HEADER_LEN),
        };
        let wished = match (self.size, self.method) {
            (0, Method::TcpParis) => header,
            (0, _) => header + USUAL_PAYLOAD,
            (size, _) => usize::from(size).saturating_sub(ip_len),
        };
        let len = wished.clamp(least, LONGEST - ip_len);
        let (ip, rest) = into.split_at_mut(ip_len);
        let transport = &mut rest[..len];
        transport.fill(0);
        let protocol = self.emit_transport(transport);
        self.emit_ip(ip, protocol, len);
        ip_len + len
    }

    fn emit_ip(&self, into: &mut [u8], protocol: u8, len: usize) {
        // At most 1500.
        let len16 = u16::try_from(len).unwrap_or(u16::MAX);
        match (self.src, self.dst) {
            (IpAddr::V6(src), IpAddr::V6(dst)) => ipv6::Header {
                traffic_class: self.tos,
                flow_label: u32::from(self.flow),
                payload_len: len16,
                next_header: protocol,
                hop_limit: self.ttl,
                src,
                dst,
            }
            .emit(into),
            (src, dst) => ipv4::Header {
                tos: self.tos,
                total_len: len16 + 20,
                ident: self.seq,
                flags_fragment: ipv4::DONT_FRAGMENT,
                ttl: self.ttl,
                protocol,
                src: v4(src),
                dst: v4(dst),
            }
            .emit(into),
        }
    }

    fn emit_transport(&self, t: &mut [u8]) -> u8 {
        let pseudo =
            |protocol| Checksum::new().pseudo_header(self.src, self.dst, protocol, t.len());
        match self.method {
            Method::IcmpParis => {
                let family = Family::of(self.dst);
                let (protocol, start) = match family {
                    Family::V4 => (protocol::ICMP, Checksum::new()),
                    Family::V6 => (protocol::ICMPV6, pseudo(protocol::ICMPV6)),
                };
                t[0] = Kind::EchoRequest.number(family);
                t[4..6].copy_from_slice(&self.flow.to_be_bytes());
                t[6..8].copy_from_slice(&self.seq.to_be_bytes());
                let word = start.bytes(t).compensate(self.flow);
                t[8..10].copy_from_slice(&word.to_be_bytes());
                t[2..4].copy_from_slice(&self.flow.to_be_bytes());
                protocol
            }
            Method::UdpParis => {
                let start = pseudo(protocol::UDP);
                udp::Header {
                    src_port: self.flow,
                    dst_port: self.dst_port,
                    len: u16::try_from(t.len()).unwrap_or(u16::MAX),
                    checksum: 0,
                }
                .emit(t);
                let word = start.bytes(t).compensate(self.seq);
                t[8..10].copy_from_slice(&word.to_be_bytes());
                t[6..8].copy_from_slice(&self.seq.to_be_bytes());
                protocol::UDP
            }
            Method::TcpParis => {
                let start = pseudo(protocol::TCP);
                tcp::Header {
                    src_port: self.flow,
                    dst_port: self.dst_port,
                    seq: u32::from(self.flow) << 16 | u32::from(self.seq),
                    ack: 0,
                    flags: tcp::SYN,
                    window: 0xffff,
                    checksum: 0,
                }
                .emit(t);
                let sum = start.bytes(t).finish();
                t[16..18].copy_from_slice(&sum.to_be_bytes());
                protocol::TCP
            }
        }
    }
}

/// The address of a probe whose destination is IPv4; a job of mixed families is refused.
const fn v4(address: IpAddr) -> core::net::Ipv4Addr {
    match address {
        IpAddr::V4(a) => a,
        IpAddr::V6(_) => core::net::Ipv4Addr::UNSPECIFIED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plumb_wire::packet::Packet;
    use proptest::prelude::*;

    const METHODS: [Method; 3] = [Method::IcmpParis, Method::UdpParis, Method::TcpParis];

    proptest! {
        /// What load balancers hash (RFC 2992 practice: addresses, protocol, first four bytes)
        /// does not change within a trace, every checksum is right, and the quote names the probe.
        #[test]
        fn probes_of_a_trace_are_one_flow_with_right_checksums(
            method in 0..3usize, v6: bool, flow in 0x8000..0xffffu16, seq in 1..0xffffu16, other in 1..0xffffu16,
            ttl: u8, size in 0..1600u16, a: u128, b: u128, c: u32, d: u32,
        ) {
            let (src, dst) = if v6 {
                (IpAddr::from(a.to_be_bytes()), IpAddr::from(b.to_be_bytes()))
            } else {
                (IpAddr::from(c.to_be_bytes()), IpAddr::from(d.to_be_bytes()))
            };
            let probe = Probe { method: METHODS[method], src, dst, flow, dst_port: 33_435, seq, ttl, tos: 0x28, size };
            let mut bytes = [0xee; 1500];
            let len = probe.emit(&mut bytes);
            let packet = Packet::parse(&bytes[..len]).unwrap();
            prop_assert_eq!((packet.len, packet.ttl, packet.src, packet.dst, packet.tos), (len, ttl, src, dst, 0x28));
            let sum = match (v6, probe.method) {
                (false, Method::IcmpParis) => Checksum::new(),
                _ => Checksum::new().pseudo_header(src, dst, packet.protocol, packet.transport.len()),
            };
            prop_assert_eq!(sum.bytes(packet.transport).finish(), 0);
            let mut second = [0; 1500];
            let len = Probe { seq: other, ttl: ttl.wrapping_add(1), ..probe }.emit(&mut second);
            let again = Packet::parse(&second[..len]).unwrap();
            prop_assert_eq!(&packet.transport[..4], &again.transport[..4]);
            prop_assert_eq!(packet.protocol, again.protocol);
            if v6 { prop_assert_eq!(&bytes[..4], &second[..4]); }
        }
    }
}
