//! Whether a record can be one of its job.
//!
//! What is written of records (tables, other formats) may rely on what this makes sure of.

use core::net::IpAddr;

use plumb_record::{Hop, Lsr, Method, Ping, PingReply, Trace};

/// The first field of a trace that does not fit its job.
pub(crate) fn trace(
    trace: &Trace,
    src: IpAddr,
    dst: IpAddr,
    method: Method,
) -> Result<(), &'static str> {
    let ends = trace.src == src && trace.dst == dst && trace.dst_name.is_none();
    check(ends, "addresses")?;
    check(trace.method == method, "method")?;
    check(is_time(trace.duration_ns), "duration")?;
    check(is_time(trace.rtt_error_ns.unwrap_or(0)), "error bound")?;
    let mut ttls = trace.hops.iter().map(|hop| hop.ttl);
    check(trace.hops.iter().all(is_hop), "hops")?;
    check(ttls.clone().is_sorted_by(|a, b| a < b), "TTLs")?;
    check(ttls.all(|ttl| ttl >= trace.first_ttl), "TTLs")?;
    let tunnels = trace.tunnels.iter().enumerate();
    // Between any two hops one tunnel and its suspicions.
    check(trace.tunnels.len() <= MOST_TUNNELS, "tunnels")?;
    for (index, tunnel) in tunnels {
        check(usize::from(tunnel.id) == index, "tunnels")?;
        let lsrs = tunnel.lsrs.iter().chain(&tunnel.hidden_egress);
        check(tunnel.lsrs.len() <= MOST_LSRS, "tunnels")?;
        check(lsrs.into_iter().all(is_lsr), "tunnels")?;
    }
    let named = trace.hops.iter().filter_map(|hop| hop.tunnel);
    let mut ids = named.map(|place| usize::from(place.id));
    check(ids.all(|id| id < trace.tunnels.len()), "tunnels")
}

/// The first field of a hop that does not fit any job.
pub(crate) fn hop(hop: &Hop) -> Result<(), &'static str> {
    check(is_hop(hop), "hop")
}

/// The first field of a reply that does not fit its job.
pub(crate) fn reply(reply: &PingReply, dst: IpAddr) -> Result<(), &'static str> {
    check(reply.dst == dst, "addresses")?;
    check(is_time(reply.rtt_ns.unwrap_or(0)), "round-trip time")
}

/// The first field of a ping that does not fit its job.
pub(crate) fn ping(ping: &Ping, src: IpAddr, dst: IpAddr) -> Result<(), &'static str> {
    let ends = ping.src == src && ping.dst == dst && ping.dst_name.is_none();
    check(ends, "addresses")?;
    check(ping.received <= ping.sent, "counters")?;
    let times = [
        ping.rtt_min_ns,
        ping.rtt_mean_ns,
        ping.rtt_max_ns,
        ping.rtt_stddev_ns,
        ping.rtt_error_ns,
    ];
    let mut known = times.into_iter().flatten();
    check(known.all(is_time), "round-trip times")
}

/// Most tunnels of a trace: two between any two hops.
const MOST_TUNNELS: usize = 512;
/// Most routers in a tunnel.
const MOST_LSRS: usize = 256;
/// Most vendors and labels of a hop: more than any packet has room for.
const MOST_LABELS: usize = 512;
/// Longest name of a vendor.
const LONGEST_VENDOR: usize = 32;

const fn check(holds: bool, field: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(field) }
}

/// Whether this many nanoseconds may have passed: some months at most, so that sums make sense.
const fn is_time(nanos: u64) -> bool {
    nanos < 1 << 53
}

fn is_hop(hop: &Hop) -> bool {
    hop.name.is_none()
        && is_time(hop.rtt_ns.unwrap_or(0))
        && is_time(hop.sent_after_ns)
        && hop.mpls.len() <= MOST_LABELS
        && hop.mpls.iter().all(|lse| lse.label < 1 << 20 && lse.tc < 8)
        && hop.vendor.len() <= MOST_LABELS
        && hop.vendor.iter().all(|name| is_vendor(name))
}

fn is_lsr(lsr: &Lsr) -> bool {
    lsr.name.is_none() && is_time(lsr.rtt_ns.unwrap_or(0))
}

/// Whether a terminal may be shown this.
fn is_vendor(name: &str) -> bool {
    (1..=LONGEST_VENDOR).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
