//! Flow records sent to collectors that others wrote: they get every one, and read the same.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use plumb_record::{FlowProfile, WallTime};
use plumb_tests::{
    Chain, Directory, Done, Running, dissect, ndjson, plumb, profiles, require, run,
};
use serde_json::Value;

/// A vantage point and a collector's namespace, joined by Ethernet.
struct Lab {
    chain: Chain,
    directory: Directory,
    profiles: Vec<FlowProfile>,
}

impl Lab {
    fn new(count: u16) -> Self {
        let directory = Directory::new();
        let profiles = profiles(count);
        directory.write("flows.ndjson", ndjson(&profiles));
        Self {
            chain: Chain::new(2),
            directory,
            profiles,
        }
    }

    /// Starts a command beside the collector's address, and waits for these words.
    fn start(&self, program: &str, arguments: &[&str], ready: &str) -> Running {
        let mut command = self.chain.command(1, program);
        command.args(arguments).current_dir(self.directory.path());
        let mut running = Running::start(&mut command);
        running.wait_until(|out, err| out.contains(ready) || err.contains(ready));
        running
    }

    /// Captures what reaches the collector on this port.
    fn capture(&self, filter: &str) -> Running {
        let arguments = [
            "-i", "left", "--print", "-l", "-n", "-U", "-w", "cap.pcap", filter,
        ];
        self.start("tcpdump", &arguments, "listening on")
    }

    /// Exports the profiles to the collector, and gives the number of messages.
    fn export(&self, v4: bool, suffix: &str, more: &[&str]) -> usize {
        let host = match self.chain.target(v4) {
            IpAddr::V4(addr) => addr.to_string(),
            IpAddr::V6(addr) => format!("[{addr}]"),
        };
        self.export_to(&format!("ipfix://{host}{suffix}"), more)
    }

    fn export_to(&self, to: &str, more: &[&str]) -> usize {
        let flows = self.directory.file("flows.ndjson");
        let mut arguments = vec!["export", flows.to_str().unwrap(), "--to", to];
        // The collectors have small buffers, and this machine may be busy with other tests.
        arguments.extend(["--export-rate", "500"]);
        arguments.extend(more);
        let mut command = self.chain.plumb(&arguments);
        command.env("SSLKEYLOGFILE", self.directory.file("keys"));
        let done = run(&mut command).expect(0);
        let records = format!(": {} records sent in ", self.profiles.len());
        let messages = done.stderr.split(&records).nth(1);
        let messages = messages.unwrap_or_else(|| panic!("{done}"));
        messages.split(' ').next().unwrap().parse().unwrap()
    }

    fn file(&self, name: &str) -> String {
        self.directory.file(name).to_str().unwrap().to_owned()
    }
}

/// What tshark calls a warning; below are the remarks that every connection gets.
const WARNING: u32 = 6 << 20;

/// Reads with tshark what was sent, and compares it with the profiles.
fn compare(profiles: &[FlowProfile], path: &str, options: &[&str]) {
    let fields = [
        "cflow.srcport",
        "cflow.flow_id",
        "cflow.transport_octet_delta_count",
        "cflow.packets",
        "cflow.flow_end_reason",
        "_ws.malformed",
        "_ws.expert.severity",
    ];
    let mut read = dissect(path, options, &fields).into_iter();
    let mut same = |of: &dyn Fn(&FlowProfile) -> Vec<u64>| {
        let read: Vec<u64> = read
            .next()
            .unwrap()
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let wanted: Vec<u64> = profiles.iter().flat_map(of).collect();
        assert_eq!(read, wanted);
    };
    same(&|profile| vec![profile.local_port.into()]);
    same(&|profile| vec![profile.flow_id]);
    // tshark calls the elements of the other direction the same.
    same(&|profile| vec![profile.bytes_sent, profile.bytes_received]);
    same(&|profile| {
        let both = [profile.packets_sent, profile.packets_received];
        both.map(Option::unwrap).to_vec()
    });
    same(&|profile| vec![if profile.end_reason.is_some() { 3 } else { 2 }]);
    assert!(read.next().unwrap().is_empty());
    let severities = read.next().unwrap();
    let grave = |severity: &String| severity.parse::<u32>().unwrap() >= WARNING;
    assert!(!severities.iter().any(grave), "{severities:?}");
}

fn end(running: Running, signal: &str) -> Done {
    running.signal(signal);
    running.finish(Duration::from_secs(30))
}

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

impl Lab {
    /// Waits until whoever listens on this port has read all that came.
    fn wait_until_read(&self, port: &str) {
        let started = std::time::Instant::now();
        loop {
            let mut command = self.chain.command(1, "ss");
            command.args(["-u", "-a", "-n", "-H", "sport", "=", &format!(":{port}")]);
            let sockets = run(&mut command).expect(0).stdout;
            let waiting: Vec<&str> = sockets
                .lines()
                .filter_map(|line| line.split_whitespace().nth(1))
                .collect();
            assert!(!waiting.is_empty(), "nobody listens: {sockets}");
            if waiting.iter().all(|&bytes| bytes == "0") {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(30), "{sockets}");
            std::thread::sleep(Duration::from_millis(5));
        }
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

/// Makes an authority, and a certificate that it signed, for this name.
fn certify(directory: &Path, name: &str) {
    let new = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ];
    let openssl = |arguments: &[&str]| {
        let mut command = Command::new("openssl");
        run(command.args(new).args(arguments).current_dir(directory)).expect(0);
    };
    openssl(&[
        "-subj",
        "/CN=authority",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
    ]);
    openssl(&[
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-subj",
        "/CN=collector",
        "-addext",
        &format!("subjectAltName={name}"),
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-keyout",
        "key.pem",
        "-out",
        "certificate.pem",
    ]);
}

#[test]
fn root_tls_is_spoken_with_openssl_and_tshark_reads_what_is_in_it() {
    require!("ip", "tcpdump", "tshark", "openssl");
    let lab = Lab::new(300);
    let target = lab.chain.target(true);
    certify(lab.directory.path(), &format!("IP:{target}"));
    let mut command = lab.chain.command(1, "openssl");
    command
        .args([
            "s_server",
            "-accept",
            "4740",
            "-cert",
            "certificate.pem",
            "-key",
            "key.pem",
        ])
        .args(["-naccept", "1", "-Verify", "1", "-CAfile", "ca.pem"])
        .current_dir(lab.directory.path())
        // It ends with its own input.
        .stdin(Stdio::piped());
    let mut collector = Running::start(&mut command);
    collector.wait_until(|out, _| out.contains("ACCEPT"));
    let mut capture = lab.capture("tcp port 4740");
    let (ca, certificate, key) = (
        lab.file("ca.pem"),
        lab.file("certificate.pem"),
        lab.file("key.pem"),
    );
    let options = [
        "--export-ca",
        &ca,
        "--export-certificate",
        &certificate,
        "--export-key",
        &key,
    ];
    lab.export(true, ",tls", &options);
    collector.finish(Duration::from_secs(30)).expect(0);
    capture.wait_until(|out, _| out.contains("Flags [F"));
    end(capture, "INT");

    let mut command = Command::new("tshark");
    command
        .args([
            "-r",
            &lab.file("cap.pcap"),
            "-d",
            "tcp.port==4740,tls",
            "-q",
        ])
        .args(["-o", &format!("tls.keylog_file:{}", lab.file("keys"))])
        .args(["-z", "follow,tls,raw,0"]);
    let followed = run(&mut command).expect(0).stdout;
    let hex: String = followed
        .lines()
        .filter(|line| line.trim().bytes().all(|byte| byte.is_ascii_hexdigit()))
        .map(str::trim)
        .collect();
    let bytes: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    let decrypted = lab.directory.write("decrypted.ipfix", bytes);
    compare(&lab.profiles, decrypted.to_str().unwrap(), &[]);
}

#[test]
fn root_a_collector_with_another_name_gets_nothing() {
    require!("ip", "openssl");
    let lab = Lab::new(1);
    certify(lab.directory.path(), "DNS:collector.example");
    let mut command = lab.chain.command(1, "openssl");
    command
        .args([
            "s_server",
            "-accept",
            "4740",
            "-cert",
            "certificate.pem",
            "-key",
            "key.pem",
        ])
        .current_dir(lab.directory.path())
        .stdin(Stdio::piped());
    let mut collector = Running::start(&mut command);
    collector.wait_until(|out, _| out.contains("ACCEPT"));
    let flows = lab.file("flows.ndjson");
    let to = format!("ipfix://{},tls", lab.chain.target(true));
    let ca = lab.file("ca.pem");
    let mut command = lab
        .chain
        .plumb(&["export", &flows, "--to", &to, "--export-ca", &ca]);
    let done = run(&mut command).expect(5);
    assert!(done.stderr.contains("not valid for name"), "{done}");
    assert!(
        done.stderr
            .contains("0 records sent in 0 messages, 1 not sent"),
        "{done}"
    );
    drop(collector);
}

#[test]
fn root_a_file_is_read_by_tshark_and_a_full_disk_leaves_whole_messages() {
    require!("ip", "tshark");
    let lab = Lab::new(300);
    let (flows, file) = (lab.file("flows.ndjson"), lab.file("flows.ipfix"));
    let mut command = Command::new(plumb());
    run(command.args(["export", &flows, "--ipfix-file", &file])).expect(0);
    compare(&lab.profiles, &file, &[]);

    let small = lab.directory.file("small");
    std::fs::create_dir(&small).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=40k none {dir} && {} export {flows} --ipfix-file {dir}/f; \
         code=$?; cp {dir}/f {file}; exit $code",
        plumb().display(),
        dir = small.display(),
    );
    let mut command = Command::new("unshare");
    let done = run(command.args(["--mount", "sh", "-c", &script])).expect(5);
    assert!(done.stderr.contains("No space left"), "{done}");
    let sent: usize = done
        .stderr
        .split(" records sent")
        .next()
        .and_then(|before| before.rsplit(' ').next())
        .unwrap()
        .parse()
        .unwrap();
    assert!((50..300).contains(&sent), "{done}");
    compare(&lab.profiles[..sent], &file, &[]);
}

/// What libfixbuf's `ipfixDump` reads in a file of messages: the numbers and texts of each record of
/// a connection, by the name of the element.
fn ipfix_dump(file: &str) -> Vec<BTreeMap<String, String>> {
    let mut command = Command::new("ipfixDump");
    let done = run(command.args(["--rfc5610", "--data", "--in", file])).expect(0);
    assert_eq!(done.stderr, "", "{done}");
    let mut records: Vec<BTreeMap<String, String>> = Vec::new();
    for line in done.stdout.lines() {
        if line.starts_with("--- data record") {
            records.push(BTreeMap::new());
        }
        // "\t(32473/9)      processId : 7864", "\t(96)      applicationName : (len: 4) curl"
        let Some((_, field)) = line.split_once(')') else {
            continue;
        };
        if let Some((name, value)) = field.split_once(" : ") {
            let text = value
                .strip_prefix("(len: ")
                .and_then(|v| v.split_once(") "));
            let value = text.map_or(value, |(_, text)| text);
            let name = name.trim().rsplit(' ').next().unwrap();
            let record = records.last_mut().unwrap();
            record.insert(name.to_owned(), value.trim().to_owned());
        }
    }
    records.retain(|record| record.contains_key("profileEvent"));
    records
}

#[test]
fn root_a_file_is_read_by_libfixbuf_which_learns_our_own_elements_from_it() {
    require!("ipfixDump");
    let directory = Directory::new();
    let profiles = profiles(300);
    directory.write("flows.ndjson", ndjson(&profiles));
    let file = directory.file("flows.ipfix").to_str().unwrap().to_owned();
    let mut command = Command::new(plumb());
    let flows = directory.file("flows.ndjson");
    let flows = flows.to_str().unwrap();
    run(command.args(["export", flows, "--ipfix-file", &file])).expect(0);
    let read = ipfix_dump(&file);
    assert_eq!(read.len(), profiles.len());
    for (read, profile) in read.iter().zip(&profiles) {
        assert!(
            !read.keys().any(|name| name.contains("alien")),
            "an element that it did not learn: {read:#?}"
        );
        let number = |value: Option<u64>| value.map(|value| value.to_string());
        // It writes every group with four digits.
        let address = |name: &str| -> IpAddr { read[name].parse().unwrap() };
        let family = if profile.local_addr.is_ipv4() { 4 } else { 6 };
        let source = format!("sourceIPv{family}Address");
        let destination = format!("destinationIPv{family}Address");
        assert_eq!(address(&source), profile.local_addr);
        assert_eq!(address(&destination), profile.remote_addr);
        // To the millisecond, as it prints them.
        let end = profile.end.to_string().replace('T', " ");
        for (name, wanted) in [
            (
                "sourceTransportPort",
                number(Some(profile.local_port.into())),
            ),
            (
                "destinationTransportPort",
                number(Some(profile.remote_port.into())),
            ),
            ("flowId", number(Some(profile.flow_id))),
            ("flowEndMilliseconds", end.get(..23).map(str::to_owned)),
            ("transportOctetDeltaCount", number(Some(profile.bytes_sent))),
            (
                "reverseTransportOctetDeltaCount",
                number(Some(profile.bytes_received)),
            ),
            ("acknowledgedOctetDeltaCount", number(profile.bytes_acked)),
            ("packetDeltaCount", number(profile.packets_sent)),
            ("reversePacketDeltaCount", number(profile.packets_received)),
            (
                "retransmittedPacketDeltaCount",
                number(profile.packets_retransmitted),
            ),
            ("smoothedRoundTripTimeNanoseconds", number(profile.rtt_ns)),
            ("processId", number(profile.pid.map(u64::from))),
            (
                "mptcpToken",
                number(profile.mptcp.as_ref().map(|m| m.token.into())),
            ),
            ("congestionControlName", profile.congestion_control.clone()),
            ("controlGroupPath", profile.cgroup.clone()),
            ("applicationName", profile.process.clone()),
        ] {
            assert_eq!(
                read.get(name),
                wanted.as_ref(),
                "{name}: {read:#?} {profile:#?}"
            );
        }
    }
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
