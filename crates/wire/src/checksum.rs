//! The Internet checksum (RFC 1071), with its pseudo-headers.

use core::net::IpAddr;

/// A one's-complement sum in progress. Pieces after one of odd length would be misaligned, so only
/// the last piece may be odd.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checksum(u64);

impl Checksum {
    /// An empty sum.
    pub const fn new() -> Self {
        Self(0)
    }

    /// Adds the pseudo-header of UDP, TCP and ICMPv6 (RFC 768, RFC 8200 §8.1). Addresses of
    /// different families add what they are.
    #[must_use]
    pub fn pseudo_header(self, src: IpAddr, dst: IpAddr, protocol: u8, len: usize) -> Self {
        self.address(src)
            .address(dst)
            .word(u16::from(protocol))
            .length(u32::try_from(len).unwrap_or(u32::MAX))
    }

    /// Adds a 16-bit word.
    #[must_use]
    pub const fn word(self, word: u16) -> Self {
        Self(self.0 + word as u64)
    }

    /// Adds bytes, the last one padded with zero if their number is odd.
    ///
    /// They are summed in the byte order of the machine, and the sum is turned round: that gives the
    /// same (RFC 1071 §2 (B)), and costs a fraction.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let (words, tail) = bytes.as_chunks::<8>();
        let (half, tail) = tail.as_chunks::<4>();
        let last = match *tail {
            [a, b, c] => [a, b, c, 0],
            [a, b] => [a, b, 0, 0],
            [a] => [a, 0, 0, 0],
            _ => [0; 4],
        };
        let mut sum = u64::from(u32::from_ne_bytes(last));
        for half in half {
            sum += u64::from(u32::from_ne_bytes(*half));
        }
        // Two sums, that neither waits for the other.
        let (mut low, mut high) = (0, 0);
        for word in words {
            let word = u64::from_ne_bytes(*word);
            low += word & 0xffff_ffff;
            high += word >> 32;
        }
        Self(self.0 + u64::from(u16::from_be(Self(sum + low + high).fold())))
    }

    /// The sum folded to 16 bits, not complemented.
    pub const fn fold(self) -> u16 {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let mut sum = (sum & 0xffff) + (sum >> 16);
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        #[expect(clippy::cast_possible_truncation, reason = "folded to 16 bits above")]
        {
            sum as u16
        }
    }

    /// The checksum as it stands in a header.
    pub const fn finish(self) -> u16 {
        !self.fold()
    }

    /// The word that, summed in place of a zero word, makes the checksum come out as `wanted`.
    ///
    /// Paris traceroute keeps the checksum constant (or uses it as a probe's name) while the rest
    /// varies; this word of the payload compensates. Of the two forms of one's-complement zero the
    /// result is 0x0000; `wanted` 0xffff cannot be had from a packet that is not all zero, and is
    /// the same number as 0x0000.
    pub const fn compensate(self, wanted: u16) -> u16 {
        // sum + x == !wanted  =>  x == !wanted - sum == !wanted + !sum
        let x = (!wanted as u32) + (!self.fold() as u32);
        let x = (x & 0xffff) + (x >> 16);
        #[expect(clippy::cast_possible_truncation, reason = "a 17-bit sum folded once")]
        {
            if x == 0xffff { 0 } else { x as u16 }
        }
    }

    const fn length(self, len: u32) -> Self {
        Self(self.0 + len as u64)
    }

    fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(a) => Self(self.0 + u64::from(a.to_bits())),
            IpAddr::V6(a) => self.bytes(&a.octets()),
        }
    }
}

/// The Internet checksum of `bytes`. Zero if they hold a correct checksum already.
pub fn checksum(bytes: &[u8]) -> u16 {
    Checksum::new().bytes(bytes).finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn rfc_1071_example_sums_to_ddf2() {
        let sum = Checksum::new().bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.fold(), 0xddf2);
    }

    proptest! {
        #[test]
        fn a_compensated_packet_has_the_wanted_checksum(
            mut packet in proptest::collection::vec(any::<u8>(), 2..200), wanted in 0..0xffffu16,
        ) {
            packet[0] = 1;
            packet[1] = 0;
            packet.truncate(packet.len() & !1);
            let x = Checksum::new().bytes(&packet).compensate(wanted);
            packet.extend(x.to_be_bytes());
            // 0x0000 and 0xffff are the same number; a sum never folds to 0 unless all is zero.
            prop_assert_eq!(checksum(&packet) % 0xffff, wanted % 0xffff);
            prop_assert!(checksum(&packet) != 0xffff);
        }

        #[test]
        fn pieces_sum_to_the_whole(packet in proptest::collection::vec(any::<u8>(), 0..400), cut in 0..400usize) {
            let cut = (cut & !1).min(packet.len() & !1);
            let (a, b) = packet.split_at(cut);
            prop_assert_eq!(Checksum::new().bytes(a).bytes(b).finish(), checksum(&packet));
            let words: Vec<u16> = packet.chunks(2)
                .map(|w| u16::from_be_bytes([w[0], w.get(1).copied().unwrap_or(0)])).collect();
            let by_word = words.iter().fold(Checksum::new(), |sum, w| sum.word(*w));
            prop_assert_eq!(by_word.finish(), checksum(&packet));
        }
    }
}
