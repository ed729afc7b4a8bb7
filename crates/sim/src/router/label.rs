//! Label switching: push at the ingress, swap on the way, pop at the end.

use plumb_wire::icmp::Family;
use plumb_wire::mpls::{EXPLICIT_NULL_V4, EXPLICIT_NULL_V6, Lse};

use super::error::Complaint;
use crate::domain::{Domain, Fec};
use crate::flight::{Flight, Stack};
use crate::lookup::{Owner, Scope};
use crate::network::Network;
use crate::topology::{Ending, LabelDistribution, LseExpiry, Membership, Node, Plan, PopTtl};

/// The label that a packet goes to the next router with.
enum Outgoing {
    Label(u32),
    /// None: the next router asked for implicit null.
    Popped,
}

impl Network {
    /// Puts a packet that goes toward node `to` onto its LSP, if there is one, and gives the
    /// interface by which the LSP starts. The stack stays empty where the LSP is one hop long and
    /// ends with implicit null.
    pub(super) fn push_labels(
        &mut self,
        plan: &Plan,
        f: &mut Flight,
        owner: Owner,
        to: u16,
        keep_ttl: bool,
    ) -> Option<u16> {
        let node = &plan.nodes[usize::from(f.at)];
        let own = node.mpls?;
        let header = f.header?;
        let domain = &plan.domains[usize::from(own.domain)];
        let six_pe = header.family == Family::V6;
        if (six_pe && !domain.six_pe) || plan.routes.is_by_hand(f.at, to) {
            return None;
        }
        let fec = if six_pe {
            six_pe_fec(plan, domain, own, owner)
        } else {
            fec(plan, domain, own, f.at, owner, to)
        }?;
        let end = domain.end(fec, f.at, &plan.routes);
        if end == f.at {
            return None;
        }
        let out = self.pick(plan, node, f, end)?;
        let outgoing = outgoing(plan, domain, own, node, out, fec, end)?;
        let ip_ttl = header.ttl.saturating_sub(u8::from(!keep_ttl));
        let ttl = if own.ttl_propagate { ip_ttl } else { 255 };
        if six_pe {
            f.stack.push(EXPLICIT_NULL_V6, ttl);
        }
        if let Outgoing::Label(label) = outgoing {
            f.stack.push(label, ttl);
        }
        Some(out)
    }

    /// Handles a packet that came with labels.
    pub(super) fn receive_labelled(&mut self, plan: &Plan, f: &mut Flight) -> Option<u16> {
        let node = &plan.nodes[usize::from(f.at)];
        let own = node.mpls?;
        let domain = &plan.domains[usize::from(own.domain)];
        let received = f.stack;
        f.popped = Stack::default();
        loop {
            let top = *f.stack.top_mut()?;
            if !top.is_explicit_null() {
                let fec = domain.fec(top.label, own.member, node.profile.first_label)?;
                let end = domain.end(fec, f.at, &plan.routes);
                if end != f.at {
                    let out = self.pick(plan, node, f, end)?;
                    let outgoing = outgoing(plan, domain, own, node, out, fec, end)?;
                    return match outgoing {
                        Outgoing::Label(label) => self.swap(plan, f, received, label, out),
                        Outgoing::Popped => self.pop_penultimate(plan, f, received, out),
                    };
                }
            }
            if top.ttl <= 1 {
                return self.expire_at_end(plan, f, received);
            }
            f.stack.pop();
            if let Some(below) = f.stack.top_mut() {
                inherit(node, own, &mut below.ttl, top.ttl);
                continue;
            }
            return self.pop_last(plan, f, received, top);
        }
    }

    /// The egress has removed the last label.
    fn pop_last(&mut self, plan: &Plan, f: &mut Flight, received: Stack, top: Lse) -> Option<u16> {
        let node = &plan.nodes[usize::from(f.at)];
        let own = node.mpls?;
        let header = f.header.as_mut()?;
        // The service label of 6PE is a null as well, but nobody asked for it to save a lookup.
        let null = top.label == EXPLICIT_NULL_V4;
        let rule = if null {
            node.profile.null_pop_ttl
        } else {
            node.profile.pop_ttl
        };
        pop_ttl(rule, own, &mut header.ttl, top.ttl);
        if node.profile.shows_popped_label && !top.is_explicit_null() {
            f.popped = received;
        }
        let keep_one = null && node.profile.forwards_ttl_one && !own.ttl_propagate;
        self.receive_ip(plan, f, keep_one)
    }

    /// The router before the egress removes the label, which it has switched already.
    fn pop_penultimate(
        &mut self,
        plan: &Plan,
        f: &mut Flight,
        received: Stack,
        out: u16,
    ) -> Option<u16> {
        let node = &plan.nodes[usize::from(f.at)];
        let own = node.mpls?;
        let top = f.stack.pop()?;
        if top.ttl <= 1 {
            if f.stack.is_empty() {
                return self.expire_at_end(plan, f, received);
            }
            let rest = f.stack;
            return self.expire_inside(plan, f, received, rest, out);
        }
        let header = f.header.as_mut()?;
        match f.stack.top_mut() {
            Some(below) => inherit(node, own, &mut below.ttl, top.ttl - 1),
            None => {
                pop_ttl(node.profile.pop_ttl, own, &mut header.ttl, top.ttl - 1);
                if node.profile.pop_decrements && !own.ttl_propagate {
                    if header.ttl <= 1 {
                        let ttl = header.ttl;
                        return self.complain(plan, f, Complaint::expired(ttl, received));
                    }
                    header.ttl -= 1;
                }
            }
        }
        self.leave(plan, f, out)
    }

    /// A router inside the LSP switches the packet.
    fn swap(
        &mut self,
        plan: &Plan,
        f: &mut Flight,
        received: Stack,
        label: u32,
        out: u16,
    ) -> Option<u16> {
        let top = f.stack.top_mut()?;
        if top.ttl > 1 {
            top.label = label;
            top.ttl -= 1;
            return self.leave(plan, f, out);
        }
        let mut rest = received;
        rest.top_mut()?.label = label;
        self.expire_inside(plan, f, received, rest, out)
    }

    /// A label has expired where others or the rest of the LSP are still to come. `rest` is the
    /// stack with which the packet would have gone on over `out`, and with which the error does,
    /// where that is the vendor's way.
    fn expire_inside(
        &mut self,
        plan: &Plan,
        f: &mut Flight,
        received: Stack,
        rest: Stack,
        out: u16,
    ) -> Option<u16> {
        let node = &plan.nodes[usize::from(f.at)];
        let complaint = Complaint::expired(f.header?.ttl, received);
        let below_initial = match node.profile.lse_expiry {
            LseExpiry::Direct => return self.complain(plan, f, complaint),
            LseExpiry::LspEnd => 0,
            LseExpiry::IcmpTunneling => 1,
        };
        if !self.become_error(plan, f, complaint, below_initial) {
            return None;
        }
        f.stack = rest;
        f.stack.set_ttl(f.header?.ttl);
        self.leave(plan, f, out)
    }

    /// A label has expired at the router that removes it, which treats the packet as IP and answers
    /// by itself.
    fn expire_at_end(&mut self, plan: &Plan, f: &mut Flight, received: Stack) -> Option<u16> {
        let node = &plan.nodes[usize::from(f.at)];
        let own = node.mpls?;
        let mut ttl = f.header?.ttl;
        pop_ttl(node.profile.pop_ttl, own, &mut ttl, 1);
        self.complain(plan, f, Complaint::expired(ttl, received))
    }
}

/// What the router behind interface `out` wants packets of a class labelled with. `None` if it is
/// in no domain with this one, so that the LSP ends abruptly.
fn outgoing(
    plan: &Plan,
    domain: &Domain,
    own: Membership,
    node: &Node,
    out: u16,
    fec: Fec,
    end: u16,
) -> Option<Outgoing> {
    let next = node.interfaces[usize::from(out)].peer;
    let neighbor = &plan.nodes[usize::from(next)];
    let its = neighbor.mpls.filter(|m| m.domain == own.domain)?;
    let label = Outgoing::Label(domain.label(fec, its.member, neighbor.profile.first_label));
    if next != end {
        return Some(label);
    }
    Some(match its.ending {
        Ending::ExplicitNull => Outgoing::Label(EXPLICIT_NULL_V4),
        Ending::Opaque if fec == Domain::loopback_fec(its.member) => label,
        Ending::Opaque | Ending::Php => Outgoing::Popped,
    })
}

/// The class of an IPv4 destination.
fn fec(
    plan: &Plan,
    domain: &Domain,
    own: Membership,
    at: u16,
    owner: Owner,
    to: u16,
) -> Option<Fec> {
    let member = |node: u16| {
        let m = plan.nodes[usize::from(node)].mpls?;
        (m.domain == own.domain).then_some(m.member)
    };
    if let Scope::Interface(index) | Scope::Unassigned(index) = owner.scope {
        let peer = plan.nodes[usize::from(owner.node)].interfaces[usize::from(index)].peer;
        if member(owner.node).is_some() && member(peer).is_some() {
            let connected = owner.node == at || peer == at;
            return match domain.distribution {
                LabelDistribution::AllPrefixes if !connected => domain.link_fec(owner.node, peer),
                LabelDistribution::AllPrefixes | LabelDistribution::HostRoutes => None,
            };
        }
    }
    let exit = match member(to) {
        Some(member) => member,
        None => member(domain.exit(own.member, to)?)?,
    };
    Some(Domain::loopback_fec(exit))
}

/// The class of the router at which an IPv6 packet leaves the domain or arrives.
fn six_pe_fec(plan: &Plan, domain: &Domain, own: Membership, owner: Owner) -> Option<Fec> {
    let to = plan.nodes[usize::from(owner.node)].mpls;
    let member = match to.filter(|m| m.domain == own.domain) {
        Some(m) => m.member,
        None => {
            let exit = domain.exit(own.member, owner.node)?;
            plan.nodes[usize::from(exit)].mpls?.member
        }
    };
    Some(Domain::loopback_fec(member))
}

/// What becomes of the IP TTL when the last label goes.
fn pop_ttl(rule: PopTtl, own: Membership, ip: &mut u8, label: u8) {
    match rule {
        PopTtl::Min => *ip = label.min(*ip),
        PopTtl::Homogeneous if own.ttl_propagate => *ip = label,
        PopTtl::Homogeneous => {}
    }
}

/// What becomes of the next label's TTL when one goes.
fn inherit(node: &Node, own: Membership, below: &mut u8, label: u8) {
    pop_ttl(node.profile.pop_ttl, own, below, label);
}
