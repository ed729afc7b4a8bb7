//! The connections: found by what packets say, by age, and by how much they are worth.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv6Addr};

use plumb_wire::{Instant, SplitMix64};

use crate::slab::Slab;

use super::tuple::{Key, Tuple, secret};
use super::{EntryId, Packet, Refused, Status, Traffic, tcp};

/// A connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Its name, once it is in the table.
    pub(super) id: Option<EntryId>,
    pub(super) key: Key,
    /// The key is that of the first packet turned round.
    pub(super) turned: bool,
    pub(super) zone: u16,
    pub(super) original: Tuple,
    pub(super) status: Status,
    pub(super) mark: u32,
    /// By [`Direction`](super::Direction).
    pub(super) traffic: [Traffic; 2],
    pub(super) protocol: State,
    pub(super) since: Instant,
    pub(super) expires: Instant,
    /// When the timer looks at it next; `expires` may have moved on since.
    looked_at: Instant,
    hash: u64,
    /// The next one with the same end of its hash.
    chained: Link,
    rank: Rank,
    older: Link,
    newer: Link,
}

/// What is known of a connection beside its packets.
#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    Tcp(tcp::Connection),
    /// When a UDP flow that is answered counts as a stream.
    Udp(Instant),
    Icmp,
    Gre,
    Other,
}

/// Which connections go first when there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    /// Never answered.
    Unreplied,
    /// Answered, but not seen to be open.
    Unassured,
    /// TCP that was open and is ending.
    Closing,
    /// None of these: it is kept.
    Assured,
}

/// A number in the slab plus one; 0 for none, so that fresh memory is right.
type Link = u32;

/// Connections that memory is set aside for at the start, so that growing does not stop packets.
/// It is not taken until it is used.
const MOST_RESERVED: usize = 1 << 18;

/// The oldest and the newest of a rank.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    oldest: Link,
    newest: Link,
}

#[derive(Debug)]
pub(super) struct Table {
    entries: Slab<Entry>,
    buckets: Vec<Link>,
    secret: [u64; 6],
    ranks: [Ends; 3],
    timers: BTreeSet<(Instant, u32)>,
    sources: BTreeMap<IpAddr, u32>,
    max_entries: usize,
    per_source: u32,
    next_id: u64,
}

impl Entry {
    /// A connection that is not in the table yet.
    pub(super) fn new(packet: &Packet<'_>, protocol: State) -> Self {
        let now = packet.now;
        Self {
            id: None,
            key: packet.key,
            turned: packet.turned,
            zone: packet.zone,
            original: Tuple::new(packet.ip, packet.transport),
            status: Status::NONE,
            mark: 0,
            traffic: [Traffic::default(); 2],
            protocol,
            since: now,
            expires: now,
            looked_at: Instant::FAR_FUTURE,
            hash: 0,
            chained: 0,
            rank: Rank::Assured,
            older: 0,
            newer: 0,
        }
    }

    /// Whether it has this name.
    pub(super) fn is(&self, id: EntryId) -> bool {
        self.id == Some(id)
    }

    pub(super) const fn tcp(&self) -> Option<tcp::TcpState> {
        match &self.protocol {
            State::Tcp(connection) => Some(connection.state),
            State::Udp(_) | State::Icmp | State::Gre | State::Other => None,
        }
    }

    /// Moves its end; false if the timer must be told, since it would look too late.
    pub(super) fn keep_until(&mut self, expires: Instant) -> bool {
        self.expires = expires;
        expires >= self.looked_at
    }

    pub(super) const fn rank(&self) -> Rank {
        if !self.status.contains(Status::SEEN_REPLY) {
            Rank::Unreplied
        } else if !self.status.contains(Status::ASSURED) {
            Rank::Unassured
        } else if let State::Tcp(connection) = &self.protocol
            && connection.state.is_closing()
        {
            Rank::Closing
        } else {
            Rank::Assured
        }
    }
}

impl Table {
    pub(super) fn new(max_entries: u32, per_source: u32, random: &mut SplitMix64) -> Self {
        let max_entries = usize::try_from(max_entries).unwrap_or(usize::MAX).max(1);
        // At most one connection a bucket on average. Pages of zeros cost nothing until used.
        let buckets = max_entries.clamp(16, 1 << 24).next_power_of_two();
        Self {
            entries: Slab::with_capacity(max_entries.min(MOST_RESERVED)),
            buckets: vec![0; buckets],
            secret: secret(random),
            ranks: [Ends::default(); 3],
            timers: BTreeSet::new(),
            sources: BTreeMap::new(),
            max_entries,
            per_source,
            next_id: 1,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn find(&self, key: &Key) -> Option<u32> {
        let hash = key.hash(&self.secret);
        let mut link = self.buckets[self.bucket(hash)];
        while let Some(id) = link.checked_sub(1) {
            let entry = self.entries.get(id)?;
            if entry.hash == hash && entry.key == *key {
                return Some(id);
            }
            link = entry.chained;
        }
        None
    }

    pub(super) fn get(&self, id: u32) -> Option<&Entry> {
        self.entries.get(id)
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Entry> {
        self.entries.get_mut(id)
    }

    /// All connections, in no particular order, but always the same.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Takes a connection in. Returns the number that it has now, and the one that was given up for
    /// it, which is that worth least.
    pub(super) fn insert(&mut self, mut entry: Entry) -> Result<(u32, Option<Entry>), Refused> {
        let source = self.source(&entry);
        if let Some(source) = source
            && self.sources.get(&source).copied().unwrap_or(0) >= self.per_source
        {
            return Err(Refused::Source);
        }
        let mut evicted = None;
        if self.entries.len() >= self.max_entries {
            let ends = self.ranks.iter().find(|ends| ends.oldest != 0);
            let oldest = ends.ok_or(Refused::Table)?.oldest;
            evicted = self.remove(oldest - 1);
        }
        if let Some(source) = source {
            *self.sources.entry(source).or_insert(0) += 1;
        }
        entry.hash = entry.key.hash(&self.secret);
        let bucket = self.bucket(entry.hash);
        entry.chained = self.buckets[bucket];
        entry.looked_at = entry.expires;
        entry.rank = Rank::Assured;
        let expires = entry.expires;
        let id = self.entries.insert(entry);
        if let Some(entry) = self.entries.get_mut(id) {
            entry.id = Some(EntryId {
                number: self.next_id,
                slot: id,
            });
            self.next_id += 1;
        }
        self.buckets[bucket] = id + 1;
        self.timers.insert((expires, id));
        self.changed(id);
        Ok((id, evicted))
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<Entry> {
        let entry = self.entries.get(id).copied()?;
        self.unlink(id, &entry);
        self.entries.remove(id);
        self.timers.remove(&(entry.looked_at, id));
        let bucket = self.bucket(entry.hash);
        if self.buckets[bucket] == id + 1 {
            self.buckets[bucket] = entry.chained;
        } else {
            let mut link = self.buckets[bucket];
            while let Some(before) = link.checked_sub(1).and_then(|at| self.entries.get_mut(at)) {
                link = before.chained;
                if link == id + 1 {
                    before.chained = entry.chained;
                    break;
                }
            }
        }
        if let Some(source) = self.source(&entry)
            && let Some(count) = self.sources.get_mut(&source)
        {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(&source);
            }
        }
        Some(entry)
    }

    /// Sets when a connection ends.
    pub(super) fn expire_at(&mut self, id: u32, at: Instant) {
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        entry.expires = at;
        // A timer that goes off too early is set again then; only one too late must be moved.
        if at < entry.looked_at {
            self.timers.remove(&(entry.looked_at, id));
            entry.looked_at = at;
            self.timers.insert((at, id));
        }
    }

    /// Puts a connection where its state says after that has changed.
    pub(super) fn changed(&mut self, id: u32) {
        let Some(entry) = self.entries.get(id) else {
            return;
        };
        let rank = entry.rank();
        if rank == entry.rank {
            return;
        }
        let entry = *entry;
        self.unlink(id, &entry);
        let mut older = 0;
        if rank != Rank::Assured {
            let ends = &mut self.ranks[rank as usize];
            older = ends.newest;
            ends.newest = id + 1;
            match older.checked_sub(1) {
                None => ends.oldest = id + 1,
                Some(older) => {
                    if let Some(older) = self.entries.get_mut(older) {
                        older.newer = id + 1;
                    }
                }
            }
        }
        if let Some(entry) = self.entries.get_mut(id) {
            (entry.rank, entry.older, entry.newer) = (rank, older, 0);
        }
    }

    /// Takes out a connection that is over at `now`.
    pub(super) fn pop_expired(&mut self, now: Instant) -> Option<Entry> {
        while let Some((at, id)) = self.timers.first().copied()
            && at <= now
        {
            match self.entries.get_mut(id) {
                Some(entry) if entry.expires > now => {
                    self.timers.pop_first();
                    entry.looked_at = entry.expires;
                    self.timers.insert((entry.expires, id));
                }
                _ => return self.remove(id),
            }
        }
        None
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    fn unlink(&mut self, id: u32, entry: &Entry) {
        if entry.rank == Rank::Assured {
            return;
        }
        let link = id + 1;
        let (older, newer) = (entry.older, entry.newer);
        if let Some(older) = older.checked_sub(1).and_then(|at| self.entries.get_mut(at)) {
            older.newer = newer;
        }
        if let Some(newer) = newer.checked_sub(1).and_then(|at| self.entries.get_mut(at)) {
            newer.older = older;
        }
        let ends = &mut self.ranks[entry.rank as usize];
        if ends.oldest == link {
            ends.oldest = newer;
        }
        if ends.newest == link {
            ends.newest = older;
        }
    }

    /// What a connection counts for, if sources are limited.
    fn source(&self, entry: &Entry) -> Option<IpAddr> {
        if self.per_source == 0 {
            return None;
        }
        Some(match entry.original.src {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        })
    }

    fn bucket(&self, hash: u64) -> usize {
        // The number of buckets is a power of two below 2^25.
        usize::try_from(hash & 0x1ff_ffff).unwrap_or(0) & (self.buckets.len() - 1)
    }
}
