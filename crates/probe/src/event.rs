//! What an engine reports.

use alloc::boxed::Box;

use plumb_record::{Hop, Ping, PingReply, Trace};
use plumb_wire::Instant;

use crate::JobId;

/// News of a job.
///
/// Records have no wall time yet: the edge adds it from `started`.
#[derive(Clone, Debug)]
pub enum Event {
    /// A hop was probed (only with [`TraceOptions::report_hops`](crate::TraceOptions)): it
    /// answered, or all its attempts were in vain. Hops beyond the end of the trace may be
    /// reported before the end is known.
    Hop {
        /// The trace.
        job: JobId,
        /// The hop as known so far, without anything that takes a ping or a revelation.
        hop: Box<Hop>,
    },
    /// A trace has ended. The last event of its job.
    Trace {
        /// The trace.
        job: JobId,
        /// When its first probe left.
        started: Instant,
        /// The record.
        trace: Box<Trace>,
    },
    /// An echo request was answered, or its wait is over (only with
    /// [`PingOptions::report_replies`](crate::PingOptions)).
    PingReply {
        /// The ping.
        job: JobId,
        /// The record.
        reply: PingReply,
    },
    /// A ping has ended. The last event of its job.
    Ping {
        /// The ping.
        job: JobId,
        /// When its first request left.
        started: Instant,
        /// The record.
        ping: Box<Ping>,
    },
}

/// Counters of an engine since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Packets written by `poll_transmit`.
    pub sent: u64,
    /// Packets that the driver could not send.
    pub send_errors: u64,
    /// Packets that answered a probe in time.
    pub replies: u64,
    /// Packets that answered a probe whose wait was over.
    pub late: u64,
    /// Packets that answered a probe that had been answered.
    pub duplicates: u64,
    /// Packets that were not for this engine.
    pub ignored: u64,
    /// Jobs that have ended.
    pub finished: u64,
}
