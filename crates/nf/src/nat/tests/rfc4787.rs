//! UDP (RFC 4787).

use super::*;

#[test]
fn req_1_the_mapping_does_not_depend_on_the_other_end() {
    let mut world = World::new(|_| {});
    let first = world.map_udp(end(A, 5000), end(R, 1));
    assert_eq!(world.map_udp(end(A, 5000), end(R, 2)), first);
    assert_eq!(world.map_udp(end(A, 5000), end(S, 1)), first);
    assert_ne!(world.map_udp(end(A, 5001), end(R, 1)), first);
    assert_ne!(world.map_udp(end(B, 5000), end(R, 1)), first);
}

#[test]
fn req_2_a_host_keeps_to_one_address_of_the_pool() {
    let pool: Vec<Ipv4Addr> = (1..=4).map(|i| [198, 51, 100, i].into()).collect();
    let mut world = World::new(|c| c.outside = pool.clone());
    let mut used = BTreeSet::new();
    for host in 0..40 {
        let host = Ipv4Addr::new(10, 1, 0, host);
        let address = world.map_udp(end(host, 1024), end(R, 1)).address;
        used.insert(address);
        for port in 1025..1040 {
            assert_eq!(
                world.map_udp(end(host, port), end(S, port)).address,
                address
            );
            assert_eq!(
                world
                    .map_tcp(end(host, port), end(S, port), tcp::SYN)
                    .address,
                address
            );
        }
    }
    assert_eq!(used.len(), 4);
}

#[test]
fn req_3_no_two_inside_endpoints_share_an_outside_one_and_halves_of_the_port_space_are_kept() {
    let mut world = World::new(|c| c.ports = 1000..=1123);
    let mut seen = BTreeSet::new();
    for port in 2000..2100 {
        let outside = world.map_udp(end(A, port), end(R, 1));
        assert!(outside.port >= 1024 && seen.insert(outside));
    }
    // All hundred are in use: nobody gets one of them, not even for another destination.
    assert!(world.outwards(udp(end(B, 2000), end(S, 2), b"")).is_none());
    for port in 53..77 {
        let outside = world.map_udp(end(A, port), end(R, 1));
        assert!(outside.port < 1024 && seen.insert(outside));
    }
}

#[test]
fn req_4_parity_is_kept() {
    let mut world = World::new(|_| {});
    for port in 5000..5050 {
        assert_eq!(world.map_udp(end(A, port), end(R, 1)).port % 2, port % 2);
    }
}

#[test]
fn req_5_a_mapping_lives_five_minutes() {
    let mut world = World::new(|_| {});
    let outside = world.map_udp(end(A, 5000), end(R, 1));
    world.wait(299);
    assert!(world.inwards(udp(end(R, 1), outside, b"")).is_some());
    world.wait(2);
    assert!(world.inwards(udp(end(R, 1), outside, b"")).is_none());
    assert_eq!(world.counter("mappings"), 0);
}

#[test]
fn req_6_packets_outwards_keep_a_mapping_and_packets_inwards_do_not() {
    let mut world = World::new(|_| {});
    let outside = world.map_udp(end(A, 5000), end(R, 1));
    for _ in 0..5 {
        world.wait(200);
        assert_eq!(world.map_udp(end(A, 5000), end(R, 1)), outside);
    }
    world.wait(200);
    assert!(world.inwards(udp(end(R, 1), outside, b"")).is_some());
    world.wait(101);
    assert!(world.inwards(udp(end(R, 1), outside, b"")).is_none());
}

/// Who may write to a mapping that has written to R:1: R:1, R:2, S:1.
fn admitted(filtering: Filtering) -> [bool; 3] {
    let mut world = World::new(|c| c.filtering = filtering);
    let outside = world.map_udp(end(A, 5000), end(R, 1));
    [end(R, 1), end(R, 2), end(S, 1)]
        .map(|remote| world.inwards(udp(remote, outside, b"")).is_some())
}

#[test]
fn req_8_filtering_is_endpoint_independent_or_address_dependent_or_stricter_as_chosen() {
    assert_eq!(admitted(Filtering::EndpointIndependent), [true, true, true]);
    assert_eq!(admitted(Filtering::AddressDependent), [true, true, false]);
    assert_eq!(
        admitted(Filtering::AddressAndPortDependent),
        [true, false, false]
    );
}

#[test]
fn req_9_hairpinned_packets_come_from_the_outside_endpoint() {
    for filtering in [
        Filtering::EndpointIndependent,
        Filtering::AddressAndPortDependent,
    ] {
        let mut world = World::new(|c| c.filtering = filtering);
        let a = world.map_udp(end(A, 5000), end(R, 1));
        let b = world.map_udp(end(B, 6000), end(R, 1));
        let came = world.hairpin(udp(end(A, 5000), b, b"hi"));
        if filtering == Filtering::AddressAndPortDependent {
            assert!(came.is_none(), "filtering holds for hairpins too");
            // Both write, as peers do that punch holes.
            let came = world.hairpin(udp(end(B, 6000), a, b"hi")).unwrap();
            assert_eq!(flow(&came), (b, end(A, 5000)));
            let came = world.hairpin(udp(end(A, 5000), b, b"hi")).unwrap();
            assert_eq!(flow(&came), (a, end(B, 6000)));
        } else {
            let came = came.unwrap();
            assert_eq!(flow(&came), (a, end(B, 6000)));
            assert_eq!(came.bytes[..6], mac_of(B));
        }
    }
}

#[test]
fn req_10_payloads_are_left_alone() {
    let mut world = World::new(|_| {});
    let text = b"INVITE sip:b@10.0.0.2 SIP/2.0\r\nContact: <sip:a@10.0.0.2:5060>\r\n";
    let left = world
        .outwards(udp(end(A, 5060), end(R, 5060), text))
        .unwrap();
    assert_eq!(&left.bytes[42..], text);
}

#[test]
fn req_11_a_packet_is_translated_as_the_first_of_its_endpoint_whatever_the_load() {
    let mut world = World::new(|_| {});
    let outside = world.map_udp(end(A, 5000), end(R, 1));
    for port in 6000..8000 {
        world.map_udp(end(B, port), end(R, port));
    }
    assert_eq!(world.map_udp(end(A, 5000), end(S, 9)), outside);
}

#[test]
fn req_12_an_icmp_error_does_not_end_a_mapping() {
    let mut world = World::new(|_| {});
    let outside = world.map_udp(end(A, 5000), end(R, 1));
    for what in [[3, 1], [3, 3], [11, 0], [3, 13]] {
        let about = udp(outside, end(R, 1), b"x");
        assert!(world.inwards(error(S, X, what, &about, 28)).is_some());
        assert!(world.inwards(udp(end(R, 1), outside, b"")).is_some());
    }
}

#[test]
fn req_13_a_packet_that_is_too_big_is_heard_of() {
    let mut world = World::new(|_| {});
    let outside = world.map_udp(end(A, 5000), end(R, 1));
    let about = udp(outside, end(R, 1), &[7; 1400]);
    let came = world.inwards(error(S, X, [3, 4], &about, 28)).unwrap();
    assert_eq!(came.bytes[34..36], [3, 4]);
    assert_eq!(get(&came.bytes, 40), 0x0500, "the MTU stays");
    assert_eq!(quote_flow(quote(&came)), (end(A, 5000), end(R, 1)));
}

/// A UDP packet of 64 bytes of data in three fragments.
fn fragments(src: Endpoint, dst: Endpoint) -> [Frame; 3] {
    let whole = udp(src, dst, &[5; 64]);
    [(0, 24, true), (3, 24, true), (6, 24, false)].map(|(offset, len, more)| {
        let from = 34 + usize::from(offset) * 8;
        let mut frame = ip(
            src.address,
            dst.address,
            protocol::UDP,
            &whole.bytes[from..from + len],
        );
        let flags: u16 = offset | if more { ipv4::MORE_FRAGMENTS } else { 0 };
        put(&mut frame.bytes, 20, flags);
        put(&mut frame.bytes, 24, 0);
        let sum = checksum(&frame.bytes[14..34]);
        put(&mut frame.bytes, 24, sum);
        frame
    })
}

/// Puts the fragments together again.
fn reassemble(mut frames: Vec<Frame>) -> Frame {
    frames.sort_by_key(|frame| get(&frame.bytes, 20) & 0x1fff);
    let mut data = Vec::new();
    for frame in &frames {
        assert_eq!(data.len(), usize::from(get(&frame.bytes, 20) & 0x1fff) * 8);
        data.extend(&frame.bytes[34..]);
    }
    let (src, dst) = flow(&frames[0]);
    let whole = ip(src.address, dst.address, protocol::UDP, &data);
    assert_checksums(&whole);
    whole
}

#[test]
fn req_14_fragments_are_translated_in_any_order_both_ways() {
    let mut world = World::new(|_| {});
    let outside = world.map_udp(end(A, 5000), end(R, 1));
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    for (i, order) in orders.into_iter().enumerate() {
        // A packet's identification is its own.
        let ident = 100 + u16::try_from(i).unwrap();
        let mut pass = |from, src, dst| {
            let all = fragments(src, dst);
            let mut came = Vec::new();
            for n in order {
                let mut frame = all[n].clone();
                put(&mut frame.bytes, 18, ident);
                put(&mut frame.bytes, 24, 0);
                let sum = checksum(&frame.bytes[14..34]);
                put(&mut frame.bytes, 24, sum);
                for (to, frame) in world.put(from, frame) {
                    assert_eq!(to, from.opposite());
                    came.push(frame);
                }
            }
            assert_eq!(came.len(), 3, "{order:?}");
            reassemble(came)
        };
        let left = pass(Port::Left, end(A, 5000), end(R, 1));
        assert_eq!(flow(&left), (outside, end(R, 1)));
        let came = pass(Port::Right, end(R, 1), outside);
        assert_eq!(flow(&came), (end(R, 1), end(A, 5000)));
    }
}

#[test]
fn req_14_fragments_whose_first_never_comes_are_dropped_and_bounded() {
    let mut world = World::new(|_| {});
    for i in 0..50_000u32 {
        let src = Ipv4Addr::from_bits(0x0a01_0000 + i);
        let [_, second, _] = fragments(end(src, 1), end(R, 2));
        assert!(world.put(Port::Left, second).is_empty());
    }
    assert!(world.counter("overflowed_fragment_frames") >= 45_000);
    world.wait(31);
    assert_eq!(
        world.counter("overflowed_fragment_frames") + world.counter("timed_out_fragment_frames"),
        50_000
    );
    let [first, second, _] = fragments(end(A, 1), end(R, 2));
    assert!(world.outwards(first).is_some() && world.outwards(second).is_some());
}

#[test]
fn a_udp_packet_without_a_checksum_keeps_none() {
    let mut world = World::new(|_| {});
    let mut frame = udp(end(A, 5000), end(R, 1), b"x");
    put(&mut frame.bytes, 40, 0);
    assert_eq!(get(&world.outwards(frame).unwrap().bytes, 40), 0);
}
