//! ICMP multi-part extensions: structure (RFC 4884), MPLS label stack object (RFC 4950).
//!
//! Senders deviate from RFC 4884 in every way: no length field, a length that is too large, too
//! small, or in bytes; no padding; a checksum of zero. [`split`] finds the structure wherever one
//! that proves itself stands, and gives the body up as plain quote where none does.

use crate::icmp::{Family, Message};
use crate::mpls::Lse;
use crate::{Malformed, be16, be32, checksum, head};

/// Length of the extension header: version, reserved, checksum.
pub const HEADER_LEN: usize = 4;
/// Length of an object header: length, class, c-type.
pub const OBJECT_HEADER_LEN: usize = 4;
/// Where the structure stands if the message does not say: the quote is padded to 128 bytes
/// (RFC 4884 §5.3, §5.5).
pub const DEFAULT_QUOTE_LEN: usize = 128;

/// Class of the MPLS label stack object (RFC 4950 §3).
pub const CLASS_MPLS: u8 = 1;
/// C-type of the incoming label stack (RFC 4950 §3).
pub const CTYPE_INCOMING_STACK: u8 = 1;

/// An extension structure whose header has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extensions<'a> {
    objects: &'a [u8],
}

/// One object of an extension structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object<'a> {
    /// Class number.
    pub class: u8,
    /// C-type, its meaning depends on the class.
    pub ctype: u8,
    /// What follows the object header.
    pub payload: &'a [u8],
}

impl<'a> Extensions<'a> {
    /// Reads a structure: version 2 (also as the whole first byte, which some stacks write), and a
    /// checksum that is right or zero (RFC 4884 §7).
    ///
    /// # Errors
    /// If it is too short, of another version, its checksum is wrong, or it has no valid object.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "ICMP extension structure";
        let wrong = Malformed {
            what: WHAT,
            need: 0,
            have: bytes.len(),
        };
        let h = head(WHAT, bytes, HEADER_LEN + OBJECT_HEADER_LEN)?;
        if h[0] >> 4 != 2 && h[0] != 2 {
            return Err(wrong);
        }
        // A structure may be followed by padding that its checksum covers or not; zero padding
        // changes nothing, so the sum over all bytes holds in both cases.
        if be16(h, 2) != 0 && checksum(bytes) != 0 {
            return Err(wrong);
        }
        let extensions = Self {
            objects: &bytes[HEADER_LEN..],
        };
        extensions.objects().next().map(|_| extensions).ok_or(wrong)
    }

    /// The objects, in order, up to the first whose length is impossible.
    pub fn objects(&self) -> impl Iterator<Item = Object<'a>> + use<'a> {
        let mut rest = self.objects;
        core::iter::from_fn(move || {
            let h = rest.get(..OBJECT_HEADER_LEN)?;
            let len = usize::from(be16(h, 0));
            let (class, ctype) = (h[2], h[3]);
            let payload = rest.get(OBJECT_HEADER_LEN..len)?;
            rest = &rest[len..];
            Some(Object {
                class,
                ctype,
                payload,
            })
        })
    }

    /// The entries of the incoming MPLS label stack, top first: up to the bottom of stack or the
    /// end of the object, over all MPLS objects.
    pub fn mpls_stack(&self) -> impl Iterator<Item = Lse> + use<'a> {
        self.objects()
            .filter(|o| o.class == CLASS_MPLS && o.ctype == CTYPE_INCOMING_STACK)
            .flat_map(|o| {
                let mut bottom = false;
                o.payload
                    .chunks_exact(Lse::LEN)
                    .map(|word| Lse::from_bits(be32(word, 0)))
                    .take_while(move |lse| !core::mem::replace(&mut bottom, lse.s))
            })
    }
}

/// Splits the body of an ICMP error into the quoted packet and the extensions behind it.
///
/// Where the length field leads past the body it is ignored; where it leads to no valid structure,
/// the places that non-compliant senders use are tried: 128 bytes, and the field read as bytes.
pub fn split<'a>(message: &Message<'a>) -> (&'a [u8], Option<Extensions<'a>>) {
    let body = message.body();
    let said = message.quote_len();
    let in_bytes = match message.family {
        Family::V4 => said / 4,
        Family::V6 => said / 8,
    };
    for at in [said, DEFAULT_QUOTE_LEN, in_bytes] {
        // Less than an IP header with ports cannot be a quote.
        if at < 28 {
            continue;
        }
        let Some((quote, rest)) = body.split_at_checked(at) else {
            continue;
        };
        if let Ok(extensions) = Extensions::parse(rest) {
            return (quote, Some(extensions));
        }
    }
    (body, None)
}

/// Bytes that [`emit_mpls`] writes for a stack of `entries`.
pub const fn mpls_len(entries: usize) -> usize {
    HEADER_LEN + OBJECT_HEADER_LEN + entries * Lse::LEN
}

/// Writes a structure with one incoming MPLS label stack object, checksum included, and returns
/// its length.
///
/// # Panics
/// If `into` is shorter than [`mpls_len`], or `stack` has more than 16 000 entries.
pub fn emit_mpls(stack: &[Lse], into: &mut [u8]) -> usize {
    let len = mpls_len(stack.len());
    let out = &mut into[..len];
    out[..4].copy_from_slice(&[0x20, 0, 0, 0]);
    let object_len =
        u16::try_from(len - HEADER_LEN).expect("a stack this deep is a caller's error");
    out[4..6].copy_from_slice(&object_len.to_be_bytes());
    out[6] = CLASS_MPLS;
    out[7] = CTYPE_INCOMING_STACK;
    for (word, lse) in out[8..].chunks_exact_mut(Lse::LEN).zip(stack) {
        word.copy_from_slice(&lse.to_bits().to_be_bytes());
    }
    let sum = checksum(out);
    out[2..4].copy_from_slice(&sum.to_be_bytes());
    len
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const STACK: [Lse; 2] = [
        Lse {
            label: 24_003,
            tc: 0,
            s: false,
            ttl: 1,
        },
        Lse {
            label: 16,
            tc: 5,
            s: true,
            ttl: 7,
        },
    ];

    /// A time-exceeded message whose quote has `quote` bytes and whose length byte is `said`.
    fn message(family: Family, quote: usize, said: u8, stack: &[Lse]) -> Vec<u8> {
        let mut bytes = std::vec![0; 8];
        match family {
            Family::V4 => (bytes[0], bytes[5]) = (11, said),
            Family::V6 => (bytes[0], bytes[4]) = (3, said),
        }
        bytes.extend((0..quote).map(|i| (i % 251).to_le_bytes()[0]));
        let at = bytes.len();
        bytes.resize(at + mpls_len(stack.len()), 0);
        emit_mpls(stack, &mut bytes[at..]);
        bytes
    }

    fn labels(family: Family, bytes: &[u8]) -> (usize, Vec<Lse>) {
        let message = Message::parse(family, bytes).unwrap();
        let (quote, ext) = split(&message);
        (
            quote.len(),
            ext.iter().flat_map(Extensions::mpls_stack).collect(),
        )
    }

    #[test]
    fn compliant_senders_of_both_families_are_split_where_they_say() {
        assert_eq!(
            labels(Family::V4, &message(Family::V4, 128, 32, &STACK)),
            (128, STACK.to_vec())
        );
        assert_eq!(
            labels(Family::V4, &message(Family::V4, 152, 38, &STACK)),
            (152, STACK.to_vec())
        );
        assert_eq!(
            labels(Family::V6, &message(Family::V6, 128, 16, &STACK)),
            (128, STACK.to_vec())
        );
        assert_eq!(
            labels(Family::V6, &message(Family::V6, 1000, 125, &STACK)),
            (1000, STACK.to_vec())
        );
    }

    #[test]
    fn a_missing_length_field_means_128_bytes() {
        assert_eq!(
            labels(Family::V4, &message(Family::V4, 128, 0, &STACK)),
            (128, STACK.to_vec())
        );
    }

    #[test]
    fn a_length_field_past_the_end_is_ignored() {
        assert_eq!(
            labels(Family::V4, &message(Family::V4, 128, 255, &STACK)),
            (128, STACK.to_vec())
        );
    }

    #[test]
    fn a_length_field_in_bytes_or_of_the_unpadded_quote_is_survived() {
        assert_eq!(
            labels(Family::V4, &message(Family::V4, 128, 128, &STACK)),
            (128, STACK.to_vec())
        );
        assert_eq!(
            labels(Family::V4, &message(Family::V4, 128, 11, &STACK)),
            (128, STACK.to_vec())
        );
        assert_eq!(
            labels(Family::V4, &message(Family::V4, 44, 11, &STACK)),
            (44, STACK.to_vec())
        );
        assert_eq!(
            labels(Family::V4, &message(Family::V4, 44, 44, &STACK)),
            (44, STACK.to_vec())
        );
    }

    #[test]
    fn a_zero_checksum_is_accepted_and_a_wrong_one_is_not() {
        let mut bytes = message(Family::V4, 128, 32, &STACK);
        bytes[8 + 128 + 2..8 + 128 + 4].fill(0);
        assert_eq!(labels(Family::V4, &bytes).1, STACK.to_vec());
        bytes[8 + 128 + 3] = 7;
        assert_eq!(labels(Family::V4, &bytes), (bytes.len() - 8, Vec::new()));
    }

    #[test]
    fn zero_padding_behind_the_structure_is_survived() {
        let mut bytes = message(Family::V4, 128, 32, &STACK);
        bytes.extend([0; 46]);
        assert_eq!(labels(Family::V4, &bytes), (128, STACK.to_vec()));
    }

    #[test]
    fn other_objects_are_stepped_over() {
        let mut bytes = message(Family::V4, 128, 32, &STACK);
        let at = 8 + 128 + HEADER_LEN;
        bytes.splice(at..at, [0, 8, 2, 0, 1, 2, 3, 4]);
        bytes[at - 2..at].fill(0);
        assert_eq!(labels(Family::V4, &bytes).1, STACK.to_vec());
    }

    #[test]
    fn a_plain_quote_has_no_extensions() {
        let mut bytes = std::vec![0; 8 + 28];
        bytes[0] = 11;
        assert_eq!(labels(Family::V4, &bytes), (28, Vec::new()));
    }

    proptest! {
        #[test]
        fn no_input_panics_and_iteration_ends(bytes in proptest::collection::vec(any::<u8>(), 8..400), v6: bool) {
            let family = if v6 { Family::V6 } else { Family::V4 };
            let (quote, stack) = labels(family, &bytes);
            prop_assert!(quote + stack.len() * 4 <= bytes.len());
        }

        #[test]
        fn a_hostile_structure_ends(bytes in proptest::collection::vec(0u8..8, 0..200)) {
            let mut with_header = std::vec![0x20, 0, 0, 0];
            with_header.extend(&bytes);
            if let Ok(ext) = Extensions::parse(&with_header) {
                prop_assert!(ext.objects().count() <= bytes.len());
                prop_assert!(ext.mpls_stack().count() <= bytes.len());
            }
        }
    }
}
