//! The job channel: how a process hands measurements to a probing engine that runs elsewhere, in a
//! microVM for instance, and gets its events.
//!
//! Both ends are state machines without I/O: bytes of a reliable, ordered stream in, bytes and
//! events out.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;
