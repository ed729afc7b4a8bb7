//! What goes in comes out, and memory that a hostile neighbour writes to harms nobody.

use std::os::fd::AsFd as _;

use plumb_wire::frame::{Offload, PartialChecksum};
use plumb_wire::pcapng::Direction;
use proptest::prelude::*;

use super::memory::MEMORY_LEN;
use super::*;

fn pair() -> (Producer, Consumer, Rc<Memory>) {
    let (memory, fd) = Memory::create().unwrap();
    let other = Memory::open(fd.as_fd()).unwrap();
    let producer = Producer::new(&memory, Way::Forward);
    (producer, Consumer::new(&other, Way::Forward), memory)
}

fn meta(n: u32) -> Meta {
    Meta {
        at_ns: u64::from(n) << 20,
        mark: n,
        direction: Direction::Outbound,
        ..Meta::default()
    }
}

fn pop(
    consumer: &mut Consumer,
    bytes: &mut Vec<u8>,
    wake: &mut bool,
) -> Result<Option<Meta>, Corrupt> {
    let mut meta = meta(u32::MAX);
    let is_frame = consumer.pop(&mut meta, bytes, wake)?;
    Ok(is_frame.then_some(meta))
}

fn take_back(producer: &mut Producer, bytes: &mut Vec<u8>) -> Result<Option<Meta>, Corrupt> {
    let mut meta = meta(u32::MAX);
    let is_frame = producer.take_back(&mut meta, bytes)?;
    Ok(is_frame.then_some(meta))
}

/// A frame of which something is left to do.
fn unfinished(n: u32) -> Meta {
    let checksum = Some(PartialChecksum {
        start: 34,
        offset: 16,
    });
    let offload = Offload {
        checksum,
        ..Offload::NONE
    };
    Meta { offload, ..meta(n) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// From one ring into the next as a stage does it, that looks at the first bytes only.
    #[test]
    fn bodies_go_from_ring_to_ring_whole_and_in_order(
        lens in proptest::collection::vec(
            prop_oneof![0..200usize, 5000..8000usize, 60_000..66_000usize, Just(MAX_FRAME_LEN)],
            1..60,
        ),
        finished in proptest::collection::vec(any::<bool>(), 60),
        head_len in 0..3000usize,
    ) {
        let (mut first, mut from, _) = pair();
        let (mut to, mut last, _) = pair();
        let mut wake = false;
        let made = |at: usize| -> Vec<u8> {
            (0..=u8::MAX).map(|n| n ^ at.to_le_bytes()[0]).cycle().take(lens[at]).collect()
        };
        let made_meta = |at: usize| {
            let n = u32::try_from(at).unwrap();
            if finished[at] { meta(n) } else { unfinished(n) }
        };
        let (mut sent, mut seen) = (0, 0);
        let (mut head, mut bytes, mut kept) = (Vec::new(), Vec::new(), Meta::default());
        while seen < lens.len() {
            while sent < lens.len()
                && first.push(&made_meta(sent), &made(sent), None, &mut wake).unwrap()
            {
                sent += 1;
            }
            first.publish();
            let mut body = None;
            while from
                .pop_head(Some(head_len), &mut kept, &mut head, &mut body, &mut wake)
                .unwrap()
            {
                prop_assert!(body.is_none() || head.len() == head_len && !kept.offload.is_complete());
                let is_long = lens[kept.mark as usize] >= head_len + BODY_LEN;
                prop_assert_eq!(body.is_some(), is_long && !kept.offload.is_complete());
                while !to.push(&kept, &head, body.as_ref(), &mut wake).unwrap() {
                    to.publish();
                    while let Some(found) = pop(&mut last, &mut bytes, &mut wake).unwrap() {
                        prop_assert_eq!((found, &bytes), (made_meta(seen), &made(seen)));
                        seen += 1;
                    }
                }
                body = None;
            }
            to.publish();
            while let Some(found) = pop(&mut last, &mut bytes, &mut wake).unwrap() {
                prop_assert_eq!((found, &bytes), (made_meta(seen), &made(seen)));
                seen += 1;
            }
        }
    }

    #[test]
    fn what_goes_in_comes_out_in_order_whatever_the_sizes(
        lens in proptest::collection::vec(
            prop_oneof![0..200usize, 1400..1600usize, 60_000..66_000usize, Just(MAX_FRAME_LEN)],
            1..60,
        ),
        drained_at in proptest::collection::vec(any::<bool>(), 60),
    ) {
        let (mut producer, mut consumer, _memory) = pair();
        let (mut sent, mut seen) = (0, 0);
        let mut bytes = Vec::new();
        let mut wake = false;
        let check = |seen: usize, found: Meta, bytes: &[u8]| {
            assert_eq!(found, meta(u32::try_from(seen).unwrap()));
            assert!(bytes.len() == lens[seen] && bytes.iter().all(|b| usize::from(*b) == seen % 256));
        };
        while seen < lens.len() {
            let full = sent < lens.len() && {
                let frame = vec![u8::try_from(sent % 256).unwrap(); lens[sent]];
                let taken = producer.push(&meta(u32::try_from(sent).unwrap()), &frame, None, &mut wake);
                sent += usize::from(taken.unwrap());
                !taken.unwrap()
            };
            if full || sent == lens.len() || drained_at[sent] {
                producer.publish();
                while let Some(found) = pop(&mut consumer, &mut bytes, &mut wake).unwrap() {
                    check(seen, found, &bytes);
                    seen += 1;
                }
                prop_assert_eq!(seen, sent);
            }
        }
    }

    #[test]
    fn no_content_of_the_memory_leads_outside_it(
        seed in any::<u64>(),
        tail in prop_oneof![0..=2 * to_u64(RING_LEN), any::<u64>()],
        head in prop_oneof![0..=2 * to_u64(RING_LEN), any::<u64>()],
        small in any::<bool>(),
    ) {
        let (mut producer, mut consumer, memory) = pair();
        // Slots with headers of all kinds, many of them of a believable length.
        let mut state = seed;
        for at in (CONTROL_LEN..MEMORY_LEN).step_by(HEADER_LEN) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let word = u32::try_from(state >> 32).unwrap() >> if small { 20 } else { 0 };
            memory.word(at).store(word, Ordering::Relaxed);
            memory.word(at + 4).store(u32::from(state & 0xff0 == 0), Ordering::Relaxed);
        }
        let mut bytes = Vec::new();
        let mut wake = false;
        producer.push(&Meta::default(), &[1; 100], None, &mut wake).unwrap();
        for tail in [tail, tail & !31] {
            memory.double_word(TAIL).store(tail, Ordering::Relaxed);
            for _ in 0..40_000 {
                match pop(&mut consumer, &mut bytes, &mut wake) {
                    Ok(Some(_)) => prop_assert!(bytes.len() <= MAX_FRAME_LEN),
                    Ok(None) | Err(Corrupt) => break,
                }
            }
        }
        for head in [head, head & !31] {
            memory.double_word(HEAD).store(head, Ordering::Relaxed);
            let _ = producer.wait_for_room();
            let _ = producer.push(&Meta::default(), &[1; 100], None, &mut wake);
            let _ = take_back(&mut producer, &mut bytes);
        }
    }
}

#[test]
fn whoever_sleeps_is_woken_once_and_whoever_does_not_is_not() {
    let (mut producer, mut consumer, _memory) = pair();
    let (mut wake, mut bytes) = (false, Vec::new());
    producer.push(&meta(1), &[1; 60], None, &mut wake).unwrap();
    assert!(!producer.publish() && !wake);
    // Something is there: no reason to sleep.
    assert_eq!(consumer.wait_for_frames(), Ok(true));
    pop(&mut consumer, &mut bytes, &mut wake).unwrap().unwrap();
    assert_eq!(consumer.wait_for_frames(), Ok(false));
    producer.push(&meta(2), &[2; 60], None, &mut wake).unwrap();
    assert!(producer.publish());
    producer.push(&meta(3), &[3; 60], None, &mut wake).unwrap();
    assert!(!producer.publish());
}

#[test]
fn a_reader_that_sleeps_is_woken_for_much_and_one_that_is_awake_sees_little() {
    let (mut producer, mut consumer, _memory) = pair();
    let (mut wake, mut bytes) = (false, Vec::new());
    let frame = vec![7; 1000];
    assert_eq!(consumer.wait_for_frames(), Ok(false));
    let mut written = 0;
    while !wake {
        assert!(producer.push(&meta(0), &frame, None, &mut wake).unwrap());
        written += slot_len(frame.len());
    }
    assert!((RING_LEN / 8..RING_LEN / 4).contains(&written));
    while pop(&mut consumer, &mut bytes, &mut wake).unwrap().is_some() {}
    wake = false;
    for _ in 0..10 {
        producer.push(&meta(0), &frame, None, &mut wake).unwrap();
    }
    assert!(!wake && pop(&mut consumer, &mut bytes, &mut wake).unwrap().is_some());
}

#[test]
fn a_writer_that_waits_is_woken_when_half_of_the_ring_is_free() {
    let (mut producer, mut consumer, _memory) = pair();
    let (mut wake, mut bytes) = (false, Vec::new());
    let frame = vec![7; 60_000];
    while producer.push(&meta(0), &frame, None, &mut wake).unwrap() {}
    assert_eq!(producer.wait_for_room(), Ok(false));
    let mut before = 0;
    wake = false;
    while !wake {
        pop(&mut consumer, &mut bytes, &mut wake).unwrap().unwrap();
        before += 1;
    }
    assert!((RING_LEN / 2..RING_LEN * 3 / 4).contains(&(before * frame.len())));
    assert_eq!(producer.wait_for_room(), Ok(true));
}

#[test]
fn what_was_not_read_is_taken_back_in_order() {
    let (mut producer, mut consumer, _memory) = pair();
    let (mut wake, mut bytes) = (false, Vec::new());
    for n in 0..10 {
        producer
            .push(&meta(n), &[u8::try_from(n).unwrap(); 60], None, &mut wake)
            .unwrap();
    }
    producer.publish();
    for _ in 0..4 {
        pop(&mut consumer, &mut bytes, &mut wake).unwrap().unwrap();
    }
    consumer.release();
    for n in 4..10 {
        assert_eq!(take_back(&mut producer, &mut bytes), Ok(Some(meta(n))));
        assert_eq!(bytes, [u8::try_from(n).unwrap(); 60]);
    }
    assert_eq!(take_back(&mut producer, &mut bytes), Ok(None));
}

/// Whoever has the rest of a frame finds it as it was, however much comes behind it, and it is in the way
/// of what comes only as long as that.
#[test]
fn what_is_lent_stays_until_it_is_given_back() {
    let (mut producer, mut consumer, _memory) = pair();
    let (mut meta, mut head, mut body, mut wake) = (Meta::default(), Vec::new(), None, false);
    let frame: Vec<u8> = (0..=u8::MAX).cycle().take(60_000).collect();
    while producer
        .push(&unfinished(1), &frame, None, &mut wake)
        .unwrap()
    {}
    producer.publish();
    let got = consumer.pop_head(Some(100), &mut meta, &mut head, &mut body, &mut wake);
    assert_eq!((got, &head[..]), (Ok(true), &frame[..100]));
    let lent = body.take().unwrap();
    // The next ones are given whole.
    for _ in 0..10 {
        let got = consumer.pop_head(Some(100), &mut meta, &mut head, &mut body, &mut wake);
        assert_eq!((got, head.len(), body.is_none()), (Ok(true), 60_000, true));
    }
    consumer.release();
    assert_eq!(
        producer.push(&unfinished(2), &[9; 60_000], None, &mut wake),
        Ok(false)
    );
    let mut whole = head[..100].to_vec();
    lent.append_to(&mut whole);
    assert_eq!(whole, frame);
    drop(lent);
    consumer.release();
    assert_eq!(
        producer.push(&unfinished(2), &[9; 60_000], None, &mut wake),
        Ok(true)
    );
}
