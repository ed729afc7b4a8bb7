//! What the pcapng writer writes, as Wireshark's own tools read it.

use std::path::Path;
use std::process::Command;

use plumb_wire::frame::Offload;
use plumb_wire::pcapng::{self, Direction, Interface, LinkType, Packet};

/// An ICMP echo request from 5.0.0.1 to 5.0.0.2, TTL 7, identifier 0x1234, sequence number 1.
const ECHO: [u8; 28] = [
    0x45, 0, 0, 28, 0, 1, 0, 0, 7, 1, 0xa9, 0xdd, 5, 0, 0, 1, 5, 0, 0, 2, // IP
    8, 0, 0xe5, 0xca, 0x12, 0x34, 0, 1, // ICMP
];

#[test]
fn tshark_reads_times_directions_comments_and_lengths() {
    if Command::new("tshark").arg("--version").output().is_err() {
        println!("skipped: tshark is not installed (apt-get install tshark)");
        return;
    }
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("written.pcapng");
    std::fs::write(&file, capture()).expect("the target directory is writable");

    let fields = [
        "frame.time_epoch",
        "frame.interface_name",
        "frame.packet_flags_direction",
        "frame.cap_len",
        "frame.len",
        "frame.comment",
        "ip.src",
        "ip.ttl",
        "icmp.ident",
    ];
    let mut tshark = Command::new("tshark");
    tshark
        .arg("-r")
        .arg(&file)
        .args(["-T", "fields", "-E", "separator=|"]);
    tshark.env("TZ", "UTC");
    for field in fields {
        tshark.args(["-e", field]);
    }
    let output = tshark.output().expect("tshark starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tshark says: {stderr}");
    let read: Vec<_> = core::str::from_utf8(&output.stdout)
        .expect("tshark writes text")
        .lines()
        .collect();
    assert_eq!(
        read,
        [
            "1700000000.000000001|tun0|0x00000002|28|28|trace 5.0.0.2, hop 7|5.0.0.1|7|4660",
            "1700000000.123456789|other|0x00000001|28|1500||5.0.0.1|7|4660",
        ]
    );
}

/// Two packets on two interfaces.
fn capture() -> Vec<u8> {
    let interfaces = ["tun0", "other"].map(|name| Interface {
        link_type: LinkType::RAW,
        name,
    });
    let sent = Packet {
        interface: 0,
        at_ns: 1_700_000_000_000_000_001,
        direction: Direction::Outbound,
        original_len: 28,
        data: &ECHO,
        comment: Some("trace 5.0.0.2, hop 7"),
        offload: Offload {
            checksum_verified: true,
            ..Offload::NONE
        },
    };
    let received = Packet {
        interface: 1,
        at_ns: 1_700_000_000_123_456_789,
        direction: Direction::Inbound,
        original_len: 1500,
        data: &ECHO,
        comment: None,
        offload: Offload::NONE,
    };

    let mut capture = vec![0; 1000];
    let mut len = pcapng::emit_section(&mut capture);
    for interface in &interfaces {
        len += interface.emit(&mut capture[len..]);
    }
    for packet in [sent, received] {
        len += packet.emit(&mut capture[len..]);
    }
    capture.truncate(len);
    capture
}
