//! ICMP (RFC 5508).

use plumb_wire::tcp::SYN;

use super::*;

#[test]
fn req_1_queries_pass_and_the_identifier_does_not_depend_on_the_other_end() {
    let mut world = World::new(|_| {});
    let left = world.outwards(echo(A, R, 8, 5)).unwrap();
    let ident = flow(&left).0.port;
    assert_eq!(
        flow(&world.outwards(echo(A, S, 8, 5)).unwrap()).0,
        end(X, ident)
    );
    assert_ne!(
        flow(&world.outwards(echo(B, R, 8, 5)).unwrap()).0,
        end(X, ident)
    );
    let back = world.inwards(echo(R, X, 0, ident)).unwrap();
    assert_eq!(flow(&back), (end(R, 5), end(A, 5)));
    assert!(
        world
            .inwards(echo(Ipv4Addr::new(192, 0, 2, 1), X, 0, ident))
            .is_none()
    );
    assert!(world.inwards(echo(R, X, 0, ident ^ 1)).is_none());
    // Timestamps are queries too.
    assert!(world.outwards(echo(A, R, 13, 5)).is_some());
}

#[test]
fn req_2_a_query_has_sixty_seconds() {
    let mut world = World::new(|_| {});
    let ident = flow(&world.outwards(echo(A, R, 8, 5)).unwrap()).0.port;
    world.wait(59);
    assert!(world.inwards(echo(R, X, 0, ident)).is_some());
    world.wait(2);
    assert!(world.inwards(echo(R, X, 0, ident)).is_none());
}

#[test]
fn req_3_an_error_with_a_wrong_checksum_is_dropped() {
    let mut world = World::new(|_| {});
    let outside = world.map_udp(end(A, 5000), end(R, 1));
    let right = error(S, X, [3, 1], &udp(outside, end(R, 1), b"xy"), 30);
    let mut wrong = right.clone();
    wrong.bytes[36] ^= 1;
    assert!(world.inwards(wrong).is_none());
    assert!(world.inwards(right).is_some());
}

#[test]
fn req_3a_an_error_that_quotes_a_damaged_header_is_dropped() {
    let mut world = World::new(|_| {});
    let outside = world.map_udp(end(A, 5000), end(R, 1));
    let mut about = udp(outside, end(R, 1), b"xy");
    about.bytes[22] = 1;
    assert!(world.inwards(error(S, X, [11, 0], &about, 28)).is_none());
}

#[test]
fn req_3b_options_of_the_quoted_header_are_passed_over() {
    let mut world = World::new(|_| {});
    let outside = world.map_udp(end(A, 5000), end(R, 1));
    let mut about = udp(outside, end(R, 1), b"xy");
    about.bytes.splice(34..34, [1, 1, 1, 0]);
    about.bytes[14] = 0x46;
    put(&mut about.bytes, 24, 0);
    let sum = checksum(&about.bytes[14..38]);
    put(&mut about.bytes, 24, sum);
    let came = world.inwards(error(S, X, [11, 0], &about, 32)).unwrap();
    assert_eq!(quote_flow(quote(&came)), (end(A, 5000), end(R, 1)));
    assert_eq!(checksum(&quote(&came)[..24]), 0);
}

#[test]
fn req_3c_the_quoted_transport_checksum_is_not_judged() {
    let mut world = World::new(|_| {});
    let outside = world.map_udp(end(A, 5000), end(R, 1));
    let mut about = udp(outside, end(R, 1), b"xy");
    about.bytes[41] ^= 0x55;
    assert!(world.inwards(error(S, X, [11, 0], &about, 28)).is_some());
}

#[test]
fn req_3d_extensions_behind_the_quote_are_left_alone() {
    let mut world = World::new(|_| {});
    let outside = world.map_udp(end(A, 5000), end(R, 1));
    let about = udp(outside, end(R, 1), &[0; 100]);
    let mut frame = error(S, X, [11, 0], &about, 128);
    let extension = [0x20, 0, 0, 0, 0, 8, 1, 1, 0, 1, 0x21, 1];
    let mut payload = frame.bytes.split_off(34);
    payload[5] = 32;
    payload.extend(extension);
    put(&mut payload, 2, 0);
    let sum = checksum(&payload);
    put(&mut payload, 2, sum);
    let came = world.inwards(ip(S, X, protocol::ICMP, &payload)).unwrap();
    assert!(came.bytes.ends_with(&extension));
    // The quoted packet is whole: its checksums must be right again.
    let about = ip(A, R, protocol::UDP, &quote(&came)[20..128]);
    assert_checksums(&about);
}

#[test]
fn req_4_an_error_from_outside_reaches_who_sent_with_what_it_sent() {
    let mut world = World::new(|_| {});
    let sent = [
        udp(end(A, 5000), end(R, 1), b"some payload"),
        tcp(end(A, 5000), end(R, 1), SYN),
        echo(A, R, 8, 5),
    ];
    for original in sent {
        let left = world.outwards(original.clone()).unwrap();
        for len in [28, 36, 500] {
            for what in [[3, 1], [3, 4], [11, 0], [12, 0]] {
                let came = world.inwards(error(S, X, what, &left, len)).unwrap();
                assert_eq!(came.bytes[34..36], what);
                assert_eq!((flow(&came).0.address, flow(&came).1.address), (S, A));
                let whole = &original.bytes[14..];
                assert_eq!(quote(&came), &whole[..len.min(whole.len())]);
                assert_eq!(came.bytes[..6], mac_of(A));
            }
        }
    }
    // Without a mapping, or to another address than the quoted source: dropped.
    let stranger = udp(end(X, 1), end(R, 1), b"");
    assert!(world.inwards(error(S, X, [3, 1], &stranger, 28)).is_none());
    assert_eq!(
        world.counter("dropped_icmp_error_without_mapping_frames"),
        1
    );
}

#[test]
fn req_5_an_error_from_inside_comes_from_the_outside_address_about_the_outside_endpoint() {
    let mut world = World::new(|c| c.filtering = Filtering::EndpointIndependent);
    let outside = world.map_udp(end(A, 5000), end(R, 1));
    let original = udp(end(R, 1), outside, b"to a port that is closed now");
    let came = world.inwards(original.clone()).unwrap();
    // From the host itself, and from a router inside.
    for src in [A, B] {
        let left = world.outwards(error(src, R, [3, 3], &came, 500)).unwrap();
        assert_eq!((flow(&left).0.address, flow(&left).1.address), (X, R));
        assert_eq!(left.bytes[34..36], [3, 3]);
        assert_eq!(quote(&left), &original.bytes[14..]);
    }
    let stranger = udp(end(R, 1), end(B, 9), b"");
    assert!(world.outwards(error(B, R, [3, 3], &stranger, 28)).is_none());
}

#[test]
fn req_6_an_error_neither_keeps_nor_ends_a_query() {
    let mut world = World::new(|_| {});
    let left = world.outwards(echo(A, R, 8, 5)).unwrap();
    world.wait(50);
    assert!(world.inwards(error(S, X, [11, 0], &left, 28)).is_some());
    world.wait(9);
    assert!(world.inwards(error(S, X, [11, 0], &left, 28)).is_some());
    world.wait(2);
    assert!(world.inwards(error(S, X, [11, 0], &left, 28)).is_none());
}

#[test]
fn req_7_errors_are_hairpinned() {
    let mut world = World::new(|c| c.filtering = Filtering::EndpointIndependent);
    let b = world.map_udp(end(B, 6000), end(R, 1));
    let original = udp(end(A, 5000), b, b"hello");
    let came = world.hairpin(original.clone()).unwrap();
    let a = flow(&came).0;
    let back = world
        .hairpin(error(B, a.address, [3, 3], &came, 500))
        .unwrap();
    assert_eq!((flow(&back).0.address, flow(&back).1.address), (X, A));
    assert_eq!(quote(&back), &original.bytes[14..]);
}

#[test]
fn req_8_who_gets_no_mapping_is_told() {
    let mut world = World::new(|c| c.per_host = 1);
    world.map_udp(end(A, 5000), end(R, 1));
    let refused = udp(end(A, 5001), end(R, 1), b"x");
    let answer = world.hairpin(refused.clone()).unwrap();
    assert_eq!(answer.bytes[34..36], [3, 13]);
    assert_eq!(flow(&answer).1.address, A);
    assert_eq!(quote(&answer), &refused.bytes[14..]);
}

#[test]
fn req_11_redirects_stay_on_their_side() {
    let mut world = World::new(|_| {});
    let left = world.outwards(udp(end(A, 5000), end(R, 1), b"x")).unwrap();
    assert!(world.inwards(error(S, X, [5, 1], &left, 28)).is_none());
}
