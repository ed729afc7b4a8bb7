//! IPv6 header (RFC 8200) and the walk over its extension headers.

use core::net::Ipv6Addr;

use crate::{Malformed, be16, be32, head};

/// Length of the fixed header.
pub const HEADER_LEN: usize = 40;

/// An IPv6 header without extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Traffic class: DSCP and ECN.
    pub traffic_class: u8,
    /// Flow label, 20 bits. Part of what load balancers hash.
    pub flow_label: u32,
    /// Bytes after the fixed header, extension headers included.
    pub payload_len: u16,
    /// Protocol number of what follows the fixed header.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
}

impl Header {
    /// Reads the fixed header and returns it with the bytes that follow it.
    ///
    /// # Errors
    /// If there are fewer than [`HEADER_LEN`] bytes or it is not version 6.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        const WHAT: &str = "IPv6 header";
        let h = head(WHAT, bytes, HEADER_LEN)?;
        if h[0] >> 4 != 6 {
            return Err(Malformed {
                what: WHAT,
                need: 0,
                have: bytes.len(),
            });
        }
        let first = be32(h, 0);
        let address = |at: usize| {
            let mut octets = [0; 16];
            octets.copy_from_slice(&h[at..at + 16]);
            Ipv6Addr::from_octets(octets)
        };
        let header = Self {
            traffic_class: (first >> 20 & 0xff) as u8,
            flow_label: first & 0xf_ffff,
            payload_len: be16(h, 4),
            next_header: h[6],
            hop_limit: h[7],
            src: address(8),
            dst: address(24),
        };
        Ok((header, &bytes[HEADER_LEN..]))
    }

    /// Writes the header into the first [`HEADER_LEN`] bytes.
    ///
    /// # Panics
    /// If `into` is shorter.
    pub fn emit(&self, into: &mut [u8]) {
        let h = &mut into[..HEADER_LEN];
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0xf_ffff;
        h[..4].copy_from_slice(&first.to_be_bytes());
        h[4..6].copy_from_slice(&self.payload_len.to_be_bytes());
        h[6] = self.next_header;
        h[7] = self.hop_limit;
        h[8..24].copy_from_slice(&self.src.octets());
        h[24..40].copy_from_slice(&self.dst.octets());
    }
}

/// Skips hop-by-hop, routing, destination-option and fragment headers and returns the protocol of
/// what follows, with its bytes. `None` if a header is cut off or the packet is a later fragment,
/// which holds no transport header.
pub fn transport(mut next_header: u8, mut rest: &[u8]) -> Option<(u8, &[u8])> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION: u8 = 60;
    loop {
        let len = match next_header {
            HOP_BY_HOP | ROUTING | DESTINATION => (usize::from(*rest.get(1)?) + 1) * 8,
            FRAGMENT => {
                if be16(rest.get(..4)?, 2) & 0xfff8 != 0 {
                    return None;
                }
                8
            }
            _ => return Some((next_header, rest)),
        };
        next_header = *rest.first()?;
        rest = rest.get(len..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn extension_headers_are_skipped_and_later_fragments_refused() {
        let hop_by_hop = [60, 0, 1, 4, 0, 0, 0, 0];
        let destination = [17, 0, 1, 4, 0, 0, 0, 0];
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&hop_by_hop);
        bytes[8..16].copy_from_slice(&destination);
        bytes[16..].copy_from_slice(b"UDP!");
        assert_eq!(transport(0, &bytes), Some((17, &b"UDP!"[..])));
        assert_eq!(
            transport(44, &[17, 0, 0, 0, 0, 0, 0, 1, 9]),
            Some((17, &[9][..]))
        );
        assert_eq!(transport(44, &[17, 0, 0, 8, 0, 0, 0, 1, 9]), None);
        assert_eq!(transport(0, &[6, 200, 0, 0]), None);
    }

    proptest! {
        #[test]
        fn a_written_header_reads_back(
            traffic_class: u8, flow_label in 0..0x10_0000u32, payload_len: u16, next_header: u8,
            hop_limit: u8, src: u128, dst: u128,
        ) {
            let header = Header {
                traffic_class, flow_label, payload_len, next_header, hop_limit,
                src: Ipv6Addr::from_bits(src), dst: Ipv6Addr::from_bits(dst),
            };
            let mut bytes = [0; HEADER_LEN];
            header.emit(&mut bytes);
            prop_assert_eq!(Header::parse(&bytes).unwrap().0, header);
            let oracle = etherparse::Ipv6Header::from_slice(&bytes).unwrap().0;
            prop_assert_eq!(oracle.flow_label.value(), flow_label);
            prop_assert_eq!(oracle.destination, header.dst.octets());
        }

        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120), next: u8) {
            let _ = Header::parse(&bytes);
            let _ = transport(next, &bytes);
        }
    }
}
