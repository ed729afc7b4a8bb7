//! Chance, from a seed.

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `bound`, 0 if that is 0.
    pub(crate) const fn below(&mut self, bound: u64) -> u64 {
        let wide = self.next() as u128 * bound as u128;
        (wide >> 64) as u64
    }

    /// Says whether something of this probability happens now. What never or always happens takes
    /// no number, so that switching one impairment on does not change the others' chances.
    pub(crate) const fn happens(&mut self, probability: Probability) -> bool {
        match probability.0 {
            0 => false,
            Probability::CERTAIN => true,
            threshold => self.next() >> 32 < threshold,
        }
    }
}

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

    /// Says whether it never happens.
    pub const fn is_never(self) -> bool {
        self.0 == 0
    }
}
