//! All that is known of one hop, or of the path where none is selected.

use plumb_record::LabelStackEntry;
use ratatui::text::{Line, Span};

use super::paint::Paint;
use super::{Screen, wrap};
use crate::live::columns::milliseconds;
use crate::live::explain;
use crate::live::model::{HopState, Target, What};

/// Changes that are listed.
const CHANGES: usize = 4;

/// The lines, each at most `width` wide.
pub(super) fn lines(screen: &Screen<'_>, target: &Target, width: usize) -> Vec<Line<'static>> {
    let paint = Paint(screen.ui.look);
    let mut lines = vec![Line::styled(
        screen.ui.look.pick("─", "-").repeat(width),
        paint.faint(),
    )];
    let mut say = |heading: &str, words: String| {
        if words.is_empty() {
            return;
        }
        let indent = 11;
        for (number, part) in wrap(&words, width.saturating_sub(indent))
            .into_iter()
            .enumerate()
        {
            let heading = if number == 0 { heading } else { "" };
            lines.push(Line::from(vec![
                Span::styled(format!("{heading:<indent$}"), paint.strong()),
                Span::raw(part),
            ]));
        }
    };
    let selected = screen.ui.selected.and_then(|ttl| target.hop(ttl));
    if let Some(hop) = selected {
        describe(screen, target, hop, &mut say);
    }
    let ttl = selected.map(HopState::ttl);
    let changes = target
        .changes()
        .rev()
        .filter(|change| match (&change.what, ttl) {
            (What::Path { ttl, .. }, Some(selected)) => *ttl == selected,
            _ => true,
        })
        .take(CHANGES)
        .map(|change| format!("round {}: {}", change.round, explain::change(&change.what)));
    for (number, change) in changes.enumerate() {
        say(if number == 0 { "changes" } else { "" }, change);
    }
    lines
}

fn describe(
    screen: &Screen<'_>,
    target: &Target,
    hop: &HopState,
    say: &mut impl FnMut(&str, String),
) {
    let s = hop.statistics();
    let heading = format!("hop {}", hop.ttl());
    let Some(latest) = hop.latest() else {
        say(
            &heading,
            format!(
                "no reply to {} probes: it may not answer, or not exist",
                s.sent()
            ),
        );
        return;
    };
    let who = latest
        .addr
        .map_or_else(String::new, |addr| match screen.session.name(addr) {
            Some(name) => format!("{addr} {name}"),
            None => addr.to_string(),
        });
    let nat = if latest.nat { ", behind a NAT" } else { "" };
    say(&heading, format!("{who}{nat}"));
    let time = |nanos: Option<u64>| nanos.map_or_else(|| "-".to_owned(), milliseconds);
    say(
        "delay",
        format!(
            "{} of {} answered; last {}, best {}, mean {}, worst {}, deviation {} ms",
            s.received(),
            s.sent(),
            time(s.last()),
            time(s.best()),
            time(s.average()),
            time(s.worst()),
            time(s.deviation()),
        ),
    );
    if s.jitter().is_some() {
        say(
            "jitter",
            format!(
                "last {}, mean {}, worst {}, RFC 3550 {} ms",
                time(s.jitter()),
                time(s.jitter_mean()),
                time(s.jitter_worst()),
                time(s.jitter_smoothed()),
            ),
        );
    }
    say(
        "loss",
        explain::loss(target, hop.ttl())
            .unwrap_or_default()
            .to_owned(),
    );
    if hop.addresses().len() > 1 {
        let list = hop.addresses().iter().map(|seen| {
            format!(
                "{} ({} replies, last in round {})",
                seen.addr, seen.received, seen.last_round
            )
        });
        say("addresses", list.collect::<Vec<_>>().join(", "));
    }
    say("labels", stack(&latest.mpls));
    say("TTLs", ttls(hop));
    if let Some(signature) = hop.signature() {
        say("vendor", signature.vendor.join(" or "));
    }
    for state in target.tunnels() {
        let place = &state.place;
        if state.is_suspicion() {
            if place.egress_ttl == Some(hop.ttl()) {
                say(
                    "suspicion",
                    format!("{}: {}", state.evidence, explain::tunnel(state)),
                );
            }
        } else if place.contains(hop.ttl()) {
            let role = if place.ingress_ttl == Some(hop.ttl()) {
                "ingress"
            } else if place.egress_ttl == Some(hop.ttl()) {
                "egress"
            } else {
                "tunnel"
            };
            say(role, explain::title(state));
            say("", explain::tunnel(state));
            say(
                "",
                format!(
                    "Found in round {}, confirmed in round {}.",
                    state.since_round, state.confirmed_round
                ),
            );
        }
    }
}

fn stack(entries: &[LabelStackEntry]) -> String {
    let entry = |lse: &LabelStackEntry| {
        let bottom = if lse.s { " bottom" } else { "" };
        format!("{} tc {} ttl {}{bottom}", lse.label, lse.tc, lse.ttl)
    };
    entries.iter().map(entry).collect::<Vec<_>>().join(", ")
}

fn ttls(hop: &HopState) -> String {
    let mut parts = Vec::new();
    let mut add = |name: &str, value: Option<i32>| {
        parts.extend(value.map(|value| format!("{name} {value}")));
    };
    let latest = hop.latest();
    add("reply", latest.and_then(|h| h.reply_ttl).map(i32::from));
    let signature = hop.signature();
    add(
        "echo reply",
        signature.and_then(|s| s.echo_reply_ttl).map(i32::from),
    );
    add("quoted", latest.and_then(|h| h.quoted_ttl).map(i32::from));
    add("FRPLA", signature.and_then(|s| s.frpla).map(i32::from));
    add("RTLA", signature.and_then(|s| s.rtla).map(i32::from));
    add("U-turn", signature.and_then(|s| s.uturn).map(i32::from));
    parts.join(", ")
}
