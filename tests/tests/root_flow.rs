//! `plumb flow` on connections of which every profile can be foretold, and beside what `nstat` and
//! `iperf3` say of the same run.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use core::time::Duration;
use std::process::{Command, Stdio};

use plumb_record::{FlowEnd, FlowEvent, FlowOpen, FlowPhase, FlowProfile, FlowProtocol, FlowState};
use plumb_tests::{Chain, Running, SCENARIOS, Watch, namespace, plumb, require, run, server};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

/// Ports of `scenarios.py`.
mod port {
    pub(crate) const CLEAN: u16 = 5001;
    pub(crate) const SYN_LOST: u16 = 5002;
    pub(crate) const TIMEOUT: u16 = 5003;
    pub(crate) const FAST: u16 = 5004;
    pub(crate) const ZERO_WINDOW: u16 = 5006;
    pub(crate) const CLIENT_RESETS: u16 = 5007;
    pub(crate) const SERVER_RESETS: u16 = 5008;
    pub(crate) const UNREAD: u16 = 5009;
    pub(crate) const REFUSED: u16 = 5010;
    pub(crate) const UNREACHABLE: u16 = 5011;
    pub(crate) const SILENT: u16 = 5012;
    pub(crate) const GIVEN_UP: u16 = 5013;
    pub(crate) const SHORT: u16 = 5014;
}

/// What the far end loses: packets counted from the first of each kind.
const LOSSES: &str = "
table inet losses {
  chain lose {
    type filter hook prerouting priority -300
    tcp dport 5002 tcp flags & (syn | ack) == syn numgen inc mod 100000 0 drop
    tcp dport 5003 ip length > 60 numgen inc mod 100000 < 2 drop
    tcp dport 5004 ip length > 200 numgen inc mod 100000 4 drop
    tcp dport { 5012, 5013 } drop
  }
  chain refuse {
    type filter hook input priority 0
    tcp dport 5011 reject with icmp type host-unreachable
  }
}";

fn nft(chain: &Chain, n: usize, rules: &str) {
    let mut command = chain.command(n, "nft");
    plumb_tests::run_with(command.args(["-f", "-"]), rules.as_bytes(), LIMIT).expect(0);
}

/// The profiles of one port, as one end has them.
fn of(profiles: &[FlowProfile], port: u16, open: FlowOpen) -> Vec<&FlowProfile> {
    let is = |profile: &&FlowProfile| {
        let far = match open {
            FlowOpen::Active => profile.remote_port,
            FlowOpen::Passive => profile.local_port,
        };
        far == port && profile.open == Some(open)
    };
    let found: Vec<_> = profiles.iter().filter(is).collect();
    for (n, profile) in found.iter().enumerate() {
        assert_eq!(profile.profile as usize, n, "a gap: {found:#?}");
    }
    for pair in found.windows(2) {
        assert_eq!(pair[0].end, pair[1].start);
        assert_eq!(pair[0].state, pair[1].state_before);
    }
    found
}

fn events(profiles: &[&FlowProfile]) -> Vec<FlowEvent> {
    profiles.iter().map(|profile| profile.event).collect()
}

#[track_caller]
fn ends(profiles: &[FlowProfile], port: u16, open: FlowOpen, end: FlowEnd, state: FlowState) {
    let found = of(profiles, port, open);
    let expected: &[_] = if found.len() == 1 {
        assert_eq!(found[0].phase, FlowPhase::Establishing);
        &[FlowEvent::Ended]
    } else {
        &[FlowEvent::Established, FlowEvent::Ended]
    };
    assert_eq!(events(&found), expected, "{port} {found:#?}");
    let last = found.last().unwrap();
    assert_eq!(
        (last.end_reason, last.state),
        (Some(end), state),
        "{last:#?}"
    );
}

#[test]
fn root_flow_gives_the_profiles_that_were_foretold() {
    use FlowOpen::{Active, Passive};
    use FlowState::{Finished, NetworkError, ProtocolError};
    require!("ip", "ethtool", "nft", "python3", "sysctl", "readlink");
    let chain = Chain::new(2);
    nft(&chain, 1, LOSSES);
    chain.sysctl(0, "net.ipv4.tcp_syn_retries=1");
    for n in 0..2 {
        chain.sysctl(n, "net.ipv4.tcp_no_metrics_save=1");
    }
    // Before the recorder: it knows the listeners' processes all the same.
    let mut server = server(&chain, 1);
    let mut watch = Watch::start(&chain, 2, &[]);
    let host = chain.target(true).to_string();
    let mut client = chain.command(0, "python3");
    let mut client = Running::start(client.args([SCENARIOS, "client", &host]));
    client.wait_until(|out, _| out.contains("held"));
    server.send("held\n");
    let client_pid = client.pid();
    client.finish(LIMIT).expect(0);
    // Twelve of the client, eight of the server.
    watch.wait_for_ends(20);
    let (profiles, end) = watch.stop();
    assert_eq!(end["reason"], "interrupted");
    assert_eq!(end["events_dropped"], 0);
    assert_eq!(end["events_unknown"], 0);

    for profile in &profiles {
        let owner = match profile.open.unwrap() {
            Active => client_pid,
            Passive => server.pid(),
        };
        assert_eq!(profile.pid, Some(owner), "{profile:#?}");
        assert_eq!(profile.process.as_deref(), Some("python3"));
    }

    for (open, sent, received) in [(Active, 10_000, 777), (Passive, 777, 10_000)] {
        let found = of(&profiles, port::CLEAN, open);
        assert_eq!(events(&found), [FlowEvent::Established, FlowEvent::Ended]);
        let last = found[1];
        assert_eq!((last.bytes_sent, last.bytes_received), (sent, received));
        assert_eq!(last.bytes_acked, Some(sent));
        assert_eq!(last.packets_retransmitted, Some(0));
        assert!(last.rtt_ns.is_some() && found[0].establishment_ns.is_some());
        ends(&profiles, port::CLEAN, open, FlowEnd::Closed, Finished);
    }

    let found = of(&profiles, port::SYN_LOST, Active);
    assert_eq!(events(&found), [FlowEvent::Established, FlowEvent::Ended]);
    assert_eq!(found[0].syn_retransmitted, Some(1));
    // The first timeout is a second (RFC 6298 §2.1).
    assert!(found[0].establishment_ns.unwrap() > 900_000_000);
    assert_eq!(found[1].packets_retransmitted, Some(0));

    // The segment and its tail loss probe are lost; the timeout mends it.
    let found = of(&profiles, port::TIMEOUT, Active);
    assert_eq!(
        events(&found),
        [
            FlowEvent::Established,
            FlowEvent::LossyEntered,
            FlowEvent::LossyLeft,
            FlowEvent::Ended
        ]
    );
    let phases: Vec<_> = found.iter().map(|profile| profile.phase).collect();
    let (open, lossy) = (FlowPhase::Open, FlowPhase::Lossy);
    assert_eq!(phases, [FlowPhase::Establishing, open, lossy, open]);
    let figures: Vec<_> = found[1..]
        .iter()
        .map(|p| {
            (
                p.bytes_sent,
                p.packets_retransmitted,
                p.tail_loss_probes,
                p.rtos,
            )
        })
        .collect();
    assert_eq!(
        figures,
        [
            (200, Some(1), Some(1), Some(0)),
            (100, Some(1), Some(0), Some(1)),
            (0, Some(0), Some(0), Some(0)),
        ]
    );
    let acked: u64 = found.iter().filter_map(|profile| profile.bytes_acked).sum();
    assert_eq!(acked, 100);
    ends(&profiles, port::TIMEOUT, Passive, FlowEnd::Closed, Finished);

    // One segment is lost and the next ones tell so.
    let found = of(&profiles, port::FAST, Active);
    assert_eq!(events(&found), [FlowEvent::Established, FlowEvent::Ended]);
    let last = found[1];
    assert_eq!(
        (last.fast_recoveries, last.rtos),
        (Some(1), Some(0)),
        "{last:#?}"
    );
    // A receiver that is kept waiting for its processor makes the sender probe, too.
    let probes = last.tail_loss_probes.map(u64::from).unwrap();
    assert_eq!(last.packets_retransmitted, Some(1 + probes), "{last:#?}");
    assert_eq!(last.bytes_retransmitted, Some(last.bytes_sent - 40_000));
    assert_eq!(last.bytes_acked, Some(40_000));
    let found = of(&profiles, port::FAST, Passive);
    assert!(found[1].out_of_order_packets.unwrap() > 0);
    assert_eq!(found[1].bytes_received, 40_000);

    // A second and a half without a window, less what it took to fill it.
    let found = of(&profiles, port::ZERO_WINDOW, Active);
    let held: u64 = found
        .iter()
        .filter_map(|profile| profile.receive_window_limited_ns)
        .sum();
    assert!(held > 1_000_000_000, "{found:#?}");
    let received: u64 = of(&profiles, port::ZERO_WINDOW, Passive)
        .iter()
        .map(|profile| profile.bytes_received)
        .sum();
    assert_eq!(received, 3_000_000);

    let (sent, received) = (FlowEnd::ResetSent, FlowEnd::ResetReceived);
    ends(&profiles, port::CLIENT_RESETS, Active, sent, ProtocolError);
    ends(
        &profiles,
        port::CLIENT_RESETS,
        Passive,
        received,
        ProtocolError,
    );
    ends(
        &profiles,
        port::SERVER_RESETS,
        Active,
        received,
        ProtocolError,
    );
    ends(&profiles, port::SERVER_RESETS, Passive, sent, ProtocolError);
    ends(&profiles, port::UNREAD, Active, received, ProtocolError);
    ends(&profiles, port::UNREAD, Passive, sent, ProtocolError);
    ends(
        &profiles,
        port::REFUSED,
        Active,
        FlowEnd::Refused,
        ProtocolError,
    );
    ends(
        &profiles,
        port::UNREACHABLE,
        Active,
        FlowEnd::Unreachable,
        NetworkError,
    );
    ends(
        &profiles,
        port::SILENT,
        Active,
        FlowEnd::TimedOut,
        NetworkError,
    );
    ends(
        &profiles,
        port::GIVEN_UP,
        Active,
        FlowEnd::Aborted,
        ProtocolError,
    );
    let silent = of(&profiles, port::SILENT, Active)[0];
    let again = silent.syn_retransmitted.unwrap();
    assert!(again >= 1);
    assert_eq!(silent.packets_sent, Some(u64::from(again) + 1));
}

/// Runs 2000 connections of a byte each way.
fn short(chain: &Chain) {
    let host = chain.target(true).to_string();
    let mut client = chain.command(0, "python3");
    Running::start(client.args([SCENARIOS, "short", &host]))
        .finish(LIMIT)
        .expect(0);
}

#[test]
fn root_flow_loses_none_of_thousands_of_short_connections() {
    require!("ip", "ethtool", "python3", "readlink");
    let chain = Chain::new(2);
    let _server = server(&chain, 1);
    let mut watch = Watch::start(&chain, 2, &["--port", &port::SHORT.to_string()]);
    short(&chain);
    watch.wait_for_ends(4000);
    let (profiles, end) = watch.stop();
    assert_eq!(end["events_dropped"], 0);
    assert_eq!(profiles.len(), 8000);
    let clean = |profile: &&FlowProfile| {
        profile.end_reason == Some(FlowEnd::Closed)
            && (profile.bytes_sent, profile.bytes_received) == (1, 1)
            && profile.bytes_acked == Some(1)
    };
    assert_eq!(profiles.iter().filter(clean).count(), 4000);
}

#[test]
fn root_flow_counts_what_finds_the_ring_full() {
    require!("ip", "ethtool", "python3", "readlink");
    let chain = Chain::new(2);
    let _server = server(&chain, 1);
    let port = port::SHORT.to_string();
    let namespaces = [namespace(&chain, 0), namespace(&chain, 1)];
    let mut watch = Watch::start(&chain, 2, &["--port", &port, "--ring", "1"]);
    // 4000 events of some 360 bytes, of two profiles each, do not fit into a mebibyte.
    watch.running.signal("STOP");
    short(&chain);
    watch.running.signal("CONT");
    watch.wait_for_ends(100);
    let (profiles, end) = watch.stop();
    let dropped = end["events_dropped"].as_u64().unwrap();
    let unknown = end["events_unknown"].as_u64().unwrap();
    assert!(dropped > 1000, "{end}");
    assert!(
        profiles
            .iter()
            .all(|p| namespaces.contains(&p.netns.unwrap()))
    );
    let told = profiles
        .iter()
        .filter(|p| p.event != FlowEvent::RecorderStopped);
    assert_eq!(told.count() as u64 + dropped + unknown, 8000, "{end}");
}

#[test]
fn root_flow_agrees_with_nstat_on_a_lossy_link() {
    require!("ip", "ethtool", "nft", "nstat", "python3", "readlink");
    let chain = Chain::new(2);
    nft(
        &chain,
        1,
        "table inet losses {
           chain lose {
             type filter hook prerouting priority -300
             tcp dport 5001 ip length > 200 numgen random mod 1000 < 3 drop
           }
         }",
    );
    let _server = server(&chain, 1);
    let mut watch = Watch::start(&chain, 2, &["--port", &port::CLEAN.to_string()]);
    let host = chain.target(true).to_string();
    let mut client = chain.command(0, "python3");
    Running::start(client.args([SCENARIOS, "bulk", &host, "30000000"]))
        .finish(LIMIT)
        .expect(0);
    watch.wait_for_ends(2);
    let nstat = run(chain.command(0, "nstat").args(["-a", "-s", "-z", "--json"])).expect(0);
    let (profiles, _) = watch.stop();
    let nstat: Value = serde_json::from_str(&nstat.stdout).unwrap();
    let kernel = |name: &str| nstat["kernel"][name].as_u64().unwrap();
    let sent = of(&profiles, port::CLEAN, FlowOpen::Active);
    let sum = |of: &dyn Fn(&FlowProfile) -> Option<u64>| -> u64 {
        sent.iter().filter_map(|profile| of(profile)).sum()
    };
    assert_eq!(sum(&|p| p.bytes_acked), 30_000_000);
    assert_eq!(
        sum(&|p| Some(p.bytes_sent - p.bytes_retransmitted?)),
        30_000_000
    );
    let again = sum(&|p| p.packets_retransmitted);
    assert!(again > 0);
    assert_eq!(again, kernel("TcpRetransSegs"));
    assert_eq!(sum(&|p| p.rtos.map(u64::from)), kernel("TcpExtTCPTimeouts"));
    let recoveries = sum(&|p| p.fast_recoveries.map(u64::from));
    assert_eq!(recoveries, kernel("TcpExtTCPSackRecovery"));
    let lossy = sent.iter().filter(|p| p.phase == FlowPhase::Lossy).count();
    let entered = sent.iter().filter(|p| p.event == FlowEvent::LossyEntered);
    assert_eq!(lossy, entered.count());
    let received = of(&profiles, port::CLEAN, FlowOpen::Passive);
    let total: u64 = received.iter().map(|profile| profile.bytes_received).sum();
    assert_eq!(total, 30_000_000);
}

#[test]
fn root_flow_counts_the_bytes_that_iperf3_sends() {
    require!("ip", "ethtool", "iperf3", "readlink");
    let chain = Chain::new(2);
    let mut watch = Watch::start(&chain, 2, &["--port", "5201"]);
    let mut server = Running::start(
        chain
            .command(1, "iperf3")
            .args(["-s", "-1", "--forceflush"]),
    );
    server.wait_until(|out, _| out.contains("listening"));
    let host = chain.target(true).to_string();
    let mut client = chain.command(0, "iperf3");
    let client = client.args(["-c", &host, "-J", "-n", "60M"]);
    let iperf = Running::start(client).finish(LIMIT).expect(0);
    server.finish(LIMIT).expect(0);
    watch.wait_for_ends(4);
    let (profiles, _) = watch.stop();
    let iperf: Value = serde_json::from_str(&iperf.stdout).unwrap();
    let stream = iperf["start"]["connected"][0]["local_port"]
        .as_u64()
        .unwrap();
    let said = iperf["end"]["sum_received"]["bytes"].as_u64().unwrap();
    let received: u64 = profiles
        .iter()
        .filter(|p| p.open == Some(FlowOpen::Passive) && u64::from(p.remote_port) == stream)
        .map(|profile| profile.bytes_received)
        .sum();
    // The stream begins with a cookie of 37 bytes; what the server did not read when it had
    // enough is beyond that.
    assert!(received >= said + 37, "{received} {said}");
    let sent: u64 = profiles
        .iter()
        .filter(|p| p.open == Some(FlowOpen::Active) && u64::from(p.local_port) == stream)
        .map(|profile| profile.bytes_sent - profile.bytes_retransmitted.unwrap())
        .sum();
    let said = iperf["end"]["sum_sent"]["bytes"].as_u64().unwrap();
    assert!(
        sent <= said + 37 && sent >= received,
        "{sent} {said} {received}"
    );
}

/// Sends 3 MB over MPTCP and waits for the answer.
const MULTIPATH: &str = "
import socket, sys, time
if sys.argv[1] == 'server':
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(('0.0.0.0', 5020)); s.listen(8); print('ready', flush=True)
    c, _ = s.accept(); n = 0
    while n < 3_000_000: n += len(c.recv(1 << 16))
    c.sendall(b'y'); c.recv(1); c.close()
else:
    c = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
    c.connect((sys.argv[2], 5020)); c.sendall(b'x' * 1_500_000)
    # Until the second path is there.
    for _ in range(500):
        if c.getsockopt(284, 1, 64)[0] >= 1: break
        time.sleep(0.01)
    c.sendall(b'x' * 1_500_000)
    assert c.recv(1) == b'y'; c.close()
";

#[test]
fn root_flow_links_the_paths_of_a_multipath_connection() {
    require!("ip", "ethtool", "python3", "readlink");
    if !std::path::Path::new("/proc/sys/net/mptcp/enabled").exists() {
        plumb_tests::skip!("this kernel has no MPTCP");
    }
    let chain = Chain::new(2);
    chain.join("second", 0, 1);
    for (n, host) in [(0, 1), (1, 2)] {
        chain.ip(n, &format!("address add 5.9.77.{host}/24 dev second"));
        chain.ip(n, "link set second up");
        chain.ip(n, "mptcp limits set subflow 2 add_addr_accepted 2");
    }
    chain.ip(0, "mptcp endpoint add 5.9.77.1 dev second subflow");
    // Of the far end's addresses the second path leads to the same.
    chain.ip(1, "route replace 5.9.77.1/32 dev second");
    let mut watch = Watch::start(&chain, 2, &["--port", "5020"]);
    let mut server = chain.command(1, "python3");
    let mut server = Running::start(server.args(["-c", MULTIPATH, "server"]));
    server.wait_until(|out, _| out.contains("ready"));
    let host = chain.target(true).to_string();
    let mut client = chain.command(0, "python3");
    Running::start(client.args(["-c", MULTIPATH, "client", &host]))
        .finish(LIMIT)
        .expect(0);
    server.finish(LIMIT).expect(0);
    // Two paths and the connection, at both ends.
    watch.wait_for_ends(6);
    let (profiles, _) = watch.stop();
    let of = |protocol, open| {
        let is = move |p: &&FlowProfile| p.protocol == protocol && p.open == Some(open);
        profiles.iter().filter(is).collect::<Vec<_>>()
    };
    let whole = of(FlowProtocol::Mptcp, FlowOpen::Active);
    let last = whole.iter().find(|p| p.event == FlowEvent::Ended).unwrap();
    assert_eq!(
        (last.bytes_sent, last.bytes_received),
        (3_000_000, 1),
        "{last:#?}"
    );
    let token = last.mptcp.as_ref().unwrap().token;
    let paths = of(FlowProtocol::MptcpSubflow, FlowOpen::Active);
    let ended: Vec<_> = paths
        .iter()
        .filter(|p| p.event == FlowEvent::Ended)
        .collect();
    let tokens: Vec<_> = ended
        .iter()
        .map(|p| p.mptcp.as_ref().unwrap().token)
        .collect();
    assert_eq!(tokens, [token; 2], "{paths:#?}");
    let mut ids: Vec<_> = ended
        .iter()
        .filter_map(|p| p.mptcp.as_ref().unwrap().path_index)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 2);
    let locals: std::collections::BTreeSet<_> = ended.iter().map(|p| p.local_addr).collect();
    assert_eq!(locals.len(), 2);
}

/// One connection that stays, and says when it has sent its next bytes.
const LONG: &str = "
import socket, sys
s = socket.create_server(('127.0.0.1', 0))
a = socket.create_connection(s.getsockname()); b, _ = s.accept()
a.sendall(b'x' * 5000)
while sum(iter(lambda: len(b.recv(1 << 16)), 0)) if False else len(b.recv(5000, socket.MSG_WAITALL)) < 5000: pass
print('port', s.getsockname()[1], flush=True)
for line in sys.stdin:
    a.sendall(b'x' * 300); b.recv(300, socket.MSG_WAITALL); print('sent', flush=True)
    if line.strip() == 'end': break
";

#[test]
fn root_flow_begins_in_the_middle_of_connections_even_after_it_was_killed() {
    require!("ip", "ethtool", "python3", "readlink");
    let chain = Chain::new(2);
    let mut command = chain.command(0, "python3");
    let mut long = Running::start(command.args(["-c", LONG]).stdin(Stdio::piped()));
    long.wait_until(|out, _| out.contains("port"));
    let port: String = long.stdout().trim().trim_start_matches("port ").to_owned();
    let namespaces = vec![namespace(&chain, 0)];
    let killed = Watch::of(namespaces.clone(), &["--port", &port]);
    killed.running.signal("KILL");
    assert_eq!(killed.running.finish(LIMIT).signal(), Some(9));
    let left = run(Command::new("bpftool").args(["prog", "show"]));
    if left.code() == Some(0) {
        // Links are descriptors: what another recorder loaded is not ours to judge.
        assert!(!left.stdout.contains("pids plumb("), "{left}");
    }
    let watch = Watch::of(namespaces, &["--port", &port]);
    long.send("more\n");
    long.wait_until(|out, _| out.contains("sent"));
    let (profiles, end) = watch.stop();
    assert_eq!(end["connections"], 2);
    let events: Vec<_> = profiles.iter().map(|p| (p.event, p.open)).collect();
    assert_eq!(events, [(FlowEvent::RecorderStopped, None); 2]);
    // What was before belongs to no window.
    let mut sent: Vec<_> = profiles
        .iter()
        .map(|p| (p.bytes_sent, p.bytes_received))
        .collect();
    sent.sort_unstable();
    assert_eq!(sent, [(0, 300), (300, 0)]);
    assert!(profiles.iter().all(|p| p.pid == Some(long.pid())));
    long.send("end\n");
    long.finish(LIMIT).expect(0);
}

#[test]
fn root_flow_says_which_capabilities_are_missing() {
    require!("ip", "setpriv");
    let mut command = Command::new("setpriv");
    command.args([
        "--bounding-set",
        "-bpf,-perfmon,-sys_admin",
        "--inh-caps",
        "-all",
    ]);
    let done = run(command.arg(plumb()).args(["flow", "--duration", "1s"]));
    let done = done.expect(3);
    assert!(done.stderr.contains("CAP_BPF and CAP_PERFMON"), "{done}");
    assert!(done.stderr.contains("setcap"), "{done}");
}

#[test]
fn root_flow_goes_on_without_a_program_and_says_so() {
    require!("ip");
    let mut command = Command::new(plumb());
    let done = run(command.args(["flow", "--capabilities", "--without", "drop", "--json"]));
    let done = done.expect(0);
    let lines: Vec<Value> = done
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let find = |name: &str| lines.iter().find(|line| line["name"] == name).unwrap();
    assert_eq!(find("drop")["live"], false);
    assert_eq!(find("drop")["missing"], "left out by --without");
    assert_eq!(find("state")["live"], true);
    assert!(
        ["pass", "walk"]
            .iter()
            .any(|name| find(name)["live"] == true)
    );
}

#[test]
fn root_flow_takes_no_program_that_is_not_there_or_that_it_cannot_go_without() {
    for name in ["nosuch", "state", "bytes_retrans"] {
        let mut command = Command::new(plumb());
        let done = run(command.args(["flow", "--capabilities", "--without", name]));
        let done = done.expect(2);
        assert!(done.stderr.contains(&format!("'{name}'")), "{done}");
        assert!(done.stderr.contains("drop, baseline"), "{done}");
    }
}
