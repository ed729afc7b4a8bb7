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
    let mut ttl = trace.first_ttl.saturating_sub(1);
    for router in routers(trace) {
        match router.known {
            Known::Hop(hop) => {
                (ttl, hidden) = (hop.ttl, 0);
                hop_line(out, trace, &router, hop, verbose)?;
            }
            Known::Lsr(lsr) | Known::Egress(lsr) => {
                hidden += 1;
                lsr_line(out, trace, &router, lsr, hidden, ttl)?;
            }
            Known::Hidden => {}
        }
    }
    writeln!(out)
}

fn hop_line(
    out: &mut dyn Write,
    trace: &Trace,
    router: &Router<'_>,
    hop: &Hop,
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
    } else if verbose && let Some((3, code)) = hop.icmp_type.zip(hop.icmp_code) {
        write!(out, " (dstunr code={code})")?;
    }
    write!(out, "{}", tags(trace, router, None))?;
    if verbose {
        attempts(out, trace, router)?;
    }
    labels(out, &hop.mpls)?;
    writeln!(out)
}

/// A router that the revelation showed, `hidden` routers behind the hop at `ttl`.
fn lsr_line(
    out: &mut dyn Write,
    trace: &Trace,
    router: &Router<'_>,
    lsr: &Lsr,
    hidden: u32,
    ttl: u8,
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
    let returned = lsr.reply_ttl.map(path_length);
    let frpla = returned.map(|l| l - i16::from(ttl) - i16::try_from(hidden).unwrap_or(i16::MAX));
    let uturn = returned
        .zip(lsr.echo_reply_ttl.map(path_length))
        .map(|(te, er)| te - er);
    let differ = lsr.reply_ttl.is_some_and(|t| initial_ttl(t) == 255)
        && lsr.echo_reply_ttl.is_some_and(|t| initial_ttl(t) != 255);
    numbers(out, uturn, frpla, uturn.filter(|_| differ))?;
    writeln!(out, "{}", tags(trace, router, Some(lsr)))
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
    if is_reserved(addr) {
        write!(out, " rsvd")?;
    }
    match reply_ttl {
        Some(ttl) => write!(out, " rTTLs=<{ttl},")?,
        None => write!(out, " rTTLs=<*,")?,
    }
    match echo_reply_ttl {
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
fn tags(trace: &Trace, router: &Router<'_>, lsr: Option<&Lsr>) -> String {
    let places: Vec<(&Tunnel, Role)> = router
        .places
        .iter()
        .map(|&(index, role)| (&trace.tunnels[index], role))
        .collect();
    if places.is_empty() {
        return String::new();
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
        .any(|(tunnel, role)| *role == Role::Ingress && !tunnel.complete)
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
    if let Some(lsr) = lsr {
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

/// The attempts that ended at this router without a tunnel.
fn attempts(out: &mut dyn Write, trace: &Trace, router: &Router<'_>) -> io::Result<()> {
    for &index in &router.suspicions {
        let tunnel = &trace.tunnels[index];
        let ended = match tunnel.revelation {
            Revelation::NothingRevealed => "NTH-RV",
            Revelation::TargetSilent => "TGT-NR",
            Revelation::IngressMissing => "ING-NF",
            Revelation::NotNeeded | Revelation::NotTried | Revelation::Revealed => continue,
        };
        let trigger = match tunnel.trigger {
            Trigger::DupIp => ",DUPIP",
            Trigger::Rtla => ",RTLA",
            Trigger::Frpla => ",FRPLA",
            Trigger::LseTtl => ",MTTL",
            Trigger::Lse | Trigger::QuotedTtl | Trigger::Uturn | Trigger::Forced => "",
        };
        write!(out, " (ATTEMPT{trigger},{ended})")?;
    }
    Ok(())
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
