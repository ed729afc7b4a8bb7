//! Chains of kernel routers: every method, both IP versions, options, and what is said when the
//! network is not there.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use core::time::Duration;
use std::path::{Path, PathBuf};
use std::process::Command;

use plumb_record::StopReason;
use plumb_tests::{Chain, Directory, Done, Records, Running, plumb, require, run};

const METHODS: [&str; 3] = ["--icmp", "--udp", "--tcp"];

/// A round trip through a few namespaces takes some 50 microseconds; on a machine that is short of
/// time a thousand times that, but no second.
const MOST_RTT_NS: u64 = 1_000_000_000;

#[track_caller]
fn plausible(rtt_ns: Option<u64>) {
    assert!((1..MOST_RTT_NS).contains(&rtt_ns.unwrap()), "{rtt_ns:?}");
}

#[test]
fn root_every_method_sees_every_router_of_both_ip_versions() {
    require!("ip", "ethtool");
    let chain = Chain::new(5);
    for v4 in [true, false] {
        for method in METHODS {
            let target = chain.target(v4).to_string();
            let done = run(&mut chain.plumb(&["trace", "--json", method, &target])).expect(0);
            let records = Records::of(&done);
            let trace = records.trace();
            let seen: Vec<_> = trace.hops.iter().filter_map(|hop| hop.addr).collect();
            assert_eq!(seen, chain.hops(v4), "{done}");
            assert_eq!(trace.stop_reason, StopReason::Completed);
            assert_eq!(trace.src, chain.source(v4));
            assert_eq!(trace.tunnels, []);
            for hop in &trace.hops {
                // Linux starts at 64, and those before it on the way back take one each.
                assert_eq!(hop.reply_ttl, Some(65 - hop.ttl), "{done}");
                plausible(hop.rtt_ns);
            }
        }
    }
}

#[test]
fn root_ping_reports_each_reply_and_a_summary() {
    require!("ip", "ethtool");
    let chain = Chain::new(4);
    let targets = [chain.target(true), chain.target(false)];
    let mut command = chain.plumb(&["ping", "--json", "-c", "3", "-i", "50ms", "-s", "100"]);
    let done = run(command.args(targets.map(|addr| addr.to_string()))).expect(0);
    let records = Records::of(&done);
    assert_eq!(records.end.reached, 2);
    for target in targets {
        let replies: Vec<_> = records.replies.iter().filter(|r| r.dst == target).collect();
        let seqs: Vec<u32> = replies.iter().map(|reply| reply.seq).collect();
        assert_eq!(seqs, [1, 2, 3], "{done}");
        for reply in replies {
            assert_eq!(reply.addr, Some(target));
            assert_eq!(reply.reply_ttl, Some(62), "{done}");
            let headers = if target.is_ipv4() { 28 } else { 48 };
            assert_eq!(reply.reply_size, Some(100 + headers), "{done}");
            let (kind, code) = if target.is_ipv4() { (0, 0) } else { (129, 0) };
            assert_eq!((reply.icmp_type, reply.icmp_code), (Some(kind), Some(code)));
        }
        let summary = records
            .pings
            .iter()
            .find(|ping| ping.dst == target)
            .unwrap();
        assert_eq!(
            (summary.sent, summary.received, summary.duplicates),
            (3, 3, 0)
        );
        let (least, most) = (summary.rtt_min_ns.unwrap(), summary.rtt_max_ns.unwrap());
        let mean = summary.rtt_mean_ns.unwrap();
        assert!(
            least > 0 && least <= mean && mean <= most && most < MOST_RTT_NS,
            "{done}"
        );
    }
}

#[test]
fn root_ping_without_an_answer_ends_with_exit_code_1() {
    require!("ip", "ethtool");
    let chain = Chain::new(3);
    chain.ip(1, "route add blackhole 5.99.0.0/16");
    let arguments = [
        "ping", "--json", "-c", "2", "-i", "20ms", "-w", "100ms", "5.99.0.1",
    ];
    let records = Records::of(&run(&mut chain.plumb(&arguments)).expect(1));
    assert_eq!((records.pings[0].sent, records.pings[0].received), (2, 0));
    assert_eq!(records.pings[0].rtt_min_ns, None);
    assert!(records.replies.iter().all(|reply| reply.addr.is_none()));
}

#[test]
fn root_a_router_that_refuses_ends_the_trace_with_its_reason() {
    require!("ip", "ethtool");
    let chain = Chain::new(4);
    chain.ip(2, "route add unreachable 5.98.0.0/16");
    chain.ip(2, "route add prohibit 5.99.0.0/16");
    chain.ip(2, "route add prohibit 2a0c:99::/32");
    for (target, code) in [("5.98.0.1", 1), ("5.99.0.1", 13), ("2a0c:99::1", 1)] {
        for method in METHODS {
            let done = run(&mut chain.plumb(&["trace", "--json", method, target])).expect(1);
            let records = Records::of(&done);
            let trace = records.trace();
            assert_eq!(trace.stop_reason, StopReason::Unreachable, "{done}");
            let v4 = trace.dst.is_ipv4();
            let seen: Vec<_> = trace.hops.iter().filter_map(|hop| hop.addr).collect();
            assert_eq!(seen, chain.hops(v4)[..2], "{done}");
            let last = trace.hops.last().unwrap();
            assert_eq!(last.icmp_type, Some(if v4 { 3 } else { 1 }), "{done}");
            assert_eq!(last.icmp_code, Some(code), "{done}");
        }
    }
}

/// Captures what arrives at the end of a chain.
struct FarSide {
    tcpdump: Running,
    file: PathBuf,
}

impl FarSide {
    fn capture(chain: &Chain, n: usize, directory: &Directory) -> Self {
        let file = directory.file("far.pcap");
        let mut command = chain.command(n, "tcpdump");
        command.args([
            "-i",
            "left",
            "-n",
            "-U",
            "--immediate-mode",
            "-Z",
            "root",
            "-w",
        ]);
        let mut tcpdump = Running::start(command.arg(&file));
        tcpdump.wait_until(|_, stderr| stderr.contains("listening on"));
        Self { tcpdump, file }
    }

    /// Ends the capture and gives the fields of those packets that pass the filter.
    fn end(self, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
        self.tcpdump.signal("INT");
        self.tcpdump.finish(Duration::from_secs(10)).expect(0);
        dissect(&self.file, filter, fields)
    }
}

fn dissect(file: &Path, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new("tshark");
    command
        .arg("-r")
        .arg(file)
        .args(["-Y", filter, "-T", "fields"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let done = run(&mut command).expect(0);
    let split = |line: &str| line.split('\t').map(str::to_owned).collect();
    done.stdout.lines().map(split).collect()
}

#[test]
fn root_dscp_and_source_are_what_arrives_at_the_far_side() {
    require!("ip", "ethtool", "tcpdump", "tshark");
    let chain = Chain::new(3);
    chain.ip(0, "address add 5.9.0.3/29 dev right");
    chain.ip(0, "address add 2a0b:9::3/64 dev right nodad");
    let directory = Directory::new();
    let far = FarSide::capture(&chain, 2, &directory);
    for v4 in [true, false] {
        let source = if v4 { "5.9.0.3" } else { "2a0b:9::3" };
        let target = chain.target(v4).to_string();
        let options = ["--json", "--dscp", "46", "--source", source, &target];
        for method in METHODS {
            let mut command = chain.plumb(&["trace", method]);
            let done = run(command.args(options)).expect(0);
            let records = Records::of(&done);
            assert_eq!(records.trace().src.to_string(), source, "{done}");
            assert_eq!(records.trace().hops[0].quoted_tos, Some(46 << 2), "{done}");
        }
        run(chain.plumb(&["ping", "-c", "1"]).args(options)).expect(0);
    }
    let filter = "eth.dst == 02:00:00:00:01:02";
    let fields = ["ip.dsfield.dscp", "ipv6.tclass.dscp", "_ws.col.Protocol"];
    let seen = far.end(filter, &fields);
    for protocol in ["ICMP", "ICMPv6", "UDP", "TCP"] {
        assert!(
            seen.iter().any(|packet| packet[2] == protocol),
            "{protocol}: {seen:?}"
        );
    }
    for packet in &seen {
        assert_eq!(packet[..2].concat(), "46", "{packet:?}");
    }
}

#[test]
fn root_the_interface_decides_the_way() {
    require!("ip", "ethtool");
    let chain = Chain::new(3);
    // A second, worse way to the first router.
    chain.join("second", 0, 1);
    chain.ip(0, "address add 5.9.100.1/30 dev second");
    chain.ip(1, "address add 5.9.100.2/30 dev second");
    chain.ip(0, "link set second up");
    chain.ip(1, "link set second up");
    chain.ip(0, "route add default via 5.9.100.2 metric 1000");
    chain.ip(2, "route add 5.9.100.0/30 via 5.9.1.1");
    let target = chain.target(true).to_string();
    for (interface, first) in [("right", "5.9.0.2"), ("second", "5.9.100.2")] {
        for method in METHODS {
            let arguments = ["trace", "--json", method, "--interface", interface, &target];
            let done = run(&mut chain.plumb(&arguments)).expect(0);
            let records = Records::of(&done);
            let hops = &records.trace().hops;
            assert_eq!(hops[0].addr.unwrap().to_string(), first, "{done}");
            assert_eq!(hops.len(), 2, "{done}");
        }
    }
}

/// One line on standard error, which says this.
#[track_caller]
fn one_line(done: &Done, said: &str) {
    assert_eq!(done.stderr.lines().count(), 1, "{done}");
    assert!(done.stderr.starts_with("plumb: "), "{done}");
    assert!(done.stderr.contains(said), "{done}");
}

#[test]
fn root_no_route_is_one_line_per_target_and_exit_code_1() {
    require!("ip", "ethtool");
    let chain = Chain::new(2);
    // The end of the chain has no default route.
    let at_end = |arguments: &[&str]| run(chain.command(1, plumb()).args(arguments));
    for command in ["trace", "ping"] {
        let done = at_end(&[command, "5.50.0.1"]).expect(1);
        one_line(&done, "no route to 5.50.0.1");
        let source = chain.source(true).to_string();
        let mut arguments = vec![command, "--json", "5.50.0.1", "2a0c::1", &source];
        if command == "ping" {
            arguments.extend(["-c", "1"]);
        }
        let done = at_end(&arguments).expect(1);
        assert_eq!(done.stderr.lines().count(), 2, "{done}");
        let records = Records::of(&done);
        assert_eq!(
            (records.end.finished, records.end.reached),
            (1, 1),
            "{done}"
        );
    }
}

#[test]
fn root_an_interface_that_is_down_or_missing_is_one_line() {
    require!("ip", "ethtool");
    let chain = Chain::new(2);
    let target = chain.target(true).to_string();
    for command in ["trace", "ping"] {
        let done = run(&mut chain.plumb(&[command, "--interface", "nope", &target])).expect(2);
        one_line(&done, "\"nope\"");
    }
    chain.ip(0, "link set right down");
    for command in ["trace", "ping"] {
        let done = run(&mut chain.plumb(&[command, &target])).expect(1);
        one_line(&done, &format!("no route to {target}"));
        let done = run(&mut chain.plumb(&[command, "--interface", "right", &target]));
        assert!([Some(1), Some(2)].contains(&done.code()), "{done}");
        one_line(&done, "");
    }
}

#[test]
fn root_an_interface_that_goes_down_in_mid_run_ends_the_trace() {
    require!("ip", "ethtool");
    let chain = Chain::new(3);
    let target = "5.50.0.1";
    let arguments = [
        "trace",
        "--json",
        "-w",
        "300ms",
        "-g",
        "4",
        "--parallel",
        "1",
        target,
    ];
    let mut running = Running::start(&mut chain.plumb(&arguments));
    running.wait_until(|stdout, _| stdout.contains("\"start\""));
    chain.ip(0, "link set right down");
    let done = running.finish(Duration::from_secs(20)).expect(1);
    let records = Records::of(&done);
    assert_eq!(records.end.finished, 1, "{done}");
    assert_ne!(records.trace().stop_reason, StopReason::Completed, "{done}");
}

/// plumb as somebody without privileges, who may be nowhere near the build directory.
fn as_nobody(chain: &Chain, directory: &Directory) -> Command {
    let copy = directory.file("plumb");
    if !copy.exists() {
        std::fs::copy(plumb(), &copy).unwrap();
    }
    let mut command = chain.command(0, "setpriv");
    command.args([
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "--no-new-privs",
    ]);
    command.arg(copy).current_dir(directory.path());
    command
}

#[test]
fn root_a_missing_privilege_names_the_capability_and_the_ways_out() {
    require!("ip", "ethtool", "setpriv");
    let chain = Chain::new(2);
    let directory = Directory::new();
    let target = chain.target(true).to_string();
    let program = directory.file("plumb");
    let setcap = format!("setcap cap_net_raw+ep {}", program.display());
    // No group may open ICMP sockets.
    chain.sysctl(0, "net.ipv4.ping_group_range=1 0");
    for command in ["trace", "ping"] {
        for (mode, ways_out) in [
            ("raw", [setcap.as_str(), "CAP_NET_RAW"]),
            ("auto", [&setcap, "net.ipv4.ping_group_range"]),
            ("unprivileged", ["sysctl -w net.ipv4.ping_group_range", ""]),
        ] {
            let mut nobody = as_nobody(&chain, &directory);
            let done = run(nobody.args([command, "--mode", mode, &target])).expect(3);
            for way_out in ways_out {
                one_line(&done, way_out);
            }
            assert_eq!(done.stdout, "", "{done}");
        }
    }
}

#[test]
fn root_without_privilege_all_hops_are_seen_and_what_is_lost_is_said() {
    require!("ip", "ethtool", "setpriv");
    let chain = Chain::new(5);
    let directory = Directory::new();
    chain.sysctl(0, "net.ipv4.ping_group_range=0 65535");
    for v4 in [true, false] {
        let target = chain.target(v4).to_string();
        for method in ["--icmp", "--udp"] {
            let mut nobody = as_nobody(&chain, &directory);
            let done = run(nobody.args(["trace", "--json", method, &target])).expect(0);
            one_line(&done, "no CAP_NET_RAW");
            let records = Records::of(&done);
            let hops = &records.trace().hops;
            let seen: Vec<_> = hops.iter().filter_map(|hop| hop.addr).collect();
            assert_eq!(seen, chain.hops(v4), "{done}");
            for hop in hops {
                assert_eq!(hop.quoted_ttl, None, "{done}");
                plausible(hop.rtt_ns);
                // Linux answers a UDP probe with a port-unreachable, which starts at 64 as well.
                assert_eq!(hop.reply_ttl, Some(65 - hop.ttl), "{done}");
            }
        }
        let mut nobody = as_nobody(&chain, &directory);
        let done = run(nobody.args(["ping", "--json", "-c", "2", "-i", "20ms", &target])).expect(0);
        assert_eq!(Records::of(&done).pings[0].received, 2, "{done}");
        let mut nobody = as_nobody(&chain, &directory);
        let done = run(nobody.args(["trace", "--tcp", &target])).expect(3);
        one_line(&done, "CAP_NET_RAW");
    }
}
