//! ICMP rate limits.

use plumb_wire::Instant;

use crate::topology::Limit;

/// A token bucket (as RFC 1812 §4.3.2.8 and RFC 4443 §2.4(f) ask for) that is full at first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    tokens: u32,
    /// When the tokens were counted last.
    counted: Instant,
}

impl Bucket {
    pub(crate) const fn full(limit: Limit) -> Self {
        Self {
            tokens: limit.burst,
            counted: Instant::ZERO,
        }
    }

    /// Takes a token, if there is one at `now`.
    pub(crate) fn take(&mut self, limit: Limit, now: Instant) -> bool {
        let elapsed = now.as_nanos().saturating_sub(self.counted.as_nanos());
        let earned = elapsed / limit.interval.max(1);
        if earned >= u64::from(limit.burst - self.tokens) {
            self.tokens = limit.burst;
            self.counted = self.counted.max(now);
        } else {
            self.tokens += u32::try_from(earned).unwrap_or(0);
            self.counted = Instant::from_nanos(self.counted.as_nanos() + earned * limit.interval);
        }
        let available = self.tokens > 0;
        self.tokens -= u32::from(available);
        available
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_at_once_and_then_one_message_per_interval() {
        let limit = Limit {
            interval: 1_000_000,
            burst: 5,
        };
        let mut bucket = Bucket::full(limit);
        let mut passed = 0;
        for micros in 0..20_000 {
            passed += u32::from(bucket.take(limit, Instant::from_nanos(micros * 1000)));
        }
        // 5 at once, then one at each full millisecond of the 20.
        assert_eq!(passed, 5 + 19);
    }
}
