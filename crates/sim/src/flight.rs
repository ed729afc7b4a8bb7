//! A packet on its way.

use alloc::vec::Vec;
use core::net::IpAddr;

use plumb_wire::icmp::Family;
use plumb_wire::mpls::Lse;
use plumb_wire::{Checksum, SplitMix64, checksum, icmp, ipv4, ipv6, protocol, tcp, udp};

use crate::lookup::Owner;

/// A packet with what the routers on its way need to know, read once.
///
/// The TTL in `bytes` is stale while the packet travels; [`Flight::seal`] writes the real one.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    pub(crate) bytes: Vec<u8>,
    pub(crate) header: Option<Header>,
    /// Labels with their TTLs, the top one last.
    pub(crate) stack: Stack,
    /// The labels as they came to the router that removed the last one.
    pub(crate) popped: Stack,
    /// The node at which the packet is.
    pub(crate) at: u16,
    /// The interface of that node on which it came.
    pub(crate) incoming: u16,
    /// Links that it has crossed.
    pub(crate) steps: u16,
    /// It was made by the node where it is, not received there.
    pub(crate) own: bool,
}

/// What of an IP packet decides its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) family: Family,
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) ttl: u8,
    pub(crate) protocol: u8,
    /// Where the transport header begins, if the packet has one.
    pub(crate) transport: Option<usize>,
    /// May not be cut into fragments.
    pub(crate) whole: bool,
    pub(crate) flow: u64,
    pub(crate) owner: Option<Owner>,
}

/// A label stack of at most two entries: one transport label and one service label.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stack {
    entries: [Lse; 2],
    len: u8,
}

impl Stack {
    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entries from the bottom to the top.
    pub(crate) fn entries(&self) -> &[Lse] {
        &self.entries[..usize::from(self.len)]
    }

    pub(crate) fn top_mut(&mut self) -> Option<&mut Lse> {
        self.entries[..usize::from(self.len)].last_mut()
    }

    /// Adds a label; one too many for the stack is not added, which no topology can bring about.
    pub(crate) fn push(&mut self, label: u32, ttl: u8) {
        if let Some(free) = self.entries.get_mut(usize::from(self.len)) {
            *free = Lse {
                label,
                tc: 0,
                s: self.len == 0,
                ttl,
            };
            self.len += 1;
        }
    }

    /// Gives all entries the same TTL.
    pub(crate) fn set_ttl(&mut self, ttl: u8) {
        for lse in &mut self.entries {
            lse.ttl = ttl;
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Lse> {
        let top = *self.entries().last()?;
        self.len -= 1;
        Some(top)
    }
}

impl Header {
    /// Reads the packet in `bytes`; `None` if a router would throw it away as malformed.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Self::parse_v4(bytes),
            6 => Self::parse_v6(bytes),
            _ => None,
        }
    }

    fn parse_v4(bytes: &[u8]) -> Option<Self> {
        let (h, rest) = ipv4::Header::parse(bytes).ok()?;
        let len = bytes.len() - rest.len();
        if usize::from(h.total_len) != bytes.len() || checksum(&bytes[..len]) != 0 {
            return None;
        }
        let transport = (!h.is_later_fragment()).then_some(len);
        Some(Self {
            family: Family::V4,
            src: h.src.into(),
            dst: h.dst.into(),
            ttl: h.ttl,
            protocol: h.protocol,
            transport,
            whole: h.flags_fragment & ipv4::DONT_FRAGMENT != 0,
            flow: flow(bytes, 12..20, h.protocol.into(), transport),
            owner: None,
        })
    }

    fn parse_v6(bytes: &[u8]) -> Option<Self> {
        let (h, rest) = ipv6::Header::parse(bytes).ok()?;
        if usize::from(h.payload_len) != rest.len() {
            return None;
        }
        let found = ipv6::transport(h.next_header, rest);
        let protocol = found.map_or(h.next_header, |(protocol, _)| protocol);
        let transport = found.map(|(_, t)| bytes.len() - t.len());
        let label = u64::from(h.flow_label) << 8 | u64::from(protocol);
        Some(Self {
            family: Family::V6,
            src: h.src.into(),
            dst: h.dst.into(),
            ttl: h.hop_limit,
            protocol,
            transport,
            whole: true,
            flow: flow(bytes, 8..40, label, transport),
            owner: None,
        })
    }
}

impl Flight {
    /// The transport header and payload; empty if the packet has none.
    pub(crate) fn transport(&self) -> &[u8] {
        let at = self.header.and_then(|h| h.transport);
        at.and_then(|at| self.bytes.get(at..)).unwrap_or_default()
    }

    /// Writes `ttl` into the packet.
    pub(crate) fn seal(&mut self, ttl: u8) {
        match self.header.map(|h| h.family) {
            Some(Family::V4) => {
                let len = (usize::from(self.bytes[0] & 0x0f) * 4).min(self.bytes.len());
                self.bytes[8] = ttl;
                self.bytes[10..12].fill(0);
                let sum = checksum(&self.bytes[..len]);
                self.bytes[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            Some(Family::V6) => self.bytes[7] = ttl,
            None => {}
        }
    }

    /// Says whether the destination would accept the transport checksum.
    pub(crate) fn checksum_is_right(&self) -> bool {
        let Some(h) = self.header else { return false };
        let bytes = self.transport();
        let sum = match (h.family, h.protocol) {
            (Family::V4, protocol::ICMP) => return checksum(bytes) == 0,
            (Family::V4, protocol::UDP) if bytes.get(6..8) == Some(&[0, 0]) => return true,
            (_, protocol::UDP) => {
                let len = udp::Header::parse(bytes).map_or(0, |(u, _)| usize::from(u.len));
                if len < udp::HEADER_LEN || len > bytes.len() {
                    return false;
                }
                Checksum::new()
                    .pseudo_header(h.src, h.dst, h.protocol, len)
                    .bytes(&bytes[..len])
            }
            (_, protocol::TCP) => Checksum::new()
                .pseudo_header(h.src, h.dst, h.protocol, bytes.len())
                .bytes(bytes),
            (Family::V6, protocol::ICMPV6) => Checksum::new()
                .pseudo_header(h.src, h.dst, h.protocol, bytes.len())
                .bytes(bytes),
            _ => return true,
        };
        sum.finish() == 0
    }

    /// Says whether an ICMP error may be sent about the packet (RFC 1122 §3.2.2, RFC 4443 §2.4).
    pub(crate) fn may_cause_error(&self) -> bool {
        let Some(h) = self.header else { return false };
        let Some(_) = h.transport else { return false };
        let single = |a: IpAddr| match a {
            IpAddr::V4(a) => !a.is_multicast() && !a.is_broadcast() && !a.is_unspecified(),
            IpAddr::V6(a) => !a.is_multicast() && !a.is_unspecified(),
        };
        let error = match icmp::Message::parse(h.family, self.transport()) {
            Ok(m) if h.is_icmp() => {
                !matches!(m.kind, icmp::Kind::EchoRequest | icmp::Kind::EchoReply)
            }
            _ => false,
        };
        !error && single(h.src) && single(h.dst)
    }
}

impl Header {
    /// Says whether the packet is ICMP of its own family.
    pub(crate) const fn is_icmp(&self) -> bool {
        matches!(
            (self.family, self.protocol),
            (Family::V4, protocol::ICMP) | (Family::V6, protocol::ICMPV6)
        )
    }
}

/// Reads a TCP header, and says how many bytes of payload follow.
pub(crate) fn tcp_header(bytes: &[u8]) -> Option<(tcp::Header, usize)> {
    let (header, rest) = tcp::Header::parse(bytes).ok()?;
    Some((header, rest.len()))
}

/// Hash over addresses, protocol (and flow label) and the first four bytes of the transport
/// header: what load balancers look at.
fn flow(
    bytes: &[u8],
    addresses: core::ops::Range<usize>,
    protocol: u64,
    transport: Option<usize>,
) -> u64 {
    let mut hash = SplitMix64::mix(protocol);
    let first = transport
        .and_then(|at| bytes.get(at..at + 4))
        .unwrap_or(&[]);
    for word in bytes[addresses].chunks(4).chain(core::iter::once(first)) {
        let mut four = [0; 4];
        four[..word.len()].copy_from_slice(word);
        hash = SplitMix64::mix(hash ^ u64::from(u32::from_be_bytes(four)));
    }
    hash
}
