//! A trace as a table for people: one line a router, tunnels as brackets over theirs.

use core::fmt::Write as _;
use std::io::{self, Write};

use plumb_record::{
    Hop, HopTunnel, Lsr, LsrMethod, Revelation, Role, StopReason, Trace, Tunnel, TunnelType,
    Variant,
};

use super::path::{Known, Router, is_suspicion, routers};
use super::style::{BAD, FAINT, GOOD, LABEL, Look, REVEALED, STRONG, TUNNEL};
use super::text;

/// How traces are drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    pub(crate) look: Look,
    /// Whether the details of each reply are shown.
    pub(crate) verbose: bool,
}

impl Table {
    /// Draws `trace`.
    pub(crate) fn write(self, out: &mut dyn Write, trace: &Trace) -> io::Result<()> {
        self.heading(out, trace)?;
        let path = routers(trace);
        let lines: Vec<Line> = path.iter().map(|r| self.line(trace, r)).collect();
        let width = |cell: fn(&Line) -> &Cell| lines.iter().map(|l| cell(l).width).max();
        let addr_width = width(|l| &l.addr).unwrap_or(0);
        let rtt_width = width(|l| &l.rtt).unwrap_or(0);
        let vendor_width = width(|l| &l.vendor).unwrap_or(0);
        let in_tunnels = path.iter().any(|router| !router.places.is_empty());
        for (at, (line, router)) in lines.iter().zip(&path).enumerate() {
            let mut row = format!("{:>3} ", line.ttl);
            if in_tunnels {
                let bracket = self.bracket(&path, router);
                row.push_str(&self.look.paint(TUNNEL, bracket));
                row.push(' ');
            }
            line.addr.left(&mut row, addr_width);
            row.push_str("  ");
            line.rtt.right(&mut row, rtt_width);
            if vendor_width > 0 {
                row.push_str("  ");
                line.vendor.left(&mut row, vendor_width);
            }
            for (number, note) in line.notes.iter().enumerate() {
                row.push_str(if number == 0 { "  " } else { ", " });
                row.push_str(&note.text);
            }
            writeln!(out, "{}", row.trim_end())?;
            for detail in &line.details {
                let mut row = "    ".to_owned();
                if in_tunnels {
                    let bracket = self.continued(&path, at);
                    row.push_str(&self.look.paint(TUNNEL, bracket));
                    row.push(' ');
                }
                writeln!(out, "{row}{}", self.look.paint(FAINT, detail))?;
            }
        }
        if in_tunnels {
            writeln!(out)?;
        }
        let tunnels = trace.tunnels.iter().enumerate();
        for (index, tunnel) in tunnels.filter(|(_, tunnel)| !is_suspicion(tunnel)) {
            self.tunnel(out, tunnel, gave_away(trace, &path, index))?;
        }
        self.outcome(out, trace)
    }

    fn heading(self, out: &mut dyn Write, trace: &Trace) -> io::Result<()> {
        let dst = trace.dst.to_string();
        let target = match &trace.dst_name {
            Some(name) => format!("{} ({dst})", self.look.paint(STRONG, &printable(name))),
            None => self.look.paint(STRONG, &dst),
        };
        let port = match trace.dst_port {
            Some(port) => format!(" port {port}"),
            None => String::new(),
        };
        writeln!(
            out,
            "trace to {target} from {}, {}{port}",
            trace.src,
            text::method(trace.method)
        )
    }

    fn line(self, trace: &Trace, router: &Router<'_>) -> Line {
        let look = self.look;
        let mut line = Line::default();
        match router.known {
            Known::Hop(hop) => {
                line.ttl = hop.ttl.to_string();
                line.addr = match hop.addr {
                    Some(addr) => Cell::plain(named(&addr.to_string(), hop.name.as_deref())),
                    None => Cell::painted(look, FAINT, "*"),
                };
                line.rtt = hop
                    .rtt_ns
                    .map_or_else(Cell::default, |ns| Cell::plain(text::rtt(ns)));
                line.vendor = Cell::painted(look, FAINT, &hop.vendor.join("/"));
                if !hop.mpls.is_empty() {
                    line.note(look, LABEL, &text::labels(&hop.mpls));
                }
                if let Some(refusal) = text::refusal(trace, hop) {
                    let style = if hop.tcp_flags.is_some() { GOOD } else { BAD };
                    line.note(look, style, &refusal);
                }
                // Behind the first hop that shows it, every hop does.
                let first = trace.hops.iter().find(|h| h.nat).map(|h| h.ttl);
                if hop.nat && first == Some(hop.ttl) {
                    line.note(look, LABEL, "NAT on the way");
                }
                for &(index, role) in &router.places {
                    let tunnel = &trace.tunnels[index];
                    match role {
                        Role::Ingress => line.note(look, TUNNEL, "ingress"),
                        Role::Egress => line.note(look, TUNNEL, &egress(hop, tunnel)),
                        Role::Lsr => {}
                    }
                }
                for &index in &router.suspicions {
                    let tunnel = &trace.tunnels[index];
                    let trigger = text::trigger(tunnel.trigger, Some(hop));
                    let ended = failure(tunnel).unwrap_or("nothing revealed");
                    line.note(look, FAINT, &format!("{trigger}: {ended}"));
                }
                if self.verbose {
                    line.details.extend(details(hop));
                }
            }
            Known::Lsr(lsr) | Known::Egress(lsr) => {
                line.addr = match lsr.addr {
                    Some(addr) => {
                        let addr = named(&addr.to_string(), lsr.name.as_deref());
                        Cell::painted(look, REVEALED, &addr)
                    }
                    None => Cell::painted(look, FAINT, "*"),
                };
                line.rtt = lsr
                    .rtt_ns
                    .map_or_else(Cell::default, |ns| Cell::plain(text::rtt(ns)));
                let method = text::lsr_method(lsr.method);
                let how = if lsr.method == LsrMethod::Seen {
                    method.to_owned()
                } else {
                    format!("revealed: {method} step {}", lsr.step)
                };
                line.note(look, REVEALED, &how);
                if matches!(router.known, Known::Egress(_)) {
                    line.note(look, TUNNEL, "egress");
                }
                if self.verbose {
                    line.details.extend(ttls(lsr.reply_ttl, lsr.echo_reply_ttl));
                }
            }
            Known::Hidden => {
                line.addr = Cell::painted(look, FAINT, "?");
                let about = router
                    .places
                    .first()
                    .map(|&(index, _)| &trace.tunnels[index])
                    .map_or_else(String::new, hidden);
                line.note(look, FAINT, &about);
            }
        }
        line
    }

    /// The bracket character before a router.
    fn bracket(self, path: &[Router<'_>], router: &Router<'_>) -> &'static str {
        let has = |role| router.places.iter().any(|(_, r)| *r == role);
        match (has(Role::Egress), has(Role::Ingress)) {
            (true, true) => self.look.pick("├─", "+-"),
            (false, true) => self.look.pick("╭─", ",-"),
            (true, false) => self.look.pick("╰─", "`-"),
            (false, false) if has(Role::Lsr) => match router.known {
                Known::Hop(_) => self.look.pick("│ ", "| "),
                Known::Lsr(_) | Known::Egress(_) | Known::Hidden => self.look.pick("┊ ", ": "),
            },
            (false, false) if spanned(path, router) => self.look.pick("│ ", "| "),
            (false, false) => "  ",
        }
    }

    /// The bracket character below the router `at`.
    fn continued(self, path: &[Router<'_>], at: usize) -> &'static str {
        let router = &path[at];
        let goes_on = router.places.iter().any(|(_, role)| *role != Role::Egress);
        if !goes_on && (!router.places.is_empty() || !spanned(path, router)) {
            return "  ";
        }
        match path.get(at + 1).map(|next| next.known) {
            Some(Known::Hop(_)) => self.look.pick("│ ", "| "),
            Some(Known::Lsr(_) | Known::Egress(_) | Known::Hidden) => self.look.pick("┊ ", ": "),
            None => "  ",
        }
    }

    /// One line about a tunnel.
    fn tunnel(
        self,
        out: &mut dyn Write,
        tunnel: &Tunnel,
        gave_away: Option<&Hop>,
    ) -> io::Result<()> {
        let end = |addr: Option<core::net::IpAddr>| match addr {
            Some(addr) => addr.to_string(),
            None => "*".to_owned(),
        };
        let arrow = self.look.pick("→", "->");
        let variant = match tunnel.variant {
            Some(Variant::Php) => " (PHP)",
            Some(Variant::Uhp) => " (UHP)",
            None => "",
        };
        let class = format!("{}{variant}", text::tunnel_type(tunnel.kind));
        let name = format!(
            "MPLS tunnel {} {arrow} {}",
            end(tunnel.ingress),
            end(tunnel.egress)
        );
        let mut about = format!("{class}, {}", routers_inside(tunnel));
        // Labels are what makes a tunnel explicit.
        if !matches!(tunnel.kind, TunnelType::Explicit) {
            let trigger = text::trigger(tunnel.trigger, gave_away);
            let _ = write!(about, "; trigger: {trigger}");
        }
        writeln!(out, "{}: {about}", self.look.paint(TUNNEL, &name))
    }

    /// The last line: how it ended, and what it took.
    fn outcome(self, out: &mut dyn Write, trace: &Trace) -> io::Result<()> {
        let last = trace.hops.iter().rev().find(|h| h.addr.is_some());
        let (style, ended) = match trace.stop_reason {
            StopReason::Completed => {
                let hops = trace.hops.last().map_or(0, |h| h.ttl);
                let mut ended = format!("reached in {}", text::count(hops.into(), "hop", "hops"));
                let lsrs = trace
                    .tunnels
                    .iter()
                    .flat_map(|tunnel| tunnel.lsrs.iter().chain(&tunnel.hidden_egress));
                let revealed = lsrs.filter(|lsr| lsr.method != LsrMethod::Seen).count();
                if revealed > 0 {
                    let _ = write!(ended, ", {revealed} more revealed");
                }
                (GOOD, ended)
            }
            StopReason::Unreachable => (
                BAD,
                match last.and_then(|hop| Some((hop, text::refusal(trace, hop)?))) {
                    Some((hop, refusal)) => {
                        let addr = hop.addr.map_or_else(String::new, |a| a.to_string());
                        format!("not reached: {addr} says {refusal}")
                    }
                    None => "not reached: this system could not send the probes".to_owned(),
                },
            ),
            StopReason::GapLimit => (
                BAD,
                match last {
                    Some(hop) => format!("not reached: no answer beyond hop {}", hop.ttl),
                    None => "not reached: no answer from any hop".to_owned(),
                },
            ),
            StopReason::HopLimit => {
                let hops = trace.hops.last().map_or(0, |h| h.ttl);
                (BAD, format!("not reached within {hops} hops"))
            }
            StopReason::Loop => (
                BAD,
                match last.and_then(|hop| Some((hop.ttl, hop.addr?))) {
                    Some((ttl, addr)) => {
                        format!("not reached: the path loops, {addr} answered again at hop {ttl}")
                    }
                    None => "not reached: the path loops".to_owned(),
                },
            ),
            StopReason::Interrupted => (BAD, "interrupted".to_owned()),
        };
        writeln!(
            out,
            "{}; {} in {}",
            self.look.paint(style, &ended),
            text::count(trace.probes_sent.into(), "packet", "packets"),
            text::duration(trace.duration_ns)
        )
    }
}

/// One router's cells.
#[derive(Debug, Default)]
struct Line {
    ttl: String,
    addr: Cell,
    rtt: Cell,
    vendor: Cell,
    notes: Vec<Cell>,
    details: Vec<String>,
}

impl Line {
    fn note(&mut self, look: Look, style: anstyle::Style, text: &str) {
        self.notes.push(Cell::painted(look, style, text));
    }
}

/// Text, and how many columns it takes.
#[derive(Debug, Default)]
struct Cell {
    text: String,
    width: usize,
}

impl Cell {
    fn plain(text: String) -> Self {
        Self {
            width: text.chars().count(),
            text,
        }
    }

    fn painted(look: Look, style: anstyle::Style, text: &str) -> Self {
        Self {
            width: text.chars().count(),
            text: look.paint(style, text),
        }
    }

    fn left(&self, row: &mut String, width: usize) {
        row.push_str(&self.text);
        row.extend(core::iter::repeat_n(' ', width - self.width));
    }

    fn right(&self, row: &mut String, width: usize) {
        row.extend(core::iter::repeat_n(' ', width - self.width));
        row.push_str(&self.text);
    }
}

/// Whether a router without a role lies between the ends of a tunnel.
fn spanned(path: &[Router<'_>], router: &Router<'_>) -> bool {
    let Some(at) = path.iter().position(|r| core::ptr::eq(r, router)) else {
        return false;
    };
    let begun = path[..at]
        .iter()
        .flat_map(|r| &r.places)
        .filter(|(_, role)| *role != Role::Egress)
        .map(|(index, _)| *index)
        .max();
    begun.is_some_and(|index| path[at..].iter().any(|r| r.role(index).is_some()))
}

/// The hop whose reply gave the tunnel at `index` away.
fn gave_away<'a>(trace: &'a Trace, path: &[Router<'a>], index: usize) -> Option<&'a Hop> {
    let egress = path.iter().find_map(|router| {
        let ends = router.role(index) == Some(Role::Egress);
        match router.known {
            Known::Hop(hop) => ends.then_some(hop),
            Known::Lsr(_) | Known::Egress(_) | Known::Hidden => None,
        }
    });
    egress.or_else(|| {
        let id = trace.tunnels[index].id;
        trace
            .hops
            .iter()
            .rfind(|hop| matches!(hop.tunnel, Some(HopTunnel { id: of, .. }) if of == id))
    })
}

fn egress(hop: &Hop, tunnel: &Tunnel) -> String {
    match tunnel.kind {
        TunnelType::Invisible => format!("egress: {}", text::trigger(tunnel.trigger, Some(hop))),
        TunnelType::Explicit | TunnelType::Implicit | TunnelType::Opaque => "egress".to_owned(),
    }
}

/// What is known of the routers inside a tunnel.
pub(crate) fn routers_inside(tunnel: &Tunnel) -> String {
    let (shown, hidden): (Vec<&Lsr>, Vec<&Lsr>) = tunnel
        .lsrs
        .iter()
        .partition(|lsr| lsr.method == LsrMethod::Seen);
    let seen = shown.iter().filter(|lsr| lsr.addr.is_some()).count() as u64;
    let silent = shown.len() as u64 - seen;
    let mut parts = Vec::new();
    if seen > 0 {
        parts.push(format!("{} seen", text::count(seen, "router", "routers")));
    }
    if silent > 0 {
        parts.push(text::count(silent, "silent router", "silent routers"));
    }
    if !hidden.is_empty() {
        let mut methods: Vec<&str> = hidden.iter().map(|l| text::lsr_method(l.method)).collect();
        methods.dedup();
        methods.sort_unstable();
        methods.dedup();
        parts.push(format!(
            "{} revealed by {}",
            text::count(hidden.len() as u64, "router", "routers"),
            methods.join(" and ")
        ));
    }
    if let Some(failed) = failure(tunnel) {
        parts.push(failed.to_owned());
    } else if tunnel.egress.is_none() {
        parts.push("the trace ends inside".to_owned());
    } else if !tunnel.complete && silent == 0 {
        parts.push("possibly more".to_owned());
    }
    if let (true, Some(number)) = (tunnel.lsrs.is_empty(), tunnel.estimated_lsrs) {
        let routers = text::count(number.into(), "router", "routers");
        parts.push(format!("about {routers} inside"));
    }
    if parts.is_empty() {
        parts.push("no router inside known".to_owned());
    }
    parts.join(", ")
}

/// Why a revelation showed nothing.
pub(crate) fn failure(tunnel: &Tunnel) -> Option<&'static str> {
    match tunnel.revelation {
        Revelation::NotNeeded | Revelation::Revealed => None,
        Revelation::NotTried => Some("revelation not tried"),
        Revelation::NothingRevealed => Some("nothing revealed"),
        Revelation::TargetSilent => Some("not revealed: the egress is silent"),
        Revelation::IngressMissing => Some("not revealed: another way leads to the egress"),
    }
}

/// What is known of routers that nothing shows.
pub(crate) fn hidden(tunnel: &Tunnel) -> String {
    let what = failure(tunnel).unwrap_or("possibly more routers");
    match tunnel.estimated_lsrs {
        Some(number) if tunnel.lsrs.is_empty() => format!("about {number} hidden, {what}"),
        _ => what.to_owned(),
    }
}

fn named(addr: &str, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("{} ({addr})", printable(name)),
        None => addr.to_owned(),
    }
}

/// A name from the network without what a terminal would act on.
fn printable(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// What `--verbose` adds to a hop.
fn details(hop: &Hop) -> Option<String> {
    hop.addr?;
    let mut text = ttls(hop.reply_ttl, hop.echo_reply_ttl).unwrap_or_default();
    let mut add = |name: &str, value: Option<i32>| {
        if let Some(value) = value {
            let _ = write!(text, "  {name} {value}");
        }
    };
    add("quoted TTL", hop.quoted_ttl.map(i32::from));
    add("FRPLA", hop.frpla.map(i32::from));
    add("RTLA", hop.rtla.map(i32::from));
    add("U-turn", hop.uturn.map(i32::from));
    if hop.attempt > 1 {
        let _ = write!(text, "  attempt {}", hop.attempt);
    }
    if hop.mpls.len() > 1 || hop.mpls.iter().any(|l| l.tc != 0) {
        for entry in &hop.mpls {
            let bottom = if entry.s { " bottom" } else { "" };
            let _ = write!(
                text,
                "  label {} tc {} ttl {}{bottom}",
                entry.label, entry.tc, entry.ttl
            );
        }
    }
    Some(text.trim_start().to_owned()).filter(|t| !t.is_empty())
}

fn ttls(reply: Option<u8>, echo_reply: Option<u8>) -> Option<String> {
    let echo = echo_reply.map_or_else(|| "*".to_owned(), |ttl| ttl.to_string());
    reply.map(|ttl| format!("TTL {ttl}, echo {echo}"))
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    fn draw(trace: &Trace, unicode: bool, verbose: bool) -> String {
        let table = Table {
            look: Look {
                colour: false,
                unicode,
            },
            verbose,
        };
        let mut out = Vec::new();
        table.write(&mut out, trace).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_kind_of_path_is_drawn() {
        for (name, trace) in fixtures::all() {
            insta::assert_snapshot!(name, draw(&trace, true, false));
        }
    }

    #[test]
    fn verbose_and_ascii_say_the_same() {
        let php = fixtures::php();
        insta::assert_snapshot!("php-verbose", draw(&php, true, true));
        let ascii = draw(&php, false, false);
        assert!(ascii.is_ascii(), "{ascii}");
        insta::assert_snapshot!("php-ascii", ascii);
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        let table = Table {
            look: Look {
                colour: true,
                unicode: true,
            },
            verbose: true,
        };
        for (_, trace) in fixtures::all() {
            let mut out = Vec::new();
            table.write(&mut out, &trace).unwrap();
            let coloured = String::from_utf8(out).unwrap();
            let plain = anstream::adapter::strip_str(&coloured).to_string();
            assert_eq!(plain, draw(&trace, true, true));
            assert_ne!(plain, coloured);
        }
    }

    #[test]
    fn a_name_cannot_speak_to_the_terminal() {
        let mut trace = fixtures::plain();
        trace.hops[0].name = Some("a\u{1b}[2Jb".into());
        assert!(!draw(&trace, true, true).contains('\u{1b}'));
    }
}
