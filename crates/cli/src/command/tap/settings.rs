//! From arguments to what a session is told.

use plumb_ebpf::tap::Limits;
use plumb_record::TapLimits;

use crate::args::{RateLimit, Reduction};

/// Changes limits as asked; what was not said stays.
pub(super) fn reduce(limits: &mut Limits, reduction: &Reduction) {
    if let Some(snaplen) = reduction.snaplen {
        limits.snaplen = snaplen;
    }
    if let Some(sample) = reduction.sample {
        limits.sample = sample.0;
    }
    if let Some(sample) = reduction.sample_flows {
        limits.sample_flows = sample.0;
    }
    if let Some(headers) = reduction.headers {
        limits.headers_only = headers;
    }
    if let Some(mask) = reduction.mask {
        limits.mask = mask;
    }
    if let Some(dedup) = reduction.dedup {
        limits.dedup_ns = u64::from(dedup) * 1_000_000;
    }
    for cap in &reduction.rate_limit {
        match *cap {
            RateLimit::Unlimited => {
                limits.packets_per_s = 0;
                limits.bytes_per_s = 0;
            }
            RateLimit::Packets(packets) => limits.packets_per_s = packets,
            RateLimit::Bytes(bytes) => limits.bytes_per_s = bytes,
        }
    }
}

/// As they are shown.
pub(super) const fn shown(limits: &Limits) -> TapLimits {
    TapLimits {
        snaplen_bytes: limits.snaplen,
        sample: limits.sample,
        sample_flows: limits.sample_flows,
        headers_only: limits.headers_only,
        mask: limits.mask,
        packets_per_s: limits.packets_per_s,
        bytes_per_s: limits.bytes_per_s,
        dedup_ns: limits.dedup_ns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::OneIn;

    #[test]
    fn what_was_not_said_stays_and_the_last_cap_of_a_kind_counts() {
        let mut limits = Limits {
            snaplen: 96,
            packets_per_s: 5,
            ..Limits::default()
        };
        let reduction = Reduction {
            sample: Some(OneIn(8)),
            rate_limit: vec![RateLimit::Bytes(7), RateLimit::Packets(9)],
            ..Reduction::default()
        };
        reduce(&mut limits, &reduction);
        let expected = Limits {
            snaplen: 96,
            sample: 8,
            packets_per_s: 9,
            bytes_per_s: 7,
            ..Limits::default()
        };
        assert_eq!(limits, expected);
        let unlimited = Reduction {
            rate_limit: vec![RateLimit::Unlimited],
            ..Reduction::default()
        };
        reduce(&mut limits, &unlimited);
        assert_eq!((limits.packets_per_s, limits.bytes_per_s), (0, 0));
    }
}
