//! The header of a slot, as four words: so it goes from the memory into registers and back at once.

use plumb_wire::frame::{Offload, VNET_HEADER_LEN};
use plumb_wire::pcapng::Direction;

use super::super::Meta;

/// Bytes of the header.
pub(super) const HEADER_LEN: usize = 32;

/// A header, in the byte order of the machine: length, flags and direction; mark and the begin of
/// `struct virtio_net_hdr`; its rest; time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header(pub(super) [u64; 4]);

/// The rest of the ring up to its end is not used.
const PAD: u64 = 1 << 32;
/// Bits of the words that `struct virtio_net_hdr` takes.
const VNET_BEGIN: u64 = 0xffff_ffff << 32;
const VNET_REST: u64 = 0xffff_ffff_ffff;
/// Of its first two bytes, "needs checksum" and the kind of segmentation.
const UNFINISHED: u64 = 0x7f01 << 32;

impl Header {
    /// That of the unused rest of a ring.
    pub(super) const fn pad() -> Self {
        Self([PAD.to_le(), 0, 0, 0])
    }

    /// That of a frame.
    #[inline]
    pub(super) fn frame(meta: &Meta, len: u32) -> Self {
        let mut words = [
            u64::from(len) | (meta.direction as u64) << 48,
            u64::from(meta.mark),
            0,
            meta.at_ns,
        ];
        if meta.offload != Offload::NONE {
            let mut vnet = [0; 16];
            meta.offload.emit(&mut vnet[..VNET_HEADER_LEN]);
            let vnet = u128::from_le_bytes(vnet);
            words[1] |= low(vnet) << 32;
            words[2] = low(vnet >> 32) & VNET_REST;
        }
        Self(words.map(u64::to_le))
    }

    /// Says whether it begins the unused rest of a ring.
    pub(super) fn is_pad(self) -> bool {
        u64::from_le(self.0[0]) & PAD != 0
    }

    /// Says whether something is left to do with the frame: [`Offload::is_complete`] of it is false.
    pub(super) fn is_unfinished(self) -> bool {
        u64::from_le(self.0[1]) & UNFINISHED != 0
    }

    /// Length of the frame.
    pub(super) fn len(self) -> usize {
        usize::try_from(u64::from_le(self.0[0]) & 0xffff_ffff).unwrap_or(usize::MAX)
    }

    /// Puts what it says of the frame into `meta`, and says whether that can be. Written where it
    /// stays: what is written bit by bit cannot be moved as a whole at once.
    #[inline]
    pub(super) fn read_meta(self, meta: &mut Meta) -> bool {
        let [first, second, third, at_ns] = self.0.map(u64::from_le);
        let (begin, rest) = (second & VNET_BEGIN, third & VNET_REST);
        if begin | rest == 0 {
            meta.offload = Offload::NONE;
        } else {
            let vnet = u128::from(begin >> 32) | u128::from(rest) << 32;
            match Offload::parse(&vnet.to_le_bytes()[..VNET_HEADER_LEN]) {
                Ok(offload) => meta.offload = offload,
                Err(_) => return false,
            }
        }
        meta.at_ns = at_ns;
        meta.direction = match (first >> 48) & 0xff {
            1 => Direction::Inbound,
            2 => Direction::Outbound,
            _ => Direction::Unknown,
        };
        meta.mark = u32::try_from(second & 0xffff_ffff).unwrap_or(0);
        true
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
const fn low(word: u128) -> u64 {
    word as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use plumb_wire::frame::{Gso, PartialChecksum, Segmentation};

    #[test]
    fn the_words_are_the_documented_bytes() {
        let meta = Meta {
            at_ns: 0x0102_0304_0506_0708,
            direction: Direction::Outbound,
            mark: 0xaabb_ccdd,
            offload: Offload {
                checksum: Some(PartialChecksum {
                    start: 34,
                    offset: 16,
                }),
                gso: Some(Gso {
                    kind: Segmentation::TcpV4,
                    size: 1448,
                    header_len: 66,
                    ecn: true,
                }),
                checksum_verified: false,
            },
        };
        let header = Header::frame(&meta, 0x0001_0203);
        let bytes: Vec<u8> = header.0.iter().flat_map(|w| w.to_ne_bytes()).collect();
        let mut expected = vec![3, 2, 1, 0, 0, 0, 2, 0, 0xdd, 0xcc, 0xbb, 0xaa];
        expected.resize(22, 0);
        meta.offload.emit(&mut expected[12..22]);
        expected.extend([0, 0, 8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(bytes, expected);
        let read = |header: Header| {
            let mut meta = Meta {
                mark: 7,
                ..Meta::default()
            };
            header.read_meta(&mut meta).then_some(meta)
        };
        assert_eq!((read(header), header.len()), (Some(meta), 0x0001_0203));
        assert!(!header.is_pad() && Header::pad().is_pad());
        assert!(header.is_unfinished());
        for (checksum, gso, checksum_verified) in [
            (meta.offload.checksum, None, false),
            (None, meta.offload.gso, true),
            (None, None, true),
        ] {
            let offload = Offload {
                checksum,
                gso,
                checksum_verified,
            };
            let header = Header::frame(&Meta { offload, ..meta }, 60);
            assert_eq!(header.is_unfinished(), !offload.is_complete());
        }
        let plain = Meta::default();
        assert_eq!(read(Header::frame(&plain, 60)), Some(plain));
    }
}
