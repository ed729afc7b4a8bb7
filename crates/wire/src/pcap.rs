//! Classic packet captures (IETF draft-ietf-opsawg-pcap), which are only read: tcpdump writes them.

use crate::pcapng::{LinkType, MAX_PACKET_LEN, Packet, Read};
use crate::{Malformed, head};

/// Length of the file header in bytes.
pub const HEADER_LEN: usize = 24;

const RECORD_HEADER_LEN: usize = 16;
const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;

/// Says whether a stream that begins with these four bytes is a classic capture.
pub const fn is_magic(first: [u8; 4]) -> bool {
    matches!(u32::from_le_bytes(first), MICROSECONDS | NANOSECONDS)
        || matches!(u32::from_be_bytes(first), MICROSECONDS | NANOSECONDS)
}

/// Takes packets out of a stream: all four combinations of byte order and resolution.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    header: Option<Header>,
}

#[derive(Clone, Copy, Debug)]
struct Header {
    little: bool,
    /// Nanoseconds that the fraction of a timestamp counts.
    unit: u64,
    link_type: LinkType,
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "pcap file header";
        let h = head(WHAT, bytes, HEADER_LEN)?;
        let magic = u32::from_le_bytes([h[0], h[1], h[2], h[3]]);
        let (little, unit) = match (magic, magic.swap_bytes()) {
            (MICROSECONDS, _) => (true, 1000),
            (NANOSECONDS, _) => (true, 1),
            (_, MICROSECONDS) => (false, 1000),
            (_, NANOSECONDS) => (false, 1),
            _ => return Err(damaged(WHAT)),
        };
        let header = Self {
            little,
            unit,
            link_type: LinkType(0),
        };
        // The upper half holds the length of a frame check sequence.
        let link_type = header.word(h, 20) & 0xffff;
        Ok(Self {
            link_type: LinkType(u16::try_from(link_type).unwrap_or(u16::MAX)),
            ..header
        })
    }

    fn word(self, bytes: &[u8], at: usize) -> u32 {
        let word = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        if self.little {
            u32::from_le_bytes(word)
        } else {
            u32::from_be_bytes(word)
        }
    }
}

impl Reader {
    /// A reader at the start of a capture.
    pub const fn new() -> Self {
        Self { header: None }
    }

    /// Reads the next packet, and moves the start of `input` over all that was consumed.
    ///
    /// # Errors
    /// If the stream is not a classic capture or is damaged.
    pub fn read<'a>(&mut self, input: &mut &'a [u8]) -> Result<Read<'a>, Malformed> {
        let header = match self.header {
            Some(header) => header,
            None if input.len() < HEADER_LEN => return Ok(Read::NeedBytes(HEADER_LEN)),
            None => {
                let header = Header::parse(input)?;
                *input = &input[HEADER_LEN..];
                *self.header.insert(header)
            }
        };
        let Some(record) = input.get(..RECORD_HEADER_LEN) else {
            return Ok(Read::NeedBytes(RECORD_HEADER_LEN));
        };
        let [seconds, fraction, captured, original_len] =
            [0, 4, 8, 12].map(|at| header.word(record, at));
        let len = usize::try_from(captured).unwrap_or(usize::MAX);
        if len > MAX_PACKET_LEN {
            return Err(damaged("pcap packet length"));
        }
        let Some(data) = input.get(RECORD_HEADER_LEN..RECORD_HEADER_LEN + len) else {
            return Ok(Read::NeedBytes(RECORD_HEADER_LEN + len));
        };
        *input = &input[RECORD_HEADER_LEN + len..];
        Ok(Read::Packet(Packet {
            at_ns: u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * header.unit,
            original_len: original_len.max(captured),
            data,
            ..Packet::default()
        }))
    }

    /// Checks that the stream may end with `rest` unread.
    ///
    /// # Errors
    /// If it ends within a packet, or before the first.
    pub fn finish(&self, rest: &[u8]) -> Result<(), Malformed> {
        if self.header.is_some() && rest.is_empty() {
            return Ok(());
        }
        Err(Malformed {
            what: "end of a pcap capture",
            need: 0,
            have: rest.len(),
        })
    }

    /// What all its packets begin with.
    pub fn link_type(&self) -> Option<LinkType> {
        Some(self.header?.link_type)
    }
}

const fn damaged(what: &'static str) -> Malformed {
    Malformed {
        what,
        need: 0,
        have: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn capture(little: bool, nanos: bool, packets: &[(u32, u32, Vec<u8>)]) -> Vec<u8> {
        let words = |words: &[u32]| -> Vec<u8> {
            let bytes = words.iter().flat_map(|word| {
                if little {
                    word.to_le_bytes()
                } else {
                    word.to_be_bytes()
                }
            });
            bytes.collect()
        };
        let magic = if nanos { NANOSECONDS } else { MICROSECONDS };
        let mut out = words(&[magic, 0x0002_0004, 0, 0, 262_144, 1]);
        for (seconds, fraction, data) in packets {
            let len = u32::try_from(data.len()).unwrap();
            out.extend(words(&[*seconds, *fraction, len, len + 7]));
            out.extend(data);
        }
        out
    }

    proptest! {
        #[test]
        fn all_four_kinds_are_read_in_pieces_of_any_size(
            little: bool, nanos: bool, step in 1..50usize,
            packets in proptest::collection::vec((any::<u32>(), 0..1_000_000u32, proptest::collection::vec(any::<u8>(), 0..60)), 0..6),
        ) {
            let bytes = capture(little, nanos, &packets);
            let unit = if nanos { 1 } else { 1000 };
            let mut reader = Reader::new();
            let (mut at, mut end) = (0, 0);
            let mut found = Vec::new();
            loop {
                let mut input = &bytes[at..end];
                let read = reader.read(&mut input).unwrap();
                at = end - input.len();
                match read {
                    Read::Packet(p) => {
                        prop_assert_eq!(p.original_len as usize, p.data.len() + 7);
                        found.push((p.at_ns, p.data.to_vec()));
                    }
                    Read::NeedBytes(_) if end == bytes.len() => break,
                    Read::NeedBytes(_) => end = (end + step).min(bytes.len()),
                    Read::Control(_) => unreachable!("there is none in this format"),
                }
            }
            prop_assert!(reader.finish(&bytes[at..]).is_ok());
            prop_assert_eq!(reader.link_type(), Some(LinkType::ETHERNET));
            let expected: Vec<_> = packets.into_iter()
                .map(|(s, f, data)| (u64::from(s) * 1_000_000_000 + u64::from(f) * unit, data)).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn no_input_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), magic: bool) {
            if magic && bytes.len() > 4 {
                bytes[..4].copy_from_slice(&MICROSECONDS.to_le_bytes());
            }
            let mut reader = Reader::new();
            let mut input = &bytes[..];
            while let Ok(Read::Packet(_)) = reader.read(&mut input) {}
        }
    }
}
