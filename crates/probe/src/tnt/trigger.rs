//! Where a hidden tunnel may be: pairs of hops with a sign that routers between them are missing.

use alloc::vec::Vec;
use core::net::IpAddr;

use plumb_record::{Trigger, TunnelType};
use plumb_wire::is_reserved;

use super::view::View;
use super::visible::Span;
use crate::job::{Reveal, TunnelOptions};

/// A pair of hops to be looked between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Position of the ingress; it may be silent.
    pub(crate) ingress: usize,
    /// Position of the last router that answers before what is hidden: the ingress, or the router
    /// before a silent one.
    pub(crate) start: usize,
    /// Position of the first router that answers behind what is hidden.
    pub(crate) egress: usize,
    pub(crate) trigger: Trigger,
    /// Hidden routers that the trigger suggests.
    pub(crate) estimate: Option<u8>,
    /// The opaque tunnel, by its index, whose hidden routers these are.
    pub(crate) span: Option<usize>,
}

/// Behind the egress of a tunnel whose return path is a tunnel too, the asymmetry does not vanish
/// but shrinks by one per hop. What lies in this shadow is not the sign of another tunnel.
#[derive(Clone, Copy, Debug, Default)]
struct Shadow(Option<(i16, usize)>);

impl Shadow {
    fn explains(self, value: i16, at: usize) -> bool {
        self.0.is_some_and(|(cast, by)| {
            let since = i16::try_from(at - by).unwrap_or(i16::MAX);
            value <= cast.saturating_sub(since)
        })
    }
}

/// Finds the candidates of a path, in order.
pub(crate) fn candidates(
    view: &View<'_>,
    spans: &[Span],
    options: &TunnelOptions,
) -> Vec<Candidate> {
    let mut found = Vec::new();
    let mut rtla_shadow = Shadow::default();
    let mut frpla_shadow = Shadow::default();
    let is_lsr = |at: usize| spans.iter().any(|s| s.lsrs.contains(&at));
    for at in 1..view.hops.len() {
        let hop = &view.hops[at];
        let Some(addr) = hop.time_exceeded().map(|a| a.addr) else {
            continue;
        };
        if is_reserved(addr) || is_lsr(at) {
            continue;
        }
        let ends = spans.iter().position(|s| s.egress == Some(at));
        let opaque = ends.filter(|i| spans[*i].kind == TunnelType::Opaque);
        if opaque.is_none() {
            let repeats_next = view.get(at + 1).and_then(|h| h.addr()) == Some(addr);
            if ends.is_some() || repeats_next {
                continue;
            }
        }
        let repeats = opaque.is_none() && view.hops[at - 1].addr() == Some(addr);
        let Some(ingress) = at.checked_sub(if repeats { 2 } else { 1 }) else {
            continue;
        };
        if opaque.is_none() && is_lsr(ingress) {
            continue;
        }
        let Some(start) = start_for(view, ingress, addr) else {
            continue;
        };
        let (rtla, frpla) = (hop.rtla(), hop.frpla());
        let above = |value: Option<i16>, threshold: i16, shadow: Shadow| {
            value.filter(|v| *v >= threshold && !shadow.explains(*v, at))
        };
        let trigger = if opaque.is_some() {
            Some((
                Trigger::LseTtl,
                hop.top().map(|top| 255 - i16::from(top.ttl)),
            ))
        } else if repeats {
            Some((Trigger::DupIp, None))
        } else if let Some(value) = above(rtla, options.rtla_threshold, rtla_shadow) {
            Some((Trigger::Rtla, Some(value)))
        } else if let Some(value) = above(frpla, options.frpla_threshold, frpla_shadow) {
            Some((Trigger::Frpla, Some(value)))
        } else if options.reveal == Reveal::Always {
            Some((Trigger::Forced, None))
        } else {
            None
        };
        let Some((trigger, estimate)) = trigger else {
            continue;
        };
        if trigger != Trigger::Forced {
            rtla_shadow = rtla.map_or(rtla_shadow, |v| Shadow(Some((v, at))));
            frpla_shadow = frpla.map_or(frpla_shadow, |v| Shadow(Some((v, at))));
        }
        found.push(Candidate {
            ingress,
            start,
            egress: at,
            trigger,
            estimate: estimate.and_then(|e| u8::try_from(e).ok()),
            span: opaque,
        });
    }
    found
}

/// The last router that answers before what is hidden, if a revelation can be checked against it.
fn start_for(view: &View<'_>, ingress: usize, egress: IpAddr) -> Option<usize> {
    let start = if view.hops[ingress].is_silent() {
        ingress.checked_sub(1)?
    } else {
        ingress
    };
    let addr = view.hops[start].time_exceeded()?.addr;
    (addr != egress && !is_reserved(addr)).then_some(start)
}
