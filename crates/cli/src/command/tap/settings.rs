//! From arguments to what a session is told.

use core::net::IpAddr;
use plumb_ebpf::tap::cbpf::Program;

use plumb_ebpf::tap::{Limits, Prefix, filter};
use plumb_record::TapLimits;

use crate::args::{RateLimit, Reduction};
use crate::exit::Failure;

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
        packets_per_s: limits.packets_per_s,
        bytes_per_s: limits.bytes_per_s,
        dedup_ns: limits.dedup_ns,
    }
}

/// The program of an expression; none for an empty one.
pub(super) fn compile(expression: &str) -> Result<Option<Program>, Failure> {
    filter::compile(expression)
        .map_err(|error| Failure::usage(format!("--filter {expression:?}: {error}")))
}

/// The prefixes that arguments name, themselves or in files.
pub(super) fn prefixes(arguments: &[String]) -> Result<Vec<Prefix>, Failure> {
    let mut found = Vec::new();
    for argument in arguments {
        if let Some(prefix) = prefix(argument) {
            found.push(prefix);
            continue;
        }
        let file = std::fs::read_to_string(argument).map_err(|error| {
            Failure::usage(format!(
                "--cidr {argument:?} is neither a prefix such as 10.2.0.0/16 nor a file: {error}"
            ))
        })?;
        for (line, text) in (1..).zip(file.lines()) {
            let text = text.split('#').next().unwrap_or_default().trim();
            if !text.is_empty() {
                found.push(prefix(text).ok_or_else(|| {
                    Failure::usage(format!(
                        "{argument}, line {line}: {text:?} is no prefix such as 10.2.0.0/16"
                    ))
                })?);
            }
        }
    }
    Ok(found)
}

/// Reads `10.2.0.0/16`, `-2001:db8::/32`, or an address alone.
fn prefix(text: &str) -> Option<Prefix> {
    let (include, text) = match text.strip_prefix('-') {
        Some(rest) => (false, rest),
        None => (true, text.strip_prefix('+').unwrap_or(text)),
    };
    let (address, len) = match text.split_once('/') {
        Some((address, len)) => (address, Some(len.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let len = len.unwrap_or(most);
    (len <= most).then_some(Prefix {
        address,
        len,
        include,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::OneIn;

    #[test]
    fn a_prefix_says_whether_its_packets_are_wanted() {
        let of = |address: [u8; 4], len, include| {
            Some(Prefix {
                address: address.into(),
                len,
                include,
            })
        };
        assert_eq!(prefix("10.2.0.0/16"), of([10, 2, 0, 0], 16, true));
        assert_eq!(prefix("-10.2.3.4"), of([10, 2, 3, 4], 32, false));
        assert_eq!(prefix("+10.2.3.4/0").map(|p| p.len), Some(0));
        assert!(prefix("-2001:db8::/32").is_some_and(|p| !p.include && p.len == 32));
        for wrong in ["", "-", "10.2.0.0/33", "10.2/16", "::/129", "a file"] {
            assert_eq!(prefix(wrong), None, "{wrong}");
        }
        assert!(prefixes(&["/nonexistent".to_owned()]).is_err());
    }

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
