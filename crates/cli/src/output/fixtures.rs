//! Traces of every kind of path, with the TTLs that real routers gave (TNT's technical report).

use core::net::{IpAddr, Ipv4Addr};

use plumb_record::{
    Hop, HopTunnel, LabelStackEntry, Lsr, LsrMethod, Method, Revelation, Role, StopReason, Trace,
    TraceSchema, TraceType, Trigger, Tunnel, TunnelType, Variant, WallTime,
};

/// Every fixture with its name.
pub(crate) fn all() -> Vec<(&'static str, Trace)> {
    vec![
        ("plain", plain()),
        ("explicit", explicit()),
        ("implicit", implicit()),
        ("opaque", opaque()),
        ("php", php()),
        ("uhp", uhp()),
        ("junos", junos()),
        ("two-tunnels", two_tunnels()),
        ("silent-ingress", silent_ingress()),
        ("nothing-revealed", nothing_revealed()),
        ("uhp-unrevealed", uhp_unrevealed()),
        ("incomplete", incomplete()),
        ("silent-hops", silent_hops()),
        ("unreachable", unreachable()),
        ("looping", looping()),
        ("tcp-over-ipv6", tcp_over_ipv6()),
    ]
}

/// A path without tunnels, with names.
pub(crate) fn plain() -> Trace {
    let mut trace = trace(vec![
        hop(1, 1, 255, Some(255)),
        hop(2, 2, 254, Some(254)),
        hop(3, 9, 253, Some(253)),
    ]);
    trace.dst_name = Some("www.example.net".into());
    trace.hops[0].name = Some("gateway.example.net".into());
    trace.hops[1].rtt_ns = Some(12_345_678);
    trace
}

/// Labels at every router (G1).
pub(crate) fn explicit() -> Trace {
    let mut hops = vec![
        hop(1, 1, 255, Some(255)),
        hop(2, 2, 254, Some(254)),
        label(hop(3, 3, 247, Some(253)), 19, 1),
        label(hop(4, 4, 248, Some(252)), 25, 1),
        label(hop(5, 5, 251, Some(251)), 18, 1),
        hop(6, 6, 250, Some(250)),
        hop(7, 7, 249, Some(249)),
        hop(8, 9, 248, Some(248)),
    ];
    for (hop, quoted) in hops[2..5].iter_mut().zip(1..) {
        hop.quoted_ttl = Some(quoted);
    }
    place(&mut hops, 0, &[(2, Role::Ingress), (6, Role::Egress)]);
    place(
        &mut hops,
        0,
        &[(3, Role::Lsr), (4, Role::Lsr), (5, Role::Lsr)],
    );
    let mut trace = trace(hops);
    trace.tunnels = vec![Tunnel {
        lsrs: vec![seen(3), seen(4), seen(5)],
        revelation: Revelation::NotNeeded,
        ..tunnel(TunnelType::Explicit, Trigger::Lse, 2, 6)
    }];
    trace
}

/// Quoted TTLs that rise, no labels.
pub(crate) fn implicit() -> Trace {
    let mut trace = explicit();
    for hop in &mut trace.hops {
        hop.mpls.clear();
    }
    trace.tunnels[0].kind = TunnelType::Implicit;
    trace.tunnels[0].trigger = Trigger::QuotedTtl;
    trace
}

/// One label with a high TTL, three routers revealed one by one (G6).
pub(crate) fn opaque() -> Trace {
    let mut hops = vec![
        hop(1, 1, 255, Some(255)),
        hop(2, 2, 254, Some(254)),
        frpla(label(hop(3, 6, 250, Some(250)), 16, 252), 3),
        frpla(hop(4, 7, 250, Some(250)), 2),
        frpla(hop(5, 9, 250, Some(250)), 1),
    ];
    place(&mut hops, 0, &[(2, Role::Ingress), (3, Role::Egress)]);
    let mut trace = trace(hops);
    trace.tunnels = vec![Tunnel {
        lsrs: brpr(),
        last_step: Some(Revelation::NothingRevealed),
        estimated_lsrs: Some(3),
        ..tunnel(TunnelType::Opaque, Trigger::LseTtl, 2, 6)
    }];
    trace
}

/// Nothing to be seen but an asymmetry, three routers revealed one by one (G7).
pub(crate) fn php() -> Trace {
    let mut trace = opaque();
    for hop in &mut trace.hops {
        hop.mpls.clear();
        hop.vendor = vec!["cisco".into(), "huawei".into()];
    }
    trace.tunnels = vec![Tunnel {
        variant: Some(Variant::Php),
        last_step: Some(Revelation::NothingRevealed),
        ..tunnel(TunnelType::Invisible, Trigger::Frpla, 2, 6)
    }];
    trace.tunnels[0].lsrs = brpr();
    trace
}

/// The router behind the tunnel answers twice, four routers revealed through their links (G8).
pub(crate) fn uhp() -> Trace {
    let mut hops = vec![
        hop(1, 1, 255, Some(255)),
        hop(2, 2, 254, Some(254)),
        frpla(hop(3, 7, 252, Some(252)), 1),
        hop(4, 7, 252, Some(252)),
        hop(5, 9, 251, Some(251)),
    ];
    place(&mut hops, 0, &[(2, Role::Ingress)]);
    let mut trace = trace(hops);
    trace.tunnels = vec![Tunnel {
        variant: Some(Variant::Uhp),
        lsrs: (3u8..=5)
            .map(|n| revealed(n, LsrMethod::Buddy, 7 - n))
            .collect(),
        hidden_egress: Some(revealed(6, LsrMethod::Buddy, 1)),
        last_step: Some(Revelation::NothingRevealed),
        ..tunnel(TunnelType::Invisible, Trigger::DupIp, 2, 6)
    }];
    trace
}

/// Initial TTLs that differ by type, three routers revealed at once (G12).
pub(crate) fn junos() -> Trace {
    let mut hops = vec![
        hop(1, 1, 255, Some(64)),
        hop(2, 2, 254, Some(63)),
        frpla(hop(3, 6, 250, Some(62)), 3),
        frpla(hop(4, 7, 250, Some(61)), 2),
        frpla(hop(5, 9, 250, Some(60)), 1),
    ];
    for hop in &mut hops {
        hop.vendor = vec!["juniper".into()];
    }
    hops[2].rtla = Some(3);
    place(&mut hops, 0, &[(2, Role::Ingress), (3, Role::Egress)]);
    let mut trace = trace(hops);
    trace.tunnels = vec![Tunnel {
        variant: Some(Variant::Php),
        lsrs: (3u8..=5).map(|n| revealed(n, LsrMethod::Dpr, 1)).collect(),
        last_step: Some(Revelation::NothingRevealed),
        ..tunnel(TunnelType::Invisible, Trigger::Rtla, 2, 6)
    }];
    trace.tunnels[0].lsrs[1].name = Some("core.example.net".into());
    trace
}

/// A hidden tunnel whose egress is the ingress of an explicit one.
pub(crate) fn two_tunnels() -> Trace {
    let mut trace = php();
    trace.hops.truncate(3);
    trace.hops.extend([
        label(hop(4, 7, 246, None), 3001, 1),
        hop(5, 8, 245, None),
        hop(6, 9, 244, None),
    ]);
    trace.hops[3].mpls.push(LabelStackEntry {
        label: 77,
        tc: 5,
        s: true,
        ttl: 2,
    });
    place(
        &mut trace.hops,
        1,
        &[(3, Role::Ingress), (4, Role::Lsr), (5, Role::Egress)],
    );
    trace.tunnels.push(Tunnel {
        id: 1,
        lsrs: vec![seen(7)],
        revelation: Revelation::NotNeeded,
        ..tunnel(TunnelType::Explicit, Trigger::Lse, 6, 8)
    });
    trace
}

/// The ingress did not answer.
pub(crate) fn silent_ingress() -> Trace {
    let mut trace = php();
    trace.hops[1] = silent(2);
    trace.tunnels[0].ingress = None;
    trace
}

/// A trigger, but the routers stay hidden.
pub(crate) fn nothing_revealed() -> Trace {
    let mut trace = php();
    trace.tunnels[0].lsrs.clear();
    trace.tunnels[0].complete = false;
    trace.tunnels[0].last_step = None;
    trace.tunnels[0].revelation = Revelation::NothingRevealed;
    trace.tunnels[0].estimated_lsrs = Some(3);
    for hop in &mut trace.hops {
        hop.tunnel = None;
    }
    trace
}

/// The router behind the tunnel answers twice, and that is all.
pub(crate) fn uhp_unrevealed() -> Trace {
    let mut trace = uhp();
    let tunnel = &mut trace.tunnels[0];
    tunnel.lsrs.clear();
    tunnel.hidden_egress = None;
    tunnel.egress = None;
    tunnel.complete = false;
    tunnel.last_step = None;
    tunnel.revelation = Revelation::TargetSilent;
    trace
}

/// The revelation stopped half-way.
pub(crate) fn incomplete() -> Trace {
    let mut trace = php();
    trace.tunnels[0].lsrs.remove(0);
    trace.tunnels[0].last_step = Some(Revelation::TargetSilent);
    trace.tunnels[0].complete = false;
    trace
}

/// Nothing answers beyond the second hop.
pub(crate) fn silent_hops() -> Trace {
    let mut trace = plain();
    trace.dst_name = None;
    trace.hops.truncate(2);
    trace.hops.extend((3..=7).map(silent));
    trace.stop_reason = StopReason::GapLimit;
    trace.duration_ns = 3_290_000_000;
    trace
}

/// A router refuses.
pub(crate) fn unreachable() -> Trace {
    let mut trace = plain();
    trace.hops[2].addr = Some(address(3));
    trace.hops[2].icmp_type = Some(3);
    trace.hops[2].icmp_code = Some(13);
    trace.hops[2].nat = true;
    trace.stop_reason = StopReason::Unreachable;
    trace
}

/// Two routers send the probes to and fro.
pub(crate) fn looping() -> Trace {
    let mut trace = plain();
    trace.hops[2] = hop(3, 1, 253, Some(255));
    trace.stop_reason = StopReason::Loop;
    trace
}

/// An open port at an IPv6 address.
pub(crate) fn tcp_over_ipv6() -> Trace {
    let mut trace = plain();
    trace.method = Method::TcpParis;
    trace.src = v6(0xffff);
    trace.dst = v6(9);
    trace.src_port = 40_000;
    trace.dst_port = Some(443);
    for hop in &mut trace.hops {
        hop.addr = Some(v6(hop.ttl.into()));
        hop.name = None;
        hop.icmp_type = Some(3);
        hop.reply_ip_id = None;
        hop.reply_tos = None;
        hop.quoted_tos = None;
    }
    let last = &mut trace.hops[2];
    last.addr = Some(v6(9));
    last.icmp_type = None;
    last.icmp_code = None;
    last.quoted_ttl = None;
    last.quoted_size = None;
    last.tcp_flags = Some(0x12);
    trace
}

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(5, 0, last, last).into()
}

fn v6(last: u16) -> IpAddr {
    IpAddr::V6([0x2a00, 0x5000, 0, 0, 0, 0, 0, last].into())
}

fn trace(hops: Vec<Hop>) -> Trace {
    Trace {
        schema: TraceSchema::V1,
        kind: TraceType::Trace,
        method: Method::IcmpParis,
        src: Ipv4Addr::new(5, 0, 0, 2).into(),
        dst: address(9),
        dst_name: None,
        src_port: 4242,
        dst_port: None,
        start: WallTime(1_795_231_111_120_000_000),
        duration_ns: 45_600_000,
        rtt_error_ns: None,
        stop_reason: StopReason::Completed,
        probes_sent: 31,
        first_ttl: 1,
        hops,
        tunnels: Vec::new(),
    }
}

fn hop(ttl: u8, router: u8, reply_ttl: u8, echo_reply_ttl: Option<u8>) -> Hop {
    let destination = router == 9;
    Hop {
        ttl,
        addr: Some(address(router)),
        rtt_ns: Some(u64::from(ttl) * 1_017_000),
        attempt: 1,
        sent_after_ns: u64::from(ttl) * 1_000_000,
        reply_ttl: Some(reply_ttl),
        reply_tos: Some(192),
        reply_ip_id: Some(u16::from(ttl) * 7),
        reply_size: Some(56),
        icmp_type: Some(if destination { 0 } else { 11 }),
        icmp_code: Some(0),
        quoted_ttl: (!destination).then_some(1),
        quoted_tos: (!destination).then_some(0),
        quoted_size: (!destination).then_some(44),
        echo_reply_ttl,
        frpla: (!destination).then_some(0),
        rtla: None,
        uturn: Some(0),
        ..Hop::default()
    }
}

fn silent(ttl: u8) -> Hop {
    Hop {
        ttl,
        attempt: 2,
        sent_after_ns: u64::from(ttl) * 1_000_000,
        ..Hop::default()
    }
}

fn frpla(mut hop: Hop, frpla: i16) -> Hop {
    hop.frpla = Some(frpla);
    hop
}

fn label(mut hop: Hop, label: u32, ttl: u8) -> Hop {
    hop.mpls.push(LabelStackEntry {
        label,
        tc: 0,
        s: true,
        ttl,
    });
    hop
}

fn place(hops: &mut [Hop], id: u16, roles: &[(u8, Role)]) {
    for &(ttl, role) in roles {
        for hop in hops.iter_mut().filter(|h| h.ttl == ttl) {
            hop.tunnel = Some(HopTunnel { id, role });
        }
    }
}

fn tunnel(kind: TunnelType, trigger: Trigger, ingress: u8, egress: u8) -> Tunnel {
    Tunnel {
        id: 0,
        kind,
        variant: None,
        trigger,
        ingress: Some(address(ingress)),
        egress: Some(address(egress)),
        lsrs: Vec::new(),
        hidden_egress: None,
        complete: true,
        revelation: Revelation::Revealed,
        last_step: None,
        estimated_lsrs: None,
        probes_sent: 12,
    }
}

fn seen(router: u8) -> Lsr {
    Lsr {
        addr: Some(address(router)),
        name: None,
        method: LsrMethod::Seen,
        step: 0,
        ttl: router,
        rtt_ns: None,
        reply_ttl: None,
        quoted_ttl: None,
        echo_reply_ttl: None,
    }
}

fn revealed(router: u8, method: LsrMethod, step: u8) -> Lsr {
    Lsr {
        addr: Some(address(router)),
        name: None,
        method,
        step,
        // What is not revealed yet is passed under a label.
        ttl: if method == LsrMethod::Dpr { router } else { 3 },
        rtt_ns: Some(u64::from(router) * 900_000),
        reply_ttl: Some(254 - router + 2),
        quoted_ttl: Some(1),
        echo_reply_ttl: Some(254 - router + 2),
    }
}

fn brpr() -> Vec<Lsr> {
    (3u8..=5)
        .map(|n| revealed(n, LsrMethod::Brpr, 6 - n))
        .collect()
}
