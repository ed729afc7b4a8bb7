//! The cap on packets per second.

use core::time::Duration;

use plumb_wire::Instant;

/// How far a sender that was held up may fall behind its grid and still make it up. A machine that
/// is busy wakes a process late by up to about this much.
const TOLERANCE: Duration = Duration::from_millis(20);

/// Packets that would leave within this time may leave together: at 10 000 packets per second and
/// below, always a single one.
const TOGETHER: Duration = Duration::from_micros(100);

/// A slot per packet on a fixed time grid, and a limit on how fast a late sender gets back to it
/// (two GCRA, ITU-T I.371). So the rate is exact over any time that is long beside
/// the tolerance, and no stretch of time, however short, sees more than twice the rate: a stall is
/// never followed by a burst.
#[derive(Debug)]
pub(crate) struct Pacer {
    /// Nanoseconds between slots in 32.32 fixed point, 0 without a cap.
    gap: u64,
    fraction: u32,
    /// The next slot of the grid.
    slot: Instant,
    /// When the last packet would have left at twice the rate.
    hurried: Instant,
    /// How far `hurried` may be ahead of time.
    together: Duration,
}

impl Pacer {
    pub(crate) fn new(rate: Option<u32>) -> Self {
        let gap = match rate {
            None => 0,
            Some(rate) => {
                let nanos = (1_000_000_000u128 << 32) / u128::from(rate.max(1));
                u64::try_from(nanos).unwrap_or(u64::MAX)
            }
        };
        let half = Duration::from_nanos(gap >> 33);
        Self {
            gap,
            fraction: 0,
            slot: Instant::ZERO,
            hurried: Instant::ZERO,
            together: (TOGETHER / 2).saturating_sub(half),
        }
    }

    /// When the next packet may leave.
    pub(crate) fn next(&self) -> Instant {
        self.slot.max(self.hurried - self.together)
    }

    /// Takes a slot if one is free at `now`.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the fraction's low 32 bits"
    )]
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        if self.gap == 0 {
            return true;
        }
        if now < self.next() {
            return false;
        }
        let from = if now.since(self.slot) > TOLERANCE.max(Duration::from_nanos(self.gap >> 32)) {
            now
        } else {
            self.slot
        };
        let step = self.gap + u64::from(self.fraction);
        self.fraction = step as u32;
        self.slot = from + Duration::from_nanos(step >> 32);
        self.hurried = self.hurried.max(now) + Duration::from_nanos(self.gap >> 33);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// When packets leave in `duration` if the driver wakes as the pacer says, late by what `late`
    /// gives.
    fn times(rate: u32, duration: Duration, mut late: impl FnMut() -> u64) -> Vec<Instant> {
        let mut pacer = Pacer::new(Some(rate));
        let mut now = Instant::from_millis(5000);
        let end = now + duration;
        let mut times = Vec::new();
        loop {
            while pacer.take(now) {
                times.push(now);
            }
            now = now.max(pacer.next()) + Duration::from_nanos(late());
            if now > end {
                return times;
            }
        }
    }

    /// Pseudo-random delays below `1 << bits` nanoseconds.
    fn delays(bits: u32) -> impl FnMut() -> u64 {
        let mut random = 7u64;
        move || {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            random >> (64 - bits)
        }
    }

    #[test]
    fn the_rate_is_exact_at_1_7_1000_50000_and_1000000_packets_per_second() {
        for rate in [1, 7, 1000, 50_000, 1_000_000] {
            let got = times(rate, Duration::from_secs(10), || 0).len();
            let wanted = rate as usize * 10;
            let group = rate as usize / 10_000 + 1;
            assert!(got.abs_diff(wanted) <= group, "{rate}: {got}");
        }
    }

    #[test]
    fn a_driver_that_wakes_late_by_up_to_half_a_slot_keeps_the_rate() {
        for (rate, bits) in [(100, 22), (1000, 18), (50_000, 13)] {
            let got = times(rate, Duration::from_secs(10), delays(bits)).len();
            let wanted = rate as usize * 10;
            assert!(got.abs_diff(wanted) <= wanted / 1000 + 2, "{rate}: {got}");
        }
    }

    #[test]
    fn a_delay_of_four_slots_now_and_then_is_made_up() {
        let mut count = 0u64;
        let late = || {
            count += 1;
            if count.is_multiple_of(20) {
                4_000_000
            } else {
                50_000
            }
        };
        let got = times(1000, Duration::from_secs(10), late).len();
        assert!((9990..=10_001).contains(&got), "{got}");
    }

    #[test]
    fn below_ten_thousand_a_second_packets_keep_half_a_slot_apart() {
        for rate in [10, 1000, 9999] {
            let times = times(rate, Duration::from_secs(10), delays(24));
            let half = Duration::from_nanos(500_000_000 / u64::from(rate) - 1);
            let close = times.windows(2).find(|w| w[1].since(w[0]) < half);
            assert_eq!(close, None, "{rate}");
        }
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_sees_more_than_twice_the_rate(
            rate in 1..500_000u32, bits in 1..28u32, stretch_us in 0..50_000u64,
        ) {
            let times = times(rate, Duration::from_millis(60), delays(bits));
            let stretch = Duration::from_micros(stretch_us);
            // What twice the rate gives, the packets that may leave together, and one at each end.
            let most = 2 * u64::from(rate) * (stretch_us + 50) / 1_000_000 + 2;
            let mut last = 0;
            for (first, at) in times.iter().enumerate() {
                while times.get(last).is_some_and(|t| t.since(*at) <= stretch) {
                    last += 1;
                }
                prop_assert!((last - first) as u64 <= most, "{} in {:?}", last - first, stretch);
            }
        }

        #[test]
        fn a_stall_is_not_made_up(rate in 1..1_000_000u32, stall_ms in 25..100_000u64) {
            let mut pacer = Pacer::new(Some(rate));
            pacer.take(Instant::from_millis(10));
            let end = Instant::from_millis(10 + stall_ms) + Duration::from_secs(1);
            let mut now = Instant::from_millis(10 + stall_ms);
            let mut count = 0u64;
            while count < 2000 && now <= end {
                count += u64::from(pacer.take(now));
                now = now.max(pacer.next());
            }
            let took = now.since(Instant::from_millis(10 + stall_ms));
            let slots = took.as_nanos() * u128::from(rate) / 1_000_000_000;
            // One slot, or what the tolerance holds, may be regained.
            let regained = u128::from(rate) / 50 + 2;
            prop_assert!(u128::from(count) <= slots + regained, "{} in {:?}", count, took);
        }
    }
}
