//! Performance profiles of QUIC connections (RFC 9000), reported by the process that has them.
//!
//! The state of a TCP connection is in the kernel, where `plumb flow` reads it; that of a QUIC
//! connection is in the process. So the process reports it, in the same record
//! ([`plumb_record::FlowProfile`] with `protocol` `quic`) and over the same states:
//!
//! - [`Recorder`] turns totals, looked at now and then, into profiles. It is pure and knows no
//!   QUIC library: any that counts can feed it.
//! - [`Emitter`] sends profiles to the Unix socket of a recorder on this host, a datagram each,
//!   and never waits.
//! - `watch` (feature `quinn`) does both for a connection of quinn.
//!
//! A connection that loses nothing gives two profiles: its handshake, and its whole life.

#![forbid(unsafe_code)]

mod emitter;
#[cfg(feature = "quinn")]
mod quinn;
mod recorder;

#[cfg(feature = "quinn")]
pub use crate::quinn::{Watched, watch};
pub use emitter::Emitter;
pub use recorder::{End, Identity, Recorder, Snapshot};
