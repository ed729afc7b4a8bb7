//! The engine's only source of variety: a generator that the caller seeds.

use plumb_wire::SplitMix64;

/// Numbers of 16 bits, which is what names probes.
#[derive(Debug)]
pub(crate) struct Random(SplitMix64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    /// A number from 0 up to, not including, `bound`, which is not 0.
    #[expect(clippy::cast_possible_truncation, reason = "less than a 16-bit bound")]
    pub(crate) const fn below(&mut self, bound: u16) -> u16 {
        (self.0.next() % bound as u64) as u16
    }
}
