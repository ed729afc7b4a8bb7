//! One walk along a path: TTL after TTL towards a target.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use plumb_record::StopReason;
use plumb_wire::Instant;

use crate::observation::Observation;
use crate::reply::ReplyKind;
use crate::slot::SlotState;

/// How a walk goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WalkOptions {
    pub(crate) first_ttl: u8,
    pub(crate) max_ttl: u8,
    pub(crate) attempts: u8,
    pub(crate) gap_limit: u8,
    pub(crate) wait: Duration,
    pub(crate) parallel: u8,
}

/// A probe that has left, by its number within the walk.
#[derive(Clone, Copy, Debug)]
struct Slot {
    sent: Instant,
    ttl: u8,
    attempt: u8,
    state: SlotState,
}

/// A TTL of the walk.
#[derive(Clone, Debug)]
pub(crate) struct WalkHop {
    pub(crate) attempts: u8,
    /// The last attempt's transmit time.
    pub(crate) sent: Instant,
    pub(crate) answer: Option<Observation>,
    resolved: bool,
}

/// What a packet was to a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The first answer to a probe; the TTL is known now.
    Answer(u8),
    /// An answer to a probe that had been answered.
    Duplicate,
    /// An answer to a probe whose wait was over. If its TTL was still open it is known now.
    Late(Option<u8>),
}

/// A walk in progress. TTLs are judged in order, so that what a walk finds does not depend on how
/// many are probed at once.
#[derive(Debug)]
pub(crate) struct Walk {
    options: WalkOptions,
    target: IpAddr,
    hops: Vec<WalkHop>,
    slots: Vec<Slot>,
    /// No slot before this one is waiting.
    oldest: usize,
    retries: VecDeque<u8>,
    /// Hops that have been judged.
    judged: usize,
    gap: u8,
    /// Last TTL worth probing: the lowest from which something answered that ends the path.
    end: u8,
    stop: Option<StopReason>,
}

/// A finished walk.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    pub(crate) first_ttl: u8,
    /// From `first_ttl` on.
    pub(crate) hops: Vec<WalkHop>,
    pub(crate) stop: StopReason,
}

impl Walk {
    pub(crate) fn new(options: WalkOptions, target: IpAddr) -> Self {
        Self {
            options,
            target,
            hops: Vec::new(),
            slots: Vec::new(),
            oldest: 0,
            retries: VecDeque::new(),
            judged: 0,
            gap: 0,
            end: options.max_ttl,
            stop: None,
        }
    }

    pub(crate) const fn is_done(&self) -> bool {
        self.stop.is_some()
    }

    /// Says whether [`next_probe`](Self::next_probe) would give one.
    pub(crate) fn can_send(&self) -> bool {
        self.stop.is_none() && (!self.retries.is_empty() || self.fresh_ttl().is_some())
    }

    /// The next TTL that has not been probed, if the window lets it be.
    fn fresh_ttl(&self) -> Option<u8> {
        let ahead = self.hops.len() - self.judged;
        let ttl = usize::from(self.options.first_ttl) + self.hops.len();
        let ttl = u8::try_from(ttl).ok()?;
        (ahead < usize::from(self.options.parallel) && ttl <= self.end).then_some(ttl)
    }

    /// The next probe: its number within the walk and its TTL.
    pub(crate) fn next_probe(&mut self, now: Instant) -> Option<(u16, u8)> {
        if self.stop.is_some() {
            return None;
        }
        let retry = self.retries.pop_front();
        let ttl = match retry {
            Some(ttl) => ttl,
            None => self.fresh_ttl()?,
        };
        let number = u16::try_from(self.slots.len()).ok()?;
        let at = usize::from(ttl - self.options.first_ttl);
        if at == self.hops.len() {
            self.hops.push(WalkHop {
                attempts: 0,
                sent: now,
                answer: None,
                resolved: false,
            });
        }
        let hop = &mut self.hops[at];
        hop.attempts += 1;
        hop.sent = now;
        self.slots.push(Slot {
            sent: now,
            ttl,
            attempt: hop.attempts,
            state: SlotState::Waiting,
        });
        Some((number, ttl))
    }

    /// When probe `number` left, as best known, and which attempt at its TTL it was.
    pub(crate) fn asked(&self, number: u16) -> Option<(Instant, u8)> {
        self.slots
            .get(usize::from(number))
            .map(|slot| (slot.sent, slot.attempt))
    }

    pub(crate) fn on_sent(&mut self, number: u16, at: Instant) {
        if let Some(slot) = self.slots.get_mut(usize::from(number)) {
            slot.sent = at;
            let hop = &mut self.hops[usize::from(slot.ttl - self.options.first_ttl)];
            if hop.attempts == slot.attempt {
                hop.sent = at;
            }
        }
    }

    /// The local system could not send: what it says of one probe holds for the path.
    pub(crate) fn on_send_error(&mut self, number: u16) {
        if let Some(slot) = self.slots.get_mut(usize::from(number)) {
            slot.state = SlotState::Expired;
            self.stop.get_or_insert(StopReason::Unreachable);
        }
    }

    pub(crate) fn on_answer(&mut self, number: u16, answer: Observation) -> Option<Heard> {
        let slot = self.slots.get_mut(usize::from(number))?;
        let state = core::mem::replace(&mut slot.state, SlotState::Answered);
        let ttl = slot.ttl;
        if state == SlotState::Answered {
            return Some(Heard::Duplicate);
        }
        let hop = &mut self.hops[usize::from(ttl - self.options.first_ttl)];
        let open = !hop.resolved;
        if open {
            // Only the destination, or a router that gives the packet up, ends the path here.
            if answer.kind != ReplyKind::TimeExceeded {
                self.end = self.end.min(ttl);
            }
            hop.answer = Some(answer);
            hop.resolved = true;
            self.retries.retain(|retry| *retry != ttl);
            self.judge();
        }
        Some(match state {
            SlotState::Expired => Heard::Late(open.then_some(ttl)),
            SlotState::Waiting | SlotState::Answered => Heard::Answer(ttl),
        })
    }

    /// When the wait for the oldest open probe is over.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if self.stop.is_some() {
            return None;
        }
        let waiting = self.slots[self.oldest..]
            .iter()
            .find(|slot| slot.state == SlotState::Waiting)?;
        Some(waiting.sent + self.options.wait)
    }

    /// Gives up on probes whose wait is over; returns the TTLs that are silent for good.
    pub(crate) fn on_timeout(&mut self, now: Instant) -> Vec<u8> {
        let mut silent = Vec::new();
        while let Some(slot) = self.slots.get_mut(self.oldest) {
            if slot.state == SlotState::Waiting {
                if slot.sent + self.options.wait > now {
                    break;
                }
                slot.state = SlotState::Expired;
                let ttl = slot.ttl;
                let hop = &mut self.hops[usize::from(ttl - self.options.first_ttl)];
                if !hop.resolved {
                    if hop.attempts < self.options.attempts && ttl <= self.end {
                        self.retries.push_back(ttl);
                    } else {
                        hop.resolved = true;
                        silent.push(ttl);
                    }
                }
            }
            self.oldest += 1;
        }
        self.judge();
        silent
    }

    /// Goes over what is known in order of TTL until something ends the walk.
    fn judge(&mut self) {
        while self.stop.is_none() && self.hops.get(self.judged).is_some_and(|h| h.resolved) {
            let at = self.judged;
            self.judged += 1;
            self.stop = match &self.hops[at].answer {
                None => {
                    self.gap += 1;
                    (self.gap >= self.options.gap_limit).then_some(StopReason::GapLimit)
                }
                Some(answer) => {
                    self.gap = 0;
                    match answer.kind {
                        ReplyKind::EchoReply | ReplyKind::PortUnreachable | ReplyKind::Tcp => {
                            Some(StopReason::Completed)
                        }
                        ReplyKind::Unreachable if answer.addr == self.target => {
                            Some(StopReason::Completed)
                        }
                        ReplyKind::Unreachable => Some(StopReason::Unreachable),
                        ReplyKind::TimeExceeded => self.loops_at(at).then_some(StopReason::Loop),
                    }
                }
            };
            let last = usize::from(self.options.max_ttl - self.options.first_ttl);
            if at >= last {
                self.stop.get_or_insert(StopReason::HopLimit);
            }
        }
        if self.stop.is_some() {
            self.hops.truncate(self.judged);
        }
    }

    /// Says whether the address at `at` was there before with another address in between. The
    /// same address at neighbouring TTLs is what an egress with ultimate hop popping looks like.
    fn loops_at(&self, at: usize) -> bool {
        let addr = |hop: &WalkHop| hop.answer.as_ref().map(|a| a.addr);
        let here = addr(&self.hops[at]);
        let mut before = self.hops[..at]
            .iter()
            .rev()
            .filter_map(addr)
            .skip_while(|a| Some(*a) == here);
        before.any(|a| Some(a) == here)
    }

    /// Ends the walk, if nothing has yet, and gives up what it found.
    pub(crate) fn finish(mut self, otherwise: StopReason) -> Path {
        let stop = self.stop.unwrap_or(otherwise);
        self.hops.truncate(self.judged);
        self.hops.shrink_to_fit();
        Path {
            first_ttl: self.options.first_ttl,
            hops: self.hops,
            stop,
        }
    }

    /// The hop at `ttl` as known so far.
    pub(crate) fn hop(&self, ttl: u8) -> Option<&WalkHop> {
        self.hops
            .get(usize::from(ttl.checked_sub(self.options.first_ttl)?))
    }
}
