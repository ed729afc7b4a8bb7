//! Comparisons in a form that is quick to make, of what has 32 bits at most and is not calculated
//! with but for a mask: that is most of what rules consist of.

use super::evaluate::Packet;
use super::load::{bytes, ct, meta};
use super::rules::Operand;
use super::syntax::ast::Step;
use super::syntax::field::{Base, Ct, Field, Meta, Needs};

/// Says whether a value lies between two others, both included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Narrow {
    of: Of,
    mask: u32,
    first: u32,
    last: u32,
    negated: bool,
}

/// Where the value is.
#[derive(Clone, Copy, Debug)]
enum Of {
    /// `len` bytes, 1, 2 or 4, behind `at` others of a header.
    Payload {
        base: Base,
        needs: Needs,
        at: u16,
        len: u8,
    },
    Meta(Meta),
    CtState,
    Ct(Ct),
}

impl Narrow {
    /// The comparison of a value with `first` and `last`, if it is a narrow one.
    pub(super) fn new(key: &Operand, first: u128, last: u128, negated: bool) -> Option<Self> {
        let of = match key.field {
            Field::Payload {
                base,
                needs,
                at,
                bits: bits @ (8 | 16 | 32),
                ..
            } if at.is_multiple_of(8) => Of::Payload {
                base,
                needs,
                at: at / 8,
                len: bits / 8,
            },
            Field::Payload { .. } | Field::VlanTag { .. } => return None,
            Field::Meta(meta) => Of::Meta(meta),
            Field::Ct(Ct::State) => Of::CtState,
            Field::Ct(ct) => Of::Ct(ct),
        };
        let mask = match key.steps[..] {
            [] => u128::from(u32::MAX),
            [(Step::And, mask)] => mask,
            _ => return None,
        };
        Some(Self {
            of,
            // No value has more bits than these.
            mask: u32::try_from(mask & u128::from(u32::MAX)).ok()?,
            first: u32::try_from(first).ok()?,
            last: u32::try_from(last).unwrap_or(u32::MAX),
            negated,
        })
    }

    /// Makes it; false where the packet has no such value.
    #[inline]
    pub(super) fn matches(&self, packet: &Packet<'_>) -> bool {
        self.value(packet).is_some_and(|value| {
            let value = value & self.mask;
            (self.first <= value && value <= self.last) != self.negated
        })
    }

    #[inline]
    fn value(&self, packet: &Packet<'_>) -> Option<u32> {
        match self.of {
            Of::CtState => Some(packet.tracked.state.bit()),
            Of::Ct(of) => ct(packet, of),
            Of::Meta(of) => meta(packet, of),
            Of::Payload {
                base,
                needs,
                at,
                len,
            } => bytes(packet, base, needs, at, len),
        }
    }
}
