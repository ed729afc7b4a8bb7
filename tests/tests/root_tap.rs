//! `plumb tap` on real interfaces, beside the programs that it has to agree with: tcpreplay, tcpdump,
//! tshark and the kernel's own VXLAN.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::process::Command;

use plumb_tests::tap_lab::{
    Frame, LIMIT, Lab, MONITOR, SWITCH, assert_gone, bytes_of, frames, programs, traffic,
    write_capture,
};
use plumb_tests::{Directory, Running, plumb, require, run};

#[track_caller]
fn assert_same(found: &[Vec<u8>], expected: &[Vec<u8>]) {
    assert_eq!(found.len(), expected.len(), "packets");
    for (n, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!(a == b, "packet {n}:\n{a:02x?}\n{b:02x?}");
    }
}

#[test]
fn root_a_replayed_capture_arrives_packet_for_packet_in_order_tags_and_all() {
    require!("tcpreplay");
    let (lab, directory) = (Lab::new(), Directory::new());
    let source = directory.file("source.pcapng");
    let packets = traffic(2000);
    write_capture(&source, &packets);
    let file = directory.file("seen.pcapng");
    let tap = lab.tap(&[
        "vm1",
        "--direction",
        "out",
        "--write",
        file.to_str().expect("UTF-8"),
    ]);
    lab.replay("vm1", &source);
    let status = lab.end(tap);
    let seen = frames(&file);
    assert_same(&bytes_of(&seen), &packets);
    assert!(
        seen.iter().all(|frame| !frame.inbound),
        "what a machine sends is outbound"
    );
    assert_eq!(status["counters"]["ring_full"], 0, "{status}");
    assert_eq!(status["counters"]["written"], 2000, "{status}");
}

#[test]
fn root_sessions_on_one_port_choose_and_cut_what_tcpdump_does_on_the_same_capture() {
    require!("tcpreplay", "tcpdump");
    let (lab, directory) = (Lab::new(), Directory::new());
    let source = directory.file("source.pcapng");
    write_capture(&source, &traffic(1500));
    let expressions = [
        "udp",
        "tcp port 80",
        "vlan 100 and udp",
        "vlan and vlan and ip",
        "net 10.7.1.0/25",
        "ip6 and not tcp",
        "len > 700",
        "host 10.7.1.8 or 10.7.1.10",
        "udp[8:4] & 3 = 0",
        "not (ip or ip6)",
    ];
    let path = |n: usize| directory.file(&format!("tap{n}"));
    let taps: Vec<Running> = expressions
        .iter()
        .enumerate()
        .map(|(n, expression)| {
            let file = path(n);
            let file = file.to_str().expect("UTF-8");
            lab.tap(&[
                "vm1",
                "--filter",
                expression,
                "--snaplen",
                "90",
                "--write",
                file,
            ])
        })
        .collect();
    lab.replay("vm1", &source);
    for tap in taps {
        lab.end(tap);
    }
    for (n, expression) in expressions.iter().enumerate() {
        let expected = directory.file("expected");
        run(Command::new("tcpdump")
            .args(["-Z", "root", "-r"])
            .arg(&source)
            .arg("-w")
            .arg(&expected)
            .arg(expression))
        .expect(0);
        let cut = |frames: Vec<Frame>| -> Vec<(Vec<u8>, u32)> {
            let cut = |f: Frame| (f.bytes[..f.bytes.len().min(90)].to_vec(), f.original_len);
            frames.into_iter().map(cut).collect()
        };
        let (found, expected) = (frames(&path(n)), cut(frames(&expected)));
        assert!(
            found.iter().all(|frame| frame.bytes.len() <= 90),
            "{expression}"
        );
        assert!(
            cut(found) == expected,
            "{expression}: {} packets",
            expected.len()
        );
        assert!(!expected.is_empty(), "{expression}");
    }
}

#[test]
fn root_samples_are_within_chance_and_a_flow_is_taken_whole_or_not_at_all() {
    require!("tcpreplay");
    let (lab, directory) = (Lab::new(), Directory::new());
    let source = directory.file("source.pcapng");
    let mut packets = traffic(4000);
    // Half of them the other way round.
    for packet in packets.iter_mut().skip(1).step_by(2) {
        if packet[12..14] == [8, 0] {
            let (a, b) = (packet[26..30].to_vec(), packet[30..34].to_vec());
            packet[26..30].copy_from_slice(&b);
            packet[30..34].copy_from_slice(&a);
            let ports = packet[34..38].to_vec();
            packet[34..36].copy_from_slice(&ports[2..]);
            packet[36..38].copy_from_slice(&ports[..2]);
        }
    }
    write_capture(&source, &packets);
    let (sampled, flows) = (directory.file("sampled"), directory.file("flows"));
    let first = lab.tap(&[
        "vm1",
        "--sample",
        "1/8",
        "--write",
        sampled.to_str().expect("UTF-8"),
    ]);
    let second = lab.tap(&[
        "vm1",
        "--sample-flows",
        "1/4",
        "--write",
        flows.to_str().expect("UTF-8"),
    ]);
    lab.replay("vm1", &source);
    let status = lab.end(first);
    lab.end(second);
    let found = frames(&sampled).len();
    // Six standard deviations of 4000 trials of 1/8.
    assert!((374..=626).contains(&found), "{found} of 4000");
    assert_eq!(status["counters"]["sampled_out"], 4000 - found, "{status}");
    let key = |bytes: &[u8]| {
        let mut ends = [
            [&bytes[26..30], &bytes[34..36]].concat(),
            [&bytes[30..34], &bytes[36..38]].concat(),
        ];
        ends.sort();
        (ends, bytes[23])
    };
    let plain = |bytes: &&Vec<u8>| bytes[12..14] == [8, 0];
    let seen = bytes_of(&frames(&flows));
    let taken: BTreeSet<_> = seen.iter().filter(plain).map(|b| key(b)).collect();
    let all: BTreeSet<_> = packets.iter().filter(plain).map(|b| key(b)).collect();
    let expected = packets
        .iter()
        .filter(plain)
        .filter(|b| taken.contains(&key(b)))
        .count();
    assert_eq!(
        seen.iter().filter(plain).count(),
        expected,
        "a flow was taken in part"
    );
    assert!(
        (all.len() / 10..all.len() / 2).contains(&taken.len()),
        "{} of {}",
        taken.len(),
        all.len()
    );
}

#[test]
fn root_the_kernels_vxlan_takes_out_what_was_put_in() {
    require!("tcpreplay", "tcpdump");
    let (lab, directory) = (Lab::new(), Directory::new());
    lab.ip(
        MONITOR,
        "link add vx type vxlan id 77 dstport 4789 local 192.0.2.9 dev mon",
    );
    lab.ip(MONITOR, "link set vx mtu 8000 up");
    let source = directory.file("source.pcapng");
    let packets = traffic(1000);
    write_capture(&source, &packets);
    let file = directory.file("decapsulated");
    let dump = lab.dump("vx", &file);
    let tap = lab.tap(&[
        "vm1",
        "--direction",
        "out",
        "--to",
        "vxlan://192.0.2.9?vni=77",
    ]);
    lab.replay("vm1", &source);
    let seen = lab.collect(dump, &file, packets.len());
    let status = lab.end(tap);
    assert_same(&bytes_of(&seen), &packets);
    assert_eq!(status["counters"]["output_failed"], 0, "{status}");
    assert_eq!(status["counters"]["delivered"], 1000, "{status}");
}

#[test]
fn root_tshark_reads_every_tunnel_and_an_interface_gets_copies_as_they_are() {
    require!("tcpreplay", "tcpdump", "tshark");
    let (lab, directory) = (Lab::new(), Directory::new());
    lab.silence_monitor();
    let source = directory.file("source.pcapng");
    let packets = traffic(40);
    write_capture(&source, &packets);
    let cases = [
        ("geneve://192.0.2.9?vni=5", "geneve.vni", "0x000005"),
        ("gre://192.0.2.9?key=9", "gre.key", "0x00000009"),
        ("erspan://192.0.2.9?session=11", "erspan.spanid", "11"),
        (
            "erspan://192.0.2.9?session=12&type=3",
            "erspan.spanid",
            "12",
        ),
    ];
    for (output, field, value) in cases {
        let file = directory.file("tunnel");
        let dump = lab.dump("mon", &file);
        let tap = lab.tap(&["vm1", "--direction", "out", "--to", output]);
        lab.replay("vm1", &source);
        lab.collect(dump, &file, packets.len());
        lab.end(tap);
        let filter = format!("{field} && ip.src == 192.0.2.1 && !icmp");
        let done = run(Command::new("tshark").arg("-r").arg(&file).args([
            "-o",
            "ip.check_checksum:TRUE",
            "-Y",
            &filter,
            "-T",
            "fields",
            "-E",
            "occurrence=f",
            "-e",
            field,
            "-e",
            "ip.checksum.status",
            "-e",
            "eth.src",
        ]))
        .expect(0);
        let lines: Vec<&str> = done.stdout.lines().collect();
        assert_eq!(lines.len(), packets.len(), "{output}: {done}");
        let start = format!("{value}\t1\t");
        assert!(
            lines.iter().all(|line| line.starts_with(&start)),
            "{output}: {done}"
        );
        let carried = run(Command::new("tshark").arg("-r").arg(&file).args([
            "-Y",
            &filter,
            "-T",
            "fields",
            "-E",
            "occurrence=l",
            "-e",
            "eth.src",
        ]));
        assert_eq!(
            carried.stdout.matches("02:00:00:00:00:01").count(),
            packets.len(),
            "{output}"
        );
    }
    let file = directory.file("plain");
    let dump = lab.dump("mon", &file);
    let tap = lab.tap(&[
        "vm1",
        "--direction",
        "out",
        "--to",
        "mon",
        "--snaplen",
        "100",
    ]);
    lab.replay("vm1", &source);
    let seen = lab.collect(dump, &file, packets.len());
    lab.end(tap);
    let cut: Vec<Vec<u8>> = packets
        .iter()
        .map(|p| p[..p.len().min(100)].to_vec())
        .collect();
    let seen: Vec<Vec<u8>> = bytes_of(&seen)
        .into_iter()
        .filter(|f| f[6..12] == [2, 0, 0, 0, 0, 1])
        .collect();
    assert_same(&seen, &cut);
}

#[test]
fn root_large_frames_are_whole_and_the_watched_connection_is_unharmed() {
    require!("python3", "taskset");
    let (lab, directory) = (Lab::new(), Directory::new());
    lab.without_retransmissions();
    lab.ip(
        MONITOR,
        "link add vx type vxlan id 77 dstport 4789 local 192.0.2.9 dev mon",
    );
    lab.ip(MONITOR, "link set vx mtu 8000 up");
    let file = directory.file("seen.pcapng");
    let slices = lab.tap(&[
        "vm1",
        "--direction",
        "out",
        "--ring",
        "134217728",
        "--filter",
        "tcp port 5201",
        "--write",
        file.to_str().expect("UTF-8"),
    ]);
    let clones = lab.tap(&[
        "vm1",
        "--direction",
        "out",
        "--to",
        "vxlan://192.0.2.9?vni=77",
    ]);
    let sent = lab.transfer(320 << 16);
    let (slices, clones) = (lab.end(slices), lab.end(clones));
    assert_eq!(slices["counters"]["ring_full"], 0, "{slices}");
    assert_eq!(clones["counters"]["output_failed"], 0, "{clones}");
    // Each segment is in the capture, as the wire would have it: its length and checksum are right.
    let mut payload = 0u64;
    for frame in frames(&file) {
        let b = &frame.bytes;
        assert!(b.len() <= 1514, "{} bytes", b.len());
        let total = usize::from(u16::from_be_bytes([b[16], b[17]]));
        assert_eq!(b.len(), (14 + total).max(b.len().min(60)));
        let pseudo = [
            &b[26..34],
            &[0, 6][..],
            &u16::try_from(total - 20).expect("short").to_be_bytes(),
        ]
        .concat();
        let sum = plumb_wire::checksum(&[&pseudo, &b[34..14 + total]].concat());
        assert_eq!(sum, 0, "the checksum of TCP");
        payload += (total - 20 - usize::from(b[46] >> 4) * 4) as u64;
    }
    assert_eq!(payload, sent);
}

#[test]
fn root_a_tap_follows_its_port_and_answers_while_it_runs() {
    require!("ping");
    let (lab, directory) = (Lab::new(), Directory::new());
    let file = directory.file("seen.pcapng");
    let mut tap = lab.tap(&[
        "br0",
        "--direction",
        "out",
        "--filter",
        "icmp",
        "--write",
        file.to_str().expect("UTF-8"),
    ]);
    let listed = lab.control(&["list"]).expect(0);
    let id = listed.stdout.split(' ').next().expect("an id").to_owned();
    assert!(
        listed.stdout.contains("vm1 out (tcx), vm2 out (tcx)"),
        "{listed}"
    );
    lab.run("vm1", "ping", "-c 1 -W 2 10.7.0.2");
    lab.ip(SWITCH, "link del vm1");
    tap.wait_until(|_, err| err.contains("vm1 is gone"));
    lab.plug("vm1", 1);
    tap.wait_until(|_, err| err.contains("on vm1 (tcx)"));
    lab.run("vm1", "ping", "-c 1 -W 2 10.7.0.2");
    lab.control(&["set", &id, "--filter", "tcp"]).expect(0);
    lab.run("vm1", "ping", "-c 1 -W 2 10.7.0.2");
    lab.control(&["set", &id, "--filter", "icmp", "--snaplen", "40"])
        .expect(0);
    lab.run("vm1", "ping", "-c 1 -W 2 10.7.0.2");
    let wrong = lab.control(&["set", &id, "--filter", "tcp prot 80"]);
    assert_eq!(wrong.code(), Some(2), "{wrong}");
    let status = lab.control(&["status", &id, "--json"]).expect(0);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).expect("JSON");
    assert_eq!(status["filter"], "icmp", "{status}");
    assert_eq!(status["counters"]["matched"], 6, "{status}");
    lab.control(&["stop", &id]).expect(0);
    tap.finish(LIMIT).expect(0);
    // Each packet of the bridge once.
    let seen = frames(&file);
    let lengths: Vec<usize> = seen.iter().map(|frame| frame.bytes.len()).collect();
    assert_eq!(lengths, [98, 98, 98, 98, 40, 40]);
    assert_eq!(lab.control(&["status", &id]).code(), Some(2));
}

#[test]
fn root_slices_go_into_the_next_stage_by_shared_memory() {
    require!("ping", "bash");
    let lab = Lab::new();
    let mut command = lab.command(SWITCH, "bash");
    command.env("P", plumb()).args([
        "-c",
        "$P tap vm1 --filter icmp -c 8 | $P count --json > /dev/null; echo ${PIPESTATUS[@]}",
    ]);
    let mut pipeline = Running::start(&mut command);
    pipeline.wait_until(|_, err| err.contains("filter: icmp"));
    lab.run("vm1", "ping", "-c 4 -i 0.2 10.7.0.2");
    let done = pipeline.finish(LIMIT);
    assert_eq!(done.stdout, "0 0\n", "{done}");
    let counters = done
        .stderr
        .lines()
        .find(|l| l.starts_with('{'))
        .expect("counters");
    let counters: serde_json::Value = serde_json::from_str(counters).expect("JSON");
    assert_eq!(counters["left"]["received_frames"], 8, "{done}");
    let link = counters["left"]["link"].as_str().expect("a word");
    assert!(link.ends_with("ring"), "{done}");
}

#[test]
fn root_nothing_is_left_behind_by_a_tap_that_is_killed() {
    require!("tc", "bpftool");
    let lab = Lab::new();
    let tap = lab.tap(&["vm1", "--to", "vxlan://192.0.2.9?vni=1"]);
    let programs = programs(tap.pid());
    tap.signal_group("KILL");
    tap.finish(LIMIT);
    assert_gone(&programs);
    // Without tcx, what is left is for the end to remove.
    let tap = lab.tap(&["vm1", "--attach", "clsact", "--to", "mon"]);
    let filters = |lab: &Lab| lab.run(SWITCH, "tc", "filter show dev vm1 ingress").stdout;
    assert!(filters(&lab).contains("plumb_filter"), "{}", filters(&lab));
    lab.end(tap);
    assert_eq!(filters(&lab), "");
}

#[test]
fn root_mistakes_and_faults_are_told_and_counted() {
    require!("ping");
    let lab = Lab::new();
    let refused = |arguments: &[&str], word: &str| {
        let done = lab.control(arguments);
        assert_eq!(done.code(), Some(2), "{arguments:?}: {done}");
        assert!(done.stderr.contains(word), "{arguments:?}: {done}");
        assert!(done.stderr.lines().count() == 1, "{arguments:?}: {done}");
    };
    refused(&["vm9", "--to", "mon"], "no network interface \"vm9\"");
    refused(&["vm1", "--to", "vm1"], "never feeds itself");
    refused(
        &["vm1", "--to", "mon", "--filter", "tcp port"],
        "a port was expected",
    );
    refused(
        &["vm1", "--to", "mon", "--bytecode", "1,6 0 0"],
        "tcpdump -ddd",
    );
    refused(
        &["vm1", "--to", "vxlan://collector?vni=1"],
        "names are not looked up",
    );
    refused(&["--to", "mon"], "what is to be tapped");
    refused(
        &["mon", "--busy-poll", "1ms"],
        "takes packets from the kernel in batches",
    );
    // Two taps whose copies would go round.
    let one = lab.tap(&["vm1", "--filter", "icmp", "--to", "vm2"]);
    let other = lab.tap(&["vm2", "--filter", "icmp", "--to", "vm1"]);
    lab.run("vm1", "ping", "-c 2 -i 0.2 10.7.0.2");
    let (one, other) = (lab.end(one), lab.end(other));
    assert!(one["counters"]["matched"].as_u64() < Some(20), "{one}");
    assert!(other["counters"]["own"].as_u64() > Some(0), "{other}");
    // An output that goes down, and comes back.
    let tap = lab.tap(&["vm1", "--filter", "icmp", "--to", "vxlan://192.0.2.9?vni=1"]);
    let count = |name: &str| {
        let id = tap_id(&lab);
        let status = lab.control(&["status", &id, "--json"]).expect(0);
        let status: serde_json::Value = serde_json::from_str(&status.stdout).expect("JSON");
        status["counters"][name].as_u64().expect("a number")
    };
    lab.run("vm1", "ping", "-c 1 10.7.0.2");
    assert_eq!((count("delivered"), count("output_failed")), (2, 0));
    lab.ip(SWITCH, "link set mon down");
    lab.run("vm1", "ping", "-c 1 10.7.0.2");
    assert_eq!((count("delivered"), count("output_failed")), (2, 2));
    lab.end(tap);
}

fn tap_id(lab: &Lab) -> String {
    let listed = lab.control(&["list"]).expect(0);
    listed.stdout.split(' ').next().expect("an id").to_owned()
}
