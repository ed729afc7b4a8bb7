use proptest::prelude::*;
use std::vec::Vec;

use super::*;
use crate::virtio::fake::FakeQueue;

#[test]
fn an_event_is_crossed_wherever_65536_is_passed() {
    assert!(crosses(4, 5, 4));
    assert!(!crosses(5, 5, 4));
    assert!(!crosses(3, 5, 4));
    assert!(crosses(65_535, 0, 65_535));
    assert!(crosses(65_535, 3, 65_530));
    assert!(crosses(0, 3, 65_530));
    assert!(!crosses(3, 3, 65_530));
    assert!(!crosses(0, 0, 0));
}

proptest! {
    /// The definition of the standard, in numbers without end.
    #[test]
    fn crossing_is_what_counting_without_wrapping_says(old: u16, steps in 0..64u64, event in -70..70i64) {
        let old_wide = u64::from(old) + (1 << 20);
        let new_wide = old_wide + steps;
        let event_wide = old_wide.checked_add_signed(event).unwrap();
        let crossed = (old_wide..new_wide).contains(&event_wide);
        let low = |wide: u64| u16::try_from(wide & 0xffff).unwrap();
        prop_assert_eq!(crosses(low(event_wide), low(new_wide), old), crossed);
    }

    /// Any interleaving of an honest device with the driver: every buffer comes back once, with what
    /// was in it, and neither side waits for a signal that the other does not give.
    #[test]
    fn nothing_is_lost_and_nobody_waits_for_ever(
        steps in prop::collection::vec((0..4u8, 1..9u16), 0..400), event_index: bool, log in 1..5u32, start: u16,
    ) {
        let size = 1 << log;
        let mut queue = Queue::new(Direction::Transmit, size, 64, 4, event_index);
        let mut device = FakeQueue::new(queue.rings(), event_index);
        // Begin anywhere, for the wrap-around.
        for _ in 0..start {
            let buffer = queue.free().unwrap();
            queue.give(buffer, 0);
            queue.publish();
            let buffer = device.take().unwrap();
            device.complete(buffer.id.into(), 0);
            let completion = queue.take().unwrap();
            queue.release(completion.buffer);
        }
        let (mut sent, mut seen) = (0u64, 0u64);
        let (mut device_sleeps, mut driver_sleeps) = (true, false);
        let mut held = Vec::new();
        for (step, count) in steps {
            match step {
                0 => {
                    for _ in 0..count {
                        let Some(buffer) = queue.free() else { break };
                        queue.buffer_mut(buffer)[..8].copy_from_slice(&sent.to_le_bytes());
                        queue.give(buffer, 8);
                        sent += 1;
                    }
                    if queue.publish() {
                        device_sleeps = false;
                    }
                    prop_assert!(!device_sleeps || device.available() == 0);
                }
                1 if !device_sleeps => {
                    for _ in 0..count {
                        let Some(buffer) = device.take() else {
                            device_sleeps = true;
                            break;
                        };
                        let bytes = device.read(buffer);
                        prop_assert_eq!(bytes, seen.to_le_bytes());
                        seen += 1;
                        held.push(buffer);
                    }
                }
                2 => {
                    // In any order.
                    while held.len() > usize::from(count) {
                        let buffer = held.swap_remove(held.len() / 2);
                        if device.complete(buffer.id.into(), 0) {
                            driver_sleeps = false;
                        }
                        prop_assert!(!driver_sleeps, "a completion without interrupt");
                    }
                }
                _ => {
                    while let Some(completion) = queue.take() {
                        queue.release(completion.buffer);
                    }
                    driver_sleeps = queue.arm();
                    prop_assert!(driver_sleeps);
                }
            }
        }
        prop_assert!(!queue.is_broken());
    }

    /// Whatever a device writes, no index is believed: no panic, and no buffer is had by both.
    #[test]
    fn a_hostile_device_cannot_make_the_driver_panic(
        writes in prop::collection::vec((0..3u8, any::<u16>(), any::<u32>(), any::<u32>()), 0..200), event_index: bool, transmit: bool,
    ) {
        let direction = if transmit { Direction::Transmit } else { Direction::Receive };
        let mut queue = Queue::new(direction, 8, 64, 4096, event_index);
        let mut device = FakeQueue::new(queue.rings(), event_index);
        let mut mine = [transmit; 8];
        for (how, index, id, len) in writes {
            match how {
                0 => device.put(index, id % 12, len),
                1 => _ = device.set_used(device.used.wrapping_add(index % 3)),
                _ => _ = device.set_used(index),
            }
            while let Some(completion) = queue.take() {
                let owner = &mut mine[usize::from(completion.buffer)];
                prop_assert!(!*owner, "a buffer was returned that the device did not have");
                *owner = true;
                let _ = queue.buffer(completion.buffer).get(..completion.len);
                queue.release(completion.buffer);
            }
            let _ = queue.arm();
            if let Some(buffer) = queue.free() {
                mine[usize::from(buffer)] = false;
                queue.give(buffer, 64);
                let _ = queue.publish();
            }
        }
    }
}

/// Two threads, one for each side, with nothing between them but the memory.
#[test]
fn a_device_on_another_processor_sees_everything_in_order() {
    const COUNT: u32 = 20_000;
    let mut queue = Queue::new(Direction::Transmit, 16, 64, 4, true);
    let mut device = FakeQueue::new(queue.rings(), true);
    let other = std::thread::spawn(move || {
        for expected in 0..COUNT {
            let buffer = loop {
                match device.take() {
                    Some(buffer) => break buffer,
                    None => std::thread::yield_now(),
                }
            };
            assert_eq!(device.read(buffer), expected.to_le_bytes());
            device.complete(buffer.id.into(), 0);
        }
    });
    for i in 0..COUNT {
        let buffer = loop {
            while let Some(completion) = queue.take() {
                queue.release(completion.buffer);
            }
            match queue.free() {
                Some(buffer) => break buffer,
                None => std::thread::yield_now(),
            }
        };
        queue.buffer_mut(buffer)[..4].copy_from_slice(&i.to_le_bytes());
        queue.give(buffer, 4);
        queue.publish();
    }
    other.join().unwrap();
    assert!(!queue.is_broken());
}
