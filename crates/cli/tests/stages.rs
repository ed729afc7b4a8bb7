//! Stages between files, as users run them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod captures;

use captures::{packets, plumb, through, udp};
use plumb_wire::pcapng::{Interface, LinkType, Packet, SECTION_LEN, emit_section};

/// A capture of `count` frames of 100 bytes, one a millisecond from 2023 on.
fn capture(count: u32) -> Vec<u8> {
    captures::capture((0..count).map(|i| {
        let mut data = vec![0; 100];
        data[12..14].copy_from_slice(&[0x86, 0xdd]);
        data[20..24].copy_from_slice(&i.to_be_bytes());
        (1_700_000_000_000_000_000 + u64::from(i) * 1_000_000, data)
    }))
}

#[test]
fn count_passes_everything_and_tells_how_much() {
    let input = capture(2000);
    let output = plumb(&["count", "--json"], &input);
    assert_eq!(packets(&output.stdout), packets(&input));
    let counts = String::from_utf8(output.stderr).unwrap();
    for count in [
        r#""left_frames":2000"#,
        r#""left_bytes":200000"#,
        r#""left_ipv6_frames":2000"#,
        r#""right_frames":0"#,
    ] {
        assert!(counts.contains(count), "{counts}");
    }
}

#[test]
fn a_delay_is_in_the_stamps() {
    let input = capture(100);
    let late = packets(&through(&["impair", "--delay", "20ms"], &input));
    let expected: Vec<_> = packets(&input)
        .into_iter()
        .map(|(at, data)| (at + 20_000_000, data))
        .collect();
    assert_eq!(late, expected);
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let input = capture(5000);
    let bad = |seed| {
        let arguments = [
            "impair",
            "--delay=20ms",
            "--jitter=5ms",
            "--distribution=normal",
            "--loss=1%",
            "--duplicate=1%",
            "--corrupt=1%",
            "--rate=2Mbit",
            "--seed",
            seed,
        ];
        through(&arguments, &input)
    };
    let first = bad("7");
    assert_eq!(first, bad("7"));
    assert_ne!(first, bad("8"));
}

#[test]
fn stages_in_a_row_take_what_the_one_before_gave() {
    let input = capture(300);
    let late = through(&["impair", "--delay=1s"], &input);
    let later = through(&["impair", "--delay=1s", "--direction=right"], &late);
    assert_eq!(later, through(&["impair", "--delay=2s"], &input));
    // Nothing in there goes left.
    assert_eq!(
        through(&["impair", "--delay=9s", "--direction=left"], &late),
        late
    );
}

#[test]
fn classic_captures_are_read() {
    let mut classic = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 262_144, 1, 5, 7, 14, 14] {
        classic.extend(word.to_le_bytes());
    }
    classic.extend([9; 14]);
    let out = packets(&through(&["count"], &classic));
    assert_eq!(out, [(5_000_007_000, vec![9; 14])]);
}

#[test]
fn what_is_no_capture_is_refused_in_one_line() {
    for (input, complaint) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "expected is pcapng or pcap"),
        (b"", "is empty"),
        (&capture(3)[..300], "behind packet 1; it was cut off"),
    ] {
        let output = plumb(&["impair"], input);
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(complaint), "{said}");
    }
    let output = plumb(&["impair", "--reorder", "5%"], &capture(3));
    assert_eq!(output.status.code(), Some(2));
}

/// A capture of both sides: inside hosts send from the left, answers come to an interface "right".
fn both_sides(packets: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![0; SECTION_LEN];
    emit_section(&mut out);
    let mut push = |len: usize, emit: &dyn Fn(&mut [u8]) -> usize| {
        let at = out.len();
        out.resize(at + len, 0);
        emit(&mut out[at..]);
    };
    for name in ["left", "right"] {
        let link_type = LinkType::ETHERNET;
        let interface = Interface { link_type, name };
        push(interface.block_len(), &|into| interface.emit(into));
    }
    for (i, (side, data)) in packets.iter().enumerate() {
        let packet = Packet {
            interface: u32::from(*side == "right"),
            at_ns: 1_700_000_000_000_000_000 + i as u64,
            data,
            ..Packet::default()
        };
        push(packet.block_len(), &|into| packet.emit(into));
    }
    out
}

const OUTSIDE: [u8; 4] = [198, 51, 100, 1];
const PEER: [u8; 4] = [203, 0, 113, 9];

#[test]
fn nat_translates_a_capture_of_both_sides_and_logs_its_mappings() {
    let log = std::env::temp_dir().join(format!("plumb-nat-{}.ndjson", std::process::id()));
    let host = [10, 0, 0, 2];
    // The seed decides the port, so a first run tells it.
    let first = both_sides(&[("left", udp(host, 5000, PEER, 53))]);
    let nat = [
        "nat",
        "--outside",
        "198.51.100.1",
        "--log",
        log.to_str().unwrap(),
    ];
    let sent = packets(&through(&nat, &first));
    let port = u16::from_be_bytes([sent[0].1[34], sent[0].1[35]]);
    assert_eq!(sent[0].1[26..30], OUTSIDE);
    let conversation = both_sides(&[
        ("left", udp(host, 5000, PEER, 53)),
        ("right", udp(PEER, 53, OUTSIDE, port)),
        ("right", udp(PEER, 54, OUTSIDE, port)),
    ]);
    let out = through(&nat, &conversation);
    assert_eq!(out, through(&nat, &conversation));
    let translated = packets(&out);
    assert_eq!(
        translated.len(),
        2,
        "what comes from another port is filtered"
    );
    assert_eq!(translated[0].1, sent[0].1);
    assert_eq!(translated[1].1, udp(PEER, 53, host, 5000));
    let entries = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(&log).unwrap();
    let expected = format!(
        "{{\"schema\":\"plumb.nat/1\",\"type\":\"mapping-created\",\
         \"time\":\"2023-11-14T22:13:20.000000000Z\",\"protocol\":\"udp\",\
         \"inside_addr\":\"10.0.0.2\",\"inside_port\":5000,\
         \"outside_addr\":\"198.51.100.1\",\"outside_port\":{port},\
         \"outside_port_last\":{port},\"since\":null}}\n"
    );
    assert_eq!(entries, expected);
}

#[test]
fn nat_refuses_what_contradicts_itself_in_one_line() {
    for (arguments, complaint) in [
        (
            &["--outside", "198.51.100.1,198.51.100.1"][..],
            "given twice",
        ),
        (&["--outside", "1.2.3.4-9.9.9.9"], "65536 outside addresses"),
        (&["--outside", "x"], "not an IPv4 address"),
        (
            &[
                "--static",
                "198.51.100.1=10.0.0.1",
                "--forward",
                "tcp:1=10.0.0.2",
            ],
            "--outside",
        ),
        (
            &["--outside", "198.51.100.1", "--inside", "10.0.0.1/8"],
            "10.0.0.0/8",
        ),
    ] {
        let output = plumb(&[&["nat"], arguments].concat(), &capture(1));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(complaint), "{said}");
    }
}
