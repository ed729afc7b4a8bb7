//! Flow records of `plumb tap`, read back by collectors that others wrote, beside what tcpdump saw.

#![forbid(unsafe_code)]

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use plumb_tests::tap_lab::{
    Frame, LIMIT, Lab, MONITOR, SWITCH, bytes_of, frames, traffic, write_capture,
};
use plumb_tests::{Directory, Running, dissect, plumb, require, run};

/// Addresses, protocol, and ports.
type Key = (IpAddr, IpAddr, u8, u16, u16);
/// Packets, and bytes from the IP header on.
type Sums = BTreeMap<Key, (u64, u64)>;

fn add(sums: &mut Sums, key: Key, packets: u64, bytes: u64) {
    let sum = sums.entry(key).or_default();
    *sum = (sum.0 + packets, sum.1 + bytes);
}

/// What a capture of whole packets of TCP and UDP comes to.
fn sums_of(packets: &[Vec<u8>]) -> Sums {
    let mut sums = Sums::new();
    for packet in packets {
        let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        let mut at = 14;
        while matches!(word(at - 2), 0x8100 | 0x88a8) {
            at += 4;
        }
        let (src, dst, protocol, transport, bytes): (IpAddr, IpAddr, _, _, _) = match word(at - 2) {
            0x0800 => {
                let address =
                    |at: usize| <[u8; 4]>::try_from(&packet[at..at + 4]).expect("4 bytes");
                let (src, dst) = (address(at + 12), address(at + 16));
                (
                    src.into(),
                    dst.into(),
                    packet[at + 9],
                    at + 20,
                    word(at + 2).into(),
                )
            }
            0x86dd => {
                let address =
                    |at: usize| <[u8; 16]>::try_from(&packet[at..at + 16]).expect("16 bytes");
                let (src, dst) = (address(at + 8), address(at + 24));
                let bytes = 40 + u64::from(word(at + 4));
                (src.into(), dst.into(), packet[at + 6], at + 40, bytes)
            }
            other => panic!("{other:x}"),
        };
        let key = (src, dst, protocol, word(transport), word(transport + 2));
        add(&mut sums, key, 1, bytes);
    }
    sums
}

/// Flow records of a file of NDJSON.
fn records(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).expect("a file");
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().expect("NDJSON")
}

fn sums_in(records: &[serde_json::Value]) -> Sums {
    let mut sums = Sums::new();
    for record in records {
        let address = |name: &str| {
            record[name]
                .as_str()
                .expect("text")
                .parse()
                .expect("an address")
        };
        let number = |name: &str| record[name].as_u64().expect("a number");
        let short = |name: &str| u16::try_from(number(name)).expect("16 bits");
        let protocol = u8::try_from(number("protocol")).expect("8 bits");
        let (src, dst) = (address("src_addr"), address("dst_addr"));
        let key = (src, dst, protocol, short("src_port"), short("dst_port"));
        add(&mut sums, key, number("packets"), number("bytes"));
    }
    sums
}

/// A capture of what goes through a port of the switch, once it has begun.
fn watch(lab: &Lab, file: &Path) -> Running {
    let mut command = lab.command(SWITCH, "tcpdump");
    let options = [
        "-U",
        "--immediate-mode",
        "-Z",
        "root",
        "-B",
        "16384",
        "-i",
        "vm1",
        "-Q",
        "in",
    ];
    command.args(options).arg("-w").arg(file);
    let mut dump = Running::start(&mut command);
    dump.wait_until(|_, err| err.contains("listening on"));
    dump
}

#[test]
fn root_nfcapd_reads_back_the_packets_and_bytes_that_tcpdump_saw() {
    require!("tcpreplay", "tcpdump", "nfcapd", "nfdump");
    let (lab, directory) = (Lab::new(), Directory::new());
    let source = directory.file("source.pcapng");
    write_capture(&source, &traffic(3000));
    let [store, seen, lines] = ["store", "seen.pcap", "flows"].map(|name| directory.file(name));
    std::fs::create_dir(&store).expect("a directory");
    let mut collector = lab.command(MONITOR, "nfcapd");
    collector.args(["-4", "-p", "4739", "-w"]).arg(&store);
    let mut collector = Running::start(&mut collector);
    collector.wait_until(|out, err| out.contains("Startup") || err.contains("Startup"));
    let dump = watch(&lab, &seen);
    let tap = lab.tap(&[
        "vm1",
        "--direction",
        "out",
        "--filter",
        "ip or ip6 or vlan",
        "--to",
        "ipfix://192.0.2.9:4739",
        "--flows",
        lines.to_str().expect("UTF-8"),
        "--flow-idle",
        "1",
    ]);
    lab.replay("vm1", &source);
    let seen = lab.collect(dump, &seen, 3000);
    let status = lab.end(tap);
    let expected = sums_of(&bytes_of(&seen));
    assert_eq!(expected.values().map(|sum| sum.0).sum::<u64>(), 3000);
    let records = records(&lines);
    assert_eq!(sums_in(&records), expected);
    let flows = &status["flows"];
    assert_eq!(flows["packets"], 3000, "{status}");
    assert_eq!(
        (&flows["evicted"], &flows["open"]),
        (&0.into(), &0.into()),
        "{status}"
    );
    assert_eq!(flows["records"], records.len(), "{status}");
    for record in &records {
        assert_eq!(record["interface"], "vm1", "{record}");
        assert_eq!(record["direction"], "out", "{record}");
        assert_eq!(record["received"], true, "{record}");
    }
    // The same from what was recorded.
    let file = directory.file("flows.ipfix");
    let mut export = Command::new(plumb());
    export
        .arg("export")
        .arg(&lines)
        .arg("--ipfix-file")
        .arg(&file);
    let done = run(&mut export).expect(0);
    let sent = format!(": {} records sent in ", records.len());
    assert!(done.stderr.contains(&sent), "{done}");
    let columns = dissect(&file, &[], &["cflow.packets", "_ws.malformed"]);
    let packets = columns[0]
        .iter()
        .map(|n| n.parse::<u64>().expect("a number"));
    assert_eq!((packets.sum::<u64>(), columns[1].len()), (3000, 0));
    // Its socket may hold some yet.
    lab.drained(4739);
    collector.signal("TERM");
    let done = collector.finish(LIMIT);
    let said = format!("{}{}", done.stdout, done.stderr);
    assert!(
        said.contains(&format!("Flows: {},", records.len())),
        "{done}"
    );
    assert!(
        said.contains("Sequence Errors: 0, Bad Packets: 0"),
        "{done}"
    );
    let format = "fmt:%sa|%da|%pr|%sp|%dp|%pkt|%byt";
    let mut command = Command::new("nfdump");
    command
        .arg("-R")
        .arg(&store)
        .args(["-N", "-6", "-q", "-o", format]);
    let mut read = Sums::new();
    for line in run(&mut command).expect(0).stdout.lines() {
        let fields: Vec<&str> = line.split('|').map(str::trim).collect();
        let address = |at: usize| fields[at].parse().expect("an address");
        let number = |at: usize| fields[at].parse::<u64>().expect("a number");
        let short = |at: usize| u16::try_from(number(at)).expect("16 bits");
        let protocol = match fields[2] {
            "TCP" | "6" => 6,
            "UDP" | "17" => 17,
            other => panic!("{other}"),
        };
        let key = (address(0), address(1), protocol, short(3), short(4));
        add(&mut read, key, number(5), number(6));
    }
    assert_eq!(read, expected);
}

#[test]
fn root_a_connection_of_large_frames_is_one_flow_each_way_and_every_byte_is_counted() {
    require!("python3", "taskset");
    let (lab, directory) = (Lab::new(), Directory::new());
    lab.without_retransmissions();
    let lines = directory.file("flows.ndjson");
    let path = lines.to_str().expect("UTF-8");
    let tap = lab.tap(&["vm1", "--filter", "tcp", "--flows", path]);
    let len = lab.transfer(4 << 20);
    let status = lab.end(tap);
    assert_eq!(status["counters"]["ring_full"], 0, "{status}");
    let records = records(&lines);
    assert_eq!(records.len(), 2, "{records:?}");
    let is_sent = |record: &&serde_json::Value| record["direction"] == "out";
    let sent = records.iter().find(is_sent).expect("a flow");
    let heard = records.iter().find(|r| !is_sent(r)).expect("a flow");
    let number = |name: &str| sent[name].as_u64().expect("a number");
    // Headers of 52 bytes with time stamps, those of the SYN of 60.
    assert_eq!(number("bytes"), len + 52 * number("packets") + 8, "{sent}");
    assert!(number("packets") >= len / 1448, "{sent}");
    assert_eq!(
        (&sent["dst_port"], &heard["src_port"]),
        (&5201.into(), &5201.into())
    );
    for record in [sent, heard] {
        assert_eq!(record["end_reason"], "ended", "{record}");
        let flags = record["tcp_flags"].as_u64().expect("a number");
        assert_eq!(flags & 0x17, 0x13, "SYN, ACK and FIN: {record}");
    }
}

#[test]
fn root_tshark_reads_how_packets_were_sampled_and_which_way_they_went() {
    require!("ping", "tcpreplay", "tcpdump", "tshark");
    let (lab, directory) = (Lab::new(), Directory::new());
    let source = directory.file("source.pcapng");
    write_capture(&source, &traffic(2000));
    let file = directory.file("messages");
    let dump = lab.dump("mon", &file);
    let tap = lab.tap(&["vm1", "--sample", "1/4", "--to", "ipfix://192.0.2.9:4739"]);
    lab.replay("vm1", &source);
    let status = lab.end(tap);
    // What comes behind the last message is captured behind it.
    lab.run(SWITCH, "ping", "-c 1 -W 5 192.0.2.9");
    let is_ping = |f: &Frame| f.bytes[12..14] == [8, 0] && f.bytes[23] == 1 && f.bytes[34] == 8;
    let started = std::time::Instant::now();
    while !frames(&file).iter().any(is_ping) {
        assert!(started.elapsed() < LIMIT, "the capture has no end");
        std::thread::sleep(core::time::Duration::from_millis(20));
    }
    dump.signal("INT");
    dump.finish(LIMIT).expect(0);
    let fields = [
        "cflow.packets",
        "cflow.sampling_interval",
        "cflow.selector_algorithm",
        "cflow.sampling_probability",
        "cflow.direction",
        "cflow.inputint",
        "_ws.malformed",
    ];
    let options = ["-Y", "cflow && !icmp", "-d", "udp.port==4739,cflow"];
    let columns = dissect(&file, &options, &fields);
    let records = status["flows"]["records"].as_u64().expect("a number");
    let records = usize::try_from(records).expect("a count");
    let packets: u64 = columns[0]
        .iter()
        .map(|n| n.parse::<u64>().expect("a number"))
        .sum();
    assert_eq!(status["flows"]["packets"], packets, "{status}");
    // Six standard deviations of 2000 trials of 1/4.
    assert!((384..=616).contains(&packets), "{packets}");
    let index = lab.run(SWITCH, "cat", "/sys/class/net/vm1/ifindex").stdout;
    for (column, value) in columns[1..6]
        .iter()
        .zip(["4", "4", "0.25", "0", index.trim()])
    {
        assert_eq!(column.len(), records, "{columns:?}");
        assert!(
            column.iter().all(|found| found == value),
            "{value}: {column:?}"
        );
    }
    assert!(columns[6].is_empty(), "{columns:?}");
}

#[test]
fn root_a_table_that_is_full_tells_flows_early_and_loses_no_packet() {
    require!("tcpreplay");
    let (lab, directory) = (Lab::new(), Directory::new());
    let source = directory.file("source.pcapng");
    let packets = traffic(2000);
    write_capture(&source, &packets);
    let lines = directory.file("flows.ndjson");
    let path = lines.to_str().expect("UTF-8");
    let tap = lab.tap(&["vm1", "--flows", path, "--flow-most", "20"]);
    lab.replay("vm1", &source);
    let status = lab.end(tap);
    let records = records(&lines);
    assert_eq!(sums_in(&records), sums_of(&packets));
    let evicted = records
        .iter()
        .filter(|r| r["end_reason"] == "evicted")
        .count();
    assert!(evicted > 0, "{status}");
    assert_eq!(status["flows"]["evicted"], evicted, "{status}");
}
