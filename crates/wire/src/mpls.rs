//! MPLS label stack entries (RFC 3032 §2.1, RFC 5462).

/// Explicit null for IPv4 (RFC 3032 §2.1): the label that a penultimate router swaps in so that
/// the egress receives the packet labelled.
pub const EXPLICIT_NULL_V4: u32 = 0;
/// Explicit null for IPv6.
pub const EXPLICIT_NULL_V6: u32 = 2;
/// Implicit null: advertised to ask for penultimate hop popping; never on the wire.
pub const IMPLICIT_NULL: u32 = 3;

/// One label stack entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lse {
    /// Label, 20 bits.
    pub label: u32,
    /// Traffic class, 3 bits (formerly EXP).
    pub tc: u8,
    /// Bottom of stack.
    pub s: bool,
    /// Time to live.
    pub ttl: u8,
}

impl Lse {
    /// Bytes that an entry takes.
    pub const LEN: usize = 4;

    /// Reads an entry from its 32-bit word.
    pub const fn from_bits(bits: u32) -> Self {
        Self {
            label: bits >> 12,
            tc: (bits >> 9 & 7) as u8,
            s: bits >> 8 & 1 == 1,
            ttl: (bits & 0xff) as u8,
        }
    }

    /// The entry as its 32-bit word; bits that do not fit their field are cut off.
    pub const fn to_bits(self) -> u32 {
        (self.label & 0xf_ffff) << 12
            | ((self.tc & 7) as u32) << 9
            | (self.s as u32) << 8
            | self.ttl as u32
    }

    /// Says whether the label is explicit null of either family.
    pub const fn is_explicit_null(self) -> bool {
        matches!(self.label, EXPLICIT_NULL_V4 | EXPLICIT_NULL_V6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_word_is_an_entry_and_comes_back(bits: u32) {
            prop_assert_eq!(Lse::from_bits(bits).to_bits(), bits);
        }
    }
}
