//! From the options of a node in the file to its behaviour.

use alloc::format;
use alloc::string::{String, ToString};
use core::time::Duration;

use super::error::TopologyError;
use super::file;
use super::profile::{Limit, LseExpiry, Profile, Vendor};

/// What a router does: the vendor's ways, then the file's defaults, then its own options.
pub(crate) fn router(
    own: &file::Router,
    defaults: &file::Router,
) -> Result<Profile, TopologyError> {
    let mut p = Profile::of(own.vendor.or(defaults.vendor).unwrap_or(Vendor::Cisco));
    for layer in [defaults, own] {
        apply(layer, &mut p)?;
    }
    Ok(p)
}

/// What a host does.
pub(crate) fn host(own: &file::Host) -> Result<Profile, TopologyError> {
    let mut p = Profile::of(own.vendor.unwrap_or(Vendor::Linux));
    let place = || format!("host {:?}", own.names);
    set_ttl(&mut p.time_exceeded_ttl, own.time_exceeded_ttl, place)?;
    set_ttl(&mut p.echo_reply_ttl, own.echo_reply_ttl, place)?;
    set(&mut p.silent, own.silent);
    set(&mut p.ip_id, own.ip_id);
    p.unreachable_source = super::profile::UnreachableSource::Probed;
    Ok(p)
}

/// A time in milliseconds, in nanoseconds; `default` if the file does not say.
pub(crate) fn millis(
    value: Option<f64>,
    place: impl FnOnce() -> String,
) -> Result<u64, TopologyError> {
    let Some(value) = value else { return Ok(0) };
    (0.0..=60_000.0)
        .contains(&value)
        .then(|| Duration::try_from_secs_f64(value / 1e3).ok())
        .flatten()
        .and_then(|d| u64::try_from(d.as_nanos()).ok())
        .ok_or_else(|| bad(place(), value, "a time from 0 to 60000 milliseconds"))
}

/// A probability, in 1/10^9.
pub(crate) fn probability(
    value: Option<f64>,
    place: impl FnOnce() -> String,
) -> Result<u32, TopologyError> {
    let Some(value) = value else { return Ok(0) };
    (0.0..=1.0)
        .contains(&value)
        .then(|| Duration::try_from_secs_f64(value).ok())
        .flatten()
        .and_then(|d| u32::try_from(d.as_nanos()).ok())
        .ok_or_else(|| bad(place(), value, "a probability from 0 to 1"))
}

fn apply(o: &file::Router, p: &mut Profile) -> Result<(), TopologyError> {
    let place = || match &o.names {
        Some(names) => format!("router {names:?}"),
        None => "defaults".to_string(),
    };
    set_ttl(&mut p.time_exceeded_ttl, o.time_exceeded_ttl, place)?;
    set_ttl(&mut p.echo_reply_ttl, o.echo_reply_ttl, place)?;
    set_ttl(
        &mut p.time_exceeded_hop_limit,
        o.time_exceeded_hop_limit,
        place,
    )?;
    set_ttl(&mut p.echo_reply_hop_limit, o.echo_reply_hop_limit, place)?;
    set(&mut p.rfc4950, o.rfc4950);
    set(&mut p.extensions, o.extensions);
    set(&mut p.quote, o.quote);
    set(&mut p.quoted_ttl_zero, o.quoted_ttl_zero);
    set(&mut p.quoted_length_swapped, o.quoted_length_swapped);
    set(&mut p.quoted_seq_rewritten, o.quoted_seq_rewritten);
    set(&mut p.unreachable_source, o.unreachable_source);
    set(&mut p.silent, o.silent);
    set(&mut p.ip_id, o.ip_id);
    set(&mut p.ecmp, o.ecmp);
    set(&mut p.lse_expiry, o.lse_expiry);
    set(&mut p.pop_ttl, o.pop_ttl);
    p.errors = limit(o.icmp_rate, o.icmp_burst, "icmp_rate", place)?.or(p.errors);
    p.echoes = limit(o.echo_rate, o.echo_burst, "echo_rate", place)?.or(p.echoes);
    if p.time_exceeded_ttl == 1 && p.lse_expiry == LseExpiry::IcmpTunneling {
        return Err(TopologyError::Contradiction {
            place: place(),
            problem: "icmp-tunneling starts one below time_exceeded_ttl, which is 1",
        });
    }
    Ok(())
}

fn limit(
    rate: Option<f64>,
    burst: Option<u32>,
    key: &str,
    place: impl Fn() -> String,
) -> Result<Option<Limit>, TopologyError> {
    let Some(rate) = rate else {
        return match burst {
            None => Ok(None),
            Some(_) => Err(TopologyError::Contradiction {
                place: place(),
                problem: "a burst is set without its rate",
            }),
        };
    };
    let here = || format!("{}: {key}", place());
    let interval = (0.001..=1e9)
        .contains(&rate)
        .then(|| Duration::try_from_secs_f64(1.0 / rate).ok())
        .flatten()
        .and_then(|d| u64::try_from(d.as_nanos()).ok())
        .ok_or_else(|| bad(here(), rate, "a rate from 0.001 to 1000000000 per second"))?;
    match burst.unwrap_or(1) {
        0 => Err(bad(here(), 0, "a burst of at least 1")),
        burst => Ok(Some(Limit { interval, burst })),
    }
}

fn set<T>(to: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *to = value;
    }
}

fn set_ttl(
    to: &mut u8,
    value: Option<u8>,
    place: impl FnOnce() -> String,
) -> Result<(), TopologyError> {
    if value == Some(0) {
        return Err(bad(place(), 0, "a TTL from 1 to 255"));
    }
    set(to, value);
    Ok(())
}

fn bad(place: String, value: impl ToString, expected: &'static str) -> TopologyError {
    TopologyError::bad(place, &value.to_string(), expected)
}
