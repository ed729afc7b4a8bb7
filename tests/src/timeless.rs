//! Traces to be compared, from different runs.

use plumb_record::{Trace, WallTime};

use crate::{Done, Records};

/// A trace without what differs from run to run: times, and what routers count up.
pub fn timeless(trace: &Trace) -> Trace {
    let mut trace = trace.clone();
    trace.start = WallTime(0);
    trace.duration_ns = 0;
    trace.rtt_error_ns = None;
    // A reply that is late costs a probe.
    trace.probes_sent = 0;
    for hop in &mut trace.hops {
        (hop.rtt_ns, hop.sent_after_ns, hop.reply_ip_id) = (None, 0, None);
        hop.attempt = 0;
    }
    for tunnel in &mut trace.tunnels {
        tunnel.probes_sent = 0;
        for lsr in tunnel.lsrs.iter_mut().chain(&mut tunnel.hidden_egress) {
            lsr.rtt_ns = None;
        }
    }
    trace
}

/// The traces of a run by destination, which is the order that does not depend on time.
pub fn traces(done: &Done) -> Vec<Trace> {
    let mut traces: Vec<Trace> = Records::of(done).traces.iter().map(timeless).collect();
    traces.sort_by_key(|trace| trace.dst);
    traces
}
