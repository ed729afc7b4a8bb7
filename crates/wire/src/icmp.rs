//! ICMP for IPv4 (RFC 792) and IPv6 (RFC 4443), read into one vocabulary.

use core::net::{IpAddr, Ipv6Addr};

use crate::{Checksum, Malformed, be16, checksum, head, protocol};

/// Length of the header that every message has, including the four bytes whose meaning depends on
/// the type.
pub const HEADER_LEN: usize = 8;

/// IP version, where types and lengths differ by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// What a message says, in one vocabulary for both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Echo request (8, ICMPv6 128).
    EchoRequest,
    /// Echo reply (0, ICMPv6 129).
    EchoReply,
    /// Destination unreachable (3, ICMPv6 1).
    Unreachable,
    /// Packet too big (ICMPv6 2; IPv4 says it as unreachable with code 4).
    PacketTooBig,
    /// Time exceeded (11, ICMPv6 3).
    TimeExceeded,
    /// Parameter problem (12, ICMPv6 4).
    ParameterProblem,
    /// Any other type.
    Other(u8),
}

impl Kind {
    /// The kind that type number `number` means in `family`.
    pub const fn from_number(family: Family, number: u8) -> Self {
        match (family, number) {
            (Family::V4, 8) | (Family::V6, 128) => Self::EchoRequest,
            (Family::V4, 0) | (Family::V6, 129) => Self::EchoReply,
            (Family::V4, 3) | (Family::V6, 1) => Self::Unreachable,
            (Family::V6, 2) => Self::PacketTooBig,
            (Family::V4, 11) | (Family::V6, 3) => Self::TimeExceeded,
            (Family::V4, 12) | (Family::V6, 4) => Self::ParameterProblem,
            (_, other) => Self::Other(other),
        }
    }

    /// The type number in `family`. IPv4 has no packet-too-big; its unreachable is returned.
    pub const fn number(self, family: Family) -> u8 {
        match (family, self) {
            (Family::V4, Self::EchoRequest) => 8,
            (Family::V6, Self::EchoRequest) => 128,
            (Family::V4, Self::EchoReply) => 0,
            (Family::V6, Self::EchoReply) => 129,
            (Family::V4, Self::Unreachable | Self::PacketTooBig) => 3,
            (Family::V6, Self::Unreachable) => 1,
            (Family::V6, Self::PacketTooBig) => 2,
            (Family::V4, Self::TimeExceeded) => 11,
            (Family::V6, Self::TimeExceeded) => 3,
            (Family::V4, Self::ParameterProblem) => 12,
            (Family::V6, Self::ParameterProblem) => 4,
            (_, Self::Other(other)) => other,
        }
    }

    /// Says whether messages of this kind quote the packet that caused them.
    pub const fn is_error(self) -> bool {
        matches!(
            self,
            Self::Unreachable | Self::PacketTooBig | Self::TimeExceeded | Self::ParameterProblem
        )
    }
}

/// An ICMP message, viewed in place.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Which numbering it is in.
    pub family: Family,
    /// Its type.
    pub kind: Kind,
    /// Its code.
    pub code: u8,
    /// Checksum as it stands.
    pub checksum: u16,
    bytes: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads a message; `bytes` begin with the ICMP type.
    ///
    /// # Errors
    /// If there are fewer than [`HEADER_LEN`] bytes.
    pub fn parse(family: Family, bytes: &'a [u8]) -> Result<Self, Malformed> {
        let h = head("ICMP header", bytes, HEADER_LEN)?;
        Ok(Self {
            family,
            kind: Kind::from_number(family, h[0]),
            code: h[1],
            checksum: be16(h, 2),
            bytes,
        })
    }

    /// The type number as it stands.
    pub fn number(&self) -> u8 {
        self.kind.number(self.family)
    }

    /// Identifier of an echo message.
    pub fn ident(&self) -> u16 {
        be16(self.bytes, 4)
    }

    /// Sequence number of an echo message.
    pub fn seq(&self) -> u16 {
        be16(self.bytes, 6)
    }

    /// RFC 4884 length of the quoted packet in bytes, 0 if not given: byte 5 in 32-bit words for
    /// IPv4, byte 4 in 64-bit words for IPv6.
    pub fn quote_len(&self) -> usize {
        match self.family {
            Family::V4 => usize::from(self.bytes[5]) * 4,
            Family::V6 => usize::from(self.bytes[4]) * 8,
        }
    }

    /// What follows the header: echo data, or a quoted packet with its extensions.
    pub fn body(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..]
    }

    /// Says whether the checksum is right; `src` and `dst` matter for ICMPv6 only.
    pub fn checksum_is_right(&self, src: IpAddr, dst: IpAddr) -> bool {
        match self.family {
            Family::V4 => checksum(self.bytes) == 0,
            Family::V6 => {
                let sum =
                    Checksum::new().pseudo_header(src, dst, protocol::ICMPV6, self.bytes.len());
                sum.bytes(self.bytes).finish() == 0
            }
        }
    }
}

/// Writes the checksum into a complete ICMPv4 message. Panics on fewer than [`HEADER_LEN`] bytes.
///
/// # Panics
/// If `message` is shorter than [`HEADER_LEN`].
pub fn fill_checksum_v4(message: &mut [u8]) {
    message[2..4].fill(0);
    let sum = checksum(message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}

/// Writes the checksum into a complete ICMPv6 message.
///
/// # Panics
/// If `message` is shorter than [`HEADER_LEN`].
pub fn fill_checksum_v6(src: Ipv6Addr, dst: Ipv6Addr, message: &mut [u8]) {
    message[2..4].fill(0);
    let sum =
        Checksum::new().pseudo_header(src.into(), dst.into(), protocol::ICMPV6, message.len());
    let sum = sum.bytes(message).finish();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_and_kinds_are_inverse(number: u8, v6: bool) {
            let family = if v6 { Family::V6 } else { Family::V4 };
            prop_assert_eq!(Kind::from_number(family, number).number(family), number);
        }

        #[test]
        fn a_filled_checksum_is_right(mut bytes in proptest::collection::vec(any::<u8>(), 8..100), src: u128, dst: u128) {
            fill_checksum_v4(&mut bytes);
            let any = IpAddr::from([0, 0, 0, 0]);
            prop_assert!(Message::parse(Family::V4, &bytes).unwrap().checksum_is_right(any, any));
            let (src, dst) = (Ipv6Addr::from_bits(src), Ipv6Addr::from_bits(dst));
            fill_checksum_v6(src, dst, &mut bytes);
            prop_assert!(Message::parse(Family::V6, &bytes).unwrap().checksum_is_right(src.into(), dst.into()));
        }
    }
}
