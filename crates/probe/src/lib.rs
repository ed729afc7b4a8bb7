//! The probing engine: Paris traceroute, ping, and the revelation of MPLS tunnels (TNT).
//!
//! [`Engine`] is a pure state machine. It has no clock, no socket and no randomness of its own:
//! time and packets go in, packets and [`Event`]s come out, and the same seed with the same input
//! gives the same bytes. `docs/tnt.md` of the project explains the algorithm and its choices.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod assemble;
mod cache;
mod echo;
mod engine;
mod event;
mod flow;
mod job;
mod method;
mod observation;
mod pace;
mod ping_job;
mod random;
mod reply;
mod reveal_job;
mod slab;
mod slot;
mod task;
mod timer;
mod tnt;
mod trace_job;
mod walk;

pub use engine::Engine;
pub use event::{Event, Stats};
pub use job::{
    Config, Headers, Job, JobId, Ping, PingOptions, Refused, Reveal, Trace, TraceOptions,
    TunnelOptions,
};
