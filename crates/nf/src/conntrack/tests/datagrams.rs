//! UDP, queries of ICMP, and protocols without ports.

use super::*;
use crate::testing::{icmp, packet, udp};

const PAIRS: [(&str, &str); 2] = [
    ("10.0.0.2:5000", "192.0.2.53:53"),
    ("[2001:db8::2]:5000", "[2001:db8:1::35]:53"),
];

#[test]
fn udp_is_new_until_it_is_answered() {
    for (host, server) in PAIRS {
        let mut wire = Wire::new(Config::default());
        let (host, server) = (end(host), end(server));
        assert_eq!(wire.send(&udp(host, server, b"?")).state, State::New);
        assert_eq!(wire.send(&udp(host, server, b"?")).state, State::New);
        let answer = wire.send(&udp(server, host, b"!"));
        assert_eq!(
            (answer.state, answer.direction),
            (State::Established, Direction::Reply)
        );
        let next = wire.send(&udp(host, server, b"?"));
        assert_eq!(
            (next.state, next.direction),
            (State::Established, Direction::Original)
        );
        let other = wire.send(&udp(
            server,
            end(&std::format!("{}", host).replace("5000", "5001")),
            b"!",
        ));
        assert_eq!(other.state, State::New);
        assert_eq!(wire.conntrack.len(), 2);
    }
}

#[test]
fn udp_is_kept_for_30_s_and_as_a_stream_for_120_s_and_assured() {
    let (host, server) = (end("10.0.0.2:5000"), end("192.0.2.53:53"));
    let mut wire = Wire::new(Config::default());
    let first = wire.send(&udp(host, server, b"?"));
    assert_eq!(wire.left(&first), 30);
    wire.send(&udp(server, host, b"!"));
    // An answer and a second question within two seconds are no stream yet.
    let second = wire.send(&udp(host, server, b"?"));
    assert_eq!(wire.left(&second), 30);
    assert!(!second.status.contains(Status::ASSURED));
    wire.wait(secs(3));
    let later = wire.send(&udp(host, server, b"?"));
    assert_eq!(
        wire.left(&later),
        120,
        "RFC 4787 REQ-5: two minutes at least"
    );
    assert!(later.status.contains(Status::ASSURED));
    wire.wait(secs(119));
    assert_eq!(wire.conntrack.len(), 1);
    wire.wait(secs(1));
    assert!(wire.conntrack.is_empty());
    assert!(Timeouts::of_rfcs().udp >= secs(120));
}

#[test]
fn udp_without_a_checksum_passes_and_with_a_wrong_one_does_not() {
    let (host, server) = (end("10.0.0.2:5000"), end("192.0.2.53:53"));
    let mut wire = Wire::new(Config::default());
    let mut frame = udp(host, server, b"?");
    frame.bytes[40] ^= 1;
    assert_eq!(wire.look(&frame).invalid, Some(Invalid::Checksum));
    frame.bytes[40..42].fill(0);
    assert_eq!(wire.look(&frame).state, State::New);
}

#[test]
fn checksums_that_are_left_to_do_or_were_verified_are_not_looked_at() {
    use plumb_wire::frame::{Offload, PartialChecksum};
    let mut pair = Pair::open(Config::default());
    let mut wrong = pair.frame(Client, ACK, 101, 501, 10);
    wrong.bytes[51] ^= 1;
    assert_eq!(pair.wire.look(&wrong).invalid, Some(Invalid::Checksum));
    for offload in [
        Offload {
            checksum: Some(PartialChecksum {
                start: 34,
                offset: 16,
            }),
            ..Offload::NONE
        },
        Offload {
            checksum_verified: true,
            ..Offload::NONE
        },
    ] {
        wrong.offload = offload;
        assert_eq!(pair.wire.look(&wrong).state, State::Established);
    }
    wrong.offload = Offload::NONE;
    wrong.original_len = 2000;
    assert_eq!(
        pair.wire.look(&wrong).state,
        State::Established,
        "captured in part"
    );
    wrong.original_len = 0;
    let mut trusting = Pair::open(Config {
        verify_checksums: false,
        ..Config::default()
    });
    assert_eq!(trusting.wire.look(&wrong).state, State::Established);
}

#[test]
fn a_superframe_counts_with_all_its_bytes() {
    use plumb_wire::frame::{Gso, Offload, PartialChecksum, Segmentation};
    let mut pair = Pair::new(Config::default());
    pair.window = u16::MAX;
    pair.shake();
    let mut frame = pair.frame(Client, ACK, 101, 501, 60_000);
    frame.offload = Offload {
        checksum: Some(PartialChecksum {
            start: 34,
            offset: 16,
        }),
        gso: Some(Gso {
            kind: Segmentation::TcpV4,
            size: 1448,
            header_len: 54,
            ecn: false,
        }),
        checksum_verified: false,
    };
    let tracked = pair.wire.send(&frame);
    assert_eq!(
        pair.wire.connection(&tracked).traffic[0].bytes,
        40 + 40 + 60_040
    );
    assert_eq!(pair.state(Server, ACK, 501, 60_101, 0), State::Established);
    assert_eq!(
        pair.fault(Server, ACK, 501, 60_102, 0),
        Some(Invalid::TcpAckNotSent)
    );
}

#[test]
fn an_echo_and_its_reply_are_a_connection_by_their_identifier() {
    for (host, target, ask, answer) in [
        ("10.0.0.2", "192.0.2.1", 8, 0),
        ("2001:db8::2", "2001:db8:1::1", 128, 129),
    ] {
        let (host, target) = (host.parse().unwrap(), target.parse().unwrap());
        let mut wire = Wire::new(Config::default());
        let first = wire.send(&icmp(host, target, (ask, 0), 7 << 16 | 1, b"ping"));
        assert_eq!(first.state, State::New);
        assert_eq!(wire.left(&first), 30);
        let reply = wire.send(&icmp(target, host, (answer, 0), 7 << 16 | 1, b"ping"));
        assert_eq!(
            (reply.state, reply.direction),
            (State::Established, Direction::Reply)
        );
        let next = wire.send(&icmp(host, target, (ask, 0), 7 << 16 | 2, b"ping"));
        assert_eq!(
            (next.state, next.direction),
            (State::Established, Direction::Original)
        );
        let other = wire.look(&icmp(target, host, (answer, 0), 8 << 16 | 1, b"ping"));
        assert_eq!(other.invalid, Some(Invalid::IcmpNoQuestion));
        // The target may ask with the same identifier.
        let turned = wire.send(&icmp(target, host, (ask, 0), 7 << 16 | 1, b"ping"));
        assert_eq!(turned.state, State::New);
        assert_eq!(wire.conntrack.len(), 2);
    }
}

#[test]
fn icmp_that_asks_nothing_begins_no_connection() {
    let (a, b) = ("10.0.0.2".parse().unwrap(), "192.0.2.1".parse().unwrap());
    let mut wire = Wire::new(Config::default());
    for kind in 0..=255u8 {
        let tracked = wire.look(&icmp(a, b, (kind, 0), 0, &[0; 8]));
        let expected = match kind {
            8 | 13 | 15 | 17 => State::New,
            _ => State::Invalid,
        };
        assert_eq!(tracked.state, expected, "{kind}");
    }
    let (a, b) = (
        "2001:db8::2".parse().unwrap(),
        "2001:db8::1".parse().unwrap(),
    );
    for kind in 0..=255u8 {
        let tracked = wire.look(&icmp(a, b, (kind, 0), 0, &[0; 8]));
        let expected = match kind {
            128 | 139 => State::New,
            // RFC 4861 and RFC 2710, RFC 3810: between neighbours.
            130..=136 | 143 => State::Untracked,
            _ => State::Invalid,
        };
        assert_eq!(tracked.state, expected, "{kind}");
    }
}

#[test]
fn other_protocols_are_tracked_by_address_and_those_with_ports_by_port() {
    let (a, b) = ("10.0.0.2".parse().unwrap(), "192.0.2.1".parse().unwrap());
    let mut wire = Wire::new(Config::default());
    let first = wire.send(&packet(a, b, 50, b"esp."));
    assert_eq!((first.state, wire.left(&first)), (State::New, 600));
    assert_eq!(
        wire.send(&packet(b, a, 50, b"esp.")).state,
        State::Established
    );
    assert_eq!(wire.send(&packet(b, a, 51, b"ah..")).state, State::New);
    let sctp = |from: u8, to: u8| [0, from, 0, to, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(wire.send(&packet(a, b, 132, &sctp(1, 2))).state, State::New);
    assert_eq!(
        wire.send(&packet(b, a, 132, &sctp(2, 1))).state,
        State::Established
    );
    assert_eq!(wire.send(&packet(b, a, 132, &sctp(2, 3))).state, State::New);
}

#[test]
fn what_is_not_ip_is_untracked_and_later_fragments_are_invalid() {
    let mut wire = Wire::new(Config::default());
    let mut arp = Frame::new(Instant::ZERO, &[0xff; 60]);
    arp.bytes[12..14].copy_from_slice(&[8, 6]);
    assert_eq!(wire.look(&arp).state, State::Untracked);
    let whole = udp(end("10.0.0.2:1"), end("10.0.0.3:2"), &[0; 64]);
    let pieces = testing::cut(&whole, 9, &[32]);
    assert_eq!(wire.look(&pieces[1]).invalid, Some(Invalid::LaterFragment));
    assert_eq!(wire.look(&pieces[0]).state, State::New);
}

#[test]
fn the_same_addresses_on_another_vlan_are_another_connection() {
    let (host, server) = (end("10.0.0.2:5000"), end("192.0.2.53:53"));
    let tagged = |tag: u8, frame: Frame| {
        let mut bytes = frame.bytes[..12].to_vec();
        bytes.extend([0x81, 0, 0x60, tag]);
        bytes.extend(&frame.bytes[12..]);
        Frame::new(Instant::ZERO, &bytes)
    };
    let mut wire = Wire::new(Config::default());
    assert_eq!(wire.send(&tagged(5, udp(host, server, b"?"))).zone, 5);
    assert_eq!(
        wire.send(&tagged(6, udp(server, host, b"!"))).state,
        State::New
    );
    assert_eq!(
        wire.send(&tagged(5, udp(server, host, b"!"))).state,
        State::Established
    );
    let mut flat = Wire::new(Config {
        zone_per_vlan: false,
        ..Config::default()
    });
    flat.send(&tagged(5, udp(host, server, b"?")));
    assert_eq!(
        flat.send(&tagged(6, udp(server, host, b"!"))).state,
        State::Established
    );
}

#[test]
fn gre_is_assured_and_kept_longer_once_it_is_answered() {
    let (a, b) = ("10.0.0.2".parse().unwrap(), "192.0.2.1".parse().unwrap());
    let mut wire = Wire::new(Config::default());
    let first = wire.send(&packet(a, b, 47, b"gre."));
    assert_eq!(wire.left(&first), 30);
    wire.send(&packet(b, a, 47, b"gre."));
    let next = wire.send(&packet(a, b, 47, b"gre."));
    assert_eq!(wire.left(&next), 180);
    assert!(next.status.contains(Status::ASSURED));
}

#[test]
fn udp_lite_is_kept_as_udp_is() {
    let (a, b) = ("10.0.0.2".parse().unwrap(), "192.0.2.1".parse().unwrap());
    let lite = |from: u8, to: u8| [0, from, 0, to, 0, 8, 0, 0];
    let mut wire = Wire::new(Config::default());
    let first = wire.send(&packet(a, b, 136, &lite(1, 2)));
    assert_eq!(wire.left(&first), 30);
    wire.send(&packet(b, a, 136, &lite(2, 1)));
    wire.wait(secs(3));
    let later = wire.send(&packet(a, b, 136, &lite(1, 2)));
    assert_eq!(wire.left(&later), 120);
}
