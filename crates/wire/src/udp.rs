//! UDP header (RFC 768).

use crate::{Malformed, be16, head};

/// Length of the header.
pub const HEADER_LEN: usize = 8;

/// A UDP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Length of header and payload in bytes.
    pub len: u16,
    /// Checksum over pseudo-header, header and payload; 0 means none (IPv4 only).
    pub checksum: u16,
}

impl Header {
    /// Reads a header and returns it with the bytes that follow.
    ///
    /// # Errors
    /// If there are fewer than [`HEADER_LEN`] bytes.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let h = head("UDP header", bytes, HEADER_LEN)?;
        let header = Self {
            src_port: be16(h, 0),
            dst_port: be16(h, 2),
            len: be16(h, 4),
            checksum: be16(h, 6),
        };
        Ok((header, &bytes[HEADER_LEN..]))
    }

    /// Writes the header as it is, checksum included, into the first [`HEADER_LEN`] bytes.
    ///
    /// # Panics
    /// If `into` is shorter.
    pub fn emit(&self, into: &mut [u8]) {
        into[..2].copy_from_slice(&self.src_port.to_be_bytes());
        into[2..4].copy_from_slice(&self.dst_port.to_be_bytes());
        into[4..6].copy_from_slice(&self.len.to_be_bytes());
        into[6..8].copy_from_slice(&self.checksum.to_be_bytes());
    }
}
