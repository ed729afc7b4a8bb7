//! TCP connections that end, and those that are said to.

use super::*;

/// A connection that has carried data: the client is at 111, the server at 501.
fn used(config: Config) -> Pair {
    let mut pair = Pair::open(config);
    pair.send(Client, ACK | PSH, 101, 501, 10);
    pair.send(Server, ACK, 501, 111, 0);
    pair
}

fn closed() -> Pair {
    let mut pair = used(Config::default());
    pair.send(Client, FIN | ACK, 111, 501, 0);
    assert_eq!(pair.tcp(), Some(TcpState::FinWait));
    pair.send(Server, ACK, 501, 112, 0);
    assert_eq!(pair.tcp(), Some(TcpState::CloseWait));
    pair.send(Server, FIN | ACK, 501, 112, 0);
    assert_eq!(pair.tcp(), Some(TcpState::LastAck));
    pair.send(Client, ACK, 112, 502, 0);
    assert_eq!(pair.tcp(), Some(TcpState::TimeWait));
    pair
}

#[test]
fn a_connection_ends_by_four_packets_and_is_forgotten() {
    let mut pair = closed();
    pair.wire.wait(secs(119));
    assert_eq!(pair.wire.conntrack.len(), 1);
    pair.wire.wait(secs(2));
    assert!(pair.wire.conntrack.is_empty());
    assert_eq!(pair.wire.conntrack.poll_timeout(), None);
}

#[test]
fn the_last_packets_may_be_sent_again() {
    let mut pair = closed();
    assert_eq!(
        pair.state(Server, FIN | ACK, 501, 112, 0),
        State::Established
    );
    assert_eq!(pair.state(Client, ACK, 112, 502, 0), State::Established);
    assert_eq!(pair.tcp(), Some(TcpState::TimeWait));
}

#[test]
fn both_ends_may_close_at_once() {
    let mut pair = used(Config::default());
    pair.send(Client, FIN | ACK, 111, 501, 0);
    pair.send(Server, FIN | ACK, 501, 111, 0);
    assert_eq!(pair.tcp(), Some(TcpState::LastAck));
    pair.send(Client, ACK, 112, 502, 0);
    pair.send(Server, ACK, 502, 112, 0);
    assert_eq!(pair.tcp(), Some(TcpState::TimeWait));
}

#[test]
fn rfc_9293_a_syn_reopens_a_connection_in_time_wait_as_a_new_one() {
    let mut pair = closed();
    let old = pair.wire.conntrack.iter().next().unwrap().id;
    let syn = pair.send(Client, SYN, 50_000, 0, 0);
    assert_eq!(syn.state, State::New);
    assert_ne!(syn.id, Some(old));
    assert_eq!(pair.wire.conntrack.len(), 1);
    assert_eq!(
        pair.state(Server, SYN | ACK, 9000, 50_001, 0),
        State::Established
    );
    // The server may become the client.
    let mut pair = closed();
    let syn = pair.send(Server, SYN, 50_000, 0, 0);
    assert_eq!(
        (syn.state, syn.direction),
        (State::New, Direction::Original)
    );
}

#[test]
fn a_client_that_was_reset_by_itself_may_reopen() {
    let mut pair = used(Config::default());
    pair.send(Client, RST, 111, 0, 0);
    assert_eq!(pair.tcp(), Some(TcpState::Close));
    assert_eq!(pair.left(), 10);
    assert_eq!(pair.state(Client, SYN, 50_000, 0, 0), State::New);
}

#[test]
fn rfc_5961_a_reset_must_have_the_expected_number() {
    let mut pair = used(Config::default());
    // Below what the other end has acknowledged: old or forged.
    assert_eq!(pair.fault(Client, RST, 90, 0, 0), Some(Invalid::TcpReset));
    // In the window, but not the next: passes, and the connection goes on for the challenge.
    assert_eq!(pair.state(Client, RST, 300, 0, 0), State::Established);
    assert_eq!(pair.tcp(), Some(TcpState::Established));
    assert_eq!(pair.state(Server, ACK, 501, 111, 0), State::Established);
    // The next: ends it.
    assert_eq!(pair.state(Client, RST, 111, 0, 0), State::Established);
    assert_eq!(pair.tcp(), Some(TcpState::Close));
}

#[test]
fn a_connection_that_is_not_assured_is_closed_by_any_reset_within_the_window() {
    let mut pair = Pair::new(Config::default());
    pair.send(Client, ACK | PSH, 101, 501, 10);
    let answer = pair.send(Server, ACK, 501, 111, 0);
    assert!(!answer.status.contains(Status::ASSURED));
    pair.send(Client, RST, 300, 0, 0);
    assert_eq!(pair.tcp(), Some(TcpState::Close));
}

#[test]
fn a_reset_that_answers_an_ignored_syn_of_the_other_end_closes_whatever_its_numbers() {
    let ignored = || {
        let mut pair = used(Config::default());
        pair.send(Client, SYN, 90_000, 0, 0);
        pair
    };
    let mut pair = ignored();
    assert_eq!(
        pair.state(Server, RST | ACK, 700_000, 90_001, 0),
        State::Established
    );
    assert_eq!(pair.tcp(), Some(TcpState::Close));
    // But not one of whoever sent the SYN.
    let mut pair = ignored();
    let fault = pair.fault(Client, RST | ACK, 700_000, 90_001, 0);
    assert_eq!(fault, Some(Invalid::TcpAboveWindow));
}

#[test]
fn a_reset_above_the_window_is_invalid() {
    let mut pair = used(Config::default());
    let fault = pair.fault(Server, RST, 90_000, 0, 0);
    assert_eq!(fault, Some(Invalid::TcpAboveWindow));
    assert_eq!(pair.tcp(), Some(TcpState::Established));
}

#[test]
fn a_reset_right_behind_own_data_ends_the_connection() {
    let mut pair = used(Config::default());
    pair.send(Server, ACK | PSH, 501, 111, 19);
    pair.send(Server, RST | ACK, 520, 111, 0);
    assert_eq!(pair.tcp(), Some(TcpState::Close));
}

#[test]
fn invalid_resets_pass_if_that_is_wished() {
    let mut pair = used(Config {
        tcp_ignore_invalid_rst: true,
        ..Config::default()
    });
    assert_eq!(pair.state(Client, RST, 90, 0, 0), State::Established);
    assert_eq!(pair.tcp(), Some(TcpState::Established));
}

#[test]
fn rfc_5961_a_challenge_that_answers_a_syn_is_not_taken_for_the_last_acknowledgement() {
    let mut pair = used(Config::default());
    pair.send(Client, FIN | ACK, 111, 501, 0);
    pair.send(Server, FIN | ACK, 501, 112, 0);
    assert_eq!(pair.tcp(), Some(TcpState::LastAck));
    assert_eq!(pair.state(Client, SYN, 50_000, 0, 0), State::Established);
    assert_eq!(pair.state(Server, ACK, 502, 112, 0), State::Established);
    assert_eq!(pair.tcp(), Some(TcpState::LastAck), "a challenge");
    pair.send(Client, ACK, 112, 502, 0);
    assert_eq!(pair.tcp(), Some(TcpState::TimeWait));
}

#[test]
fn a_connection_that_both_ends_reset_out_of_the_window_is_not_kept_for_days() {
    let mut pair = used(Config::default());
    assert_eq!(pair.left(), 432_000);
    assert!(pair.fault(Client, FIN | ACK, 900_000, 501, 0).is_some());
    assert_eq!(pair.left(), 432_000);
    assert!(pair.fault(Server, FIN | ACK, 900_000, 111, 0).is_some());
    assert_eq!(pair.left(), 300);
}

#[test]
fn a_reset_of_a_closing_connection_is_not_held_against_its_numbers() {
    let mut pair = closed();
    assert_eq!(pair.state(Server, RST, 42, 0, 0), State::Established);
    assert_eq!(pair.tcp(), Some(TcpState::Close));
}
