//! Mappings, and the sessions that keep them: who inside is whom outside, and since whom outside
//! was written to.

mod evict;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use core::time::Duration;

use plumb_wire::{Instant, SplitMix64};

use super::event::{Event, EventKind};
use super::ports::Ports;
use super::shortcut::{Key, Shortcut};
use super::tcp::Connection;
use super::{Config, Endpoint, Filtering, Protocol, Refused, Timeouts};
use crate::slab::Slab;

/// An inside endpoint and what stands for it outside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mapping {
    pub(super) protocol: Protocol,
    pub(super) inside: Endpoint,
    pub(super) outside: Endpoint,
    /// A forwarded port: open to everybody, for ever.
    pub(super) permanent: bool,
    sessions: u32,
    since: Instant,
}

/// A mapping and an outside endpoint that it has exchanged packets with.
#[derive(Clone, Copy, Debug)]
struct Session {
    mapping: u32,
    remote: Endpoint,
    connection: Connection,
    /// The inside has sent, so that filtering lets the outside endpoint in.
    opened: bool,
    /// An answer came: it is not given up for a newer one.
    assured: bool,
    expires: Instant,
    /// When the timer looks at it next; `expires` may have moved on since.
    looked_at: Instant,
}

/// An inside host that has mappings, or had a permanent one from the start.
#[derive(Clone, Debug)]
struct Host {
    /// Its outside address, as a number in the pool.
    address: usize,
    mappings: u32,
    blocks: Vec<u16>,
    /// It has forwarded ports, so it stays.
    permanent: bool,
}

/// Why there is no mapping for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The host has as many mappings as it may.
    Host,
    /// No port is free.
    Ports,
    /// There are as many mappings or sessions as there may be, all of them in use.
    Table,
}

/// Events that are kept at most until the owner takes them; what is more is counted as lost.
const MOST_EVENTS: usize = 65_536;
#[derive(Debug)]
pub(super) struct Table {
    pool: Vec<Ipv4Addr>,
    per_host: u32,
    block: u16,
    blocks_per_host: u16,
    max_mappings: usize,
    max_sessions: usize,
    filtering: Filtering,
    timeouts: Timeouts,
    random: SplitMix64,
    ports: Ports,
    hosts: BTreeMap<Ipv4Addr, Host>,
    mappings: Slab<Mapping>,
    by_inside: BTreeMap<(Protocol, Endpoint), u32>,
    by_outside: BTreeMap<(Protocol, Endpoint), u32>,
    sessions: Slab<Session>,
    by_remote: BTreeMap<(u32, Endpoint), u32>,
    /// Past `by_inside`, `by_outside` and `by_remote`.
    near_inside: Shortcut,
    near_outside: Shortcut,
    near_remote: Shortcut,
    timers: BTreeSet<(Instant, u32)>,
    events: VecDeque<Event>,
    pub(super) lost_events: u64,
    pub(super) evicted: u64,
}

impl Table {
    pub(super) fn new(config: &Config) -> Result<Self, Refused> {
        let mut table = Self {
            pool: config.outside.clone(),
            per_host: config.per_host,
            block: config.block,
            blocks_per_host: config.blocks_per_host.max(1),
            max_mappings: config.max_mappings,
            max_sessions: config.max_sessions,
            filtering: config.filtering,
            timeouts: config.timeouts,
            random: SplitMix64::new(config.seed),
            ports: Ports::new(config.ports.clone(), config.preserve_ports, config.block),
            hosts: BTreeMap::new(),
            mappings: Slab::default(),
            by_inside: BTreeMap::new(),
            by_outside: BTreeMap::new(),
            sessions: Slab::default(),
            by_remote: BTreeMap::new(),
            near_inside: Shortcut::default(),
            near_outside: Shortcut::default(),
            near_remote: Shortcut::default(),
            timers: BTreeSet::new(),
            events: VecDeque::new(),
            lost_events: 0,
            evicted: 0,
        };
        for forward in &config.forwards {
            let Some(address) = config.outside.iter().position(|a| *a == forward.outside) else {
                return Err(Refused::NotInPool(forward.outside));
            };
            let mut inside_port = Some(forward.inside_port);
            for port in forward.ports.clone() {
                let target = inside_port.ok_or(Refused::PortsEnd)?;
                inside_port = target.checked_add(1);
                let inside = Endpoint::new(forward.inside, target);
                let outside = Endpoint::new(forward.outside, port);
                if !table.ports.reserve(address, forward.protocol, port) {
                    return Err(Refused::ForwardedTwice(forward.protocol, outside));
                }
                if table.by_inside.contains_key(&(forward.protocol, inside)) {
                    return Err(Refused::SharedTarget(forward.protocol, inside));
                }
                table.add(Mapping {
                    protocol: forward.protocol,
                    inside,
                    outside,
                    permanent: true,
                    sessions: 0,
                    since: Instant::ZERO,
                });
            }
        }
        Ok(table)
    }

    /// The mapping of an inside endpoint, whoever it writes to (RFC 4787 REQ-1); a new one if
    /// there is none and one may be made.
    pub(super) fn outbound(
        &mut self,
        protocol: Protocol,
        inside: Endpoint,
        now: Instant,
    ) -> Result<u32, Full> {
        let key = Key::endpoint(protocol, inside);
        let guess = self.near_inside.guess(key);
        let is_it = |m: &Mapping| m.protocol == protocol && m.inside == inside;
        if self.mappings.get(guess).is_some_and(is_it) {
            return Ok(guess);
        }
        if let Some(mapping) = self.by_inside.get(&(protocol, inside)) {
            self.near_inside.remember(key, *mapping);
            return Ok(*mapping);
        }
        // A host that is refused leaves nothing behind.
        if self.mappings.len() >= self.max_mappings && !self.evict() {
            return Err(Full::Table);
        }
        if self.sessions.len() >= self.max_sessions && !self.evict() {
            return Err(Full::Table);
        }
        let outside = self.endpoint(protocol, inside, now)?;
        let mapping = Mapping {
            protocol,
            inside,
            outside,
            permanent: false,
            sessions: 0,
            since: now,
        };
        if self.block == 0 {
            self.tell(
                now,
                EventKind::MappingCreated {
                    protocol,
                    inside,
                    outside,
                },
            );
        }
        Ok(self.add(mapping))
    }

    /// The mapping that an inside endpoint has already.
    pub(super) fn of_inside(&self, protocol: Protocol, inside: Endpoint) -> Option<Mapping> {
        let mapping = self.by_inside.get(&(protocol, inside))?;
        self.mappings.get(*mapping).copied()
    }

    /// The mapping that an outside endpoint stands for.
    pub(super) fn of_outside(
        &mut self,
        protocol: Protocol,
        outside: Endpoint,
    ) -> Option<(u32, Mapping)> {
        let key = Key::endpoint(protocol, outside);
        let guess = self.near_outside.guess(key);
        let is_it = |m: &&Mapping| m.protocol == protocol && m.outside == outside;
        if let Some(mapping) = self.mappings.get(guess).filter(is_it) {
            return Some((guess, *mapping));
        }
        let id = *self.by_outside.get(&(protocol, outside))?;
        self.near_outside.remember(key, id);
        Some((id, *self.mappings.get(id)?))
    }

    pub(super) fn mapping(&self, id: u32) -> Option<Mapping> {
        self.mappings.get(id).copied()
    }

    /// Takes note of a packet that goes out: it keeps the mapping (RFC 4787 REQ-6) and lets the
    /// other end in. False if there are too many sessions.
    pub(super) fn sent(&mut self, id: u32, remote: Endpoint, flags: u8, now: Instant) -> bool {
        let Some(mapping) = self.mappings.get(id).copied() else {
            return false;
        };
        if mapping.permanent {
            return true;
        }
        let Some(session) = self.session(id, remote, now) else {
            return false;
        };
        if let Some(session) = self.sessions.get_mut(session) {
            session.opened = true;
            session.connection.packet(true, flags);
        }
        self.refresh(mapping.protocol, session, now);
        true
    }

    /// Takes note of a packet that came in; false if filtering keeps it out.
    pub(super) fn received(&mut self, id: u32, remote: Endpoint, flags: u8, now: Instant) -> bool {
        let Some(mapping) = self.mappings.get(id).copied() else {
            return false;
        };
        if mapping.permanent {
            return true;
        }
        if !self.lets_in(id, &mapping, remote) {
            return false;
        }
        if mapping.protocol != Protocol::Tcp {
            // Packets from outside keep nothing alive (RFC 4787 REQ-6): anybody could send them.
            if let Some(session) = self.known_session(id, remote)
                && let Some(session) = self.sessions.get_mut(session)
            {
                session.assured = true;
            }
            return true;
        }
        let Some(session) = self.session(id, remote, now) else {
            return false;
        };
        if let Some(session) = self.sessions.get_mut(session) {
            session.connection.packet(false, flags);
        }
        self.refresh(mapping.protocol, session, now);
        true
    }

    /// Ends what is over at `now`.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((at, id)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.pop_first();
            let Some(session) = self.sessions.get_mut(id) else {
                continue;
            };
            if session.expires > now {
                session.looked_at = session.expires;
                self.timers.insert((session.expires, id));
            } else {
                self.end_session(id, now);
            }
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(super) fn len(&self) -> (usize, usize) {
        (self.mappings.len(), self.sessions.len())
    }

    /// The outside address of a host: the one it has, or would get.
    pub(super) fn address_of(&self, inside: Ipv4Addr) -> Option<Ipv4Addr> {
        let address = match self.hosts.get(&inside) {
            Some(host) => host.address,
            None => self.pick(inside),
        };
        self.pool.get(address).copied()
    }

    fn lets_in(&mut self, id: u32, mapping: &Mapping, remote: Endpoint) -> bool {
        if self.filtering == Filtering::EndpointIndependent {
            return true;
        }
        let session = self.known_session(id, remote);
        let opened = |session: &u32| self.sessions.get(*session).is_some_and(|s| s.opened);
        match self.filtering {
            Filtering::EndpointIndependent => true,
            Filtering::AddressAndPortDependent if mapping.protocol != Protocol::Icmp => {
                session.as_ref().is_some_and(opened)
            }
            Filtering::AddressDependent | Filtering::AddressAndPortDependent => {
                if session.as_ref().is_some_and(opened) {
                    return true;
                }
                let of = |port| (id, Endpoint::new(remote.address, port));
                let mut sessions = self.by_remote.range(of(0)..=of(u16::MAX));
                sessions.any(|(_, session)| opened(session))
            }
        }
    }

    /// The session that a mapping has with an outside endpoint.
    fn known_session(&mut self, id: u32, remote: Endpoint) -> Option<u32> {
        let key = Key::session(id, remote);
        let guess = self.near_remote.guess(key);
        let is_it = |s: &Session| s.mapping == id && s.remote == remote;
        if self.sessions.get(guess).is_some_and(is_it) {
            return Some(guess);
        }
        let session = *self.by_remote.get(&(id, remote))?;
        self.near_remote.remember(key, session);
        Some(session)
    }

    /// The session of a mapping with an outside endpoint, a new one if need be.
    fn session(&mut self, id: u32, remote: Endpoint, now: Instant) -> Option<u32> {
        if let Some(session) = self.known_session(id, remote) {
            return Some(session);
        }
        if self.sessions.len() >= self.max_sessions && !self.evict_but(Some(id)) {
            return None;
        }
        self.mappings.get_mut(id)?.sessions += 1;
        // `refresh` follows and says how long it is kept.
        let session = self.sessions.insert(Session {
            mapping: id,
            remote,
            connection: Connection::default(),
            opened: false,
            assured: false,
            expires: now,
            looked_at: Instant::FAR_FUTURE,
        });
        self.by_remote.insert((id, remote), session);
        Some(session)
    }

    fn refresh(&mut self, protocol: Protocol, id: u32, now: Instant) {
        let timeouts = self.timeouts;
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let time: Duration = match protocol {
            Protocol::Udp => timeouts.udp,
            Protocol::Icmp => timeouts.icmp,
            Protocol::Tcp if session.connection.is_established() => {
                session.assured = true;
                timeouts.tcp_established
            }
            Protocol::Tcp => {
                session.assured = false;
                timeouts.tcp_transitory
            }
        };
        session.expires = now + time;
        // A timer that goes off too early is set again then; only one too late must be moved.
        if session.expires < session.looked_at {
            self.timers.remove(&(session.looked_at, id));
            session.looked_at = session.expires;
            self.timers.insert((session.expires, id));
        }
    }

    fn end_session(&mut self, id: u32, now: Instant) {
        let Some(session) = self.sessions.remove(id) else {
            return;
        };
        self.by_remote.remove(&(session.mapping, session.remote));
        let Some(mapping) = self.mappings.get_mut(session.mapping) else {
            return;
        };
        mapping.sessions -= 1;
        if mapping.sessions == 0 && !mapping.permanent {
            self.end_mapping(session.mapping, now);
        }
    }

    fn end_mapping(&mut self, id: u32, now: Instant) {
        let Some(mapping) = self.mappings.remove(id) else {
            return;
        };
        let Mapping {
            protocol,
            inside,
            outside,
            since,
            ..
        } = mapping;
        self.by_inside.remove(&(protocol, inside));
        self.by_outside.remove(&(protocol, outside));
        if self.block == 0 {
            self.tell(
                now,
                EventKind::MappingDeleted {
                    protocol,
                    inside,
                    outside,
                    since,
                },
            );
        }
        let Some(host) = self.hosts.get_mut(&inside.address) else {
            return;
        };
        host.mappings -= 1;
        let released = self.ports.release(host.address, protocol, outside.port);
        if let Some(block) = released {
            host.blocks.retain(|b| *b != block);
        }
        if host.mappings == 0 && !host.permanent {
            self.hosts.remove(&inside.address);
        }
        if let Some(block) = released {
            let ports = self.ports.ports_of(block);
            self.tell(
                now,
                EventKind::BlockReleased {
                    inside: inside.address,
                    outside: outside.address,
                    ports,
                },
            );
        }
    }

    /// A free outside endpoint for an inside one.
    fn endpoint(
        &mut self,
        protocol: Protocol,
        inside: Endpoint,
        now: Instant,
    ) -> Result<Endpoint, Full> {
        let address = match self.hosts.get(&inside.address) {
            Some(host) if self.per_host > 0 && host.mappings >= self.per_host => {
                return Err(Full::Host);
            }
            Some(host) => host.address,
            None => self.pick(inside.address),
        };
        let outside = *self.pool.get(address).ok_or(Full::Ports)?;
        let port = if self.block == 0 {
            self.ports
                .allocate(address, protocol, inside.port, &mut self.random)
        } else {
            self.port_in_block(address, protocol, inside, now)
        };
        Ok(Endpoint::new(outside, port.ok_or(Full::Ports)?))
    }

    fn port_in_block(
        &mut self,
        address: usize,
        protocol: Protocol,
        inside: Endpoint,
        now: Instant,
    ) -> Option<u16> {
        let blocks = match self.hosts.get(&inside.address) {
            Some(host) => host.blocks.clone(),
            None => Vec::new(),
        };
        for block in &blocks {
            let port =
                self.ports
                    .allocate_in(address, protocol, inside.port, *block, &mut self.random);
            if port.is_some() {
                return port;
            }
        }
        if blocks.len() >= usize::from(self.blocks_per_host) {
            return None;
        }
        let block = self.ports.free_block(address, &mut self.random)?;
        let port =
            self.ports
                .allocate_in(address, protocol, inside.port, block, &mut self.random)?;
        let host = self.hosts.entry(inside.address).or_insert(Host {
            address,
            mappings: 0,
            blocks: Vec::new(),
            permanent: false,
        });
        host.blocks.push(block);
        let event = EventKind::BlockAllocated {
            inside: inside.address,
            outside: *self.pool.get(address)?,
            ports: self.ports.ports_of(block),
        };
        self.tell(now, event);
        Some(port)
    }

    /// The outside address for a host that has none: always the same one.
    fn pick(&self, inside: Ipv4Addr) -> usize {
        let count = u64::try_from(self.pool.len()).unwrap_or(1);
        let choice = SplitMix64::new(inside.to_bits().into()).below(count);
        usize::try_from(choice).unwrap_or(0)
    }

    fn add(&mut self, mapping: Mapping) -> u32 {
        let Mapping {
            protocol,
            inside,
            outside,
            permanent,
            ..
        } = mapping;
        let id = self.mappings.insert(mapping);
        self.by_inside.insert((protocol, inside), id);
        self.by_outside.insert((protocol, outside), id);
        // Forwarded ports do not count against a host, but give it its outside address.
        let address = self.pool.iter().position(|a| *a == outside.address);
        let host = self.hosts.entry(inside.address).or_insert(Host {
            address: address.unwrap_or(0),
            mappings: 0,
            blocks: Vec::new(),
            permanent,
        });
        if !permanent {
            host.mappings += 1;
        }
        id
    }

    fn tell(&mut self, at: Instant, kind: EventKind) {
        if self.events.len() >= MOST_EVENTS {
            self.lost_events += 1;
        } else {
            self.events.push_back(Event { at, kind });
        }
    }
}
