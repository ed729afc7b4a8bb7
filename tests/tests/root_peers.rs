//! Other tracers on the same networks: they must see what plumb sees.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use core::net::IpAddr;
use core::time::Duration;
use std::process::Stdio;

use plumb_record::{LabelStackEntry, Trace};
use plumb_sim::labs;
use plumb_tests::{Records, Running, at_once, in_lab, lab_command, require, run};
use serde_json::{Value, json};

/// Labs on which nothing depends on chance or on the flow, the one with silent hops first.
const LABS: [&str; 14] = [
    "ipv6",
    "plain",
    "explicit",
    "implicit",
    "opaque",
    "php",
    "uhp",
    "dpr",
    "icmp-tunneling",
    "explicit-null",
    "one-hop",
    "mixed",
    "nat",
    "asymmetric",
];

fn targets(lab: &str) -> &'static [&'static str] {
    labs().iter().find(|l| l.name == lab).unwrap().targets
}

/// One target of each of [`LABS`], two where there are two IP versions.
fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    LABS.into_iter()
        .flat_map(|lab| targets(lab).iter().map(move |target| (lab, *target)))
}

fn plumb(lab: &str, method: &str, target: &str) -> Trace {
    // Nothing is lost in these labs, so a second attempt would only cost time; waiting for longer
    // than the default is for machines that have little of it.
    let arguments = [
        "trace",
        "--json",
        "--no-tunnels",
        "-q",
        "1",
        "-w",
        "2s",
        method,
        target,
    ];
    let done = in_lab(lab, &arguments).expect(0);
    Records::of(&done).trace().clone()
}

/// What a hop looked like to one of the tracers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    ttl: u8,
    addr: Option<IpAddr>,
    labels: Vec<LabelStackEntry>,
}

fn seen(trace: &Trace) -> Vec<Seen> {
    let one = |hop: &plumb_record::Hop| Seen {
        ttl: hop.ttl,
        addr: hop.addr,
        labels: hop.mpls.clone(),
    };
    trace.hops.iter().map(one).collect()
}

/// The trace that scamper writes.
#[track_caller]
fn scamper(lab: &str, method: &str, target: &str) -> Value {
    let task = format!("trace -P {method} -q 1 -w 2 -m 32 {target}");
    let mut command = lab_command(lab);
    command.args(["scamper", "-O", "json", "-p", "1000", "-I", &task]);
    let done = run(&mut command).expect(0);
    trace_line(&done.stdout)
}

/// The only line of type `trace`.
#[track_caller]
fn trace_line(text: &str) -> Value {
    let mut lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|value| value["type"] == "trace");
    let line = lines.next().unwrap_or_else(|| panic!("no trace: {text}"));
    assert_eq!(lines.next(), None, "{text}");
    line
}

/// What scamper says of a hop, of that what both tools know.
fn scamper_hop(hop: &Value) -> Value {
    let labels: Vec<Value> = hop["icmpext"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|ext| ext["mpls_labels"].as_array().cloned().unwrap_or_default())
        .map(|l| json!([l["mpls_label"], l["mpls_exp"], l["mpls_s"], l["mpls_ttl"]]))
        .collect();
    json!([
        hop["probe_ttl"],
        hop["addr"],
        hop["reply_ttl"],
        hop["icmp_type"],
        hop["icmp_code"],
        hop["icmp_q_ttl"],
        labels
    ])
}

/// The same of plumb's record.
fn plumb_hop(hop: &plumb_record::Hop) -> Value {
    let labels: Vec<Value> = hop
        .mpls
        .iter()
        .map(|l| json!([l.label, l.tc, u8::from(l.s), l.ttl]))
        .collect();
    json!([
        hop.ttl,
        hop.addr,
        hop.reply_ttl,
        hop.icmp_type,
        hop.icmp_code,
        hop.quoted_ttl,
        labels
    ])
}

#[track_caller]
fn agrees_with_scamper(scampers: &str, ours: &str) {
    at_once(all(), |(lab, target)| {
        let scamper = scamper(lab, scampers, target);
        let theirs: Vec<Value> = scamper["hops"]
            .as_array()
            .unwrap()
            .iter()
            .map(scamper_hop)
            .collect();
        let trace = plumb(lab, ours, target);
        let answered = trace.hops.iter().filter(|hop| hop.addr.is_some());
        assert_eq!(
            answered.map(plumb_hop).collect::<Vec<_>>(),
            theirs,
            "{lab} {target}"
        );
        assert_eq!(scamper["stop_reason"], "COMPLETED", "{lab} {target}");
    });
}

#[test]
fn root_scamper_sees_the_same_with_icmp() {
    require!("scamper");
    agrees_with_scamper("icmp-paris", "--icmp");
}

#[test]
fn root_scamper_sees_the_same_with_udp() {
    require!("scamper");
    agrees_with_scamper("udp-paris", "--udp");
}

#[test]
fn root_scamper_misses_only_what_it_cannot_read() {
    require!("scamper");
    let target = targets("rfc4884")[0];
    let theirs = scamper("rfc4884", "udp-paris", target);
    let trace = plumb("rfc4884", "--udp", target);
    let hops = theirs["hops"].as_array().unwrap();
    assert_eq!(hops.len(), trace.hops.len());
    for (theirs, ours) in hops.iter().zip(&trace.hops) {
        let (theirs, ours) = (scamper_hop(theirs), plumb_hop(ours));
        if ours[1] == "5.0.5.2" {
            // It does not pad its quote to 128 bytes; scamper looks for extensions there only.
            assert_eq!(theirs[6], json!([]));
            assert_eq!(ours[6].as_array().unwrap().len(), 1);
        } else {
            assert_eq!(theirs, ours);
        }
    }
}

#[test]
fn root_scamper_json_is_what_scamper_writes() {
    require!("scamper");
    let written_as_by_scamper = |lab: &str, target: &str, methods: &[(&str, &str)]| {
        for (theirs, ours) in methods {
            let arguments = [
                "trace",
                "--format",
                "scamper-json",
                "-q",
                "1",
                "-w",
                "2s",
                ours,
                target,
            ];
            let done = in_lab(lab, &arguments).expect(0);
            let all: Vec<Value> = done
                .stdout
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            let types: Vec<&Value> = all.iter().map(|line| &line["type"]).collect();
            assert_eq!(types, ["cycle-start", "trace", "cycle-stop"], "{done}");
            let written = trace_line(&done.stdout);
            let real = scamper(lab, theirs, target);
            assert_eq!(keys(&written), keys(&real), "{done}");
            assert_eq!(steady(&written), steady(&real), "{done}");
        }
    };
    let methods = [("icmp-paris", "--icmp"), ("udp-paris", "--udp")];
    at_once(all(), |(lab, target)| {
        written_as_by_scamper(lab, target, &methods)
    });
    // With ICMP, scamper takes the answer of the router that rewrites the quoted sequence number for
    // one to its first probe.
    written_as_by_scamper("rfc4884", targets("rfc4884")[0], &methods[1..]);
}

/// The names of the fields, of hops as well.
fn keys(trace: &Value) -> (Vec<String>, Vec<Vec<String>>) {
    // Routers that scamper cannot read have no `icmpext` there.
    let of = |value: &Value| -> Vec<String> {
        let names = value.as_object().unwrap().keys();
        names.filter(|name| *name != "icmpext").cloned().collect()
    };
    (
        of(trace),
        trace["hops"].as_array().unwrap().iter().map(of).collect(),
    )
}

/// What is the same each time.
fn steady(trace: &Value) -> Value {
    let v4 = trace["dst"]
        .as_str()
        .unwrap()
        .parse::<IpAddr>()
        .unwrap()
        .is_ipv4();
    let mut trace = trace.clone();
    let fields = trace.as_object_mut().unwrap();
    // The flow, the time, and how much was asked: a late answer is asked for again.
    for name in ["icmp_sum", "sport", "start", "probe_count", "userid"] {
        fields.remove(name);
    }
    if !v4 {
        // scamper's IPv6 probes are 60 bytes long, plumb's 64.
        fields.remove("probe_size");
    }
    for hop in trace["hops"].as_array_mut().unwrap() {
        let hop = hop.as_object_mut().unwrap();
        for name in ["tx", "rtt", "reply_ipid", "icmpext"] {
            hop.remove(name);
        }
        if !v4 {
            // scamper does not read the traffic class.
            for name in ["probe_size", "reply_size", "reply_tos", "icmp_q_ipl"] {
                hop.remove(name);
            }
        }
    }
    trace
}

/// What `traceroute -n -e -q 1` prints: ` 3  5.0.3.2 <MPLS:L=19,E=0,S=1,T=1>  0.499 ms`.
fn traceroute(lab: &str, options: &[&str], target: &str) -> Vec<Seen> {
    let mut command = lab_command(lab);
    command.args(["traceroute", "-n", "-e", "-q", "1", "-w", "2,0,0"]);
    let done = run(command.args(options).arg(target)).expect(0);
    let mut hops = Vec::new();
    for line in done.stdout.lines().skip(1) {
        let mut words = line.split_whitespace();
        let ttl = words.next().unwrap().parse().unwrap();
        let addr = words.next().unwrap();
        let labels = words
            .next()
            .and_then(|word| word.strip_prefix("<MPLS:")?.strip_suffix('>'));
        hops.push(Seen {
            ttl,
            addr: (addr != "*").then(|| addr.parse().unwrap()),
            labels: labels.map_or_else(Vec::new, |text| {
                text.split('/')
                    .map(|entry| {
                        let fields: Vec<u32> = entry
                            .split(',')
                            .map(|field| field[2..].parse().unwrap())
                            .collect();
                        label(&fields)
                    })
                    .collect()
            }),
        });
    }
    hops
}

/// Label, traffic class, bottom of stack, TTL.
fn label(fields: &[u32]) -> LabelStackEntry {
    LabelStackEntry {
        label: fields[0],
        tc: fields[1].try_into().unwrap(),
        s: fields[2] == 1,
        ttl: fields[3].try_into().unwrap(),
    }
}

#[test]
fn root_traceroute_sees_the_same_hops_and_labels() {
    require!("traceroute");
    at_once(all(), |(lab, target)| {
        for (options, ours) in [("-I", "--icmp"), ("-U", "--udp"), ("-T", "--tcp")] {
            let theirs = traceroute(lab, &[options], target);
            assert_eq!(
                theirs,
                seen(&plumb(lab, ours, target)),
                "{lab} {target} {ours}"
            );
        }
    });
}

#[test]
fn root_mtr_sees_the_same_hops() {
    require!("mtr");
    at_once(all(), |(lab, target)| {
        let mut command = lab_command(lab);
        command.args([
            "mtr", "--json", "-n", "-c", "1", "-i", "0.2", "-G", "2", target,
        ]);
        let done = run(&mut command).expect(0);
        let report: Value = serde_json::from_str(&done.stdout).unwrap();
        let theirs: Vec<(u64, Option<IpAddr>)> = report["report"]["hubs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|hub| {
                let host = hub["host"].as_str().unwrap();
                let addr = (host != "???").then(|| host.parse().unwrap());
                (hub["count"].as_u64().unwrap(), addr)
            })
            .collect();
        let trace = plumb(lab, "--icmp", target);
        let ours: Vec<_> = trace
            .hops
            .iter()
            .map(|hop| (hop.ttl.into(), hop.addr))
            .collect();
        assert_eq!(theirs, ours, "{done}");
    });
}

#[test]
fn root_mtr_reads_the_same_labels() {
    require!("mtr-packet");
    // mtr shows labels on its screen only; this is the half of it that sends and receives.
    at_once(all(), |(lab, target)| {
        let trace = plumb(lab, "--icmp", target);
        let version = if trace.dst.is_ipv4() { 4 } else { 6 };
        let answering = trace.hops.iter().filter(|hop| hop.addr.is_some());
        let probes: String = answering
            .clone()
            .map(|hop| {
                format!(
                    "{} send-probe ip-{version} {target} ttl {} timeout 2\n",
                    hop.ttl, hop.ttl
                )
            })
            .collect();
        let mut command = lab_command(lab);
        let mut running = Running::start(command.arg("mtr-packet").stdin(Stdio::piped()));
        running.send(&probes);
        // It ends when its input does, answered or not.
        running.wait_until(|stdout, _| stdout.lines().count() == answering.clone().count());
        let done = running.finish(Duration::from_secs(20)).expect(0);
        let mut theirs: Vec<Seen> = done.stdout.lines().map(mtr_packet).collect();
        theirs.sort_by_key(|hop| hop.ttl);
        let ours: Vec<Seen> = seen(&trace)
            .into_iter()
            .filter(|hop| hop.addr.is_some())
            .collect();
        assert_eq!(theirs, ours, "{lab}: {done}");
    });
}

/// `3 ttl-expired ip-4 5.0.3.2 round-trip-time 258 mpls 19,0,1,1`
fn mtr_packet(line: &str) -> Seen {
    let words: Vec<&str> = line.split(' ').collect();
    let after = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1).copied()
    };
    let addr = after("ip-4").or_else(|| after("ip-6"));
    let labels: Vec<u32> = after("mpls")
        .into_iter()
        .flat_map(|text| text.split(','))
        .map(|number| number.parse().unwrap())
        .collect();
    Seen {
        ttl: words[0].parse().unwrap(),
        addr: addr.map(|text| text.parse().unwrap()),
        labels: labels.chunks(4).map(label).collect(),
    }
}
