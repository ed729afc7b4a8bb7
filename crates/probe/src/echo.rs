//! Echo requests to one address.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use plumb_wire::Instant;

use crate::observation::Observation;
use crate::reply::ReplyKind;
use crate::slot::SlotState;

/// How an address is pinged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EchoOptions {
    /// Requests to send at most; `None` for no end.
    pub(crate) count: Option<u32>,
    /// Echo replies after which it is done, however many requests are left.
    pub(crate) enough: Option<u32>,
    /// Time between requests.
    pub(crate) interval: Duration,
    /// Send the next request at once when one was answered.
    pub(crate) eager: bool,
    pub(crate) wait: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    sent: Instant,
    state: SlotState,
}

/// Requests that are remembered, so that late replies and duplicates can be told.
const REMEMBERED: usize = 4096;

/// Round-trip times of a ping without its samples (Welford 1962).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) sent: u32,
    pub(crate) received: u32,
    pub(crate) duplicates: u32,
    pub(crate) late: u32,
    pub(crate) min_ns: u64,
    pub(crate) max_ns: u64,
    sum_ns: u128,
    sum_squares: u128,
}

impl Summary {
    fn add(&mut self, rtt_ns: u64) {
        self.min_ns = if self.received == 0 {
            rtt_ns
        } else {
            self.min_ns.min(rtt_ns)
        };
        self.max_ns = self.max_ns.max(rtt_ns);
        self.received += 1;
        self.sum_ns += u128::from(rtt_ns);
        self.sum_squares = self
            .sum_squares
            .saturating_add(u128::from(rtt_ns) * u128::from(rtt_ns));
    }

    pub(crate) fn mean_ns(&self) -> Option<u64> {
        let mean = self.sum_ns.checked_div(u128::from(self.received))?;
        u64::try_from(mean).ok()
    }

    /// Standard deviation over the replies that there were.
    pub(crate) fn stddev_ns(&self) -> Option<u64> {
        let n = u128::from(self.received);
        let mean_square = self.sum_squares.checked_div(n)?;
        let mean = self.sum_ns / n;
        u64::try_from(mean_square.saturating_sub(mean * mean).isqrt()).ok()
    }
}

/// A request whose fate is known.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// From 1.
    pub(crate) number: u32,
    /// `None` if nothing came in time.
    pub(crate) answer: Option<Observation>,
}

/// What a packet was to a ping.
#[derive(Clone, Debug)]
pub(crate) enum Heard {
    Answer(Outcome),
    Duplicate,
    Late,
}

/// A ping in progress.
#[derive(Debug)]
pub(crate) struct Echo {
    options: EchoOptions,
    /// The most recent requests.
    slots: VecDeque<Slot>,
    /// Number, from 0, of the first of `slots`.
    base: u32,
    /// No request before this number is waiting.
    oldest: u32,
    /// Requests that are waiting.
    waiting: u32,
    next_send: Option<Instant>,
    stopped: bool,
    pub(crate) summary: Summary,
    /// Where the first echo reply came from.
    pub(crate) answered_by: Option<IpAddr>,
    /// Reply TTLs with how often each came.
    ttls: Vec<(u8, u32)>,
}

impl Echo {
    pub(crate) const fn new(options: EchoOptions, now: Instant) -> Self {
        Self {
            options,
            slots: VecDeque::new(),
            base: 0,
            oldest: 0,
            waiting: 0,
            next_send: Some(now),
            stopped: false,
            summary: Summary {
                sent: 0,
                received: 0,
                duplicates: 0,
                late: 0,
                min_ns: 0,
                max_ns: 0,
                sum_ns: 0,
                sum_squares: 0,
            },
            answered_by: None,
            ttls: Vec::new(),
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        let all_sent = self.options.count.is_some_and(|n| self.summary.sent >= n);
        self.stopped
            || self
                .options
                .enough
                .is_some_and(|n| self.summary.received >= n)
            || all_sent && self.waiting == 0
    }

    pub(crate) const fn stop(&mut self) {
        self.stopped = true;
    }

    fn next_send(&self) -> Option<Instant> {
        let left = self.options.count.is_none_or(|n| self.summary.sent < n);
        self.next_send.filter(|_| left)
    }

    pub(crate) fn can_send(&self, now: Instant) -> bool {
        !self.is_done() && self.next_send().is_some_and(|at| at <= now)
    }

    /// The next request's number, from 0.
    pub(crate) fn next_probe(&mut self, now: Instant) -> Option<u32> {
        if !self.can_send(now) {
            return None;
        }
        if self.slots.len() == REMEMBERED {
            let forgotten = self.slots.pop_front();
            let waited = forgotten.is_some_and(|s| s.state == SlotState::Waiting);
            self.waiting -= u32::from(waited);
            self.base += 1;
            self.oldest = self.oldest.max(self.base);
        }
        self.waiting += 1;
        self.slots.push_back(Slot {
            sent: now,
            state: SlotState::Waiting,
        });
        let number = self.summary.sent;
        self.summary.sent += 1;
        // On the grid of the interval, unless the pacing cap holds requests back.
        let due = self.next_send.unwrap_or(now) + self.options.interval;
        self.next_send = Some(due.max(now));
        Some(number)
    }

    fn slot(&mut self, number: u32) -> Option<&mut Slot> {
        self.slots
            .get_mut(usize::try_from(number.checked_sub(self.base)?).ok()?)
    }

    /// The number whose low 16 bits are `low`, if it is remembered.
    pub(crate) fn number_of(&self, low: u16) -> Option<u32> {
        let newest = self.summary.sent.checked_sub(1)?;
        let newest_low = (newest & 0xffff) as u16;
        let behind = u32::from(newest_low.wrapping_sub(low));
        newest.checked_sub(behind).filter(|n| *n >= self.base)
    }

    pub(crate) fn asked(&self, number: u32) -> Option<Instant> {
        let at = usize::try_from(number.checked_sub(self.base)?).ok()?;
        self.slots.get(at).map(|slot| slot.sent)
    }

    pub(crate) fn on_sent(&mut self, number: u32, at: Instant) {
        if let Some(slot) = self.slot(number) {
            slot.sent = at;
        }
    }

    pub(crate) fn on_send_error(&mut self, number: u32) -> Option<Outcome> {
        let slot = self.slot(number)?;
        let state = core::mem::replace(&mut slot.state, SlotState::Expired);
        self.waiting -= u32::from(state == SlotState::Waiting);
        Some(Outcome {
            number: number + 1,
            answer: None,
        })
    }

    pub(crate) fn on_answer(
        &mut self,
        number: u32,
        answer: Observation,
        now: Instant,
    ) -> Option<Heard> {
        let slot = self.slot(number)?;
        let state = core::mem::replace(&mut slot.state, SlotState::Answered);
        while self.asked_state(self.oldest) == Some(SlotState::Answered) {
            self.oldest += 1;
        }
        Some(match state {
            SlotState::Answered => {
                self.summary.duplicates += 1;
                Heard::Duplicate
            }
            SlotState::Expired => {
                self.summary.late += 1;
                Heard::Late
            }
            SlotState::Waiting => {
                self.waiting -= 1;
                if answer.kind == ReplyKind::EchoReply {
                    self.answered_by.get_or_insert(answer.addr);
                    self.summary.add(crate::observation::nanos(answer.rtt));
                    let ttl = answer.reply_ttl;
                    if let Some((_, count)) = self.ttls.iter_mut().find(|(t, _)| *t == ttl) {
                        *count += 1;
                    } else if self.ttls.len() < 16 {
                        self.ttls.push((ttl, 1));
                    }
                }
                if self.options.eager {
                    self.next_send = Some(now);
                }
                Heard::Answer(Outcome {
                    number: number + 1,
                    answer: Some(answer),
                })
            }
        })
    }

    /// When something is due that is not due at `now`: the end of a wait, or the next request. One
    /// that may leave already waits for its turn, not for a time.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        if self.is_done() {
            return None;
        }
        let oldest = self.slots.range(self.index(self.oldest)..);
        let mut waiting = oldest.filter(|s| s.state == SlotState::Waiting);
        let waiting = waiting.next().map(|s| s.sent + self.options.wait);
        match (waiting, self.next_send().filter(|at| *at > now)) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Gives up on requests whose wait is over and returns them.
    pub(crate) fn on_timeout(&mut self, now: Instant) -> Vec<Outcome> {
        let mut expired = Vec::new();
        let from = self.index(self.oldest);
        for slot in self.slots.range_mut(from..) {
            if slot.state == SlotState::Waiting {
                if slot.sent + self.options.wait > now {
                    break;
                }
                slot.state = SlotState::Expired;
                self.waiting -= 1;
                expired.push(Outcome {
                    number: self.oldest + 1,
                    answer: None,
                });
            }
            self.oldest += 1;
        }
        expired
    }

    fn asked_state(&self, number: u32) -> Option<SlotState> {
        self.slots.get(self.index(number)).map(|slot| slot.state)
    }

    /// Where request `number`, which is remembered or the next one, is among the slots.
    fn index(&self, number: u32) -> usize {
        usize::try_from(number - self.base).unwrap_or(usize::MAX)
    }

    /// The most frequent TTL of the echo replies; of several the highest, as in TNT.
    pub(crate) fn reply_ttl(&self) -> Option<u8> {
        self.ttls
            .iter()
            .max_by_key(|(ttl, count)| (*count, *ttl))
            .map(|(ttl, _)| *ttl)
    }
}
