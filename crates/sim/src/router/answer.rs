//! What a node answers to packets for itself: echo replies, closed and open ports.

use core::net::IpAddr;

use plumb_wire::icmp::{Family, Kind, Message};
use plumb_wire::{Checksum, SplitMix64, ipv4, ipv6, protocol, tcp};

use super::error::{Complaint, initial_ttl};
use crate::flight::{Flight, Header, tcp_header};
use crate::network::Network;
use crate::topology::{Plan, Silence, UnreachableSource};

impl Network {
    /// Answers a packet that has arrived, if it wants an answer.
    pub(super) fn answer(&mut self, plan: &Plan, f: &mut Flight) -> Option<u16> {
        let node = &plan.nodes[usize::from(f.at)];
        let header = f.header?;
        if node.profile.silent == Silence::All {
            return None;
        }
        if !f.checksum_is_right() {
            return None;
        }
        let from_probed = node.profile.unreachable_source == UnreachableSource::Probed;
        match header.protocol {
            _ if header.is_icmp() => self.answer_echo(plan, f, header),
            protocol::UDP => {
                let complaint = Complaint::port_unreachable(header.family, header.ttl, from_probed);
                self.complain(plan, f, complaint)
            }
            protocol::TCP => self.answer_tcp(plan, f, header),
            _ if header.family == Family::V4 => {
                // Protocol unreachable (RFC 792).
                self.complain(plan, f, Complaint::unreachable(header.ttl, 2))
            }
            _ => None,
        }
    }

    fn answer_echo(&mut self, plan: &Plan, f: &mut Flight, header: Header) -> Option<u16> {
        let node = &plan.nodes[usize::from(f.at)];
        let message = Message::parse(header.family, f.transport()).ok()?;
        if message.kind != Kind::EchoRequest || node.profile.silent == Silence::Echo {
            return None;
        }
        let now = self.now;
        let state = &mut self.nodes[usize::from(f.at)];
        if let (Some(limit), Some(bucket)) = (node.profile.echoes, &mut state.echoes)
            && !bucket.take(limit, now)
        {
            return None;
        }
        let at = header.transport?;
        f.bytes[at] = Kind::EchoReply.number(header.family);
        // Only the type has changed (RFC 1624).
        let sum = Checksum::new()
            .word(!u16::from_be_bytes([f.bytes[at + 2], f.bytes[at + 3]]))
            .word(!(u16::from(Kind::EchoRequest.number(header.family)) << 8))
            .word(u16::from(f.bytes[at]) << 8)
            .finish();
        f.bytes[at + 2..at + 4].copy_from_slice(&sum.to_be_bytes());
        self.turn_around(plan, f, header)
    }

    fn answer_tcp(&mut self, plan: &Plan, f: &mut Flight, header: Header) -> Option<u16> {
        let node = &plan.nodes[usize::from(f.at)];
        let (probe, payload) = tcp_header(f.transport())?;
        if probe.flags & tcp::RST != 0 {
            return None;
        }
        let syn = probe.flags & tcp::SYN != 0;
        let open = node.open_tcp.contains(&probe.dst_port);
        let consumed = u32::try_from(payload).unwrap_or(0) + u32::from(syn);
        let (flags, seq, ack) = if probe.flags & tcp::ACK != 0 {
            // An acknowledgement of nothing (RFC 9293 §3.10.7.1).
            (tcp::RST, probe.ack, 0)
        } else if syn && open {
            let seq = (SplitMix64::mix(header.flow ^ self.salt) & 0xffff_ffff) as u32;
            (tcp::SYN | tcp::ACK, seq, probe.seq.wrapping_add(1))
        } else {
            (tcp::RST | tcp::ACK, 0, probe.seq.wrapping_add(consumed))
        };
        let reply = tcp::Header {
            src_port: probe.dst_port,
            dst_port: probe.src_port,
            seq,
            ack,
            flags,
            window: if flags & tcp::SYN != 0 { 65_535 } else { 0 },
            checksum: 0,
        };
        let at = header.transport?;
        f.bytes.truncate(at);
        f.bytes.resize(at + tcp::HEADER_LEN, 0);
        reply.emit(&mut f.bytes[at..]);
        let sum = Checksum::new()
            .pseudo_header(header.dst, header.src, protocol::TCP, tcp::HEADER_LEN)
            .bytes(&f.bytes[at..])
            .finish();
        f.bytes[at + 16..at + 18].copy_from_slice(&sum.to_be_bytes());
        self.turn_around(plan, f, header)
    }

    /// Gives the packet a header that sends its transport part back to where it came from. IP
    /// options and extension headers are not returned.
    fn turn_around(&mut self, plan: &Plan, f: &mut Flight, header: Header) -> Option<u16> {
        let at = header.transport?;
        let ttl = initial_ttl(&plan.nodes[usize::from(f.at)].profile, header.family, false);
        let tos = match header.family {
            Family::V4 => f.bytes[1],
            Family::V6 => (f.bytes[0] << 4) | (f.bytes[1] >> 4),
        };
        let ident = self.ident(plan, f.at);
        match (header.dst, header.src) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                f.bytes.drain(..at - ipv4::HEADER_LEN);
                let reply = ipv4::Header {
                    tos,
                    total_len: u16::try_from(f.bytes.len()).unwrap_or(u16::MAX),
                    ident,
                    flags_fragment: 0,
                    ttl,
                    protocol: header.protocol,
                    src,
                    dst,
                };
                reply.emit(&mut f.bytes);
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                f.bytes.drain(..at - ipv6::HEADER_LEN);
                let payload = f.bytes.len() - ipv6::HEADER_LEN;
                let reply = ipv6::Header {
                    traffic_class: tos,
                    flow_label: 0,
                    payload_len: u16::try_from(payload).unwrap_or(u16::MAX),
                    next_header: header.protocol,
                    hop_limit: ttl,
                    src,
                    dst,
                };
                reply.emit(&mut f.bytes);
            }
            _ => return None,
        }
        self.originate(plan, f)
    }
}
