//! IP packets rebuilt from what a socket delivers of them.
//!
//! Sockets without privilege deliver neither the IP header of a packet nor the one that an ICMP
//! error quotes. Both are written anew: addresses, TTL and TOS of the received packet are what the
//! kernel says, and its length follows from what was delivered if it had no IP options. What
//! nobody says is zero: identification, and TTL and TOS of the quote.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use plumb_wire::icmp::{self, Family};
use plumb_wire::icmp_ext::Extensions;
use plumb_wire::{ipv4, ipv6, protocol};

/// What is known of the IP header of a received packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outer {
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) ttl: u8,
    pub(super) tos: u8,
}

/// What is known of an ICMP error besides the addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Complaint {
    pub(super) kind: u8,
    pub(super) code: u8,
    /// MTU or pointer.
    pub(super) info: u32,
    /// Length of the quote in bytes by the length field of the message (RFC 4884); 0 if it does
    /// not say.
    pub(super) quote_len: usize,
}

/// The probe that an ICMP error quotes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quoted<'a> {
    pub(super) dst: IpAddr,
    /// Length of the probe in bytes, IP header included.
    pub(super) len: usize,
    pub(super) protocol: u8,
    /// Its transport header.
    pub(super) header: [u8; TRANSPORT_HEADER_LEN],
    /// The quote from there on, and the extensions.
    pub(super) payload: &'a [u8],
}

/// Length of an ICMP and of a UDP header.
pub(super) const TRANSPORT_HEADER_LEN: usize = 8;

/// Room that a rebuilt packet needs besides what was delivered.
pub(super) const HEADERS: usize = 2 * ipv6::HEADER_LEN + icmp::HEADER_LEN + TRANSPORT_HEADER_LEN;

/// Writes the packet of an echo reply, whose identifier becomes `flow`, and returns its length.
/// `None` if the message is too short.
pub(super) fn echo_reply(
    into: &mut [u8],
    outer: Outer,
    flow: u16,
    message: &[u8],
) -> Option<usize> {
    if message.len() < icmp::HEADER_LEN {
        return None;
    }
    let at = header_len(outer.dst);
    let packet = into.get_mut(..at + message.len())?;
    packet[at..].copy_from_slice(message);
    packet[at + 4..at + 6].copy_from_slice(&flow.to_be_bytes());
    Some(seal(packet, outer))
}

/// Writes the packet of an ICMP error and returns its length.
pub(super) fn error(
    into: &mut [u8],
    outer: Outer,
    complaint: Complaint,
    quoted: &Quoted<'_>,
) -> Option<usize> {
    let ip_len = header_len(outer.dst);
    let body_at = ip_len + icmp::HEADER_LEN;
    let transport_at = body_at + ip_len;
    let payload_at = transport_at + TRANSPORT_HEADER_LEN;
    let packet = into.get_mut(..payload_at + quoted.payload.len())?;
    packet[ip_len] = complaint.kind;
    packet[ip_len + 1] = complaint.code;
    let rest = &mut packet[ip_len + 4..body_at];
    rest.copy_from_slice(&complaint.info.to_be_bytes());
    // In 32-bit or 64-bit words (RFC 4884 §4).
    if complaint.quote_len > 0 {
        let (at, unit) = match Family::of(outer.dst) {
            Family::V4 => (1, 4),
            Family::V6 => (0, 8),
        };
        rest[at] = u8::try_from(complaint.quote_len / unit).unwrap_or(0);
    }
    let quoted_header = IpHeader {
        src: outer.dst,
        dst: quoted.dst,
        ttl: 0,
        tos: 0,
        protocol: quoted.protocol,
        len: quoted.len,
    };
    quoted_header.emit(&mut packet[body_at..]);
    packet[transport_at..payload_at].copy_from_slice(&quoted.header);
    packet[payload_at..].copy_from_slice(quoted.payload);
    Some(seal(packet, outer))
}

/// Where in what follows a quoted transport header extensions begin, if they prove it themselves.
///
/// The kernel passes on the length field only if it says 128 bytes or more, as RFC 4884 demands
/// and not all routers do.
pub(super) fn find_extensions(family: Family, payload: &[u8]) -> Option<usize> {
    let unit = match family {
        Family::V4 => 4,
        Family::V6 => 8,
    };
    let has_checksum = |at: &usize| payload[*at..].get(2..4).is_some_and(|sum| sum != [0, 0]);
    (0..payload.len())
        .step_by(unit)
        .filter(has_checksum)
        .find(|at| Extensions::parse(&payload[*at..]).is_ok())
}

/// Puts the IP header before an ICMP message and the checksum into it. Returns the length.
fn seal(packet: &mut [u8], outer: Outer) -> usize {
    let len = packet.len();
    let (ip, message) = packet.split_at_mut(header_len(outer.dst));
    let protocol = match (outer.src, outer.dst) {
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            icmp::fill_checksum_v6(src, dst, message);
            protocol::ICMPV6
        }
        _ => {
            icmp::fill_checksum_v4(message);
            protocol::ICMP
        }
    };
    let header = IpHeader {
        src: outer.src,
        dst: outer.dst,
        ttl: outer.ttl,
        tos: outer.tos,
        protocol,
        len,
    };
    header.emit(ip);
    len
}

struct IpHeader {
    src: IpAddr,
    dst: IpAddr,
    ttl: u8,
    tos: u8,
    protocol: u8,
    len: usize,
}

impl IpHeader {
    fn emit(&self, into: &mut [u8]) {
        let len = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX);
        match Family::of(self.dst) {
            Family::V4 => ipv4::Header {
                tos: self.tos,
                total_len: len(self.len),
                ident: 0,
                flags_fragment: 0,
                ttl: self.ttl,
                protocol: self.protocol,
                src: v4(self.src),
                dst: v4(self.dst),
            }
            .emit(into),
            Family::V6 => ipv6::Header {
                traffic_class: self.tos,
                flow_label: 0,
                payload_len: len(self.len.saturating_sub(ipv6::HEADER_LEN)),
                next_header: self.protocol,
                hop_limit: self.ttl,
                src: v6(self.src),
                dst: v6(self.dst),
            }
            .emit(into),
        }
    }
}

const fn header_len(address: IpAddr) -> usize {
    match Family::of(address) {
        Family::V4 => ipv4::HEADER_LEN,
        Family::V6 => ipv6::HEADER_LEN,
    }
}

/// A socket of one family names no address of the other.
const fn v4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(v4) => v4,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}

const fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V6(v6) => v6,
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plumb_wire::icmp_ext;
    use plumb_wire::mpls::Lse;
    use plumb_wire::packet::Packet;
    use plumb_wire::quote::Quote;

    fn outer(v6: bool) -> Outer {
        let (src, dst) = if v6 {
            ("2001:db8::1", "2001:db8::2")
        } else {
            ("192.0.2.1", "192.0.2.2")
        };
        Outer {
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            ttl: 247,
            tos: 0xc0,
        }
    }

    /// The end of a quoted probe padded to 128 bytes, and a label behind it.
    fn delivered(header: usize) -> Vec<u8> {
        let mut bytes = vec![0; 128 - header];
        let lse = Lse {
            label: 19,
            tc: 0,
            s: true,
            ttl: 1,
        };
        let mut extensions = [0; 64];
        let len = icmp_ext::emit_mpls(&[lse], &mut extensions);
        bytes.extend(&extensions[..len]);
        bytes
    }

    #[test]
    fn an_error_reads_back_with_its_offender_its_probe_and_its_labels() {
        for (v6, quote_len) in [(false, 0), (false, 128), (true, 0), (true, 128)] {
            let outer = outer(v6);
            let payload = delivered(header_len(outer.dst) + 8);
            let complaint = Complaint {
                kind: if v6 { 3 } else { 11 },
                code: 0,
                info: 0,
                quote_len,
            };
            let quoted = Quoted {
                dst: outer.src,
                len: 60,
                protocol: protocol::UDP,
                header: [0x90, 1, 0x82, 0x9b, 0, 20, 0, 77],
                payload: &payload,
            };
            let mut into = [0xee; 400];
            let len = error(&mut into, outer, complaint, &quoted).unwrap();
            let packet = Packet::parse(&into[..len]).unwrap();
            assert_eq!((packet.src, packet.ttl, packet.tos), (outer.src, 247, 0xc0));
            assert_eq!(packet.len, len);
            let message = icmp::Message::parse(packet.family(), packet.transport).unwrap();
            assert_eq!(message.number(), complaint.kind);
            assert!(message.checksum_is_right(packet.src, packet.dst));
            let (quote, extensions) = icmp_ext::split(&message);
            assert_eq!(quote.len(), 128, "v6 {v6}, length field {quote_len}");
            assert_eq!(extensions.unwrap().mpls_stack().count(), 1);
            let quote = Quote::parse(quote).unwrap();
            assert_eq!((quote.src, quote.dst), (outer.dst, quoted.dst));
            assert_eq!((quote.ttl, quote.ident, quote.len), (0, 0, 60));
            assert_eq!(quote.transport_word(6), Some(77));
        }
    }

    #[test]
    fn extensions_behind_a_short_quote_are_found_by_their_checksum() {
        for (family, len) in [(Family::V4, 0), (Family::V4, 20), (Family::V6, 16)] {
            let mut payload = vec![0xaa; len];
            payload.extend(&delivered(128)[..]);
            assert_eq!(find_extensions(family, &payload), Some(len));
            payload[len + 9] ^= 1;
            assert_eq!(find_extensions(family, &payload), None);
        }
        assert_eq!(find_extensions(Family::V4, &[0; 500]), None);
        assert_eq!(find_extensions(Family::V4, &[]), None);
    }

    #[test]
    fn the_mtu_of_a_packet_too_big_stands_where_it_belongs() {
        for (v6, at) in [(false, 26), (true, 46)] {
            let outer = outer(v6);
            let complaint = Complaint {
                kind: if v6 { 2 } else { 3 },
                code: if v6 { 0 } else { 4 },
                info: 1400,
                quote_len: 0,
            };
            let quoted = Quoted {
                dst: outer.src,
                len: 60,
                protocol: protocol::UDP,
                header: [0; 8],
                payload: &[],
            };
            let mut into = [0xee; 400];
            error(&mut into, outer, complaint, &quoted).unwrap();
            assert_eq!(into[at..at + 2], 1400u16.to_be_bytes());
        }
    }

    #[test]
    fn an_echo_reply_gets_the_identifier_of_its_flow() {
        for v6 in [false, true] {
            let outer = outer(v6);
            let mut into = [0xee; 100];
            let message = [if v6 { 129 } else { 0 }, 0, 0, 0, 1, 2, 0, 7, 5, 5];
            let len = echo_reply(&mut into, outer, 0x9001, &message).unwrap();
            let packet = Packet::parse(&into[..len]).unwrap();
            let reply = icmp::Message::parse(packet.family(), packet.transport).unwrap();
            assert_eq!((reply.ident(), reply.seq()), (0x9001, 7));
            assert!(reply.checksum_is_right(packet.src, packet.dst));
        }
    }

    #[test]
    fn what_does_not_fit_or_is_cut_off_is_no_packet() {
        let outer = outer(false);
        assert_eq!(echo_reply(&mut [0; 100], outer, 1, &[0; 7]), None);
        assert_eq!(echo_reply(&mut [0; 27], outer, 1, &[0; 8]), None);
    }
}
