//! A link that is slow, late and loses things, as netem of Linux makes one.

mod delay;
mod lane;
mod loss;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::time::Duration;

use plumb_wire::Instant;
use plumb_wire::frame::Port;

use crate::offload::segment;
use crate::probability::Probability;
use crate::{Counter, Frame, Function, Output};

pub use delay::Distribution;
pub use loss::Loss;

use lane::Lane;

/// What happens to the frames of one direction. The default is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Impairment {
    /// How late each frame is at least, or on average where there is jitter.
    pub delay: Duration,
    /// How much the delay varies.
    pub jitter: Duration,
    /// How the jitter is distributed.
    pub distribution: Distribution,
    /// No frame overtakes another, whatever jitter says.
    pub keep_order: bool,
    /// Which frames are lost.
    pub loss: Loss,
    /// A frame comes twice.
    pub duplicate: Probability,
    /// One bit of a frame is flipped.
    pub corrupt: Probability,
    /// A frame is not delayed, and so overtakes those that are.
    pub reorder: Probability,
    /// Bits per second that go through, counted from the Ethernet header on.
    pub rate: Option<u64>,
    /// Frames that are held back at most; what comes then is dropped.
    pub limit: usize,
}

impl Default for Impairment {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            distribution: Distribution::Uniform,
            keep_order: false,
            loss: Loss::default(),
            duplicate: Probability::NEVER,
            corrupt: Probability::NEVER,
            reorder: Probability::NEVER,
            rate: None,
            limit: 10_000,
        }
    }
}

/// A bad link: each direction with its own impairment, chances and queue. Superframes are cut
/// into what a wire would carry, so that loss and rate concern packets.
#[derive(Debug)]
pub struct Impair {
    /// Frames that go left, frames that go right.
    lanes: [Lane; 2],
    cut: Vec<Frame>,
    unfit: u64,
}

impl Impair {
    /// A link whose chances follow from `seed`.
    pub fn new(to_left: Impairment, to_right: Impairment, seed: u64) -> Self {
        Self {
            lanes: [
                Lane::new(to_left, seed ^ 0x6c65_6674),
                Lane::new(to_right, seed),
            ],
            cut: Vec::new(),
            unfit: 0,
        }
    }

    fn lane(&mut self, to: Port) -> &mut Lane {
        match to {
            Port::Left => &mut self.lanes[0],
            Port::Right => &mut self.lanes[1],
        }
    }
}

impl Function for Impair {
    fn handle_frames(
        &mut self,
        from: Port,
        batch: &mut Vec<Frame>,
        now: Instant,
        out: &mut Output,
    ) {
        let to = from.opposite();
        for frame in batch.drain(..) {
            if frame.offload.is_complete() {
                self.lane(to).take(frame, now, to, out);
                continue;
            }
            let mut cut = core::mem::take(&mut self.cut);
            if segment(frame, out, &mut cut) == 0 {
                self.unfit += 1;
            }
            for piece in cut.drain(..) {
                self.lane(to).take(piece, now, to, out);
            }
            self.cut = cut;
        }
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Output) {
        for to in [Port::Left, Port::Right] {
            self.lane(to).release(now, to, out);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(Lane::next).min()
    }

    fn held(&self) -> usize {
        self.lanes.iter().map(Lane::held).sum()
    }

    fn counters(&self) -> Vec<Counter> {
        let [left, right] = self.lanes.each_ref().map(|lane| lane.counts);
        let held = |lane: &Lane| u64::try_from(lane.held()).unwrap_or(u64::MAX);
        let [held_left, held_right] = self.lanes.each_ref().map(held);
        [
            ("left_in_frames", right.taken),
            ("left_lost_frames", right.lost),
            ("left_duplicated_frames", right.duplicated),
            ("left_corrupted_frames", right.corrupted),
            ("left_reordered_frames", right.reordered),
            ("left_overflowed_frames", right.overflowed),
            ("left_held_frames", held_right),
            ("left_sent_on_frames", right.sent),
            ("right_in_frames", left.taken),
            ("right_lost_frames", left.lost),
            ("right_duplicated_frames", left.duplicated),
            ("right_corrupted_frames", left.corrupted),
            ("right_reordered_frames", left.reordered),
            ("right_overflowed_frames", left.overflowed),
            ("right_held_frames", held_left),
            ("right_sent_on_frames", left.sent),
            ("unfit_frames", self.unfit),
        ]
        .map(|(name, value)| Counter { name, value })
        .into()
    }
}
