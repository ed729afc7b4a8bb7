//! Source NAT for IPv4: many inside addresses behind one outside (RFC 3022, RFC 5508).

use alloc::collections::{BTreeMap, VecDeque};
use core::net::{IpAddr, Ipv4Addr};

use plumb_wire::icmp::{Family, Kind, Message};
use plumb_wire::{checksum, icmp, ipv4, protocol};

use crate::flight::{Flight, Header};
use crate::network::Network;
use crate::topology::{NatPorts, NatQuote, Plan};

/// Flows that one router translates at once; the oldest is forgotten first.
const MAX_FLOWS: usize = 32_768;

/// A flow as the inside knows it: protocol, address, and port or echo identifier.
type Inside = (u8, Ipv4Addr, u16);

/// What a router translates.
#[derive(Debug, Default)]
pub(crate) struct NatTable {
    outward: BTreeMap<Inside, u16>,
    inward: BTreeMap<(u8, u16), (Ipv4Addr, u16)>,
    order: VecDeque<Inside>,
}

impl NatTable {
    /// The outside port or identifier of a flow.
    fn outside(&mut self, inside: Inside, ports: NatPorts) -> u16 {
        if let Some(&port) = self.outward.get(&inside) {
            return port;
        }
        if self.order.len() >= MAX_FLOWS
            && let Some(oldest) = self.order.pop_front()
            && let Some(port) = self.outward.remove(&oldest)
        {
            self.inward.remove(&(oldest.0, port));
        }
        let (protocol, address, own) = inside;
        // Any other number will do, as long as it is not the flow's own.
        let mut port = match ports {
            NatPorts::Keep => own,
            NatPorts::Rewrite => own.wrapping_add(20_011).max(1),
        };
        while self.inward.contains_key(&(protocol, port)) {
            port = port.wrapping_add(1).max(1);
        }
        self.outward.insert(inside, port);
        self.inward.insert((protocol, port), (address, own));
        self.order.push_back(inside);
        port
    }
}

impl Network {
    /// Translates a packet that leaves by the outside interface of a router with NAT.
    pub(crate) fn nat_outbound(&mut self, plan: &Plan, f: &mut Flight, out: u16) {
        let node = &plan.nodes[usize::from(f.at)];
        let (Some(nat), Some(header)) = (node.nat, f.header) else {
            return;
        };
        let outside = node.interfaces[usize::from(nat.outside)].v4;
        let (Some(outside), IpAddr::V4(inside), Some(at)) = (outside, header.src, header.transport)
        else {
            return;
        };
        if f.own || out != nat.outside {
            return;
        }
        let Some(id_at) = id_offset(header, f.transport(), Side::Source) else {
            return;
        };
        let Some(own) = word(&f.bytes, at + id_at) else {
            return;
        };
        let port = self.nodes[usize::from(f.at)]
            .nat
            .outside((header.protocol, inside, own), nat.ports);
        rewrite(&mut f.bytes, at, Side::Source, outside, id_at, port, true);
        self.reread(plan, f);
    }

    /// Translates a packet back that came to the outside address of a router with NAT.
    pub(crate) fn nat_inbound(&mut self, plan: &Plan, f: &mut Flight) {
        let node = &plan.nodes[usize::from(f.at)];
        let (Some(nat), Some(header)) = (node.nat, f.header) else {
            return;
        };
        let outside = node.interfaces[usize::from(nat.outside)].v4;
        if f.incoming != nat.outside
            || outside.map(IpAddr::V4) != Some(header.dst)
            || header.family != Family::V4
        {
            return;
        }
        let Some(at) = header.transport else { return };
        let table = &self.nodes[usize::from(f.at)].nat;
        let error = header.is_icmp()
            && Message::parse(Family::V4, f.transport()).is_ok_and(|m| m.kind.is_error());
        let translated = if error {
            restore_error(table, &mut f.bytes, at, nat.quote)
        } else {
            restore(table, &mut f.bytes, header, at)
        };
        if translated.is_some() {
            self.reread(plan, f);
        }
    }

    /// Reads the addresses again after they have changed; the TTL stays what it was.
    fn reread(&self, plan: &Plan, f: &mut Flight) {
        let ttl = f.header.map_or(0, |h| h.ttl);
        f.seal(ttl);
        if let Some(mut header) = Header::parse(&f.bytes) {
            header.owner = plan.lookup.find(header.dst);
            f.header = Some(header);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Destination,
}

/// Where in the transport header the port or identifier of a side stands.
fn id_offset(header: Header, transport: &[u8], side: Side) -> Option<usize> {
    match header.protocol {
        protocol::UDP | protocol::TCP => Some(if side == Side::Source { 0 } else { 2 }),
        protocol::ICMP => match Message::parse(Family::V4, transport).ok()?.kind {
            Kind::EchoRequest | Kind::EchoReply => Some(4),
            Kind::Unreachable
            | Kind::PacketTooBig
            | Kind::TimeExceeded
            | Kind::ParameterProblem
            | Kind::Other(_) => None,
        },
        _ => None,
    }
}

/// Turns a reply's destination back into the inside host.
fn restore(table: &NatTable, bytes: &mut [u8], header: Header, at: usize) -> Option<()> {
    let id_at = id_offset(header, bytes.get(at..)?, Side::Destination)?;
    let port = word(bytes, at + id_at)?;
    let &(address, own) = table.inward.get(&(header.protocol, port))?;
    rewrite(bytes, at, Side::Destination, address, id_at, own, true);
    Some(())
}

/// Turns an error's destination back into the inside host, and its quote as far as `how` says.
fn restore_error(table: &NatTable, bytes: &mut [u8], at: usize, how: NatQuote) -> Option<()> {
    let quote_at = at + icmp::HEADER_LEN;
    let quote = bytes.get(quote_at..)?;
    let (quoted, rest) = ipv4::Header::parse(quote).ok()?;
    let inner = quote.len() - rest.len();
    let id_at = if quoted.protocol == protocol::ICMP {
        4
    } else {
        0
    };
    let port = word(rest, id_at)?;
    let &(address, own) = table.inward.get(&(quoted.protocol, port))?;
    if how != NatQuote::None {
        let full = how == NatQuote::Full;
        let quote = &mut bytes[quote_at..];
        rewrite(quote, inner, Side::Source, address, id_at, own, full);
        quote[10..12].fill(0);
        let sum = checksum(&quote[..inner]);
        quote[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    bytes[16..20].copy_from_slice(&address.octets());
    icmp::fill_checksum_v4(&mut bytes[at..]);
    Some(())
}

/// Writes an address and a port or identifier, and corrects the transport checksum if it is there
/// and `correct` says so. The IP header's own checksum is left to the caller.
fn rewrite(
    bytes: &mut [u8],
    at: usize,
    side: Side,
    address: Ipv4Addr,
    id_at: usize,
    id: u16,
    correct: bool,
) {
    let address_at = if side == Side::Source { 12 } else { 16 };
    let (sum_at, counts_address) = match bytes[9] {
        protocol::UDP => (6, true),
        protocol::TCP => (16, true),
        _ => (2, false),
    };
    let is_udp = bytes[9] == protocol::UDP;
    let old_id = word(bytes, at + id_at).unwrap_or(0);
    if let Some(sum) = word(bytes, at + sum_at)
        && correct
        && !(is_udp && sum == 0)
    {
        let mut new = replace(sum, old_id, id);
        if counts_address {
            let octets = address.octets();
            for half in [0, 2] {
                let old = word(bytes, address_at + half).unwrap_or(0);
                let word = u16::from_be_bytes([octets[half], octets[half + 1]]);
                new = replace(new, old, word);
            }
        }
        if is_udp && new == 0 {
            new = 0xffff;
        }
        bytes[at + sum_at..at + sum_at + 2].copy_from_slice(&new.to_be_bytes());
    }
    if let Some(field) = bytes.get_mut(at + id_at..at + id_at + 2) {
        field.copy_from_slice(&id.to_be_bytes());
    }
    bytes[address_at..address_at + 4].copy_from_slice(&address.octets());
}

/// The checksum after one word of what it covers has changed (RFC 1624).
fn replace(sum: u16, old: u16, new: u16) -> u16 {
    plumb_wire::Checksum::new()
        .word(!sum)
        .word(!old)
        .word(new)
        .finish()
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let word = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([word[0], word[1]]))
}
