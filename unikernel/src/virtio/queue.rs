//! A split virtqueue (virtio 1.2 §2.7), of which each descriptor has one buffer of its own for ever.
//!
//! The device is not trusted: what it writes into the used ring is compared with what it was given.
//! One that returns what it does not have makes the queue [broken](Queue::is_broken): it is not
//! used any more. Nothing that it writes is used as an index before it was checked.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU16, Ordering, fence};

use super::dma::Dma;

const DESCRIPTOR: usize = 16;
const USED_ELEMENT: usize = 8;
/// Flags and index, before the elements of the driver's and of the device's ring.
const RING_HEADER: usize = 4;
const INDEX: usize = 2;
/// The descriptor's buffer is for the device to write.
const WRITE: u16 = 2;
/// In the driver's ring: interrupts are not wanted.
const NO_INTERRUPT: u16 = 1;
/// In the device's ring: notifications are not wanted.
const NO_NOTIFY: u16 = 1;

/// Who writes into the buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The device writes: all buffers are given to it at once, and again after they were read.
    Receive,
    /// The driver writes: buffers are free until they are sent.
    Transmit,
}

/// Where a queue is, for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rings {
    /// Address of the descriptor table; page-aligned.
    pub descriptors: u64,
    /// Address of the driver's (available) ring.
    pub driver: u64,
    /// Address of the device's (used) ring.
    pub device: u64,
    /// Number of descriptors.
    pub size: u16,
}

/// A buffer that the device has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Which one.
    pub buffer: u16,
    /// Bytes that the device says it wrote. May be more than there is room for.
    pub len: usize,
}

/// Who has a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Driver,
    /// It is in the driver's ring, but the device was not told.
    Given,
    Device,
}

/// A queue with its buffers.
#[derive(Debug)]
pub struct Queue {
    rings: Dma,
    buffers: Dma,
    buffer_len: usize,
    driver: usize,
    device: usize,
    size: u16,
    event_index: bool,
    direction: Direction,
    /// Buffers that the device does not have.
    free: Vec<u16>,
    /// Buffers in the driver's ring that the device does not know of.
    given: Vec<u16>,
    /// Who has each buffer.
    holders: Vec<Holder>,
    /// Index in the driver's ring up to which buffers were put there.
    put: u16,
    /// Index up to which the device knows of them.
    published: u16,
    /// Index in the device's ring up to which completions were taken.
    taken: u16,
    /// The device interrupts at the next completion.
    armed: bool,
    /// It may have interrupted since that was last asked.
    interrupted: bool,
    broken: bool,
}

impl Queue {
    /// A queue of `size` buffers of `buffer_len` bytes.
    ///
    /// `align` is the alignment of the device's ring, a power of two from 4 on. `event_index` says
    /// whether VIRTIO_F_EVENT_IDX was negotiated. A transmit queue begins with interrupts off.
    ///
    /// # Panics
    /// If `size` is not a power of two or there is no memory.
    pub fn new(
        direction: Direction,
        size: u16,
        buffer_len: usize,
        align: usize,
        event_index: bool,
    ) -> Self {
        assert!(size.is_power_of_two(), "a queue of {size} buffers");
        let n = usize::from(size);
        let driver = n * DESCRIPTOR;
        // Behind each ring is room for the other side's event index.
        let device = (driver + RING_HEADER + n * 2 + 2).next_multiple_of(align.max(4));
        let end = device + RING_HEADER + n * USED_ELEMENT + 2;
        let mut queue = Self {
            rings: Dma::zeroed(end.next_multiple_of(64)),
            buffers: Dma::untouched(n * buffer_len),
            buffer_len,
            driver,
            device,
            size,
            event_index,
            direction,
            free: (0..size).rev().collect(),
            given: Vec::with_capacity(n),
            holders: (0..size).map(|_| Holder::Driver).collect(),
            put: 0,
            published: 0,
            taken: 0,
            armed: direction == Direction::Receive,
            interrupted: false,
            broken: false,
        };
        for buffer in 0..size {
            queue.describe(buffer);
        }
        match direction {
            Direction::Receive => {
                while let Some(buffer) = queue.free() {
                    queue.give(buffer, buffer_len);
                }
                queue.publish();
            }
            Direction::Transmit => queue.disarm(),
        }
        queue
    }

    /// Where the queue is.
    pub fn rings(&self) -> Rings {
        let start = self.rings.address();
        Rings {
            descriptors: start,
            driver: start + self.driver as u64,
            device: start + self.device as u64,
            size: self.size,
        }
    }

    /// Number of bytes in a buffer.
    pub const fn buffer_len(&self) -> usize {
        self.buffer_len
    }

    /// Says whether the device broke the rules. The queue stands still then.
    pub const fn is_broken(&self) -> bool {
        self.broken
    }

    /// Takes a buffer that the device does not have.
    pub fn free(&mut self) -> Option<u16> {
        self.free.pop()
    }

    /// Gives a buffer back that was taken and not used.
    ///
    /// # Panics
    /// If the device has it.
    pub fn release(&mut self, buffer: u16) {
        self.expect_mine(buffer);
        self.free.push(buffer);
    }

    /// Content of a buffer that the device does not have.
    ///
    /// # Panics
    /// If the device has it.
    pub fn buffer(&self, buffer: u16) -> &[u8] {
        let start = self.start(buffer);
        // SAFETY: inside of the allocation (`at` says so), initialised (see `Dma`), and not written
        // by anyone else, since the device does not have it.
        unsafe { core::slice::from_raw_parts(start, self.buffer_len) }
    }

    /// Content of a buffer that the device does not have.
    ///
    /// # Panics
    /// If the device has it.
    pub fn buffer_mut(&mut self, buffer: u16) -> &mut [u8] {
        let start = self.start(buffer);
        // SAFETY: as above; the queue is borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(start, self.buffer_len) }
    }

    /// Puts a buffer with `len` bytes of content, or of room, into the driver's ring. The device
    /// learns of it with [`publish`](Self::publish).
    ///
    /// # Panics
    /// If the device has it or `len` is more than the buffer's length.
    pub fn give(&mut self, buffer: u16, len: usize) {
        assert!(len <= self.buffer_len, "{len} bytes in a buffer");
        self.expect_mine(buffer);
        self.holders[usize::from(buffer)] = Holder::Given;
        self.given.push(buffer);
        if self.direction == Direction::Transmit {
            let descriptor = usize::from(buffer) * DESCRIPTOR;
            #[expect(clippy::cast_possible_truncation, reason = "a buffer is smaller")]
            self.write_u32(descriptor + 8, len as u32);
        }
        let slot = usize::from(self.put % self.size);
        self.word(self.driver + RING_HEADER + slot * 2)
            .store(buffer.to_le(), Ordering::Relaxed);
        self.put = self.put.wrapping_add(1);
    }

    /// Number of buffers that were given and not published.
    pub const fn unpublished(&self) -> u16 {
        self.put.wrapping_sub(self.published)
    }

    /// Tells the device's ring what was given, and returns whether the device wants a notification.
    pub fn publish(&mut self) -> bool {
        if self.put == self.published {
            return false;
        }
        let old = self.published;
        self.published = self.put;
        for buffer in self.given.drain(..) {
            self.holders[usize::from(buffer)] = Holder::Device;
        }
        self.word(self.driver + INDEX)
            .store(self.put.to_le(), Ordering::Release);
        // The index has to be there before the device's wish is read: otherwise it could go to
        // sleep in between without having seen the one, and we without having seen the other.
        fence(Ordering::SeqCst);
        if self.event_index {
            let event = self.device + RING_HEADER + usize::from(self.size) * USED_ELEMENT;
            let event = u16::from_le(self.word(event).load(Ordering::Relaxed));
            crosses(event, self.put, old)
        } else {
            let flags = u16::from_le(self.word(self.device).load(Ordering::Relaxed));
            flags & NO_NOTIFY == 0
        }
    }

    /// Takes the next buffer that the device has returned. It belongs to the caller then.
    pub fn take(&mut self) -> Option<Completion> {
        if self.broken || !self.has_completion() {
            return None;
        }
        if self.armed {
            self.interrupted = true;
            self.disarm();
        }
        let index = u16::from_le(self.word(self.device + INDEX).load(Ordering::Acquire));
        let pending = index.wrapping_sub(self.taken);
        let slot = usize::from(self.taken % self.size);
        let element = self.device + RING_HEADER + slot * USED_ELEMENT;
        let id = u16::try_from(self.read_u32(element)).unwrap_or(u16::MAX);
        let len = self.read_u32(element + 4) as usize;
        let possible = pending <= self.published.wrapping_sub(self.taken);
        match self.holders.get_mut(usize::from(id)) {
            Some(holder) if possible && *holder == Holder::Device => *holder = Holder::Driver,
            _ => {
                self.broken = true;
                return None;
            }
        }
        self.taken = self.taken.wrapping_add(1);
        if self.direction == Direction::Transmit && self.event_index {
            self.disarm();
        }
        Some(Completion { buffer: id, len })
    }

    /// Frees all buffers that the device has returned, whatever is in them.
    pub fn reap(&mut self) {
        while let Some(completion) = self.take() {
            self.free.push(completion.buffer);
        }
    }

    /// Asks for an interrupt at the next completion. Returns false if there is one already.
    pub fn arm(&mut self) -> bool {
        if !self.armed {
            self.armed = true;
            if self.event_index {
                self.used_event()
                    .store(self.taken.to_le(), Ordering::Relaxed);
            } else {
                self.word(self.driver).store(0, Ordering::Relaxed);
            }
            // As in `publish`, with the roles exchanged.
            fence(Ordering::SeqCst);
        }
        self.broken || !self.has_completion()
    }

    /// Says, once, that the device may have interrupted.
    pub const fn take_interrupted(&mut self) -> bool {
        core::mem::replace(&mut self.interrupted, false)
    }

    /// Asks for no interrupts.
    pub fn disarm(&mut self) {
        self.armed = false;
        if self.event_index {
            // An index that lies behind is not crossed until 65 536 completions have come.
            let behind = self.taken.wrapping_sub(1);
            self.used_event().store(behind.to_le(), Ordering::Relaxed);
        } else {
            self.word(self.driver)
                .store(NO_INTERRUPT.to_le(), Ordering::Relaxed);
        }
    }

    fn has_completion(&self) -> bool {
        let index = u16::from_le(self.word(self.device + INDEX).load(Ordering::Acquire));
        index != self.taken
    }

    fn used_event(&self) -> &AtomicU16 {
        self.word(self.driver + RING_HEADER + usize::from(self.size) * 2)
    }

    /// Writes a descriptor. Only its length ever changes.
    fn describe(&mut self, buffer: u16) {
        let at = usize::from(buffer) * DESCRIPTOR;
        let address = self.buffers.address() + (usize::from(buffer) * self.buffer_len) as u64;
        #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
        {
            self.write_u32(at, address as u32);
            self.write_u32(at + 4, (address >> 32) as u32);
            self.write_u32(at + 8, self.buffer_len as u32);
        }
        let flags = match self.direction {
            Direction::Receive => WRITE,
            Direction::Transmit => 0,
        };
        self.write_u32(at + 12, u32::from(flags));
    }

    fn expect_mine(&self, buffer: u16) {
        let holder = self.holders[usize::from(buffer)];
        assert_eq!(holder, Holder::Driver, "the device has the buffer");
    }

    fn start(&self, buffer: u16) -> *mut u8 {
        self.expect_mine(buffer);
        let buffer = usize::from(buffer);
        let start = self.buffers.at(buffer * self.buffer_len, self.buffer_len);
        start.as_ptr()
    }

    /// A 16-bit word of the rings, little-endian.
    fn word(&self, offset: usize) -> &AtomicU16 {
        let pointer = self.rings.at(offset, 2).cast();
        debug_assert!(pointer.is_aligned());
        // SAFETY: inside of the allocation, which lives as long as `self`; aligned, since all
        // offsets are even; both sides use atomic accesses of this size.
        unsafe { AtomicU16::from_ptr(pointer.as_ptr()) }
    }

    fn read_u32(&self, offset: usize) -> u32 {
        let pointer = self.rings.at(offset, 4).cast::<u32>();
        // SAFETY: inside of the allocation and aligned to 4, as all elements are. Volatile, since
        // the device writes there.
        u32::from_le(unsafe { pointer.read_volatile() })
    }

    fn write_u32(&mut self, offset: usize, value: u32) {
        let pointer = self.rings.at(offset, 4).cast::<u32>();
        // SAFETY: as above.
        unsafe { pointer.write_volatile(value.to_le()) }
    }
}

/// Says whether a ring's index that went from `old` to `new` passed `event` (virtio 1.2 §2.7.10),
/// which means that it does not matter where 65 536 is passed.
pub const fn crosses(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

#[cfg(test)]
mod tests;
