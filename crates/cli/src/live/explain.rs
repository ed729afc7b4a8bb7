//! Words: what a tunnel is, why nothing answers, what a loss means.

use core::time::Duration;

use plumb_probe::Stats;
use plumb_record::{LsrMethod, Method, Revelation, StopReason, Trigger, TunnelType, Variant};
use plumb_wire::Instant;

use crate::live::columns::milliseconds;
use crate::live::model::{Hidden, Target, TunnelState, What};
use crate::output::table::{failure, hidden, routers_inside};
use crate::output::text;

/// How long nothing may answer before there is an explanation.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// Class, popping, routers and trigger of a tunnel, in a line.
pub(crate) fn title(state: &TunnelState) -> String {
    let tunnel = &state.tunnel;
    let variant = match tunnel.variant {
        Some(Variant::Php) => " (PHP)",
        Some(Variant::Uhp) => " (UHP)",
        None => "",
    };
    format!(
        "MPLS {}{variant}: {}; {}",
        text::tunnel_type(tunnel.kind),
        routers_inside(tunnel),
        state.evidence
    )
}

/// What kind of tunnel it is, what gave it away, and how its routers were found.
pub(crate) fn tunnel(state: &TunnelState) -> String {
    let tunnel = &state.tunnel;
    let kind = match (tunnel.kind, tunnel.variant) {
        (TunnelType::Explicit, _) => {
            "The routers of this explicit tunnel answer and quote their labels: nothing is hidden."
        }
        (TunnelType::Implicit, _) => {
            "The routers of this implicit tunnel answer like any others, without their labels."
        }
        (TunnelType::Opaque, _) => {
            "Of this opaque tunnel only the end answers, with a label whose TTL started at 255: \
             the routers before it never saw the probe's own TTL."
        }
        (TunnelType::Invisible, Some(Variant::Uhp)) => {
            "The ingress of this invisible tunnel starts the label's TTL at 255, so no router \
             inside answers. The egress takes the label off itself (ultimate hop popping) and \
             passes on even a probe whose TTL is used up, so it is missing too, and the router \
             behind it answers twice."
        }
        (TunnelType::Invisible, _) => {
            "The ingress of this invisible tunnel starts the label's TTL at 255, so no router \
             inside answers. The label is off before the egress (penultimate hop popping)."
        }
    };
    let trigger = match tunnel.trigger {
        Trigger::Lse => "The quoted labels gave it away.",
        Trigger::QuotedTtl => {
            "It was given away by quoted TTLs that rise from router to router: inside, only the \
             label's TTL is counted down."
        }
        Trigger::Uturn => {
            "It was given away by U-turns: time-exceeded replies go on to the tunnel's end \
             before they come back, so they take more hops than echo replies."
        }
        Trigger::LseTtl => "The TTL of the quoted label gave it away.",
        Trigger::DupIp => "It was given away by the same address at two TTLs in a row.",
        Trigger::Rtla => {
            "It was given away by RTLA: time-exceeded replies come back over more hops than echo \
             replies, because a return tunnel counts only the former's TTL."
        }
        Trigger::Frpla => {
            "It was given away by FRPLA: going by TTLs, the way back is longer than the way \
             there, which does not count the tunnel's routers."
        }
        Trigger::Forced => "No trigger fired; revelation was asked for between all hops.",
    };
    let mut words = format!("{kind} {trigger}");
    if tunnel.revelation == Revelation::Revealed {
        let hidden = tunnel.lsrs.iter().chain(&tunnel.hidden_egress);
        let methods: Vec<LsrMethod> = hidden.map(|lsr| lsr.method).collect();
        for (method, how) in [
            (
                LsrMethod::Dpr,
                " Direct path revelation: a trace to the egress itself took no labels and \
                 showed the routers at once.",
            ),
            (
                LsrMethod::Brpr,
                " Backward recursive path revelation: the tunnel towards the egress ends one \
                 router earlier, the one towards that another one earlier, and so on.",
            ),
            (
                LsrMethod::Buddy,
                " Buddy: traces to the other ends of the links showed them.",
            ),
            (
                LsrMethod::OneHop,
                " One router: direct or backward recursive revelation, which look the same here.",
            ),
        ] {
            if methods.contains(&method) {
                words.push_str(how);
            }
        }
    } else if let Some(failure) = failure(tunnel) {
        words.push_str(&format!(" Revelation: {failure}."));
    }
    words
}

/// How a router that is no hop is known, in a line.
pub(crate) fn hidden_router(state: &TunnelState, router: &Hidden) -> String {
    let (lsr, egress) = match router {
        Hidden::Lsr(lsr) => (lsr, ""),
        Hidden::Egress(lsr) => (lsr, ", egress"),
        Hidden::Unknown => return hidden(&state.tunnel),
    };
    let time = lsr
        .rtt_ns
        .map(|rtt| format!(", {} ms", milliseconds(rtt)))
        .unwrap_or_default();
    let method = text::lsr_method(lsr.method);
    format!("revealed: {method} step {}{egress}{time}", lsr.step)
}

/// Something that changed, in a line.
pub(crate) fn change(what: &What) -> String {
    let ends = |tunnel: &plumb_record::Tunnel| {
        let end = |addr: Option<core::net::IpAddr>| {
            addr.map_or_else(|| "*".to_owned(), |addr| addr.to_string())
        };
        format!(
            "{} tunnel {} to {}",
            text::tunnel_type(tunnel.kind),
            end(tunnel.ingress),
            end(tunnel.egress)
        )
    };
    match what {
        What::Path { ttl, from, to } => format!("hop {ttl}: {to} in place of {from}"),
        What::TunnelAppeared(tunnel) => format!("new: {}", ends(tunnel)),
        What::TunnelDisappeared(tunnel) => format!("gone: {}", ends(tunnel)),
        What::DestinationLost => "the destination is silent".to_owned(),
        What::DestinationBack => "the destination answers again".to_owned(),
    }
}

/// What a loss at a hop means; `None` if there is none or too little is known.
pub(crate) fn loss(target: &Target, ttl: u8) -> Option<&'static str> {
    let hop = target.hop(ttl)?;
    let here = hop.statistics();
    if here.lost() == 0 || here.received() == 0 || here.sent() < 5 {
        return None;
    }
    let behind: Vec<f64> = target
        .hops()
        .filter(|hop| hop.ttl() > ttl && hop.statistics().received() > 0)
        .map(|hop| hop.statistics().loss_percent())
        .collect();
    if behind.is_empty() {
        return None;
    }
    Some(if loss_is_local(target, ttl) {
        "Hops behind it lose less, so it forwards what it does not answer: it limits its replies."
    } else {
        "Every hop behind it loses about as much: packets are lost here or on the way back."
    })
}

/// True if a hop behind loses much less, so that the loss is of replies, not of what passes.
pub(crate) fn loss_is_local(target: &Target, ttl: u8) -> bool {
    let loss = |ttl: u8| target.hop(ttl).map(|hop| hop.statistics().loss_percent());
    let Some(here) = loss(ttl) else { return false };
    target
        .hops()
        .filter(|hop| hop.ttl() > ttl && hop.statistics().received() > 0)
        .any(|hop| hop.statistics().loss_percent() <= here / 2.0)
}

/// Why nothing, or nothing from the destination, has come for a while: what was sent, what came
/// back, and the likely cause. `None` as long as there is nothing to explain.
///
/// `round` is how long a round may take: only after more than that is it odd that what answered
/// before does not.
pub(crate) fn silence(
    target: &Target,
    wait: Duration,
    round: Duration,
    stats: &Stats,
    now: Instant,
) -> Option<String> {
    let started = target.first_started()?;
    let quiet = |last: Option<Instant>| {
        let quiet = now.since(last.unwrap_or(started));
        let patience = last.map_or(PATIENCE, |_| PATIENCE + round);
        (quiet >= patience).then_some(quiet)
    };
    if let Some(quiet) = quiet(target.last_answer()) {
        return Some(nothing(target, wait, stats, quiet));
    }
    let waited = quiet(target.destination_answer())?;
    if target.total_rounds() == 0 {
        return None;
    }
    let last = target.hops().rfind(|hop| hop.current().is_some())?;
    let seconds = waited.as_secs();
    let addr = last.current()?;
    let before = format!("{} has not answered for {seconds} s;", target.dst());
    Some(match target.stop_reason()? {
        StopReason::Unreachable => format!(
            "{before} {addr} at hop {} says: {}.",
            last.ttl(),
            last.latest()
                .and_then(|hop| Some((hop.icmp_type?, hop.icmp_code.unwrap_or(0))))
                .map_or_else(
                    || "unreachable".into(),
                    |(kind, code)| text::icmp_error(addr.is_ipv4(), kind, code)
                )
        ),
        StopReason::Loop => format!(
            "{before} packets go round in a circle by way of {addr}: two routers disagree about \
             where it is."
        ),
        StopReason::HopLimit => format!(
            "{before} hop {} still is not the end: --max-hops goes further.",
            last.ttl()
        ),
        StopReason::Completed | StopReason::GapLimit | StopReason::Interrupted => format!(
            "{before} the last answer is from {addr} at hop {}. It is down, or a firewall behind \
             that hop drops {}: try --method {}.",
            last.ttl(),
            probes(target.method()),
            other_method(target.method())
        ),
    })
}

fn nothing(target: &Target, wait: Duration, stats: &Stats, quiet: Duration) -> String {
    let packets = text::count(stats.sent, "packet", "packets");
    let seconds = quiet.as_secs();
    let sent = format!(
        "No answer for {seconds} s. Sent: {packets} of {}.",
        probes(target.method())
    );
    let (came, cause) = if stats.sent == 0 && stats.send_errors == 0 {
        (
            "Nothing has left yet".to_owned(),
            "the rate cap (--rate) holds them back".to_owned(),
        )
    } else if stats.send_errors >= stats.sent.max(1) || local_refusal(target) {
        (
            format!("This system refused to send {}", stats.send_errors),
            "there is no route, the interface is down, or a local firewall forbids them; `plumb \
             doctor` checks this system"
                .to_owned(),
        )
    } else if stats.late > 0 && stats.late >= stats.replies {
        (
            format!(
                "{} came after the wait",
                text::count(stats.late, "reply", "replies")
            ),
            format!("the path is slower than --wait {wait:?}"),
        )
    } else if target.last_answer().is_some() {
        (
            "Earlier rounds were answered".to_owned(),
            "the first router or the link to it is down".to_owned(),
        )
    } else {
        let came = match stats.ignored {
            0 => "Nothing came back".to_owned(),
            n => format!(
                "{} came, none of them an answer",
                text::count(n, "packet", "packets")
            ),
        };
        let cause = format!(
            "a firewall, on this system or near it, drops the probes or the ICMP errors they \
             cause: try --method {}, and `plumb doctor`",
            other_method(target.method())
        );
        (came, cause)
    };
    format!("{sent} {came}; likely cause: {cause}.")
}

fn local_refusal(target: &Target) -> bool {
    target.stop_reason() == Some(StopReason::Unreachable) && target.last_answer().is_none()
}

const fn probes(method: Method) -> &'static str {
    match method {
        Method::IcmpParis => "ICMP echo requests",
        Method::UdpParis => "UDP datagrams",
        Method::TcpParis => "TCP SYN segments",
    }
}

const fn other_method(method: Method) -> &'static str {
    match method {
        Method::IcmpParis => "tcp-paris --port 443",
        Method::UdpParis | Method::TcpParis => "icmp-paris",
    }
}
