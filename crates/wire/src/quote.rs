//! The packet that an ICMP error quotes, or the start of it.

use core::net::IpAddr;

use crate::{Malformed, ipv4, ipv6};

/// What is left of a packet in the error that it caused. Lengths and checksums are not checked:
/// routers quote what they had already changed.
#[derive(Clone, Copy, Debug)]
pub struct Quote<'a> {
    /// Source address: the prober's, unless a NAT on the way rewrote it.
    pub src: IpAddr,
    /// Destination address: the probe's target.
    pub dst: IpAddr,
    /// TOS byte or traffic class when it was quoted.
    pub tos: u8,
    /// TTL or hop limit when it was quoted: 1 where a router expired the packet in the usual way,
    /// more inside an MPLS tunnel (TNT's qTTL), 0 on some stacks.
    pub ttl: u8,
    /// IPv4 identification; 0 for IPv6.
    pub ident: u16,
    /// IPv4 total length or IPv6 payload length plus header, as quoted.
    pub len: usize,
    /// Protocol of `transport`.
    pub protocol: u8,
    /// The start of the transport header: 8 bytes at least from any compliant router, fewer from
    /// others.
    pub transport: &'a [u8],
}

impl<'a> Quote<'a> {
    /// Reads a quote; `bytes` begin with the quoted IP header.
    ///
    /// # Errors
    /// If the quoted IP header is cut off or of neither version.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        match bytes.first().map(|b| b >> 4) {
            Some(6) => {
                let (h, rest) = ipv6::Header::parse(bytes)?;
                let (protocol, transport) =
                    ipv6::transport(h.next_header, rest).unwrap_or((h.next_header, &[]));
                Ok(Self {
                    src: h.src.into(),
                    dst: h.dst.into(),
                    tos: h.traffic_class,
                    ttl: h.hop_limit,
                    ident: 0,
                    len: ipv6::HEADER_LEN + usize::from(h.payload_len),
                    protocol,
                    transport,
                })
            }
            _ => {
                let (h, rest) = ipv4::Header::parse(bytes)?;
                Ok(Self {
                    src: h.src.into(),
                    dst: h.dst.into(),
                    tos: h.tos,
                    ttl: h.ttl,
                    ident: h.ident,
                    len: usize::from(h.total_len),
                    protocol: h.protocol,
                    transport: rest,
                })
            }
        }
    }

    /// The 16-bit word at byte `at` of the quoted transport header, if it was quoted.
    pub fn transport_word(&self, at: usize) -> Option<u16> {
        let word = self.transport.get(at..at + 2)?;
        Some(u16::from_be_bytes([word[0], word[1]]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120), at in 0..40usize) {
            if let Ok(quote) = Quote::parse(&bytes) {
                let _ = quote.transport_word(at);
            }
        }
    }
}
