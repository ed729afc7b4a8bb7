//! A packet in the ring: what the program wrote of it, and the frame that it was on the wire.

use plumb_wire::Instant;
use plumb_wire::frame::{Gso, Offload, PartialChecksum, Segmentation};

use super::program::Hook;

/// Length of `struct record`.
pub(crate) const HEADER_LEN: usize = 40;

const VLAN_PRESENT: u8 = 1;
const CHECKSUM_PARTIAL: u8 = 2;
const GSO_TCP4: u32 = 1;
const GSO_ECN: u32 = 1 << 2;
const GSO_TCP6: u32 = 1 << 4;
const GSO_UDP: u32 = 1 << 17;

/// What says that nothing is to be masked.
const UNMASKED: u16 = 0xffff;

/// Where a tag is in a frame.
const TAG_AT: usize = 12;

/// A packet that a session has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// When it was taken: CLOCK_MONOTONIC.
    pub at: Instant,
    /// Number of the interface.
    pub interface: u32,
    /// Which way it went.
    pub hook: Hook,
    /// A tag that the kernel keeps beside it: protocol and tag.
    pub tag: Option<(u16, u16)>,
    /// Its length in bytes, without that tag.
    pub len: u32,
    /// Packets on the wire that it stands for.
    pub segments: u16,
    /// What is left to do with it, in terms of `bytes`.
    pub offload: Offload,
    /// Where its transport payload begins, if that is to be masked.
    pub payload_at: Option<u16>,
    /// Its beginning, or all of it.
    pub bytes: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads what a program has written: a header of 40 bytes in the byte order of the machine, and
    /// the bytes that were kept. `None` if there are fewer than it says.
    pub fn parse(record: &'a [u8]) -> Option<Self> {
        let (h, rest) = record.split_first_chunk::<HEADER_LEN>()?;
        let u32_at = |at: usize| u32::from_ne_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]]);
        let u16_at = |at: usize| u16::from_ne_bytes([h[at], h[at + 1]]);
        let at = u64::from_ne_bytes(*h.first_chunk()?);
        let bytes = rest.get(..u32_at(12) as usize)?;
        let flags = h[37];
        let checksum = (flags & CHECKSUM_PARTIAL != 0).then(|| PartialChecksum {
            start: u16_at(32),
            offset: u16_at(34),
        });
        let kind = match u32_at(20) {
            kind if kind & GSO_TCP4 != 0 => Some(Segmentation::TcpV4),
            kind if kind & GSO_TCP6 != 0 => Some(Segmentation::TcpV6),
            kind if kind & GSO_UDP != 0 => Some(Segmentation::Udp),
            _ => None,
        };
        let size = u16_at(24);
        let gso = kind.filter(|_| size > 0).map(|kind| Gso {
            kind,
            size,
            header_len: 0,
            ecn: u32_at(20) & GSO_ECN != 0,
        });
        Some(Self {
            at: Instant::from_nanos(at),
            interface: u32_at(16),
            hook: if h[36] == 0 {
                Hook::Ingress
            } else {
                Hook::Egress
            },
            tag: (flags & VLAN_PRESENT != 0)
                .then(|| (u16::from_be_bytes([h[28], h[29]]), u16_at(30))),
            len: u32_at(8),
            segments: u16_at(26).max(1),
            offload: Offload {
                checksum,
                gso,
                checksum_verified: false,
            },
            payload_at: Some(u16_at(38)).filter(|at| *at != UNMASKED),
            bytes,
        })
    }

    /// Puts the frame together as the wire has it, of which `snaplen` bytes are wanted (0: all), and
    /// returns its whole length and what is left to do with it.
    pub fn frame(&self, snaplen: u32, into: &mut Vec<u8>) -> (u32, Offload) {
        into.clear();
        let mut offload = self.offload;
        let mut len = self.len;
        let mut payload_at = self.payload_at.map(usize::from);
        match self.tag {
            Some((protocol, tag)) if self.bytes.len() >= TAG_AT => {
                into.extend_from_slice(&self.bytes[..TAG_AT]);
                into.extend_from_slice(&protocol.to_be_bytes());
                into.extend_from_slice(&tag.to_be_bytes());
                into.extend_from_slice(&self.bytes[TAG_AT..]);
                len = len.saturating_add(4);
                payload_at = payload_at.map(|at| at + 4);
                if let Some(checksum) = &mut offload.checksum {
                    checksum.start = checksum.start.saturating_add(4);
                }
            }
            _ => into.extend_from_slice(self.bytes),
        }
        if let Some(payload) = payload_at.and_then(|at| into.get_mut(at..)) {
            payload.fill(0);
        }
        if snaplen > 0 {
            into.truncate(snaplen as usize);
        }
        (len, offload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(tag: Option<(u16, u16)>, bytes: &[u8]) -> Vec<u8> {
        let mut record = vec![0; HEADER_LEN];
        record[..8].copy_from_slice(&7u64.to_ne_bytes());
        let len = u32::try_from(bytes.len()).unwrap();
        record[8..12].copy_from_slice(&(len + 10).to_ne_bytes());
        record[12..16].copy_from_slice(&len.to_ne_bytes());
        record[16..20].copy_from_slice(&3u32.to_ne_bytes());
        record[36] = 1;
        record[38..40].copy_from_slice(&UNMASKED.to_ne_bytes());
        if let Some((protocol, tag)) = tag {
            record[28..30].copy_from_slice(&protocol.to_be_bytes());
            record[30..32].copy_from_slice(&tag.to_ne_bytes());
            record[37] = VLAN_PRESENT | CHECKSUM_PARTIAL;
            record[32..34].copy_from_slice(&34u16.to_ne_bytes());
        }
        record.extend(bytes);
        record
    }

    #[test]
    fn a_tag_beside_the_packet_is_put_back_and_moves_what_is_behind_it() {
        let bytes: Vec<u8> = (0..60).collect();
        let record = record(Some((0x8100, 0x2064)), &bytes);
        let packet = Packet::parse(&record).unwrap();
        assert_eq!((packet.interface, packet.hook), (3, Hook::Egress));
        let mut frame = Vec::new();
        let (len, offload) = packet.frame(0, &mut frame);
        assert_eq!(len, 74);
        assert_eq!(frame[..12], bytes[..12]);
        assert_eq!(frame[12..16], [0x81, 0, 0x20, 0x64]);
        assert_eq!(frame[16..], bytes[12..]);
        assert_eq!(offload.checksum.unwrap().start, 38);
        packet.frame(20, &mut frame);
        assert_eq!(frame.len(), 20);
    }

    #[test]
    fn what_is_behind_the_headers_is_masked_and_keeps_its_length() {
        for (tag, begin) in [(None, 20), (Some((0x8100, 5)), 24)] {
            let mut record = record(tag, &[7; 60]);
            record[38..40].copy_from_slice(&20u16.to_ne_bytes());
            let mut frame = Vec::new();
            Packet::parse(&record).unwrap().frame(0, &mut frame);
            assert_eq!(frame.len(), 40 + begin);
            assert!(frame[begin..].iter().all(|byte| *byte == 0));
            assert_eq!(frame[begin - 1], 7);
            // Headers that are longer than the packet leave nothing to be masked.
            record[38..40].copy_from_slice(&2000u16.to_ne_bytes());
            Packet::parse(&record).unwrap().frame(0, &mut frame);
            assert_eq!(frame.last(), Some(&7));
        }
    }

    proptest! {
        #[test]
        fn no_record_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Some(packet) = Packet::parse(&bytes) {
                packet.frame(64, &mut Vec::new());
            }
        }
    }
}
