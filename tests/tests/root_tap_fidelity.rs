//! `plumb tap` against captures that others made, collectors that others wrote, and the traffic that
//! it must not harm.

#![forbid(unsafe_code)]

use std::io::Write;
use std::process::Command;

use plumb_tests::tap_lab::{LIMIT, Lab, SWITCH, bytes_of, frames};
use plumb_tests::{Directory, Running, require, run};

/// What tshark reads in a capture: a line a packet, fields separated by `|`, values by `;`.
fn lines(path: &std::path::Path, filter: &str, fields: &[&str]) -> Vec<String> {
    let mut command = Command::new("tshark");
    command
        .arg("-r")
        .arg(path)
        .args(["-Y", filter, "-T", "fields"]);
    command.args(["-E", "separator=|", "-E", "aggregator=;"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let done = run(&mut command).expect(0);
    done.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn root_captures_that_others_made_arrive_packet_for_packet_in_order() {
    require!("tcpreplay", "randpkt");
    let (lab, directory) = (Lab::new(), Directory::new());
    for kind in ["ip", "ipv6", "udp", "icmp", "sctp", "dns"] {
        let source = directory.file("source.pcap");
        run(Command::new("randpkt")
            .args(["-b", "1400", "-c", "300", "-t", kind])
            .arg(&source))
        .expect(0);
        let sent = bytes_of(&frames(&source));
        assert_eq!(sent.len(), 300, "{kind}");
        let file = directory.file("seen.pcapng");
        let path = file.to_str().expect("UTF-8");
        let tap = lab.tap(&["vm1", "--direction", "out", "--write", path]);
        lab.replay("vm1", &source);
        let status = lab.end(tap);
        assert_eq!(status["counters"]["ring_full"], 0, "{status}");
        let seen = bytes_of(&frames(&file));
        assert!(seen == sent, "{kind}: {} of {}", seen.len(), sent.len());
    }
}

#[test]
fn root_geneve_says_when_where_which_way_and_how_much_was_lost() {
    require!("ping", "taskset", "tcpdump", "tshark");
    let (lab, directory) = (Lab::new(), Directory::new());
    lab.silence_monitor();
    let file = directory.file("tunnel");
    let dump = lab.dump("mon", &file);
    let output = "geneve://192.0.2.9?vni=5";
    let tap = lab.tap(&["vm1", "--filter", "icmp", "--to", output]);
    // On one processor, whose losses are told.
    let ping = || lab.run("vm1", "taskset", "-c 0 ping -c 1 -W 2 10.7.0.2");
    let id = lab.control(&["list"]).expect(0).stdout;
    let id = id.split(' ').next().expect("an id").to_owned();
    let works = || {
        let status = lab.control(&["status", &id, "--json"]).expect(0).stdout;
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        status["outputs"][0]["trouble"].is_null()
    };
    ping();
    lab.ip(SWITCH, "link set mon down");
    ping();
    lab.ip(SWITCH, "link set mon up");
    lab.silence_monitor();
    let started = std::time::Instant::now();
    while !works() {
        assert!(started.elapsed() < LIMIT, "no way to the collector");
        std::thread::sleep(core::time::Duration::from_millis(20));
    }
    ping();
    lab.collect(dump, &file, 4);
    let status = lab.end(tap);
    assert_eq!(status["counters"]["output_failed"], 2, "{status}");
    let index = lab.run(SWITCH, "cat", "/sys/class/net/vm1/ifindex").stdout;
    let index: u32 = index.trim().parse().expect("a number");
    let fields = [
        "geneve.option.class",
        "geneve.option.type",
        "geneve.option.unknown.data",
        "frame.time_epoch",
    ];
    let lines = lines(&file, "geneve && ip.src == 192.0.2.1", &fields);
    assert_eq!(lines.len(), 4, "{lines:?}");
    for (n, line) in lines.iter().enumerate() {
        let columns: Vec<&str> = line.split('|').collect();
        assert_eq!(
            columns[0].replace("0xff70", "65392"),
            "65392;65392;65392",
            "{line}"
        );
        assert_eq!(columns[1].replace("0x0", ""), "1;2;3", "{line}");
        let options: Vec<u64> = columns[2]
            .split(';')
            .map(|data| u64::from_str_radix(&data.replace(':', ""), 16).expect("bytes"))
            .collect();
        // Requests come in by the port, answers go out.
        let direction = n as u64 % 2;
        assert_eq!(
            options[1],
            u64::from(index) << 32 | direction << 24,
            "{line}"
        );
        assert_eq!(options[2], if n < 2 { 0 } else { 2 }, "{line}");
        let seen: f64 = columns[3].parse().expect("seconds");
        let told = core::time::Duration::from_nanos(options[0]).as_secs_f64();
        assert!((seen - told).abs() < 1.0, "{line}");
    }
}

#[test]
fn root_erspan_numbers_its_packets_and_says_when_and_which_way() {
    require!("ping", "tcpdump", "tshark");
    let (lab, directory) = (Lab::new(), Directory::new());
    lab.silence_monitor();
    for (kind, version) in [("2", "1"), ("3", "2")] {
        let file = directory.file("tunnel");
        let dump = lab.dump("mon", &file);
        let output = format!("erspan://192.0.2.9?session=11&type={kind}");
        let tap = lab.tap(&["vm1", "--filter", "icmp", "--to", &output]);
        lab.run("vm1", "ping", "-c 3 -i 0.2 -W 2 10.7.0.2");
        lab.collect(dump, &file, 6);
        lab.end(tap);
        let fields = [
            "erspan.version",
            "gre.sequence_number",
            "erspan.direction",
            "erspan.timestamp",
        ];
        let lines = lines(&file, "erspan && ip.src == 192.0.2.1", &fields);
        assert_eq!(lines.len(), 6, "{lines:?}");
        let mut times = Vec::new();
        for (n, line) in lines.iter().enumerate() {
            let columns: Vec<&str> = line.split('|').collect();
            assert_eq!(columns[..2], [version, &n.to_string()], "{line}");
            if kind == "3" {
                let direction = columns[2].replace("True", "1").replace("False", "0");
                assert_eq!(direction, (n % 2).to_string(), "{line}");
                times.push(columns[3].parse::<u32>().expect("a number"));
            }
        }
        // In units of 100 ns; requests are 0.2 s from each other.
        for pair in times.chunks(2).collect::<Vec<_>>().windows(2) {
            let between = pair[1][0].wrapping_sub(pair[0][0]);
            assert!((1_900_000..20_000_000).contains(&between), "{times:?}");
        }
    }
}

/// A transfer by iperf3 on one processor: bytes sent and received, retransmissions.
fn iperf(lab: &Lab, port: &str) -> (u64, u64, u64) {
    let on_one = ["-c", "0", "iperf3"];
    let mut server = lab.command("vm2", "taskset");
    server
        .args(on_one)
        .args(["-s", "-1", "-p", port, "--forceflush"]);
    let mut server = Running::start(&mut server);
    server.wait_until(|out, err| out.contains("listening") || err.contains("listening"));
    let mut client = lab.command("vm1", "taskset");
    client
        .args(on_one)
        .args(["-c", "10.7.0.2", "-p", port, "-n", "64M", "-J"]);
    let report = run(&mut client).expect(0).stdout;
    server.finish(LIMIT).expect(0);
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let number = |end: &str, name: &str| report["end"][end][name].as_u64().expect("a number");
    let latency = &report["end"]["streams"][0]["sender"]["mean_rtt"];
    let _ = writeln!(std::io::stderr(), "mean round trip: {latency} us");
    (
        number("sum_sent", "bytes"),
        number("sum_received", "bytes"),
        number("sum_sent", "retransmits"),
    )
}

#[test]
fn root_iperf_sends_and_gets_the_same_with_taps_of_every_kind_as_without() {
    require!("iperf3", "taskset");
    let (lab, directory) = (Lab::new(), Directory::new());
    lab.without_retransmissions();
    let without = iperf(&lab, "5201");
    let file = directory.file("seen.pcapng");
    let path = file.to_str().expect("UTF-8");
    let taps = [
        lab.tap(&["vm1", "--snaplen", "128", "--write", path]),
        lab.tap(&["vm1", "--to", "mon"]),
        lab.tap(&["vm1", "--to", "vxlan://192.0.2.9?vni=1"]),
    ];
    let with = iperf(&lab, "5202");
    for tap in taps {
        let status = lab.end(tap);
        assert!(
            status["counters"]["matched"].as_u64() > Some(1000),
            "{status}"
        );
    }
    let bytes = 64 << 20;
    for (sent, received, retransmissions) in [without, with] {
        // It may send a block more than it was told.
        assert!((bytes..bytes + (1 << 20)).contains(&sent), "{sent}");
        assert_eq!(retransmissions, 0);
        // When the client has sent all, the server reads no more, whatever is in socket buffers.
        assert!(received > bytes - (16 << 20), "{received}");
    }
}
