//! `plumb flow --per-segment` beside what a capture of the same run says, and what was foretold.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use core::time::Duration;
use std::path::Path;
use std::process::{Command, Stdio};

use plumb_ipfix::table::DOCUMENTATION_ENTERPRISE;
use plumb_ipfix::{Collector, CollectorLimits, Framer, Profiles};
use plumb_record::{FlowEvent, FlowOpen, FlowProfile, FlowProtocol};
use plumb_tests::tap_lab::programs;
use plumb_tests::{Chain, Directory, Running, Watch, dissect, plumb, require, run, shell};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/flow/segments.py");
const PORT: &str = "5030";

/// Two namespaces and, besides the link of the chain, one that plumb spoils towards the second:
/// device `slow`, 5.9.78.1 to 5.9.78.2.
struct Lab {
    chain: Chain,
    directory: Directory,
    _link: Option<Running>,
}

impl Lab {
    fn new(impairment: Option<&str>) -> Self {
        let (chain, directory) = (Chain::new(2), Directory::new());
        let link = impairment.map(|impairment| {
            let (left, right) = (chain.name(0), chain.name(1));
            let script = format!(
                "ip netns exec {left} $P if slow --addr 5.9.78.1/24 | $P impair {impairment} | \
                 ip netns exec {right} $P if slow --addr 5.9.78.2/24"
            );
            let link = Running::start(&mut shell(&script, &directory));
            for n in 0..2 {
                wait_for_link(&chain, n);
                // Segments as the wire has them.
                let mut command = chain.command(n, "ethtool");
                command.args(["-K", "slow", "tso", "off", "gso", "off", "tx", "off"]);
                run(&mut command).expect(0);
            }
            link
        });
        for n in 0..2 {
            chain.sysctl(n, "net.ipv4.tcp_no_metrics_save=1");
        }
        Self {
            chain,
            directory,
            _link: link,
        }
    }

    fn watch(&self, more: &[&str]) -> Watch {
        Watch::start(&self.chain, 2, &[&["--port", PORT], more].concat())
    }

    fn end(&self, n: usize, end: &str, arguments: &[&str]) -> Running {
        let mut command = self.chain.command(n, "python3");
        command.args([SCRIPT, end]).args(arguments);
        Running::start(command.stdin(Stdio::piped()))
    }

    fn server(&self, arguments: &[&str]) -> Running {
        let mut server = self.end(1, "server", arguments);
        server.wait_until(|out, _| out.contains("ready"));
        server
    }

    /// Captures at one of the ends what this does, and gives it.
    fn capture(&self, n: usize, device: &str, work: impl FnOnce()) -> Vec<Segment> {
        let file = self.directory.file("segments.pcap");
        let mut command = self.chain.command(n, "tcpdump");
        // Room for all, in KiB: what waits for a busy machine is not lost.
        let options = ["--immediate-mode", "-B", "16384", "-U", "-s", "100", "-i"];
        command.args(options).args([device, "-w"]).arg(&file);
        let mut capture = Running::start(command.args(["tcp", "port", PORT]));
        capture.wait_until(|_, err| err.contains("listening on"));
        work();
        // What is not yet written when it is told to end is lost.
        let written = || file.metadata().expect("a file").len();
        let mut before = 0;
        while before != written() {
            before = written();
            std::thread::sleep(Duration::from_millis(1500));
        }
        capture.signal("INT");
        let done = capture.finish(LIMIT).expect(0);
        let counts: Vec<&str> = done
            .stderr
            .lines()
            .filter_map(|line| line.split_once(" packets ")?.0.split(' ').next())
            .collect();
        assert_eq!(counts[0], counts[1], "{done}");
        segments(&file)
    }

    /// Lets both ends do something to the end.
    fn run(&self, arguments: &[&str]) {
        let server = self.server(arguments);
        let mut client = self.end(0, "client", arguments);
        client.send("end\n");
        client.finish(LIMIT).expect(0);
        server.finish(LIMIT).expect(0);
    }
}

fn wait_for_link(chain: &Chain, n: usize) {
    let has = |n| {
        let mut command = chain.command(n, "ip");
        let done = run(command.args(["-4", "-br", "address", "show", "dev", "slow"]));
        done.stdout.contains("5.9.78.")
    };
    for _ in 0..1000 {
        if has(n) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("no link");
}

/// A segment of a capture; numbers relative to the handshake's.
#[derive(Clone, Copy, Debug)]
struct Segment {
    at_us: f64,
    from_server: bool,
    is_handshake: bool,
    seq: u64,
    len: u64,
    ack: u64,
    window: u64,
}

fn segments(file: &Path) -> Vec<Segment> {
    let fields = [
        "frame.time_relative",
        "tcp.srcport",
        "tcp.flags.syn",
        "tcp.seq",
        "tcp.len",
        "tcp.ack",
        "tcp.window_size",
    ];
    let columns = dissect(file, &[], &fields);
    let count = columns[0].len();
    assert!(columns.iter().all(|column| column.len() == count));
    (0..count)
        .map(|n| {
            let number = |field: usize| columns[field][n].parse::<u64>().expect("a number");
            let at: f64 = columns[0][n].parse().expect("a number");
            Segment {
                at_us: at * 1e6,
                from_server: columns[1][n] == PORT,
                is_handshake: matches!(columns[2][n].as_str(), "1" | "True"),
                seq: number(3),
                len: number(4),
                ack: number(5),
                window: number(6),
            }
        })
        .collect()
}

/// Round-trip times in microseconds, as a sender's capture has them: an acknowledgement of new data is
/// a sample of the oldest segment that it acknowledges (RFC 6298), if nothing was sent twice.
fn samples(segments: &[Segment], server: bool) -> Vec<f64> {
    let (mut sent, mut acked, mut samples) = (Vec::<(u64, f64)>::new(), 1, Vec::new());
    for segment in segments.iter().filter(|segment| !segment.is_handshake) {
        if segment.from_server == server {
            if segment.len > 0 {
                sent.push((segment.seq + segment.len, segment.at_us));
            }
        } else if segment.ack > acked
            && let Some(&(end, at)) = sent.iter().find(|(end, _)| *end > acked)
            && end <= segment.ack
        {
            samples.push(segment.at_us - at);
            acked = segment.ack;
        }
    }
    samples
}

/// How far ahead of the gap segments from the client were, as the server's capture has them.
fn distances(segments: &[Segment]) -> Vec<u64> {
    let (mut next, mut ahead, mut distances) = (1, Vec::new(), Vec::new());
    let from_client = segments
        .iter()
        .filter(|s| !s.from_server && !s.is_handshake);
    for segment in from_client.filter(|segment| segment.len > 0) {
        let (start, end) = (segment.seq, segment.seq + segment.len);
        if start > next {
            distances.push(start - next);
        }
        ahead.push((start, end));
        while let Some(&(_, end)) = ahead
            .iter()
            .find(|(start, end)| *start <= next && *end > next)
        {
            next = end;
        }
    }
    distances
}

/// The last profile of one end.
fn last(profiles: &[FlowProfile], protocol: FlowProtocol, open: FlowOpen) -> &FlowProfile {
    let is = |p: &&FlowProfile| {
        p.open == Some(open) && p.protocol == protocol && p.event == FlowEvent::Ended
    };
    let found: Vec<_> = profiles.iter().filter(is).collect();
    assert_eq!(found.len(), 1, "{profiles:#?}");
    found[0]
}

#[test]
fn root_flow_has_every_round_trip_time_that_a_capture_has() {
    require!(
        "ip", "bash", "ethtool", "python3", "readlink", "tcpdump", "tshark"
    );
    let lab = Lab::new(Some("--delay 10ms"));
    let mut watch = lab.watch(&["--per-segment"]);
    let captured = lab.capture(0, "slow", || lab.run(&["talk", "5.9.78.2"]));
    watch.wait_for_ends(2);
    let (profiles, _) = watch.stop();
    let client = last(&profiles, FlowProtocol::Tcp, FlowOpen::Active);
    assert_eq!(client.packets_retransmitted, Some(0), "{client:#?}");
    let samples = samples(&captured, false);
    assert!(samples.len() > 60, "{samples:?}");
    assert_eq!(
        client.rtt_samples,
        Some(samples.len() as u64),
        "{client:#?}"
    );
    let [min, mean, max] = [
        client.rtt_sample_min_ns.unwrap(),
        client.rtt_sample_mean_ns.unwrap(),
        client.rtt_sample_max_ns.unwrap(),
    ];
    // Ten milliseconds each way.
    assert!(
        20_000_000 <= min && min <= mean && mean <= max,
        "{client:#?}"
    );
    // The capture is taken some way below TCP: what it has is a little less.
    let close = |ns: u64, us: f64| (-0.2..5.0).contains(&((ns as f64 - us * 1e3) / 1e6));
    let sum: f64 = samples.iter().sum();
    let least = samples.iter().copied().fold(f64::MAX, f64::min);
    let most = samples.iter().copied().fold(0.0, f64::max);
    assert!(close(min, least), "{min} {least}");
    assert!(close(mean, sum / samples.len() as f64), "{mean} {sum}");
    assert!(close(max, most), "{max} {most}");

    // 51 answers, each acknowledged before the next is sent.
    let server = last(&profiles, FlowProtocol::Tcp, FlowOpen::Passive);
    assert_eq!(server.rtt_samples, Some(51), "{server:#?}");
    for profile in &profiles {
        assert_eq!(
            profile.rtt_samples.is_some(),
            profile.event == FlowEvent::Ended
        );
        let none = Some(0).filter(|_| profile.event == FlowEvent::Ended);
        assert_eq!(profile.zero_windows, none, "{profile:#?}");
        assert_eq!(profile.out_of_order_distance_mean_bytes, None);
    }
}

#[test]
fn root_flow_has_the_distances_out_of_order_that_a_capture_has() {
    require!(
        "ip", "bash", "ethtool", "python3", "readlink", "tcpdump", "tshark"
    );
    let lab = Lab::new(Some("--delay 10ms --reorder 5% --direction right"));
    for n in 0..2 {
        // With them, what a retransmission overtakes is discarded for its age (PAWS), which no capture
        // tells.
        lab.chain.sysctl(n, "net.ipv4.tcp_timestamps=0");
    }
    let mut watch = lab.watch(&["--per-segment"]);
    let captured = lab.capture(1, "slow", || lab.run(&["bulk", "5.9.78.2"]));
    watch.wait_for_ends(2);
    let (profiles, _) = watch.stop();
    let server = last(&profiles, FlowProtocol::Tcp, FlowOpen::Passive);
    let distances = distances(&captured);
    assert!(!distances.is_empty());
    let count = distances.len() as u64;
    assert_eq!(server.out_of_order_packets.map(u64::from), Some(count));
    let sum: u64 = distances.iter().sum();
    let squares: u64 = distances.iter().map(|distance| distance * distance).sum();
    assert_eq!(server.out_of_order_distance_mean_bytes, Some(sum / count));
    let deviation = (count * squares - sum * sum).isqrt() / count;
    assert_eq!(server.out_of_order_distance_stddev_bytes, Some(deviation));
    let max = distances.iter().copied().max();
    assert_eq!(server.out_of_order_distance_max_bytes, max);
    let client = last(&profiles, FlowProtocol::Tcp, FlowOpen::Active);
    assert_eq!(client.out_of_order_distance_max_bytes, None);
}

#[test]
fn root_flow_counts_each_time_that_a_reader_stops_as_one_zero_window() {
    require!("ip", "ethtool", "python3", "readlink", "tcpdump", "tshark");
    for times in [1, 3] {
        let lab = Lab::new(None);
        let mut watch = lab.watch(&["--per-segment"]);
        let host = lab.chain.target(true).to_string();
        let captured = lab.capture(0, "right", || {
            let mut server = lab.server(&["stop", &host]);
            let mut client = lab.end(0, "client", &["stop", &host]);
            for time in 1..=times {
                client.send("send\n");
                client.wait_until(|out, _| out.matches("held").count() == time);
                server.send("read\n");
                server.wait_until(|out, _| out.matches("read\n").count() == time);
            }
            client.finish(LIMIT).expect(0);
            server.finish(LIMIT).expect(0);
        });
        let windows: Vec<_> = captured.iter().filter(|s| s.from_server).collect();
        let shut = |pair: &&[&Segment]| pair[0].window > 0 && pair[1].window == 0;
        assert_eq!(windows.windows(2).filter(shut).count(), times);
        watch.wait_for_ends(2);
        let (profiles, _) = watch.stop();
        let client = last(&profiles, FlowProtocol::Tcp, FlowOpen::Active);
        assert_eq!(
            client.zero_windows,
            Some(u32::try_from(times).unwrap()),
            "{client:#?}"
        );
        let server = last(&profiles, FlowProtocol::Tcp, FlowOpen::Passive);
        assert_eq!(server.zero_windows, Some(0), "{server:#?}");
    }
}

/// What a server receives over one path, or over two of which the second is slow: its stalls, and
/// segments that the kernel queued out of turn.
fn over_paths(second: bool) -> (u32, u64) {
    let lab = Lab::new(Some("--delay 40ms"));
    // Else the first path has room for all, and the second is left alone.
    let shape = "qdisc add dev right root tbf rate 30mbit burst 10kb latency 50ms";
    run(lab.chain.command(0, "tc").args(shape.split(' '))).expect(0);
    for n in 0..2 {
        lab.chain
            .ip(n, "mptcp limits set subflow 2 add_addr_accepted 2");
    }
    if second {
        lab.chain
            .ip(1, "mptcp endpoint add 5.9.78.2 dev slow signal");
    }
    let mut watch = lab.watch(&["--per-segment"]);
    let host = lab.chain.target(true).to_string();
    lab.run(&["paths", &host, if second { "1" } else { "0" }]);
    // The paths and the connection, at both ends.
    watch.wait_for_ends(if second { 6 } else { 4 });
    let (profiles, _) = watch.stop();
    let stalls = |open| {
        let whole = last(&profiles, FlowProtocol::Mptcp, open);
        whole.mptcp.as_ref().unwrap().head_of_line_stalls.unwrap()
    };
    let server = last(&profiles, FlowProtocol::Mptcp, FlowOpen::Passive);
    assert_eq!(server.bytes_received, 3_000_000);
    // One answer is never behind a gap.
    assert_eq!(stalls(FlowOpen::Active), 0);
    let mut command = lab.chain.command(1, "nstat");
    let nstat = run(command.args(["-a", "-s", "-z", "--json"])).expect(0);
    let nstat: Value = serde_json::from_str(&nstat.stdout).expect("JSON");
    let queued = nstat["kernel"]["MPTcpExtOFOQueue"].as_u64();
    (stalls(FlowOpen::Passive), queued.unwrap())
}

#[test]
fn root_flow_counts_the_stalls_of_two_paths_and_none_of_one() {
    require!(
        "ip", "bash", "ethtool", "nstat", "python3", "readlink", "tc"
    );
    if !Path::new("/proc/sys/net/mptcp/enabled").exists() {
        plumb_tests::skip!("this kernel has no MPTCP");
    }
    let (stalls, queued) = over_paths(true);
    assert!(
        0 < stalls && u64::from(stalls) <= queued,
        "{stalls} {queued}"
    );
    assert_eq!(over_paths(false), (0, 0));
}

#[test]
fn root_flow_watches_no_segment_unless_asked() {
    require!("ip", "ethtool", "python3", "readlink");
    let run = |more: &[&str]| {
        let lab = Lab::new(None);
        let mut watch = lab.watch(more);
        let loaded = programs(watch.running.pid()).len();
        lab.run(&["bulk", &lab.chain.target(true).to_string()]);
        watch.wait_for_ends(2);
        let (profiles, _) = watch.stop();
        (
            loaded,
            last(&profiles, FlowProtocol::Tcp, FlowOpen::Active).clone(),
        )
    };
    let (without, profile) = run(&[]);
    assert_eq!(profile.rtt_samples, None, "{profile:#?}");
    assert_eq!(profile.zero_windows, None);
    let (with, profile) = run(&["--per-segment"]);
    assert_eq!(with, without + 2);
    assert!(profile.rtt_samples > Some(0) && profile.zero_windows.is_some());
    // Each is optional by itself.
    let (with, profile) = run(&["--per-segment", "--without", "segment"]);
    assert_eq!(with, without + 1);
    assert_eq!((profile.rtt_samples, profile.zero_windows), (None, None));
}

#[test]
fn root_flow_says_what_it_could_watch_of_segments() {
    require!("ip");
    let row = |arguments: &[&str]| {
        let mut command = Command::new(plumb());
        command
            .args(["flow", "--capabilities", "--json"])
            .args(arguments);
        let done = run(&mut command).expect(0);
        let rows = done.stdout.lines();
        let rows = rows.map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let find = |name| rows.clone().find(|row| row["name"] == name).expect("a row");
        ["segment", "stall"].map(|name| {
            let row = find(name);
            (
                row["live"].as_bool().unwrap(),
                row["off"].as_bool().unwrap(),
            )
        })
    };
    assert_eq!(row(&[]), [(false, true); 2]);
    assert_eq!(row(&["--per-segment"]), [(true, false); 2]);
    let one = row(&["--per-segment", "--without", "stall"]);
    assert_eq!(one, [(true, false), (false, false)]);
}

#[test]
fn root_flow_exports_what_it_saw_of_segments() {
    require!("ip", "bash", "ethtool", "python3", "readlink");
    let lab = Lab::new(Some("--delay 10ms --reorder 5% --direction right"));
    let file = lab.directory.file("flows.ipfix");
    let path = file.display().to_string();
    let mut watch = lab.watch(&["--per-segment", "--ipfix-file", &path]);
    lab.run(&["bulk", "5.9.78.2"]);
    watch.wait_for_ends(2);
    let (profiles, _) = watch.stop();
    let reader = Profiles::new(DOCUMENTATION_ENTERPRISE);
    let mut collector = Collector::new(CollectorLimits::default());
    let (mut framer, mut read) = (Framer::new(), Vec::new());
    framer.push(&std::fs::read(file).expect("a file"));
    while let Some(message) = framer.next_message().expect("a message") {
        let flows = collector.read(message, |record| read.extend(reader.flow(record)));
        flows.expect("records");
    }
    for open in [FlowOpen::Active, FlowOpen::Passive] {
        let told = last(&profiles, FlowProtocol::Tcp, open);
        let exported = last(&read, FlowProtocol::Tcp, open);
        let figures = |p: &FlowProfile| {
            let rtt = [
                p.rtt_sample_min_ns,
                p.rtt_sample_mean_ns,
                p.rtt_sample_max_ns,
            ];
            let distance = [
                p.out_of_order_distance_mean_bytes,
                p.out_of_order_distance_stddev_bytes,
                p.out_of_order_distance_max_bytes,
            ];
            (p.rtt_samples, rtt, distance, p.zero_windows)
        };
        assert_eq!(figures(exported), figures(told));
        let seen = match open {
            FlowOpen::Active => told.rtt_sample_max_ns,
            FlowOpen::Passive => told.out_of_order_distance_max_bytes,
        };
        assert!(seen > Some(0), "{told:#?}");
    }
}
