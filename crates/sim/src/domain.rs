//! MPLS domains: forwarding equivalence classes, labels, and which LSP a packet takes.

use alloc::vec;
use alloc::vec::Vec;

use crate::routing::Routes;
use crate::topology::{LabelDistribution, Node};

const NONE: u16 = u16::MAX;
const UNKNOWN: u16 = u16::MAX - 1;
/// First label after the reserved ones (RFC 3032 §2.1).
const FIRST_LABEL: u32 = 16;

/// Routers that exchange labels.
#[derive(Debug)]
pub(crate) struct Domain {
    pub(crate) members: Vec<u16>,
    /// Node pairs of the links inside, the smaller index first, in order.
    links: Vec<(u16, u16)>,
    pub(crate) distribution: LabelDistribution,
    pub(crate) six_pe: bool,
    /// Per destination node outside, and member: by which member packets leave.
    exits: Vec<u16>,
}

/// What packets that take the same LSP have in common: an index into the domain's classes, first
/// the members' loopbacks, then the links inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fec(u32);

impl Domain {
    pub(crate) fn new(
        members: Vec<u16>,
        mut links: Vec<(u16, u16)>,
        distribution: LabelDistribution,
        six_pe: bool,
    ) -> Self {
        for link in &mut links {
            *link = (link.0.min(link.1), link.0.max(link.1));
        }
        links.sort_unstable();
        links.dedup();
        Self {
            members,
            links,
            distribution,
            six_pe,
            exits: Vec::new(),
        }
    }

    /// Finds for each destination outside the member through which packets leave: that of the
    /// first of the equally good ways.
    pub(crate) fn find_exits(&mut self, own: u16, nodes: &[Node], routes: &Routes) {
        let width = self.members.len();
        let mut exits = vec![UNKNOWN; nodes.len() * width];
        let mut way = Vec::new();
        let inside = |node: u16| nodes[usize::from(node)].mpls.filter(|m| m.domain == own);
        for (to, exits) in (0u16..).zip(exits.chunks_mut(width)) {
            if inside(to).is_some() {
                continue;
            }
            for start in 0..width {
                let mut member = start;
                let exit = loop {
                    if exits[member] != UNKNOWN {
                        break exits[member];
                    }
                    // Routes set by hand can lead in a circle: who comes by here again finds none.
                    exits[member] = NONE;
                    way.push(member);
                    let at = self.members[member];
                    let Some(&interface) = routes.next_hops(at, to).first() else {
                        break NONE;
                    };
                    let next = nodes[usize::from(at)].interfaces[usize::from(interface)].peer;
                    match inside(next) {
                        Some(m) => member = usize::from(m.member),
                        None => break at,
                    }
                };
                for member in way.drain(..) {
                    exits[member] = exit;
                }
            }
        }
        self.exits = exits;
    }

    /// The member through which packets from `member` to node `to` outside leave.
    pub(crate) fn exit(&self, member: u16, to: u16) -> Option<u16> {
        let exit = self.exits[usize::from(to) * self.members.len() + usize::from(member)];
        (exit < UNKNOWN).then_some(exit)
    }

    /// The class of `member`'s loopback.
    pub(crate) fn loopback_fec(member: u16) -> Fec {
        Fec(u32::from(member))
    }

    /// The class of the link between two nodes, if it is inside.
    pub(crate) fn link_fec(&self, a: u16, b: u16) -> Option<Fec> {
        let index = self.links.binary_search(&(a.min(b), a.max(b))).ok()?;
        u32::try_from(self.members.len() + index).ok().map(Fec)
    }

    /// The member at which an LSP for `fec` that comes from node `from` ends: of the two owners of
    /// a link, the nearer.
    pub(crate) fn end(&self, fec: Fec, from: u16, routes: &Routes) -> u16 {
        let index = fec.0 as usize;
        match self.members.get(index) {
            Some(&node) => node,
            None => {
                let (a, b) = self.links[index - self.members.len()];
                if routes.distance(from, b) < routes.distance(from, a) {
                    b
                } else {
                    a
                }
            }
        }
    }

    /// The label that `member` advertised for `fec`; `first` is where its numbering starts. Its
    /// own loopback is the first that each router numbers.
    pub(crate) fn label(&self, fec: Fec, member: u16, first: u32) -> u32 {
        let classes = self.classes();
        first + (fec.0 + classes - u32::from(member)) % classes
    }

    /// The class that `member` advertised `label` for.
    pub(crate) fn fec(&self, label: u32, member: u16, first: u32) -> Option<Fec> {
        let classes = self.classes();
        let offset = label.checked_sub(first.max(FIRST_LABEL))?;
        (offset < classes).then(|| Fec((offset + u32::from(member)) % classes))
    }

    fn classes(&self) -> u32 {
        u32::try_from(self.members.len() + self.links.len()).unwrap_or(u32::MAX)
    }
}
