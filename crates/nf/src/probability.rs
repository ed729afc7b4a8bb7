//! How likely things are.

use plumb_wire::SplitMix64;

/// How likely something is, in steps of 2^-32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probability(u64);

impl Probability {
    const CERTAIN: u64 = 1 << 32;

    /// It never happens.
    pub const NEVER: Self = Self(0);
    /// It always happens.
    pub const ALWAYS: Self = Self(Self::CERTAIN);

    /// The probability `parts` in `of`; what is above 1 is 1. A probability that is not zero does
    /// not become zero.
    pub const fn ratio(parts: u64, of: u64) -> Self {
        if parts == 0 {
            return Self::NEVER;
        }
        if parts >= of {
            return Self::ALWAYS;
        }
        let threshold = ((parts as u128) << 32) / of as u128;
        #[expect(clippy::cast_possible_truncation, reason = "below 2^32, as parts < of")]
        let threshold = threshold as u64;
        Self(if threshold == 0 { 1 } else { threshold })
    }

    /// Says whether it happens now. What never or always happens takes no number, so that switching
    /// one impairment on does not change the others' chances.
    pub(crate) const fn happens(self, random: &mut SplitMix64) -> bool {
        match self.0 {
            0 => false,
            Self::CERTAIN => true,
            threshold => random.next() >> 32 < threshold,
        }
    }

    /// Says whether it never happens.
    pub const fn is_never(self) -> bool {
        self.0 == 0
    }
}
