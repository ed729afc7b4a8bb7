//! What plumb captures, read by somebody else: tshark finds no fault in a probe, and reads the same
//! out of the replies.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use plumb_record::Trace;
use plumb_sim::labs;
use plumb_tests::{Directory, Records, at_once, in_lab, require, run};

/// A packet as tshark dissects it: the values of each field, outer headers first.
type Packet = BTreeMap<&'static str, Vec<String>>;

const FIELDS: [&str; 28] = [
    "frame.packet_flags_direction",
    "frame.time_epoch",
    "ip.src",
    "ip.dst",
    "ip.ttl",
    "ip.dsfield",
    "ipv6.src",
    "ipv6.dst",
    "ipv6.hlim",
    "ipv6.flow",
    "icmp.type",
    "icmp.ident",
    "icmp.checksum",
    "icmpv6.type",
    "icmpv6.echo.identifier",
    "icmpv6.checksum",
    "icmp.mpls.label",
    "icmp.mpls.exp",
    "icmp.mpls.s",
    "icmp.mpls.ttl",
    "udp.srcport",
    "udp.dstport",
    "tcp.srcport",
    "tcp.dstport",
    "_ws.expert.severity",
    "_ws.expert.message",
    "_ws.malformed",
    "_ws.col.Protocol",
];

/// The fields that say whether a checksum is right.
const CHECKSUMS: [&str; 5] = [
    "ip.checksum.status",
    "icmp.checksum.status",
    "icmpv6.checksum.status",
    "udp.checksum.status",
    "tcp.checksum.status",
];

const OUTBOUND: &str = "0x00000002";
const INBOUND: &str = "0x00000001";

fn dissect(capture: &Path) -> Vec<Packet> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(capture);
    for protocol in ["ip", "udp", "tcp"] {
        command.args(["-o", &format!("{protocol}.check_checksum:TRUE")]);
    }
    // The payload of a probe is random, and so is a source port: what looks like RTCP or VXLAN is not.
    command.args(["-d", "udp.port==1-65535,data"]);
    command.args(["-T", "fields", "-E", "separator=|", "-E", "aggregator=;"]);
    for field in FIELDS.iter().chain(&CHECKSUMS) {
        command.args(["-e", field]);
    }
    let done = run(&mut command).expect(0);
    done.stdout
        .lines()
        .map(|line| {
            FIELDS
                .into_iter()
                .chain(CHECKSUMS)
                .zip(line.split('|'))
                .filter(|(_, values)| !values.is_empty())
                .map(|(name, values)| (name, values.split(';').map(str::to_owned).collect()))
                .collect()
        })
        .collect()
}

/// The values of a field, none if the packet does not have it.
fn all<'a>(packet: &'a Packet, field: &str) -> &'a [String] {
    packet.get(field).map_or(&[], Vec::as_slice)
}

/// The values of the IPv4 field or of the IPv6 field, whichever is there.
fn either<'a>(packet: &'a Packet, v4: &str, v6: &str) -> &'a [String] {
    match all(packet, v4) {
        [] => all(packet, v6),
        values => values,
    }
}

fn is(packet: &Packet, direction: &str) -> bool {
    all(packet, "frame.packet_flags_direction") == [direction]
}

/// Traces in a lab and gives the record, the count of packets sent, and what tshark sees.
fn traced(lab: &str, options: &[&str], target: &str) -> (Trace, u64, Vec<Packet>) {
    let directory = Directory::new();
    let capture = directory.file("capture.pcapng");
    let mut arguments = vec!["trace", "--json", "--parallel", "1", "-w", "500ms"];
    arguments.extend(["--pcap", capture.to_str().unwrap()]);
    arguments.extend(options);
    arguments.push(target);
    let done = in_lab(lab, &arguments).expect(0);
    let records = Records::of(&done);
    let trace = records.trace().clone();
    (trace, records.end.probes_sent, dissect(&capture))
}

fn target(lab: &str) -> &'static str {
    labs().iter().find(|l| l.name == lab).unwrap().targets[0]
}

/// tshark finds every probe whole, with the right checksums, and each trace to keep its flow.
#[track_caller]
fn probes_are_sound(lab: &str, method: &str, protocol: &[&str], flow: &[&str]) {
    let (trace, sent, packets) = traced(lab, &[method], target(lab));
    let probes: Vec<&Packet> = packets.iter().filter(|p| is(p, OUTBOUND)).collect();
    assert_eq!(probes.len() as u64, sent, "{lab} {method}");
    let mut flows: BTreeMap<String, BTreeSet<Vec<String>>> = BTreeMap::new();
    let mut ttls = BTreeSet::new();
    for probe in probes {
        for field in CHECKSUMS {
            assert!(
                all(probe, field).iter().all(|status| status == "1"),
                "{probe:?}"
            );
        }
        let checked = CHECKSUMS.iter().map(|field| all(probe, field).len());
        let expected = if trace.dst.is_ipv4() { 2 } else { 1 };
        assert_eq!(checked.sum::<usize>(), expected, "{probe:?}");
        assert_eq!(all(probe, "_ws.malformed"), [""; 0], "{probe:?}");
        let error = "8388608".to_owned();
        assert!(
            !all(probe, "_ws.expert.severity").contains(&error),
            "{probe:?}"
        );
        let seen = &all(probe, "_ws.col.Protocol")[0];
        let dst = either(probe, "ip.dst", "ipv6.dst")[0].clone();
        let ttl: u8 = either(probe, "ip.ttl", "ipv6.hlim")[0].parse().unwrap();
        if dst == trace.dst.to_string() && ttl < 64 {
            assert!(protocol.contains(&seen.as_str()), "{probe:?}");
            ttls.insert(ttl);
        }
        if ttl < 64 {
            let values = flow.iter().map(|field| all(probe, field).join(";"));
            flows.entry(dst).or_default().insert(values.collect());
        }
    }
    let highest = u8::try_from(trace.hops.len()).unwrap();
    assert!((1..=highest).all(|ttl| ttls.contains(&ttl)), "{ttls:?}");
    for (dst, flows) in flows {
        assert_eq!(flows.len(), 1, "{dst}: {flows:?}");
        let flow = flows.first().unwrap();
        assert!(!flow.iter().any(String::is_empty), "{flow:?}");
    }
}

#[test]
fn root_tshark_finds_no_fault_in_icmp_probes() {
    require!("tshark");
    let flow = ["icmp.type", "icmp.ident", "icmp.checksum", "ip.dsfield"];
    probes_are_sound("php", "--icmp", &["ICMP"], &flow);
    let flow = [
        "icmpv6.type",
        "icmpv6.echo.identifier",
        "icmpv6.checksum",
        "ipv6.flow",
    ];
    probes_are_sound("ipv6", "--icmp", &["ICMPv6"], &flow);
}

#[test]
fn root_tshark_finds_no_fault_in_udp_probes() {
    require!("tshark");
    let flow = ["udp.srcport", "udp.dstport", "ip.dsfield"];
    probes_are_sound("php", "--udp", &["UDP"], &flow);
    probes_are_sound(
        "ipv6",
        "--udp",
        &["UDP"],
        &["udp.srcport", "udp.dstport", "ipv6.flow"],
    );
}

#[test]
fn root_tshark_finds_no_fault_in_tcp_probes() {
    require!("tshark");
    let flow = ["tcp.srcport", "tcp.dstport", "ip.dsfield"];
    probes_are_sound("php", "--tcp", &["TCP"], &flow);
    probes_are_sound(
        "ipv6",
        "--tcp",
        &["TCP"],
        &["tcp.srcport", "tcp.dstport", "ipv6.flow"],
    );
}

/// Address, TTL of the reply, quoted TTL, and the label stack, of an ICMP error.
type Reply = (String, String, String, Vec<[String; 4]>);

/// What tshark reads in the ICMP errors that quote a probe to `dst`.
fn replies(packets: &[Packet], dst: &str) -> BTreeSet<Reply> {
    let mut replies = BTreeSet::new();
    for packet in packets.iter().filter(|p| is(p, INBOUND)) {
        let (src, to) = (
            either(packet, "ip.src", "ipv6.src"),
            either(packet, "ip.dst", "ipv6.dst"),
        );
        if to.len() < 2 || to[1] != dst {
            continue;
        }
        let ttl = either(packet, "ip.ttl", "ipv6.hlim");
        let field = |name: &str, n: usize| all(packet, name)[n].clone();
        let labels = (0..all(packet, "icmp.mpls.label").len())
            .map(|n| {
                [
                    field("icmp.mpls.label", n),
                    field("icmp.mpls.exp", n),
                    field("icmp.mpls.s", n),
                    field("icmp.mpls.ttl", n),
                ]
            })
            .collect();
        replies.insert((src[0].clone(), ttl[0].clone(), ttl[1].clone(), labels));
    }
    replies
}

/// The same of our record.
fn recorded(trace: &Trace) -> BTreeSet<Reply> {
    let text = |n: Option<u8>| n.map_or(String::new(), |n| n.to_string());
    trace
        .hops
        .iter()
        .filter(|hop| hop.quoted_ttl.is_some())
        .map(|hop| {
            let labels = hop
                .mpls
                .iter()
                .map(|l| {
                    [
                        l.label.to_string(),
                        l.tc.to_string(),
                        u8::from(l.s).to_string(),
                        l.ttl.to_string(),
                    ]
                })
                .collect();
            let addr = hop.addr.unwrap().to_string();
            (addr, text(hop.reply_ttl), text(hop.quoted_ttl), labels)
        })
        .collect()
}

#[test]
fn root_tshark_reads_the_same_in_the_replies() {
    require!("tshark");
    let paths = [
        ("explicit", "--icmp"),
        ("explicit", "--udp"),
        ("explicit", "--tcp"),
        ("implicit", "--icmp"),
        ("opaque", "--icmp"),
        ("explicit-null", "--udp"),
        ("icmp-tunneling", "--icmp"),
        ("uhp", "--tcp"),
        ("mixed", "--icmp"),
        ("nat", "--icmp"),
        ("ipv6", "--icmp"),
        ("ipv6", "--udp"),
        ("silent", "--icmp"),
    ];
    at_once(paths, |(lab, method)| {
        let (trace, _, packets) = traced(lab, &[method], target(lab));
        let ours = recorded(&trace);
        assert!(ours.len() > 2, "{lab} {method}");
        assert_eq!(replies(&packets, target(lab)), ours, "{lab} {method}");
    });
}

#[test]
fn root_a_capture_has_what_was_sent_and_received_in_order_of_time() {
    require!("tshark");
    let (trace, sent, packets) = traced("plain", &["--no-tunnels"], target("plain"));
    assert_eq!(sent, trace.hops.len() as u64);
    let directions: Vec<&str> = packets
        .iter()
        .map(|packet| all(packet, "frame.packet_flags_direction")[0].as_str())
        .collect();
    // One probe at a time: each answer comes before the next.
    assert_eq!(directions, [OUTBOUND, INBOUND].repeat(trace.hops.len()));
    let times: Vec<f64> = packets
        .iter()
        .map(|packet| all(packet, "frame.time_epoch")[0].parse().unwrap())
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    for (pair, hop) in times.chunks(2).zip(&trace.hops) {
        // tshark prints nanoseconds, a float of this size keeps a quarter of a microsecond.
        let rtt = (pair[1] - pair[0]) * 1e9;
        let recorded = f64::from(u32::try_from(hop.rtt_ns.unwrap()).unwrap());
        assert!((rtt - recorded).abs() < 2000.0, "{rtt} {recorded}");
    }
}

#[test]
fn root_the_pace_in_a_capture_is_never_above_the_rate() {
    require!("tshark");
    let options = ["--no-tunnels", "--parallel", "8", "--rate", "50"];
    let (_, _, packets) = traced("explicit", &options, target("explicit"));
    let times: Vec<f64> = packets
        .iter()
        .filter(|packet| is(packet, OUTBOUND))
        .map(|packet| all(packet, "frame.time_epoch")[0].parse().unwrap())
        .collect();
    assert!(times.len() >= 8);
    // 20 ms between two probes. How punctual they are depends on the machine; a burst would not.
    let whole = times.last().unwrap() - times[0];
    let gaps = f64::from(u32::try_from(times.len() - 1).unwrap());
    assert!(whole > gaps * 0.010, "{whole} for {gaps} gaps");
}
