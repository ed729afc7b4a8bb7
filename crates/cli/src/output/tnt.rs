//! The text layout of TNT's dump, which existing analysis scripts read.

use core::net::IpAddr;
use std::io::{self, Write};

use plumb_record::{
    Hop, LabelStackEntry, Lsr, LsrMethod, Revelation, Role, Trace, Trigger, Tunnel, TunnelType,
};
use plumb_wire::is_reserved;

use super::path::{Known, Router, routers};
use super::text;

/// Writes `trace`; `verbose` adds the attempts that revealed nothing.
pub(crate) fn write(out: &mut dyn Write, trace: &Trace, verbose: bool) -> io::Result<()> {
    writeln!(
        out,
        "trace [{}] from {} to {}",
        text::method(trace.method),
        trace.src,
        trace.dst
    )?;
    let mut hidden = 0u32;
    // Attempts to be shown with the next hop: nothing shows where they would have led.
    let mut failed = Vec::new();
    for router in routers(trace) {
        match router.known {
            Known::Hop(hop) => {
                hidden = 0;
                let before = core::mem::take(&mut failed);
                hop_line(out, trace, &router, hop, before, verbose)?;
            }
            Known::Lsr(lsr) | Known::Egress(lsr) => {
                hidden += 1;
                lsr_line(out, trace, &router, lsr, hidden, verbose)?;
            }
            Known::Hidden => {
                let places = router
                    .places
                    .iter()
                    .map(|(index, _)| &trace.tunnels[*index]);
                failed.extend(places.filter(|t| is_unrevealed_uhp(t)));
            }
        }
    }
    writeln!(out)
}

fn hop_line<'a>(
    out: &mut dyn Write,
    trace: &'a Trace,
    router: &Router<'_>,
    hop: &Hop,
    mut failed: Vec<&'a Tunnel>,
    verbose: bool,
) -> io::Result<()> {
    let Some(addr) = hop.addr else {
        return writeln!(out, "{:>3} *", hop.ttl);
    };
    answered(
        out,
        &hop.ttl.to_string(),
        addr,
        hop.rtt_ns,
        hop.reply_ttl,
        hop.echo_reply_ttl,
    )?;
    if is_time_exceeded(trace, hop) {
        if let Some(quoted) = hop.quoted_ttl {
            write!(out, " qttl={quoted}")?;
        }
        numbers(out, hop.uturn, hop.frpla, hop.rtla)?;
    }
    write!(out, "{}", tags(trace, router))?;
    labels(out, &hop.mpls)?;
    if verbose {
        match (trace.dst.is_ipv4(), hop.icmp_type, hop.icmp_code) {
            // That the port is unreachable is how the destination answers UDP.
            (true, Some(3), Some(code)) if code != 3 => write!(out, " (dstunr code={code})")?,
            (false, Some(1), Some(code)) if code != 4 => write!(out, " (dstunr code={code})")?,
            _ => {}
        }
        failed.extend(router.suspicions.iter().map(|index| &trace.tunnels[*index]));
        let opaque = |t: &&Tunnel| t.kind == TunnelType::Opaque;
        failed.extend(ends_here(trace, router).filter(opaque));
        for tunnel in failed {
            attempt(out, tunnel, tunnel.revelation)?;
        }
    }
    writeln!(out)
}

/// A router that the revelation showed, the `hidden`th behind the ingress.
fn lsr_line(
    out: &mut dyn Write,
    trace: &Trace,
    router: &Router<'_>,
    lsr: &Lsr,
    hidden: u32,
    verbose: bool,
) -> io::Result<()> {
    let index = format!("H{hidden}");
    let Some(addr) = lsr.addr else {
        return writeln!(out, "{index:>3} *");
    };
    answered(
        out,
        &index,
        addr,
        lsr.rtt_ns,
        lsr.reply_ttl,
        lsr.echo_reply_ttl,
    )?;
    // The port unreachable of a buddy is no time exceeded.
    if lsr.method != LsrMethod::Buddy {
        if let Some(quoted) = lsr.quoted_ttl {
            write!(out, " qttl={quoted}")?;
        }
        let returned = lsr.reply_ttl.map(path_length);
        let frpla = returned.map(|l| l - i16::from(lsr.ttl));
        let uturn = returned
            .zip(lsr.echo_reply_ttl.map(path_length))
            .map(|(te, er)| te - er);
        let differ = lsr.reply_ttl.is_some_and(|t| initial_ttl(t) == 255)
            && lsr.echo_reply_ttl.is_some_and(|t| initial_ttl(t) != 255);
        numbers(out, uturn, frpla, uturn.filter(|_| differ))?;
    }
    write!(out, "{}", tags(trace, router))?;
    if verbose && hidden == 1 {
        for (index, _) in &router.places {
            let tunnel = &trace.tunnels[*index];
            if let Some(ended) = tunnel.last_step {
                attempt(out, tunnel, ended)?;
            }
        }
    }
    writeln!(out)
}

/// Index, address, round-trip time and TTLs.
fn answered(
    out: &mut dyn Write,
    index: &str,
    addr: IpAddr,
    rtt_ns: Option<u64>,
    reply_ttl: Option<u8>,
    echo_reply_ttl: Option<u8>,
) -> io::Result<()> {
    let rtt = rtt_ns.unwrap_or(0);
    write!(
        out,
        "{index:>3} {:<15} {}.{:03} ms",
        addr.to_string(),
        rtt / 1_000_000,
        rtt / 1000 % 1000
    )?;
    let reserved = is_reserved(addr);
    if reserved {
        write!(out, " rsvd")?;
    }
    match reply_ttl {
        Some(ttl) => write!(out, " rTTLs=<{ttl},")?,
        None => write!(out, " rTTLs=<*,")?,
    }
    match echo_reply_ttl.filter(|_| !reserved) {
        Some(ttl) => write!(out, "{ttl}>"),
        None => write!(out, "*>"),
    }
}

fn numbers(
    out: &mut dyn Write,
    uturn: Option<i16>,
    frpla: Option<i16>,
    rtla: Option<i16>,
) -> io::Result<()> {
    if let Some(uturn) = uturn.filter(|n| *n != 0) {
        write!(out, " uturn={uturn}")?;
    }
    if let Some(frpla) = frpla.filter(|n| *n > 0) {
        write!(out, " frpla={frpla}")?;
    }
    if let Some(rtla) = rtla.filter(|n| *n > 0) {
        write!(out, " rtla={rtla}")?;
    }
    Ok(())
}

/// The bracket with everything about MPLS: types, roles, triggers, revelation; empty if nothing.
fn tags(trace: &Trace, router: &Router<'_>) -> String {
    let places: Vec<(&Tunnel, Role)> = router
        .places
        .iter()
        .map(|&(index, role)| (&trace.tunnels[index], role))
        .filter(|(tunnel, _)| !is_unrevealed_uhp(tunnel))
        .collect();
    if places.is_empty() {
        return String::new();
    }
    if let (Known::Hop(hop), [(tunnel, Role::Lsr)]) = (router.known, places.as_slice())
        && tunnel.kind == TunnelType::Explicit
        && hop.mpls.is_empty()
    {
        // A router without RFC 4950 between others that have it.
        return match hop.quoted_ttl {
            Some(2..=254) => " [MPLS,IMP,LSR,QTTL]".to_owned(),
            _ => " [MPLS,LSR,INF]".to_owned(),
        };
    }
    let mut tags = vec!["MPLS"];
    for (name, kind) in [
        ("EXP", TunnelType::Explicit),
        ("OPA", TunnelType::Opaque),
        ("IMP", TunnelType::Implicit),
        ("INV", TunnelType::Invisible),
    ] {
        if places.iter().any(|(tunnel, _)| tunnel.kind == kind) {
            tags.push(name);
        }
    }
    for (name, role) in [
        ("LSR", Role::Lsr),
        ("EGR", Role::Egress),
        ("ING", Role::Ingress),
    ] {
        if places.iter().any(|(_, r)| *r == role) {
            tags.push(name);
        }
    }
    if places
        .iter()
        .any(|(tunnel, role)| *role == Role::Ingress && is_cut_short(tunnel))
    {
        tags.push("INCOMP?");
    }
    for (name, trigger) in [
        ("DUPIP", Trigger::DupIp),
        ("RTLA", Trigger::Rtla),
        ("FRPLA", Trigger::Frpla),
        ("MTTL", Trigger::LseTtl),
        ("BTFC", Trigger::Forced),
        ("QTTL", Trigger::QuotedTtl),
        ("UTURN", Trigger::Uturn),
    ] {
        if places.iter().any(|(tunnel, _)| tunnel.trigger == trigger) {
            tags.push(name);
        }
    }
    let mut text = format!(" [{}", tags.join(","));
    if let Known::Lsr(lsr) | Known::Egress(lsr) = router.known {
        let method = match lsr.method {
            LsrMethod::Dpr => ",DPR",
            LsrMethod::Brpr => ",BRPR",
            LsrMethod::Buddy => ",BUDDY",
            LsrMethod::OneHop => ",UNKN",
            LsrMethod::Seen => "",
        };
        text.push_str(method);
        if lsr.step > 0 {
            text.push_str(&format!(",step={}", lsr.step));
        }
    }
    text.push(']');
    text
}

/// An attempt to reveal `tunnel`, or more of it, that showed nothing.
fn attempt(out: &mut dyn Write, tunnel: &Tunnel, ended: Revelation) -> io::Result<()> {
    let ended = match ended {
        Revelation::NothingRevealed => "NTH-RV",
        Revelation::TargetSilent => "TGT-NR",
        Revelation::IngressMissing => "ING-NF",
        Revelation::NotNeeded | Revelation::NotTried | Revelation::Revealed => return Ok(()),
    };
    let trigger = match tunnel.trigger {
        Trigger::DupIp => ",DUPIP",
        Trigger::Rtla => ",RTLA",
        Trigger::Frpla => ",FRPLA",
        Trigger::LseTtl => ",MTTL",
        Trigger::Forced if tunnel.revelation == Revelation::Revealed => ",BTFC",
        Trigger::Lse | Trigger::QuotedTtl | Trigger::Uturn | Trigger::Forced => "",
    };
    // Buddies are what is tried last for a repeated address.
    let buddy = if tunnel.trigger == Trigger::DupIp {
        ",BUD"
    } else {
        ""
    };
    write!(out, " (ATTEMPT{trigger},{ended}{buddy})")
}

/// The tunnels whose egress the router is.
fn ends_here<'a>(trace: &'a Trace, router: &Router<'_>) -> impl Iterator<Item = &'a Tunnel> {
    router
        .places
        .iter()
        .filter(|(_, role)| *role == Role::Egress)
        .map(|(index, _)| &trace.tunnels[*index])
}

/// An address that answers twice, and that is all.
fn is_unrevealed_uhp(tunnel: &Tunnel) -> bool {
    tunnel.trigger == Trigger::DupIp && tunnel.lsrs.is_empty() && tunnel.hidden_egress.is_none()
}

/// Whether the revelation stopped although there may be more routers.
fn is_cut_short(tunnel: &Tunnel) -> bool {
    tunnel.revelation == Revelation::Revealed
        && match tunnel.last_step {
            Some(Revelation::NothingRevealed) => false,
            // That a buddy is silent is how the search for them normally ends.
            Some(_) => tunnel.trigger != Trigger::DupIp,
            None => true,
        }
}

fn labels(out: &mut dyn Write, stack: &[LabelStackEntry]) -> io::Result<()> {
    for (number, entry) in stack.iter().enumerate() {
        let before = if number == 0 { " Labels" } else { " |" };
        write!(out, "{before} {} mTTL={}", entry.label, entry.ttl)?;
    }
    Ok(())
}

const fn is_time_exceeded(trace: &Trace, hop: &Hop) -> bool {
    let kind = if trace.dst.is_ipv4() { 11 } else { 3 };
    matches!(hop.icmp_type, Some(t) if t == kind)
}

/// The TTL that a reply left with, judged by the one it arrived with (TNT, §1.2).
const fn initial_ttl(ttl: u8) -> i16 {
    match ttl {
        129.. => 255,
        65..129 => 128,
        33..65 => 64,
        ..33 => 32,
    }
}

/// The length of the way that a reply took.
const fn path_length(ttl: u8) -> i16 {
    initial_ttl(ttl) - ttl as i16 + 1
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    fn dump(trace: &Trace, verbose: bool) -> String {
        let mut out = Vec::new();
        write(&mut out, trace, verbose).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_kind_of_path_has_the_layout_of_tnt() {
        let all: String = fixtures::all()
            .iter()
            .map(|(name, trace)| format!("== {name}\n{}", dump(trace, false)))
            .collect();
        insta::assert_snapshot!("tnt", all);
    }

    #[test]
    fn attempts_are_shown_only_when_asked_for() {
        let trace = fixtures::nothing_revealed();
        assert!(!dump(&trace, false).contains("ATTEMPT"));
        assert!(!dump(&trace, false).contains("MPLS"));
        assert!(dump(&trace, true).contains(" frpla=3 (ATTEMPT,FRPLA,NTH-RV)\n"));
    }

    #[test]
    fn what_ended_a_revelation_stands_at_its_first_router() {
        let first = |trace: &Trace| {
            let text = dump(trace, true);
            let line = text.lines().find(|l| l.starts_with(" H1")).unwrap();
            line.rsplit_once(' ').unwrap().1.to_owned()
        };
        assert_eq!(first(&fixtures::php()), "(ATTEMPT,FRPLA,NTH-RV)");
        assert_eq!(first(&fixtures::incomplete()), "(ATTEMPT,FRPLA,TGT-NR)");
        assert_eq!(first(&fixtures::uhp()), "(ATTEMPT,DUPIP,NTH-RV,BUD)");
        let mut stuck = fixtures::incomplete();
        stuck.tunnels[0].last_step = None;
        assert!(!dump(&stuck, true).contains("ATTEMPT"));
        assert!(dump(&stuck, true).contains("[MPLS,INV,ING,INCOMP?,FRPLA]"));
        assert_eq!(dump(&fixtures::php(), true).matches("ATTEMPT").count(), 1);
    }

    #[test]
    fn failed_attempts_stand_at_the_hop_with_the_sign() {
        let repeated = dump(&fixtures::uhp_unrevealed(), true);
        assert!(repeated.contains(" frpla=1 (ATTEMPT,DUPIP,TGT-NR,BUD)\n"));
        assert!(!repeated.contains("MPLS"));
        let mut opaque = fixtures::opaque();
        opaque.tunnels[0].lsrs.clear();
        opaque.tunnels[0].complete = false;
        opaque.tunnels[0].last_step = None;
        opaque.tunnels[0].revelation = Revelation::TargetSilent;
        let opaque = dump(&opaque, true);
        assert!(opaque.contains(" Labels 16 mTTL=252 (ATTEMPT,MTTL,TGT-NR)\n"));
        assert!(opaque.contains("[MPLS,OPA,ING,MTTL]\n"));
    }

    #[test]
    fn a_sign_inside_another_tunnel_keeps_its_attempt() {
        let mut trace = fixtures::implicit();
        trace.tunnels[0].trigger = Trigger::Uturn;
        let mut attempt = fixtures::nothing_revealed().tunnels.remove(0);
        attempt.id = 1;
        attempt.egress = trace.hops[2].addr;
        trace.tunnels.push(attempt);
        let dump = dump(&trace, true);
        assert!(dump.contains("[MPLS,IMP,LSR,UTURN] (ATTEMPT,FRPLA,NTH-RV)\n"));
    }

    #[test]
    fn buddies_have_no_numbers_of_time_exceeded_replies() {
        let text = dump(&fixtures::uhp(), false);
        let revealed = text.lines().filter(|l| l.starts_with(" H"));
        assert!(revealed.clone().all(|l| !l.contains("qttl=")));
        assert_eq!(revealed.count(), 4);
    }

    #[test]
    fn a_repeated_address_behind_a_silent_ingress_is_where_the_routers_are_shown() {
        let mut trace = fixtures::uhp();
        trace.hops[1] = Hop {
            ttl: 2,
            ..Hop::default()
        };
        trace.tunnels[0].ingress = None;
        let text = dump(&trace, false);
        let first: Vec<&str> = text
            .lines()
            .skip(1)
            .map(|l| l.get(..3).unwrap_or(""))
            .collect();
        let expected = [
            "  1", "  2", " H1", " H2", " H3", " H4", "  3", "  4", "  5", "",
        ];
        assert_eq!(first, expected);
    }

    #[test]
    fn a_router_without_labels_between_labelled_ones_is_told_from_them() {
        let mut trace = fixtures::explicit();
        trace.hops[3].mpls.clear();
        assert!(dump(&trace, false).contains(" qttl=2 [MPLS,IMP,LSR,QTTL]\n"));
        trace.hops[3].quoted_ttl = Some(0);
        assert!(dump(&trace, false).contains(" qttl=0 [MPLS,LSR,INF]\n"));
        // And a silent one does not mean that anything stopped.
        trace.tunnels[0].complete = false;
        assert!(!dump(&trace, false).contains("INCOMP?"));
    }

    #[test]
    fn refusals_are_told_from_answers_to_udp() {
        let mut trace = fixtures::unreachable();
        assert!(
            dump(&trace, true).ends_with("> (dstunr code=13)\n\n"),
            "no bracket"
        );
        trace.hops[2].icmp_code = Some(3);
        assert!(!dump(&trace, true).contains("dstunr"));
        trace.hops[2].addr = Some([10, 0, 0, 1].into());
        assert!(dump(&trace, true).contains(" rsvd rTTLs=<253,*>"));
    }

    #[test]
    fn what_analysis_scripts_split_on_is_where_they_expect_it() {
        for (name, trace) in fixtures::all() {
            for line in dump(&trace, true).lines().filter(|l| !l.is_empty()) {
                let words: Vec<&str> = line.split_whitespace().collect();
                if words[0] == "trace" {
                    assert_eq!(words[4], "to", "{name}: {line}");
                    continue;
                }
                assert!(!line.contains('#'), "{name}: {line}");
                if words[1] == "*" {
                    continue;
                }
                assert!(words[1].parse::<IpAddr>().is_ok(), "{name}: {line}");
                assert!(words[2].parse::<f64>().is_ok(), "{name}: {line}");
                assert_eq!(words[3], "ms", "{name}: {line}");
                assert!(
                    words[4..].iter().any(|w| w.starts_with("rTTLs=<")),
                    "{name}: {line}"
                );
            }
        }
    }
}
