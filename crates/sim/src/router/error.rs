//! ICMP errors: which are sent, from where, and what they quote.

use alloc::vec::Vec;
use core::net::IpAddr;

use plumb_wire::icmp::{Family, Kind, fill_checksum_v4, fill_checksum_v6};
use plumb_wire::mpls::Lse;
use plumb_wire::{checksum, icmp, icmp_ext, ipv4, ipv6, protocol};

use crate::flight::{Flight, Header, Stack};
use crate::network::Network;
use crate::topology::{ExtensionStyle, IpId, Node, Plan, Profile, QuoteLen, Silence};

/// DSCP CS6: how routers mark what they send about the network itself.
const TOS: u8 = 0xc0;

/// What a node has to say about a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Complaint {
    kind: Kind,
    code: u8,
    /// The lower 16 bits of the header's second word: an MTU.
    mtu: u16,
    quoted_ttl: u8,
    /// Labels with which the packet came.
    stack: Stack,
    /// From the address that was probed, not that of the interface.
    from_probed: bool,
}

impl Complaint {
    /// Time exceeded in transit.
    pub(crate) const fn expired(quoted_ttl: u8, stack: Stack) -> Self {
        Self {
            kind: Kind::TimeExceeded,
            code: 0,
            mtu: 0,
            quoted_ttl,
            stack,
            from_probed: false,
        }
    }

    /// Destination unreachable.
    pub(crate) fn unreachable(quoted_ttl: u8, code: u8) -> Self {
        Self {
            kind: Kind::Unreachable,
            code,
            ..Self::expired(quoted_ttl, Stack::default())
        }
    }

    /// Port unreachable, sent from the probed address or from the interface.
    pub(crate) fn port_unreachable(family: Family, quoted_ttl: u8, from_probed: bool) -> Self {
        let code = match family {
            Family::V4 => 3,
            Family::V6 => 4,
        };
        Self {
            from_probed,
            ..Self::unreachable(quoted_ttl, code)
        }
    }

    /// Packet too big, or fragmentation needed.
    pub(crate) fn too_big(family: Family, quoted_ttl: u8, mtu: u16) -> Self {
        let code = match family {
            Family::V4 => 4,
            Family::V6 => 0,
        };
        Self {
            kind: Kind::PacketTooBig,
            mtu,
            ..Self::unreachable(quoted_ttl, code)
        }
    }
}

impl Network {
    /// Replaces the packet by an error about it and sends that, by the router's own routes.
    pub(crate) fn complain(
        &mut self,
        plan: &Plan,
        f: &mut Flight,
        complaint: Complaint,
    ) -> Option<u16> {
        if self.become_error(plan, f, complaint, 0) {
            self.originate(plan, f)
        } else {
            None
        }
    }

    /// Replaces the packet by an error about it, if the node sends one. `below_initial` is how much
    /// the TTL is below the usual.
    pub(crate) fn become_error(
        &mut self,
        plan: &Plan,
        f: &mut Flight,
        complaint: Complaint,
        below_initial: u8,
    ) -> bool {
        let node = &plan.nodes[usize::from(f.at)];
        let Some(header) = f.header else { return false };
        let silent = match node.profile.silent {
            Silence::No | Silence::Echo => false,
            Silence::TimeExceeded => complaint.kind == Kind::TimeExceeded,
            Silence::All => true,
        };
        if silent || f.own || !f.may_cause_error() {
            return false;
        }
        let Some(src) = source(node, f, header, complaint) else {
            return false;
        };
        let now = self.now;
        let state = &mut self.nodes[usize::from(f.at)];
        if let (Some(limit), Some(bucket)) = (node.profile.errors, &mut state.errors)
            && !bucket.take(limit, now)
        {
            return false;
        }
        f.seal(complaint.quoted_ttl);
        let mut out = self.spare.pop().unwrap_or_default();
        let body = write_body(&node.profile, f, header, &complaint, &mut out);
        debug_assert!(body >= icmp::HEADER_LEN);
        let ttl = initial_ttl(&node.profile, header.family, true).saturating_sub(below_initial);
        let ident = self.ident(plan, f.at);
        finish(&mut out, header.family, src, header.src, ttl, ident);
        let old = core::mem::replace(&mut f.bytes, out);
        self.recycle(old);
        f.own = true;
        f.header = Header::parse(&f.bytes).map(|mut h| {
            h.owner = plan.lookup.find(h.dst);
            h
        });
        f.header.is_some()
    }

    /// The IPv4 identification of the node's next packet.
    pub(crate) fn ident(&mut self, plan: &Plan, at: u16) -> u16 {
        match plan.nodes[usize::from(at)].profile.ip_id {
            IpId::Zero => 0,
            IpId::Random => (self.random.next() & 0xffff) as u16,
            IpId::Counter => {
                let counter = &mut self.nodes[usize::from(at)].ip_id;
                *counter = counter.wrapping_add(1);
                *counter
            }
        }
    }
}

/// The TTL or hop limit of a node's own packets: errors, or everything else.
pub(crate) const fn initial_ttl(p: &Profile, family: Family, error: bool) -> u8 {
    match (family, error) {
        (Family::V4, true) => p.time_exceeded_ttl,
        (Family::V4, false) => p.echo_reply_ttl,
        (Family::V6, true) => p.time_exceeded_hop_limit,
        (Family::V6, false) => p.echo_reply_hop_limit,
    }
}

/// Writes the IP header before an ICMP message that is complete but for its checksum; the room for
/// the header is there.
pub(crate) fn finish(
    out: &mut [u8],
    family: Family,
    src: IpAddr,
    dst: IpAddr,
    ttl: u8,
    ident: u16,
) {
    let total = out.len();
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) if family == Family::V4 => {
            fill_checksum_v4(&mut out[ipv4::HEADER_LEN..]);
            let header = ipv4::Header {
                tos: TOS,
                total_len: u16::try_from(total).unwrap_or(u16::MAX),
                ident,
                flags_fragment: 0,
                ttl,
                protocol: protocol::ICMP,
                src,
                dst,
            };
            header.emit(out);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            fill_checksum_v6(src, dst, &mut out[ipv6::HEADER_LEN..]);
            let header = ipv6::Header {
                traffic_class: TOS,
                flow_label: 0,
                payload_len: u16::try_from(total - ipv6::HEADER_LEN).unwrap_or(u16::MAX),
                next_header: protocol::ICMPV6,
                hop_limit: ttl,
                src,
                dst,
            };
            header.emit(out);
        }
        _ => {}
    }
}

/// From which address the node complains.
fn source(node: &Node, f: &Flight, header: Header, complaint: Complaint) -> Option<IpAddr> {
    if complaint.from_probed {
        return Some(header.dst);
    }
    node.interfaces[usize::from(f.incoming)]
        .address(header.family)
        .or_else(|| node.loopback(header.family))
}

/// Writes the ICMP message behind room for the IP header, and returns its length.
fn write_body(
    profile: &Profile,
    f: &Flight,
    header: Header,
    complaint: &Complaint,
    out: &mut Vec<u8>,
) -> usize {
    let v4 = header.family == Family::V4;
    let room = if v4 {
        ipv4::HEADER_LEN
    } else {
        ipv6::HEADER_LEN
    };
    out.clear();
    out.resize(room, 0);
    out.extend([complaint.kind.number(header.family), complaint.code, 0, 0]);
    out.extend(u32::from(complaint.mtu).to_be_bytes());
    let stack = complaint.stack.entries();
    let extended = profile.rfc4950 && !stack.is_empty() && complaint.kind == Kind::TimeExceeded;
    let most = match (profile.quote, v4) {
        (QuoteLen::Minimal, true) => header.transport.unwrap_or(ipv4::HEADER_LEN) + 8,
        (QuoteLen::Full, true) => 576 - room - icmp::HEADER_LEN,
        (_, false) => 1280 - room - icmp::HEADER_LEN,
    };
    let most = match (extended, profile.extensions) {
        (true, ExtensionStyle::Long) => most.min(480),
        (true, _) => most.min(icmp_ext::DEFAULT_QUOTE_LEN),
        (false, _) => most,
    };
    let quote = out.len();
    out.extend_from_slice(&f.bytes[..most.min(f.bytes.len())]);
    deface(profile, header, &mut out[quote..]);
    if extended {
        attach(profile.extensions, v4, stack, quote, out);
    }
    out.len() - room
}

/// Changes a quote in the ways of stacks that do not quote what they received.
fn deface(profile: &Profile, header: Header, quote: &mut [u8]) {
    if header.family == Family::V4 {
        if profile.quoted_length_swapped {
            quote.swap(2, 3);
        }
        if profile.quoted_ttl_zero {
            quote[8] = 0;
            let len = (usize::from(quote[0] & 0x0f) * 4).min(quote.len());
            quote[10..12].fill(0);
            let sum = checksum(&quote[..len]);
            quote[10..12].copy_from_slice(&sum.to_be_bytes());
        }
    } else if profile.quoted_ttl_zero {
        quote[7] = 0;
    }
    if profile.quoted_seq_rewritten
        && header.is_icmp()
        && let Some(at) = header.transport
        && let Some(seq) = quote.get_mut(at + 6..at + 8)
    {
        seq.fill(0);
    }
}

/// Attaches the label stack, top first, in the sender's style.
fn attach(style: ExtensionStyle, v4: bool, stack: &[Lse], quote: usize, out: &mut Vec<u8>) {
    let word = if v4 { 4 } else { 8 };
    let least = if style == ExtensionStyle::Unpadded {
        0
    } else {
        icmp_ext::DEFAULT_QUOTE_LEN
    };
    let len = (out.len() - quote).max(least).next_multiple_of(word);
    out.resize(quote + len, 0);
    let said = match style {
        ExtensionStyle::NoLength => 0,
        ExtensionStyle::LengthInBytes => len,
        ExtensionStyle::Compliant
        | ExtensionStyle::Unpadded
        | ExtensionStyle::NoChecksum
        | ExtensionStyle::Long => len / word,
    };
    let field = quote - icmp::HEADER_LEN + if v4 { 5 } else { 4 };
    out[field] = u8::try_from(said).unwrap_or(0);
    let mut top_first = [Lse::default(); 2];
    for (to, &lse) in top_first.iter_mut().zip(stack.iter().rev()) {
        *to = lse;
    }
    let start = out.len();
    out.resize(start + icmp_ext::mpls_len(stack.len()), 0);
    icmp_ext::emit_mpls(&top_first[..stack.len()], &mut out[start..]);
    if style == ExtensionStyle::NoChecksum {
        out[start + 2..start + 4].fill(0);
    }
}
