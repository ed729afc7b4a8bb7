//! Packet formats as they are on the wire.
//!
//! Every format is one file with a small plain struct for its header: `parse` reads it from bytes
//! that may be hostile and returns it with what follows, `emit` writes it. Nothing here allocates,
//! blocks, or knows a clock or a socket, so the same code runs on Linux, in a unikernel, in the
//! simulator and under a fuzzer.
//!
//! Panic contract: no `parse` or accessor panics on any input. `emit` panics when the buffer that
//! the caller gives is shorter than the documented length; that length is always a constant or
//! returned by a `len` function beside it.
//!
//! The crate also holds what every engine and every driver share: [`Instant`], the [`Engine`] trait
//! and a source of chance, [`SplitMix64`].

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod address;
mod checksum;
mod engine;
mod random;
mod time;

pub mod arp;
pub mod capture;
pub mod dns;
pub mod ethernet;
pub mod frame;
pub mod icmp;
pub mod icmp_ext;
pub mod ipv4;
pub mod ipv6;
pub mod mpls;
pub mod ndp;
pub mod packet;
pub mod pcap;
pub mod pcapng;
pub mod quote;
pub mod tcp;
pub mod udp;

pub use address::is_reserved;
pub use checksum::{Checksum, checksum};
pub use engine::{Engine, ProbeId, SendError, Transmit};
pub use random::SplitMix64;
pub use time::Instant;

/// IANA "Assigned Internet Protocol Numbers" that plumb reads or writes.
pub mod protocol {
    /// Internet Control Message Protocol, for IPv4.
    pub const ICMP: u8 = 1;
    /// Transmission Control Protocol.
    pub const TCP: u8 = 6;
    /// User Datagram Protocol.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
}

/// Bytes that are not the format they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The format that was expected, for example "IPv4 header".
    pub what: &'static str,
    /// Bytes that the format needs at least, or 0 where length is not what is wrong.
    pub need: usize,
    /// Bytes that there were.
    pub have: usize,
}

impl core::fmt::Display for Malformed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.have < self.need {
            write!(
                f,
                "{} needs {} bytes, but there are {}",
                self.what, self.need, self.have
            )
        } else {
            write!(f, "not a valid {}", self.what)
        }
    }
}

impl core::error::Error for Malformed {}

/// Returns the first `need` bytes, or an error that names `what`.
fn head<'a>(what: &'static str, bytes: &'a [u8], need: usize) -> Result<&'a [u8], Malformed> {
    bytes.get(..need).ok_or(Malformed {
        what,
        need,
        have: bytes.len(),
    })
}

/// Reads a big-endian 16-bit word. Panics where the caller has not checked the length.
fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Reads a big-endian 32-bit word. Panics where the caller has not checked the length.
fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
