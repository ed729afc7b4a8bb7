//! How late a frame is.

use core::time::Duration;

use plumb_wire::SplitMix64;

/// What jitter is distributed like. All but [`Uniform`](Self::Uniform) have the jitter as their
/// standard deviation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Distribution {
    /// Anything up to the jitter more or less, all equally likely.
    #[default]
    Uniform,
    /// The sum of twelve uniform numbers: a normal distribution without what lies beyond six
    /// standard deviations.
    Normal,
    /// Pareto with shape 3, cut at four standard deviations: few packets are much later.
    Pareto,
    /// A quarter normal, three quarters Pareto: what netem has measured on the Internet.
    ParetoNormal,
}

/// Deviations are counted in steps of 2^-16.
const ONE: i64 = 1 << 16;

impl Distribution {
    /// A deviation in units of 2^-16 of the jitter.
    pub(super) fn draw(self, random: &mut SplitMix64) -> i64 {
        match self {
            Self::Uniform => below(random, 2 * ONE) - ONE,
            Self::Normal => normal(random),
            Self::Pareto => pareto(random),
            Self::ParetoNormal => (normal(random) + 3 * pareto(random)) / 4,
        }
    }
}

/// `mean` with a deviation of so many times 2^-16 `jitter`, not below zero.
pub(super) fn delayed(mean: Duration, jitter: Duration, deviation: i64) -> Duration {
    let nanos = |d: Duration| i128::try_from(d.as_nanos()).unwrap_or(i128::MAX >> 1);
    let late = nanos(mean).saturating_add(nanos(jitter).saturating_mul(deviation.into()) >> 16);
    Duration::from_nanos(u64::try_from(late.max(0)).unwrap_or(u64::MAX))
}

fn below(random: &mut SplitMix64, bound: i64) -> i64 {
    let bound = u64::try_from(bound).unwrap_or(0);
    i64::try_from(random.below(bound)).unwrap_or(0)
}

/// The variance of a uniform number is 1/12, so twelve have the variance 1.
fn normal(random: &mut SplitMix64) -> i64 {
    (0..12).map(|_| below(random, ONE)).sum::<i64>() - 6 * ONE
}

/// u^(-1/3) has the mean 3/2 and the standard deviation √3/2.
fn pareto(random: &mut SplitMix64) -> i64 {
    // u in steps of 2^-48: its inverse's cube root, in steps of 2^-16, is that of 2^96 / u.
    let u = u128::from(random.next() >> 16) + 1;
    let root = cube_root((1u128 << 96) / u);
    let root = i64::try_from(root).unwrap_or(i64::MAX >> 20);
    // 2/√3 in steps of 2^-16.
    const SCALE: i64 = 75_674;
    (((root - ONE * 3 / 2) * SCALE) >> 16).min(4 * ONE)
}

/// The greatest integer whose cube is not above `n`; below 2^33 for what is asked here.
fn cube_root(n: u128) -> u128 {
    let mut root = 0u128;
    for bit in (0..34).rev() {
        let tried = root | 1 << bit;
        if tried * tried * tried <= n {
            root = tried;
        }
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn moments(distribution: Distribution) -> (f64, f64) {
        let mut random = SplitMix64::new(7);
        let drawn: Vec<f64> = (0..40_000)
            .map(|_| {
                let steps = i32::try_from(distribution.draw(&mut random)).unwrap();
                f64::from(steps) / 65_536.0
            })
            .collect();
        let mean = drawn.iter().sum::<f64>() / 40_000.0;
        let variance = drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 40_000.0;
        (mean, variance.sqrt())
    }

    #[test]
    fn deviations_have_the_mean_zero_and_the_spread_that_is_documented() {
        let spreads = [
            (Distribution::Uniform, 0.577),
            (Distribution::Normal, 1.0),
            // The cut takes some of the tail.
            (Distribution::Pareto, 0.75),
            (Distribution::ParetoNormal, 0.62),
        ];
        for (distribution, spread) in spreads {
            let (mean, deviation) = moments(distribution);
            assert!(mean.abs() < 0.08, "{distribution:?}: {mean}");
            assert!(
                (deviation - spread).abs() < 0.06,
                "{distribution:?}: {deviation}"
            );
        }
    }

    #[test]
    fn cube_roots_are_rounded_down() {
        for n in [0, 1, 7, 8, 26, 27, 1 << 96, (1 << 96) - 1] {
            let root = cube_root(n);
            assert!(root.pow(3) <= n && (root + 1).pow(3) > n, "{n}");
        }
    }

    #[test]
    fn no_delay_is_negative() {
        let millis = Duration::from_millis;
        assert_eq!(
            delayed(millis(10), millis(5), ONE / 2),
            Duration::from_micros(12_500)
        );
        assert_eq!(delayed(millis(10), millis(5), -3 * ONE), Duration::ZERO);
        assert_eq!(
            delayed(Duration::MAX, Duration::MAX, 4 * ONE),
            Duration::from_nanos(u64::MAX)
        );
    }
}
