//! Words and numbers that several formats share.

use core::fmt::Write;
use std::borrow::Cow;

use plumb_record::{Hop, LabelStackEntry, LsrMethod, Method, Trace, Trigger, TunnelType};

/// A round-trip time in milliseconds with the digits that matter.
pub(crate) fn rtt(nanos: u64) -> String {
    #[expect(
        clippy::cast_precision_loss,
        reason = "52 bits of nanoseconds are 52 days"
    )]
    let millis = nanos as f64 / 1e6;
    match millis {
        ..10.0 => format!("{millis:.3} ms"),
        10.0..100.0 => format!("{millis:.2} ms"),
        _ => format!("{millis:.1} ms"),
    }
}

/// Text from elsewhere without the characters that move a terminal's cursor.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) {
        text.replace(char::is_control, "?").into()
    } else {
        text.into()
    }
}

/// A duration for people: `45 ms`, `3.2 s`, `2 min 5 s`, `1 h 3 min`.
pub(crate) fn duration(nanos: u64) -> String {
    let millis = nanos / 1_000_000;
    match millis {
        0 => "less than 1 ms".to_owned(),
        1..1000 => format!("{millis} ms"),
        1000..60_000 => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        60_000..3_600_000 => format!("{} min {} s", millis / 60_000, millis / 1000 % 60),
        _ => format!("{} h {} min", millis / 3_600_000, millis / 60_000 % 60),
    }
}

/// A duration in few characters.
pub(crate) fn span(nanos: u64) -> String {
    match nanos / 1_000_000 {
        0 => format!("{} us", nanos / 1000),
        millis @ 1..10_000 => format!("{millis} ms"),
        millis @ 10_000..600_000 => format!("{} s", millis / 1000),
        millis => format!("{} min", millis / 60_000),
    }
}

/// Bytes in few characters, in powers of 1000.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let (mut value, mut unit) = (bytes, "B");
    let mut rest = 0;
    for next in UNITS {
        if value < 1000 {
            break;
        }
        (rest, value, unit) = (value % 1000 / 100, value / 1000, next);
    }
    if value < 10 {
        format!("{value}.{rest} {unit}")
    } else {
        format!("{value} {unit}")
    }
}

/// `count` and the noun in the right number.
pub(crate) fn count(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The method as `--method` takes it.
pub(crate) const fn method(method: Method) -> &'static str {
    match method {
        Method::IcmpParis => "icmp-paris",
        Method::UdpParis => "udp-paris",
        Method::TcpParis => "tcp-paris",
    }
}

/// The class of a tunnel.
pub(crate) const fn tunnel_type(kind: TunnelType) -> &'static str {
    match kind {
        TunnelType::Explicit => "explicit",
        TunnelType::Implicit => "implicit",
        TunnelType::Opaque => "opaque",
        TunnelType::Invisible => "invisible",
    }
}

/// How a router was revealed.
pub(crate) const fn lsr_method(method: LsrMethod) -> &'static str {
    match method {
        LsrMethod::Seen => "seen",
        LsrMethod::Dpr => "DPR",
        LsrMethod::Brpr => "BRPR",
        LsrMethod::Buddy => "buddy",
        LsrMethod::OneHop => "DPR or BRPR",
    }
}

/// What gave a tunnel away, with the numbers of the hop where it showed.
pub(crate) fn trigger(trigger: Trigger, hop: Option<&Hop>) -> String {
    let number = |name: &str, value: Option<i16>| match value {
        Some(value) => format!("{name} {value}"),
        None => name.to_owned(),
    };
    match trigger {
        Trigger::Lse => "labels".into(),
        Trigger::QuotedTtl => "quoted TTL".into(),
        Trigger::Uturn => "U-turn".into(),
        Trigger::LseTtl => match hop.and_then(|h| h.mpls.first()) {
            Some(top) => format!("label TTL {}", top.ttl),
            None => "label TTL".into(),
        },
        Trigger::DupIp => "repeated address".into(),
        Trigger::Rtla => number("RTLA", hop.and_then(|h| h.rtla)),
        Trigger::Frpla => number("FRPLA", hop.and_then(|h| h.frpla)),
        Trigger::Forced => "no trigger".into(),
    }
}

/// A label stack: `label 16`, or `labels 16/25`, with the TTL of the top where it is not 1.
pub(crate) fn labels(stack: &[LabelStackEntry]) -> String {
    let mut text = String::from(if stack.len() > 1 { "labels " } else { "label " });
    for (i, entry) in stack.iter().enumerate() {
        let slash = if i > 0 { "/" } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{slash}{}", entry.label);
    }
    match stack.first() {
        Some(top) if top.ttl != 1 => {
            let _ = write!(text, " ttl {}", top.ttl);
        }
        _ => {}
    }
    text
}

/// What a reply says beyond "the TTL ran out here" and "I am the target"; `None` if nothing.
pub(crate) fn refusal(trace: &Trace, hop: &Hop) -> Option<Cow<'static, str>> {
    if let Some(flags) = hop.tcp_flags {
        return Some(tcp_answer(flags).into());
    }
    let (kind, code) = (hop.icmp_type?, hop.icmp_code.unwrap_or(0));
    let expected = if trace.dst.is_ipv4() {
        matches!(kind, 0 | 11) || (kind, code) == (3, 3) && hop.addr == Some(trace.dst)
    } else {
        matches!(kind, 3 | 129) || (kind, code) == (1, 4) && hop.addr == Some(trace.dst)
    };
    (!expected).then(|| icmp_error(trace.dst.is_ipv4(), kind, code))
}

/// What an ICMP or ICMPv6 error says.
pub(crate) fn icmp_error(v4: bool, kind: u8, code: u8) -> Cow<'static, str> {
    let named = if v4 {
        match (kind, code) {
            (3, 0) => "network unreachable",
            (3, 1) => "host unreachable",
            (3, 2) => "protocol unreachable",
            (3, 3) => "port unreachable",
            (3, 4) => "fragmentation needed",
            (3, 5) => "source route failed",
            (3, 6) => "network unknown",
            (3, 7) => "host unknown",
            (3, 9) => "network prohibited",
            (3, 10) => "host prohibited",
            (3, 13) => "communication prohibited",
            (11, _) => "TTL exceeded",
            (12, _) => "parameter problem",
            _ => return format!("ICMP type {kind} code {code}").into(),
        }
    } else {
        match (kind, code) {
            (1, 0) => "no route to destination",
            (1, 1) => "communication prohibited",
            (1, 2) => "beyond scope of source address",
            (1, 3) => "address unreachable",
            (1, 4) => "port unreachable",
            (1, 5) => "source address failed policy",
            (1, 6) => "route rejected",
            (2, _) => "packet too big",
            (3, _) => "hop limit exceeded",
            (4, _) => "parameter problem",
            _ => return format!("ICMPv6 type {kind} code {code}").into(),
        }
    };
    named.into()
}

/// What the flags of a TCP reply mean.
const fn tcp_answer(flags: u8) -> &'static str {
    const RST: u8 = 0x04;
    const SYN_ACK: u8 = 0x12;
    if flags & RST != 0 {
        "port closed"
    } else if flags & SYN_ACK == SYN_ACK {
        "port open"
    } else {
        "TCP answered"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_digits_that_matter() {
        for (nanos, text) in [
            (0, "0.000 ms"),
            (312_400, "0.312 ms"),
            (9_999_000, "9.999 ms"),
            (12_345_678, "12.35 ms"),
            (147_151_000_000, "147151.0 ms"),
        ] {
            assert_eq!(rtt(nanos), text);
        }
        for (nanos, text) in [
            (5, "less than 1 ms"),
            (45_000_000, "45 ms"),
            (3_290_000_000, "3.2 s"),
            (125_000_000_000, "2 min 5 s"),
            (3_780_000_000_000, "1 h 3 min"),
        ] {
            assert_eq!(duration(nanos), text);
        }
    }
}
