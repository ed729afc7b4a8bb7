//! Updates to the behavioural requirements (RFC 7857).

use plumb_wire::tcp::{ACK, RST, SYN};

use super::*;

fn open(world: &mut World) -> Endpoint {
    let outside = world.map_tcp(end(A, 5000), end(R, 80), SYN);
    world.inwards(tcp(end(R, 80), outside, SYN | ACK)).unwrap();
    outside
}

#[test]
fn section_2_2_a_reset_does_not_end_a_mapping_at_once() {
    let mut world = World::new(|_| {});
    let outside = open(&mut world);
    assert!(world.inwards(tcp(end(R, 80), outside, RST)).is_some());
    world.wait(239);
    assert_eq!(world.map_tcp(end(A, 5000), end(R, 80), RST), outside);
    world.wait(241);
    assert_eq!(world.counter("mappings"), 0);
}

#[test]
fn section_2_2_a_connection_that_goes_on_after_a_forged_reset_is_open_again() {
    let mut world = World::new(|_| {});
    let outside = open(&mut world);
    world.inwards(tcp(end(R, 80), outside, RST)).unwrap();
    world.wait(100);
    world.map_tcp(end(A, 5000), end(R, 80), ACK);
    world.wait(7000);
    assert!(world.inwards(tcp(end(R, 80), outside, ACK)).is_some());
}

#[test]
fn section_2_1_a_connection_on_the_ports_of_a_closed_one_starts_anew() {
    let mut world = World::new(|_| {});
    let outside = open(&mut world);
    world.inwards(tcp(end(R, 80), outside, ACK | 1)).unwrap();
    world.map_tcp(end(A, 5000), end(R, 80), ACK | 1);
    assert_eq!(open(&mut world), outside);
    world.wait(7000);
    assert!(world.inwards(tcp(end(R, 80), outside, ACK)).is_some());
}

#[test]
fn section_3_one_port_serves_each_protocol() {
    let mut world = World::new(|c| c.ports = 4000..=4000);
    assert_eq!(world.map_udp(end(A, 5000), end(R, 1)), end(X, 4000));
    assert_eq!(world.map_tcp(end(B, 5000), end(R, 1), SYN), end(X, 4000));
    assert!(world.outwards(echo(A, R, 8, 1)).is_some());
}

#[test]
fn section_9_ports_are_chosen_at_random() {
    let mut world = World::new(|_| {});
    let ports: Vec<u16> = (0..100)
        .map(|i| world.map_udp(end(A, 5000 + 2 * i), end(R, 1)).port)
        .collect();
    assert!(!ports.is_sorted());
    let near = ports.windows(2).filter(|w| w[0].abs_diff(w[1]) < 100);
    assert!(near.count() < 10, "{ports:?}");
    let mut other = World::new(|c| c.seed = 2);
    assert_ne!(other.map_udp(end(A, 5000), end(R, 1)).port, ports[0]);
}

#[test]
fn ports_are_kept_where_that_is_asked_for_and_free() {
    let mut world = World::new(|c| c.preserve_ports = true);
    assert_eq!(world.map_udp(end(A, 5000), end(R, 1)), end(X, 5000));
    assert_ne!(world.map_udp(end(B, 5000), end(R, 1)), end(X, 5000));
}

#[test]
fn section_12_a_hairpinned_query_reaches_a_static_address_and_its_answer_comes_back() {
    let own = Ipv4Addr::new(198, 51, 100, 200);
    let mut world = World::new(|c| c.statics.push((own, B)));
    let asked = world.hairpin(echo(A, own, 8, 5)).unwrap();
    let (src, dst) = flow(&asked);
    assert_eq!((src.address, dst.address), (X, B));
    let back = world.hairpin(echo(B, X, 0, src.port)).unwrap();
    assert_eq!(flow(&back), (end(own, 5), end(A, 5)));
}
