//! The devices with drivers that behave, and with some that do not. `fuzz/targets` has those that
//! do anything.

use std::collections::VecDeque;
use std::io;

use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

use super::*;

const TABLE: u64 = 0x1000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
/// Offset of the second queue's parts.
const SECOND: u64 = 0x8000;
const BUFFERS: u64 = 0x2_0000;
const SIZE: u16 = 16;
const EVENT_IDX: u32 = 1 << 29;
const WRITABLE: u16 = 2;

fn memory() -> Memory {
    Memory::from_ranges(&[(GuestAddress(0), 0x10_0000)]).unwrap()
}

/// Writes registers of either device.
type Write<'a> = &'a mut dyn FnMut(u64, u32) -> Access;

/// Sets a device up as a driver does that wants these features of the lower half.
fn set_up(write: Write<'_>, features: u32) {
    for status in [0, 1, 3] {
        write(0x70, status);
    }
    write(0x24, 0);
    write(0x20, features);
    write(0x24, 1);
    write(0x20, 1);
    write(0x70, 11);
    for (queue, base) in [(0, 0), (1, SECOND)] {
        write(0x30, queue);
        write(0x38, SIZE.into());
        for (register, part) in [(0x80, TABLE), (0x90, AVAILABLE), (0xa0, USED)] {
            write(register, u32::try_from(part + base).unwrap());
        }
        write(0x44, 1);
    }
    assert_eq!(write(0x70, 15), Access::Work);
}

/// One queue, seen by its driver.
struct Driver<'m> {
    memory: &'m Memory,
    base: u64,
    descriptors: u16,
    available: u16,
    seen: u16,
}

impl<'m> Driver<'m> {
    fn new(memory: &'m Memory, base: u64) -> Self {
        Self {
            memory,
            base,
            descriptors: 0,
            available: 0,
            seen: 0,
        }
    }

    /// Makes a chain of buffers available.
    fn offer(&mut self, buffers: &[(u64, u32)], flags: u16) {
        let head = self.descriptors;
        for (index, (at, len)) in buffers.iter().enumerate() {
            let this = self.descriptors;
            self.descriptors = (this + 1) % SIZE;
            let next = u16::from(index + 1 < buffers.len());
            let at_entry = GuestAddress(self.base + TABLE + u64::from(this) * 16);
            let mut entry = [0; 16];
            entry[..8].copy_from_slice(&at.to_le_bytes());
            entry[8..12].copy_from_slice(&len.to_le_bytes());
            entry[12..14].copy_from_slice(&(flags | next).to_le_bytes());
            entry[14..].copy_from_slice(&self.descriptors.to_le_bytes());
            self.memory.write_slice(&entry, at_entry).unwrap();
        }
        let at = self.base + AVAILABLE + 4 + u64::from(self.available % SIZE) * 2;
        self.memory.write_obj(head, GuestAddress(at)).unwrap();
        self.available = self.available.wrapping_add(1);
        let at = GuestAddress(self.base + AVAILABLE + 2);
        self.memory.write_obj(self.available, at).unwrap();
    }

    /// The next used buffer: descriptor and length.
    fn take(&mut self) -> Option<(u32, u32)> {
        let at = GuestAddress(self.base + USED + 2);
        if self.memory.read_obj::<u16>(at).unwrap() == self.seen {
            return None;
        }
        let at = self.base + USED + 4 + u64::from(self.seen % SIZE) * 8;
        self.seen = self.seen.wrapping_add(1);
        let [head, len] = self.memory.read_obj(GuestAddress(at)).unwrap();
        Some((head, len))
    }

    /// After which used buffer the driver wants to be interrupted.
    fn interrupt_after(&self, index: u16) {
        let at = self.base + AVAILABLE + 4 + u64::from(SIZE) * 2;
        self.memory.write_obj(index, GuestAddress(at)).unwrap();
    }
}

/// What is at the other end.
#[derive(Default)]
struct World {
    arriving: VecDeque<Vec<u8>>,
    got: Vec<Vec<u8>>,
    room: VecDeque<usize>,
    closed: bool,
}

impl Frames for World {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let frame = self.arriving.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        into[..frame.len()].copy_from_slice(&frame);
        Ok(frame.len())
    }

    fn send(&mut self, frame: &[u8]) {
        self.got.push(frame.to_vec());
    }
}

impl Peer for World {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(mut piece) = self.arriving.pop_front() else {
            return if self.closed {
                Ok(0)
            } else {
                Err(io::ErrorKind::WouldBlock.into())
            };
        };
        let rest = piece.split_off(piece.len().min(into.len()));
        if !rest.is_empty() {
            self.arriving.push_front(rest);
        }
        into[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.room.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        let taken = room.min(bytes.len());
        self.got.push(bytes[..taken].to_vec());
        Ok(taken)
    }
}

fn net(memory: &Memory, features: u32) -> Net {
    let mut net = Net::new([2, 3, 4, 5, 6, 7]);
    set_up(
        &mut |at, value| net.write(at, &value.to_le_bytes(), memory),
        features,
    );
    net
}

fn console(memory: &Memory, features: u32) -> Console {
    let mut console = Console::default();
    set_up(
        &mut |at, value| console.write(at, &value.to_le_bytes(), memory),
        features,
    );
    console
}

fn register(net: &Net, at: u64) -> u32 {
    let mut data = [0; 4];
    net.read(at, &mut data);
    u32::from_le_bytes(data)
}

#[test]
fn a_device_says_what_it_is() {
    let net = Net::new([2, 3, 4, 5, 6, 7]);
    assert_eq!(register(&net, 0), 0x7472_6976);
    assert_eq!(register(&net, 4), 2);
    assert_eq!(register(&net, 8), 1);
    assert_eq!(register(&net, 0x100), 0x0504_0302);
    let mut byte = [0];
    net.read(0x105, &mut byte);
    assert_eq!(byte, [7]);
    // Registers are 32 bits wide, and what is not there is zero.
    let mut wide = [1; 8];
    net.read(0, &mut wide);
    assert_eq!(wide, [0; 8]);
    net.read(u64::MAX, &mut wide);
    assert_eq!(wide, [0; 8]);
}

#[test]
fn features_that_were_not_offered_are_refused_and_status_only_grows() {
    let memory = memory();
    let mut net = Net::new([0; 6]);
    let write = |net: &mut Net, at, value: u32| {
        net.write(at, &value.to_le_bytes(), &memory);
    };
    // Without version 1, and with an offload.
    for (page, features) in [(0, 0), (0, 1)] {
        for status in [0, 1, 3] {
            write(&mut net, 0x70, status);
        }
        write(&mut net, 0x24, page);
        write(&mut net, 0x20, features);
        if features != 0 {
            write(&mut net, 0x24, 1);
            write(&mut net, 0x20, 1);
        }
        write(&mut net, 0x70, 11);
        assert_eq!(register(&net, 0x70), 3);
        // Nor does it run then.
        write(&mut net, 0x70, 15);
        assert_eq!(register(&net, 0x70), 3);
    }
    write(&mut net, 0x70, 1);
    assert_eq!(register(&net, 0x70), 3);
}

#[test]
fn a_queue_outside_of_memory_is_a_fault_at_the_start() {
    let memory = memory();
    let mut net = Net::new([0; 6]);
    set_up(
        &mut |at, value| {
            let value = if at == 0xa0 { 0xfff_f000 } else { value };
            net.write(at, &value.to_le_bytes(), &memory)
        },
        0,
    );
    assert_eq!(register(&net, 0x70), 0x40 | 15);
    let mut world = World::default();
    assert_eq!(net.work(&memory, &mut world), Wants::default());
    // A reset mends it.
    net.write(0x70, &[0; 4], &memory);
    assert_eq!(register(&net, 0x70), 0);
    assert_eq!(register(&net, 0x44), 0);
}

#[test]
fn frames_cross_with_a_header_that_asks_for_nothing() {
    let memory = memory();
    let mut net = net(&memory, 0);
    let mut world = World::default();
    let mut transmit = Driver::new(&memory, SECOND);
    memory.write_slice(&[7; 80], GuestAddress(BUFFERS)).unwrap();
    transmit.offer(&[(BUFFERS, 5), (BUFFERS + 5, 75)], 0);
    // Too short for a frame, and beyond memory: lost.
    transmit.offer(&[(BUFFERS, 12)], 0);
    transmit.offer(&[(0xff_ffff, 60)], 0);
    let wants = net.work(&memory, &mut world);
    assert!(wants.interrupt && !wants.input && !wants.closed);
    assert_eq!(world.got, [[&[0; 12][..], &[7; 68]].concat()]);
    assert_eq!(transmit.take(), Some((0, 0)));
    assert_eq!(transmit.take(), Some((2, 0)));
    assert_eq!(transmit.take(), Some((3, 0)));
    assert_eq!(register(&net, 0x60), 1);

    let mut receive = Driver::new(&memory, 0);
    world.arriving = [vec![9; 300], vec![9; 100]].into();
    receive.offer(&[(BUFFERS, 12), (BUFFERS + 0x100, 88)], WRITABLE);
    let wants = net.work(&memory, &mut world);
    // The first does not fit; the second does, and there is no buffer for a third.
    assert_eq!(receive.take(), Some((0, 100)));
    assert!(wants.interrupt && !wants.input);
    let mut header = [1; 12];
    memory
        .read_slice(&mut header, GuestAddress(BUFFERS))
        .unwrap();
    assert_eq!(header, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    receive.offer(&[(BUFFERS, 2000)], WRITABLE);
    assert!(net.work(&memory, &mut world).input, "it waits for frames");
}

#[test]
fn the_driver_is_interrupted_when_it_asked_for_it() {
    let memory = memory();
    let mut net = net(&memory, EVENT_IDX);
    let mut world = World::default();
    let mut transmit = Driver::new(&memory, SECOND);
    transmit.interrupt_after(2);
    for expected in [false, false, true, false] {
        transmit.offer(&[(BUFFERS, 80)], 0);
        assert_eq!(net.work(&memory, &mut world).interrupt, expected);
    }
    assert_eq!(world.got.len(), 4);
}

#[test]
fn a_full_ring_is_served_in_turns() {
    let memory = memory();
    let mut console = console(&memory, 0);
    let mut world = World {
        room: (0..1000).map(|_| 1).collect(),
        ..World::default()
    };
    Driver::new(&memory, SECOND).offer(&[(BUFFERS, 700)], 0);
    let first = console.work(&memory, &mut world);
    assert!(first.again && !first.interrupt);
    while console.work(&memory, &mut world).again {}
    assert_eq!(world.got.len(), 700);
}

#[test]
fn the_end_of_the_stream_is_noticed_when_all_is_read() {
    let memory = memory();
    let mut console = console(&memory, 0);
    let mut receive = Driver::new(&memory, 0);
    let mut world = World {
        arriving: [vec![1, 2, 3]].into(),
        closed: true,
        ..World::default()
    };
    receive.offer(&[(BUFFERS, 100)], WRITABLE);
    assert!(!console.work(&memory, &mut world).closed);
    assert_eq!(receive.take(), Some((0, 3)));
    receive.offer(&[(BUFFERS, 100)], WRITABLE);
    assert!(console.work(&memory, &mut world).closed);
}

proptest! {
    #[test]
    fn the_console_loses_and_repeats_nothing(
        chains in prop::collection::vec(prop::collection::vec(0_u32..2500, 1..4), 1..12),
        room in prop::collection::vec(prop::option::of(1_usize..9000), 1..60),
        features in prop_oneof![Just(0), Just(EVENT_IDX)],
    ) {
        let memory = memory();
        let mut console = console(&memory, features);
        let mut transmit = Driver::new(&memory, SECOND);
        let pattern: Vec<u8> = (0..0x2_0000_u32).map(|i| (i % 251) as u8).collect();
        memory.write_slice(&pattern, GuestAddress(BUFFERS)).unwrap();
        let (mut at, mut expected) = (BUFFERS, Vec::new());
        let mut room = room.into_iter();
        let mut world = World::default();
        for chain in chains {
            let mut buffers = Vec::new();
            for len in chain {
                let from = usize::try_from(at - BUFFERS).unwrap();
                expected.extend_from_slice(&pattern[from..from + len as usize]);
                buffers.push((at, len));
                at += u64::from(len);
            }
            transmit.offer(&buffers, 0);
            // As much room as there is, then the driver waits for its buffer.
            world.room.extend(room.next().flatten());
            while transmit.take().is_none() {
                let wants = console.work(&memory, &mut world);
                prop_assert!(!wants.closed);
                if wants.room {
                    world.room.extend(room.next().flatten());
                    world.room.push_back(1500);
                }
            }
        }
        prop_assert_eq!(world.got.concat(), expected);
    }

    #[test]
    fn what_arrives_is_read_in_order(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..1500), 1..12),
        buffers in prop::collection::vec((40_u32..2000, 0_u32..2000), 1..8),
    ) {
        let memory = memory();
        let mut console = console(&memory, 0);
        let mut receive = Driver::new(&memory, 0);
        let sent = pieces.concat();
        let mut world = World { arriving: pieces.into(), ..World::default() };
        let mut got = Vec::new();
        for (first, second) in buffers.iter().cycle() {
            receive.offer(&[(BUFFERS, *first), (BUFFERS + u64::from(*first), *second)], WRITABLE);
            let wants = console.work(&memory, &mut world);
            let Some((_, len)) = receive.take() else {
                prop_assert!(wants.input, "it waits for more");
                break;
            };
            let mut bytes = vec![0; len as usize];
            memory.read_slice(&mut bytes, GuestAddress(BUFFERS)).unwrap();
            got.extend(bytes);
        }
        prop_assert_eq!(got, sent);
    }
}
