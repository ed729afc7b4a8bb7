//! A whole IP packet of either version, viewed in place.

use core::net::IpAddr;

use crate::icmp::Family;
use crate::{Malformed, ipv4, ipv6};

/// The parts of an IP packet that both versions have.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// TOS byte or traffic class.
    pub tos: u8,
    /// TTL or hop limit as received.
    pub ttl: u8,
    /// IPv4 identification; 0 for IPv6.
    pub ident: u16,
    /// Protocol of `transport`.
    pub protocol: u8,
    /// Length of the packet in bytes as its header says.
    pub len: usize,
    /// Transport header and payload, without link-layer padding. Empty in a later fragment.
    pub transport: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a packet; `bytes` begin with the IP header.
    ///
    /// # Errors
    /// If the IP header is cut off or of neither version.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        match bytes.first().map(|b| b >> 4) {
            Some(4) => {
                let (h, rest) = ipv4::Header::parse(bytes)?;
                let transport = ipv4::payload(&h, rest, bytes.len() - rest.len());
                Ok(Self {
                    src: h.src.into(),
                    dst: h.dst.into(),
                    tos: h.tos,
                    ttl: h.ttl,
                    ident: h.ident,
                    protocol: h.protocol,
                    len: usize::from(h.total_len),
                    transport: if h.is_later_fragment() {
                        &[]
                    } else {
                        transport
                    },
                })
            }
            Some(6) => {
                let (h, rest) = ipv6::Header::parse(bytes)?;
                let rest = &rest[..usize::from(h.payload_len).min(rest.len())];
                let (protocol, transport) =
                    ipv6::transport(h.next_header, rest).unwrap_or((h.next_header, &[]));
                Ok(Self {
                    src: h.src.into(),
                    dst: h.dst.into(),
                    tos: h.traffic_class,
                    ttl: h.hop_limit,
                    ident: 0,
                    protocol,
                    len: ipv6::HEADER_LEN + usize::from(h.payload_len),
                    transport,
                })
            }
            _ => Err(Malformed {
                what: "IP packet",
                need: usize::from(bytes.is_empty()),
                have: bytes.len(),
            }),
        }
    }

    /// The packet's IP version.
    pub const fn family(&self) -> Family {
        Family::of(self.dst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120), version in 3u8..8) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = *first & 0x0f | version << 4;
            }
            let _ = Packet::parse(&bytes);
        }
    }
}
