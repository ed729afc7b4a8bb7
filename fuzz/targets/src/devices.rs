//! The devices of plumb's own monitor, with bytes in charge of guest memory, of every register and
//! of what is at the other ends.

use std::io;

use plumb_vm::embedded::device::{Console, Frames, Memory, Net, Peer, Wants};
use vm_memory::{Bytes as _, GuestAddress};

/// Memory of the guest: few pages, so that what is random meets.
const MEMORY: usize = 0x8000;
/// Longest run of turns that one event may cause: more chains than a ring of 16 bits of index and
/// 256 descriptors can ask for without the guest running on.
const TURNS: usize = 4096;

/// Bytes taken one after the other; zero when there are no more.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.next(), self.next()])
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// The other ends: as much comes, and as much is taken, as the bytes say.
#[derive(Default)]
struct World {
    arriving: Vec<usize>,
    room: usize,
    open: bool,
}

impl World {
    fn input(&mut self, into: &mut [u8]) -> io::Result<usize> {
        assert!(!into.is_empty(), "nothing is read into no buffer");
        match self.arriving.pop() {
            Some(len) => {
                let len = len.min(into.len());
                into[..len].fill(0xa5);
                Ok(len)
            }
            None if self.open => Err(io::ErrorKind::WouldBlock.into()),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Frames for World {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.input(into)
    }

    fn send(&mut self, frame: &[u8]) {
        assert!(frame.len() > 12, "a frame without a header was sent");
        assert_eq!(frame[..12], [0; 12], "the guest's header was sent");
    }
}

impl Peer for World {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.input(into)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(!bytes.is_empty());
        if !self.open {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if self.room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = self.room.min(bytes.len());
        self.room -= taken;
        Ok(taken)
    }
}

/// Register writes and reads, changes of memory, frames and bytes in any order.
///
/// # Panics
/// If a device breaks a promise.
pub fn devices(data: &[u8]) {
    let mut bytes = Bytes(data);
    let memory = Memory::from_ranges(&[(GuestAddress(0), MEMORY)]).expect("some memory");
    let mut net = Net::new([2, 0, 0, 0, 0, 1]);
    let mut console = Console::default();
    let mut world = World {
        open: true,
        ..World::default()
    };
    while !bytes.0.is_empty() {
        let operation = bytes.next();
        let first = operation & 0x80 == 0;
        let mut write = |offset: u64, value: &[u8]| match first {
            true => drop(net.write(offset, value, &memory)),
            false => drop(console.write(offset, value, &memory)),
        };
        match operation % 8 {
            0 => {
                let offset = u64::from(bytes.word());
                let len = usize::from(bytes.next() % 9);
                write(offset, bytes.take(len));
            }
            1 => {
                // The registers that there are, with small values.
                let offset = u64::from(bytes.next()) & !3;
                let value = u32::from(bytes.word());
                write(offset, &value.to_le_bytes());
            }
            2 => set_up(&mut bytes, write),
            3 => {
                let mut into = [0x11; 9];
                let offset = u64::from(bytes.word());
                let into = &mut into[..usize::from(bytes.next() % 9)];
                match first {
                    true => net.read(offset, into),
                    false => console.read(offset, into),
                }
                assert!(!into.contains(&0x11), "not everything was read");
            }
            4 => {
                let at = u64::from(bytes.word()) % MEMORY as u64;
                let len = usize::from(bytes.next());
                // What does not fit is cut off.
                let _ = memory.write(bytes.take(len), GuestAddress(at));
            }
            5 => {
                world.arriving.push(bytes.word().into());
                world.room += usize::from(bytes.word());
            }
            6 => descriptor(&mut bytes, &memory),
            _ => {
                world.open &= bytes.next() != 0;
                for turn in 0.. {
                    assert!(turn < TURNS, "a device does not come to rest");
                    let wants = match first {
                        true => net.work(&memory, &mut world),
                        false => console.work(&memory, &mut world),
                    };
                    check(wants);
                    if !wants.again {
                        break;
                    }
                }
            }
        }
    }
}

fn check(wants: Wants) {
    assert!(
        !(wants.room && wants.closed),
        "nobody waits for room where nobody is"
    );
}

/// What a driver does at first, with queues wherever the bytes say.
fn set_up(bytes: &mut Bytes<'_>, mut write: impl FnMut(u64, &[u8])) {
    let mut write = |offset, value: u32| write(offset, &value.to_le_bytes());
    for status in [0, 1, 3] {
        write(0x70, status);
    }
    write(0x24, 0);
    write(0x20, u32::from(bytes.next() & 1) << 29);
    write(0x24, 1);
    write(0x20, 1);
    write(0x70, 11);
    for queue in 0..2 {
        write(0x30, queue);
        write(0x38, 1 << (bytes.next() % 9));
        for part in [0x80, 0x90, 0xa0] {
            write(part, u32::from(bytes.next()) << 7);
        }
        write(0x44, 1);
    }
    write(0x70, 15);
}

/// A descriptor, and an entry of an available ring that leads to it.
fn descriptor(bytes: &mut Bytes<'_>, memory: &Memory) {
    let table = u64::from(bytes.next()) << 7;
    let index = u64::from(bytes.next());
    let mut descriptor = [0; 16];
    descriptor[..2].copy_from_slice(&bytes.word().to_le_bytes());
    descriptor[8..10].copy_from_slice(&bytes.word().to_le_bytes());
    descriptor[12] = bytes.next() % 8;
    descriptor[14] = bytes.next();
    let ring = u64::from(bytes.next()) << 7;
    let available = u16::from(bytes.next());
    let entry = ring + 4 + 2 * u64::from(available.wrapping_sub(1) % 8);
    // Beyond memory, there is nothing to be written.
    let _ = memory.write(&descriptor, GuestAddress(table + 16 * index));
    let _ = memory.write(&[index.to_le_bytes()[0], 0], GuestAddress(entry));
    let _ = memory.write(&available.to_le_bytes(), GuestAddress(ring + 2));
}
