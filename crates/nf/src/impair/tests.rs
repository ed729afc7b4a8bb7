use super::*;
use crate::Player;
use core::convert::Infallible;
use proptest::prelude::*;

const MS: u64 = 1_000_000;

/// Runs frames that go right through a link: (stamp, bytes) in, (stamp, bytes) out.
fn run(
    impairment: Impairment,
    seed: u64,
    frames: &[(u64, Vec<u8>)],
) -> (Vec<(u64, Vec<u8>)>, Impair) {
    let impair = Impair::new(Impairment::default(), impairment, seed);
    let mut player = Player::new(impair);
    let mut seen = Vec::new();
    let mut sink = |_: &mut Impair, to, frame: &Frame| {
        assert_eq!(to, Port::Right);
        seen.push((frame.at.as_nanos(), frame.bytes.clone()));
        Ok::<_, Infallible>(())
    };
    for (at, bytes) in frames {
        let frame = Frame::new(Instant::from_nanos(*at), bytes);
        player.frame(Port::Left, frame, &mut sink).unwrap();
    }
    player.finish(&mut sink).unwrap();
    let impair = core::mem::replace(
        player.function(),
        Impair::new(Impairment::default(), Impairment::default(), 0),
    );
    (seen, impair)
}

/// Frames of 100 bytes, one a millisecond, that begin with their number.
fn numbered(count: u16) -> Vec<(u64, Vec<u8>)> {
    (0..count)
        .map(|i| {
            let mut bytes = alloc::vec![0; 100];
            bytes[..2].copy_from_slice(&i.to_be_bytes());
            (u64::from(i) * MS, bytes)
        })
        .collect()
}

fn counter(impair: &Impair, name: &str) -> u64 {
    let counters = impair.counters();
    counters.iter().find(|c| c.name == name).unwrap().value
}

#[test]
fn a_delay_moves_every_frame_by_as_much() {
    let delay = Duration::from_millis(20);
    let (seen, _) = run(
        Impairment {
            delay,
            ..Impairment::default()
        },
        1,
        &numbered(50),
    );
    let expected: Vec<_> = numbered(50)
        .into_iter()
        .map(|(at, b)| (at + 20 * MS, b))
        .collect();
    assert_eq!(seen, expected);
}

#[test]
fn nothing_happens_by_default_and_no_time_passes() {
    assert_eq!(run(Impairment::default(), 1, &numbered(50)).0, numbered(50));
}

#[test]
fn a_rate_spaces_frames_and_a_full_queue_drops_its_tail() {
    // 100 bytes at 100 kbit/s take 8 ms, and they come each millisecond.
    let impairment = Impairment {
        rate: Some(100_000),
        limit: 5,
        ..Impairment::default()
    };
    let (seen, impair) = run(impairment, 1, &numbered(40));
    let gaps: Vec<_> = seen.windows(2).map(|w| w[1].0 - w[0].0).collect();
    assert!(gaps.iter().all(|gap| *gap == 8 * MS), "{gaps:?}");
    assert_eq!(seen[0].0, 8 * MS);
    // Until 40 ms four frames have left, five are held.
    assert_eq!(seen.len(), 9);
    assert_eq!(counter(&impair, "left_overflowed_frames"), 31);
}

#[test]
fn jitter_reorders_unless_order_is_kept() {
    let mut impairment = Impairment {
        delay: Duration::from_millis(20),
        jitter: Duration::from_millis(10),
        ..Impairment::default()
    };
    let numbers = |seen: Vec<(u64, Vec<u8>)>| -> Vec<[u8; 2]> {
        seen.iter().map(|(_, bytes)| [bytes[0], bytes[1]]).collect()
    };
    let (seen, _) = run(impairment, 1, &numbered(200));
    assert!(seen.is_sorted_by_key(|(at, _)| *at));
    assert!(!numbers(seen).is_sorted());
    impairment.keep_order = true;
    let (seen, _) = run(impairment, 1, &numbered(200));
    assert!(numbers(seen).is_sorted());
}

#[test]
fn a_reordered_frame_is_not_delayed() {
    let impairment = Impairment {
        delay: Duration::from_millis(5),
        reorder: Probability::ratio(1, 4),
        ..Impairment::default()
    };
    let (seen, impair) = run(impairment, 1, &numbered(400));
    let at_once = seen
        .iter()
        .filter(|(at, b)| *at == u64::from(u16::from_be_bytes([b[0], b[1]])) * MS)
        .count();
    assert_eq!(at_once as u64, counter(&impair, "left_reordered_frames"));
    assert!((60..140).contains(&at_once), "{at_once}");
}

#[test]
fn a_corrupted_frame_differs_by_one_bit() {
    let impairment = Impairment {
        corrupt: Probability::ALWAYS,
        ..Impairment::default()
    };
    let (seen, _) = run(impairment, 1, &numbered(50));
    for ((_, before), (_, after)) in numbered(50).iter().zip(&seen) {
        let differ: u32 = before
            .iter()
            .zip(after)
            .map(|(a, b)| (a ^ b).count_ones())
            .sum();
        assert_eq!(differ, 1);
    }
}

#[test]
fn the_directions_do_not_share_chances() {
    let lossy = Impairment {
        loss: Loss::Random(Probability::ratio(1, 2)),
        ..Impairment::default()
    };
    let sent = |both: bool| {
        let mut player = Player::new(Impair::new(lossy, lossy, 9));
        let mut right = Vec::new();
        for (at, bytes) in numbered(100) {
            for port in [Port::Right, Port::Left] {
                if both || port == Port::Left {
                    let frame = Frame::new(Instant::from_nanos(at), &bytes);
                    let keep = |_: &mut Impair, to: Port, f: &Frame| {
                        right.extend((to == Port::Right).then(|| f.clone()));
                        Ok::<_, Infallible>(())
                    };
                    player.frame(port, frame, keep).unwrap();
                }
            }
        }
        right
    };
    assert_eq!(sent(true), sent(false));
}

prop_compose! {
    fn impairment()(
        delay in 0..50u64, jitter in 0..50u64, kind in 0..4u8, keep_order: bool, ge: bool,
        loss in 0..60u64, duplicate in 0..60u64, corrupt in 0..60u64, reorder in 0..60u64,
        rate in proptest::option::of(1_000..10_000_000u64), limit in 0..40usize,
    ) -> Impairment {
        let percent = |p| Probability::ratio(p, 100);
        Impairment {
            delay: Duration::from_millis(delay),
            jitter: Duration::from_millis(jitter),
            distribution: match kind {
                0 => Distribution::Uniform,
                1 => Distribution::Normal,
                2 => Distribution::Pareto,
                _ => Distribution::ParetoNormal,
            },
            keep_order,
            loss: if ge {
                Loss::GilbertElliott {
                    fail: percent(loss), recover: percent(30), in_bad: percent(90), in_good: percent(1),
                }
            } else {
                Loss::Random(percent(loss))
            },
            duplicate: percent(duplicate),
            corrupt: percent(corrupt),
            reorder: percent(reorder),
            rate,
            limit,
        }
    }
}

proptest! {
    #[test]
    fn every_frame_is_sent_or_counted_as_lost(impairment in impairment(), seed: u64, count in 0..200u16) {
        let (seen, impair) = run(impairment, seed, &numbered(count));
        let value = |name| counter(&impair, name);
        prop_assert_eq!(value("left_in_frames"), u64::from(count));
        prop_assert_eq!(value("left_sent_on_frames"), seen.len() as u64);
        prop_assert_eq!(value("left_held_frames"), 0);
        prop_assert_eq!(
            u64::from(count) + value("left_duplicated_frames"),
            value("left_lost_frames") + value("left_overflowed_frames") + value("left_sent_on_frames")
        );
        prop_assert!(seen.is_sorted_by_key(|(at, _)| *at));
    }

    #[test]
    fn nothing_comes_out_that_did_not_go_in(impairment in impairment(), seed: u64) {
        let impairment = Impairment { corrupt: Probability::NEVER, duplicate: Probability::NEVER, ..impairment };
        let (seen, _) = run(impairment, seed, &numbered(100));
        let mut came = alloc::collections::BTreeSet::new();
        for (at, bytes) in seen {
            let number = u16::from_be_bytes([bytes[0], bytes[1]]);
            prop_assert!(at >= u64::from(number) * MS);
            prop_assert!(number < 100 && came.insert(number));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes(impairment in impairment(), seed: u64) {
        prop_assert_eq!(run(impairment, seed, &numbered(60)).0, run(impairment, seed, &numbered(60)).0);
    }

    #[test]
    fn a_superframe_is_impaired_as_the_packets_it_stands_for(vnet in proptest::array::uniform10(any::<u8>()), bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let mut player = Player::new(Impair::new(Impairment::default(), Impairment::default(), 1));
        let mut frame = Frame::new(Instant::ZERO, &bytes);
        frame.offload = plumb_wire::frame::Offload::parse(&vnet).unwrap_or_default();
        player.frame(Port::Left, frame, |_, _, frame| {
            assert!(frame.offload.is_complete());
            Ok::<_, Infallible>(())
        }).unwrap();
    }
}
