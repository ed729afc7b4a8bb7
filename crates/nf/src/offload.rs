//! Doing what was left to do: completing checksums and cutting superframes.

use alloc::vec::Vec;

use plumb_wire::frame::{Gso, Offload, PartialChecksum, Segmentation};
use plumb_wire::{Checksum, ethernet, ipv4, ipv6, protocol, tcp, udp};

use crate::headers::Headers;
use crate::{Frame, Output};

pub(crate) const VLAN: u16 = 0x8100;
pub(crate) const SERVICE_VLAN: u16 = 0x88a8;

/// Completes a partial checksum. Says whether the frame is complete now; it is not if its offload
/// state points outside it.
pub fn complete_checksum(frame: &mut Frame) -> bool {
    let Some(PartialChecksum { start, offset }) = frame.offload.checksum else {
        return true;
    };
    let start = usize::from(start);
    let field = start + usize::from(offset);
    if field + 2 > frame.bytes.len() {
        return false;
    }
    let sum = Checksum::new().bytes(&frame.bytes[start..]).finish();
    // UDP sends a sum of zero as all ones (RFC 768); TCP takes either form of zero.
    let sum = if sum == 0 { 0xffff } else { sum };
    frame.bytes[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    frame.offload.checksum = None;
    true
}

/// Makes frames of `frame` that can go onto a real wire, in order at the end of `into`, and says
/// how many. None if the offload state does not fit the frame, or is of a kind that nobody uses.
pub fn segment(mut frame: Frame, out: &mut Output, into: &mut Vec<Frame>) -> usize {
    let Some(gso) = frame.offload.gso else {
        if !complete_checksum(&mut frame) {
            out.recycle(frame);
            return 0;
        }
        into.push(frame);
        return 1;
    };
    let before = into.len();
    if let Some(cut) = Cut::plan(&frame, gso) {
        cut.run(&frame, out, into);
    }
    out.recycle(frame);
    into.len() - before
}

/// Where a superframe's headers are.
struct Cut {
    headers: Headers,
    payload: usize,
    is_tcp: bool,
    size: usize,
}

impl Cut {
    fn plan(frame: &Frame, gso: Gso) -> Option<Self> {
        let bytes = &frame.bytes[..];
        let (ethertype, ip) = network_header(bytes)?;
        let is_v6 = match ethertype {
            ethernet::ethertype::IPV4 => {
                ipv4::Header::parse(bytes.get(ip..)?).ok()?;
                false
            }
            ethernet::ethertype::IPV6 => {
                ipv6::Header::parse(bytes.get(ip..)?).ok()?;
                true
            }
            _ => return None,
        };
        let transport = usize::from(frame.offload.checksum?.start);
        let header_len = if is_v6 {
            ipv6::HEADER_LEN
        } else {
            usize::from(bytes[ip] & 0x0f) * 4
        };
        // Without extension headers; superframes have none.
        if transport != ip + header_len {
            return None;
        }
        let rest = bytes.get(transport..)?;
        let (is_tcp, transport_len) = match (gso.kind, is_v6) {
            (Segmentation::TcpV4, false) | (Segmentation::TcpV6, true) => {
                let (_, payload) = tcp::Header::parse(rest).ok()?;
                (true, rest.len() - payload.len())
            }
            (Segmentation::Udp, _) if rest.len() >= udp::HEADER_LEN => (false, udp::HEADER_LEN),
            _ => return None,
        };
        Some(Self {
            headers: Headers {
                ip,
                is_v6,
                transport,
            },
            payload: transport + transport_len,
            is_tcp,
            size: usize::from(gso.size),
        })
    }

    fn run(&self, frame: &Frame, out: &mut Output, into: &mut Vec<Frame>) {
        let (headers, payload) = frame.bytes.split_at(self.payload);
        let pieces = payload.len().div_ceil(self.size).max(1);
        for piece in 0..pieces {
            let from = piece * self.size;
            let data = &payload[from..(from + self.size).min(payload.len())];
            let mut segment = out.empty();
            segment.at = frame.at;
            segment.offload = Offload {
                checksum_verified: frame.offload.checksum_verified,
                ..Offload::NONE
            };
            segment.bytes.extend_from_slice(headers);
            segment.bytes.extend_from_slice(data);
            self.fix(&mut segment.bytes, piece, from, piece + 1 == pieces);
            into.push(segment);
        }
    }

    /// Gives a piece the headers that it would have had if it had been sent alone.
    fn fix(&self, bytes: &mut [u8], piece: usize, from: usize, last: bool) {
        let Headers {
            ip,
            is_v6,
            transport: at,
        } = self.headers;
        if !is_v6 {
            let ident = get(bytes, ip + 4).wrapping_add(word(piece));
            put(bytes, ip + 4, ident);
        }
        self.headers.put_len(bytes);
        let field = if self.is_tcp {
            let seq = self
                .headers
                .seq(bytes)
                .wrapping_add(u32::try_from(from).unwrap_or(u32::MAX));
            bytes[at + 4..at + 8].copy_from_slice(&seq.to_be_bytes());
            if !last {
                bytes[at + 13] &= !(tcp::FIN | tcp::PSH);
            }
            if piece > 0 {
                bytes[at + 13] &= !tcp::CWR;
            }
            at + 16
        } else {
            put(bytes, at + 4, word(bytes.len() - at));
            at + 6
        };
        put(bytes, field, 0);
        let number = if self.is_tcp {
            protocol::TCP
        } else {
            protocol::UDP
        };
        let pseudo_header = self.headers.pseudo_header(bytes, number);
        let sum = pseudo_header.bytes(&bytes[at..]).finish();
        put(bytes, field, if sum == 0 { 0xffff } else { sum });
    }
}

/// EtherType behind any VLAN tags, and where its header begins.
pub(crate) fn network_header(bytes: &[u8]) -> Option<(u16, usize)> {
    let (header, _) = ethernet::Header::parse(bytes).ok()?;
    let (mut ethertype, mut at) = (header.ethertype, ethernet::HEADER_LEN);
    // Two tags are the most that are in use (IEEE 802.1ad).
    for _ in 0..2 {
        if !matches!(ethertype, VLAN | SERVICE_VLAN) {
            break;
        }
        let tag = bytes.get(at..at + 4)?;
        ethertype = u16::from_be_bytes([tag[2], tag[3]]);
        at += 4;
    }
    Some((ethertype, at))
}

/// Reads a big-endian word. Panics where the caller has not checked the length.
pub(crate) fn get(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Writes a big-endian word. Panics where the caller has not checked the length.
pub(crate) fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// The lower 16 bits.
pub(crate) fn word(value: usize) -> u16 {
    let [.., high, low] = value.to_be_bytes();
    u16::from_be_bytes([high, low])
}

#[cfg(test)]
mod tests {
    use super::*;
    use plumb_wire::Instant;
    use plumb_wire::packet::Packet;
    use proptest::prelude::*;

    /// A TCP or UDP superframe whose checksum field holds the sum of the pseudo-header.
    fn superframe(tcp: bool, v6: bool, payload: &[u8], size: u16) -> Frame {
        let mut bytes = alloc::vec![2; 12];
        bytes.extend(if v6 { [0x86, 0xdd] } else { [8, 0] });
        let transport_len = if tcp { 20 } else { 8 };
        let len = transport_len + payload.len();
        let (number, kind) = match (tcp, v6) {
            (true, false) => (6, Segmentation::TcpV4),
            (true, true) => (6, Segmentation::TcpV6),
            (false, _) => (17, Segmentation::Udp),
        };
        let start = bytes.len() + if v6 { 40 } else { 20 };
        bytes.resize(start + transport_len, 0);
        let (src, dst): (core::net::IpAddr, core::net::IpAddr) = if v6 {
            let (src, dst) = (
                "2001:db8::1".parse().unwrap(),
                "2001:db8::2".parse().unwrap(),
            );
            let header = ipv6::Header {
                traffic_class: 0,
                flow_label: 7,
                payload_len: word(len),
                next_header: number,
                hop_limit: 9,
                src,
                dst,
            };
            header.emit(&mut bytes[14..]);
            (src.into(), dst.into())
        } else {
            let (src, dst) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
            let header = ipv4::Header {
                tos: 0,
                total_len: word(20 + len),
                ident: 0xfffe,
                flags_fragment: ipv4::DONT_FRAGMENT,
                ttl: 9,
                protocol: number,
                src,
                dst,
            };
            header.emit(&mut bytes[14..]);
            (src.into(), dst.into())
        };
        let sum = Checksum::new().pseudo_header(src, dst, number, len).fold();
        let offset = if tcp {
            let header = tcp::Header {
                src_port: 1,
                dst_port: 2,
                seq: u32::MAX - 5,
                ack: 8,
                flags: 0x99,
                window: 10,
                checksum: sum,
            };
            header.emit(&mut bytes[start..]);
            16
        } else {
            bytes[start..start + 8].copy_from_slice(&[0, 1, 0, 2, 0, 0, 0, 0]);
            put(&mut bytes, start + 6, sum);
            6
        };
        bytes.extend(payload);
        let mut frame = Frame::new(Instant::ZERO, &bytes);
        frame.offload = Offload {
            checksum: Some(PartialChecksum {
                start: word(start),
                offset,
            }),
            gso: Some(Gso {
                kind,
                size,
                header_len: 0,
                ecn: false,
            }),
            checksum_verified: false,
        };
        frame
    }

    fn right_checksum(packet: &Packet<'_>) -> bool {
        let sum = Checksum::new()
            .pseudo_header(
                packet.src,
                packet.dst,
                packet.protocol,
                packet.transport.len(),
            )
            .bytes(packet.transport);
        sum.finish() == 0
    }

    proptest! {
        #[test]
        fn segments_hold_the_payload_in_order_under_right_checksums(
            tcp: bool, v6: bool, size in 1..300u16, payload in proptest::collection::vec(any::<u8>(), 0..2000),
        ) {
            let frame = superframe(tcp, v6, &payload, size);
            let mut pieces = Vec::new();
            let count = segment(frame, &mut Output::default(), &mut pieces);
            prop_assert_eq!(count, payload.len().div_ceil(size.into()).max(1));
            let mut found: Vec<u8> = Vec::new();
            for (i, piece) in pieces.iter().enumerate() {
                prop_assert!(piece.offload.is_complete());
                let packet = Packet::parse(&piece.bytes[14..]).unwrap();
                prop_assert_eq!(packet.len, piece.bytes.len() - 14);
                prop_assert!(right_checksum(&packet));
                if !v6 {
                    prop_assert_eq!(plumb_wire::checksum(&piece.bytes[14..34]), 0);
                    prop_assert_eq!(packet.ident, 0xfffeu16.wrapping_add(word(i)));
                }
                if tcp {
                    let (header, data) = tcp::Header::parse(packet.transport).unwrap();
                    prop_assert_eq!(header.seq, (u32::MAX - 5).wrapping_add(u32::try_from(found.len()).unwrap()));
                    prop_assert_eq!(header.flags & 0x80 != 0, i == 0);
                    prop_assert_eq!(header.flags & 0x09 != 0, i + 1 == count);
                    found.extend(data);
                } else {
                    let (header, data) = udp::Header::parse(packet.transport).unwrap();
                    prop_assert_eq!(usize::from(header.len), packet.transport.len());
                    found.extend(data);
                }
            }
            prop_assert_eq!(found, payload);
        }

        #[test]
        fn no_offload_state_panics(
            bytes in proptest::collection::vec(any::<u8>(), 0..100), vnet in proptest::array::uniform10(any::<u8>()), fit: bool,
        ) {
            let mut frame = if fit { superframe(true, false, &bytes, 7) } else { Frame::new(Instant::ZERO, &bytes) };
            if let Ok(offload) = Offload::parse(&vnet) {
                frame.offload = offload;
            }
            segment(frame, &mut Output::default(), &mut Vec::new());
        }
    }

    #[test]
    fn a_partial_checksum_is_completed() {
        let mut frame = superframe(false, false, b"abc", 9);
        put(&mut frame.bytes, 38, 11);
        frame.offload.gso = None;
        assert!(complete_checksum(&mut frame));
        assert!(frame.offload.is_complete());
        assert!(right_checksum(&Packet::parse(&frame.bytes[14..]).unwrap()));
    }
}
