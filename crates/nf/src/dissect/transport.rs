//! Transport headers, with the options of TCP that connection tracking follows.

use plumb_wire::frame::{Gso, Segmentation};
use plumb_wire::icmp::Family;
use plumb_wire::{Checksum, checksum, icmp, protocol, tcp, udp};

use crate::offload::get;

use super::{Fault, Ip};

/// What is behind an IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Nothing that could be read: a later fragment, a damaged packet, or no IP at all.
    None,
    /// TCP.
    Tcp(Tcp),
    /// UDP.
    Udp(Udp),
    /// ICMP of the packet's own version.
    Icmp(Icmp),
    /// SCTP, DCCP or UDP-Lite.
    Ports(Ports),
    /// Any other protocol.
    Other,
}

impl Transport {
    /// Source and destination port, for the transports that have them.
    pub const fn ports(&self) -> Option<(u16, u16)> {
        match self {
            Self::Tcp(Tcp { src, dst, .. })
            | Self::Udp(Udp { src, dst, .. })
            | Self::Ports(Ports { src, dst }) => Some((*src, *dst)),
            Self::None | Self::Icmp(_) | Self::Other => None,
        }
    }
}

/// A TCP header (RFC 9293) and its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub src: u16,
    /// Destination port.
    pub dst: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags: FIN, SYN, RST, PSH, ACK, URG, ECE, CWR from bit 0 on.
    pub flags: u8,
    /// Receive window, not scaled.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// Bytes of the header with its options.
    pub header_len: u8,
    /// Bytes behind the header, all segments of a superframe together.
    pub payload_len: u32,
    /// Window scale (RFC 7323), 14 at most; none without the option.
    pub scale: Option<u8>,
    /// SACK-permitted (RFC 2018).
    pub sack_permitted: bool,
    /// Maximum segment size; none without the option.
    pub mss: Option<u16>,
    /// The highest right edge of its SACK blocks, or `ack` if that is higher.
    pub sack: u32,
}

/// A UDP header (RFC 768).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Source port.
    pub src: u16,
    /// Destination port.
    pub dst: u16,
    /// Length of header and payload in bytes, as the header says.
    pub len: u16,
    /// Bytes behind the header, all datagrams of a superframe together.
    pub payload_len: u32,
    /// Checksum as it stands; 0 for none.
    pub checksum: u16,
}

/// The start of an ICMP message (RFC 792, RFC 4443).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// Which numbering it is in.
    pub family: Family,
    /// Type number.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Identifier of queries; the upper half of what depends on the type in other messages.
    pub ident: u16,
    /// Sequence number of queries; the lower half.
    pub seq: u16,
    /// Bytes behind the first eight.
    pub payload_len: u32,
}

impl Icmp {
    /// Says whether it is of multicast listener or neighbour discovery of IPv6, which stay on a
    /// link (RFC 2710, RFC 3810, RFC 4861).
    pub const fn is_between_neighbours(&self) -> bool {
        matches!((self.family, self.kind), (Family::V6, 130..=136 | 143))
    }
}

/// Where all transports with ports have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Source port.
    pub src: u16,
    /// Destination port.
    pub dst: u16,
}

#[inline(always)]
pub(super) fn tcp(bytes: &[u8], ip: &Ip) -> Result<Tcp, Fault> {
    let segment = &bytes[ip.payload..ip.end];
    if segment.len() < tcp::HEADER_LEN {
        return Err(Fault::TransportCutOff);
    }
    let (header, behind) = tcp::Header::parse(segment).map_err(|_| Fault::TcpOffset)?;
    let header_len = segment.len() - behind.len();
    let mut tcp = Tcp {
        src: header.src_port,
        dst: header.dst_port,
        seq: header.seq,
        ack: header.ack,
        flags: header.flags,
        window: header.window,
        urgent: get(segment, 18),
        // Fifteen words at most.
        header_len: u8::try_from(header_len).unwrap_or(u8::MAX),
        payload_len: announced(ip, header_len),
        scale: None,
        sack_permitted: false,
        mss: None,
        sack: header.ack,
    };
    options(&segment[tcp::HEADER_LEN..header_len], &mut tcp);
    Ok(tcp)
}

#[inline(always)]
pub(super) fn udp(bytes: &[u8], ip: &Ip, gso: Option<Gso>) -> Result<Udp, Fault> {
    let datagram = &bytes[ip.payload..ip.end];
    let (header, _) = udp::Header::parse(datagram).map_err(|_| Fault::TransportCutOff)?;
    let payload_len = announced(ip, udp::HEADER_LEN);
    let is_whole = !ip.is_piece();
    // In a superframe it may be the length of all or of one; in a fragment that of the whole.
    let is_super = gso.is_some_and(|gso| gso.kind == Segmentation::Udp);
    let len = u32::from(header.len);
    if len < 8 || is_whole && !is_super && len > payload_len + 8 {
        return Err(Fault::UdpLength);
    }
    Ok(Udp {
        src: header.src_port,
        dst: header.dst_port,
        len: header.len,
        payload_len: if is_whole && !is_super {
            len - 8
        } else {
            payload_len
        },
        checksum: header.checksum,
    })
}

pub(super) fn icmp(bytes: &[u8], ip: &Ip) -> Result<Icmp, Fault> {
    let message = &bytes[ip.payload..ip.end];
    if message.len() < icmp::HEADER_LEN {
        return Err(Fault::TransportCutOff);
    }
    Ok(Icmp {
        family: ip.family(),
        kind: message[0],
        code: message[1],
        ident: get(message, 4),
        seq: get(message, 6),
        payload_len: announced(ip, icmp::HEADER_LEN),
    })
}

pub(super) fn ports(bytes: &[u8], ip: &Ip) -> Result<Ports, Fault> {
    let payload = &bytes[ip.payload..ip.end];
    if payload.len() < 4 {
        return Err(Fault::TransportCutOff);
    }
    Ok(Ports {
        src: get(payload, 0),
        dst: get(payload, 2),
    })
}

#[inline]
pub(super) fn checksum_is_right(bytes: &[u8], ip: &Ip, transport: &Transport) -> bool {
    let payload = &bytes[ip.payload..ip.end];
    let (number, covered) = match transport {
        Transport::Tcp(_) => (protocol::TCP, payload),
        Transport::Udp(udp) if udp.checksum == 0 => return true,
        Transport::Udp(udp) => {
            let len = usize::from(udp.len).min(payload.len());
            (protocol::UDP, &payload[..len])
        }
        Transport::Icmp(icmp) => match icmp.family {
            Family::V4 => return checksum(payload) == 0,
            Family::V6 => (protocol::ICMPV6, payload),
        },
        Transport::None | Transport::Ports(_) | Transport::Other => return true,
    };
    let sum = Checksum::new().pseudo_header(ip.src, ip.dst, number, covered.len());
    sum.bytes(covered).finish() == 0
}

/// Bytes behind a transport header, as the IP header announces them.
fn announced(ip: &Ip, header_len: usize) -> u32 {
    let len = u32::try_from(header_len).unwrap_or(u32::MAX);
    ip.payload_len.saturating_sub(len)
}

/// Reads the options of TCP (RFC 9293 §3.1). What is damaged ends them.
fn options(mut options: &[u8], tcp: &mut Tcp) {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const MSS: u8 = 2;
    const SCALE: u8 = 3;
    const SACK_PERMITTED: u8 = 4;
    const SACK: u8 = 5;
    /// Two no-operations and a timestamp, which most segments have.
    const TIMESTAMP: [u8; 4] = [1, 1, 8, 10];
    if options.len() == 12 && options.starts_with(&TIMESTAMP) {
        return;
    }
    while let [kind, rest @ ..] = options {
        match *kind {
            END => return,
            NO_OPERATION => {
                options = rest;
                continue;
            }
            _ => {}
        }
        let Some(len) = rest.first().map(|len| usize::from(*len)) else {
            return;
        };
        let (Some(value), Some(behind)) = (options.get(2..len), options.get(len..)) else {
            return;
        };
        match (*kind, value) {
            (MSS, [a, b]) => tcp.mss = Some(u16::from_be_bytes([*a, *b])),
            (SCALE, [scale]) => tcp.scale = Some((*scale).min(14)),
            (SACK_PERMITTED, []) => tcp.sack_permitted = true,
            (SACK, blocks) if blocks.len().is_multiple_of(8) => {
                for block in blocks.chunks_exact(8) {
                    let right = u32::from_be_bytes([block[4], block[5], block[6], block[7]]);
                    if right.wrapping_sub(tcp.sack).cast_signed() > 0 {
                        tcp.sack = right;
                    }
                }
            }
            _ => {}
        }
        options = behind;
    }
}
