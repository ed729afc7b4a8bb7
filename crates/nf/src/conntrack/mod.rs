//! Connection tracking: which connection a packet belongs to, and whether it can.
//!
//! It decides as Linux's nf_conntrack does, so that rules written for that mean the same here.
//! [`Conntrack::track`] looks at a packet before the rules do; a connection that it begins is only
//! taken into the table by [`Conntrack::confirm`] once they have let the packet through.
//!
//! There is room for [`Config::max_entries`] connections. A new one that finds none takes the
//! place of the oldest that was never answered, else of the oldest that was answered but not seen
//! to be open, else of the TCP connection that has been closing longest; if there are none of
//! those, it is refused.
//!
//! Nothing is looked up in an order that depends on addresses in memory, so the same packets at the
//! same times give the same results.

mod config;
mod event;
mod related;
mod table;
mod tcp;
mod tuple;
mod verdict;

#[cfg(test)]
mod tests;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use plumb_wire::{Instant, SplitMix64};

use crate::dissect::{Dissected, Icmp, Ip, Transport, UDP_LITE};
use crate::{Counter, Frame};

pub use config::{Config, Timeouts};
pub use event::{Connection, End, Event, EventKind};
pub use tcp::TcpState;
pub use tuple::Tuple;
pub use verdict::{Direction, EntryId, Invalid, Refused, State, Status, Tracked, Traffic};

use table::{Entry, Table};
use tcp::Outcome;
use tuple::Key;

/// How long a UDP flow must go both ways to count as a stream.
const STREAM_AFTER: Duration = Duration::from_secs(2);
/// Generic routing encapsulation (RFC 2784).
const GRE: u8 = 47;
/// Events that are kept at most until the owner takes them; what is more is counted as lost.
const MOST_EVENTS: usize = 65_536;

/// The connections that pass.
#[derive(Debug)]
pub struct Conntrack {
    config: Config,
    table: Table,
    /// The connection that the last packet began, until the next one comes.
    pending: Option<Entry>,
    ticket: u64,
    events: VecDeque<Event>,
    counts: Counts,
}

/// A packet that may be of a connection.
struct Packet<'a> {
    key: Key,
    /// The key is that of the packet turned round.
    turned: bool,
    zone: u16,
    ip: &'a Ip,
    transport: &'a Transport,
    now: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// By [`State`].
    packets: [u64; 5],
    confirmed: u64,
    evicted: u64,
    timed_out: u64,
    refused: u64,
    lost_events: u64,
}

impl Conntrack {
    /// A tracker that knows no connection. `seed` keys its hash: nobody who does not know it can
    /// make packets that are slow to look up.
    pub fn new(config: Config, seed: u64) -> Self {
        let mut random = SplitMix64::new(seed);
        Self {
            table: Table::new(config.max_entries, config.per_source, &mut random),
            config,
            pending: None,
            ticket: 0,
            events: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// Says in `tracked` what a packet is, and takes note of it. A connection that it begins is
    /// forgotten when the next packet is tracked, unless it is confirmed before.
    pub fn track(
        &mut self,
        packet: &Dissected,
        frame: &Frame,
        now: Instant,
        tracked: &mut Tracked,
    ) {
        self.pending = None;
        if let Err(why) = self.look_at(packet, frame, now, tracked) {
            *tracked = Tracked::invalid(why);
        }
        self.counts.packets[tracked.state as usize] += 1;
    }

    /// Takes the connection of a packet that was let through into the table, if it is not there.
    ///
    /// # Errors
    /// If there is no room for it. The packet should be dropped then, or its answer would be taken
    /// for the start of a connection.
    pub fn confirm(&mut self, tracked: &mut Tracked, now: Instant) -> Result<(), Refused> {
        if tracked.id.is_some() || tracked.ticket != self.ticket {
            return Ok(());
        }
        let Some(mut entry) = self.pending.take() else {
            return Ok(());
        };
        entry.status = entry.status.with(Status::CONFIRMED);
        match self.table.insert(entry) {
            Ok((slot, evicted)) => {
                if let Some(evicted) = evicted {
                    self.counts.evicted += 1;
                    self.tell(EventKind::Destroyed(End::Evicted), &evicted, now);
                }
                self.counts.confirmed += 1;
                if let Some(entry) = self.table.get(slot).copied() {
                    (tracked.id, tracked.status) = (entry.id, entry.status);
                    self.tell(EventKind::New, &entry, now);
                }
                Ok(())
            }
            Err(refused) => {
                self.counts.refused += 1;
                Err(refused)
            }
        }
    }

    /// Sets the mark of a packet's connection, whether it is confirmed already or not.
    pub fn set_mark(&mut self, tracked: &mut Tracked, mark: u32) {
        if let Some(id) = tracked.id {
            if let Some(entry) = self.entry(id) {
                entry.mark = mark;
                tracked.mark = mark;
            }
        } else if tracked.ticket == self.ticket
            && let Some(entry) = &mut self.pending
        {
            entry.mark = mark;
            tracked.mark = mark;
        }
    }

    /// Removes a connection; false if it is over already.
    pub fn remove(&mut self, id: EntryId, now: Instant) -> bool {
        if self.entry(id).is_none() {
            return false;
        }
        self.end(id.slot, End::Removed, now);
        true
    }

    /// Ends what is over at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(entry) = self.table.pop_expired(now) {
            self.counts.timed_out += 1;
            self.tell(EventKind::Destroyed(End::TimedOut), &entry, now);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is wanted.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.table.next_timeout()
    }

    /// Takes the next event, if [`Config::events`] are wanted. What nobody takes is lost after
    /// 65 536 events.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Says whether there is no connection.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A connection by its name.
    pub fn get(&self, id: EntryId) -> Option<Connection> {
        let entry = self.table.get(id.slot).filter(|entry| entry.is(id))?;
        Connection::of(entry)
    }

    /// All connections, in no particular order, but always the same.
    pub fn iter(&self) -> impl Iterator<Item = Connection> {
        self.table.iter().filter_map(Connection::of)
    }

    /// What it has counted so far, in a fixed order.
    pub fn counters(&self) -> Vec<Counter> {
        let counts = &self.counts;
        let [new, established, related, invalid, untracked] = counts.packets;
        [
            ("tracked_new_frames", new),
            ("tracked_established_frames", established),
            ("tracked_related_frames", related),
            ("tracked_invalid_frames", invalid),
            ("untracked_frames", untracked),
            ("connections", u64::try_from(self.len()).unwrap_or(u64::MAX)),
            ("confirmed_connections", counts.confirmed),
            ("evicted_connections", counts.evicted),
            ("timed_out_connections", counts.timed_out),
            ("refused_connections", counts.refused),
            ("lost_connection_events", counts.lost_events),
        ]
        .map(|(name, value)| Counter { name, value })
        .into()
    }

    /// What a packet is, or what is wrong with it. It is written where it stays: what was written part
    /// by part is slow to move at once.
    #[inline]
    fn look_at(
        &mut self,
        packet: &Dissected,
        frame: &Frame,
        now: Instant,
        tracked: &mut Tracked,
    ) -> Result<(), Invalid> {
        if let Some(fault) = packet.fault {
            return Err(Invalid::Fault(fault));
        }
        let Some(ip) = &packet.ip else {
            *tracked = Tracked::untracked();
            return Ok(());
        };
        let zone = match packet.vlan[0] {
            Some(tag) if self.config.zone_per_vlan => tag & 0x0fff,
            _ => 0,
        };
        let (key, turned) = Key::of(ip, &packet.transport, zone).ok_or(Invalid::LaterFragment)?;
        if self.config.verify_checksums && !packet.checksum_is_right(frame) {
            return Err(Invalid::Checksum);
        }
        match &packet.transport {
            Transport::Icmp(icmp) if icmp.is_between_neighbours() => {
                *tracked = Tracked::untracked();
                return Ok(());
            }
            Transport::Icmp(icmp) if related::is_error(icmp) => {
                return self.related(ip, icmp, frame, zone, now, tracked);
            }
            Transport::Tcp(segment) => {
                if let Some(fault) = tcp::flags_fault(segment) {
                    return Err(fault);
                }
            }
            Transport::None
            | Transport::Udp(_)
            | Transport::Icmp(_)
            | Transport::Ports(_)
            | Transport::Other => {}
        }
        let packet = Packet {
            key,
            turned,
            zone,
            ip,
            transport: &packet.transport,
            now,
        };
        match self.live(&packet.key, now) {
            Some(slot) => self.known(slot, &packet, tracked),
            None => self.begin(&packet, tracked),
        }
    }

    /// A packet of a connection that is in the table, or that begins a new one in its place.
    #[inline]
    fn known(
        &mut self,
        slot: u32,
        packet: &Packet<'_>,
        tracked: &mut Tracked,
    ) -> Result<(), Invalid> {
        let now = packet.now;
        let Some(entry) = self.table.get_mut(slot) else {
            return self.begin(packet, tracked);
        };
        // Between an end and itself there is one direction only.
        let direction = if entry.turned == packet.turned {
            Direction::Original
        } else {
            Direction::Reply
        };
        let was_seen = entry.status.contains(Status::SEEN_REPLY);
        let rank = entry.rank();
        let outcome = outcome(&self.config, entry, direction, packet);
        let mut ends = false;
        let mut expires = entry.expires;
        match outcome {
            Outcome::Reopens => {
                self.end(slot, End::Reopened, now);
                return self.begin(packet, tracked);
            }
            Outcome::Invalid(why, keep) => {
                if let Some(keep) = keep
                    && now + keep < expires
                {
                    self.table.expire_at(slot, now + keep);
                }
                return Err(why);
            }
            Outcome::Passes => {}
            Outcome::Ends => {
                ends = true;
                count(entry, direction, packet.ip);
            }
            Outcome::Part { keep, assures } => {
                count(entry, direction, packet.ip);
                if assures {
                    entry.status = entry.status.with(Status::ASSURED);
                }
                if let Some(keep) = keep {
                    expires = now + keep;
                }
            }
        }
        let state = if direction == Direction::Reply || was_seen {
            State::Established
        } else {
            State::New
        };
        if direction == Direction::Reply {
            entry.status = entry.status.with(Status::SEEN_REPLY);
        }
        let is_moved = entry.rank() != rank;
        let is_sooner = !entry.keep_until(expires);
        describe(entry, state, direction, self.ticket, tracked);
        if is_sooner {
            self.table.expire_at(slot, expires);
        }
        if is_moved {
            self.table.changed(slot);
        }
        if ends {
            self.end(slot, End::Reset, now);
            tracked.id = None;
            tracked.status = tracked.status.with(Status::DYING);
        }
        Ok(())
    }

    /// The first packet of a connection.
    fn begin(&mut self, packet: &Packet<'_>, tracked: &mut Tracked) -> Result<(), Invalid> {
        let now = packet.now;
        let protocol = match packet.transport {
            Transport::Tcp(segment) => {
                table::State::Tcp(tcp::Connection::new(segment, &self.config)?)
            }
            Transport::Icmp(icmp) if !tuple::is_query(icmp) => {
                return Err(Invalid::IcmpNoQuestion);
            }
            Transport::Icmp(_) => table::State::Icmp,
            Transport::Udp(_) => table::State::Udp(now + STREAM_AFTER),
            Transport::Ports(_) if packet.ip.protocol == UDP_LITE => {
                table::State::Udp(now + STREAM_AFTER)
            }
            Transport::Other if packet.ip.protocol == GRE => table::State::Gre,
            Transport::None | Transport::Ports(_) | Transport::Other => table::State::Other,
        };
        let mut entry = Entry::new(packet, protocol);
        match outcome(&self.config, &mut entry, Direction::Original, packet) {
            Outcome::Part { keep, .. } => entry.expires = now + keep.unwrap_or_default(),
            Outcome::Invalid(why, _) => return Err(why),
            Outcome::Passes | Outcome::Ends | Outcome::Reopens => {
                return Err(Invalid::TcpNoStart);
            }
        }
        count(&mut entry, Direction::Original, packet.ip);
        self.ticket += 1;
        describe(
            &entry,
            State::New,
            Direction::Original,
            self.ticket,
            tracked,
        );
        self.pending = Some(entry);
        Ok(())
    }

    /// An ICMP error.
    fn related(
        &mut self,
        ip: &Ip,
        icmp: &Icmp,
        frame: &Frame,
        zone: u16,
        now: Instant,
        tracked: &mut Tracked,
    ) -> Result<(), Invalid> {
        let (ip, transport) = related::quote(ip, icmp, &frame.bytes)?;
        let quoted = Key::of(&ip, &transport, zone);
        let (key, turned) = quoted.ok_or(Invalid::IcmpNoConnection)?;
        let slot = self.live(&key, now);
        let Some(entry) = slot.and_then(|slot| self.table.get(slot)) else {
            return Err(Invalid::IcmpNoConnection);
        };
        let direction = if entry.turned == turned {
            Direction::Reply
        } else {
            Direction::Original
        };
        describe(entry, State::Related, direction, self.ticket, tracked);
        Ok(())
    }

    /// Finds a connection that is not over at `now`.
    fn live(&mut self, key: &Key, now: Instant) -> Option<u32> {
        let slot = self.table.find(key)?;
        if self.table.get(slot)?.expires > now {
            return Some(slot);
        }
        self.counts.timed_out += 1;
        self.end(slot, End::TimedOut, now);
        None
    }

    fn entry(&mut self, id: EntryId) -> Option<&mut Entry> {
        self.table.get_mut(id.slot).filter(|entry| entry.is(id))
    }

    fn end(&mut self, slot: u32, why: End, now: Instant) {
        if let Some(entry) = self.table.remove(slot) {
            self.tell(EventKind::Destroyed(why), &entry, now);
        }
    }

    fn tell(&mut self, kind: EventKind, entry: &Entry, at: Instant) {
        let Some(connection) = Connection::of(entry).filter(|_| self.config.events) else {
            return;
        };
        if self.events.len() >= MOST_EVENTS {
            self.counts.lost_events += 1;
            return;
        }
        self.events.push_back(Event {
            at,
            kind,
            connection,
        });
    }
}

/// What a packet does to a connection.
fn outcome(
    config: &Config,
    entry: &mut Entry,
    direction: Direction,
    packet: &Packet<'_>,
) -> Outcome {
    let timeouts = &config.timeouts;
    let mut assures = false;
    let keep = match (&mut entry.protocol, packet.transport) {
        (table::State::Tcp(connection), Transport::Tcp(segment)) => {
            return connection.packet(direction, segment, entry.status, config);
        }
        (table::State::Udp(stream), _) => {
            // The first answer may be all that comes.
            assures = entry.status.contains(Status::SEEN_REPLY) && packet.now > *stream;
            if assures {
                timeouts.udp_stream
            } else {
                timeouts.udp
            }
        }
        (table::State::Gre, _) => {
            assures = entry.status.contains(Status::SEEN_REPLY);
            if assures {
                timeouts.gre_stream
            } else {
                timeouts.gre
            }
        }
        (table::State::Icmp, _) => timeouts.icmp,
        (table::State::Tcp(_) | table::State::Other, _) => timeouts.generic,
    };
    Outcome::Part {
        keep: Some(keep),
        assures,
    }
}

#[inline(always)]
const fn describe(
    entry: &Entry,
    state: State,
    direction: Direction,
    ticket: u64,
    tracked: &mut Tracked,
) {
    tracked.state = state;
    tracked.direction = direction;
    tracked.status = entry.status;
    tracked.mark = entry.mark;
    tracked.zone = entry.zone;
    tracked.id = entry.id;
    tracked.invalid = None;
    tracked.ticket = ticket;
}

fn count(entry: &mut Entry, direction: Direction, ip: &Ip) {
    let traffic = &mut entry.traffic[direction as usize];
    traffic.packets += 1;
    traffic.bytes += u64::from(ip.len);
}
