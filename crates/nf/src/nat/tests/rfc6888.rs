//! What carriers need (RFC 6888), and what keeps memory bounded.

use plumb_wire::tcp::{ACK, SYN};

use super::*;

fn events(world: &mut World) -> Vec<EventKind> {
    core::iter::from_fn(|| world.nat.poll_event())
        .map(|event| event.kind)
        .collect()
}

#[test]
fn req_4_a_host_has_no_more_mappings_than_it_may() {
    let mut world = World::new(|c| c.per_host = 10);
    for port in 1..=10 {
        world.map_udp(end(A, port), end(R, 1));
    }
    assert!(world.outwards(tcp(end(A, 11), end(R, 1), SYN)).is_none());
    assert_eq!(world.counter("dropped_host_limit_frames"), 1);
    // Others are not concerned, nor is what the host has.
    world.map_udp(end(B, 11), end(R, 1));
    world.map_udp(end(A, 3), end(S, 1));
    world.wait(301);
    world.map_udp(end(A, 11), end(R, 1));
}

#[test]
fn req_14_ports_come_in_blocks_and_blocks_are_what_is_logged() {
    let mut world = World::new(|c| {
        c.ports = 1024..=65_535;
        c.block = 64;
        c.blocks_per_host = 2;
    });
    let ports: BTreeSet<u16> = (0..128)
        .map(|i| world.map_udp(end(A, 3000 + i), end(R, 1)).port)
        .collect();
    assert_eq!(ports.len(), 128);
    let blocks: BTreeSet<u16> = ports.iter().map(|port| (port - 1024) / 64).collect();
    assert_eq!(blocks.len(), 2);
    assert!(world.outwards(udp(end(A, 4000), end(R, 1), b"")).is_none());
    // Another host never gets a port of these blocks; TCP shares them.
    for i in 0..20 {
        let port = world.map_udp(end(B, 3000 + i), end(R, 1)).port;
        assert!(!blocks.contains(&((port - 1024) / 64)));
        let port = world.map_tcp(end(A, 3000 + i), end(R, 1), SYN).port;
        assert!(blocks.contains(&((port - 1024) / 64)));
    }
    let allocated = events(&mut world);
    assert_eq!(allocated.len(), 3);
    for kind in &allocated {
        let EventKind::BlockAllocated { ports, .. } = kind else {
            panic!("{kind:?}");
        };
        assert_eq!(ports.end() - ports.start(), 63);
    }
    world.wait(301);
    assert_eq!(events(&mut world).len(), 3, "all are given back");
    assert_eq!(world.counter("mappings"), 0);
}

#[test]
fn the_log_says_who_had_an_outside_endpoint_and_when() {
    let mut world = World::new(|_| {});
    let start = world.now;
    let outside = world.map_udp(end(A, 5000), end(R, 1));
    world.map_udp(end(A, 5000), end(S, 1));
    world.wait(400);
    let told: Vec<_> = core::iter::from_fn(|| world.nat.poll_event()).collect();
    let (protocol, inside, since) = (Protocol::Udp, end(A, 5000), start);
    let created = EventKind::MappingCreated {
        protocol,
        inside,
        outside,
    };
    let deleted = EventKind::MappingDeleted {
        protocol,
        inside,
        outside,
        since,
    };
    assert_eq!(
        told,
        [
            Event {
                at: start,
                kind: created
            },
            Event {
                at: start + Duration::from_secs(300),
                kind: deleted
            },
        ]
    );
}

#[test]
fn a_full_table_gives_up_what_was_never_answered_and_keeps_the_rest() {
    let mut world = World::new(|c| {
        c.max_mappings = 100;
        c.max_sessions = 100;
    });
    let mut kept = Vec::new();
    for port in 0..50 {
        let inside = end(A, 2000 + port);
        let outside = world.map_tcp(inside, end(R, 80), SYN);
        world.inwards(tcp(end(R, 80), outside, SYN | ACK)).unwrap();
        kept.push(outside);
    }
    // A scan from inside fills the rest, and then only its own.
    for port in 0..5000 {
        assert!(world.outwards(udp(end(B, 9), end(S, port), b"")).is_some());
        assert!(
            world
                .outwards(tcp(end(B, 1000 + port), end(S, 1), SYN))
                .is_some()
        );
    }
    assert!(world.counter("sessions") <= 100 && world.counter("mappings") <= 100);
    assert!(world.counter("evicted_sessions") > 4000);
    for outside in kept {
        assert!(world.inwards(tcp(end(R, 80), outside, ACK)).is_some());
    }
}

#[test]
fn a_table_full_of_connections_in_use_refuses_new_ones() {
    let mut world = World::new(|c| c.max_mappings = 20);
    for port in 0..20 {
        let outside = world.map_tcp(end(A, 2000 + port), end(R, 80), SYN);
        world.inwards(tcp(end(R, 80), outside, SYN | ACK)).unwrap();
    }
    assert!(world.outwards(tcp(end(B, 1), end(R, 80), SYN)).is_none());
    assert_eq!(world.counter("dropped_table_full_frames"), 1);
    assert_eq!(world.counter("mappings"), 20);
}
