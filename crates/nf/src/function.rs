//! The verbs that every network function has and every driver calls.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use plumb_wire::Instant;
use plumb_wire::frame::Port;

use crate::Frame;

/// Bytes of the beginning of a frame that a function gets at least: all headers of whatever the kernel
/// sends, and what an ICMP error quotes.
pub const HEAD_LEN: usize = 2048;

/// A network function between two ports: frames and time in, frames out, no I/O of its own.
///
/// A driver repeats: hand in what came, take what is in the [`Output`], then wait for a frame or
/// for [`poll_timeout`](Self::poll_timeout). `now` never goes backwards. A driver calls
/// [`handle_timeout`](Self::handle_timeout) with every time that was due before it hands in a
/// later frame.
pub trait Function {
    /// Takes frames that arrived at `from`, in their order, and empties `batch`. What stays in
    /// `batch` is used again by the driver, so a frame that is dropped may be left in it.
    fn handle_frames(&mut self, from: Port, batch: &mut Vec<Frame>, now: Instant, out: &mut Output);

    /// Does what is due at `now`.
    fn handle_timeout(&mut self, now: Instant, out: &mut Output);

    /// When [`handle_timeout`](Self::handle_timeout) is wanted, if no frame comes before.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Says that of a live frame of which something is left to do ([`Parts::offload`](crate::Parts::offload))
    /// the first [`HEAD_LEN`] bytes are all that it looks at or changes, and that it holds no such frame
    /// back: what follows may stay elsewhere ([`Parts::body`](crate::Parts::body)).
    fn heads_suffice(&self) -> bool {
        false
    }

    /// Says that it passes on frames from this port as they are, and need not see them.
    fn passes(&self, _from: Port) -> bool {
        false
    }

    /// Frames that it holds back. At the end of input a driver waits until there are none.
    fn held(&self) -> usize {
        0
    }

    /// Says that no frame comes any more from where frames come from, so that only what is held back
    /// is still to leave. A driver on a recording says it once, behind the last frame.
    fn input_ended(&mut self) {}

    /// What it has counted so far, in a fixed order.
    fn counters(&self) -> Vec<Counter>;

    /// The functions that it is made of, by name, with what each has counted; none for a function
    /// that is not made of others.
    fn parts(&self) -> Vec<(String, Vec<Counter>)> {
        Vec::new()
    }

    /// What it has counted for what its user gave it, such as rules, in their order.
    fn details(&self) -> Vec<Detail> {
        Vec::new()
    }
}

/// Packets that something of the user's has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail {
    /// What it is, as the user wrote it.
    pub name: String,
    /// Packets.
    pub packets: u64,
    /// Bytes from the network header on.
    pub bytes: u64,
}

impl<F: Function + ?Sized> Function for Box<F> {
    fn handle_frames(
        &mut self,
        from: Port,
        batch: &mut Vec<Frame>,
        now: Instant,
        out: &mut Output,
    ) {
        (**self).handle_frames(from, batch, now, out);
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Output) {
        (**self).handle_timeout(now, out);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        (**self).poll_timeout()
    }

    fn heads_suffice(&self) -> bool {
        (**self).heads_suffice()
    }

    fn held(&self) -> usize {
        (**self).held()
    }

    fn input_ended(&mut self) {
        (**self).input_ended();
    }

    fn counters(&self) -> Vec<Counter> {
        (**self).counters()
    }

    fn parts(&self) -> Vec<(String, Vec<Counter>)> {
        (**self).parts()
    }

    fn details(&self) -> Vec<Detail> {
        (**self).details()
    }
}

/// A number that a function counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// What was counted, in words joined by `_`, with the unit last.
    pub name: &'static str,
    /// How many since the start.
    pub value: u64,
}

/// Where a function puts the frames that leave it, and empty frames to fill.
#[derive(Debug, Default)]
pub struct Output {
    sent: Vec<(Port, Frame)>,
    spare: Vec<Frame>,
}

impl Output {
    /// Spare frames that are kept at most: enough for a few batches.
    const MOST_SPARE: usize = 256;
    /// Buffers above this size are given back to the system rather than kept.
    const MOST_SPARE_LEN: usize = 1 << 17;

    /// Sends a frame out of a port, behind all that was sent before.
    pub fn send(&mut self, to: Port, frame: Frame) {
        self.sent.push((to, frame));
    }

    /// An empty frame.
    pub fn empty(&mut self) -> Frame {
        let mut frame = self.used();
        frame.clear();
        frame
    }

    /// A frame with whatever it had when it was used last, for a driver that replaces all of it: to fill
    /// a buffer that was emptied, it would have to be cleared first.
    pub fn used(&mut self) -> Frame {
        self.spare.pop().unwrap_or_default()
    }

    /// A copy of a frame.
    pub fn copy(&mut self, frame: &Frame) -> Frame {
        let mut copy = self.empty();
        copy.clone_from(frame);
        copy
    }

    /// Takes a frame back that is no longer needed.
    pub fn recycle(&mut self, frame: Frame) {
        if self.spare.len() < Self::MOST_SPARE && frame.bytes.capacity() <= Self::MOST_SPARE_LEN {
            self.spare.push(frame);
        }
    }

    /// The frames that were sent, in order, with the ports they leave by. What the driver does not
    /// keep should be given back by [`recycle`](Self::recycle).
    pub fn sent(&mut self) -> &mut Vec<(Port, Frame)> {
        &mut self.sent
    }

    /// Takes back all that was sent, once the driver has written it.
    pub fn clear(&mut self) {
        let mut sent = core::mem::take(&mut self.sent);
        for (_, frame) in sent.drain(..) {
            self.recycle(frame);
        }
        self.sent = sent;
    }
}
