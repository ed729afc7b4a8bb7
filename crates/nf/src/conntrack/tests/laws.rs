//! What holds for all packets.

use proptest::prelude::*;

use super::*;
use crate::offload::put;
use crate::testing::{icmp, tcp, udp};

/// One of few ends, so that packets meet.
fn place() -> impl Strategy<Value = SocketAddr> {
    (any::<bool>(), 0..3u8, 1..3u16).prop_map(|(six, host, port)| {
        if six {
            SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(host)], port))
        } else {
            SocketAddr::from(([10, 0, 0, host], port))
        }
    })
}

fn any_packet() -> impl Strategy<Value = Frame> {
    let ends = (place(), place());
    let numbers = (
        0..6u8,
        0..64u8,
        0..2000u32,
        0..2000u32,
        0..1500u16,
        0..60usize,
    );
    let options = prop_oneof![
        Just(Vec::new()),
        Just(OPTIONS.to_vec()),
        proptest::collection::vec(any::<u8>(), 12..=12)
    ];
    (ends, numbers, options).prop_map(
        |((src, dst), (what, flags, seq, ack, window, payload), options)| {
            let dst = if src.is_ipv4() == dst.is_ipv4() {
                dst
            } else {
                src
            };
            let segment = Segment {
                seq,
                ack,
                flags,
                window,
                options,
                payload,
            };
            let data = vec![1; payload];
            match what {
                0 => udp(src, dst, &data),
                1 => icmp(src.ip(), dst.ip(), (flags % 20, 0), seq, &data),
                2 => testing::error(dst.ip(), &tcp(src, dst, &segment), (3, 1), payload),
                _ => tcp(src, dst, &segment),
            }
        },
    )
}

proptest! {
    #[test]
    fn the_table_is_never_above_its_limit_and_time_empties_it(
        packets in proptest::collection::vec((any_packet(), 0..4000u64, any::<bool>()), 0..120), max in 1..12u32, per_source in 0..4u32,
    ) {
        let mut wire = Wire::new(Config { max_entries: max, per_source, events: true, ..Config::default() });
        let mut open = alloc::collections::BTreeSet::new();
        for (frame, millis, drop) in packets {
            wire.wait(Duration::from_millis(millis));
            let mut tracked = wire.look(&frame);
            prop_assert_eq!(tracked.state == State::Invalid, tracked.invalid.is_some());
            if !drop && tracked.state != State::Invalid {
                let confirmed = wire.conntrack.confirm(&mut tracked, wire.now);
                prop_assert!(confirmed.is_err() || tracked.id.is_some() || !tracked.state.has_connection()
                    || tracked.status.contains(Status::DYING));
            }
            prop_assert!(wire.conntrack.len() <= usize::try_from(max).unwrap());
            prop_assert_eq!(wire.conntrack.iter().count(), wire.conntrack.len());
            prop_assert_eq!(wire.conntrack.is_empty(), wire.conntrack.poll_timeout().is_none());
            if per_source > 0 {
                let most = usize::try_from(per_source).unwrap();
                for one in wire.conntrack.iter() {
                    let same = |c: &Connection| c.original.src == one.original.src;
                    prop_assert!(wire.conntrack.iter().filter(same).count() <= most);
                }
            }
        }
        wire.wait(secs(500_000));
        prop_assert!(wire.conntrack.is_empty());
        prop_assert_eq!(wire.conntrack.poll_timeout(), None);
        while let Some(event) = wire.conntrack.poll_event() {
            match event.kind {
                EventKind::New => prop_assert!(open.insert(event.connection.id)),
                EventKind::Destroyed(_) => prop_assert!(open.remove(&event.connection.id)),
            }
        }
        prop_assert!(open.is_empty());
    }

    #[test]
    fn the_same_packets_at_the_same_times_give_the_same_results(
        packets in proptest::collection::vec((any_packet(), 0..4000u64), 0..60), seeds: (u64, u64),
    ) {
        let run = |seed| {
            let config = Config { max_entries: 5, events: true, ..Config::default() };
            let mut wire = Wire { conntrack: Conntrack::new(config, seed), ..Wire::new(config) };
            let mut seen: Vec<Tracked> = Vec::new();
            for (frame, millis) in &packets {
                wire.wait(Duration::from_millis(*millis));
                let mut tracked = wire.look(frame);
                let _ = wire.conntrack.confirm(&mut tracked, wire.now);
                seen.push(tracked);
            }
            let events: Vec<_> = core::iter::from_fn(|| wire.conntrack.poll_event()).collect();
            (seen, events)
        };
        // Not even the hash's key shows.
        prop_assert_eq!(run(seeds.0), run(seeds.1));
    }

    #[test]
    fn no_frame_panics(
        frames in proptest::collection::vec((any_packet(), proptest::collection::vec((0..120usize, any::<u8>()), 0..5), 0..200usize), 0..30),
    ) {
        let mut wire = Wire::new(Config { max_entries: 4, ..Config::default() });
        for (mut frame, changes, len) in frames {
            for (at, value) in changes {
                if let Some(byte) = frame.bytes.get_mut(at) {
                    *byte = value;
                }
            }
            if frame.bytes[14] == 0x45 {
                put(&mut frame.bytes, 24, 0);
                let sum = plumb_wire::checksum(&frame.bytes[14..34]);
                put(&mut frame.bytes, 24, sum);
            }
            frame.offload.checksum_verified = len % 2 == 0;
            if len < frame.bytes.len() / 2 {
                frame.bytes.truncate(len);
            }
            let mut tracked = wire.look(&frame);
            let _ = wire.conntrack.confirm(&mut tracked, wire.now);
            wire.wait(Duration::from_secs(5));
        }
    }
}
