//! DNS messages, as far as their first question (RFC 1035 §4.1).

use core::fmt;

use crate::{Malformed, be16, head};

/// Port of name servers.
pub const PORT: u16 = 53;
/// Length of the header.
pub const HEADER_LEN: usize = 12;
/// Longest name, with its length bytes and the root's (RFC 1035 §3.1).
pub const MAX_NAME_LEN: usize = 255;

/// A query or a response, with its first question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Identifier that a response repeats.
    pub id: u16,
    /// Whether it is a response (QR).
    pub is_response: bool,
    /// Kind of query, 0 for a standard one.
    pub opcode: u8,
    /// Whether it was cut (TC).
    pub truncated: bool,
    /// Response code without what EDNS adds to it (RFC 6891 §6.1.3).
    pub response_code: u8,
    /// Records in the answer section.
    pub answers: u16,
    /// Name asked for.
    pub name: Name<'a>,
    /// Type asked for.
    pub query_type: u16,
    /// Class asked for, 1 for the Internet.
    pub class: u16,
}

impl<'a> Message<'a> {
    /// Reads a message with at least one question.
    ///
    /// # Errors
    /// If it is cut before the end of the first question, has none, or its name is compressed or
    /// too long.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "DNS message";
        let header = head(WHAT, bytes, HEADER_LEN)?;
        let (flags, code) = (header[2], header[3]);
        let questions = be16(header, 4);
        let (name, rest) = Name::parse(&bytes[HEADER_LEN..])?;
        let question = head(WHAT, rest, 4)?;
        if questions == 0 {
            return Err(invalid(WHAT, bytes));
        }
        Ok(Self {
            id: be16(header, 0),
            is_response: flags & 0x80 != 0,
            opcode: flags >> 3 & 0xf,
            truncated: flags & 0x02 != 0,
            response_code: code & 0xf,
            answers: be16(header, 6),
            name,
            query_type: be16(question, 0),
            class: be16(question, 2),
        })
    }
}

/// A name as labels with their lengths, without the root's.
///
/// Displayed as text with dots between labels, and bytes that are not printable ASCII, dots and
/// backslashes in labels as `\DDD` or behind a backslash (RFC 1035 §5.1); the root is `.`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// Reads a name that is not compressed, and returns it with what follows.
    ///
    /// # Errors
    /// If it is cut, longer than [`MAX_NAME_LEN`], or compressed (RFC 1035 §4.1.4), which the first
    /// name of a message cannot be.
    pub fn parse(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), Malformed> {
        const WHAT: &str = "DNS name";
        let mut at = 0;
        loop {
            let len = usize::from(head(WHAT, &bytes[at..], 1)?[0]);
            if len == 0 {
                return Ok((Self(&bytes[..at]), &bytes[at + 1..]));
            }
            if len > 63 {
                return Err(invalid(WHAT, bytes));
            }
            head(WHAT, &bytes[at + 1..], len)?;
            at += 1 + len;
            if at >= MAX_NAME_LEN {
                return Err(invalid(WHAT, bytes));
            }
        }
    }

    /// The labels, from the first one on.
    pub fn labels(self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let (&len, behind) = rest.split_first()?;
            let (label, next) = behind.split_at_checked(usize::from(len))?;
            rest = next;
            Some(label)
        })
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(".");
        }
        for (n, label) in self.labels().enumerate() {
            if n > 0 {
                f.write_str(".")?;
            }
            for &byte in label {
                match byte {
                    b'.' | b'\\' => write!(f, "\\{}", char::from(byte))?,
                    b'!'..=b'~' => write!(f, "{}", char::from(byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
        }
        Ok(())
    }
}

const fn invalid(what: &'static str, bytes: &[u8]) -> Malformed {
    Malformed {
        what,
        need: 0,
        have: bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// A message with one question, as it is on the wire.
    fn message(id: u16, flags: [u8; 2], counts: [u16; 4], labels: &[&[u8]]) -> Vec<u8> {
        let mut bytes = id.to_be_bytes().to_vec();
        bytes.extend(flags);
        counts.iter().for_each(|n| bytes.extend(n.to_be_bytes()));
        for label in labels {
            bytes.push(u8::try_from(label.len()).unwrap());
            bytes.extend(*label);
        }
        bytes.extend([0, 0, 28, 0, 1]);
        bytes
    }

    #[test]
    fn a_response_is_read_up_to_its_question() {
        let bytes = message(
            0xbeef,
            [0x87, 0x83],
            [1, 2, 0, 0],
            &[b"www", b"example", b"net"],
        );
        let read = Message::parse(&bytes).unwrap();
        assert!(read.is_response && read.truncated);
        assert_eq!((read.id, read.opcode, read.response_code), (0xbeef, 0, 3));
        assert_eq!((read.answers, read.query_type, read.class), (2, 28, 1));
        assert_eq!(read.name.to_string(), "www.example.net");
    }

    #[test]
    fn bytes_that_would_be_read_as_something_else_are_escaped() {
        let bytes = message(1, [0, 0], [1, 0, 0, 0], &[b"a.b\\", b"\x07 \xff"]);
        let read = Message::parse(&bytes).unwrap();
        assert_eq!(read.name.to_string(), "a\\.b\\\\.\\007\\032\\255");
        let root = message(1, [0, 0], [1, 0, 0, 0], &[]);
        assert_eq!(Message::parse(&root).unwrap().name.to_string(), ".");
    }

    #[test]
    fn a_message_without_a_question_or_with_a_pointer_for_a_name_is_refused() {
        assert!(Message::parse(&message(1, [0x80, 0], [0, 0, 0, 0], &[b"a"])).is_err());
        let mut pointer = message(1, [0, 0], [1, 0, 0, 0], &[]);
        pointer[HEADER_LEN] = 0xc0;
        assert!(Message::parse(&pointer).is_err());
        let long = [b'x'; 63];
        let labels: [&[u8]; 4] = [&long; 4];
        assert!(Message::parse(&message(1, [0, 0], [1, 0, 0, 0], &labels)).is_err());
    }

    proptest! {
        #[test]
        fn nothing_that_arrives_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(message) = Message::parse(&bytes) {
                prop_assert!(message.name.labels().map(|l| l.len() + 1).sum::<usize>() < MAX_NAME_LEN);
                let _ = message.name.to_string();
            }
        }

        #[test]
        fn a_message_cut_anywhere_before_the_end_of_its_question_is_refused(cut in 0_usize..33) {
            let bytes = message(7, [1, 0], [1, 0, 0, 0], &[b"www", b"example", b"net"]);
            prop_assume!(cut < bytes.len());
            prop_assert!(Message::parse(&bytes[..cut]).is_err());
        }
    }
}
