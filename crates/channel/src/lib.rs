//! The job channel: how a process hands measurements to a probing engine that runs elsewhere, in a
//! microVM for instance, and gets its events.
//!
//! Both ends are state machines without I/O: bytes of a reliable, ordered stream in, bytes and
//! events out. [`Host`] is the end that has jobs, [`Guest`] the one that has an engine. What the
//! host says are [`Order`]s, what the guest says are reports.
//!
//! ```text
//! host:   Configure  Options  Start Start ...  Start ...  Finish            Ack Shutdown
//! guest:             Ready    Trace  Taken  Trace  Stats ...      Finished
//! ```
//!
//! One configuration, the jobs under it and the end of them make a **session**; a machine takes one
//! after the other. A new `Configure` ends the session before it, whatever became of that, and its
//! number tells the reports of the two apart.
//!
//! Neither end holds more than a bounded number of bytes and jobs of the other. The host trusts
//! nothing that it is told: whatever the guest may not say is a [`Fault`].

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod codec;
mod fault;
mod frame;
mod guest;
mod host;
mod order;
mod outbox;
mod relay;
mod report;
mod sound;

pub use fault::Fault;
pub use frame::{Frames, MOST_ORDER, MOST_REPORT};
pub use guest::Guest;
pub use host::{Host, Limits, News};
pub use order::{Configure, Options, Order};
pub use relay::Relay;
pub use report::{Ready, Refusal};

/// Version of what is said here; both ends must have the same.
pub const VERSION: u16 = 1;

/// Most jobs that the host may send before the guest has begun with the first of them. What is
/// under way is bounded by the window of the configuration instead.
pub const INBOX: usize = 256;

/// Bytes of reports that may be under way, until the host has said that they have come. Whatever
/// carries them, a socket's buffer for instance, holds that much even if it comes in small pieces.
pub(crate) const WINDOW: usize = 32 << 10;
