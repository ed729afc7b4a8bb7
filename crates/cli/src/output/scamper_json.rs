//! The JSON lines of scamper: `cycle-start`, one `trace` a line, `cycle-stop`.
//!
//! Revealed routers have no place in that format; what is written is what a trace saw.

use core::net::IpAddr;
use std::io::{self, Write};

use plumb_record::{Hop, Method, StopReason, Trace, WallTime};
use serde::Serialize;

/// What a line needs to know of the settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    pub(crate) attempts: u8,
    pub(crate) max_ttl: u8,
    pub(crate) wait_s: u64,
    pub(crate) tos: u8,
    /// Length of the probes in bytes that was asked for; 0 for the usual one.
    pub(crate) size: u16,
}

/// Writes the line that begins a run.
pub(crate) fn cycle_start(out: &mut dyn Write, time: WallTime) -> io::Result<()> {
    line(
        out,
        &Cycle {
            kind: "cycle-start",
            list_name: "default",
            id: 0,
            hostname: hostname(),
            start_time: Some(time.0 / NANOS),
            stop_time: None,
        },
    )
}

/// Writes the line that ends a run.
pub(crate) fn cycle_stop(out: &mut dyn Write, time: WallTime) -> io::Result<()> {
    line(
        out,
        &Cycle {
            kind: "cycle-stop",
            list_name: "default",
            id: 0,
            hostname: hostname(),
            start_time: None,
            stop_time: Some(time.0 / NANOS),
        },
    )
}

/// Writes the line of a trace.
pub(crate) fn trace(out: &mut dyn Write, trace: &Trace, context: Context) -> io::Result<()> {
    let probe_size = probe_size(trace, context.size);
    let icmp = trace.method == Method::IcmpParis;
    let (stop_reason, stop_data) = stop(trace);
    let hops: Vec<JsonHop> = trace
        .hops
        .iter()
        .filter_map(|hop| JsonHop::of(trace, hop, probe_size))
        .collect();
    line(
        out,
        &JsonTrace {
            kind: "trace",
            version: "0.1",
            userid: 0,
            method: match trace.method {
                Method::IcmpParis => "icmp-echo-paris",
                Method::UdpParis => "udp-paris",
                Method::TcpParis => "tcp",
            },
            src: trace.src,
            dst: trace.dst,
            icmp_sum: icmp.then_some(trace.src_port),
            sport: (!icmp).then_some(trace.src_port),
            dport: trace.dst_port,
            stop_reason,
            stop_data,
            start: Start {
                sec: trace.start.0 / NANOS,
                usec: trace.start.0 % NANOS / 1000,
                ftime: trace.start.to_string()[..19].replace('T', " "),
            },
            hop_count: trace.hops.last().map_or(0, |hop| hop.ttl),
            attempts: context.attempts,
            hoplimit: context.max_ttl,
            firsthop: trace.first_ttl,
            wait: context.wait_s,
            wait_probe: 0,
            tos: context.tos,
            probe_size,
            // Of the path alone: pings and revelation have no place here.
            probe_count: trace.hops.iter().map(|h| u32::from(h.attempt)).sum(),
            hops: (!hops.is_empty()).then_some(hops),
        },
    )
}

const NANOS: u64 = 1_000_000_000;

#[derive(Serialize)]
struct Cycle {
    #[serde(rename = "type")]
    kind: &'static str,
    list_name: &'static str,
    id: u32,
    hostname: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_time: Option<u64>,
}

#[derive(Serialize)]
struct JsonTrace {
    #[serde(rename = "type")]
    kind: &'static str,
    version: &'static str,
    userid: u32,
    method: &'static str,
    src: IpAddr,
    dst: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_sum: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sport: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dport: Option<u16>,
    stop_reason: &'static str,
    stop_data: u8,
    start: Start,
    hop_count: u8,
    attempts: u8,
    hoplimit: u8,
    firsthop: u8,
    wait: u64,
    wait_probe: u32,
    tos: u8,
    probe_size: u16,
    probe_count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    hops: Option<Vec<JsonHop>>,
}

#[derive(Serialize)]
struct Start {
    sec: u64,
    usec: u64,
    ftime: String,
}

#[derive(Serialize)]
struct JsonHop {
    addr: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    probe_ttl: u8,
    probe_id: u8,
    probe_size: u16,
    tx: Tx,
    rtt: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_ttl: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_tos: Option<u8>,
    reply_ipid: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_size: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_type: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp_flags: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_q_ttl: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_q_ipl: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_q_tos: Option<u8>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    icmpext: Vec<Extension>,
}

impl JsonHop {
    /// The line's entry for a hop that answered.
    fn of(trace: &Trace, hop: &Hop, probe_size: u16) -> Option<Self> {
        let tx = trace.start.0.saturating_add(hop.sent_after_ns);
        let mpls_labels: Vec<Label> = hop
            .mpls
            .iter()
            .map(|entry| Label {
                mpls_ttl: entry.ttl,
                mpls_s: entry.s.into(),
                mpls_exp: entry.tc,
                mpls_label: entry.label,
            })
            .collect();
        #[expect(
            clippy::cast_precision_loss,
            reason = "microseconds of a round-trip time"
        )]
        let rtt = (hop.rtt_ns.unwrap_or(0) / 1000) as f64 / 1000.0;
        Some(Self {
            addr: hop.addr?,
            name: hop.name.clone(),
            probe_ttl: hop.ttl,
            probe_id: hop.attempt,
            probe_size,
            tx: Tx {
                sec: tx / NANOS,
                usec: tx % NANOS / 1000,
            },
            rtt,
            reply_ttl: hop.reply_ttl,
            reply_tos: hop.reply_tos,
            // scamper has it for IPv6 as well.
            reply_ipid: hop.reply_ip_id.unwrap_or(0),
            reply_size: hop.reply_size,
            icmp_type: hop.icmp_type,
            icmp_code: hop.icmp_code,
            tcp_flags: hop.tcp_flags,
            icmp_q_ttl: hop.quoted_ttl,
            icmp_q_ipl: hop.quoted_size,
            icmp_q_tos: hop.quoted_tos.filter(|_| trace.dst.is_ipv4()),
            icmpext: if mpls_labels.is_empty() {
                Vec::new()
            } else {
                vec![Extension {
                    ie_cn: 1,
                    ie_ct: 1,
                    ie_dl: mpls_labels.len() * 4,
                    mpls_labels,
                }]
            },
        })
    }
}

#[derive(Serialize)]
struct Tx {
    sec: u64,
    usec: u64,
}

#[derive(Serialize)]
struct Extension {
    ie_cn: u8,
    ie_ct: u8,
    ie_dl: usize,
    mpls_labels: Vec<Label>,
}

#[derive(Serialize)]
struct Label {
    mpls_ttl: u8,
    mpls_s: u8,
    mpls_exp: u8,
    mpls_label: u32,
}

/// Length in bytes of the probes of a trace, IP header included.
fn probe_size(trace: &Trace, wished: u16) -> u16 {
    let ip = if trace.dst.is_ipv4() { 20 } else { 40 };
    let (usual, least) = match trace.method {
        Method::IcmpParis | Method::UdpParis => (ip + 24, ip + 10),
        Method::TcpParis => (ip + 20, ip + 20),
    };
    match wished {
        0 => usual,
        size => size.clamp(least, 1500),
    }
}

/// scamper's name of the reason to stop, and the number that goes with it.
fn stop(trace: &Trace) -> (&'static str, u8) {
    match trace.stop_reason {
        StopReason::Completed => ("COMPLETED", 0),
        StopReason::Unreachable => {
            let code = trace.hops.last().and_then(|hop| hop.icmp_code);
            ("UNREACH", code.unwrap_or(0))
        }
        StopReason::GapLimit => ("GAPLIMIT", 0),
        StopReason::HopLimit => ("HOPLIMIT", 0),
        StopReason::Loop => ("LOOP", 0),
        StopReason::Interrupted => ("HALTED", 0),
    }
}

fn line(out: &mut dyn Write, record: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, record)?;
    out.write_all(b"\n")
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    fn json(of: &Trace) -> serde_json::Value {
        let mut out = Vec::new();
        let context = Context {
            attempts: 2,
            max_ttl: 32,
            wait_s: 1,
            tos: 0,
            size: 0,
        };
        trace(&mut out, of, context).unwrap();
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_trace_has_the_fields_that_scamper_writes() {
        let explicit = json(&fixtures::explicit());
        let fields: Vec<&str> = explicit
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let mut expected = vec![
            "type",
            "version",
            "userid",
            "method",
            "src",
            "dst",
            "icmp_sum",
            "stop_reason",
            "stop_data",
            "start",
            "hop_count",
            "attempts",
            "hoplimit",
            "firsthop",
            "wait",
            "wait_probe",
            "tos",
            "probe_size",
            "probe_count",
            "hops",
        ];
        expected.sort_unstable();
        assert_eq!(fields, expected);
        assert_eq!(explicit["start"]["ftime"], "2026-11-21 03:18:31");
        assert_eq!(
            explicit["hops"][2],
            serde_json::json!({
                "addr": "5.0.3.3", "probe_ttl": 3, "probe_id": 1, "probe_size": 44,
                "tx": {"sec": 1_795_231_111, "usec": 123_000}, "rtt": 3.051,
                "reply_ttl": 247, "reply_tos": 192, "reply_ipid": 21, "reply_size": 56,
                "icmp_type": 11, "icmp_code": 0, "icmp_q_ttl": 1, "icmp_q_ipl": 44,
                "icmp_q_tos": 0,
                "icmpext": [{"ie_cn": 1, "ie_ct": 1, "ie_dl": 4, "mpls_labels":
                    [{"mpls_ttl": 1, "mpls_s": 1, "mpls_exp": 0, "mpls_label": 19}]}],
            })
        );
    }

    #[test]
    fn silent_hops_count_but_are_not_listed() {
        let silent = json(&fixtures::silent_hops());
        assert_eq!(silent["hop_count"], 7);
        assert_eq!(silent["probe_count"], 2 + 5 * 2);
        assert_eq!(silent["hops"].as_array().unwrap().len(), 2);
        assert_eq!(silent["stop_reason"], "GAPLIMIT");
        let refused = json(&fixtures::unreachable());
        assert_eq!(refused["stop_reason"], "UNREACH");
        assert_eq!(refused["stop_data"], 13);
        let tcp = json(&fixtures::tcp_over_ipv6());
        assert_eq!(tcp["dport"], 443);
        assert_eq!(tcp["probe_size"], 60);
        assert_eq!(tcp["hops"][2]["tcp_flags"], 0x12);
        assert!(tcp["hops"][1].get("icmp_q_tos").is_none());
    }
}
