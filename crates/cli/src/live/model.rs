//! What is known of each target: pure bookkeeping over the events of its rounds.

mod hop;
mod tunnels;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use core::net::IpAddr;

use plumb_record::{Hop, Method, StopReason, Trace, Tunnel};
use plumb_wire::Instant;

pub(crate) use hop::{HopState, HopStatus};
pub(crate) use tunnels::{Hidden, Place, TunnelState};

/// Changes that a target remembers.
const MAX_CHANGES: usize = 100;
/// Rounds without an answer from the destination after which it is looked for further away.
const ROUNDS_BEFORE_WIDENING: u32 = 3;

/// Something that changed on a path.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    /// Round that showed it, from 1.
    pub(crate) round: u64,
    /// When it was seen.
    pub(crate) at: Instant,
    /// What it was.
    pub(crate) what: What,
}

/// What changed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    /// Another address answers at a TTL.
    Path {
        /// The TTL.
        ttl: u8,
        /// Who answered before.
        from: IpAddr,
        /// Who answers.
        to: IpAddr,
    },
    /// A tunnel that earlier checks did not show.
    TunnelAppeared(Box<Tunnel>),
    /// A tunnel that the latest check did not show any more.
    TunnelDisappeared(Box<Tunnel>),
    /// The destination, which had answered, did not.
    DestinationLost,
    /// The destination answers again.
    DestinationBack,
}

/// What a round is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Loss and delay.
    Plain,
    /// Tunnels as well. It takes longer, and plain rounds go on meanwhile.
    Check,
}

/// A round under way: its number and the TTLs that have been counted.
#[derive(Clone, Debug)]
struct Round {
    number: u64,
    counted: BTreeSet<u8>,
}

/// A target and its path.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    name: String,
    dst: IpAddr,
    src: IpAddr,
    method: Method,
    first_ttl: u8,
    hops: BTreeMap<u8, HopState>,
    end: Option<u8>,
    reached_at: Option<u8>,
    unreached_rounds: u32,
    looping: Option<IpAddr>,
    tunnels: Vec<TunnelState>,
    last_check: Option<Instant>,
    stop_reason: Option<StopReason>,
    rounds: u64,
    total_rounds: u64,
    under_way: BTreeMap<Kind, Round>,
    begun: u64,
    first_started: Option<Instant>,
    last_answer: Option<Instant>,
    destination_answer: Option<Instant>,
    probes_sent: u64,
    changes: VecDeque<Change>,
    new_path: bool,
}

impl Target {
    /// A target that has not been probed. `name` is what the user called it.
    pub(crate) const fn new(
        name: String,
        src: IpAddr,
        dst: IpAddr,
        method: Method,
        first_ttl: u8,
    ) -> Self {
        Self {
            name,
            dst,
            src,
            method,
            first_ttl,
            hops: BTreeMap::new(),
            end: None,
            reached_at: None,
            unreached_rounds: 0,
            looping: None,
            tunnels: Vec::new(),
            last_check: None,
            stop_reason: None,
            rounds: 0,
            total_rounds: 0,
            under_way: BTreeMap::new(),
            begun: 0,
            first_started: None,
            last_answer: None,
            destination_answer: None,
            probes_sent: 0,
            changes: VecDeque::new(),
            new_path: false,
        }
    }

    /// Begins a round. One of each kind can be under way.
    pub(crate) fn start_round(&mut self, kind: Kind, now: Instant) {
        self.first_started.get_or_insert(now);
        self.begun += 1;
        let round = Round {
            number: self.begun,
            counted: BTreeSet::new(),
        };
        self.under_way.insert(kind, round);
    }

    /// Takes back a round that was never sent.
    pub(crate) fn cancel_round(&mut self, kind: Kind) {
        if self.under_way.remove(&kind).is_some() {
            self.begun -= 1;
        }
    }

    /// Takes a hop of the round under way.
    ///
    /// Whether a hop beyond the known end of the path belongs to it is only known when the round
    /// is over, and its record then counts. In the first round no end is known: all count, and the
    /// end of the round takes back what lies beyond.
    pub(crate) fn handle_hop(&mut self, kind: Kind, hop: &Hop, now: Instant) {
        let Some(round) = self.under_way.get_mut(&kind) else {
            return;
        };
        if self.end.is_none_or(|end| hop.ttl <= end) && round.counted.insert(hop.ttl) {
            let number = round.number;
            self.count(hop, number, now);
        }
    }

    /// Ends the round under way with its record.
    pub(crate) fn handle_trace(&mut self, kind: Kind, trace: &Trace, now: Instant) {
        let Some(round) = self.under_way.remove(&kind) else {
            return;
        };
        self.probes_sent += u64::from(trace.probes_sent);
        if trace.stop_reason == StopReason::Interrupted {
            return;
        }
        self.stop_reason = Some(trace.stop_reason);
        self.rounds += 1;
        self.total_rounds += 1;
        let first_round = self.end.is_none();
        let end = self.new_end(trace);
        if first_round {
            self.hops.retain(|ttl, _| *ttl <= end);
        }
        self.end = Some(end);
        for hop in trace.hops.iter().filter(|hop| hop.ttl <= end) {
            if !round.counted.contains(&hop.ttl) {
                self.count(hop, round.number, now);
            }
            if kind == Kind::Check
                && let Some(state) = self.hops.get_mut(&hop.ttl)
            {
                state.learn(hop);
            }
        }
        self.looping = (trace.stop_reason == StopReason::Loop)
            .then(|| trace.hops.last().and_then(|hop| hop.addr))
            .flatten();
        self.judge_reach(trace, round.number, now);
        if kind == Kind::Check {
            let checked_before = self.last_check.replace(now).is_some();
            let known = core::mem::take(&mut self.tunnels);
            let checked = tunnels::check(known, trace, round.number);
            self.tunnels = checked.tunnels;
            // What the first check finds was there before anyone looked.
            for tunnel in checked.appeared.into_iter().filter(|_| checked_before) {
                let what = What::TunnelAppeared(Box::new(tunnel));
                self.note(round.number, now, what);
            }
            for tunnel in checked.disappeared {
                let what = What::TunnelDisappeared(Box::new(tunnel));
                self.note(round.number, now, what);
            }
        }
    }

    /// Forgets the statistics, but neither the path nor the tunnels.
    pub(crate) fn reset(&mut self) {
        for hop in self.hops.values_mut() {
            hop.reset();
        }
        self.rounds = 0;
        self.changes.clear();
    }

    /// True, once, if an address answered at a hop that had known only others.
    pub(crate) const fn take_new_path(&mut self) -> bool {
        core::mem::replace(&mut self.new_path, false)
    }

    /// What the user called it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Destination.
    pub(crate) const fn dst(&self) -> IpAddr {
        self.dst
    }

    /// Source address of the probes.
    pub(crate) const fn src(&self) -> IpAddr {
        self.src
    }

    /// Kind of probe.
    pub(crate) const fn method(&self) -> Method {
        self.method
    }

    /// Rounds begun.
    pub(crate) const fn begun(&self) -> u64 {
        self.begun
    }

    /// Whether a round of this kind is under way.
    pub(crate) fn is_under_way(&self, kind: Kind) -> bool {
        self.under_way.contains_key(&kind)
    }

    /// Rounds finished since the statistics were reset.
    pub(crate) const fn rounds(&self) -> u64 {
        self.rounds
    }

    /// Rounds finished.
    pub(crate) const fn total_rounds(&self) -> u64 {
        self.total_rounds
    }

    /// The hops of the path, nearest first. Behind the last that ever answered there is one at
    /// most.
    pub(crate) fn hops(&self) -> impl DoubleEndedIterator<Item = &HopState> {
        let end = self.end.unwrap_or_else(|| {
            self.hops
                .values()
                .find(|hop| hop.current() == Some(self.dst))
                .map_or(u8::MAX, HopState::ttl)
        });
        self.hops.range(..=end).map(|(_, hop)| hop)
    }

    /// The hop at `ttl`, if the path has it.
    pub(crate) fn hop(&self, ttl: u8) -> Option<&HopState> {
        self.hops().find(|hop| hop.ttl() == ttl)
    }

    /// What the hop shows.
    pub(crate) fn status(&self, hop: &HopState) -> HopStatus {
        let earlier = |addr| {
            self.hops
                .range(..hop.ttl())
                .any(|(_, other)| other.current() == Some(addr))
        };
        match hop.current() {
            Some(addr) if self.looping == Some(addr) && earlier(addr) => HopStatus::Loop,
            Some(_) => HopStatus::Answering,
            None if hop.statistics().sent() > 0 => HopStatus::Silent,
            None => HopStatus::Awaiting,
        }
    }

    /// The tunnels on the path, nearest first.
    pub(crate) fn tunnels(&self) -> &[TunnelState] {
        &self.tunnels
    }

    /// True if the path has changed inside the tunnel since it was checked.
    pub(crate) fn is_stale(&self, tunnel: &TunnelState) -> bool {
        tunnel
            .place
            .is_contradicted_by(|ttl| self.hops.get(&ttl).and_then(HopState::current))
    }

    /// When the latest tunnel check ended.
    pub(crate) const fn last_check(&self) -> Option<Instant> {
        self.last_check
    }

    /// Why the latest round ended.
    pub(crate) const fn stop_reason(&self) -> Option<StopReason> {
        self.stop_reason
    }

    /// True if the destination has ever answered.
    pub(crate) const fn reached(&self) -> bool {
        self.reached_at.is_some()
    }

    /// When the first probe was asked for.
    pub(crate) const fn first_started(&self) -> Option<Instant> {
        self.first_started
    }

    /// When anything on the path answered last.
    pub(crate) const fn last_answer(&self) -> Option<Instant> {
        self.last_answer
    }

    /// When the destination answered last.
    pub(crate) const fn destination_answer(&self) -> Option<Instant> {
        self.destination_answer
    }

    /// Probes of all finished rounds, pings and revelations included.
    pub(crate) const fn probes_sent(&self) -> u64 {
        self.probes_sent
    }

    /// What changed, oldest first.
    pub(crate) fn changes(&self) -> impl DoubleEndedIterator<Item = &Change> + ExactSizeIterator {
        self.changes.iter()
    }

    /// TTL at which the destination answers, as long as it does: a round needs no probe beyond.
    pub(crate) fn known_length(&self) -> Option<u8> {
        self.reached_at
            .filter(|_| self.unreached_rounds < ROUNDS_BEFORE_WIDENING)
    }

    fn count(&mut self, hop: &Hop, round: u64, now: Instant) {
        // Replies overtake each other: the hops before this one are under way.
        for ttl in self.first_ttl..=hop.ttl {
            self.hops.entry(ttl).or_insert_with(|| HopState::new(ttl));
        }
        let Some(state) = self.hops.get_mut(&hop.ttl) else {
            return;
        };
        let known = state.addresses().len();
        let before = state.record(hop, round);
        self.new_path |= before.is_some() && state.addresses().len() > known;
        if let Some(to) = hop.addr {
            self.last_answer = Some(now);
            if let Some(from) = before {
                let ttl = hop.ttl;
                self.note(round, now, What::Path { ttl, from, to });
            }
        }
    }

    /// Where the path ends for the reader. Only the destination's own answer makes it shorter: a
    /// round that lost that answer must not hide hops, nor show silence behind the destination as
    /// loss.
    fn new_end(&self, trace: &Trace) -> u8 {
        let last = trace.hops.last().map_or(self.first_ttl, |hop| hop.ttl);
        let last_answered = trace
            .hops
            .iter()
            .rev()
            .find(|hop| hop.addr.is_some())
            .map(|hop| hop.ttl);
        let ends_at = match trace.stop_reason {
            StopReason::Completed => return last,
            StopReason::Unreachable | StopReason::Loop => last_answered.unwrap_or(last),
            StopReason::GapLimit | StopReason::HopLimit | StopReason::Interrupted => last_answered
                .map_or(self.first_ttl, |ttl| ttl.saturating_add(1))
                .min(last),
        };
        self.end.map_or(ends_at, |end| match self.reached_at {
            Some(_) if last_answered.is_none_or(|ttl| ttl <= end) => end,
            _ => end.max(ends_at),
        })
    }

    fn judge_reach(&mut self, trace: &Trace, round: u64, now: Instant) {
        if trace.stop_reason == StopReason::Completed {
            if self.unreached_rounds >= ROUNDS_BEFORE_WIDENING && self.reached_at.is_some() {
                self.note(round, now, What::DestinationBack);
            }
            self.reached_at = trace.hops.last().map(|hop| hop.ttl);
            self.unreached_rounds = 0;
            self.destination_answer = Some(now);
            return;
        }
        let router_at_the_end = trace.stop_reason == StopReason::HopLimit
            && trace.hops.last().is_some_and(|hop| hop.addr.is_some());
        let before = self.unreached_rounds;
        self.unreached_rounds = if router_at_the_end {
            // The path has become longer.
            before.max(ROUNDS_BEFORE_WIDENING)
        } else {
            before.saturating_add(1)
        };
        if self.reached_at.is_some()
            && before < ROUNDS_BEFORE_WIDENING
            && self.unreached_rounds >= ROUNDS_BEFORE_WIDENING
        {
            self.note(round, now, What::DestinationLost);
        }
    }

    fn note(&mut self, round: u64, at: Instant, what: What) {
        if self.changes.len() == MAX_CHANGES {
            self.changes.pop_front();
        }
        self.changes.push_back(Change { round, at, what });
    }
}

#[cfg(test)]
mod tests;
