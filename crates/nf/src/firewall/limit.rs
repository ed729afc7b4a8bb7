//! Rates and quotas, as nftables counts them.

use plumb_wire::Instant;

use super::syntax::ast::{Limit, Quota};

/// A token bucket whose tokens are nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    limit: Limit,
    tokens: u64,
    last: Option<Instant>,
}

impl Bucket {
    pub(super) const fn new(limit: Limit) -> Self {
        Self {
            limit,
            tokens: most(&limit),
            last: None,
        }
    }

    /// Says whether a packet of `len` bytes matches: while the rate is kept, or if it is asked for
    /// what is over, when it is not.
    pub(super) fn matches(&mut self, len: u32, now: Instant) -> bool {
        let limit = &self.limit;
        let passed = now.since(self.last.unwrap_or(now)).as_nanos();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        self.last = Some(now);
        let tokens = self.tokens.saturating_add(passed).min(most(limit));
        let amount = if limit.is_bytes { u64::from(len) } else { 1 };
        let cost = ratio(limit.unit_ns, amount, limit.rate);
        let kept = tokens >= cost;
        self.tokens = if kept { tokens - cost } else { tokens };
        kept != limit.over
    }
}

/// What a full bucket holds.
const fn most(limit: &Limit) -> u64 {
    if limit.is_bytes {
        ratio(limit.unit_ns, limit.rate + limit.burst, limit.rate)
    } else {
        (limit.unit_ns / limit.rate).saturating_mul(limit.burst)
    }
}

const fn ratio(unit: u64, amount: u64, rate: u64) -> u64 {
    let wide = unit as u128 * amount as u128 / rate as u128;
    if wide > u64::MAX as u128 {
        return u64::MAX;
    }
    #[expect(clippy::cast_possible_truncation, reason = "was compared above")]
    {
        wide as u64
    }
}

/// Bytes that may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowance {
    pub(super) quota: Quota,
    pub(super) used: u64,
}

impl Allowance {
    pub(super) const fn new(quota: Quota) -> Self {
        Self {
            quota,
            used: quota.used,
        }
    }

    /// Says whether a packet of `len` bytes matches: while the quota lasts, or if it is asked for
    /// what is over, when it is used up.
    pub(super) fn matches(&mut self, len: u32) -> bool {
        self.used = self.used.saturating_add(len.into());
        (self.used > self.quota.bytes) == self.quota.over
    }
}
