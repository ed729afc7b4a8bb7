//! TCP header (RFC 9293).

use crate::{Malformed, be16, be32, head};

/// Length of a header without options.
pub const HEADER_LEN: usize = 20;

/// FIN flag.
pub const FIN: u8 = 0x01;
/// SYN flag.
pub const SYN: u8 = 0x02;
/// RST flag.
pub const RST: u8 = 0x04;
/// PSH flag.
pub const PSH: u8 = 0x08;
/// ACK flag.
pub const ACK: u8 = 0x10;
/// URG flag.
pub const URG: u8 = 0x20;
/// CWR flag (RFC 3168).
pub const CWR: u8 = 0x80;

/// A TCP header. Options are skipped on reading and never written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags: FIN, SYN, RST, PSH, ACK, URG, ECE, CWR from bit 0 on.
    pub flags: u8,
    /// Receive window.
    pub window: u16,
    /// Checksum over pseudo-header, header and payload.
    pub checksum: u16,
}

impl Header {
    /// Reads a header and returns it with the bytes that follow it and its options.
    ///
    /// # Errors
    /// If there are fewer bytes than the header has, or its data offset is below 5.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        const WHAT: &str = "TCP header";
        let h = head(WHAT, bytes, HEADER_LEN)?;
        let header_len = usize::from(h[12] >> 4) * 4;
        if header_len < HEADER_LEN {
            return Err(Malformed {
                what: WHAT,
                need: 0,
                have: bytes.len(),
            });
        }
        head(WHAT, bytes, header_len)?;
        let header = Self {
            src_port: be16(h, 0),
            dst_port: be16(h, 2),
            seq: be32(h, 4),
            ack: be32(h, 8),
            flags: h[13],
            window: be16(h, 14),
            checksum: be16(h, 16),
        };
        Ok((header, &bytes[header_len..]))
    }

    /// Writes the header as it is, checksum included, into the first [`HEADER_LEN`] bytes.
    ///
    /// # Panics
    /// If `into` is shorter.
    pub fn emit(&self, into: &mut [u8]) {
        let h = &mut into[..HEADER_LEN];
        h[..2].copy_from_slice(&self.src_port.to_be_bytes());
        h[2..4].copy_from_slice(&self.dst_port.to_be_bytes());
        h[4..8].copy_from_slice(&self.seq.to_be_bytes());
        h[8..12].copy_from_slice(&self.ack.to_be_bytes());
        h[12] = 0x50;
        h[13] = self.flags;
        h[14..16].copy_from_slice(&self.window.to_be_bytes());
        h[16..18].copy_from_slice(&self.checksum.to_be_bytes());
        h[18..20].fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_written_header_reads_back(src_port: u16, dst_port: u16, seq: u32, ack: u32, flags: u8, window: u16, checksum: u16) {
            let header = Header { src_port, dst_port, seq, ack, flags, window, checksum };
            let mut bytes = [0xff; HEADER_LEN];
            header.emit(&mut bytes);
            prop_assert_eq!(Header::parse(&bytes).unwrap(), (header, &[][..]));
        }

        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Header::parse(&bytes);
        }
    }
}
