//! Numbers that fit a connection, and those that do not.

use super::*;

#[test]
fn data_within_the_window_passes_and_above_it_is_invalid() {
    let mut pair = Pair::open(Config::default());
    // The server has room for 1000 bytes behind 101.
    assert_eq!(pair.state(Client, ACK, 101, 501, 1000), State::Established);
    assert_eq!(pair.state(Client, ACK, 1101, 501, 0), State::Established);
    assert_eq!(
        pair.fault(Client, ACK, 5000, 501, 10),
        Some(Invalid::TcpAboveWindow)
    );
}

#[test]
fn a_little_more_than_the_window_passes_and_its_acknowledgement_too() {
    let mut pair = Pair::open(Config::default());
    assert_eq!(pair.state(Client, ACK, 1200, 501, 500), State::Established);
    assert_eq!(pair.state(Server, ACK, 501, 1700, 0), State::Established);
}

#[test]
fn an_acknowledgement_of_what_was_not_sent_is_invalid() {
    let mut pair = Pair::open(Config::default());
    pair.send(Client, ACK, 101, 501, 100);
    assert_eq!(
        pair.fault(Server, ACK, 501, 202, 0),
        Some(Invalid::TcpAckNotSent)
    );
    assert_eq!(pair.state(Server, ACK, 501, 201, 0), State::Established);
}

#[test]
fn old_data_and_old_acknowledgements_pass_and_change_nothing() {
    let mut pair = Pair::open(Config::default());
    let mut at = 101;
    for _ in 0..100 {
        pair.send(Client, ACK, at, 501, 1000);
        at += 1000;
        pair.send(Server, ACK, 501, at, 0);
    }
    let before = pair.wire.conntrack.iter().next().unwrap();
    assert_eq!(pair.state(Client, ACK, 101, 501, 1000), State::Established);
    assert_eq!(pair.state(Server, ACK, 501, 101, 0), State::Established);
    assert_eq!(pair.wire.conntrack.iter().next().unwrap(), before);
}

#[test]
fn windows_are_scaled_if_both_ends_offer_it() {
    let mut pair = Pair::new(Config::default());
    pair.options = OPTIONS.to_vec();
    pair.send(Client, SYN, 100, 0, 0);
    pair.send(Server, SYN | ACK, 500, 101, 0);
    pair.options.clear();
    pair.send(Client, ACK, 101, 501, 0);
    // The window of a SYN is never scaled (RFC 7323 §2.2).
    pair.send(Server, ACK, 501, 101, 0);
    assert_eq!(
        pair.state(Client, ACK, 101 + 127_000, 501, 100),
        State::Established
    );

    let mut one = Pair::new(Config::default());
    one.options = OPTIONS.to_vec();
    one.send(Client, SYN, 100, 0, 0);
    one.options.clear();
    one.send(Server, SYN | ACK, 500, 101, 0);
    one.send(Client, ACK, 101, 501, 0);
    one.send(Server, ACK, 501, 101, 0);
    assert_eq!(
        one.fault(Client, ACK, 101 + 127_000, 501, 100),
        Some(Invalid::TcpAboveWindow)
    );
}

#[test]
fn a_scale_above_fourteen_counts_as_fourteen() {
    let mut pair = Pair::new(Config::default());
    pair.options = vec![1, 3, 3, 255];
    pair.send(Client, SYN, 100, 0, 0);
    pair.send(Server, SYN | ACK, 500, 101, 0);
    pair.options.clear();
    pair.send(Client, ACK, 101, 501, 0);
    pair.send(Server, ACK, 501, 101, 0);
    let limit = 101 + (1000 << 14);
    assert_eq!(pair.state(Client, ACK, limit, 501, 0), State::Established);
    assert_eq!(
        pair.fault(Client, ACK, limit + 100_000_000, 501, 9),
        Some(Invalid::TcpAboveWindow)
    );
}

/// A SACK option with one block.
fn sack(left: u32, right: u32) -> Vec<u8> {
    let mut option = vec![1, 1, 5, 10];
    option.extend(left.to_be_bytes());
    option.extend(right.to_be_bytes());
    option
}

#[test]
fn selective_acknowledgements_open_the_window_and_must_be_of_what_was_sent() {
    let open = || {
        let mut pair = Pair::new(Config::default());
        pair.options = OPTIONS.to_vec();
        pair.send(Client, SYN, 100, 0, 0);
        pair.send(Server, SYN | ACK, 500, 101, 0);
        pair.options.clear();
        pair.send(Client, ACK, 101, 501, 0);
        // One that is lost behind the wire, and one that is not.
        pair.send(Client, ACK, 101, 501, 500);
        pair.send(Client, ACK, 601, 501, 400);
        pair
    };
    let mut pair = open();
    pair.options = sack(601, 1001);
    assert_eq!(pair.state(Server, ACK, 501, 101, 0), State::Established);
    pair.options = sack(601, 9000);
    assert_eq!(
        pair.fault(Server, ACK, 501, 101, 0),
        Some(Invalid::TcpAckNotSent)
    );

    // Without SACK-permitted the option says nothing.
    let mut pair = Pair::open(Config::default());
    pair.options = sack(601, 9000);
    assert_eq!(pair.state(Server, ACK, 501, 101, 0), State::Established);
}

#[test]
fn numbers_wrap() {
    let mut pair = Pair::new(Config::default());
    let (client, server) = (u32::MAX - 500, u32::MAX - 3);
    pair.send(Client, SYN, client, 0, 0);
    pair.send(Server, SYN | ACK, server, client.wrapping_add(1), 0);
    let (mut c, s) = (client.wrapping_add(1), server.wrapping_add(1));
    pair.send(Client, ACK, c, s, 0);
    for _ in 0..20 {
        assert_eq!(pair.state(Client, ACK, c, s, 100), State::Established);
        c = c.wrapping_add(100);
        assert_eq!(pair.state(Server, ACK, s, c, 0), State::Established);
    }
    assert!(c < 2000);
    assert_eq!(
        pair.fault(Client, ACK, c.wrapping_add(3000), s, 1),
        Some(Invalid::TcpAboveWindow)
    );
}

#[test]
fn a_closed_window_lets_one_byte_probe_it() {
    let mut pair = Pair::open(Config::default());
    pair.send(Client, ACK, 101, 501, 1000);
    pair.window = 0;
    assert_eq!(pair.state(Server, ACK, 501, 1101, 0), State::Established);
    pair.window = 1000;
    assert_eq!(pair.state(Client, ACK, 1101, 501, 1), State::Established);
    // A closed window is not kept open for days.
    pair.window = 0;
    pair.send(Server, ACK, 501, 1102, 0);
    assert_eq!(pair.left(), 300);
}

#[test]
fn a_keep_alive_and_its_answer_pass() {
    let mut pair = Pair::open(Config::default());
    pair.send(Client, ACK, 101, 501, 10);
    pair.send(Server, ACK, 501, 111, 0);
    assert_eq!(pair.state(Client, ACK, 110, 501, 0), State::Established);
    assert_eq!(pair.state(Server, ACK, 501, 111, 0), State::Established);
}

#[test]
fn what_is_sent_again_and_again_without_an_answer_shortens_the_time() {
    let mut pair = Pair::new(Config {
        timeouts: Timeouts {
            tcp_max_retrans: secs(77),
            ..Timeouts::default()
        },
        ..Config::default()
    });
    pair.shake();
    for _ in 0..3 {
        pair.send(Client, ACK, 101, 501, 10);
        assert_eq!(pair.left(), 300, "data that is not acknowledged");
    }
    pair.send(Client, ACK, 101, 501, 10);
    assert_eq!(pair.left(), 77);
    pair.send(Server, ACK, 501, 111, 0);
    assert_eq!(pair.left(), 432_000);
}

#[test]
fn liberal_tracking_lets_all_but_resets_pass() {
    let mut pair = Pair::open(Config {
        tcp_be_liberal: true,
        ..Config::default()
    });
    assert_eq!(
        pair.state(Client, ACK, 5_000_000, 501, 10),
        State::Established
    );
    assert_eq!(
        pair.state(Server, ACK, 501, 6_000_000, 0),
        State::Established
    );
    pair.send(Client, ACK, 101, 501, 10);
    pair.send(Server, ACK, 501, 111, 0);
    assert_eq!(pair.fault(Client, RST, 50, 0, 0), Some(Invalid::TcpReset));
}
