use alloc::vec;
use core::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::testing::{cut, piece, udp};

fn end(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A datagram of each family.
fn datagrams(len: usize) -> [Frame; 2] {
    let data: Vec<u8> = (0..=255).cycle().take(len).collect();
    [
        udp(end("10.0.0.2:5000"), end("192.0.2.53:53"), &data),
        udp(end("[2001:db8::2]:5000"), end("[2001:db8:1::35]:53"), &data),
    ]
}

struct Stage {
    reassembler: Reassembler,
    now: Instant,
    out: Output,
}

impl Stage {
    fn new(config: Config) -> Self {
        Self {
            reassembler: Reassembler::new(config),
            now: Instant::from_millis(5),
            out: Output::default(),
        }
    }

    fn push(&mut self, frame: &Frame) -> Outcome {
        let packet = Dissected::new(frame);
        let frame = frame.clone();
        self.reassembler
            .push(Port::Left, &packet, frame, self.now, &mut self.out)
    }

    /// Takes pieces of which the last makes the datagram whole.
    fn whole(&mut self, pieces: &[Frame]) -> Datagram {
        let (last, others) = pieces.split_last().unwrap();
        for piece in others {
            assert!(matches!(self.push(piece), Outcome::Taken));
        }
        let Outcome::Whole(datagram) = self.push(last) else {
            panic!("something is missing");
        };
        datagram
    }

    /// Takes pieces that never make a datagram.
    fn none(&mut self, pieces: &[Frame]) {
        for piece in pieces {
            assert!(matches!(self.push(piece), Outcome::Taken));
        }
    }

    fn count(&self, name: &str) -> u64 {
        let counters = self.reassembler.counters();
        counters.iter().find(|c| c.name == name).unwrap().value
    }
}

fn bytes(frames: &[Frame]) -> Vec<&[u8]> {
    frames.iter().map(|frame| &frame.bytes[..]).collect()
}

/// The same but for what says that it was cut: identification and the checksum over it.
fn same(whole: &Frame, original: &Frame) -> bool {
    let (mut a, mut b) = (whole.bytes.clone(), original.bytes.clone());
    if a[12] == 8 {
        for bytes in [&mut a, &mut b] {
            bytes[18..20].fill(0);
            bytes[24..26].fill(0);
        }
    }
    a == b
}

#[test]
fn pieces_in_any_order_make_the_datagram_and_leave_in_order() {
    for original in datagrams(3000) {
        let pieces = cut(&original, 9, &[1400, 2800]);
        for order in [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ] {
            let mut stage = Stage::new(Config::default());
            let shuffled: Vec<_> = order.map(|i| pieces[i].clone()).into();
            let datagram = stage.whole(&shuffled);
            assert!(same(&datagram.whole, &original));
            let read = Dissected::new(&datagram.whole);
            assert_eq!((read.fault, read.ports()), (None, Some((5000, 53))));
            assert!(read.checksum_is_right(&datagram.whole));
            assert_eq!(bytes(&datagram.fragments), bytes(&pieces));
            assert_eq!(datagram.fragments[0].at, stage.now);
            assert_eq!(stage.reassembler.held(), 0);
            assert_eq!(stage.reassembler.poll_timeout(), None);
        }
    }
}

#[test]
fn what_is_no_piece_passes_at_once() {
    let mut stage = Stage::new(Config::default());
    for original in datagrams(100) {
        assert!(matches!(stage.push(&original), Outcome::Alone(frame) if frame == original));
    }
    let mut damaged = cut(&datagrams(100)[0], 9, &[48]).remove(0);
    damaged.bytes[24] ^= 1;
    assert!(
        matches!(stage.push(&damaged), Outcome::Alone(_)),
        "its header says nothing"
    );
    let mut in_part = cut(&datagrams(100)[0], 9, &[48]).remove(0);
    in_part.original_len = 2000;
    assert!(matches!(stage.push(&in_part), Outcome::Alone(_)));
    assert_eq!(stage.reassembler.held(), 0);
}

#[test]
fn pieces_of_different_datagrams_do_not_mix() {
    let original = &datagrams(100)[0];
    let of = |ident| cut(original, ident, &[48]);
    let mut stage = Stage::new(Config::default());
    stage.none(&[of(1)[0].clone(), of(2)[1].clone()]);
    let mut elsewhere = of(1)[1].clone();
    elsewhere.bytes[33] ^= 1;
    crate::testing::mend(&mut elsewhere);
    stage.none(&[elsewhere]);
    // From the other side.
    let other = of(1)[1].clone();
    let packet = Dissected::new(&other);
    let outcome = stage
        .reassembler
        .push(Port::Right, &packet, other, stage.now, &mut stage.out);
    assert!(matches!(outcome, Outcome::Taken));
    assert_eq!(stage.reassembler.held(), 4);
    stage.whole(&of(1)[1..]);
}

#[test]
fn rfc_5722_overlapping_pieces_drop_the_datagram_and_what_comes_of_it_yet() {
    for original in datagrams(200) {
        let part = |offset: usize, len: usize, more| {
            let at = original.bytes.len() - 208;
            let data = &original.bytes[at + offset..at + offset + len];
            piece(&original, 5, offset, data, more)
        };
        for overlapping in [
            // Behind, before, around and within the one at 48.
            part(88, 40, true),
            part(16, 40, true),
            part(40, 64, true),
            part(56, 8, true),
            part(48, 40, true),
        ] {
            let mut stage = Stage::new(Config::default());
            stage.none(&[part(48, 48, true), overlapping]);
            assert_eq!(stage.reassembler.held(), 0);
            stage.none(&[part(0, 48, true), part(48, 48, true), part(96, 112, false)]);
            assert_eq!(stage.count("reassembled_datagrams"), 0);
            assert_eq!(stage.count("dropped_contradictory_fragment_frames"), 5);
            stage.now = stage.now + Duration::from_secs(60);
            stage.reassembler.handle_timeout(stage.now, &mut stage.out);
            stage.whole(&[part(0, 96, true), part(96, 112, false)]);
        }
    }
}

#[test]
fn a_piece_that_comes_twice_counts_once() {
    for original in datagrams(200) {
        let pieces = cut(&original, 5, &[96]);
        let mut stage = Stage::new(Config::default());
        stage.none(&[pieces[0].clone(), pieces[0].clone()]);
        let datagram = stage.whole(&pieces[1..]);
        assert_eq!(datagram.fragments.len(), 2);
        assert_eq!(stage.count("dropped_duplicate_fragment_frames"), 1);
    }
}

#[test]
fn teardrop_and_ping_of_death_are_dropped() {
    for original in datagrams(200) {
        let mut stage = Stage::new(Config::default());
        // A second piece that ends within the first.
        stage.none(&[
            piece(&original, 1, 0, &[0; 40], true),
            piece(&original, 1, 24, &[0; 4], false),
        ]);
        // A last piece that ends above 65535.
        stage.none(&[piece(&original, 2, 65_528, &[0; 100], false)]);
        // No bytes at all.
        stage.none(&[piece(&original, 3, 8, &[], true)]);
        // Pieces that are not the last must be whole eights.
        stage.none(&[piece(&original, 4, 8, &[0; 12], true)]);
        assert_eq!(stage.reassembler.held(), 0);
        assert_eq!(stage.count("reassembled_datagrams"), 0);
    }
}

#[test]
fn pieces_that_disagree_about_the_end_are_dropped() {
    let original = &datagrams(200)[0];
    for (a, b) in [
        ((96, 24, false), (136, 24, true)),
        ((96, 24, false), (48, 24, false)),
        ((96, 24, true), (48, 8, false)),
    ] {
        let mut stage = Stage::new(Config::default());
        let of = |(at, len, more)| piece(original, 1, at, &vec![0; len], more);
        stage.none(&[of(a), of(b)]);
        assert_eq!(stage.reassembler.held(), 0, "{a:?} {b:?}");
    }
}

#[test]
fn rfc_3168_a_mark_of_congestion_does_not_go_with_pieces_that_carry_none() {
    let original = &datagrams(200)[0];
    let with = |ecn: u8, i: usize| {
        let mut frame = cut(original, 1, &[96]).remove(i);
        frame.bytes[15] = ecn;
        crate::testing::mend(&mut frame);
        frame
    };
    let mut stage = Stage::new(Config::default());
    stage.none(&[with(3, 0), with(0, 1)]);
    let mut stage = Stage::new(Config::default());
    stage.whole(&[with(2, 0), with(3, 1)]);
}

#[test]
fn what_never_becomes_whole_is_dropped_after_its_time() {
    for (original, secs) in datagrams(200).into_iter().zip([30, 60]) {
        let mut stage = Stage::new(Config::default());
        stage.none(&cut(&original, 5, &[48, 96])[..2]);
        let due = stage.now + Duration::from_secs(secs);
        assert_eq!(stage.reassembler.poll_timeout(), Some(due));
        assert_eq!(stage.reassembler.held(), 2);
        stage.reassembler.handle_timeout(due, &mut stage.out);
        assert_eq!(stage.reassembler.held(), 0);
        assert_eq!(stage.reassembler.poll_timeout(), None);
        assert_eq!(stage.count("dropped_timed_out_fragment_frames"), 2);
    }
}

#[test]
fn a_flood_of_pieces_has_a_limit_and_honest_datagrams_survive_it() {
    let config = Config {
        max_datagrams: 100,
        max_bytes: 60_000,
        ..Config::default()
    };
    let original = &datagrams(1000)[0];
    let mut stage = Stage::new(config);
    for ident in 0..1000 {
        stage.now = stage.now + Duration::from_millis(1);
        stage.none(&cut(original, ident, &[904])[..1]);
        assert!(stage.reassembler.held() <= 100);
        assert!(stage.reassembler.held_bytes <= config.max_bytes);
        if ident % 10 == 0 {
            let honest = cut(original, 10_000 + ident, &[400]);
            assert!(same(&stage.whole(&honest).whole, original));
        }
    }
    assert!(stage.count("dropped_overflowed_fragment_frames") > 800);
    let mut many = Stage::new(Config {
        max_bytes: 1 << 30,
        ..config
    });
    for ident in 0..1000 {
        many.none(&cut(original, ident, &[904])[..1]);
        assert!(many.reassembler.held() <= 100);
    }
}

#[test]
fn a_first_piece_too_short_for_its_ports_is_put_together_all_the_same() {
    // RFC 1858: alone it would be a way around rules about ports.
    let original = &crate::testing::tcp(
        end("10.0.0.2:5000"),
        end("192.0.2.1:80"),
        &crate::testing::Segment::default(),
    );
    let mut stage = Stage::new(Config::default());
    let datagram = stage.whole(&cut(original, 5, &[8]));
    assert_eq!(Dissected::new(&datagram.whole).ports(), Some((5000, 80)));
}

#[test]
fn headers_before_the_fragment_header_stay() {
    let original = datagrams(200).into_iter().nth(1).unwrap();
    let pieces: Vec<_> = cut(&original, 5, &[48])
        .into_iter()
        .map(|mut frame| {
            // Hop-by-hop options, then the fragment header.
            frame.bytes[20] = 0;
            frame.bytes.splice(54..54, [44, 0, 1, 4, 0, 0, 0, 0]);
            frame.bytes[19] += 8;
            frame
        })
        .collect();
    let whole = Stage::new(Config::default()).whole(&pieces).whole;
    let read = Dissected::new(&whole);
    assert_eq!((read.fault, read.ports()), (None, Some((5000, 53))));
    assert_eq!(whole.bytes.len(), original.bytes.len() + 8);
    assert!(read.checksum_is_right(&whole));
}

proptest! {
    #[test]
    fn any_cut_in_any_order_makes_the_datagram(
        len in 9..3000usize, mut edges in proptest::collection::vec(1..375usize, 1..12), seed: u64, six: bool,
    ) {
        let original = &datagrams(len)[usize::from(six)];
        edges.retain(|edge| edge * 8 < len + 8);
        edges.sort_unstable();
        edges.dedup();
        prop_assume!(!edges.is_empty());
        let edges: Vec<_> = edges.iter().map(|edge| edge * 8).collect();
        let pieces = cut(original, 5, &edges);
        let mut shuffled = pieces.clone();
        let mut random = plumb_wire::SplitMix64::new(seed);
        for i in (1..shuffled.len()).rev() {
            let j = usize::try_from(random.below(u64::try_from(i).unwrap() + 1)).unwrap();
            shuffled.swap(i, j);
        }
        let mut stage = Stage::new(Config::default());
        let datagram = stage.whole(&shuffled);
        prop_assert!(same(&datagram.whole, original));
        prop_assert_eq!(bytes(&datagram.fragments), bytes(&pieces));
        prop_assert_eq!(stage.reassembler.held_bytes, 0);
    }

    #[test]
    fn hostile_pieces_neither_panic_nor_stay(
        pieces in proptest::collection::vec((0..3u32, 0..30usize, 0..12usize, any::<bool>(), any::<bool>()), 0..80), max in 1..6usize,
    ) {
        let originals = datagrams(100);
        let mut stage = Stage::new(Config { max_datagrams: max, max_bytes: 4000, ..Config::default() });
        for (ident, offset, len, more, six) in pieces {
            stage.now = stage.now + Duration::from_millis(700);
            let frame = piece(&originals[usize::from(six)], ident, offset * 8, &vec![7; len * 4], more);
            if let Outcome::Whole(datagram) = stage.push(&frame) {
                let read = Dissected::new(&datagram.whole);
                prop_assert!(!matches!(read.fault, Some(Fault::IpHeader | Fault::IpLength | Fault::IpChecksum)));
                prop_assert!(!read.ip.unwrap().is_piece());
            }
            prop_assert!(stage.reassembler.waiting.len() <= max);
            prop_assert!(stage.reassembler.held_bytes <= 4000);
        }
        stage.now = stage.now + Duration::from_secs(100);
        stage.reassembler.handle_timeout(stage.now, &mut stage.out);
        prop_assert_eq!((stage.reassembler.held(), stage.reassembler.held_bytes), (0, 0));
        prop_assert_eq!(stage.reassembler.poll_timeout(), None);
    }
}
