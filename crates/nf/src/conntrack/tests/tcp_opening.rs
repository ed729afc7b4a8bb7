//! TCP connections that begin.

use super::*;

#[test]
fn the_handshake_is_new_then_established_and_assured_with_the_third_packet() {
    for mut pair in [Pair::new(Config::default()), Pair::v6(Config::default())] {
        let syn = pair.send(Client, SYN, 100, 0, 0);
        assert_eq!(syn.state, State::New);
        assert_eq!(pair.tcp(), Some(TcpState::SynSent));
        assert_eq!(syn.status, Status::CONFIRMED);
        let synack = pair.send(Server, SYN | ACK, 500, 101, 0);
        assert_eq!(synack.state, State::Established);
        assert_eq!(synack.direction, Direction::Reply);
        assert_eq!(pair.tcp(), Some(TcpState::SynRecv));
        let seen = Status::CONFIRMED.with(Status::SEEN_REPLY);
        assert_eq!(synack.status, seen);
        let ack = pair.send(Client, ACK, 101, 501, 0);
        assert_eq!(ack.state, State::Established);
        assert_eq!(ack.direction, Direction::Original);
        assert_eq!(pair.tcp(), Some(TcpState::Established));
        assert_eq!(ack.status, seen.with(Status::ASSURED));
    }
}

#[test]
fn each_state_has_the_time_that_linux_gives_it() {
    let mut pair = Pair::new(Config::default());
    pair.send(Client, SYN, 100, 0, 0);
    assert_eq!(pair.left(), 120);
    pair.send(Server, SYN | ACK, 500, 101, 0);
    assert_eq!(pair.left(), 60);
    pair.send(Client, ACK, 101, 501, 0);
    assert_eq!(pair.left(), 432_000);
    // Data that nobody has acknowledged.
    pair.send(Client, ACK | PSH, 101, 501, 10);
    assert_eq!(pair.left(), 300);
    pair.send(Server, ACK, 501, 111, 0);
    assert_eq!(pair.left(), 432_000);
    pair.send(Client, FIN | ACK, 111, 501, 0);
    assert_eq!(pair.left(), 120);
    pair.send(Server, ACK, 501, 112, 0);
    assert_eq!(pair.left(), 60);
    pair.send(Server, FIN | ACK, 501, 112, 0);
    assert_eq!(pair.left(), 30);
    pair.send(Client, ACK, 112, 502, 0);
    assert_eq!(pair.left(), 120);
}

#[test]
fn rfc_5382_req_5_an_open_connection_is_kept_for_two_hours_and_four_minutes_at_least() {
    let limit = secs(2 * 3600 + 4 * 60);
    assert!(Timeouts::default().tcp_established >= limit);
    let mut pair = Pair::open(Config::default());
    pair.wire.wait(limit);
    assert_eq!(pair.state(Server, ACK, 501, 101, 5), State::Established);
    let rfcs = Timeouts::of_rfcs();
    assert!(rfcs.tcp_established >= limit);
    for transitory in [
        rfcs.tcp_syn_sent,
        rfcs.tcp_syn_recv,
        rfcs.tcp_fin_wait,
        rfcs.tcp_close,
    ] {
        assert!(transitory >= secs(240));
    }
}

#[test]
fn packets_before_the_answer_are_new() {
    let mut pair = Pair::new(Config::default());
    let first = pair.send(Client, SYN, 100, 0, 0);
    let again = pair.send(Client, SYN, 100, 0, 0);
    assert_eq!((first.state, again.state), (State::New, State::New));
    assert_eq!(first.id, again.id);
    assert_eq!(
        pair.wire.connection(&again).traffic[0],
        Traffic {
            packets: 2,
            bytes: 80
        }
    );
    assert_eq!(pair.wire.conntrack.len(), 1);
}

#[test]
fn a_syn_sent_again_and_again_does_not_keep_its_entry() {
    let mut pair = Pair::new(Config::default());
    pair.send(Client, SYN, 100, 0, 0);
    pair.wire.wait(secs(100));
    pair.send(Client, SYN, 100, 0, 0);
    assert_eq!(pair.left(), 20);
}

#[test]
fn a_client_that_starts_over_with_another_number_is_followed() {
    let mut pair = Pair::new(Config::default());
    pair.send(Client, SYN, 100, 0, 0);
    pair.send(Client, SYN, 5000, 0, 0);
    assert_eq!(
        pair.state(Server, SYN | ACK, 500, 5001, 0),
        State::Established
    );
    assert_eq!(pair.state(Client, ACK, 5001, 501, 0), State::Established);
    assert_eq!(pair.tcp(), Some(TcpState::Established));
}

#[test]
fn simultaneous_open_ends_up_open() {
    let mut pair = Pair::new(Config::default());
    assert_eq!(pair.state(Client, SYN, 100, 0, 0), State::New);
    assert_eq!(pair.state(Server, SYN, 500, 0, 0), State::Established);
    assert_eq!(pair.tcp(), Some(TcpState::SynSent2));
    assert_eq!(
        pair.state(Client, SYN | ACK, 100, 501, 0),
        State::Established
    );
    assert_eq!(pair.tcp(), Some(TcpState::SynRecv));
    assert_eq!(
        pair.state(Server, SYN | ACK, 500, 101, 0),
        State::Established
    );
    assert_eq!(pair.state(Server, ACK, 501, 101, 0), State::Established);
    assert_eq!(pair.tcp(), Some(TcpState::Established));
    assert_eq!(
        pair.state(Client, ACK | PSH, 101, 501, 5),
        State::Established
    );
}

#[test]
fn what_cannot_begin_a_connection_is_invalid() {
    for flags in [SYN | ACK, FIN | ACK, RST, RST | ACK] {
        let mut pair = Pair::new(Config::default());
        assert_eq!(
            pair.fault(Server, flags, 500, 101, 0),
            Some(Invalid::TcpNoStart),
            "{flags}"
        );
        assert!(pair.wire.conntrack.is_empty());
    }
}

#[test]
fn flags_that_no_tcp_sends_are_invalid_before_and_in_a_connection() {
    let allowed = [
        SYN,
        SYN | URG,
        SYN | ACK,
        RST,
        RST | ACK,
        FIN | ACK,
        FIN | ACK | URG,
        ACK,
        ACK | URG,
    ];
    for flags in 0..64u8 {
        // PSH goes with any.
        let is_possible = allowed.contains(&(flags & !PSH));
        let mut pair = Pair::new(Config::default());
        let begins = pair.fault(Client, flags, 101, 501, 0);
        let mut pair = Pair::open(Config::default());
        let within = pair.fault(Client, flags, 101, 501, 0);
        for fault in [begins, within] {
            assert_eq!(fault == Some(Invalid::TcpFlags), !is_possible, "{flags:#x}");
        }
    }
}

#[test]
fn a_client_cannot_go_on_before_the_server_has_answered() {
    let mut pair = Pair::new(Config::default());
    pair.send(Client, SYN, 100, 0, 0);
    for flags in [ACK, ACK | PSH, FIN | ACK, SYN | ACK] {
        assert_eq!(
            pair.fault(Client, flags, 101, 501, 0),
            Some(Invalid::TcpState)
        );
    }
    assert_eq!(
        pair.fault(Server, FIN | ACK, 500, 101, 0),
        Some(Invalid::TcpState)
    );
}

#[test]
fn a_connection_in_the_middle_is_picked_up_unless_that_is_off() {
    let mut pair = Pair::new(Config::default());
    let first = pair.send(Client, ACK | PSH, 7000, 9000, 100);
    assert_eq!(
        (first.state, pair.tcp()),
        (State::New, Some(TcpState::Established))
    );
    assert_eq!(pair.left(), 300, "not for days before an answer");
    let answer = pair.send(Server, ACK, 9000, 7100, 0);
    assert_eq!(answer.state, State::Established);
    // The scale is not known, so windows may look too small.
    assert_eq!(
        pair.state(Server, ACK | PSH, 9000, 7100, 1400),
        State::Established
    );
    assert_eq!(
        pair.state(Server, ACK | PSH, 60_000, 7100, 1400),
        State::Established
    );

    let mut strict = Pair::new(Config {
        tcp_loose: false,
        ..Config::default()
    });
    assert_eq!(
        strict.fault(Client, ACK, 7000, 9000, 100),
        Some(Invalid::TcpNotPickedUp)
    );
    assert!(strict.wire.conntrack.is_empty());
    strict.shake();
}

#[test]
fn an_unanswered_connection_that_is_reset_is_forgotten_at_once() {
    let mut pair = Pair::new(Config::default());
    pair.send(Client, SYN, 100, 0, 0);
    let reset = pair.send(Server, RST | ACK, 0, 101, 0);
    assert_eq!(reset.state, State::Established);
    assert!(reset.status.contains(Status::DYING));
    assert!(pair.wire.conntrack.is_empty());
    assert_eq!(pair.state(Client, SYN, 200, 0, 0), State::New);
}

#[test]
fn an_answer_to_a_half_open_connection_that_was_forgotten_here_resets_it() {
    // The server holds an old connection, answers the SYN with a challenge, and the client
    // resets that (RFC 9293 §3.5.1 figure 10).
    let mut pair = Pair::new(Config::default());
    pair.send(Client, SYN, 100, 0, 0);
    assert_eq!(pair.state(Server, ACK, 800, 55, 0), State::Established);
    assert_eq!(pair.tcp(), Some(TcpState::SynSent));
    pair.send(Client, RST, 55, 0, 0);
    assert_eq!(pair.tcp(), Some(TcpState::Close));
}

#[test]
fn a_client_that_has_forgotten_the_connection_opens_it_anew() {
    // The SYN is ignored here, since it might be forged; the server's answer shows that it was
    // not.
    let mut pair = Pair::open(Config::default());
    assert_eq!(pair.state(Client, SYN, 90_000, 0, 0), State::Established);
    assert_eq!(pair.tcp(), Some(TcpState::Established));
    assert_eq!(
        pair.state(Server, SYN | ACK, 70_000, 90_001, 0),
        State::Established
    );
    assert_eq!(pair.tcp(), Some(TcpState::SynRecv));
    assert_eq!(
        pair.state(Client, ACK, 90_001, 70_001, 0),
        State::Established
    );
    assert_eq!(pair.tcp(), Some(TcpState::Established));
    assert_eq!(
        pair.state(Server, ACK | PSH, 70_001, 90_001, 500),
        State::Established
    );
}

#[test]
fn a_server_cannot_open_a_connection_that_is_open() {
    let mut pair = Pair::open(Config::default());
    assert_eq!(pair.fault(Server, SYN, 500, 0, 0), Some(Invalid::TcpState));
    assert_eq!(
        pair.fault(Client, SYN | ACK, 101, 501, 0),
        Some(Invalid::TcpState)
    );
}
