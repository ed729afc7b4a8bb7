//! What carries an engine's packets.

use core::time::Duration;
use std::os::fd::BorrowedFd;

use plumb_wire::{Instant, SendError};

use crate::{Batch, Error};

/// How far a port came with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Packets that were reported, from the first on.
    pub done: usize,
    /// When to offer the rest again.
    pub then: Then,
}

/// When a port wants the rest of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// There is no rest, or it may be offered at once.
    Now,
    /// When [`Port::writable`] is writable: its buffer is full.
    Writable,
    /// After this time: a queue further on is full, which nothing announces.
    After(Duration),
}

/// A place where whole IP packets go and come from. No call blocks.
pub trait Port {
    /// Sends packets of `batch` from the first on, and gives `report` the index of each with the
    /// time it left or the reason it could not.
    ///
    /// A packet that the kernel has no room for is not reported: it is the first of the rest. One
    /// that cannot be sent at all does not keep the others.
    ///
    /// # Errors
    /// If the port itself is broken.
    fn send(
        &mut self,
        batch: &Batch,
        report: &mut dyn FnMut(usize, Result<Instant, SendError>),
    ) -> Result<Progress, Error>;

    /// Gives `sink` up to `budget` packets that have arrived, each with the time the kernel
    /// received it, and returns how many. Fewer than `budget` means that there are no more.
    ///
    /// # Errors
    /// If the port itself is broken.
    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(Instant, &[u8]),
    ) -> Result<usize, Error>;

    /// What becomes readable when packets arrive.
    fn readable(&self) -> BorrowedFd<'_>;

    /// What becomes writable when there is room again.
    fn writable(&self) -> BorrowedFd<'_>;

    /// Packets that arrived, but were lost because they were not taken in time, since the port
    /// was opened.
    fn dropped(&mut self) -> u64;
}
