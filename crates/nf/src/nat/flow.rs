//! The way of one packet, outwards and inwards.

use core::net::Ipv4Addr;

use plumb_wire::frame::Port;
use plumb_wire::{Instant, protocol, tcp, udp};

use crate::offload::get;
use crate::{Frame, Output};

use super::icmp::{self, Message, PORT, PROHIBITED, TIME_EXCEEDED, UNREACHABLE};
use super::rewrite::{Side, View, decrement_ttl, partial_field, rewrite};
use super::table::Full;
use super::{Cause, Endpoint, Nat, Protocol};

/// What a packet is to a NAT.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Between two ports.
    Ports {
        protocol: Protocol,
        src: u16,
        dst: u16,
        /// TCP flags.
        flags: u8,
    },
    Icmp(Message),
    /// Any other protocol: there are no ports to share an address by.
    Other,
}

impl Nat {
    /// Translates a packet from the inside; says where it leaves.
    pub(super) fn outbound(
        &mut self,
        frame: &mut Frame,
        view: &View,
        now: Instant,
        out: &mut Output,
    ) -> Result<Port, Cause> {
        if !self.is_inside(view.src) {
            return Err(Cause::ForeignSource);
        }
        let mut mac = [0; 6];
        mac.copy_from_slice(&frame.bytes[6..12]);
        self.neighbours.learn(view.src, mac);
        if !is_forwarded(view.dst) {
            return Err(Cause::NotForwarded);
        }
        self.hop(frame, view, Port::Left, out)?;
        let kind = kind(&frame.bytes, view)?;
        let partial = partial_field(frame);
        let fixed = self.static_outside.get(&view.src).copied();
        let (address, port) = match (kind, fixed) {
            (Kind::Icmp(Message::Error), _) => (self.outbound_error(frame, view)?, None),
            (_, Some(outside)) => (outside, None),
            (
                Kind::Ports {
                    protocol,
                    src,
                    dst,
                    flags,
                },
                None,
            ) => {
                let inside = Endpoint::new(view.src, src);
                let remote = Endpoint::new(view.dst, dst);
                let outside = self.open(protocol, inside, remote, flags, frame, view, now, out)?;
                (outside.address, Some(outside.port))
            }
            (Kind::Icmp(Message::Query(ident)), None) => {
                let inside = Endpoint::new(view.src, ident);
                let remote = Endpoint::new(view.dst, 0);
                let outside =
                    self.open(Protocol::Icmp, inside, remote, 0, frame, view, now, out)?;
                (outside.address, Some(outside.port))
            }
            (Kind::Icmp(Message::Reply(_)), None) => return Err(Cause::NoMapping),
            (Kind::Icmp(Message::Other) | Kind::Other, None) => return Err(Cause::Unsupported),
        };
        rewrite(&mut frame.bytes, view, Side::Source, address, port, partial);
        if !self.outside.contains(&view.dst) {
            return Ok(Port::Right);
        }
        if !self.config.hairpin {
            return Err(Cause::NoHairpin);
        }
        // From here on it is a packet from outside, whose source is the outside endpoint
        // (RFC 4787 REQ-9).
        let translated = View {
            src: address,
            ..*view
        };
        let to = self.inbound(frame, &translated, Port::Left, now, out)?;
        self.hairpinned += 1;
        Ok(to)
    }

    /// Translates a packet to an outside address; `from` is left where the inside sent it.
    pub(super) fn inbound(
        &mut self,
        frame: &mut Frame,
        view: &View,
        from: Port,
        now: Instant,
        out: &mut Output,
    ) -> Result<Port, Cause> {
        if !self.outside.contains(&view.dst) {
            return Err(Cause::NotForUs);
        }
        if from == Port::Right {
            if self.outside.contains(&view.src) || !is_unicast(view.src) {
                return Err(Cause::ForeignSource);
            }
            self.hop(frame, view, from, out)?;
        }
        let kind = kind(&frame.bytes, view)?;
        let partial = partial_field(frame);
        let fixed = self.static_inside.get(&view.dst).copied();
        let (address, port) = match (kind, fixed) {
            (Kind::Icmp(Message::Error), _) => (self.inbound_error(frame, view)?, None),
            (_, Some(inside)) => (inside, None),
            (
                Kind::Ports {
                    protocol,
                    src,
                    dst,
                    flags,
                },
                None,
            ) => {
                let outside = Endpoint::new(view.dst, dst);
                let remote = Endpoint::new(view.src, src);
                let is_syn = protocol == Protocol::Tcp
                    && flags & (tcp::SYN | tcp::ACK | tcp::RST) == tcp::SYN;
                let found = self.table.of_outside(protocol, outside);
                match found {
                    Some((id, mapping)) if self.table.received(id, remote, flags, now) => {
                        (mapping.inside.address, Some(mapping.inside.port))
                    }
                    _ if is_syn && from == Port::Right => {
                        let due = now + self.config.timeouts.unsolicited_syn;
                        let syn = out.copy(frame);
                        self.unsolicited.keep(due, outside, remote, syn);
                        return Err(Cause::Unsolicited);
                    }
                    Some(_) => return Err(Cause::Filtered),
                    None => return Err(Cause::NoMapping),
                }
            }
            (Kind::Icmp(Message::Reply(ident)), None) => {
                let outside = Endpoint::new(view.dst, ident);
                let (id, mapping) = self
                    .table
                    .of_outside(Protocol::Icmp, outside)
                    .ok_or(Cause::NoMapping)?;
                if !self.table.received(id, Endpoint::new(view.src, 0), 0, now) {
                    return Err(Cause::Filtered);
                }
                (mapping.inside.address, Some(mapping.inside.port))
            }
            (Kind::Icmp(Message::Query(_)), None) => return Err(Cause::NoMapping),
            (Kind::Icmp(Message::Other) | Kind::Other, None) => return Err(Cause::Unsupported),
        };
        rewrite(
            &mut frame.bytes,
            view,
            Side::Destination,
            address,
            port,
            partial,
        );
        if let Some(mac) = self.neighbours.mac(address) {
            frame.bytes[..6].copy_from_slice(&mac);
        }
        Ok(Port::Left)
    }

    /// Refuses a SYN that nobody inside has met half-way.
    pub(super) fn refuse_syn(&mut self, syn: Frame, now: Instant, out: &mut Output) {
        let view =
            crate::offload::network_header(&syn.bytes).and_then(|(_, ip)| View::of_frame(&syn, ip));
        if let Some(view) = view {
            let mut answer = out.empty();
            let what = (UNREACHABLE, PORT);
            if icmp::error(&mut answer, &syn, &view, what, view.dst, self.config.mac) {
                answer.at = now;
                out.send(Port::Right, answer);
            }
        }
        out.recycle(syn);
    }

    /// The outside endpoint of an inside one that sends now.
    #[expect(
        clippy::too_many_arguments,
        reason = "the packet in parts, and the packet for the error about it"
    )]
    fn open(
        &mut self,
        protocol: Protocol,
        inside: Endpoint,
        remote: Endpoint,
        flags: u8,
        frame: &Frame,
        view: &View,
        now: Instant,
        out: &mut Output,
    ) -> Result<Endpoint, Cause> {
        let opened = self.table.outbound(protocol, inside, now).and_then(|id| {
            if self.table.sent(id, remote, flags, now) {
                self.table.mapping(id).ok_or(Full::Table)
            } else {
                Err(Full::Table)
            }
        });
        match opened {
            Ok(mapping) => {
                if flags & tcp::SYN != 0 {
                    self.unsolicited.forget(mapping.outside, remote);
                }
                Ok(mapping.outside)
            }
            Err(full) => {
                // RFC 5508 REQ-8: who is refused is told.
                self.tell_inside(frame, view, (UNREACHABLE, PROHIBITED), out);
                Err(match full {
                    Full::Host => Cause::HostLimit,
                    Full::Ports => Cause::NoPort,
                    Full::Table => Cause::TableFull,
                })
            }
        }
    }

    /// Reverts what an error from inside quotes; returns its new source (RFC 5508 REQ-5).
    fn outbound_error(&mut self, frame: &mut Frame, view: &View) -> Result<Ipv4Addr, Cause> {
        let quoted = icmp::quoted(frame, view).ok_or(Cause::BadError)?;
        let fixed = self.static_outside.get(&quoted.dst.address).copied();
        let (address, port) = match fixed {
            Some(outside) => (outside, None),
            None => {
                let protocol = quoted.protocol.ok_or(Cause::BadError)?;
                let mapping = self
                    .table
                    .of_inside(protocol, quoted.dst)
                    .ok_or(Cause::BadError)?;
                (mapping.outside.address, Some(mapping.outside.port))
            }
        };
        icmp::rewrite_quoted(
            &mut frame.bytes,
            view,
            &quoted,
            Side::Destination,
            address,
            port,
        );
        let own = self.static_outside.get(&view.src).copied();
        Ok(own.unwrap_or(address))
    }

    /// Reverts what an error from outside quotes; returns its new destination (RFC 5508 REQ-4).
    fn inbound_error(&mut self, frame: &mut Frame, view: &View) -> Result<Ipv4Addr, Cause> {
        let quoted = icmp::quoted(frame, view).ok_or(Cause::BadError)?;
        if quoted.src.address != view.dst {
            return Err(Cause::BadError);
        }
        let fixed = self.static_inside.get(&quoted.src.address).copied();
        let (address, port) = match fixed {
            Some(inside) => (inside, None),
            None => {
                let protocol = quoted.protocol.ok_or(Cause::BadError)?;
                let (_, mapping) = self
                    .table
                    .of_outside(protocol, quoted.src)
                    .ok_or(Cause::BadError)?;
                (mapping.inside.address, Some(mapping.inside.port))
            }
        };
        icmp::rewrite_quoted(&mut frame.bytes, view, &quoted, Side::Source, address, port);
        Ok(address)
    }

    /// Counts the NAT as a hop, where it is one.
    fn hop(
        &mut self,
        frame: &mut Frame,
        view: &View,
        from: Port,
        out: &mut Output,
    ) -> Result<(), Cause> {
        if !self.config.decrement_ttl {
            return Ok(());
        }
        if view.ttl > 1 {
            decrement_ttl(&mut frame.bytes, view);
            return Ok(());
        }
        match from {
            Port::Left => self.tell_inside(frame, view, (TIME_EXCEEDED, 0), out),
            Port::Right => {
                let mut answer = out.empty();
                let what = (TIME_EXCEEDED, 0);
                if icmp::error(&mut answer, frame, view, what, view.dst, self.config.mac) {
                    out.send(Port::Right, answer);
                }
            }
        }
        Err(Cause::TtlExpired)
    }

    /// Sends an error about a packet from the inside back.
    fn tell_inside(&mut self, frame: &Frame, view: &View, what: (u8, u8), out: &mut Output) {
        let from = match self.static_outside.get(&view.src) {
            Some(outside) => Some(*outside),
            None => self.table.address_of(view.src),
        };
        let mut answer = out.empty();
        if let Some(from) = from
            && icmp::error(&mut answer, frame, view, what, from, self.config.mac)
        {
            out.send(Port::Left, answer);
        } else {
            out.recycle(answer);
        }
    }

    fn is_inside(&self, address: Ipv4Addr) -> bool {
        let within = |(net, len): &(Ipv4Addr, u8)| {
            let differ = address.to_bits() ^ net.to_bits();
            differ
                .checked_shr(32 - u32::from((*len).min(32)))
                .unwrap_or(0)
                == 0
        };
        is_unicast(address)
            && !self.outside.contains(&address)
            && (self.config.inside.is_empty() || self.config.inside.iter().any(within))
    }
}

#[inline(always)]
fn kind(bytes: &[u8], view: &View) -> Result<Kind, Cause> {
    let at = view.transport;
    let (protocol, need) = match view.protocol {
        protocol::TCP => (Protocol::Tcp, tcp::HEADER_LEN),
        protocol::UDP => (Protocol::Udp, udp::HEADER_LEN),
        protocol::ICMP => {
            let message = icmp::message(bytes, view).ok_or(Cause::Malformed)?;
            return Ok(Kind::Icmp(message));
        }
        _ => return Ok(Kind::Other),
    };
    // First fragments without the whole header are a way around filters (RFC 1858).
    if view.transport_len() < need {
        return Err(Cause::Malformed);
    }
    Ok(Kind::Ports {
        protocol,
        src: get(bytes, at),
        dst: get(bytes, at + 2),
        flags: match protocol {
            Protocol::Tcp => bytes[at + 13],
            Protocol::Udp | Protocol::Icmp => 0,
        },
    })
}

/// Says whether a packet may come from this address.
const fn is_unicast(address: Ipv4Addr) -> bool {
    !(address.is_multicast()
        || address.is_broadcast()
        || address.is_loopback()
        || address.octets()[0] == 0)
}

/// Says whether a router passes packets to this address on.
const fn is_forwarded(address: Ipv4Addr) -> bool {
    is_unicast(address) && !address.is_link_local()
}
