//! The record of a finished trace, `plumb.trace/1`.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::WallTime;

/// Name and version of the schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum TraceSchema {
    /// `plumb.trace/1`.
    #[default]
    #[serde(rename = "plumb.trace/1")]
    V1,
}

/// The value of `type` in the record of a finished trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum TraceType {
    /// `trace`.
    #[default]
    Trace,
}

/// How a path is probed. All three keep what load balancers hash constant over a trace.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Method {
    /// ICMP echo requests with constant checksum and identifier.
    #[default]
    IcmpParis,
    /// UDP datagrams with constant ports; the checksum names the probe.
    UdpParis,
    /// TCP SYN segments with constant ports; the sequence number names the probe.
    TcpParis,
}

/// Why a trace ended.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum StopReason {
    /// The destination answered.
    Completed,
    /// A router or the destination's host said that the destination cannot be reached, or the
    /// local system could not send.
    Unreachable,
    /// Too many consecutive hops were silent.
    #[default]
    GapLimit,
    /// The highest TTL to be probed was reached.
    HopLimit,
    /// An address answered twice with other addresses in between.
    Loop,
    /// The user or the controller stopped it.
    Interrupted,
}

/// A finished trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Trace {
    /// Schema of this record.
    pub schema: TraceSchema,
    /// Always `trace`.
    #[serde(rename = "type")]
    pub kind: TraceType,
    /// How the path was probed.
    pub method: Method,
    /// Source address of the probes.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// The name that the user gave for the destination, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dst_name: Option<String>,
    /// Source port, or ICMP identifier: with the destination port, what names the flow.
    pub src_port: u16,
    /// Destination port; null for ICMP.
    pub dst_port: Option<u16>,
    /// When the first probe left.
    pub start: WallTime,
    /// Nanoseconds from `start` to the end of the measurement, revelation included.
    pub duration_ns: u64,
    /// Most nanoseconds by which the round-trip times may be too long, because packets had to pass
    /// a virtual machine monitor; absent where they did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_error_ns: Option<u64>,
    /// Why the trace ended.
    pub stop_reason: StopReason,
    /// Probes sent for this trace: TTL-limited probes, pings and revelation, retries included.
    pub probes_sent: u32,
    /// TTL of the first hop probed.
    pub first_ttl: u8,
    /// Hops in order of TTL, silent ones included, revealed ones not.
    pub hops: Vec<Hop>,
    /// Tunnels in order of their first router on the path.
    pub tunnels: Vec<Tunnel>,
}

/// What answered at one TTL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Hop {
    /// TTL of the probe.
    pub ttl: u8,
    /// Address that answered; null if none did.
    pub addr: Option<IpAddr>,
    /// Name of the address, if reverse names were asked for and there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Round-trip time in nanoseconds.
    pub rtt_ns: Option<u64>,
    /// Attempt that was answered, from 1; attempts made if none was.
    pub attempt: u8,
    /// When that attempt left, in nanoseconds since `start`.
    pub sent_after_ns: u64,
    /// TTL of the reply as received.
    pub reply_ttl: Option<u8>,
    /// TOS byte or traffic class of the reply.
    pub reply_tos: Option<u8>,
    /// IP identification of the reply; null for IPv6, and where probing was unprivileged.
    pub reply_ip_id: Option<u16>,
    /// Length of the reply in bytes, IP header included.
    pub reply_size: Option<u16>,
    /// ICMP or ICMPv6 type of the reply; null if the reply was TCP.
    pub icmp_type: Option<u8>,
    /// ICMP or ICMPv6 code of the reply; null if the reply was TCP.
    pub icmp_code: Option<u8>,
    /// TCP flags of the reply; null if it was ICMP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_flags: Option<u8>,
    /// TTL of the probe as the reply quotes it; null if the reply quotes nothing, and where probing
    /// was unprivileged.
    pub quoted_ttl: Option<u8>,
    /// TOS byte of the probe as quoted.
    pub quoted_tos: Option<u8>,
    /// Total length of the probe in bytes as quoted.
    pub quoted_size: Option<u16>,
    /// True if the quote shows that a NAT rewrote the probe on the way.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub nat: bool,
    /// TTL of the echo reply when this address was pinged, or of this reply if it is one; null if
    /// the address was not pinged, or was silent.
    pub echo_reply_ttl: Option<u8>,
    /// MPLS label stack that the probe carried when it expired, top first.
    pub mpls: Vec<LabelStackEntry>,
    /// Forward/return path length asymmetry, in hops.
    pub frpla: Option<i16>,
    /// Return tunnel length, in hops: time-exceeded path minus echo-reply path.
    pub rtla: Option<i16>,
    /// U-turn signature, in hops, whatever the initial TTLs.
    pub uturn: Option<i16>,
    /// Vendors whose routers have this hop's pair of initial TTLs.
    pub vendor: Vec<String>,
    /// The tunnel that the hop belongs to. A hop that ends one tunnel and begins another names the
    /// one it begins; `tunnels` has both.
    pub tunnel: Option<HopTunnel>,
}

/// One MPLS label stack entry (RFC 3032, RFC 5462).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LabelStackEntry {
    /// Label, 20 bits.
    pub label: u32,
    /// Traffic class, 3 bits.
    pub tc: u8,
    /// Bottom of stack.
    pub s: bool,
    /// Time to live.
    pub ttl: u8,
}

impl From<plumb_wire::mpls::Lse> for LabelStackEntry {
    fn from(lse: plumb_wire::mpls::Lse) -> Self {
        Self {
            label: lse.label,
            tc: lse.tc,
            s: lse.s,
            ttl: lse.ttl,
        }
    }
}

/// A hop's place in a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HopTunnel {
    /// `id` of the tunnel in `tunnels`.
    pub id: u16,
    /// What the hop does there.
    pub role: Role,
}

/// What a router does in a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Role {
    /// Ingress label edge router: pushes the label.
    Ingress,
    /// Label switching router.
    Lsr,
    /// Egress label edge router: the first router behind the tunnel.
    Egress,
}

/// A tunnel's class (TNT's taxonomy).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum TunnelType {
    /// All routers answer and quote their labels.
    Explicit,
    /// All routers answer, without labels.
    Implicit,
    /// Only the last router answers, with a label whose TTL was not the probe's.
    Opaque,
    /// No router inside answers.
    Invisible,
}

/// Where an invisible tunnel's last label is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Variant {
    /// Penultimate hop popping.
    Php,
    /// Ultimate hop popping.
    Uhp,
}

/// What gave a tunnel away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Trigger {
    /// A quoted label stack entry.
    Lse,
    /// Quoted TTLs that rise.
    QuotedTtl,
    /// Time-exceeded replies that travel further than echo replies.
    Uturn,
    /// A quoted label whose TTL is neither 1 nor 255.
    LseTtl,
    /// The same address at two consecutive TTLs.
    DupIp,
    /// Return tunnel length at or above the threshold.
    Rtla,
    /// Forward/return path length asymmetry at or above the threshold.
    Frpla,
    /// Nothing: revelation was asked for everywhere.
    Forced,
}

/// How a label switching router came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum LsrMethod {
    /// It answered in the trace itself.
    Seen,
    /// Direct path revelation: one trace to the egress showed several routers.
    Dpr,
    /// Backward recursive path revelation: each trace showed one more router.
    Brpr,
    /// A trace to the other end of a point-to-point link.
    Buddy,
    /// The tunnel has one router, so DPR and BRPR cannot be told apart.
    OneHop,
}

/// A router inside a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Lsr {
    /// Address; null where a router was silent.
    pub addr: Option<IpAddr>,
    /// Name of the address, if reverse names were asked for and there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How it came to be known.
    pub method: LsrMethod,
    /// Revelation step that showed it, from 1; 0 if it was seen in the trace.
    pub step: u8,
    /// TTL of the probe in the trace that showed it.
    pub ttl: u8,
    /// Round-trip time in nanoseconds in the trace that showed it.
    pub rtt_ns: Option<u64>,
    /// TTL of its reply as received: time exceeded, or port unreachable if `method` is `buddy`.
    pub reply_ttl: Option<u8>,
    /// TTL of the probe as that reply quotes it.
    pub quoted_ttl: Option<u8>,
    /// TTL of its echo reply as received.
    pub echo_reply_ttl: Option<u8>,
}

/// What came of the attempt to reveal a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Revelation {
    /// The tunnel hides nothing.
    NotNeeded,
    /// Revelation was switched off, or the trace ended before it.
    NotTried,
    /// Hidden routers were found.
    Revealed,
    /// The trace to the egress showed no new router.
    NothingRevealed,
    /// The egress, or the other end of its link, did not answer the revelation.
    TargetSilent,
    /// The revelation's trace did not pass the ingress.
    IngressMissing,
}

/// An MPLS tunnel on a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Tunnel {
    /// Number within the trace, from 0.
    pub id: u16,
    /// Class.
    #[serde(rename = "type")]
    pub kind: TunnelType,
    /// Popping, where the class tells; null otherwise.
    pub variant: Option<Variant>,
    /// What gave it away.
    pub trigger: Trigger,
    /// Ingress label edge router; null if it was silent.
    pub ingress: Option<IpAddr>,
    /// Egress label edge router; null if it was silent or the trace ended inside.
    pub egress: Option<IpAddr>,
    /// Routers between them, from ingress to egress.
    pub lsrs: Vec<Lsr>,
    /// How the egress came to be known where the trace does not show it (ultimate hop popping).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden_egress: Option<Lsr>,
    /// False if the tunnel is known to have more routers than `lsrs` shows.
    pub complete: bool,
    /// What came of the attempt to reveal it.
    pub revelation: Revelation,
    /// What came of the last step, after earlier ones had found routers: `nothing-revealed` if
    /// there was no more to find; null if there was no router to go on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_step: Option<Revelation>,
    /// Number of routers inside that the label TTL, RTLA or FRPLA suggests; null if none does.
    pub estimated_lsrs: Option<u8>,
    /// Probes that the revelation took, 0 if its result was known from another trace.
    pub probes_sent: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_trace_is_written_with_the_documented_names_and_read_back() {
        let trace = Trace {
            schema: TraceSchema::V1,
            kind: TraceType::Trace,
            method: Method::IcmpParis,
            src: [5, 0, 0, 2].into(),
            dst: [5, 9, 0, 1].into(),
            dst_name: None,
            src_port: 0x8001,
            dst_port: None,
            start: WallTime(0),
            duration_ns: 5,
            rtt_error_ns: None,
            stop_reason: StopReason::GapLimit,
            probes_sent: 7,
            first_ttl: 1,
            hops: [Hop {
                ttl: 1,
                tunnel: Some(HopTunnel {
                    id: 0,
                    role: Role::Ingress,
                }),
                ..Hop::default()
            }]
            .into(),
            tunnels: [Tunnel {
                id: 0,
                kind: TunnelType::Invisible,
                variant: Some(Variant::Uhp),
                trigger: Trigger::DupIp,
                ingress: None,
                egress: Some([5, 0, 1, 1].into()),
                lsrs: [Lsr {
                    addr: None,
                    name: None,
                    method: LsrMethod::OneHop,
                    step: 1,
                    ttl: 3,
                    rtt_ns: None,
                    reply_ttl: None,
                    quoted_ttl: None,
                    echo_reply_ttl: None,
                }]
                .into(),
                hidden_egress: None,
                complete: false,
                revelation: Revelation::IngressMissing,
                last_step: None,
                estimated_lsrs: None,
                probes_sent: 0,
            }]
            .into(),
        };
        let text = serde_json::to_string(&trace).unwrap();
        for part in [
            r#"{"schema":"plumb.trace/1","type":"trace","method":"icmp-paris","src":"5.0.0.2","dst":"5.9.0.1""#,
            r#""start":"1970-01-01T00:00:00.000000000Z""#,
            r#""stop_reason":"gap-limit","probes_sent":7"#,
            r#""hops":[{"ttl":1,"addr":null,"rtt_ns":null"#,
            r#""tunnel":{"id":0,"role":"ingress"}"#,
            r#""tunnels":[{"id":0,"type":"invisible","variant":"uhp","trigger":"dup-ip","ingress":null,"egress":"5.0.1.1""#,
            r#""lsrs":[{"addr":null,"method":"one-hop","step":1"#,
            r#""complete":false,"revelation":"ingress-missing""#,
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        for name in [
            "reply_ttl",
            "icmp_type",
            "icmp_code",
            "quoted_ttl",
            "echo_reply_ttl",
            "mpls",
            "frpla",
            "rtla",
            "uturn",
            "vendor",
        ] {
            assert!(text.contains(&std::format!("\"{name}\":")), "{name}");
        }
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::from_value::<Trace>(value).unwrap(), trace);
        assert_eq!(trace.start.to_string(), "1970-01-01T00:00:00.000000000Z");
    }
}
