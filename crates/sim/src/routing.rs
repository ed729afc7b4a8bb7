//! Shortest paths between all nodes, with every next hop of equal cost.

use alloc::collections::BinaryHeap;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::topology::{Kind, Node};

/// Distance of what cannot be reached.
const UNREACHABLE: u32 = u32::MAX;
/// More next hops of equal cost than this are not used.
const MAX_ECMP: usize = 64;

/// Next hops and distances from each node to each node.
#[derive(Debug)]
pub(crate) struct Routes {
    nodes: usize,
    /// Per destination and node: where its next hops start in `hops`, how many there are, and
    /// whether they were set by hand.
    entries: Vec<Entry>,
    /// Interface indices of the node that forwards.
    hops: Vec<u16>,
    distances: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    start: u32,
    len: u8,
    by_hand: bool,
}

impl Routes {
    /// Computes all routes; `by_hand` holds (at, to, interface) in place of what was computed.
    pub(crate) fn new(nodes: &[Node], by_hand: &[(u16, u16, u16)]) -> Self {
        let n = nodes.len();
        let mut routes = Self {
            nodes: n,
            entries: vec![Entry::default(); n * n],
            hops: Vec::new(),
            distances: vec![UNREACHABLE; n * n],
        };
        for to in 0..n {
            routes.add_destination(nodes, to);
        }
        for &(at, to, interface) in by_hand {
            let start = routes.hops.len();
            routes.hops.push(interface);
            routes.entries[usize::from(to) * n + usize::from(at)] = Entry {
                start: u32::try_from(start).unwrap_or(0),
                len: 1,
                by_hand: true,
            };
        }
        routes
    }

    /// Interfaces of `at` over which `to` is reached; empty if it cannot be.
    pub(crate) fn next_hops(&self, at: u16, to: u16) -> &[u16] {
        let entry = self.entries[usize::from(to) * self.nodes + usize::from(at)];
        let start = entry.start as usize;
        &self.hops[start..start + usize::from(entry.len)]
    }

    /// Says whether the route was set by hand.
    pub(crate) fn is_by_hand(&self, at: u16, to: u16) -> bool {
        self.entries[usize::from(to) * self.nodes + usize::from(at)].by_hand
    }

    /// Cost of the way from `at` to `to`.
    pub(crate) fn distance(&self, at: u16, to: u16) -> u32 {
        self.distances[usize::from(to) * self.nodes + usize::from(at)]
    }

    /// Dijkstra from the destination outward, over the cost of the direction toward it. Only
    /// routers pass packets on.
    fn add_destination(&mut self, nodes: &[Node], to: usize) {
        let n = self.nodes;
        let distances = &mut self.distances[to * n..(to + 1) * n];
        let mut queue = BinaryHeap::new();
        distances[to] = 0;
        queue.push(Reverse((0u32, to)));
        while let Some(Reverse((distance, at))) = queue.pop() {
            if distance > distances[at] || (at != to && nodes[at].kind != Kind::Router) {
                continue;
            }
            for interface in &nodes[at].interfaces {
                let from = usize::from(interface.peer);
                let cost = nodes[from].interfaces[usize::from(interface.peer_interface)].cost;
                let through = distance.saturating_add(cost);
                if through < distances[from] {
                    distances[from] = through;
                    queue.push(Reverse((through, from)));
                }
            }
        }
        for (at, node) in nodes.iter().enumerate() {
            if at == to || distances[at] == UNREACHABLE {
                continue;
            }
            let start = self.hops.len();
            for (index, interface) in (0u16..).zip(&node.interfaces) {
                let peer = usize::from(interface.peer);
                let passes = peer == to || nodes[peer].kind == Kind::Router;
                let rest = distances[peer];
                if passes
                    && rest != UNREACHABLE
                    && rest.saturating_add(interface.cost) == distances[at]
                    && self.hops.len() - start < MAX_ECMP
                {
                    self.hops.push(index);
                }
            }
            self.entries[to * n + at] = Entry {
                start: u32::try_from(start).unwrap_or(0),
                len: u8::try_from(self.hops.len() - start).unwrap_or(0),
                by_hand: false,
            };
        }
    }
}
