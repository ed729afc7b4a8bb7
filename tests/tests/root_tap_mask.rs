//! Copies of `plumb tap --mask` say nothing of the payload, and what is watched keeps it.

#![forbid(unsafe_code)]

use std::path::Path;

use plumb_tests::tap_lab::{LIMIT, Lab, MONITOR, frames, traffic, write_capture};
use plumb_tests::{Directory, Running, require, run};

/// Ethernet frames of TCP over IPv4, split where the payload begins.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let is_tcp = bytes.get(12..14)? == [8, 0] && *bytes.get(23)? == 6;
    let total = usize::from(u16::from_be_bytes([*bytes.get(16)?, *bytes.get(17)?]));
    let at = 34 + usize::from(bytes.get(46)? >> 4) * 4;
    is_tcp.then(|| bytes.get(..14 + total)?.split_at_checked(at))?
}

/// Bytes of payload in the frames of a capture, all of which are zeros.
#[track_caller]
fn masked(file: &Path) -> usize {
    let frames = frames(file);
    let payloads = frames.iter().filter_map(|frame| split(&frame.bytes));
    payloads
        .map(|(_, payload)| {
            assert!(payload.iter().all(|byte| *byte == 0), "{payload:02x?}");
            payload.len()
        })
        .sum()
}

#[test]
fn root_the_watched_connection_keeps_the_payload_that_no_copy_has() {
    require!("python3", "tcpdump");
    let (lab, directory) = (Lab::new(), Directory::new());
    lab.ip(
        MONITOR,
        "link add vx type vxlan id 77 dstport 4789 local 192.0.2.9 dev mon",
    );
    lab.ip(MONITOR, "link set vx mtu 8000 up");
    let (slices, clones) = (directory.file("slices"), directory.file("clones"));
    let port = ["--filter", "tcp port 5201", "--direction", "out", "--mask"];
    let tap = |more: &[&str]| lab.tap(&[&["vm1"], &port[..], more].concat());
    let file = slices.to_str().expect("UTF-8");
    let one = tap(&["--ring", "134217728", "--write", file]);
    let two = tap(&["--to", "vxlan://192.0.2.9?vni=77"]);
    let dump = lab.dump("vx", &clones);
    // Pages of the file are what the frames consist of: whoever writes into a frame, changes it.
    let sent = directory.file("sent");
    let data: Vec<u8> = (0..8u32 << 20)
        .map(|n| (n % 251 + 1).to_le_bytes()[0])
        .collect();
    std::fs::write(&sent, &data).expect("a file");
    let server = "import socket, sys; s = socket.create_server(('10.7.0.2', 5201)); print('ready', flush=True)\n\
        c = s.accept()[0]; f = open(sys.argv[1], 'wb')\n\
        while d := c.recv(1 << 20): f.write(d)";
    // `tcpi_bytes_sent` of `struct tcp_info` has what a busy machine made TCP send again, too.
    let client = "import socket, sys; c = socket.create_connection(('10.7.0.2', 5201))\n\
        c.sendfile(open(sys.argv[1], 'rb')); c.shutdown(1); c.recv(1)\n\
        print(int.from_bytes(c.getsockopt(6, 11, 208)[200:], 'little'))";
    let received = directory.file("received");
    let mut receiver = lab.command("vm2", "python3");
    let mut receiver = Running::start(receiver.args(["-c", server]).arg(&received));
    receiver.wait_until(|out, _| out.contains("ready"));
    let left = run(lab
        .command("vm1", "python3")
        .args(["-c", client])
        .arg(&sent))
    .expect(0)
    .stdout;
    receiver.finish(LIMIT).expect(0);
    assert!(
        std::fs::read(&received).expect("a file") == data,
        "received"
    );
    assert!(std::fs::read(&sent).expect("a file") == data, "sent");
    let (one, two) = (lab.end(one), lab.end(two));
    dump.signal("INT");
    dump.finish(LIMIT).expect(0);
    assert_eq!(one["counters"]["ring_full"], 0, "{one}");
    assert_eq!(two["counters"]["output_failed"], 0, "{two}");
    assert_eq!(format!("{}\n", masked(&slices)), left);
    // tcpdump may have been too slow for some.
    assert!(masked(&clones) > data.len() / 10, "{two}");
}

#[test]
fn root_small_packets_of_every_kind_are_masked_alike_on_both_paths() {
    require!("tcpreplay", "tcpdump");
    let (lab, directory) = (Lab::new(), Directory::new());
    let source = directory.file("source.pcapng");
    let packets = traffic(300);
    write_capture(&source, &packets);
    let (slices, clones, heads) = (
        directory.file("slices"),
        directory.file("clones"),
        directory.file("heads"),
    );
    let path = |file: &'static str| directory.file(file).to_str().expect("UTF-8").to_owned();
    let begin = ["vm1", "--direction", "out"];
    let tap = |more: &[&str]| lab.tap(&[&begin[..], more].concat());
    let taps = [
        tap(&["--mask", "--write", &path("slices")]),
        tap(&["--headers", "--write", &path("heads")]),
        tap(&["--mask", "--to", "mon"]),
    ];
    let dump = lab.dump("mon", &clones);
    lab.replay("vm1", &source);
    let seen = lab.collect(dump, &clones, packets.len());
    for tap in taps {
        let status = lab.end(tap);
        assert_eq!(status["counters"]["delivered"], 300, "{status}");
    }
    let expected: Vec<Vec<u8>> = packets
        .iter()
        .zip(frames(&heads))
        .map(|(packet, head)| {
            let mut masked = packet.clone();
            masked[head.bytes.len()..].fill(0);
            masked
        })
        .collect();
    let unlike = packets.iter().zip(&expected).filter(|(a, b)| a != b);
    // Some payloads are of zeros.
    assert!(unlike.count() > 250, "there are payloads");
    let bytes = |frames: Vec<_>| plumb_tests::tap_lab::bytes_of(&frames);
    assert!(bytes(frames(&slices)) == expected, "slices");
    let from_machine = |bytes: &Vec<u8>| bytes[6..12] == [2, 0, 0, 0, 0, 1];
    let seen: Vec<_> = bytes(seen).into_iter().filter(from_machine).collect();
    assert!(seen == expected, "clones: {}", seen.len());
}
