//! Implicit tunnels that only the detour of their time-exceeded messages gives away.

use alloc::vec::Vec;

use plumb_record::{Trigger, TunnelType};

use super::view::View;
use super::visible::Span;

/// Finds runs of hops whose U-turn signatures add up to `threshold`, outside of the positions that
/// `taken` says belong to a tunnel already.
///
/// A router `i` of a tunnel of length `n` has a signature of `2(n - i + 1)` (technical report,
/// eq. 1), so only positive ones count. Where RTLA is defined it explains the same difference by a
/// return tunnel, and the hop is no sign of a U-turn.
pub(crate) fn classify(
    view: &View<'_>,
    taken: impl Fn(usize) -> bool,
    threshold: i16,
) -> Vec<Span> {
    let signature = |at: usize| -> Option<i16> {
        let hop = view.get(at)?;
        let uturn = hop.uturn().filter(|u| *u > 0)?;
        (hop.rtla() != Some(uturn) && !taken(at)).then_some(uturn)
    };
    let mut spans = Vec::new();
    let mut at = 0;
    while at < view.hops.len() {
        let mut end = at;
        let mut sum = 0i16;
        let mut last = 0;
        while let Some(uturn) = signature(end) {
            sum = sum.saturating_add(uturn);
            last = uturn;
            end += 1;
        }
        if end == at {
            at += 1;
            continue;
        }
        if sum >= threshold {
            // The last signature says how far the end is: 2 if the egress follows, 4 if one more
            // router does that answers without the detour, as an ending hop.
            let ending_hop = last == 4
                && view.get(end).is_some_and(|h| h.time_exceeded().is_some())
                && !taken(end);
            let lsrs = at..end + usize::from(ending_hop);
            spans.push(Span {
                kind: TunnelType::Implicit,
                trigger: Trigger::Uturn,
                ingress: at.checked_sub(1),
                egress: Some(lsrs.end).filter(|e| *e < view.hops.len()),
                lsrs,
            });
        }
        at = end;
    }
    spans
}
