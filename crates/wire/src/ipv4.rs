//! IPv4 header (RFC 791).

use core::net::Ipv4Addr;

use crate::{Malformed, be16, checksum, head};

/// Length of a header without options.
pub const HEADER_LEN: usize = 20;

/// "Don't fragment" in [`Header::flags_fragment`].
pub const DONT_FRAGMENT: u16 = 0x4000;
/// "More fragments" in [`Header::flags_fragment`].
pub const MORE_FRAGMENTS: u16 = 0x2000;

/// An IPv4 header. Options are skipped on reading and never written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// DSCP and ECN, the old TOS byte.
    pub tos: u8,
    /// Length of header and payload in bytes, as the header says.
    pub total_len: u16,
    /// Identification.
    pub ident: u16,
    /// Flags (upper 3 bits) and fragment offset in units of 8 bytes.
    pub flags_fragment: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol number of the payload.
    pub protocol: u8,
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
}

impl Header {
    /// Reads a header and returns it with the bytes that follow it and its options.
    ///
    /// `total_len` is not held against the bytes at hand: a quoted header announces a packet of
    /// which only the start is there, and some stacks quote it byte-swapped. Use [`payload`] for a
    /// packet that should be whole.
    ///
    /// # Errors
    /// If there are fewer bytes than the header has, or it is not version 4.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        const WHAT: &str = "IPv4 header";
        let fixed = head(WHAT, bytes, HEADER_LEN)?;
        let header_len = usize::from(fixed[0] & 0x0f) * 4;
        if fixed[0] >> 4 != 4 || header_len < HEADER_LEN {
            return Err(Malformed {
                what: WHAT,
                need: 0,
                have: bytes.len(),
            });
        }
        head(WHAT, bytes, header_len)?;
        let header = Self {
            tos: fixed[1],
            total_len: be16(fixed, 2),
            ident: be16(fixed, 4),
            flags_fragment: be16(fixed, 6),
            ttl: fixed[8],
            protocol: fixed[9],
            src: Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]),
            dst: Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19]),
        };
        Ok((header, &bytes[header_len..]))
    }

    /// Writes the header with its checksum into the first [`HEADER_LEN`] bytes.
    ///
    /// # Panics
    /// If `into` is shorter.
    pub fn emit(&self, into: &mut [u8]) {
        let h = &mut into[..HEADER_LEN];
        h[0] = 0x45;
        h[1] = self.tos;
        h[2..4].copy_from_slice(&self.total_len.to_be_bytes());
        h[4..6].copy_from_slice(&self.ident.to_be_bytes());
        h[6..8].copy_from_slice(&self.flags_fragment.to_be_bytes());
        h[8] = self.ttl;
        h[9] = self.protocol;
        h[10..12].fill(0);
        h[12..16].copy_from_slice(&self.src.octets());
        h[16..20].copy_from_slice(&self.dst.octets());
        let sum = checksum(h);
        h[10..12].copy_from_slice(&sum.to_be_bytes());
    }

    /// Says whether the packet is a fragment other than the first.
    pub const fn is_later_fragment(&self) -> bool {
        self.flags_fragment & 0x1fff != 0
    }
}

/// Cuts link-layer padding off the bytes that follow a header.
pub fn payload<'a>(header: &Header, rest: &'a [u8], header_len: usize) -> &'a [u8] {
    let announced = usize::from(header.total_len).saturating_sub(header_len);
    &rest[..announced.min(rest.len())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_written_header_reads_back_and_sums_to_zero(
            tos: u8, total_len: u16, ident: u16, flags_fragment in 0..0x8000u16, ttl: u8, protocol: u8, src: u32, dst: u32,
        ) {
            let header = Header {
                tos, total_len, ident, flags_fragment, ttl, protocol,
                src: Ipv4Addr::from_bits(src), dst: Ipv4Addr::from_bits(dst),
            };
            let mut bytes = [0xaa; HEADER_LEN + 3];
            header.emit(&mut bytes);
            prop_assert_eq!(checksum(&bytes[..HEADER_LEN]), 0);
            let (parsed, rest) = Header::parse(&bytes).unwrap();
            prop_assert_eq!(parsed, header);
            prop_assert_eq!(rest, &[0xaa; 3]);
            let oracle = etherparse::Ipv4Header::from_slice(&bytes).unwrap().0;
            prop_assert_eq!(oracle.source, header.src.octets());
            prop_assert_eq!(oracle.time_to_live, ttl);
            prop_assert_eq!(oracle.calc_header_checksum(), oracle.header_checksum);
        }

        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Header::parse(&bytes);
        }
    }
}
