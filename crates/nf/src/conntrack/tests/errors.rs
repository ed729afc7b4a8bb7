//! ICMP errors and the packets that they quote.

use core::net::IpAddr;

use super::*;
use crate::testing::{error, icmp, mend, packet, udp};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const UNREACHABLE: [(u8, u8); 2] = [(3, 3), (1, 4)];

/// A router, a host and a server of each family.
const PLACES: [(&str, &str, &str); 2] = [
    ("203.0.113.1", "10.0.0.2:5000", "192.0.2.53:53"),
    ("2001:db8:f::1", "[2001:db8::2]:5000", "[2001:db8:1::35]:53"),
];

#[test]
fn an_error_about_a_question_is_related_and_keeps_nothing_alive() {
    for ((router, host, server), what) in PLACES.into_iter().zip(UNREACHABLE) {
        let mut wire = Wire::new(Config::default());
        let question = udp(end(host), end(server), b"?");
        let asked = wire.send(&question);
        let connection = wire.connection(&asked);
        wire.wait(secs(10));
        // RFC 792: eight bytes behind the IP header are enough.
        let tracked = wire.send(&error(address(router), &question, what, 8));
        assert_eq!(
            (tracked.state, tracked.direction),
            (State::Related, Direction::Reply)
        );
        assert_eq!(tracked.id, asked.id);
        assert_eq!(wire.connection(&tracked), connection);
        assert_eq!(
            wire.send(&question).state,
            State::New,
            "an error is no answer"
        );
    }
}

#[test]
fn an_error_about_an_answer_is_related_the_other_way() {
    for ((router, host, server), what) in PLACES.into_iter().zip(UNREACHABLE) {
        let mut wire = Wire::new(Config::default());
        wire.send(&udp(end(host), end(server), b"?"));
        let answer = udp(end(server), end(host), b"!");
        wire.send(&answer);
        let tracked = wire.send(&error(address(router), &answer, what, 8));
        assert_eq!(
            (tracked.state, tracked.direction),
            (State::Related, Direction::Original)
        );
    }
}

#[test]
fn errors_about_tcp_and_about_echoes_are_related() {
    let mut pair = Pair::open(Config::default());
    let data = pair.frame(Client, ACK, 101, 501, 100);
    pair.wire.send(&data);
    let too_big = error(address("203.0.113.1"), &data, (3, 4), 8);
    assert_eq!(pair.wire.send(&too_big).state, State::Related);
    assert_eq!(
        pair.tcp(),
        Some(TcpState::Established),
        "RFC 5927: it ends nothing"
    );
    for (host, target, ask, what) in [
        ("10.0.0.2", "192.0.2.1", 8, (11, 0)),
        ("2001:db8::2", "2001:db8:1::1", 128, (3, 0)),
    ] {
        let ping = icmp(address(host), address(target), (ask, 0), 7 << 16, b"ping");
        pair.wire.send(&ping);
        let exceeded = error(address(target), &ping, what, 8);
        assert_eq!(pair.wire.send(&exceeded).state, State::Related);
    }
}

#[test]
fn an_error_about_no_connection_is_invalid() {
    for ((router, host, server), what) in PLACES.into_iter().zip(UNREACHABLE) {
        let mut wire = Wire::new(Config::default());
        let tracked = wire.look(&error(
            address(router),
            &udp(end(host), end(server), b"?"),
            what,
            8,
        ));
        assert_eq!(tracked.invalid, Some(Invalid::IcmpNoConnection));
    }
}

#[test]
fn an_error_that_goes_to_somebody_else_is_invalid() {
    let mut wire = Wire::new(Config::default());
    let question = udp(end("10.0.0.2:5000"), end("192.0.2.53:53"), b"?");
    wire.send(&question);
    let mut stray = error(address("203.0.113.1"), &question, (3, 3), 8);
    stray.bytes[33] = 99;
    mend(&mut stray);
    assert_eq!(wire.look(&stray).invalid, Some(Invalid::IcmpWrongTarget));
}

#[test]
fn a_quote_may_be_changed_and_cut_off_but_not_before_the_ports() {
    let mut wire = Wire::new(Config::default());
    let (host, server) = (end("10.0.0.2:5000"), end("192.0.2.53:53"));
    let question = udp(host, server, &[1; 500]);
    wire.send(&question);
    let router = address("203.0.113.1");
    // The router has counted the TTL down, and the checksums of header and datagram are of what
    // was before; some say another length.
    let mut changed = question.clone();
    changed.bytes[22] = 1;
    changed.bytes[16..18].copy_from_slice(&[0x02, 0xee]);
    for len in [4, 8, 28, 500] {
        let quote = &changed.bytes[14..34 + len];
        let tracked = wire.look(&icmp(router, host.ip(), (11, 0), 0, quote));
        assert_eq!(tracked.state, State::Related, "{len}");
    }
    for len in 0..4 {
        let quote = &changed.bytes[14..34 + len];
        let tracked = wire.look(&icmp(router, host.ip(), (11, 0), 0, quote));
        assert_eq!(tracked.invalid, Some(Invalid::IcmpNoConnection), "{len}");
    }
}

#[test]
fn an_error_with_a_wrong_checksum_is_invalid() {
    for ((router, host, server), what) in PLACES.into_iter().zip(UNREACHABLE) {
        let mut wire = Wire::new(Config::default());
        let question = udp(end(host), end(server), b"?");
        wire.send(&question);
        let mut frame = error(address(router), &question, what, 8);
        let last = frame.bytes.len() - 1;
        frame.bytes[last] ^= 1;
        assert_eq!(wire.look(&frame).invalid, Some(Invalid::Checksum));
    }
}

#[test]
fn an_error_about_a_later_fragment_or_of_the_other_family_is_invalid() {
    let mut wire = Wire::new(Config::default());
    let (host, server) = (end("10.0.0.2:5000"), end("192.0.2.53:53"));
    let question = udp(host, server, &[0; 64]);
    wire.send(&question);
    let pieces = testing::cut(&question, 9, &[32]);
    let router = address("203.0.113.1");
    let about = |piece: &Frame| icmp(router, host.ip(), (11, 1), 0, &piece.bytes[14..42]);
    assert_eq!(wire.look(&about(&pieces[0])).state, State::Related);
    let later = wire.look(&about(&pieces[1]));
    assert_eq!(later.invalid, Some(Invalid::IcmpNoConnection));
    let six = udp(end("[2001:db8::2]:5000"), end("[2001:db8::1]:53"), b"?");
    wire.send(&six);
    let mixed = icmp(router, host.ip(), (3, 3), 0, &six.bytes[14..62]);
    assert_eq!(wire.look(&mixed).invalid, Some(Invalid::IcmpNoConnection));
}

#[test]
fn errors_about_protocols_without_ports_are_related() {
    let mut wire = Wire::new(Config::default());
    let (a, b) = (address("10.0.0.2"), address("192.0.2.1"));
    let gre = packet(a, b, 47, b"gre.gre.");
    wire.send(&gre);
    assert_eq!(wire.look(&error(b, &gre, (3, 2), 8)).state, State::Related);
}

#[test]
fn a_redirect_of_ipv6_is_related_if_a_neighbour_sends_it() {
    let mut wire = Wire::new(Config::default());
    let question = udp(end("[2001:db8::2]:5000"), end("[2001:db8::1]:53"), b"?");
    wire.send(&question);
    let redirect = |from: &str, hop_limit: u8| {
        let mut body = vec![0; 32];
        body.extend([4, 7, 0, 0, 0, 0, 0, 0]);
        body.extend(&question.bytes[14..]);
        let mut frame = icmp(address(from), address("2001:db8::2"), (137, 0), 0, &body);
        frame.bytes[21] = hop_limit;
        frame
    };
    assert_eq!(wire.look(&redirect("fe80::1", 255)).state, State::Related);
    assert_eq!(wire.look(&redirect("fe80::1", 64)).state, State::Invalid);
    assert_eq!(
        wire.look(&redirect("2001:db8::9", 255)).state,
        State::Invalid
    );
}
