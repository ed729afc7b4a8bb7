//! ICMP: which messages are queries, and errors with the packet that they quote (RFC 5508).

use core::net::Ipv4Addr;

use plumb_wire::{checksum, ethernet, icmp, ipv4, protocol};

use crate::Frame;
use crate::offload::{get, put};

use super::rewrite::{Side, View, rewrite};
use super::{Endpoint, Protocol};

/// What an ICMP message is to a NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// A question with an identifier.
    Query(u16),
    /// The answer to one.
    Reply(u16),
    /// An error about a packet that it quotes.
    Error,
    /// Redirects and what else is only between neighbours.
    Other,
}

/// Destination unreachable, with its codes.
pub(super) const UNREACHABLE: u8 = 3;
pub(super) const PORT: u8 = 3;
pub(super) const PROHIBITED: u8 = 13;
/// Time exceeded, on the way.
pub(super) const TIME_EXCEEDED: u8 = 11;

/// Reads an ICMP message of at least eight bytes.
pub(super) fn message(bytes: &[u8], view: &View) -> Option<Message> {
    if view.transport_len() < icmp::HEADER_LEN {
        return None;
    }
    let ident = get(bytes, view.transport + 4);
    Some(match bytes[view.transport] {
        8 | 13 | 15 | 17 => Message::Query(ident),
        0 | 14 | 16 | 18 => Message::Reply(ident),
        3 | 4 | 11 | 12 => Message::Error,
        _ => Message::Other,
    })
}

/// The packet that an error quotes: where it is, and the two endpoints between which it went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quoted {
    view: View,
    /// What its ports belong to; none where it has no ports, or they were not quoted.
    pub(super) protocol: Option<Protocol>,
    pub(super) src: Endpoint,
    pub(super) dst: Endpoint,
}

/// Finds the quoted packet; none if the error or the quoted header is damaged (RFC 5508 REQ-3).
pub(super) fn quoted(frame: &Frame, view: &View) -> Option<Quoted> {
    let bytes = frame.bytes.get(..view.end)?;
    let message = bytes.get(view.transport..)?;
    let is_whole = frame.original_len == 0 && !view.has_more;
    if is_whole && checksum(message) != 0 {
        return None;
    }
    let quote = View::parse(bytes, view.transport + icmp::HEADER_LEN)?;
    if quote.is_later || checksum(&bytes[quote.ip..quote.transport]) != 0 {
        return None;
    }
    let word = |at: usize| (at + 2 <= quote.end).then(|| get(bytes, at));
    let at = quote.transport;
    let (protocol, ports) = match quote.protocol {
        protocol::TCP => (Protocol::Tcp, word(at).zip(word(at + 2))),
        protocol::UDP => (Protocol::Udp, word(at).zip(word(at + 2))),
        protocol::ICMP => (Protocol::Icmp, word(at + 4).map(|ident| (ident, ident))),
        _ => (Protocol::Udp, None),
    };
    let (src, dst) = ports.unwrap_or_default();
    Some(Quoted {
        view: quote,
        protocol: ports.map(|_| protocol),
        src: Endpoint::new(quote.src, src),
        dst: Endpoint::new(quote.dst, dst),
    })
}

/// Gives the quoted packet the form that it had on the other side, and mends the checksum of the
/// error.
pub(super) fn rewrite_quoted(
    bytes: &mut [u8],
    view: &View,
    quoted: &Quoted,
    side: Side,
    address: Ipv4Addr,
    port: Option<u16>,
) {
    let delta = rewrite(bytes, &quoted.view, side, address, port, None);
    let at = view.transport + 2;
    let sum = delta.checksum(get(bytes, at));
    put(bytes, at, sum);
}

/// Makes an error about `about` in `into`, to be sent back to where that came from. False where
/// there must be none (RFC 1122 §3.2.2).
pub(super) fn error(
    into: &mut Frame,
    about: &Frame,
    view: &View,
    (kind, code): (u8, u8),
    from: Ipv4Addr,
    mac: [u8; 6],
) -> bool {
    let is_error = view.protocol == protocol::ICMP
        && message(&about.bytes, view).is_none_or(|m| matches!(m, Message::Error | Message::Other));
    let src = view.src;
    let to_many = about.bytes.first().is_none_or(|first| first & 1 != 0)
        || view.dst.is_multicast()
        || view.dst.is_broadcast();
    if is_error || to_many || view.is_later || src.is_unspecified() || src.is_multicast() {
        return false;
    }
    // As much as fits into the 576 bytes that everybody must take (RFC 1812 §4.3.2.3).
    const MOST_QUOTED: usize = 576 - ipv4::HEADER_LEN - icmp::HEADER_LEN;
    let quote = &about.bytes[view.ip..view.end.min(view.ip + MOST_QUOTED)];
    let len = ipv4::HEADER_LEN + icmp::HEADER_LEN + quote.len();
    into.clear();
    into.at = about.at;
    into.bytes.extend_from_slice(&about.bytes[6..12]);
    into.bytes.extend_from_slice(&mac);
    // The type, and any VLAN tags before it.
    into.bytes.extend_from_slice(&about.bytes[12..view.ip]);
    into.bytes.resize(view.ip + len, 0);
    let header = ipv4::Header {
        tos: 0xc0,
        total_len: u16::try_from(len).unwrap_or(u16::MAX),
        ident: 0,
        flags_fragment: 0,
        ttl: 64,
        protocol: protocol::ICMP,
        src: from,
        dst: src,
    };
    debug_assert!(
        view.ip >= ethernet::HEADER_LEN,
        "the IP header is behind that of Ethernet"
    );
    header.emit(&mut into.bytes[view.ip..]);
    let message = &mut into.bytes[view.ip + ipv4::HEADER_LEN..];
    message[0] = kind;
    message[1] = code;
    message[icmp::HEADER_LEN..].copy_from_slice(quote);
    icmp::fill_checksum_v4(message);
    true
}
