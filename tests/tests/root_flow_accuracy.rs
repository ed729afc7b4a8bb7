//! `plumb flow` on bulk runs beside what `ss`, `nstat`, `iperf3` and the socket say of the same run.

#![forbid(unsafe_code)]

use core::time::Duration;
use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Instant;

use plumb_record::{FlowEvent, FlowOpen, FlowProfile, FlowProtocol};
use plumb_tests::{Chain, Running, SCENARIOS, Watch, require, run, run_with};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
const MULTIPATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/flow/segments.py");
const SIZE: u64 = 30_000_000;

/// Loses three of a thousand segments with payload on their way to these ports.
fn lose(chain: &Chain, ports: &str) {
    let rules = format!(
        "table inet losses {{
           chain lose {{
             type filter hook prerouting priority -300
             tcp dport {ports} ip length > 200 numgen random mod 1000 < 3 drop
           }}
         }}"
    );
    let mut command = chain.command(1, "nft");
    run_with(command.args(["-f", "-"]), rules.as_bytes(), LIMIT).expect(0);
}

/// What `ss` says of the one connection to or from a port: numbers by name.
fn ss(chain: &Chain, n: usize, filter: &str) -> BTreeMap<String, f64> {
    let mut command = chain.command(n, "ss");
    command.args(["-t", "-i", "-n", "-H", "-O", "state", "established", filter]);
    let said = run(&mut command).expect(0).stdout;
    assert_eq!(said.lines().count(), 1, "{said}");
    let mut figures = BTreeMap::new();
    for word in said.split_whitespace() {
        // "rtt:0.5/0.2" and "retrans:0/7" are two numbers.
        let Some((name, values)) = word.split_once(':') else {
            continue;
        };
        for (place, value) in values.split('/').enumerate() {
            if let Ok(value) = value.parse() {
                figures.insert(format!("{name}{}", ["", "/"][place.min(1)]), value);
            }
        }
    }
    figures
}

#[test]
fn root_flow_agrees_with_ss_and_nstat_on_a_lossy_link() {
    require!("ip", "ethtool", "nft", "nstat", "python3", "readlink", "ss");
    let chain = Chain::new(2);
    lose(&chain, "5001");
    let _server = plumb_tests::server(&chain, 1);
    let watch = Watch::start(&chain, 2, &["--port", "5001"]);
    let host = chain.target(true).to_string();
    let mut command = chain.command(0, "python3");
    command.args([SCENARIOS, "hold", &host, &SIZE.to_string()]);
    let mut client = Running::start(command.stdin(Stdio::piped()));
    client.wait_until(|out, _| out.contains("sent"));
    // Until all is acknowledged, the SYN's number too, and nothing is on its way any more.
    let both = || {
        let client = ss(&chain, 0, "( dport = 5001 )");
        (client, ss(&chain, 1, "( sport = 5001 )"))
    };
    let started = Instant::now();
    let mut before = both();
    let (sender, receiver) = loop {
        std::thread::sleep(Duration::from_millis(50));
        let now = both();
        let counts = |of: &BTreeMap<String, f64>| [of["segs_out"], of["segs_in"]].map(f64::to_bits);
        let still = counts(&now.0) == counts(&before.0) && counts(&now.1) == counts(&before.1);
        if still && now.0["bytes_acked"].to_string() == (SIZE + 1).to_string() {
            break now;
        }
        assert!(started.elapsed() < LIMIT, "{now:?}");
        before = now;
    };
    let nstat = run(chain.command(0, "nstat").args(["-a", "-s", "-z", "--json"])).expect(0);
    let (profiles, end) = watch.stop();
    assert_eq!(end["events_dropped"], 0);
    let nstat: Value = serde_json::from_str(&nstat.stdout).unwrap();
    let kernel = |name: &str| nstat["kernel"][name].as_u64().unwrap();

    let of = |open| -> Vec<&FlowProfile> {
        let found: Vec<_> = profiles.iter().filter(|p| p.open == Some(open)).collect();
        assert_eq!(
            found.last().unwrap().event,
            FlowEvent::RecorderStopped,
            "{found:#?}"
        );
        found
    };
    type Of<'a> = &'a dyn Fn(&FlowProfile) -> Option<u64>;
    let same = |of: &[&FlowProfile], ss: &BTreeMap<String, f64>, name: &str, figure: Of<'_>| {
        // What is 0 is left out by ss.
        let said = ss.get(name).copied().unwrap_or(0.0);
        let sum: u64 = of.iter().filter_map(|p| figure(p)).sum();
        assert_eq!(sum as f64, said, "{name}: {ss:?} {of:#?}");
    };
    let sent = of(FlowOpen::Active);
    same(&sent, &sender, "bytes_sent", &|p| Some(p.bytes_sent));
    same(&sent, &sender, "bytes_retrans", &|p| p.bytes_retransmitted);
    same(&sent, &sender, "retrans/", &|p| p.packets_retransmitted);
    same(&sent, &sender, "segs_out", &|p| p.packets_sent);
    same(&sent, &sender, "segs_in", &|p| p.packets_received);
    same(&sent, &sender, "data_segs_out", &|p| p.data_packets_sent);
    same(&sent, &sender, "dsack_dups", &|p| {
        p.spurious_retransmissions.map(u64::from)
    });
    same(&sent, &sender, "reord_seen", &|p| {
        p.reorderings.map(u64::from)
    });
    let acked: u64 = sent.iter().filter_map(|p| p.bytes_acked).sum();
    assert_eq!(acked, SIZE);
    let again: u64 = sent.iter().filter_map(|p| p.packets_retransmitted).sum();
    assert!(again > 0);
    assert_eq!(again, kernel("TcpRetransSegs"));

    // ss has milliseconds with three digits.
    let last = sent.last().unwrap();
    let gauges = [
        ("rtt", last.rtt_ns),
        ("rtt/", last.rtt_variance_ns),
        ("minrtt", last.rtt_min_ns),
    ];
    for (name, ns) in gauges {
        let us = ns.unwrap() / 1000;
        let told = (sender[name] * 1000.0).round();
        assert_eq!(us.to_string(), told.to_string(), "{name} {last:#?}");
    }
    assert_eq!(last.mss_bytes.map(f64::from), Some(sender["mss"]));
    assert_eq!(
        last.congestion_window_packets.map(f64::from),
        Some(sender["cwnd"])
    );

    let received = of(FlowOpen::Passive);
    same(&received, &receiver, "bytes_received", &|p| {
        Some(p.bytes_received)
    });
    same(&received, &receiver, "segs_in", &|p| p.packets_received);
    same(&received, &receiver, "data_segs_in", &|p| {
        p.data_packets_received
    });
    same(&received, &receiver, "rcv_ooopack", &|p| {
        p.out_of_order_packets.map(u64::from)
    });
    client.send("end\n");
    client.finish(LIMIT).expect(0);
}

#[test]
fn root_flow_counts_the_retransmissions_that_iperf3_counts() {
    require!("ip", "ethtool", "iperf3", "nft", "readlink");
    let chain = Chain::new(2);
    lose(&chain, "5202");
    let mut watch = Watch::start(&chain, 2, &["--port", "5202"]);
    let mut command = chain.command(1, "iperf3");
    let mut server = Running::start(command.args(["-s", "-1", "-p", "5202", "--forceflush"]));
    server.wait_until(|out, _| out.contains("listening"));
    let host = chain.target(true).to_string();
    let mut command = chain.command(0, "iperf3");
    let iperf = Running::start(command.args(["-c", &host, "-p", "5202", "-J", "-n", "30M"]));
    let iperf = iperf.finish(LIMIT).expect(0);
    server.finish(LIMIT).expect(0);
    watch.wait_for_ends(4);
    let (profiles, _) = watch.stop();
    let iperf: Value = serde_json::from_str(&iperf.stdout).unwrap();
    let stream = iperf["start"]["connected"][0]["local_port"].as_u64();
    let said = iperf["end"]["sum_sent"]["retransmits"].as_u64().unwrap();
    let sent: Vec<_> = profiles
        .iter()
        .filter(|p| p.open == Some(FlowOpen::Active) && Some(p.local_port.into()) == stream)
        .collect();
    let again: u64 = sent.iter().filter_map(|p| p.packets_retransmitted).sum();
    // It asks when it has written all: what is still on its way may be lost yet.
    assert!(said > 0 && again >= said, "{again} {said} {sent:#?}");
    let lossy: u64 = sent.iter().filter_map(|p| p.packets_lost).sum();
    assert!(lossy > 0, "{sent:#?}");
}

#[test]
fn root_flow_agrees_with_ss_and_the_socket_on_a_multipath_connection() {
    require!("ip", "ethtool", "python3", "readlink", "ss");
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
    chain.ip(1, "mptcp endpoint add 5.9.77.2 dev second signal");
    let mut watch = Watch::start(&chain, 2, &["--port", "5030"]);
    let host = chain.target(true).to_string();
    let end = |n, end| {
        let mut command = chain.command(n, "python3");
        command.args([MULTIPATH, end, "paths", &host, "1"]);
        Running::start(command.stdin(Stdio::piped()))
    };
    let mut server = end(1, "server");
    server.wait_until(|out, _| out.contains("ready"));
    let mut client = end(0, "client");
    client.wait_until(|out, _| out.contains("info"));
    let remotes = [host.as_str(), "5.9.77.2"];
    // Until all is acknowledged, nothing is on its way, and nothing of it is sent once more.
    let look = || remotes.map(|remote| ss(&chain, 0, &format!("( dst {remote} dport = 5030 )")));
    let started = Instant::now();
    let mut paths = look();
    loop {
        std::thread::sleep(Duration::from_millis(300));
        let before = core::mem::replace(&mut paths, look());
        let still = |(path, before): (&BTreeMap<String, f64>, &BTreeMap<String, f64>)| {
            let of = |name: &str| path.get(name).map(|figure| figure.to_bits());
            let was = |name: &str| before.get(name).map(|figure| figure.to_bits());
            !path.contains_key("unacked")
                && ["segs_out", "segs_in"]
                    .iter()
                    .all(|name| of(name) == was(name))
        };
        if paths.iter().zip(&before).all(still) {
            break;
        }
        assert!(started.elapsed() < LIMIT, "{paths:?}");
    }
    client.send("end\n");
    let told = [client, server].map(|end| {
        let done = end.finish(LIMIT).expect(0);
        let line = done
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix("info "));
        let words = line.expect("a line").split(' ');
        words
            .map(|word| word.parse::<u64>().unwrap())
            .collect::<Vec<_>>()
    });
    watch.wait_for_ends(6);
    let (profiles, _) = watch.stop();
    let of = |protocol, open| -> Vec<&FlowProfile> {
        let is = |p: &&FlowProfile| p.protocol == protocol && p.open == Some(open);
        profiles.iter().filter(is).collect()
    };
    for (open, told) in [FlowOpen::Active, FlowOpen::Passive].into_iter().zip(&told) {
        let whole = of(FlowProtocol::Mptcp, open);
        assert_eq!(whole.len(), 1, "{whole:#?}");
        let (whole, mptcp) = (whole[0], whole[0].mptcp.as_ref().unwrap());
        let ours = [
            u64::from(mptcp.token),
            whole.bytes_sent,
            whole.bytes_received,
            mptcp.reinjected_bytes.unwrap(),
        ];
        // The first word is the number of paths besides the first, at a time when the remote end may
        // have closed some.
        assert_eq!(ours, told[1..], "{whole:#?}");
        // Not the number that the end of the data takes (DATA_FIN).
        assert_eq!(whole.bytes_acked, Some(whole.bytes_sent), "{whole:#?}");
    }
    assert_eq!(told[0][0], 1);

    for (remote, path) in remotes.iter().zip(&paths) {
        let mut found = of(FlowProtocol::MptcpSubflow, FlowOpen::Active);
        found.retain(|p| p.remote_addr.to_string() == *remote);
        let token = found[0].mptcp.as_ref().unwrap().token;
        assert_eq!(u64::from(token), told[0][1]);
        type Of = fn(&FlowProfile) -> Option<u64>;
        let figures: [(&str, Of); 6] = [
            ("bytes_sent", |p| Some(p.bytes_sent)),
            ("bytes_received", |p| Some(p.bytes_received)),
            ("bytes_retrans", |p| p.bytes_retransmitted),
            ("data_segs_out", |p| p.data_packets_sent),
            ("data_segs_in", |p| p.data_packets_received),
            ("retrans/", |p| p.packets_retransmitted),
        ];
        for (name, figure) in figures {
            let sum: u64 = found.iter().filter_map(|p| figure(p)).sum();
            // What is 0 is left out by ss.
            let said = path.get(name).copied().unwrap_or(0.0);
            assert_eq!(sum as f64, said, "{remote} {name}: {path:?} {found:#?}");
        }
    }
}
