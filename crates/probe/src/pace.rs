//! The cap on packets per second.

use core::time::Duration;

use plumb_wire::Instant;

/// How long a sender that was held up may run behind its grid and still catch up. Below one slot
/// per this time no two packets ever leave in the same slot.
const TOLERANCE: Duration = Duration::from_micros(200);

/// One slot per packet on a fixed time grid (GCRA, ITU-T I.371). Who comes late by no more than one
/// slot or 200 µs, whichever is more, keeps the grid; who comes later starts a new one, so that a
/// stall is never followed by a burst.
#[derive(Debug)]
pub(crate) struct Pacer {
    /// Nanoseconds between slots in 32.32 fixed point, 0 without a cap.
    gap: u64,
    next: Instant,
    fraction: u32,
    tolerance: Duration,
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
        Self {
            gap,
            next: Instant::ZERO,
            fraction: 0,
            tolerance: TOLERANCE.max(Duration::from_nanos(gap >> 32)),
        }
    }

    /// When the next packet may leave.
    pub(crate) const fn next(&self) -> Instant {
        self.next
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
        if now < self.next {
            return false;
        }
        let from = if now.since(self.next) > self.tolerance {
            now
        } else {
            self.next
        };
        let step = self.gap + u64::from(self.fraction);
        self.fraction = step as u32;
        self.next = from + Duration::from_nanos(step >> 32);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Packets that leave in `duration` when the driver wakes whenever the pacer says, late by
    /// what `late` gives.
    fn sent(rate: u32, duration: Duration, mut late: impl FnMut() -> u64) -> u64 {
        let mut pacer = Pacer::new(Some(rate));
        let mut now = Instant::from_millis(5000);
        assert!(pacer.take(now));
        let end = now + duration;
        let mut count = 0;
        loop {
            now = now.max(pacer.next()) + Duration::from_nanos(late());
            if now > end {
                return count;
            }
            while pacer.take(now) {
                count += 1;
            }
        }
    }

    #[test]
    fn the_rate_is_exact_at_1_7_1000_50000_and_1000000_packets_per_second() {
        for rate in [1, 7, 1000, 50_000, 1_000_000] {
            let got = sent(rate, Duration::from_secs(10), || 0);
            assert!(got.abs_diff(u64::from(rate) * 10) <= 1, "{rate}: {got}");
        }
    }

    #[test]
    fn small_delays_of_the_driver_do_not_lower_the_rate() {
        let mut random = 7u64;
        let got = sent(1000, Duration::from_secs(10), || {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            random >> 45 // up to 0.52 ms
        });
        assert!((9999..=10_001).contains(&got), "{got}");
    }

    proptest! {
        #[test]
        fn a_stall_is_not_followed_by_a_burst(rate in 1..1_000_000u32, stall_ms in 0..100_000u64) {
            let mut pacer = Pacer::new(Some(rate));
            pacer.take(Instant::from_millis(10));
            let now = Instant::from_millis(10 + stall_ms);
            let mut burst = 0;
            while pacer.take(now) { burst += 1; }
            let slots = u64::from(rate) / 5000 + 2;
            prop_assert!(burst <= slots, "{} packets at once", burst);
        }
    }
}
