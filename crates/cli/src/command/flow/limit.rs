//! A bound on how many profiles leave in a second.

use core::time::Duration;

use plumb_wire::Instant;

/// A bucket of one second's tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    /// Time that a profile costs.
    cost: Duration,
    /// When the bucket would be full.
    full: Instant,
}

impl Limit {
    /// `rate` a second, from `now` on.
    pub(super) fn new(rate: u32, now: Instant) -> Self {
        let cost = Duration::from_secs(1) / rate.max(1);
        Self { cost, full: now }
    }

    /// Whether one more may pass.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let full = self.full.max(now) + self.cost;
        if full > now + Duration::from_secs(1) {
            return false;
        }
        self.full = full;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lets_as_many_pass_as_it_should_however_they_come() {
        let start = Instant::from_nanos(1_000_000_000);
        let mut limit = Limit::new(10, start);
        let burst = (0..100).filter(|_| limit.take(start)).count();
        assert_eq!(burst, 10);
        assert!(!limit.take(start + Duration::from_millis(99)));
        assert!(limit.take(start + Duration::from_millis(100)));
        let later = start + Duration::from_secs(60);
        assert_eq!((0..100).filter(|_| limit.take(later)).count(), 10);
    }
}
