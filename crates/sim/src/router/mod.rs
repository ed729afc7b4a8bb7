//! What a node does with a packet: IP forwarding here, labels in [`label`], its own replies in
//! [`answer`] and [`error`].

mod answer;
mod error;
mod label;

use core::net::IpAddr;

use plumb_wire::SplitMix64;
use plumb_wire::icmp::Family;

use crate::flight::{Flight, Header, Stack};
use crate::lookup::{Owner, Scope};
use crate::network::Network;
use crate::topology::{Answer, Ecmp, Node, Plan};
use error::Complaint;

/// Where a packet goes next by IP routing.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Over the interface, to a neighbor on the same link.
    Connected(u16),
    /// Toward a node.
    Toward(u16),
}

impl Network {
    /// Handles a packet that came to a router; gives the interface by which it, or the reply that
    /// it has turned into, leaves.
    pub(crate) fn at_router(&mut self, plan: &Plan, f: &mut Flight) -> Option<u16> {
        if f.stack.is_empty() {
            f.popped = Stack::default();
            self.nat_inbound(plan, f);
            self.receive_ip(plan, f, false)
        } else {
            self.receive_labelled(plan, f)
        }
    }

    /// Handles a packet that came to a host.
    pub(crate) fn at_host(&mut self, plan: &Plan, f: &mut Flight) -> Option<u16> {
        let owner = f.header?.owner?;
        if owner.node != f.at || !f.stack.is_empty() {
            return None;
        }
        f.popped = Stack::default();
        self.answer(plan, f)
    }

    /// Receives a packet without labels. `keep_one` lets a TTL of 1 pass as it is.
    fn receive_ip(&mut self, plan: &Plan, f: &mut Flight, keep_one: bool) -> Option<u16> {
        let node = &plan.nodes[usize::from(f.at)];
        let header = f.header.as_mut()?;
        if header.family == Family::V6 && !node.ipv6 {
            return None;
        }
        if header
            .owner
            .is_some_and(|o| o.node == f.at && o.is_answered())
        {
            return self.answer(plan, f);
        }
        let keep_ttl = keep_one && header.ttl == 1;
        if header.ttl <= 1 && !keep_ttl {
            let (ttl, stack) = (header.ttl, f.popped);
            return self.complain(plan, f, Complaint::expired(ttl, stack));
        }
        self.forward(plan, f, keep_ttl)
    }

    /// Sends a packet on its way. `keep_ttl` if it costs no TTL here: the node's own packets, and
    /// what a Cisco forwards after it has popped an explicit null.
    pub(crate) fn forward(&mut self, plan: &Plan, f: &mut Flight, keep_ttl: bool) -> Option<u16> {
        let header = f.header?;
        let node = &plan.nodes[usize::from(f.at)];
        let owned = header.owner.filter(|o| o.node != f.at || !is_refused(*o));
        let Some(owner) = owned else {
            return self.refuse(plan, f, header.owner);
        };
        let way = self.way(plan, f.at, owner);
        let (out, pushed) = match way {
            Way::Connected(out) => (Some(out), false),
            Way::Toward(to) => match self.push_labels(plan, f, owner, to, keep_ttl) {
                Some(out) => (Some(out), !f.stack.is_empty()),
                None => (self.pick(plan, node, f, to), false),
            },
        };
        let Some(out) = out else {
            return self.refuse(plan, f, None);
        };
        let keeps =
            pushed && node.profile.pop_decrements && node.mpls.is_some_and(|m| !m.ttl_propagate);
        if !keep_ttl
            && !keeps
            && let Some(header) = f.header.as_mut()
        {
            header.ttl = header.ttl.saturating_sub(1);
        }
        self.leave(plan, f, out)
    }

    /// Sends a packet out, unless it is too large for the link.
    pub(crate) fn leave(&mut self, plan: &Plan, f: &mut Flight, out: u16) -> Option<u16> {
        let header = f.header?;
        let node = &plan.nodes[usize::from(f.at)];
        let mtu = node.interfaces[usize::from(out)].mtu;
        // An IPv4 packet that may be cut passes whole: what cuts it and what joins it again would
        // be seen by neither end.
        if f.bytes.len() > usize::from(mtu) && header.whole {
            return self.complain(plan, f, Complaint::too_big(header.family, header.ttl, mtu));
        }
        self.nat_outbound(plan, f, out);
        Some(out)
    }

    /// By which interface of `node` a packet goes toward node `to`.
    fn pick(&mut self, plan: &Plan, node: &Node, f: &Flight, to: u16) -> Option<u16> {
        let hops = plan.routes.next_hops(f.at, to);
        match hops {
            [] => None,
            [only] => Some(*only),
            several => {
                let chance = match node.profile.ecmp {
                    Ecmp::Packet => self.random.next(),
                    Ecmp::Flow => {
                        let flow = f.header.map_or(0, |h| h.flow);
                        SplitMix64::mix(flow ^ self.salt.wrapping_add(u64::from(f.at)))
                    }
                };
                let index = (u128::from(chance) * several.len() as u128) >> 64;
                several.get(usize::try_from(index).unwrap_or(0)).copied()
            }
        }
    }

    /// Where IP routing leads: a link's prefix belongs to the nearer of the two nodes on it, and
    /// the link itself is the way from there.
    fn way(&self, plan: &Plan, at: u16, owner: Owner) -> Way {
        if plan.routes.is_by_hand(at, owner.node) {
            return Way::Toward(owner.node);
        }
        let (Scope::Interface(index) | Scope::Unassigned(index)) = owner.scope else {
            return Way::Toward(owner.node);
        };
        let interface = &plan.nodes[usize::from(owner.node)].interfaces[usize::from(index)];
        if interface.peer == at {
            return Way::Connected(interface.peer_interface);
        }
        let peer_is_nearer =
            plan.routes.distance(at, interface.peer) < plan.routes.distance(at, owner.node);
        Way::Toward(if peer_is_nearer {
            interface.peer
        } else {
            owner.node
        })
    }

    /// Says that nobody is there, as far as the file wants it said.
    fn refuse(&mut self, plan: &Plan, f: &mut Flight, owner: Option<Owner>) -> Option<u16> {
        let header = f.header?;
        let answer = match owner.map(|o| (o.node, o.scope)) {
            Some((_, Scope::Refused(answer))) => answer,
            Some((node, Scope::Unassigned(index))) => {
                let ends = &plan.nodes[usize::from(node)].interfaces[usize::from(index)];
                if is_edge_of_prefix(header.dst, ends.v4_len, ends.v6_len) {
                    Answer::Drop
                } else {
                    Answer::HostUnreachable
                }
            }
            Some(_) => Answer::Drop,
            None => Answer::NetUnreachable,
        };
        // RFC 792, RFC 1812 §5.2.7.1; RFC 4443 §3.1.
        let code = match (answer, header.family) {
            (Answer::Drop, _) => return None,
            (Answer::NetUnreachable, _) => 0,
            (Answer::HostUnreachable, Family::V4) => 1,
            (Answer::HostUnreachable, Family::V6) => 3,
            (Answer::AdminProhibited, Family::V4) => 13,
            (Answer::AdminProhibited, Family::V6) => 1,
        };
        let complaint = Complaint::unreachable(header.ttl, code);
        self.complain(plan, f, complaint)
    }

    /// Makes `f` a packet of this node's own and sends it: `f.bytes` hold it already.
    pub(crate) fn originate(&mut self, plan: &Plan, f: &mut Flight) -> Option<u16> {
        f.stack = Stack::default();
        f.popped = Stack::default();
        let mut header = Header::parse(&f.bytes)?;
        header.owner = plan.lookup.find(header.dst);
        let to_itself = header.owner.is_some_and(|o| o.node == f.at);
        f.header = Some(header);
        f.own = true;
        if to_itself {
            return None;
        }
        self.forward(plan, f, true)
    }
}

/// Says whether a destination is in a prefix of the node's, but nobody's.
const fn is_refused(owner: Owner) -> bool {
    matches!(owner.scope, Scope::Refused(_) | Scope::Unassigned(_))
}

/// Says whether an address is the first or last of its prefix: the network itself or its
/// broadcast address, which nobody answers for.
fn is_edge_of_prefix(address: IpAddr, v4_len: u8, v6_len: u8) -> bool {
    match address {
        IpAddr::V4(a) => {
            let host = u32::MAX.checked_shr(v4_len.into()).unwrap_or(0);
            a.to_bits() & host == 0 || a.to_bits() & host == host
        }
        IpAddr::V6(a) => {
            let host = u128::MAX.checked_shr(v6_len.into()).unwrap_or(0);
            a.to_bits() & host == 0
        }
    }
}
