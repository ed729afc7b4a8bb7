//! The running network: packets, links, and the virtual clock.

use alloc::collections::{BinaryHeap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::convert::Infallible;

use plumb_wire::{Engine, Instant, ProbeId, SendError, SplitMix64, Transmit};

use crate::flight::{Flight, Header};
use crate::limit::Bucket;
use crate::nat::NatTable;
use crate::topology::{Kind, Plan, Topology, Vantage};

/// Packets under way at once; more are lost.
const MAX_FLIGHTS: usize = 1 << 20;
/// Links that a packet and its reply cross at most, whatever the routers do.
const MAX_STEPS: u16 = 2048;

/// A topology in motion.
///
/// Packets that the vantage host sends go in with [`Engine::handle_packet`]; what it receives comes
/// out of [`Engine::poll_transmit`]. Time is what the driver says. The same seed and the same
/// packets at the same times give the same packets out.
#[derive(Debug)]
pub struct Network {
    plan: Arc<Plan>,
    pub(crate) nodes: Vec<NodeState>,
    queue: BinaryHeap<Reverse<Arrival>>,
    flights: Vec<Flight>,
    free: Vec<u32>,
    delivered: VecDeque<(Instant, Vec<u8>)>,
    pub(crate) spare: Vec<Vec<u8>>,
    next_arrival: u64,
    next_packet: u64,
    pub(crate) now: Instant,
    pub(crate) random: SplitMix64,
    pub(crate) salt: u64,
    stats: Stats,
}

/// What has become of the packets so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Packets that the vantage host sent.
    pub received: u64,
    /// Of those, thrown away because they were no valid IP packets.
    pub malformed: u64,
    /// Links crossed, by packets and their replies.
    pub hops: u64,
    /// Packets lost on links.
    pub lost: u64,
    /// Packets that had no room in the network.
    pub overflowed: u64,
    /// Packets given to the vantage host.
    pub delivered: u64,
}

/// What a node remembers.
#[derive(Debug)]
pub(crate) struct NodeState {
    pub(crate) ip_id: u16,
    pub(crate) errors: Option<Bucket>,
    pub(crate) echoes: Option<Bucket>,
    pub(crate) nat: NatTable,
}

/// A packet that reaches a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Arrival {
    at: Instant,
    order: u64,
    flight: u32,
}

impl Network {
    /// A network at rest.
    pub fn new(topology: &Topology, seed: u64) -> Self {
        let plan = Arc::clone(&topology.plan);
        let mut random = SplitMix64::new(seed);
        let salt = random.next();
        let nodes = (0u64..)
            .zip(&plan.nodes)
            .map(|(n, node)| NodeState {
                ip_id: (SplitMix64::mix(salt ^ n) & 0xffff) as u16,
                errors: node.profile.errors.map(Bucket::full),
                echoes: node.profile.echoes.map(Bucket::full),
                nat: NatTable::default(),
            })
            .collect();
        Self {
            plan,
            nodes,
            queue: BinaryHeap::new(),
            flights: Vec::new(),
            free: Vec::new(),
            delivered: VecDeque::new(),
            spare: Vec::new(),
            next_arrival: 0,
            next_packet: 0,
            now: Instant::ZERO,
            random,
            salt,
            stats: Stats::default(),
        }
    }

    /// Addresses of the vantage host.
    pub fn vantage(&self) -> Vantage {
        Topology {
            plan: Arc::clone(&self.plan),
        }
        .vantage()
    }

    /// What has become of the packets so far.
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    /// Lets everything happen that happens until `until`.
    fn run(&mut self, until: Instant) {
        if self.queue.peek().is_none_or(|Reverse(a)| a.at > until) {
            self.now = self.now.max(until);
            return;
        }
        let plan = Arc::clone(&self.plan);
        while let Some(&Reverse(arrival)) = self.queue.peek()
            && arrival.at <= until
        {
            self.queue.pop();
            let flight = core::mem::take(&mut self.flights[arrival.flight as usize]);
            self.free.push(arrival.flight);
            self.travel(&plan, flight, arrival.at, until);
        }
        self.now = self.now.max(until);
    }

    /// Moves a packet from node to node for as long as nothing else comes first.
    fn travel(&mut self, plan: &Plan, mut flight: Flight, mut at: Instant, until: Instant) {
        loop {
            self.now = at;
            let node = &plan.nodes[usize::from(flight.at)];
            let leaves_by = match node.kind {
                Kind::Vantage => {
                    self.deliver(plan, flight);
                    return;
                }
                Kind::Router => self.at_router(plan, &mut flight),
                Kind::Host => self.at_host(plan, &mut flight),
            };
            let arrives = leaves_by.and_then(|out| self.cross(plan, &mut flight, out, at));
            let Some(arrives) = arrives else {
                self.recycle(flight.bytes);
                return;
            };
            at = arrives;
            if at > until || self.queue.peek().is_some_and(|Reverse(next)| next.at < at) {
                self.enqueue(at, flight);
                return;
            }
        }
    }

    /// Takes a packet that leaves at `at` over the link at interface `out`, and says when it comes
    /// to the other end; `None` if it is lost.
    fn cross(
        &mut self,
        plan: &Plan,
        flight: &mut Flight,
        out: u16,
        at: Instant,
    ) -> Option<Instant> {
        let link = &plan.nodes[usize::from(flight.at)].interfaces[usize::from(out)];
        if flight.steps >= MAX_STEPS {
            return None;
        }
        self.stats.hops += 1;
        if link.loss > 0 && self.random.below(1_000_000_000) < u64::from(link.loss) {
            self.stats.lost += 1;
            return None;
        }
        flight.steps += 1;
        flight.at = link.peer;
        flight.incoming = link.peer_interface;
        flight.own = false;
        let jitter = match link.jitter {
            0 => 0,
            most => self.random.below(most),
        };
        let nanos = at.as_nanos().saturating_add(link.delay + jitter);
        Some(Instant::from_nanos(nanos))
    }

    fn enqueue(&mut self, at: Instant, flight: Flight) {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.flights.len() >= MAX_FLIGHTS => {
                self.stats.overflowed += 1;
                self.recycle(flight.bytes);
                return;
            }
            None => {
                self.flights.push(Flight::default());
                u32::try_from(self.flights.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.flights[slot as usize] = flight;
        self.queue.push(Reverse(Arrival {
            at,
            order: self.next_arrival,
            flight: slot,
        }));
        self.next_arrival += 1;
    }

    fn deliver(&mut self, plan: &Plan, mut flight: Flight) {
        let own = flight.header.and_then(|h| h.owner);
        let own = own.is_some_and(|o| o.node == plan.vantage && o.is_answered());
        if !own || !flight.stack.is_empty() {
            self.recycle(flight.bytes);
        } else if self.delivered.len() >= MAX_FLIGHTS {
            self.stats.overflowed += 1;
            self.recycle(flight.bytes);
        } else {
            let ttl = flight.header.map_or(0, |h| h.ttl);
            flight.seal(ttl);
            self.delivered.push_back((self.now, flight.bytes));
        }
    }

    pub(crate) fn recycle(&mut self, mut bytes: Vec<u8>) {
        if self.spare.len() < 1024 && bytes.capacity() > 0 {
            bytes.clear();
            self.spare.push(bytes);
        }
    }
}

impl Engine for Network {
    type Event = Infallible;

    /// Takes a packet that the vantage host sends.
    fn handle_packet(&mut self, at: Instant, packet: &[u8]) {
        self.stats.received += 1;
        let Some(mut header) = Header::parse(packet) else {
            self.stats.malformed += 1;
            return;
        };
        let plan = Arc::clone(&self.plan);
        let vantage = &plan.nodes[usize::from(plan.vantage)];
        if packet.len() > usize::from(vantage.interfaces[0].mtu) {
            self.stats.malformed += 1;
            return;
        }
        header.owner = plan.lookup.find(header.dst);
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.extend_from_slice(packet);
        let mut flight = Flight {
            bytes,
            header: Some(header),
            at: plan.vantage,
            ..Flight::default()
        };
        self.run(at);
        match self.cross(&plan, &mut flight, 0, at) {
            // What has happened already cannot be changed by a packet that comes late.
            Some(arrives) => self.enqueue(arrives.max(self.now), flight),
            None => self.recycle(flight.bytes),
        }
    }

    fn handle_sent(&mut self, _: ProbeId, _: Instant) {}

    fn handle_send_error(&mut self, _: ProbeId, _: Instant, _: SendError) {}

    fn handle_timeout(&mut self, now: Instant) {
        self.run(now);
    }

    /// Gives a packet that has reached the vantage host.
    fn poll_transmit(&mut self, now: Instant, into: &mut [u8]) -> Option<Transmit> {
        self.run(now);
        loop {
            let (_, bytes) = self.delivered.pop_front()?;
            let len = bytes.len();
            let fits = into.get_mut(..len).map(|to| to.copy_from_slice(&bytes));
            self.recycle(bytes);
            if fits.is_some() {
                self.stats.delivered += 1;
                self.next_packet += 1;
                return Some(Transmit {
                    len,
                    probe: ProbeId(self.next_packet),
                });
            }
        }
    }

    fn poll_event(&mut self) -> Option<Infallible> {
        None
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self.delivered.front() {
            Some(&(at, _)) => Some(at),
            None => self.queue.peek().map(|Reverse(a)| a.at),
        }
    }
}
