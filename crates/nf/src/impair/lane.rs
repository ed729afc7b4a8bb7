//! One direction of a bad link.

use alloc::collections::BTreeMap;
use core::time::Duration;

use plumb_wire::frame::Port;
use plumb_wire::{Instant, SplitMix64};

use crate::{Frame, Output};

use super::Impairment;
use super::delay::delayed;
use super::loss::Lossy;

/// What became of the frames. `taken + duplicated = lost + overflowed + sent + held`, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) taken: u64,
    pub(super) duplicated: u64,
    pub(super) lost: u64,
    pub(super) corrupted: u64,
    pub(super) reordered: u64,
    pub(super) overflowed: u64,
    pub(super) sent: u64,
}

#[derive(Debug)]
pub(super) struct Lane {
    impairment: Impairment,
    random: SplitMix64,
    lossy: Lossy,
    /// By the time they leave, then in the order in which they came.
    queue: BTreeMap<(Instant, u64), Frame>,
    next_number: u64,
    /// When the last frame is through the bottleneck.
    busy_until: Instant,
    /// When the last frame leaves that may not be overtaken.
    last: Instant,
    pub(super) counts: Counts,
}

impl Lane {
    pub(super) fn new(impairment: Impairment, seed: u64) -> Self {
        Self {
            impairment,
            random: SplitMix64::new(seed),
            lossy: Lossy::new(impairment.loss),
            queue: BTreeMap::new(),
            next_number: 0,
            busy_until: Instant::ZERO,
            last: Instant::ZERO,
            counts: Counts::default(),
        }
    }

    /// Takes a frame that is going `to`.
    pub(super) fn take(&mut self, frame: Frame, now: Instant, to: Port, out: &mut Output) {
        self.counts.taken += 1;
        if self.impairment.duplicate.happens(&mut self.random) {
            self.counts.duplicated += 1;
            let copy = out.copy(&frame);
            self.pass(copy, now, to, out);
        }
        self.pass(frame, now, to, out);
    }

    /// Sends what is due.
    pub(super) fn release(&mut self, now: Instant, to: Port, out: &mut Output) {
        while let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= now
        {
            let ((at, _), mut frame) = entry.remove_entry();
            frame.at = at;
            self.counts.sent += 1;
            out.send(to, frame);
        }
    }

    /// When the next frame is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn held(&self) -> usize {
        self.queue.len()
    }

    fn pass(&mut self, mut frame: Frame, now: Instant, to: Port, out: &mut Output) {
        if self.lossy.loses(&mut self.random) {
            self.counts.lost += 1;
            out.recycle(frame);
            return;
        }
        let full = self.queue.len() >= self.impairment.limit;
        let at = self.leaves(&frame, now);
        if self.impairment.corrupt.happens(&mut self.random) && !frame.bytes.is_empty() {
            self.corrupt(&mut frame);
        }
        if at <= now && self.next().is_none_or(|next| next > now) {
            self.counts.sent += 1;
            out.send(to, frame);
        } else if full {
            self.counts.overflowed += 1;
            out.recycle(frame);
        } else {
            if let Some(rate) = self.impairment.rate {
                self.busy_until = self.busy_until.max(now) + time_on(&frame, rate);
            }
            self.last = self.last.max(at);
            self.queue.insert((at, self.next_number), frame);
            self.next_number += 1;
        }
    }

    /// When a frame that came now leaves.
    fn leaves(&mut self, frame: &Frame, now: Instant) -> Instant {
        let through = match self.impairment.rate {
            Some(rate) => self.busy_until.max(now) + time_on(frame, rate),
            None => now,
        };
        if self.impairment.reorder.happens(&mut self.random) {
            self.counts.reordered += 1;
            return through;
        }
        let deviation = if self.impairment.jitter.is_zero() {
            0
        } else {
            self.impairment.distribution.draw(&mut self.random)
        };
        let at = through + delayed(self.impairment.delay, self.impairment.jitter, deviation);
        if self.impairment.keep_order {
            at.max(self.last)
        } else {
            at
        }
    }

    fn corrupt(&mut self, frame: &mut Frame) {
        self.counts.corrupted += 1;
        let bits = u64::try_from(frame.bytes.len()).unwrap_or(0) * 8;
        let bit = usize::try_from(self.random.below(bits)).unwrap_or(0);
        frame.bytes[bit / 8] ^= 0x80 >> (bit % 8);
        // Whoever verified the checksum saw another frame.
        frame.offload.checksum_verified = false;
    }
}

/// How long a frame takes at so many bits per second, rounded up.
fn time_on(frame: &Frame, rate: u64) -> Duration {
    let len = u32::try_from(frame.bytes.len()).unwrap_or(u32::MAX);
    let bits = u128::from(len.max(frame.original_len)) * 8;
    let nanos = (bits * 1_000_000_000).div_ceil(u128::from(rate.max(1)));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
