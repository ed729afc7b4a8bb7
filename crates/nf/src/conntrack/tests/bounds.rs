//! What limits the table, and what its owner can do with it.

use super::*;
use crate::testing::udp;

fn config(max_entries: u32) -> Config {
    Config {
        max_entries,
        events: true,
        ..Config::default()
    }
}

fn question(host: u8, port: u16) -> Frame {
    udp(
        SocketAddr::from(([10, 0, 0, host], port)),
        end("192.0.2.53:53"),
        b"?",
    )
}

fn answer(host: u8, port: u16) -> Frame {
    udp(
        end("192.0.2.53:53"),
        SocketAddr::from(([10, 0, 0, host], port)),
        b"!",
    )
}

fn ports(wire: &Wire) -> Vec<u16> {
    let mut ports: Vec<_> = wire.conntrack.iter().map(|c| c.original.src_port).collect();
    ports.sort_unstable();
    ports
}

#[test]
fn a_connection_that_was_not_let_through_leaves_nothing_behind() {
    let mut wire = Wire::new(Config::default());
    let mut dropped = wire.look(&question(1, 1));
    assert_eq!((dropped.state, dropped.id), (State::New, None));
    assert!(wire.conntrack.is_empty());
    assert_eq!(
        wire.look(&answer(1, 1)).state,
        State::New,
        "no question was let through"
    );
    // It cannot be confirmed any more.
    wire.conntrack.confirm(&mut dropped, wire.now).unwrap();
    assert!(wire.conntrack.is_empty());
}

#[test]
fn the_oldest_that_was_never_answered_goes_first() {
    let mut wire = Wire::new(config(4));
    for port in 1..=4 {
        wire.send(&question(1, port));
    }
    wire.send(&answer(1, 1));
    wire.send(&question(1, 5));
    assert_eq!(ports(&wire), [1, 3, 4, 5]);
    wire.send(&question(1, 6));
    assert_eq!(ports(&wire), [1, 4, 5, 6]);
}

#[test]
fn then_the_oldest_that_is_not_assured_then_what_is_closing_and_then_it_is_refused() {
    let mut wire = Wire::new(config(3));
    // An answered flow, a connection that closes and one that is open.
    wire.send(&question(1, 1));
    wire.send(&answer(1, 1));
    let mut pair = Pair::new(config(3));
    pair.wire = wire;
    pair.shake();
    let mut pair = Pair {
        client: end("10.0.0.3:40000"),
        wire: pair.wire,
        ..Pair::new(config(3))
    };
    pair.shake();
    assert_eq!(pair.wire.conntrack.len(), 3);
    pair.send(Client, FIN | ACK, 101, 501, 0);
    let stream = |wire: &mut Wire, port| {
        wire.send(&question(1, port));
        wire.send(&answer(1, port));
        wire.wait(secs(3));
        wire.send(&question(1, port));
    };
    stream(&mut pair.wire, 2);
    assert_eq!(
        ports(&pair.wire),
        [2, 40000, 40000],
        "the answered flow has gone"
    );
    stream(&mut pair.wire, 3);
    assert_eq!(
        ports(&pair.wire),
        [2, 3, 40000],
        "the closing connection has gone"
    );
    let mut refused = pair.wire.look(&question(1, 4));
    assert_eq!(
        pair.wire.conntrack.confirm(&mut refused, pair.wire.now),
        Err(Refused::Table)
    );
    assert_eq!(ports(&pair.wire), [2, 3, 40000]);
    let ends: Vec<_> = core::iter::from_fn(|| pair.wire.conntrack.poll_event())
        .filter_map(|event| match event.kind {
            EventKind::Destroyed(end) => Some((end, event.connection.original.src_port)),
            EventKind::New => None,
        })
        .collect();
    assert_eq!(ends, [(End::Evicted, 1), (End::Evicted, 40000)]);
}

#[test]
fn a_source_has_no_more_than_its_share() {
    let mut wire = Wire::new(Config {
        per_source: 2,
        ..Config::default()
    });
    wire.send(&question(1, 1));
    wire.send(&question(1, 2));
    let mut third = wire.look(&question(1, 3));
    assert_eq!(
        wire.conntrack.confirm(&mut third, wire.now),
        Err(Refused::Source)
    );
    wire.send(&question(2, 3));
    assert_eq!(ports(&wire), [1, 2, 3]);
    wire.wait(secs(31));
    wire.send(&question(1, 3));
    // All of a /64 count as one, since a host may have any address in it.
    let six = |host: u16, port: u16| {
        let host = SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, host], port));
        udp(host, end("[2001:db8:1::35]:53"), b"?")
    };
    wire.send(&six(1, 1));
    wire.send(&six(2, 1));
    let mut third = wire.look(&six(3, 1));
    assert_eq!(
        wire.conntrack.confirm(&mut third, wire.now),
        Err(Refused::Source)
    );
}

#[test]
fn who_is_refused_takes_nobody_s_place() {
    let mut wire = Wire::new(Config {
        max_entries: 2,
        per_source: 1,
        ..Config::default()
    });
    wire.send(&question(1, 1));
    wire.send(&question(2, 2));
    let mut refused = wire.look(&question(2, 3));
    assert_eq!(
        wire.conntrack.confirm(&mut refused, wire.now),
        Err(Refused::Source)
    );
    assert_eq!(ports(&wire), [1, 2]);
}

#[test]
fn a_mark_stays_with_the_connection_and_goes_with_its_errors() {
    let mut wire = Wire::new(Config::default());
    let frame = question(1, 1);
    let mut first = wire.look(&frame);
    wire.conntrack.set_mark(&mut first, 7);
    wire.conntrack.confirm(&mut first, wire.now).unwrap();
    assert_eq!((first.mark, wire.send(&answer(1, 1)).mark), (7, 7));
    let about = testing::error("203.0.113.1".parse().unwrap(), &frame, (3, 1), 8);
    let mut about = wire.look(&about);
    assert_eq!(about.mark, 7);
    wire.conntrack.set_mark(&mut about, 8);
    assert_eq!(wire.send(&frame).mark, 8);
}

#[test]
fn a_removed_connection_is_gone_and_its_name_not_used_again() {
    let mut wire = Wire::new(config(10));
    let first = wire.send(&question(1, 1)).id.unwrap();
    assert!(wire.conntrack.remove(first, wire.now));
    assert!(!wire.conntrack.remove(first, wire.now));
    let second = wire.send(&question(1, 1)).id.unwrap();
    assert_ne!(first, second);
    assert_eq!(wire.conntrack.get(first), None);
    assert_eq!(wire.conntrack.get(second).unwrap().id, second);
    assert!(!wire.conntrack.remove(first, wire.now));
}

#[test]
fn events_tell_how_each_connection_began_and_ended() {
    let mut wire = Wire::new(config(10));
    for port in 1..=2 {
        wire.send(&question(1, port));
        wire.send(&answer(1, port));
        wire.now = wire.now + secs(1);
    }
    wire.wait(secs(40));
    let events: Vec<_> = core::iter::from_fn(|| wire.conntrack.poll_event()).collect();
    assert_eq!(events.len(), 4);
    for (begun, ended) in [(events[0], events[2]), (events[1], events[3])] {
        assert_eq!(begun.kind, EventKind::New);
        assert_eq!(ended.kind, EventKind::Destroyed(End::TimedOut));
        assert_eq!(begun.connection.id, ended.connection.id);
        assert_eq!(ended.at.since(begun.at), secs(30));
        assert_eq!(ended.connection.traffic.map(|t| t.packets), [1, 1]);
    }
    let mut quiet = Wire::new(Config::default());
    quiet.send(&question(1, 1));
    assert_eq!(quiet.conntrack.poll_event(), None);
}

#[test]
fn a_packet_after_the_time_begins_a_new_connection_even_if_the_timer_was_late() {
    let mut wire = Wire::new(Config::default());
    let first = wire.send(&question(1, 1)).id;
    wire.now = wire.now + secs(30);
    let second = wire.send(&question(1, 1));
    assert_eq!(second.state, State::New);
    assert_ne!(second.id, first);
    assert_eq!(wire.conntrack.len(), 1);
}

#[test]
fn between_an_end_and_itself_there_is_one_direction() {
    let mut wire = Wire::new(Config::default());
    let own = udp(end("10.0.0.2:7"), end("10.0.0.2:7"), b"echo");
    for _ in 0..3 {
        let tracked = wire.send(&own);
        assert_eq!(
            (tracked.state, tracked.direction),
            (State::New, Direction::Original)
        );
    }
}
