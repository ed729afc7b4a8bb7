//! What goes in comes out, and memory that a hostile neighbour writes to harms nobody.

use super::*;
use plumb_wire::pcapng::Direction;
use proptest::prelude::*;

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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

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
                let taken = producer.push(&meta(u32::try_from(sent).unwrap()), &frame, &mut wake);
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
        producer.push(&Meta::default(), &[1; 100], &mut wake).unwrap();
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
            let _ = producer.push(&Meta::default(), &[1; 100], &mut wake);
            let _ = take_back(&mut producer, &mut bytes);
        }
    }
}

#[test]
fn memory_that_its_maker_could_make_smaller_is_refused() {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    for (len, seal) in [(MEMORY_LEN, false), (MEMORY_LEN - 1, true)] {
        let fd = rustix::fs::memfd_create("test", flags).unwrap();
        ftruncate(&fd, to_u64(len)).unwrap();
        if seal {
            fcntl_add_seals(&fd, seals()).unwrap();
        }
        assert!(Memory::open(fd.as_fd()).is_err(), "{len} {seal}");
    }
}

#[test]
fn whoever_sleeps_is_woken_once_and_whoever_does_not_is_not() {
    let (mut producer, mut consumer, _memory) = pair();
    let (mut wake, mut bytes) = (false, Vec::new());
    producer.push(&meta(1), &[1; 60], &mut wake).unwrap();
    assert!(!producer.publish() && !wake);
    // Something is there: no reason to sleep.
    assert_eq!(consumer.wait_for_frames(), Ok(true));
    pop(&mut consumer, &mut bytes, &mut wake).unwrap().unwrap();
    assert_eq!(consumer.wait_for_frames(), Ok(false));
    producer.push(&meta(2), &[2; 60], &mut wake).unwrap();
    assert!(producer.publish());
    producer.push(&meta(3), &[3; 60], &mut wake).unwrap();
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
        assert!(producer.push(&meta(0), &frame, &mut wake).unwrap());
        written += slot_len(frame.len());
    }
    assert!((RING_LEN / 8..RING_LEN / 4).contains(&written));
    while pop(&mut consumer, &mut bytes, &mut wake).unwrap().is_some() {}
    wake = false;
    for _ in 0..10 {
        producer.push(&meta(0), &frame, &mut wake).unwrap();
    }
    assert!(!wake && pop(&mut consumer, &mut bytes, &mut wake).unwrap().is_some());
}

#[test]
fn a_writer_that_waits_is_woken_when_half_of_the_ring_is_free() {
    let (mut producer, mut consumer, _memory) = pair();
    let (mut wake, mut bytes) = (false, Vec::new());
    let frame = vec![7; 60_000];
    while producer.push(&meta(0), &frame, &mut wake).unwrap() {}
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
            .push(&meta(n), &[u8::try_from(n).unwrap(); 60], &mut wake)
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
