//! The rounds of all targets: which begins when, and with which options.

use std::collections::{BTreeMap, BTreeSet};

use core::net::IpAddr;
use core::time::Duration;

use plumb_probe::TraceOptions;
use plumb_record::{Hop, Trace};
use plumb_wire::Instant;

use crate::live::model::{Kind, Target};

/// Times between rounds that the interval keys step through.
const INTERVALS: [Duration; 9] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
];
/// Least TTLs probed at once while the length of a path is unknown.
const PARALLEL: u8 = 8;
/// Least time between tunnel checks that nobody asked for.
const LEAST_RECHECK: Duration = Duration::from_secs(10);
/// How long a job that found the engine full waits.
const FULL_RETRY: Duration = Duration::from_millis(100);

/// What holds for all rounds.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// Time from the start of one round to that of the next.
    pub(crate) interval: Duration,
    /// Time between tunnel checks; `None` for the first round only.
    pub(crate) recheck: Option<Duration>,
    /// Rounds per target; `None` for no end.
    pub(crate) count: Option<u64>,
    /// Whether plain rounds go on during a check: not where replies to one cannot be told from
    /// those to the other.
    pub(crate) concurrent: bool,
}

/// A round to be started.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    /// Index of the target.
    pub(crate) target: usize,
    /// What it is for.
    pub(crate) kind: Kind,
    /// Source address of the probes.
    pub(crate) src: IpAddr,
    /// Destination.
    pub(crate) dst: IpAddr,
    /// How to trace it.
    pub(crate) options: TraceOptions,
}

#[derive(Clone, Debug)]
struct Slot {
    target: Target,
    flow: u16,
    started: Option<Instant>,
    next: Instant,
    check_at: Option<Instant>,
    refused: Option<String>,
}

/// All targets of a live view.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pace: Pace,
    options: TraceOptions,
    slots: Vec<Slot>,
    started: Instant,
    paused: bool,
    names: BTreeMap<IpAddr, Option<String>>,
    named: bool,
}

impl Session {
    /// A session whose first rounds begin now, spread over the interval so that many targets make
    /// no burst. Every target keeps one flow identifier, chosen by `seed`, so that all its rounds
    /// take the same way through load balancers.
    pub(crate) fn new(
        targets: Vec<Target>,
        options: TraceOptions,
        pace: Pace,
        seed: u64,
        named: bool,
        now: Instant,
    ) -> Self {
        let step = pace.interval / u32::try_from(targets.len().max(1)).unwrap_or(u32::MAX);
        let slots = targets
            .into_iter()
            .zip(0u32..)
            .map(|(target, index)| Slot {
                target,
                flow: flow(seed, index),
                started: None,
                next: now + step * index,
                check_at: options.tunnels.map(|_| now),
                refused: None,
            })
            .collect();
        Self {
            pace,
            options,
            slots,
            started: now,
            paused: false,
            names: BTreeMap::new(),
            named,
        }
    }

    /// Lets no plain round go on during a check.
    pub(crate) const fn take_turns(&mut self) {
        self.pace.concurrent = false;
    }

    /// The next round that is due at `now`; it counts as started.
    pub(crate) fn poll_round(&mut self, now: Instant) -> Option<Round> {
        if self.paused {
            return None;
        }
        let (index, slot) = self
            .slots
            .iter_mut()
            .enumerate()
            .find(|(_, slot)| slot.is_idle(&self.pace) && slot.next <= now)?;
        let check =
            slot.check_at.is_some_and(|at| at <= now) && !slot.target.is_under_way(Kind::Check);
        let kind = if check { Kind::Check } else { Kind::Plain };
        slot.started = Some(now);
        slot.next = now + self.pace.interval;
        slot.target.start_round(kind, now);
        let mut options = self.options;
        options.flow = Some(options.flow.unwrap_or(slot.flow));
        options.report_hops = true;
        let length = slot
            .target
            .known_length()
            .map(|last| (last.saturating_sub(options.first_ttl)).saturating_add(1));
        options.parallel = options.parallel.max(length.unwrap_or(PARALLEL));
        if !check {
            options.tunnels = None;
            // Every lost probe shall count as one.
            options.attempts = 1;
            options.max_ttl = slot.target.known_length().unwrap_or(options.max_ttl);
        }
        Some(Round {
            target: index,
            kind,
            src: slot.target.src(),
            dst: slot.target.dst(),
            options,
        })
    }

    /// When [`poll_round`](Self::poll_round) has something to give next, as far as known.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.paused {
            return None;
        }
        self.slots
            .iter()
            .filter(|slot| slot.is_idle(&self.pace))
            .map(|slot| slot.next)
            .min()
    }

    /// Takes back a round that was refused: for ever if there is a reason, otherwise because there
    /// is no room.
    pub(crate) fn handle_refusal(&mut self, round: &Round, why: Option<String>, now: Instant) {
        let Some(slot) = self.slots.get_mut(round.target) else {
            return;
        };
        slot.target.cancel_round(round.kind);
        slot.next = now + FULL_RETRY;
        if why.is_some() {
            slot.refused = why;
        }
    }

    /// Takes a hop of a round under way.
    pub(crate) fn handle_hop(&mut self, target: usize, kind: Kind, hop: &Hop, now: Instant) {
        if let Some(slot) = self.slots.get_mut(target) {
            slot.target.handle_hop(kind, hop, now);
        }
    }

    /// Ends a round with its record.
    pub(crate) fn handle_trace(&mut self, target: usize, kind: Kind, trace: &Trace, now: Instant) {
        let Some(slot) = self.slots.get_mut(target) else {
            return;
        };
        slot.target.handle_trace(kind, trace, now);
        if kind == Kind::Check {
            slot.check_at = self.pace.recheck.map(|recheck| now + recheck);
        }
        if slot.target.take_new_path() && kind == Kind::Plain && self.options.tunnels.is_some() {
            let soon = slot
                .target
                .last_check()
                .map_or(now, |last| last + LEAST_RECHECK);
            slot.check_at = Some(slot.check_at.map_or(soon, |at| at.min(soon)));
        }
    }

    /// Forgets the statistics of all targets.
    pub(crate) fn reset(&mut self) {
        for slot in &mut self.slots {
            slot.target.reset();
        }
    }

    /// Stops starting rounds, or goes on.
    pub(crate) const fn toggle_pause(&mut self) {
        self.paused = !self.paused;
    }

    /// Makes the next round of all targets look for tunnels, unless the options forbid it.
    pub(crate) fn recheck(&mut self, now: Instant) {
        for slot in &mut self.slots {
            slot.check_at = self.options.tunnels.map(|_| now);
        }
    }

    /// Steps to the next longer or shorter interval.
    pub(crate) fn step_interval(&mut self, longer: bool) {
        let now = self.pace.interval;
        let next = if longer {
            INTERVALS.into_iter().find(|i| *i > now)
        } else {
            INTERVALS.into_iter().rev().find(|i| *i < now)
        };
        self.pace.interval = next.unwrap_or(now);
        for slot in &mut self.slots {
            if let Some(started) = slot.started {
                slot.next = started + self.pace.interval;
            }
        }
    }

    /// Turns names on, so that [`unnamed`](Self::unnamed) asks for them, or off.
    pub(crate) const fn toggle_names(&mut self) {
        self.named = !self.named;
    }

    /// Addresses whose names are wanted and were not asked for; they count as asked for.
    pub(crate) fn unnamed(&mut self) -> Vec<IpAddr> {
        if !self.named {
            return Vec::new();
        }
        let wanted: BTreeSet<IpAddr> = self
            .slots
            .iter()
            .flat_map(|slot| {
                let hops = slot.target.hops().filter_map(|hop| hop.current());
                let tunnels = slot.target.tunnels().iter().map(|state| &state.tunnel);
                hops.chain(tunnels.flat_map(|tunnel| {
                    let lsrs = tunnel.lsrs.iter().filter_map(|lsr| lsr.addr);
                    lsrs.chain(tunnel.egress)
                }))
            })
            .filter(|addr| !self.names.contains_key(addr))
            .collect();
        for addr in &wanted {
            self.names.insert(*addr, None);
        }
        wanted.into_iter().collect()
    }

    /// Takes a name. What is not printable ASCII becomes `?`: a name comes from the network, and
    /// must not steer the terminal.
    pub(crate) fn handle_name(&mut self, addr: IpAddr, name: Option<String>) {
        let name = name.map(|name| {
            name.chars()
                .map(|c| if c.is_ascii_graphic() { c } else { '?' })
                .collect()
        });
        self.names.insert(addr, name);
    }

    /// The name of an address, if names are on and it has one.
    pub(crate) fn name(&self, addr: IpAddr) -> Option<&str> {
        self.names.get(&addr).filter(|_| self.named)?.as_deref()
    }

    /// The targets.
    pub(crate) fn targets(&self) -> impl ExactSizeIterator<Item = &Target> {
        self.slots.iter().map(|slot| &slot.target)
    }

    /// One target.
    pub(crate) fn target(&self, index: usize) -> Option<&Target> {
        self.slots.get(index).map(|slot| &slot.target)
    }

    /// Why the engine does not trace a target, if so.
    pub(crate) fn refusal(&self, index: usize) -> Option<&str> {
        self.slots.get(index)?.refused.as_deref()
    }

    /// True while the target's round under way looks for tunnels.
    pub(crate) fn is_checking(&self, index: usize) -> bool {
        self.target(index)
            .is_some_and(|target| target.is_under_way(Kind::Check))
    }

    /// True if all targets have had all their rounds.
    pub(crate) fn is_finished(&self) -> bool {
        self.slots
            .iter()
            .all(|slot| !slot.is_busy() && !slot.is_idle(&self.pace))
    }

    /// Time between rounds, and between checks, and the number of rounds.
    pub(crate) const fn pace(&self) -> &Pace {
        &self.pace
    }

    /// How paths are traced.
    pub(crate) const fn options(&self) -> &TraceOptions {
        &self.options
    }

    /// When the session began.
    pub(crate) const fn started(&self) -> Instant {
        self.started
    }

    /// True if no rounds are started.
    pub(crate) const fn is_paused(&self) -> bool {
        self.paused
    }
}

/// A flow identifier that is valid for every method, and outside of the kernel's ephemeral ports.
fn flow(seed: u64, index: u32) -> u16 {
    let number = seed.wrapping_add(index.into()) % 0x7fff;
    0x8000 + u16::try_from(number).unwrap_or(0)
}

impl Slot {
    /// Whether another round may begin.
    fn is_idle(&self, pace: &Pace) -> bool {
        !self.target.is_under_way(Kind::Plain)
            && (pace.concurrent || !self.target.is_under_way(Kind::Check))
            && self.refused.is_none()
            && pace.count.is_none_or(|count| self.target.begun() < count)
    }

    fn is_busy(&self) -> bool {
        self.target.is_under_way(Kind::Plain) || self.target.is_under_way(Kind::Check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::testing::{World, options, pace};
    use crate::output::fixtures;

    fn every(millis: u64) -> Pace {
        Pace {
            interval: Duration::from_millis(millis),
            ..pace()
        }
    }

    fn session(count: usize, pace: Pace) -> Session {
        let target = crate::live::testing::target(&fixtures::php());
        let targets = core::iter::repeat_n(target, count).collect();
        Session::new(targets, options(), pace, 0xffff_ffff, false, Instant::ZERO)
    }

    #[test]
    fn the_first_round_looks_for_tunnels_and_the_next_ones_only_for_delay() {
        let mut s = session(1, pace());
        let first = s.poll_round(Instant::ZERO).unwrap();
        assert_eq!(first.kind, Kind::Check);
        assert!(first.options.tunnels.is_some() && first.options.report_hops);
        assert_eq!(first.options.attempts, 2);
        assert!(s.poll_round(Instant::ZERO).is_none());
        s.handle_trace(0, first.kind, &fixtures::php(), Instant::from_millis(50));
        assert_eq!(s.poll_timeout(), Some(Instant::from_millis(1000)));
        assert!(s.poll_round(Instant::from_millis(999)).is_none());
        let second = s.poll_round(Instant::from_millis(1000)).unwrap();
        assert_eq!(second.kind, Kind::Plain);
        assert_eq!(second.options.tunnels, None);
        assert_eq!(second.options.attempts, 1, "a lost probe counts as one");
        assert_eq!(
            second.options.max_ttl, 5,
            "the destination is five hops away"
        );
        assert_eq!(second.options.flow, first.options.flow, "the same way");
    }

    #[test]
    fn flows_are_valid_and_differ_between_targets() {
        let mut s = session(3, every(300));
        let flows: Vec<u16> = [0, 100, 200]
            .map(|ms| s.poll_round(Instant::from_millis(ms)).unwrap())
            .iter()
            .map(|round| round.options.flow.unwrap())
            .collect();
        assert!(flows.iter().all(|flow| (0x8000..0xffff).contains(flow)));
        assert_ne!(flows[0], flows[1]);
        assert_ne!(flows[1], flows[2]);
    }

    #[test]
    fn targets_begin_one_after_the_other() {
        let mut s = session(4, every(1000));
        for (millis, target) in [(0, 0), (250, 1), (500, 2), (750, 3)] {
            assert_eq!(s.poll_timeout(), Some(Instant::from_millis(millis)));
            let round = s.poll_round(Instant::from_millis(millis)).unwrap();
            assert_eq!(round.target, target);
        }
    }

    #[test]
    fn tunnels_are_checked_again_after_a_while_or_when_asked() {
        let mut world = World::lab("php", every(1000));
        world.run(Duration::from_secs(130));
        let checks = |world: &World| -> Vec<u64> {
            let checks = world.begun.iter().filter(|(_, kind)| *kind == Kind::Check);
            checks.map(|(at, _)| at / 1000).collect()
        };
        assert_eq!(checks(&world), [0, 61, 122]);
        world.session.recheck(world.now);
        world.run(Duration::from_secs(5));
        assert_eq!(checks(&world).len(), 4);
        let target = world.session.target(0).unwrap();
        assert_eq!(target.tunnels()[0].tunnel.lsrs.len(), 3);
        assert_eq!(target.changes().len(), 0);
        let sent = target.hop(1).unwrap().statistics().sent();
        assert_eq!(sent, world.begun.len() as u64, "no round was skipped");
    }

    #[test]
    fn rounds_wait_for_a_check_where_replies_could_be_mistaken() {
        for (concurrent, rounds) in [(true, 2), (false, 1)] {
            let mut s = session(
                1,
                Pace {
                    concurrent,
                    ..pace()
                },
            );
            for second in 0..2 {
                s.poll_round(Instant::from_millis(second * 1000));
            }
            assert_eq!(s.target(0).unwrap().begun(), rounds);
        }
    }

    #[test]
    fn a_new_address_on_the_path_brings_a_check_before_its_time() {
        let mut s = session(1, pace());
        let check = s.poll_round(Instant::ZERO).unwrap();
        s.handle_trace(0, check.kind, &fixtures::php(), Instant::from_millis(100));
        let mut moved = fixtures::php();
        moved.tunnels.clear();
        moved.hops[3].addr = fixtures::unreachable().hops[2].addr;
        let now = Instant::from_millis(1000);
        let plain = s.poll_round(now).unwrap();
        s.handle_trace(0, plain.kind, &moved, now);
        let mut kinds = Vec::new();
        for second in 2..14 {
            let now = Instant::from_millis(second * 1000);
            let round = s.poll_round(now).unwrap();
            s.handle_trace(0, round.kind, &moved, now);
            kinds.push(round.kind);
        }
        let at = kinds.iter().position(|kind| *kind == Kind::Check);
        assert_eq!(at, Some(9), "ten seconds after the last, not at once");
        assert_eq!(kinds.iter().filter(|k| **k == Kind::Check).count(), 1);
    }

    #[test]
    fn the_count_ends_the_session_exactly() {
        let mut world = World::lab(
            "php",
            Pace {
                count: Some(3),
                ..every(10)
            },
        );
        world.run(Duration::from_secs(20));
        assert!(world.session.is_finished());
        assert_eq!(world.session.poll_timeout(), None);
        let target = world.session.target(0).unwrap();
        assert_eq!(target.rounds(), 3);
        assert!(target.hops().all(|hop| hop.statistics().sent() == 3));
    }

    #[test]
    fn a_pause_starts_nothing_and_the_interval_can_be_stepped() {
        let mut s = session(1, pace());
        s.toggle_pause();
        assert!(s.poll_round(Instant::from_millis(5)).is_none());
        assert_eq!(s.poll_timeout(), None);
        s.toggle_pause();
        assert!(s.poll_round(Instant::from_millis(5)).is_some());
        s.step_interval(true);
        assert_eq!(s.pace().interval, Duration::from_secs(2));
        for _ in 0..20 {
            s.step_interval(false);
        }
        assert_eq!(s.pace().interval, Duration::from_millis(100));
        for _ in 0..20 {
            s.step_interval(true);
        }
        assert_eq!(s.pace().interval, Duration::from_secs(60));
    }

    #[test]
    fn a_full_engine_is_asked_again_and_a_refused_target_is_not() {
        let mut s = session(1, pace());
        let round = s.poll_round(Instant::ZERO).unwrap();
        s.handle_refusal(&round, None, Instant::ZERO);
        assert_eq!(s.poll_timeout(), Some(Instant::from_millis(100)));
        let round = s.poll_round(Instant::from_millis(100)).unwrap();
        let why = Some("no target".to_owned());
        s.handle_refusal(&round, why, Instant::from_millis(100));
        assert_eq!(s.refusal(0), Some("no target"));
        assert!(s.poll_round(Instant::from_millis(5000)).is_none());
        assert!(s.is_finished());
    }

    #[test]
    fn names_are_asked_for_once_and_cannot_steer_the_terminal() {
        let mut world = World::lab("php", pace());
        world.run(Duration::from_secs(2));
        assert!(world.session.unnamed().is_empty(), "names are off");
        world.session.toggle_names();
        let wanted = world.session.unnamed();
        // Five hops and three revealed routers.
        assert_eq!(wanted.len(), 8, "{wanted:?}");
        assert!(world.session.unnamed().is_empty());
        let name = "a\u{1b}[2Jb.example".to_owned();
        world.session.handle_name(wanted[0], Some(name));
        assert_eq!(world.session.name(wanted[0]), Some("a?[2Jb.example"));
        assert_eq!(world.session.name(wanted[1]), None);
        world.session.toggle_names();
        assert_eq!(world.session.name(wanted[0]), None);
    }
}
