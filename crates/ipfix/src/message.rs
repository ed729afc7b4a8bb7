//! Messages and sets (RFC 7011 §3.1, §3.3), and where messages end in a stream or file.

use alloc::vec::Vec;

use plumb_wire::Malformed;

/// Length of a message's header.
pub const HEADER_LEN: usize = 16;

/// Length of a set's header.
pub const SET_HEADER_LEN: usize = 4;

/// Version of IPFIX in a message's header.
pub const VERSION: u16 = 10;

/// The header of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Length of the message in bytes, header included.
    pub len: u16,
    /// When it left the exporting process, in seconds since 1970.
    pub export_time: u32,
    /// Data records sent before it in this session and domain, modulo 2^32.
    pub sequence: u32,
    /// Observation domain.
    pub domain: u32,
}

/// A set of records of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set<'a> {
    /// What its records are: 2 templates, 3 options templates, from 256 data of that template.
    pub id: u16,
    /// Its records, and perhaps padding.
    pub body: &'a [u8],
}

/// The sets of a message.
#[derive(Clone, Debug)]
pub struct Sets<'a> {
    rest: &'a [u8],
}

impl Header {
    /// Reads the header of the message that `bytes` begin with, and returns it with its sets. What
    /// follows the message is left alone.
    ///
    /// # Errors
    /// If the message is cut, of another version, or shorter than its header.
    pub fn parse(bytes: &[u8]) -> Result<(Self, Sets<'_>), Malformed> {
        let what = "IPFIX message";
        let have = bytes.len();
        let Some(&head) = bytes.first_chunk::<HEADER_LEN>() else {
            let need = HEADER_LEN;
            return Err(Malformed { what, need, have });
        };
        let be32 =
            |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        if u16::from_be_bytes([head[0], head[1]]) != VERSION {
            let what = "version of IPFIX";
            return Err(Malformed {
                what,
                need: 0,
                have,
            });
        }
        let header = Self {
            len: u16::from_be_bytes([head[2], head[3]]),
            export_time: be32(4),
            sequence: be32(8),
            domain: be32(12),
        };
        let need = usize::from(header.len);
        if need < HEADER_LEN {
            return Err(Malformed {
                what,
                need: 0,
                have,
            });
        }
        let rest = bytes
            .get(HEADER_LEN..need)
            .ok_or(Malformed { what, need, have })?;
        Ok((header, Sets { rest }))
    }

    /// The header on the wire.
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..2].copy_from_slice(&VERSION.to_be_bytes());
        bytes[2..4].copy_from_slice(&self.len.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.export_time.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[12..].copy_from_slice(&self.domain.to_be_bytes());
        bytes
    }
}

impl<'a> Iterator for Sets<'a> {
    type Item = Result<Set<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let fault = Malformed {
            what: "IPFIX set",
            need: 0,
            have: self.rest.len(),
        };
        let set = self.rest.first_chunk::<SET_HEADER_LEN>().and_then(|head| {
            let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
            Some(Set {
                id: u16::from_be_bytes([head[0], head[1]]),
                body: self.rest.get(SET_HEADER_LEN..len)?,
            })
        });
        self.rest = match set {
            Some(set) => &self.rest[SET_HEADER_LEN + set.body.len()..],
            // Nothing behind a broken set can be found.
            None => &[],
        };
        Some(set.ok_or(fault))
    }
}

/// Finds messages in a stream of bytes: a connection, or a file (RFC 5655), which is nothing but
/// messages one behind the other.
#[derive(Debug, Default)]
pub struct Framer {
    bytes: Vec<u8>,
    read: usize,
}

impl Framer {
    /// A framer at the beginning of a stream.
    pub const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            read: 0,
        }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.read);
        self.read = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message; `None` until there is one.
    ///
    /// # Errors
    /// If what follows is not the header of a message. The stream cannot be followed any further.
    pub fn next_message(&mut self) -> Result<Option<&[u8]>, Malformed> {
        let rest = &self.bytes[self.read..];
        let Some(head) = rest.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        if rest.len() >= len || u16::from_be_bytes([head[0], head[1]]) != VERSION {
            Header::parse(rest)?;
        } else {
            return Ok(None);
        }
        self.read += len;
        Ok(Some(&self.bytes[self.read - len..self.read]))
    }

    /// Bytes of a message that is not yet whole: not 0 at the end of a stream that was cut.
    pub fn pending(&self) -> usize {
        self.bytes.len() - self.read
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    fn message(bodies: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut sets = Vec::new();
        for (id, body) in bodies {
            sets.extend_from_slice(&id.to_be_bytes());
            sets.extend_from_slice(&u16::try_from(body.len() + 4).unwrap().to_be_bytes());
            sets.extend_from_slice(body);
        }
        let header = Header {
            len: u16::try_from(HEADER_LEN + sets.len()).unwrap(),
            export_time: 1,
            sequence: 2,
            domain: 3,
        };
        [&header.to_bytes()[..], &sets].concat()
    }

    #[test]
    fn another_version_and_a_length_below_the_header_are_refused() {
        let good = message(&[]);
        assert!(Header::parse(&good).is_ok());
        for (at, byte) in [(1, 9), (3, 15), (3, 17)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert!(Header::parse(&bad).is_err(), "{at}");
        }
    }

    #[test]
    fn a_set_that_claims_too_much_or_too_little_ends_the_message() {
        for len in [0, 3, 5, 200] {
            let mut bytes = message(&[(256, vec![])]);
            bytes[HEADER_LEN + 3] = len;
            let (_, mut sets) = Header::parse(&bytes).unwrap();
            assert!(sets.next().unwrap().is_err(), "{len}");
            assert!(sets.next().is_none(), "{len}");
        }
    }

    proptest! {
        #[test]
        fn sets_come_back_in_order(
            bodies in prop::collection::vec(
                (any::<u16>(), prop::collection::vec(any::<u8>(), 0..50)), 0..10),
        ) {
            let bytes = message(&bodies);
            let (header, sets) = Header::parse(&bytes).unwrap();
            prop_assert_eq!(usize::from(header.len), bytes.len());
            let found: Vec<(u16, Vec<u8>)> =
                sets.map(|set| set.map(|set| (set.id, set.body.to_vec())).unwrap()).collect();
            prop_assert_eq!(found, bodies);
        }

        #[test]
        fn messages_are_found_however_a_stream_is_cut(
            lens in prop::collection::vec(0_usize..80, 1..8),
            cut in 1_usize..64,
        ) {
            let messages: Vec<Vec<u8>> =
                lens.iter().map(|&len| message(&[(300, vec![9; len])])).collect();
            let stream = messages.concat();
            let mut framer = Framer::new();
            let mut found = Vec::new();
            for part in stream.chunks(cut) {
                framer.push(part);
                while let Some(message) = framer.next_message().unwrap() {
                    found.push(message.to_vec());
                }
            }
            prop_assert_eq!(found, messages);
            prop_assert_eq!(framer.pending(), 0);
        }
    }
}
