//! Flow records sent to collectors that others wrote: they get every one, and read the same.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use core::time::Duration;
use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use plumb_record::{FlowProfile, WallTime};
use plumb_tests::ipfix_lab::{Lab, compare, end};
use plumb_tests::{Running, dissect, ndjson, require, run};
use serde_json::Value;

#[test]
fn root_nfcapd_gets_every_record_and_misses_no_number() {
    require!("ip", "nfcapd", "nfdump", "tcpdump", "ss");
    for v4 in [true, false] {
        let lab = Lab::new(1000);
        std::fs::create_dir(lab.directory.file("flows")).unwrap();
        let family = if v4 { "-4" } else { "-6" };
        let collector = lab.start("nfcapd", &[family, "-w", "flows", "-p", "4739"], "Startup");
        lab.export(v4, ":4739", &[]);
        // nfcapd says nothing of single records: all are read when its socket is empty.
        lab.wait_until_read("4739");
        let done = end(collector, "TERM");
        let said = format!("{}{}", done.stdout, done.stderr);
        assert!(said.contains("Flows: 1000,"), "{done}");
        assert!(
            said.contains("Sequence Errors: 0, Bad Packets: 0"),
            "{done}"
        );

        let format = "fmt:%sp|%dp|%ipkt|%ibyt|%opkt|%obyt|%ts";
        let flows = lab.file("flows");
        let mut command = Command::new("nfdump");
        // Neither numbers scaled for people, nor times of another zone.
        command
            .env("TZ", "UTC")
            .args(["-R", &flows, "-N", "-q", "-o", format]);
        let read: BTreeSet<Vec<u64>> = run(&mut command)
            .expect(0)
            .stdout
            .lines()
            .map(|line| {
                let mut fields: Vec<&str> = line.split('|').map(str::trim).collect();
                let time = fields.pop().unwrap().replace(' ', "T") + "Z";
                let time = time.parse::<WallTime>().unwrap().0 / 1_000_000;
                let numbers = fields.iter().map(|field| field.parse().unwrap());
                numbers.chain([time]).collect()
            })
            .collect();
        let wanted: BTreeSet<Vec<u64>> = lab.profiles.iter().map(as_nfdump).collect();
        assert_eq!(read, wanted);
    }
}

/// Ports, packets and octets both ways with headers of 20 or 40 and 20 bytes, start in milliseconds.
fn as_nfdump(profile: &FlowProfile) -> Vec<u64> {
    let headers = if profile.local_addr.is_ipv4() { 40 } else { 60 };
    let (sent, received) = (
        profile.packets_sent.unwrap(),
        profile.packets_received.unwrap(),
    );
    vec![
        profile.local_port.into(),
        profile.remote_port.into(),
        sent,
        profile.bytes_sent + sent * headers,
        received,
        profile.bytes_received + received * headers,
        profile.start.0 / 1_000_000,
    ]
}

#[test]
fn root_nfacctd_reads_our_own_elements_too() {
    require!("ip", "nfacctd");
    let lab = Lab::new(500);
    let primitives = "name=flow_id field_type=148 len=8 semantics=u_int\n\
         name=state field_type=32473:4 len=1 semantics=u_int\n\
         name=acked field_type=32473:13 len=8 semantics=u_int\n\
         name=rtt_ns field_type=32473:20 len=4 semantics=u_int\n\
         name=congestion field_type=32473:53 len=vlen semantics=str\n";
    let primitives = lab.directory.write("primitives", primitives);
    let configuration = format!(
        "nfacctd_port: 4739\nplugins: print[a]\nprint_output[a]: json\n\
         print_refresh_time[a]: 1\nnfacctd_time_new: true\naggregate_primitives: {}\n\
         aggregate[a]: src_host,dst_host,src_port,dst_port,proto,timestamp_start,timestamp_end,\
         flow_id,state,acked,rtt_ns,congestion\n\
         plugin_pipe_size: 8192000\n",
        primitives.display()
    );
    let configuration = lab.directory.write("nfacctd.conf", configuration);
    let configuration = configuration.to_str().unwrap();
    let collector = lab.start("nfacctd", &["-f", configuration], "waiting for NetFlow");
    lab.export(true, "", &[]);
    // It prints what its buffers still hold when it ends.
    lab.wait_until_read("4739");
    let done = end(collector, "INT");
    assert!(
        !done.stderr.contains("unable") && !done.stdout.contains("unable"),
        "{done}"
    );
    let lines = done
        .stdout
        .lines()
        .filter(|line| line.contains("event_type"));
    let read: BTreeSet<String> = lines
        .map(|line| {
            let record: Value = serde_json::from_str(line).unwrap();
            let text = |key: &str| record[key].to_string().replace('"', "");
            let keys = [
                "flow_id",
                "ip_dst",
                "port_src",
                "state",
                "acked",
                "rtt_ns",
                "congestion",
            ];
            let keys = keys.iter().chain(&["packets", "bytes"]);
            keys.map(|key| text(key)).collect::<Vec<_>>().join(" ")
        })
        .collect();
    let wanted: BTreeSet<String> = lab
        .profiles
        .iter()
        .map(|profile| {
            let nfdump = as_nfdump(profile);
            format!(
                "{} {} {} {} {} {} cubic {} {}",
                profile.flow_id,
                profile.remote_addr,
                profile.local_port,
                if profile.end_reason.is_some() { 4 } else { 1 },
                profile.bytes_acked.unwrap(),
                profile.rtt_ns.unwrap_or(0),
                nfdump[2],
                nfdump[3],
            )
        })
        .collect();
    assert_eq!(read, wanted);
}

#[test]
fn root_tshark_finds_no_fault_in_datagrams_and_none_is_longer_than_the_mtu() {
    require!("ip", "tcpdump", "tshark", "socat");
    for v4 in [true, false] {
        let lab = Lab::new(300);
        let _listener = lab.start("socat", &["-dd", "-u", listener(v4), "OPEN:/dev/null"], "");
        let mut capture = lab.capture("udp port 4739");
        let messages = lab.export(v4, "", &[]);
        capture.wait_until(|out, _| out.lines().count() >= messages);
        end(capture, "INT");
        let path = lab.file("cap.pcap");
        compare(&lab.profiles, &path, &["-d", "udp.port==4739,cflow"]);
        let fields = ["frame.len", "cflow.od_id", "cflow.sequence"];
        let frames = dissect(&path, &["-Y", "cflow"], &fields);
        assert_eq!(frames[0].len(), messages);
        assert!(
            frames[0]
                .iter()
                .all(|len| len.parse::<u32>().unwrap() <= 1514)
        );
        // Flow records, and what is about the exporter, are counted apart.
        for domain in ["0", "1"] {
            let pairs = frames[1].iter().zip(&frames[2]);
            let numbers: Vec<u32> = pairs
                .filter(|(of, _)| *of == domain)
                .map(|(_, number)| number.parse().unwrap())
                .collect();
            assert_eq!(numbers.first(), Some(&0), "domain {domain}");
            assert!(numbers.is_sorted(), "domain {domain}: {numbers:?}");
        }
    }
}

const fn listener(v4: bool) -> &'static str {
    if v4 {
        "UDP4-RECV:4739"
    } else {
        "UDP6-RECV:4739"
    }
}

#[test]
fn root_tshark_reads_a_stream_in_the_capture_and_as_a_file() {
    require!("ip", "tcpdump", "tshark", "socat");
    let lab = Lab::new(300);
    let listen = ["-dd", "-u", "TCP-LISTEN:4739", "OPEN:received,creat"];
    let collector = lab.start("socat", &listen, "listening on");
    let mut capture = lab.capture("tcp port 4739");
    lab.export(true, ",tcp", &[]);
    collector.finish(Duration::from_secs(30)).expect(0);
    capture.wait_until(|out, _| out.contains("Flags [F"));
    end(capture, "INT");
    compare(
        &lab.profiles,
        &lab.file("cap.pcap"),
        &["-d", "tcp.port==4739,cflow"],
    );
    compare(&lab.profiles, &lab.file("received"), &[]);
}

#[test]
fn root_a_collector_that_comes_back_gets_what_waited() {
    require!("ip", "socat", "tshark");
    let lab = Lab::new(300);
    let mut command = lab.chain.plumb(&[]);
    let to = format!("ipfix://{},tcp", lab.chain.target(true));
    command
        .args(["export", "-", "--to", &to])
        .stdin(Stdio::piped());
    let mut exporter = Running::start(&mut command);
    exporter.send(&ndjson(&lab.profiles[..100]));
    exporter.wait_until(|_, err| err.contains("Connection refused"));
    let listen = |file: &str| {
        let file = format!("OPEN:{file},creat");
        let arguments = ["-dd", "-u", "TCP-LISTEN:4739,reuseaddr", &file];
        lab.start("socat", &arguments, "listening on")
    };
    let first = listen("first");
    let received = |name: &str| -> usize {
        let records = dissect(lab.file(name), &[], &["cflow.srcport"]);
        records[0].len()
    };
    wait_for(|| lab.directory.file("first").exists() && received("first") == 100);
    end(first, "TERM");
    let second = listen("second");
    exporter.send(&ndjson(&lab.profiles[100..]));
    let done = exporter.finish(Duration::from_secs(30)).expect(0);
    assert!(done.stderr.contains(": 300 records sent"), "{done}");
    second.finish(Duration::from_secs(30)).expect(0);
    compare(&lab.profiles[100..], &lab.file("second"), &[]);
}

/// Waits until something is true.
#[track_caller]
fn wait_for(is: impl Fn() -> bool) {
    let started = std::time::Instant::now();
    while !is() {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "waited in vain"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
