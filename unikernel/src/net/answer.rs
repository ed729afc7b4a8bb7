//! What the machine answers by itself: echo requests, questions for its addresses, and connections
//! that a probe has opened.

use core::net::IpAddr;
use core::time::Duration;

use plumb_wire::ethernet::{self, HEADER_LEN, ethertype};
use plumb_wire::icmp::{self, Family, Kind, Message};
use plumb_wire::packet::Packet;
use plumb_wire::{Checksum, Instant, arp, ipv4, ipv6, ndp, protocol, tcp};

/// TTL of answers.
const TTL: u8 = 64;
/// Where everyone listens (RFC 4291 §2.7.1).
const ALL_NODES: core::net::Ipv6Addr = core::net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Bounds how often something is answered.
#[derive(Debug)]
pub(super) struct Limiter {
    /// Time after which one more answer may be given.
    every: Duration,
    /// Most answers that may be given at once.
    burst: u32,
    /// Answers that may be given now.
    left: u32,
    /// When that was last counted.
    counted: Instant,
}

impl Limiter {
    pub(super) const fn new(every: Duration, burst: u32) -> Self {
        Self {
            every,
            burst,
            left: burst,
            counted: Instant::ZERO,
        }
    }

    /// Says whether one more may be given now, and counts it.
    pub(super) fn permits(&mut self, now: Instant) -> bool {
        let gained = now.since(self.counted).as_nanos() / self.every.as_nanos().max(1);
        if gained > 0 {
            let gained = u32::try_from(gained).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(gained).min(self.burst);
            self.counted = now;
        }
        let permitted = self.left > 0;
        self.left -= u32::from(permitted);
        permitted
    }
}

/// Turns the frame of an echo request into that of its reply. Returns its length; 0 if it is not
/// one that can be answered.
pub(super) fn echo(mac: [u8; 6], frame: &mut [u8]) -> usize {
    let Ok((ethernet, packet)) = ethernet::Header::parse(frame) else {
        return 0;
    };
    let family = match packet.first().map(|byte| byte >> 4) {
        Some(4) => Family::V4,
        Some(6) => Family::V6,
        _ => return 0,
    };
    let len = match family {
        Family::V4 => reply_v4(&mut frame[HEADER_LEN..]),
        Family::V6 => reply_v6(&mut frame[HEADER_LEN..]),
    };
    let header = ethernet::Header {
        dst: ethernet.src,
        src: mac,
        ethertype: ethernet.ethertype,
    };
    header.emit(frame);
    len.map_or(0, |len| HEADER_LEN + len)
}

/// The IPv4 packet is answered in its place. One with options or in pieces is not.
fn reply_v4(packet: &mut [u8]) -> Option<usize> {
    let (header, rest) = ipv4::Header::parse(packet).ok()?;
    let total = usize::from(header.total_len);
    let in_pieces = header.flags_fragment & (ipv4::MORE_FRAGMENTS | 0x1fff) != 0;
    if packet.len() - rest.len() != ipv4::HEADER_LEN || in_pieces {
        return None;
    }
    let (src, dst) = (header.src, header.dst);
    let message = packet.get_mut(ipv4::HEADER_LEN..total)?;
    let kind = Kind::EchoReply.number(Family::V4);
    if !is_echo_request(Family::V4, message, src.into(), dst.into()) {
        return None;
    }
    message[0] = kind;
    icmp::fill_checksum_v4(message);
    let reply = ipv4::Header {
        ttl: TTL,
        src: dst,
        dst: src,
        ..header
    };
    reply.emit(packet);
    Some(total)
}

fn reply_v6(packet: &mut [u8]) -> Option<usize> {
    let (header, _) = ipv6::Header::parse(packet).ok()?;
    let total = ipv6::HEADER_LEN + usize::from(header.payload_len);
    let (src, dst) = (header.src, header.dst);
    let message = packet.get_mut(ipv6::HEADER_LEN..total)?;
    if header.next_header != protocol::ICMPV6
        || src.is_multicast()
        || src.is_unspecified()
        || !is_echo_request(Family::V6, message, src.into(), dst.into())
    {
        return None;
    }
    message[0] = Kind::EchoReply.number(Family::V6);
    icmp::fill_checksum_v6(dst, src, message);
    let reply = ipv6::Header {
        hop_limit: TTL,
        src: dst,
        dst: src,
        ..header
    };
    reply.emit(packet);
    Some(total)
}

fn is_echo_request(family: Family, message: &[u8], src: IpAddr, dst: IpAddr) -> bool {
    Message::parse(family, message).is_ok_and(|message| {
        message.kind == Kind::EchoRequest
            && message.code == 0
            && message.checksum_is_right(src, dst)
    })
}

/// Says whether a packet is an echo request, whatever else may be wrong with it.
pub(super) fn is_echo(packet: &[u8]) -> bool {
    match packet {
        [0x45, ..] if packet.get(9) == Some(&protocol::ICMP) => packet.get(20) == Some(&8),
        [first, ..] if first >> 4 == 6 && packet.get(6) == Some(&protocol::ICMPV6) => {
            packet.get(40) == Some(&128)
        }
        _ => false,
    }
}

/// Writes the frame that ends a connection which a target thinks it has, since a probe asked for one
/// (RFC 9293 §3.10.7.1: a SYN-ACK for no connection), and returns its length; 0 if `packet` is
/// something else. A kernel does the same below a raw socket, so that targets keep nothing.
pub(super) fn reset(mac: [u8; 6], asker_mac: [u8; 6], packet: &[u8], into: &mut [u8]) -> usize {
    let Ok(ip) = Packet::parse(packet) else {
        return 0;
    };
    let tcp = tcp::Header::parse(ip.transport);
    let Some((tcp, _)) = tcp.ok().filter(|_| ip.protocol == protocol::TCP) else {
        return 0;
    };
    let flags = tcp.flags & (tcp::SYN | tcp::ACK | tcp::RST);
    if flags != tcp::SYN | tcp::ACK || ip.src.is_multicast() || ip.src.is_unspecified() {
        return 0;
    }
    const LEN: u16 = 20;
    let (ethertype, header_len) = match (ip.dst, ip.src) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let header = ipv4::Header {
                tos: 0,
                total_len: LEN + 20,
                ident: 0,
                flags_fragment: ipv4::DONT_FRAGMENT,
                ttl: TTL,
                protocol: protocol::TCP,
                src,
                dst,
            };
            header.emit(&mut into[HEADER_LEN..]);
            (ethertype::IPV4, ipv4::HEADER_LEN)
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let header = ipv6::Header {
                traffic_class: 0,
                flow_label: 0,
                payload_len: LEN,
                next_header: protocol::TCP,
                hop_limit: TTL,
                src,
                dst,
            };
            header.emit(&mut into[HEADER_LEN..]);
            (ethertype::IPV6, ipv6::HEADER_LEN)
        }
        _ => return 0,
    };
    let header = ethernet::Header {
        dst: asker_mac,
        src: mac,
        ethertype,
    };
    header.emit(into);
    let mut reply = tcp::Header {
        src_port: tcp.dst_port,
        dst_port: tcp.src_port,
        seq: tcp.ack,
        ack: 0,
        flags: tcp::RST,
        window: 0,
        checksum: 0,
    };
    let at = HEADER_LEN + header_len;
    let bytes = &mut into[at..at + tcp::HEADER_LEN];
    reply.emit(bytes);
    let sum = Checksum::new().pseudo_header(ip.dst, ip.src, protocol::TCP, tcp::HEADER_LEN);
    reply.checksum = sum.bytes(bytes).finish();
    reply.emit(bytes);
    at + tcp::HEADER_LEN
}

/// Writes the frame that answers an ARP request for an address of `mac`, and returns its length.
pub(super) fn arp(mac: [u8; 6], request: &arp::Packet, into: &mut [u8]) -> usize {
    let header = ethernet::Header {
        dst: request.sender_mac,
        src: mac,
        ethertype: ethertype::ARP,
    };
    header.emit(into);
    request.reply(mac).emit(&mut into[HEADER_LEN..]);
    HEADER_LEN + arp::LEN
}

/// Writes the frame that answers a solicitation for an address of `mac`, and returns its length. One
/// without sender (a probe for duplicates, RFC 4862 §5.4.3) is answered to everyone.
pub(super) fn solicitation(
    mac: [u8; 6],
    asker_mac: [u8; 6],
    asker: core::net::Ipv6Addr,
    solicitation: &ndp::Solicitation,
    into: &mut [u8],
) -> usize {
    let probe = asker.is_unspecified();
    let (dst, dst_mac) = if probe {
        (ALL_NODES, ethernet::multicast_v6(ALL_NODES))
    } else {
        (asker, solicitation.source_mac.unwrap_or(asker_mac))
    };
    let header = ethernet::Header {
        dst: dst_mac,
        src: mac,
        ethertype: ethertype::IPV6,
    };
    header.emit(into);
    let advertisement = ndp::Message::Advertisement(ndp::Advertisement {
        target: solicitation.target,
        router: false,
        solicited: !probe,
        overrides: true,
        target_mac: Some(mac),
    });
    HEADER_LEN + advertisement.emit_packet(solicitation.target, dst, &mut into[HEADER_LEN..])
}
