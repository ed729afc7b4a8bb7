//! Images that drive the devices, well or badly.

use core::time::Duration;
use std::io::{Read, Write};

use crate::guest::Guest;
use crate::run::{Ended, Machine, SOON, require};

const NET: u64 = 0xd000_0000;
const CONSOLE: u64 = 0xd000_1000;
/// Where the queues of the tests are, one behind the other.
const QUEUES: u64 = 0x30_0000;
const BUFFER: u64 = 0x38_0000;
const SIZE: u32 = 8;
const WRITE: u32 = 2;
const NEXT: u32 = 1;

/// Addresses of a queue's parts.
#[derive(Clone, Copy)]
struct Queue(u64);

impl Queue {
    fn of(index: u32) -> Self {
        Self(QUEUES + u64::from(index) * 0x1000)
    }

    fn available(self) -> u64 {
        self.0 + 0x100
    }

    fn used(self) -> u64 {
        self.0 + 0x200
    }
}

impl Guest {
    /// Brings a device up to the point where its queues are set up.
    fn negotiate(self, device: u64) -> Self {
        [1, 3]
            .into_iter()
            .fold(self.map_devices(), |guest, status| {
                guest.store(device + 0x70, status)
            })
            .store(device + 0x24, 1)
            .store(device + 0x20, 1)
            .store(device + 0x70, 11)
    }

    fn queue(self, device: u64, index: u32, queue: Queue) -> Self {
        let low = |at: u64| u32::try_from(at).unwrap();
        self.store(device + 0x30, index)
            .store(device + 0x38, SIZE)
            .store(device + 0x80, low(queue.0))
            .store(device + 0x90, low(queue.available()))
            .store(device + 0xa0, low(queue.used()))
            .store(device + 0x44, 1)
    }

    fn descriptor(self, queue: Queue, index: u64, (at, len): (u64, u32), flags: u32) -> Self {
        let at_index = queue.0 + index * 16;
        self.bytes(at_index, &at.to_le_bytes())
            .store(at_index + 8, len)
            .store(at_index + 12, flags)
    }

    /// Makes the first descriptors available, and says so.
    fn offer(self, device: u64, index: u32, queue: Queue, count: u32) -> Self {
        (0..count)
            .step_by(2)
            .fold(self, |guest, head| {
                let at = queue.available() + 4 + u64::from(head) * 2;
                guest.store(at, head | ((head + 1) << 16))
            })
            .store(queue.available(), count << 16)
            .store(device + 0x50, index)
    }
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes
        .chunks(4)
        .map(|word| u32::from_le_bytes(core::array::from_fn(|i| word.get(i).copied().unwrap_or(0))))
}

impl Guest {
    fn bytes(self, at: u64, bytes: &[u8]) -> Self {
        (at..)
            .step_by(4)
            .zip(words(bytes))
            .fold(self, |guest, (at, word)| guest.store(at, word))
    }
}

#[test]
fn root_frames_leave_the_image_and_reach_it() {
    require!();
    let (receive, transmit) = (Queue::of(0), Queue::of(1));
    let mut frame = [0x55; 12 + 60];
    frame[12..24].copy_from_slice(b"hello, there");
    let guest = Guest::new()
        .negotiate(NET)
        .queue(NET, 0, receive)
        .queue(NET, 1, transmit)
        .store(NET + 0x70, 15)
        .descriptor(receive, 0, (BUFFER + 0x1000, 2048), WRITE)
        .offer(NET, 0, receive, 1)
        .bytes(BUFFER, &frame)
        .descriptor(transmit, 0, (BUFFER, 20), NEXT | 1 << 16)
        .descriptor(transmit, 1, (BUFFER + 20, 52), 0)
        .offer(NET, 1, transmit, 1)
        .wait_for(transmit.used() + 2, 1)
        .wait_for(receive.used() + 2, 1)
        // Behind the header, the third byte of what came.
        .load_to_port(BUFFER + 0x1000 + 12 + 2, 0xf4);
    let machine = Machine::start(guest);
    let mut got = [0; 2048];
    let len = machine.wire.recv(&mut got).unwrap();
    assert_eq!(got[..12], [0; 12], "a header that asks for nothing");
    assert_eq!(got[12..len], frame[12..]);
    got[12..72].copy_from_slice(&[42; 60]);
    machine.wire.send(&got[..72]).unwrap();
    assert_eq!(machine.wait(SOON), Ended::exited(42, ""));
}

#[test]
fn root_the_channel_carries_bytes_both_ways() {
    require!();
    let (receive, transmit) = (Queue::of(0), Queue::of(1));
    let guest = Guest::new()
        .negotiate(CONSOLE)
        .queue(CONSOLE, 0, receive)
        .queue(CONSOLE, 1, transmit)
        .store(CONSOLE + 0x70, 15)
        .bytes(BUFFER, b"from the image")
        .descriptor(transmit, 0, (BUFFER, 14), 0)
        .offer(CONSOLE, 1, transmit, 1)
        .descriptor(receive, 0, (BUFFER + 0x1000, 16), WRITE)
        .offer(CONSOLE, 0, receive, 1)
        .wait_for(receive.used() + 2, 1)
        .load_to_port(BUFFER + 0x1000, 0xf4);
    let mut machine = Machine::start(guest);
    let channel = &mut machine.vm().channel;
    channel.set_nonblocking(false).unwrap();
    channel.set_read_timeout(Some(SOON)).unwrap();
    let mut got = [0; 14];
    channel.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"from the image");
    channel.write_all(b"*").unwrap();
    assert_eq!(machine.wait(SOON), Ended::exited(i32::from(b'*'), ""));
}

#[test]
fn root_a_channel_that_nobody_reads_holds_the_image_back_and_loses_nothing() {
    require!();
    const LEN: usize = 1 << 20;
    let transmit = Queue::of(1);
    let guest = Guest::new()
        .negotiate(CONSOLE)
        .queue(CONSOLE, 1, transmit)
        .store(CONSOLE + 0x70, 15)
        // The first MiB of its memory above the code, four times: more than a socket holds.
        .store(BUFFER + 0x1000, 0x1234_5678)
        .descriptor(transmit, 0, (BUFFER, 1 << 20), NEXT | 1 << 16)
        .descriptor(transmit, 1, (BUFFER, 1 << 20), NEXT | 2 << 16)
        .descriptor(transmit, 2, (BUFFER, 1 << 20), NEXT | 3 << 16)
        .descriptor(transmit, 3, (BUFFER, 1 << 20), 0)
        .offer(CONSOLE, 1, transmit, 1)
        .wait_for(transmit.used() + 2, 1)
        .reset();
    let mut machine = Machine::start(guest);
    assert!(!machine.has_ended(Duration::from_millis(300)));
    let channel = &mut machine.vm().channel;
    channel.set_nonblocking(false).unwrap();
    channel.set_read_timeout(Some(SOON)).unwrap();
    let mut got = vec![0; 4 * LEN];
    channel.read_exact(&mut got).unwrap();
    let (first, rest) = got.split_at(LEN);
    assert_eq!(first[0x1000..0x1004], [0x78, 0x56, 0x34, 0x12]);
    assert!(rest.chunks(LEN).all(|part| part == first));
    assert_eq!(machine.wait(SOON), Ended::exited(0, ""));
}

#[test]
fn root_queues_that_make_no_sense_stop_their_device_only() {
    require!();
    let transmit = Queue::of(1);
    let chains: [&[(u64, u32, u32)]; 4] = [
        // A loop.
        &[(BUFFER, 16, NEXT)],
        // Beyond memory, and around the end of the address space.
        &[(0xd000_0000, 64, 0)],
        &[(u64::MAX - 8, u32::MAX, 0)],
        // A table in a descriptor.
        &[(transmit.0, 128, 4), (BUFFER, 13, 4)],
    ];
    for (device, chain) in [NET, CONSOLE]
        .into_iter()
        .flat_map(|device| chains.map(|chain| (device, chain)))
    {
        let guest = Guest::new()
            .negotiate(device)
            .queue(device, 1, transmit)
            .store(device + 0x70, 15);
        let guest = (0..)
            .zip(chain)
            .fold(guest, |guest, (index, &(at, len, flags))| {
                guest.descriptor(transmit, index, (at, len), flags)
            })
            .offer(device, 1, transmit, 1)
            .wait_for(transmit.used() + 2, 1)
            .reset();
        let machine = Machine::start(guest);
        assert_eq!(machine.wait(SOON), Ended::exited(0, ""), "{chain:?}");
    }
    // More chains than the queue has, and rings beyond memory.
    for (at, index) in [(transmit, 99), (Queue(0x3fff_f000), 1)] {
        let guest = Guest::new()
            .negotiate(NET)
            .queue(NET, 1, at)
            .store(NET + 0x70, 15)
            .store(transmit.available(), index << 16)
            .store(NET + 0x50, 1)
            .load_to_port(NET + 0x70, 0xf4);
        let ended = Machine::start(guest).wait(SOON);
        assert_eq!(ended.code, Some(0x40 | 15), "the device needs a reset");
    }
}
