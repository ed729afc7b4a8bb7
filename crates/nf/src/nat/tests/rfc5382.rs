//! TCP (RFC 5382).

use plumb_wire::tcp::{ACK, SYN};

use super::*;

const FIN: u8 = 1;

/// A connection from A:5000 to R:80 that is open; its outside endpoint.
fn open(world: &mut World) -> Endpoint {
    let outside = world.map_tcp(end(A, 5000), end(R, 80), SYN);
    assert!(world.inwards(tcp(end(R, 80), outside, SYN | ACK)).is_some());
    world.map_tcp(end(A, 5000), end(R, 80), ACK);
    outside
}

#[test]
fn req_1_the_mapping_does_not_depend_on_the_other_end() {
    let mut world = World::new(|_| {});
    let first = world.map_tcp(end(A, 5000), end(R, 80), SYN);
    assert_eq!(world.map_tcp(end(A, 5000), end(S, 443), SYN), first);
}

#[test]
fn req_2_all_valid_sequences_pass_simultaneous_open_too() {
    let mut world = World::new(|_| {});
    open(&mut world);
    let outside = world.map_tcp(end(B, 7000), end(S, 80), SYN);
    assert!(world.inwards(tcp(end(S, 80), outside, SYN)).is_some());
    world.map_tcp(end(B, 7000), end(S, 80), SYN | ACK);
    assert!(world.inwards(tcp(end(S, 80), outside, ACK)).is_some());
    world.wait(7000);
    assert!(world.inwards(tcp(end(S, 80), outside, ACK)).is_some());
}

#[test]
fn req_3_filtering_is_as_chosen() {
    for (filtering, admitted) in [
        (Filtering::EndpointIndependent, [true, true]),
        (Filtering::AddressDependent, [true, false]),
        (Filtering::AddressAndPortDependent, [false, false]),
    ] {
        let mut world = World::new(|c| c.filtering = filtering);
        let outside = open(&mut world);
        let came = [end(R, 81), end(S, 80)].map(|r| world.inwards(tcp(r, outside, SYN)).is_some());
        assert_eq!(came, admitted, "{filtering:?}");
    }
}

#[test]
fn req_4_an_unsolicited_syn_is_refused_after_six_seconds_and_not_before() {
    let mut world = World::new(|_| {});
    let syn = tcp(end(R, 80), end(X, 4000), SYN);
    assert!(world.put(Port::Right, syn.clone()).is_empty());
    assert!(world.wait(5).is_empty());
    let mut sent = world.wait(2);
    let (to, answer) = sent.pop().unwrap();
    assert_eq!((to, sent.len()), (Port::Right, 0));
    assert_eq!(answer.bytes[34..36], [3, 3]);
    assert_eq!((flow(&answer).0.address, flow(&answer).1.address), (X, R));
    assert_eq!(quote(&answer), &syn.bytes[14..]);
    // Once.
    assert!(world.wait(60).is_empty());
}

#[test]
fn req_4_an_unsolicited_syn_is_forgotten_when_the_inside_opens_the_same_connection() {
    let mut world = World::new(|_| {});
    let outside = world.map_tcp(end(A, 5000), end(S, 1), SYN);
    assert!(
        world
            .put(Port::Right, tcp(end(R, 80), outside, SYN))
            .is_empty()
    );
    world.wait(3);
    assert_eq!(world.map_tcp(end(A, 5000), end(R, 80), SYN), outside);
    assert!(world.wait(60).is_empty());
}

#[test]
fn req_4_a_flood_of_syns_keeps_no_more_than_its_share_of_memory() {
    let mut world = World::new(|_| {});
    for port in 1..5000 {
        assert!(
            world
                .put(Port::Right, tcp(end(R, port), end(X, 4000), SYN))
                .is_empty()
        );
    }
    assert_eq!(world.wait(7).len(), 256);
}

#[test]
fn req_5_an_open_connection_may_be_silent_for_two_hours_and_four_minutes() {
    let mut world = World::new(|_| {});
    let outside = open(&mut world);
    world.wait(7439);
    assert!(world.inwards(tcp(end(R, 80), outside, ACK)).is_some());
    world.wait(7439);
    assert!(world.inwards(tcp(end(R, 80), outside, ACK)).is_some());
    world.wait(7441);
    assert!(world.inwards(tcp(end(R, 80), outside, ACK)).is_none());
}

#[test]
fn req_5_a_connection_that_opens_or_closes_has_four_minutes() {
    let mut world = World::new(|_| {});
    let outside = world.map_tcp(end(A, 5000), end(R, 80), SYN);
    world.wait(239);
    assert!(world.inwards(tcp(end(R, 80), outside, SYN | ACK)).is_some());
    world.map_tcp(end(A, 5000), end(R, 80), FIN | ACK);
    // One end closed: the other may go on for hours.
    world.wait(7000);
    assert!(world.inwards(tcp(end(R, 80), outside, FIN | ACK)).is_some());
    world.wait(239);
    assert_eq!(world.counter("mappings"), 1);
    world.wait(2);
    assert_eq!(world.counter("mappings"), 0);

    let outside = world.map_tcp(end(A, 5000), end(R, 80), SYN);
    world.wait(241);
    assert!(world.inwards(tcp(end(R, 80), outside, SYN | ACK)).is_none());
}

#[test]
fn req_7_ports_are_never_shared() {
    let mut world = World::new(|c| c.ports = 2000..=2009);
    let taken: BTreeSet<_> = (1..=10)
        .map(|port| world.map_tcp(end(A, 3000 + port), end(R, port), SYN))
        .collect();
    assert_eq!(taken.len(), 10);
    assert!(world.outwards(tcp(end(B, 4000), end(S, 99), SYN)).is_none());
}

#[test]
fn req_8_hairpinned_connections_come_from_the_outside_endpoint() {
    let mut world = World::new(|c| c.filtering = Filtering::EndpointIndependent);
    let b = world.map_tcp(end(B, 6000), end(R, 1), SYN);
    let came = world.hairpin(tcp(end(A, 5000), b, SYN)).unwrap();
    let (a, to) = flow(&came);
    assert_eq!((a.address, to), (X, end(B, 6000)));
    let back = world.hairpin(tcp(end(B, 6000), a, SYN | ACK)).unwrap();
    assert_eq!(flow(&back), (b, end(A, 5000)));
}

#[test]
fn req_9_icmp_errors_about_connections_are_translated_and_end_nothing() {
    let mut world = World::new(|_| {});
    let outside = open(&mut world);
    let about = tcp(outside, end(R, 80), ACK);
    let came = world.inwards(error(S, X, [3, 1], &about, 28)).unwrap();
    assert_eq!(quote_flow(quote(&came)), (end(A, 5000), end(R, 80)));
    assert!(world.inwards(tcp(end(R, 80), outside, ACK)).is_some());
}
