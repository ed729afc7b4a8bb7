//! Tunnels whose routers answer: explicit, implicit by quoted TTL, and the visible end of opaque
//! ones.

use alloc::vec::Vec;
use core::ops::Range;

use plumb_record::{Trigger, TunnelType};

use super::view::{HopView, View};

/// A tunnel by positions in the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) kind: TunnelType,
    pub(crate) trigger: Trigger,
    /// Position before the first router inside; `None` if the path begins inside.
    pub(crate) ingress: Option<usize>,
    /// Routers inside that the trace shows.
    pub(crate) lsrs: Range<usize>,
    /// Position of the first router behind; `None` if the path ends inside.
    pub(crate) egress: Option<usize>,
}

/// Finds the tunnels that the trace itself shows, in order. `opaque_ttl` is the least label TTL
/// that makes a tunnel opaque.
pub(crate) fn classify(view: &View<'_>, opaque_ttl: u8) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut at = 0;
    while let Some(hop) = view.get(at) {
        if is_opaque(hop, opaque_ttl) {
            spans.push(Span {
                kind: TunnelType::Opaque,
                trigger: Trigger::LseTtl,
                ingress: at.checked_sub(1),
                lsrs: at..at,
                egress: Some(at),
            });
            at += 1;
        } else if is_inside(hop, opaque_ttl) {
            let end = run_end(view, at, opaque_ttl);
            let labelled = view.hops[at..end].iter().any(|h| h.top().is_some());
            let span = if labelled {
                explicit(view, at..end)
            } else {
                implicit(view, at..end, spans.last())
            };
            at = end.max(span.lsrs.end);
            spans.push(span);
        } else {
            at += 1;
        }
    }
    spans
}

fn is_opaque(hop: &HopView<'_>, opaque_ttl: u8) -> bool {
    hop.top()
        .is_some_and(|top| top.ttl >= opaque_ttl && top.ttl < 255)
}

/// Says whether the hop shows by itself that it is inside a tunnel: it quotes a label that expired
/// there, or an IP TTL that has not.
fn is_inside(hop: &HopView<'_>, opaque_ttl: u8) -> bool {
    match hop.top() {
        Some(_) => !is_opaque(hop, opaque_ttl),
        None => hop.quoted_ttl().is_some_and(|q| q > 1 && q < 255),
    }
}

/// The egress itself answers with explicit null: it is the last of its tunnel.
fn ends_with_explicit_null(hop: &HopView<'_>) -> bool {
    hop.time_exceeded()
        .is_some_and(|a| matches!(a.stack.as_slice(), [only] if only.is_explicit_null()))
}

/// End of the run of routers inside that begins at `start`: neighbours, and across one router that
/// does not show itself but has routers inside on both sides.
fn run_end(view: &View<'_>, start: usize, opaque_ttl: u8) -> usize {
    let inside = |at: usize| view.get(at).is_some_and(|h| is_inside(h, opaque_ttl));
    let mut end = start + 1;
    while !ends_with_explicit_null(&view.hops[end - 1]) {
        if inside(end) {
            end += 1;
        } else if inside(end + 1) && bridges(view, end) {
            end += 2;
        } else {
            break;
        }
    }
    end
}

/// Says whether the router at `at`, which shows nothing, belongs to one tunnel with the routers
/// inside on both sides of it.
fn bridges(view: &View<'_>, at: usize) -> bool {
    let [before, hop, after] = [at - 1, at, at + 1].map(|i| &view.hops[i]);
    if before.top().is_none() && after.top().is_none() {
        // Without labels only a quoted TTL that goes on counting joins them.
        return hop.is_silent()
            && after.quoted_ttl() == before.quoted_ttl().and_then(|q| q.checked_add(2));
    }
    // TNT's "Juniper implicit": Junos routers that do not quote labels among some that do. One
    // that quotes a TTL of 1 may as well be the egress of one tunnel and the ingress of the next.
    hop.is_silent() || hop.is_junos() && hop.quoted_ttl().is_some_and(|q| q != 1)
}

fn explicit(view: &View<'_>, run: Range<usize>) -> Span {
    let last = run.end - 1;
    let (lsrs, egress) = if ends_with_explicit_null(&view.hops[last]) {
        (before_6pe_egress(view, run.start, last)..last, Some(last))
    } else {
        (
            run.clone(),
            Some(run.end).filter(|at| *at < view.hops.len()),
        )
    };
    Span {
        kind: TunnelType::Explicit,
        trigger: Trigger::Lse,
        ingress: lsrs.start.checked_sub(1),
        lsrs,
        egress,
    }
}

/// Over 6PE (RFC 4798) the routers inside have no IPv6 and are silent; only the egress shows the
/// inner label, IPv6 explicit null. The silent hops right before it are inside.
fn before_6pe_egress(view: &View<'_>, start: usize, egress: usize) -> usize {
    let is_v6 = view.hops[egress].addr().is_some_and(|a| a.is_ipv6());
    if !is_v6 || start < egress {
        return start;
    }
    let silent = view.hops[..egress].iter().rev();
    match egress - silent.take_while(|h| h.is_silent()).count() {
        // The path begins with silent hops: where the tunnel does is not known.
        0 => start,
        first => first,
    }
}

/// A run of quoted TTLs above 1. The first router inside quotes 1 like any other, and so does the
/// ending hop, which has written the label's TTL back; both are added.
fn implicit(view: &View<'_>, run: Range<usize>, before: Option<&Span>) -> Span {
    let free_from = before.map_or(0, |s| s.egress.unwrap_or(s.lsrs.end));
    let quoted = view.hops[run.start].quoted_ttl().map_or(2, usize::from);
    let first = (run.start + 1)
        .checked_sub(quoted)
        .filter(|first| *first > free_from || *first == 0)
        .unwrap_or(run.start);
    let last = &view.hops[run.end - 1];
    let ending_hop = match view.get(run.end) {
        None => false,
        Some(hop) if hop.is_silent() => true,
        // The destination is no label switching router, whatever precedes it.
        Some(hop) if hop.time_exceeded().is_none() => false,
        // A router one hop before the ending hop sends its time-exceeded messages there and back:
        // two hops more than the direct way. Then the run already has the router before the
        // egress, and what follows is the egress.
        Some(_) => !last.uturn().is_some_and(|u| (1..=3).contains(&u)),
    };
    let end = run.end + usize::from(ending_hop);
    Span {
        kind: TunnelType::Implicit,
        trigger: Trigger::QuotedTtl,
        ingress: first.checked_sub(1),
        lsrs: first..end,
        egress: Some(end).filter(|at| *at < view.hops.len()),
    }
}
