//! The record of a finished trace.

use alloc::string::ToString;
use alloc::vec::Vec;

use plumb_record::{
    Hop, HopTunnel, Lsr, LsrMethod, Method, Revelation, Role, StopReason, Trace, TraceSchema,
    TraceType, Trigger, Tunnel, TunnelType, Variant, WallTime,
};
use plumb_wire::Instant;

use crate::observation::nanos;
use crate::reply::ReplyKind;
use crate::slab::Key;
use crate::tnt::reveal::Found;
use crate::tnt::trigger::Candidate;
use crate::tnt::uturn;
use crate::tnt::view::View;
use crate::tnt::visible::Span;
use crate::trace_job::{Revealed, TraceJob, Tunnels};
use crate::walk::Path;

/// A tunnel with its place on the path.
struct Placed {
    tunnel: Tunnel,
    ingress: Option<usize>,
    lsrs: core::ops::Range<usize>,
    egress: Option<usize>,
}

/// Writes the record of `job`; `key` is the job's own.
pub(crate) fn trace(job: &TraceJob, key: Key, now: Instant) -> Trace {
    let nothing = Path {
        first_ttl: job.spec.options.first_ttl,
        hops: Vec::new(),
        stop: StopReason::Interrupted,
    };
    let path = job.path.as_ref().unwrap_or(&nothing);
    let view = View::new(path, |addr| job.echoes.get(addr));
    let mut hops = hops(job, path, &view);
    let tunnels = match (&job.found, &job.spec.options.tunnels) {
        (Some(found), Some(options)) => {
            let mut placed = place(&view, found, key);
            let taken = |at: usize| {
                placed
                    .iter()
                    .any(|p| p.lsrs.contains(&at) || is_opaque_egress(p, at))
            };
            let detours = uturn::classify(&view, taken, options.uturn_threshold);
            placed.extend(detours.iter().map(|span| visible(&view, span)));
            number(placed, &mut hops)
        }
        _ => Vec::new(),
    };
    let dst_port = match job.spec.options.method {
        Method::IcmpParis => None,
        Method::UdpParis | Method::TcpParis => Some(job.spec.options.dst_port),
    };
    Trace {
        schema: TraceSchema::V1,
        kind: TraceType::Trace,
        method: job.spec.options.method,
        src: job.spec.src,
        dst: job.spec.dst,
        dst_name: None,
        src_port: job.flow,
        dst_port,
        start: WallTime::default(),
        duration_ns: nanos(now.since(job.started)),
        rtt_error_ns: None,
        stop_reason: if job.interrupted {
            StopReason::Interrupted
        } else {
            path.stop
        },
        probes_sent: job.probes,
        first_ttl: path.first_ttl,
        hops,
        tunnels,
    }
}

fn hops(job: &TraceJob, path: &Path, view: &View<'_>) -> Vec<Hop> {
    path.hops
        .iter()
        .zip(&view.hops)
        .map(|(hop, seen)| match &hop.answer {
            None => Hop {
                ttl: seen.ttl,
                attempt: hop.attempts,
                sent_after_ns: nanos(hop.sent.since(job.started)),
                ..Hop::default()
            },
            Some(answer) => Hop {
                // Whoever answers a probe with an echo reply need not be pinged.
                echo_reply_ttl: seen
                    .echo_ttl
                    .or_else(|| (answer.kind == ReplyKind::EchoReply).then_some(answer.reply_ttl)),
                frpla: seen.frpla(),
                rtla: seen.rtla(),
                uturn: seen.uturn(),
                vendor: seen.vendors().iter().map(ToString::to_string).collect(),
                ..answer.to_hop(seen.ttl, job.started)
            },
        })
        .collect()
}

fn is_opaque_egress(placed: &Placed, at: usize) -> bool {
    placed.tunnel.kind == TunnelType::Opaque && placed.egress == Some(at)
}

/// The tunnels that the trace showed and those that were revealed.
fn place(view: &View<'_>, found: &Tunnels, key: Key) -> Vec<Placed> {
    let mut placed: Vec<Placed> = found.spans.iter().map(|s| visible(view, s)).collect();
    for (candidate, revealed) in found.candidates.iter().zip(&found.revealed) {
        let revealed = revealed.as_deref();
        match candidate.span {
            Some(span) => reveal_opaque(&mut placed[span].tunnel, candidate, revealed, key),
            None => placed.extend(invisible(view, candidate, revealed, key)),
        }
    }
    placed
}

fn visible(view: &View<'_>, span: &Span) -> Placed {
    let addr = |at: usize| view.get(at).and_then(|h| h.addr());
    let lsrs: Vec<Lsr> = view.hops[span.lsrs.clone()]
        .iter()
        .map(|hop| Lsr {
            addr: hop.addr(),
            name: None,
            method: LsrMethod::Seen,
            step: 0,
            ttl: hop.ttl,
            rtt_ns: hop.answer.map(|a| nanos(a.rtt)),
            reply_ttl: hop.answer.map(|a| a.reply_ttl),
            quoted_ttl: hop.answer.and_then(|a| a.quoted_ttl),
            echo_reply_ttl: hop.echo_ttl,
        })
        .collect();
    let (ingress, egress) = (span.ingress.and_then(addr), span.egress.and_then(addr));
    let ends_labelled = span.egress.and_then(|at| view.get(at)?.top()).is_some();
    let tunnel = Tunnel {
        id: 0,
        kind: span.kind,
        variant: (span.kind == TunnelType::Explicit && ends_labelled).then_some(Variant::Uhp),
        trigger: span.trigger,
        ingress,
        egress,
        complete: egress.is_some() && lsrs.iter().all(|l| l.addr.is_some()),
        lsrs,
        hidden_egress: None,
        revelation: match span.kind {
            TunnelType::Opaque => Revelation::NotTried,
            TunnelType::Explicit | TunnelType::Implicit | TunnelType::Invisible => {
                Revelation::NotNeeded
            }
        },
        last_step: None,
        estimated_lsrs: None,
        probes_sent: 0,
    };
    Placed {
        tunnel,
        ingress: span.ingress,
        lsrs: span.lsrs.clone(),
        egress: span.egress,
    }
}

fn reveal_opaque(
    tunnel: &mut Tunnel,
    candidate: &Candidate,
    revealed: Option<&Revealed>,
    key: Key,
) {
    tunnel.estimated_lsrs = candidate.estimate;
    tunnel.complete = false;
    let Some(revealed) = revealed else {
        return;
    };
    tunnel.revelation = revealed.outcome.result;
    tunnel.last_step = revealed.outcome.last_step;
    tunnel.lsrs = revealed.lsrs();
    tunnel.probes_sent = revealed.cost(key);
    let expected = candidate.estimate.map_or(0, usize::from);
    tunnel.complete = revealed.outcome.complete && tunnel.lsrs.len() >= expected;
}

/// The tunnel at a candidate, or the suspicion of one. Where there was no sign and nothing was
/// found, there is nothing to tell.
fn invisible(
    view: &View<'_>,
    candidate: &Candidate,
    revealed: Option<&Revealed>,
    key: Key,
) -> Option<Placed> {
    let addr = |at: usize| view.get(at).and_then(|h| h.addr());
    let uhp = candidate.trigger == Trigger::DupIp;
    let result = revealed.map_or(Revelation::NotTried, |r| r.outcome.result);
    if candidate.trigger == Trigger::Forced && result != Revelation::Revealed {
        return None;
    }
    let mut lsrs = revealed.map(Revealed::lsrs).unwrap_or_default();
    // With ultimate hop popping the egress is hidden too: it is the last router found.
    let hidden_egress = if uhp { lsrs.pop() } else { None };
    let egress = if uhp {
        hidden_egress.as_ref().and_then(|l: &Lsr| l.addr)
    } else {
        addr(candidate.egress)
    };
    let tunnel = Tunnel {
        id: 0,
        kind: TunnelType::Invisible,
        variant: Some(if uhp { Variant::Uhp } else { Variant::Php }),
        trigger: candidate.trigger,
        ingress: addr(candidate.ingress),
        egress,
        lsrs,
        hidden_egress,
        complete: revealed.is_some_and(|r| r.outcome.complete),
        revelation: result,
        last_step: revealed.and_then(|r| r.outcome.last_step),
        estimated_lsrs: candidate.estimate,
        probes_sent: revealed.map_or(0, |r| r.cost(key)),
    };
    let sure = uhp || result == Revelation::Revealed;
    let behind = candidate.ingress + 1;
    Some(Placed {
        tunnel,
        ingress: sure.then_some(candidate.ingress),
        lsrs: behind..behind,
        egress: (sure && !uhp).then_some(candidate.egress),
    })
}

impl Revealed {
    fn lsrs(&self) -> Vec<Lsr> {
        let found = &self.outcome.found;
        let single = found.len() == 1;
        let lsr = |f: &Found| Lsr {
            addr: f.addr,
            name: None,
            method: if single && f.method != LsrMethod::Buddy {
                LsrMethod::OneHop
            } else {
                f.method
            },
            step: f.step,
            ttl: f.ttl,
            rtt_ns: f.rtt_ns,
            reply_ttl: f.reply_ttl,
            quoted_ttl: f.quoted_ttl,
            echo_reply_ttl: f.addr.and_then(|addr| self.echoes.get(addr)),
        };
        found.iter().map(lsr).collect()
    }

    fn cost(&self, key: Key) -> u32 {
        if self.payer == key { self.probes } else { 0 }
    }
}

/// Puts the tunnels in order, numbers them, and writes their roles into the hops. A hop inside a
/// tunnel is that first of all; one that ends a tunnel and begins another names the latter.
fn number(mut placed: Vec<Placed>, hops: &mut [Hop]) -> Vec<Tunnel> {
    let position = |p: &Placed| p.ingress.unwrap_or(p.lsrs.start);
    // By insertion: there are few, and the library's sort would be 5 kB of the unikernel.
    for end in 1..placed.len() {
        let key = |at: usize| placed.get(at).map(|p| (position(p), p.lsrs.start));
        let to = (0..end)
            .rfind(|at| key(*at) <= key(end))
            .map_or(0, |at| at + 1);
        if let Some(unsorted) = placed.get_mut(to..=end) {
            unsorted.rotate_right(1);
        }
    }
    for (p, id) in placed.iter_mut().zip(0u16..) {
        p.tunnel.id = id;
    }
    let mut assign = |at: usize, id: u16, role: Role| {
        if let Some(hop) = hops.get_mut(at).filter(|h| h.addr.is_some()) {
            hop.tunnel = Some(HopTunnel { id, role });
        }
    };
    for p in &placed {
        p.egress
            .into_iter()
            .for_each(|at| assign(at, p.tunnel.id, Role::Egress));
    }
    for p in &placed {
        p.ingress
            .into_iter()
            .for_each(|at| assign(at, p.tunnel.id, Role::Ingress));
    }
    for p in &placed {
        p.lsrs
            .clone()
            .for_each(|at| assign(at, p.tunnel.id, Role::Lsr));
    }
    placed.into_iter().map(|p| p.tunnel).collect()
}
