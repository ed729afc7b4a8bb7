//! Wake-ups of tasks.

use alloc::collections::BinaryHeap;
use core::cmp::Reverse;

use plumb_wire::Instant;

use crate::slab::Key;

/// A queue of wake-ups. A task keeps at most one entry that matters; when it fires and the task's
/// deadline has moved on, the task is put in again, so answered probes cost nothing here.
#[derive(Debug, Default)]
pub(crate) struct Timers(BinaryHeap<Reverse<(Instant, Key)>>);

impl Timers {
    pub(crate) fn push(&mut self, at: Instant, task: Key) {
        self.0.push(Reverse((at, task)));
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(Instant, Key)> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse(entry)| entry)
    }
}
