//! What holds for all packets.

use proptest::prelude::*;

use super::*;

prop_compose! {
    fn packet()(kind in 0..3u8, host in 1..5u8, port in 1..6u16, remote in 1..4u8, remote_port in 1..4u16,
                data in proptest::collection::vec(any::<u8>(), 0..40)) -> Frame {
        let (src, dst) = (Ipv4Addr::new(10, 0, 0, host), Ipv4Addr::new(203, 0, 113, remote));
        match kind {
            0 => udp(end(src, port), end(dst, remote_port), &data),
            1 => tcp(end(src, port), end(dst, remote_port), tcp::SYN),
            _ => echo(src, dst, 8, port),
        }
    }
}

/// The answer to a packet: ends exchanged, and an echo reply for a request.
fn answer(frame: &Frame) -> Frame {
    let (src, dst) = flow(frame);
    let packet = Packet::parse(&frame.bytes[14..]).unwrap();
    match packet.protocol {
        protocol::UDP => udp(dst, src, &packet.transport[8..]),
        protocol::TCP => tcp(dst, src, tcp::SYN | tcp::ACK),
        _ => echo(dst.address, src.address, 0, src.port),
    }
}

proptest! {
    #[test]
    fn an_answer_to_what_left_comes_back_to_who_sent(packets in proptest::collection::vec(packet(), 1..60)) {
        let mut world = World::new(|_| {});
        let mut left = Vec::new();
        for original in packets {
            let sent = world.outwards(original.clone()).unwrap();
            // Only the source and the checksums differ.
            let mut undone = sent.clone();
            for range in [24..26, 26..30] {
                undone.bytes[range.clone()].copy_from_slice(&original.bytes[range]);
            }
            let view = View::parse(&undone.bytes, 14).unwrap();
            let (port, sum) = match view.protocol { protocol::UDP => (0, 6), protocol::TCP => (0, 16), _ => (4, 2) };
            for at in [34 + port, 34 + sum] {
                let word = get(&original.bytes, at);
                put(&mut undone.bytes, at, word);
            }
            prop_assert_eq!(&undone, &original);
            left.push((original, sent));
        }
        for (original, sent) in left {
            let came = world.inwards(answer(&sent)).unwrap();
            prop_assert_eq!(flow(&came), flow(&answer(&original)));
        }
    }

    #[test]
    fn outside_endpoints_tell_inside_endpoints_apart(packets in proptest::collection::vec(packet(), 1..100)) {
        let mut world = World::new(|_| {});
        let mut known = BTreeMap::new();
        for original in packets {
            let number = original.bytes[23];
            let sent = world.outwards(original.clone()).unwrap();
            let (inside, outside) = (flow(&original).0, flow(&sent).0);
            prop_assert_eq!(*known.entry((number, outside)).or_insert(inside), inside);
        }
        let inside: BTreeSet<_> = known.iter().map(|((number, _), inside)| (number, inside)).collect();
        prop_assert_eq!(inside.len(), known.len());
    }

    #[test]
    fn the_same_frames_give_the_same_bytes(packets in proptest::collection::vec(packet(), 1..40), seed: u64) {
        let run = || {
            let mut world = World::new(|c| c.seed = seed);
            packets.iter().map(|frame| world.outwards(frame.clone())).collect::<Vec<_>>()
        };
        prop_assert_eq!(run(), run());
    }

    #[test]
    fn no_frame_panics_and_nothing_inside_is_shown_outside(
        frames in proptest::collection::vec((any::<bool>(), packet(), proptest::collection::vec((0..90usize, any::<u8>()), 0..4), 0..100usize), 0..40),
        decrement_ttl: bool,
    ) {
        let mut nat = Nat::new(Config {
            outside: vec![X],
            filtering: Filtering::EndpointIndependent,
            decrement_ttl,
            ..Config::default()
        }).unwrap();
        let mut out = Output::default();
        for (right, mut frame, changes, len) in frames {
            for (at, value) in changes {
                if let Some(byte) = frame.bytes.get_mut(at) {
                    *byte = value;
                }
            }
            // Most changes break the header's checksum, and so would be noticed too early.
            if frame.bytes[14] == 0x45 {
                put(&mut frame.bytes, 24, 0);
                let sum = checksum(&frame.bytes[14..34]);
                put(&mut frame.bytes, 24, sum);
            }
            if len < frame.bytes.len() / 2 {
                frame.bytes.truncate(len);
            }
            let from = if right { Port::Right } else { Port::Left };
            nat.handle_frames(from, &mut vec![frame], Instant::ZERO, &mut out);
            for (to, frame) in out.sent().drain(..) {
                if to == Port::Right && frame.bytes[12..14] == [8, 0] {
                    prop_assert_eq!(&frame.bytes[26..30], &X.octets());
                }
            }
        }
    }
}
