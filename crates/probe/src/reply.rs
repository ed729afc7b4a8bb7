//! What a received packet says about a probe.

use core::net::IpAddr;

use plumb_record::Method;
use plumb_wire::icmp::{Family, Kind, Message};
use plumb_wire::icmp_ext::{self, Extensions};
use plumb_wire::packet::Packet;
use plumb_wire::quote::Quote;
use plumb_wire::{protocol, tcp};

/// What kind of answer a reply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyKind {
    TimeExceeded,
    EchoReply,
    /// UDP port unreachable: the destination itself says it.
    PortUnreachable,
    /// Any other unreachable, packet too big, parameter problem.
    Unreachable,
    /// SYN-ACK or RST.
    Tcp,
}

/// A packet that may answer one of our probes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply<'a> {
    pub(crate) kind: ReplyKind,
    pub(crate) packet: Packet<'a>,
    /// ICMP type and code; `None` for TCP.
    pub(crate) icmp: Option<(u8, u8)>,
    pub(crate) tcp_flags: Option<u8>,
    pub(crate) quote: Option<Quote<'a>>,
    pub(crate) extensions: Option<Extensions<'a>>,
    /// Method whose probe was answered.
    pub(crate) method: Method,
    /// Where the probe went; where the reply came from if it quotes nothing.
    pub(crate) target: IpAddr,
    pub(crate) flow: u16,
    /// What names the probe, best first: its sequence number or UDP checksum, and the IP
    /// identification of the quote, which survives where a NAT or a router rewrote the other.
    pub(crate) names: [Option<u16>; 2],
}

impl<'a> Reply<'a> {
    /// Reads a packet; `None` if it cannot be an answer to a probe of any method.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let packet = Packet::parse(bytes).ok()?;
        match packet.protocol {
            protocol::ICMP | protocol::ICMPV6 => Self::icmp(packet),
            protocol::TCP => Self::tcp(packet),
            _ => None,
        }
    }

    fn icmp(packet: Packet<'a>) -> Option<Self> {
        let family = packet.family();
        if (family == Family::V4) != (packet.protocol == protocol::ICMP) {
            return None;
        }
        let message = Message::parse(family, packet.transport).ok()?;
        let icmp = Some((message.number(), message.code));
        let kind = match message.kind {
            Kind::EchoReply => {
                return Some(Self {
                    kind: ReplyKind::EchoReply,
                    packet,
                    icmp,
                    tcp_flags: None,
                    quote: None,
                    extensions: None,
                    method: Method::IcmpParis,
                    target: packet.src,
                    flow: message.ident(),
                    names: [Some(message.seq()), None],
                });
            }
            Kind::TimeExceeded => ReplyKind::TimeExceeded,
            Kind::Unreachable if message.code == port_unreachable(family) => {
                ReplyKind::PortUnreachable
            }
            Kind::Unreachable | Kind::PacketTooBig | Kind::ParameterProblem => {
                ReplyKind::Unreachable
            }
            Kind::EchoRequest | Kind::Other(_) => return None,
        };
        let (quoted, extensions) = icmp_ext::split(&message);
        let quote = Quote::parse(quoted).ok()?;
        let (method, flow, name) = match quote.protocol {
            protocol::ICMP | protocol::ICMPV6 => (
                Method::IcmpParis,
                quote.transport_word(4)?,
                quote.transport_word(6),
            ),
            protocol::UDP => (
                Method::UdpParis,
                quote.transport_word(0)?,
                quote.transport_word(6),
            ),
            protocol::TCP => (
                Method::TcpParis,
                quote.transport_word(0)?,
                quote.transport_word(6),
            ),
            _ => return None,
        };
        // Only what was sent to a port can find it closed: of an echo request it means no more than
        // that somebody on the way refuses it.
        let kind = match (kind, method) {
            (ReplyKind::PortUnreachable, Method::IcmpParis) => ReplyKind::Unreachable,
            (kind, _) => kind,
        };
        let ident = (family == Family::V4).then_some(quote.ident);
        Some(Self {
            kind,
            packet,
            icmp,
            tcp_flags: None,
            quote: Some(quote),
            extensions,
            method,
            target: quote.dst,
            flow,
            names: [name, ident],
        })
    }

    fn tcp(packet: Packet<'a>) -> Option<Self> {
        let (header, _) = tcp::Header::parse(packet.transport).ok()?;
        let answers_syn = header.flags & tcp::ACK != 0 && header.flags & (tcp::SYN | tcp::RST) != 0;
        if !answers_syn {
            return None;
        }
        let probe_seq = header.ack.wrapping_sub(1);
        if probe_seq >> 16 != u32::from(header.dst_port) {
            return None;
        }
        Some(Self {
            kind: ReplyKind::Tcp,
            packet,
            icmp: None,
            tcp_flags: Some(header.flags),
            quote: None,
            extensions: None,
            method: Method::TcpParis,
            target: packet.src,
            flow: header.dst_port,
            names: [Some((probe_seq & 0xffff) as u16), None],
        })
    }

    /// Says whether the quote differs from the probe in what only a NAT changes.
    pub(crate) fn shows_nat(&self, src: IpAddr, seq: u16) -> bool {
        let Some(quote) = &self.quote else {
            return false;
        };
        let rewritten = match self.method {
            Method::IcmpParis => quote.transport_word(2).is_some_and(|sum| sum != self.flow),
            Method::UdpParis => quote.transport_word(6).is_some_and(|sum| sum != seq),
            Method::TcpParis => false,
        };
        quote.src != src || rewritten
    }
}

/// Code of "port unreachable".
const fn port_unreachable(family: Family) -> u8 {
    match family {
        Family::V4 => 3,
        Family::V6 => 4,
    }
}
