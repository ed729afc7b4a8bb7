//! A ring of frames in memory that two processes share, one writing and one reading.
//!
//! All that stands in the memory may have been put there by somebody hostile: indices are checked
//! against what this side knows, and a slot's header is copied once before it is believed. No
//! reference to the shared bytes is ever made, as the other side may change them at any time.

use core::ptr::copy_nonoverlapping;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::rc::Rc;

use super::Meta;
use slot::{HEADER_LEN, Header};

pub(crate) use lent::Lent;
pub(crate) use memory::Memory;
pub use room::Room;

mod lent;
mod memory;
mod room;
mod slot;

/// Bytes of the slots of one direction. More would not fit into the cache of a core, and cost a
/// third of the throughput.
pub(crate) const RING_LEN: usize = 1 << 20;
/// Longest frame that a slot holds.
pub(crate) const MAX_FRAME_LEN: usize = RING_LEN / 4;

/// Bytes of the indices, which the slots of both directions follow.
const CONTROL_LEN: usize = 4096;
/// Offset of the indices of the second direction.
const SECOND_CONTROL: usize = 2048;

// Offsets of the indices of a direction, each on a cache line of its own: written by the producer,
// by the consumer, by whoever sleeps.
const TAIL: usize = 0;
const CLOSED: usize = 8;
const HEAD: usize = 64;
const READER_SLEEPS: usize = 128;
const WRITER_WAITS: usize = 192;
/// Written once by the producer of the pipe's direction.
const SWITCHED_AT: usize = 256;

/// Bytes that are written before the other side may see them, which moves a cache line from one
/// core to the other.
const SHOW_BYTES: u64 = 4 * 1024;
/// Bytes that are written before the other side is woken: to change over costs more than they do.
const PUBLISH_BYTES: u64 = to_u64(RING_LEN / 8);
/// Bytes that are read before their space is given back.
const RELEASE_BYTES: u64 = 64 * 1024;
/// A body is left in the ring from this length on.
const BODY_LEN: usize = 4 * 1024;

/// What stands in the memory is impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Corrupt;

/// Which of the two directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// As the pipe flows: from the side that made the memory.
    Forward,
    /// Against the pipe.
    Reverse,
}

/// Where a direction is in the memory.
#[derive(Clone, Debug)]
struct Place {
    memory: Rc<Memory>,
    control: usize,
    slots: usize,
}

impl Place {
    fn new(memory: &Rc<Memory>, way: Way) -> Self {
        let (control, slots) = match way {
            Way::Forward => (0, CONTROL_LEN),
            Way::Reverse => (SECOND_CONTROL, CONTROL_LEN + RING_LEN),
        };
        Self {
            memory: Rc::clone(memory),
            control,
            slots,
        }
    }

    fn tail(&self) -> &AtomicU64 {
        self.memory.double_word(self.control + TAIL)
    }

    fn head(&self) -> &AtomicU64 {
        self.memory.double_word(self.control + HEAD)
    }

    fn flag(&self, offset: usize) -> &AtomicU32 {
        self.memory.word(self.control + offset)
    }

    /// The `len` bytes at an index, which must not reach over the end of the ring.
    fn slot(&self, index: u64, len: usize) -> *mut u8 {
        let offset = offset_of(index);
        assert!(offset + len <= RING_LEN);
        self.memory.at(self.slots + offset, len)
    }

    /// Reads the slot at `head`, of which `available` bytes may be read, into `meta` and `bytes`: all of
    /// its frame, or `head_len` bytes where that is said and the rest may stay.
    #[inline]
    fn read(
        &self,
        head: u64,
        available: u64,
        head_len: Option<usize>,
        meta: &mut Meta,
        bytes: &mut Vec<u8>,
    ) -> Result<Slot, Corrupt> {
        let room = usize::try_from(available)
            .map_err(|_| Corrupt)?
            .min(RING_LEN - offset_of(head));
        if room < HEADER_LEN {
            return Err(Corrupt);
        }
        let slot = self.slot(head, HEADER_LEN);
        // SAFETY: `slot` checks the bounds, and slots are aligned to their header's length. What is
        // read may be torn if the other side writes meanwhile, but any bytes are a value; it is read
        // once.
        let header = Header(unsafe { slot.cast::<[u64; 4]>().read_volatile() });
        let len = header.len();
        if header.is_pad() {
            // A pad reaches to the end of the ring.
            let to_end = RING_LEN - offset_of(head);
            if room != to_end {
                return Err(Corrupt);
            }
            return Ok(Slot {
                is_frame: false,
                rest: 0,
                len: to_u64(to_end),
            });
        }
        if len > MAX_FRAME_LEN || slot_len(len) > room {
            return Err(Corrupt);
        }
        let here = match head_len {
            Some(head_len) if len >= head_len + BODY_LEN && header.is_unfinished() => head_len,
            Some(_) | None => len,
        };
        bytes.clear();
        bytes.reserve(here);
        // SAFETY: `slot` checks the bounds of the source, `reserve` made room for as much; both are
        // plain bytes, and the vector's own memory is not shared. All `here` bytes are written
        // before the length says so.
        unsafe {
            let frame = self.slot(head, HEADER_LEN + here).add(HEADER_LEN);
            copy_nonoverlapping(frame, bytes.as_mut_ptr(), here);
            bytes.set_len(here);
        }
        if !header.read_meta(meta) {
            return Err(Corrupt);
        }
        Ok(Slot {
            is_frame: true,
            rest: len - here,
            len: to_u64(slot_len(len)),
        })
    }
}

/// What was read of the ring.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// It holds a frame, and is no pad.
    is_frame: bool,
    /// Bytes of the frame that were left where they are.
    rest: usize,
    /// Bytes of the slot.
    len: u64,
}

/// The end that writes.
#[derive(Debug)]
pub(crate) struct Producer {
    place: Place,
    /// Where the next slot begins.
    tail: u64,
    /// What the other side can see of it, if it looks.
    shown: u64,
    /// What it has been woken for, if it slept.
    published: u64,
    /// The last head that was read.
    head: u64,
}

impl Producer {
    /// The end of a ring that is empty.
    pub(crate) fn new(memory: &Rc<Memory>, way: Way) -> Self {
        Self {
            place: Place::new(memory, way),
            tail: 0,
            shown: 0,
            published: 0,
            head: 0,
        }
    }

    /// Writes a frame, if there is room, and says whether there was. Another side that sleeps learns of
    /// it by [`publish`](Self::publish) only, except after an eighth of the ring. `body` is what of the
    /// frame is in the ring that it came by, behind what is in `frame`.
    pub(crate) fn push(
        &mut self,
        meta: &Meta,
        frame: &[u8],
        body: Option<&Lent>,
        wake: &mut bool,
    ) -> Result<bool, Corrupt> {
        let len = frame.len() + body.map_or(0, Lent::len);
        if len > MAX_FRAME_LEN {
            return Err(Corrupt);
        }
        if !self.make_room(len)? {
            *wake |= self.publish();
            return Ok(false);
        }
        if let Some(body) = body {
            body.copy_to(
                self.place.slot(self.tail, HEADER_LEN + len),
                HEADER_LEN + frame.len(),
            );
        }
        self.write(frame);
        self.end_slot(meta, len, wake);
        Ok(true)
    }

    /// Sees to it that a frame of this length has room at the tail, in one piece. Says whether it has.
    fn make_room(&mut self, len: usize) -> Result<bool, Corrupt> {
        let need = slot_len(len);
        let to_end = RING_LEN - offset_of(self.tail);
        let pad = if need > to_end { to_end } else { 0 };
        if self.free() < to_u64(need + pad) {
            self.refresh()?;
            if self.free() < to_u64(need + pad) {
                return Ok(false);
            }
        }
        if pad > 0 {
            self.write_header(Header::pad());
            self.tail += to_u64(pad);
        }
        Ok(true)
    }

    /// Ends the slot at the tail, in which a frame of this length lies.
    fn end_slot(&mut self, meta: &Meta, len: usize, wake: &mut bool) {
        self.write_header(Header::frame(meta, u32::try_from(len).unwrap_or(u32::MAX)));
        self.tail += to_u64(slot_len(len));
        if self.tail - self.published >= PUBLISH_BYTES {
            *wake |= self.publish();
        } else if self.tail - self.shown >= SHOW_BYTES {
            self.show();
        }
    }

    /// Lets the other side see what was written. Says whether it sleeps and has to be woken.
    pub(crate) fn publish(&mut self) -> bool {
        if self.published == self.tail {
            return false;
        }
        self.show();
        self.published = self.tail;
        // Ordered after the store above, as the sleeper's look at the tail is after its flag.
        fence(Ordering::SeqCst);
        let sleeps = self.place.flag(READER_SLEEPS);
        sleeps.load(Ordering::Relaxed) != 0 && sleeps.swap(0, Ordering::Relaxed) != 0
    }

    /// Lets the other side see what was written, if it is awake.
    fn show(&mut self) {
        self.place.tail().store(self.tail, Ordering::Release);
        self.shown = self.tail;
    }

    /// Says that nothing more will come, after all that was written.
    pub(crate) fn close(&mut self) {
        self.publish();
        self.place.flag(CLOSED).store(1, Ordering::Release);
    }

    /// Says that everything is in the pipe that comes before the ring: so many bytes of the section.
    pub(crate) fn switched_at(&self, bytes: u64) {
        let word = self
            .place
            .memory
            .double_word(self.place.control + SWITCHED_AT);
        word.store(bytes, Ordering::Release);
    }

    /// Asks to be woken when a good part of the ring is free. Says whether it is already.
    pub(crate) fn wait_for_room(&mut self) -> Result<bool, Corrupt> {
        self.place.flag(WRITER_WAITS).store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.refresh()?;
        Ok(self.free() >= to_u64(RING_LEN / 4))
    }

    /// Takes back the oldest frame that the other side has not read, and says whether there was one.
    /// Only for when it is gone.
    pub(crate) fn take_back(
        &mut self,
        meta: &mut Meta,
        bytes: &mut Vec<u8>,
    ) -> Result<bool, Corrupt> {
        self.refresh()?;
        while self.head != self.tail {
            let available = self.tail - self.head;
            let slot = self.place.read(self.head, available, None, meta, bytes)?;
            self.head += slot.len;
            self.place.head().store(self.head, Ordering::Release);
            if slot.is_frame {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn free(&self) -> u64 {
        to_u64(RING_LEN) - (self.tail - self.head)
    }

    fn refresh(&mut self) -> Result<(), Corrupt> {
        let head = self.place.head().load(Ordering::Acquire);
        // It moves from where it was towards what was written, by whole slots.
        if head < self.head || head > self.tail || !is_aligned(head) {
            return Err(Corrupt);
        }
        self.head = head;
        Ok(())
    }

    fn write_header(&self, header: Header) {
        let slot = self.place.slot(self.tail, HEADER_LEN);
        // One by one: put together first, they would have to reach the cache to be read as one.
        for (at, word) in header.0.into_iter().enumerate() {
            // SAFETY: `slot` checks the bounds, and slots are aligned to their header's length.
            unsafe { slot.cast::<u64>().add(at).write(word) };
        }
    }

    /// Writes a frame, or the beginning of it, into the slot at the tail.
    fn write(&self, frame: &[u8]) {
        let slot = self.place.slot(self.tail, HEADER_LEN + frame.len());
        // SAFETY: `slot` checks the bounds of the target; the source is ours alone.
        unsafe { copy_nonoverlapping(frame.as_ptr(), slot.add(HEADER_LEN), frame.len()) };
    }
}

/// The end that reads.
#[derive(Debug)]
pub(crate) struct Consumer {
    place: Place,
    /// Where the next slot begins.
    head: u64,
    /// What the other side knows of it.
    released: u64,
    /// The last tail that was read.
    tail: u64,
    /// Where the frame begins whose body was left last, and who has that; it is given back then.
    lent: (u64, Rc<()>),
}

impl Consumer {
    /// The end of a ring that is empty.
    pub(crate) fn new(memory: &Rc<Memory>, way: Way) -> Self {
        Self {
            place: Place::new(memory, way),
            head: 0,
            released: 0,
            tail: 0,
            lent: (0, Rc::new(())),
        }
    }

    /// Copies the next frame into `meta` and `bytes`, and says whether there was one.
    pub(crate) fn pop(
        &mut self,
        meta: &mut Meta,
        bytes: &mut Vec<u8>,
        wake: &mut bool,
    ) -> Result<bool, Corrupt> {
        self.pop_head(None, meta, bytes, &mut None, wake)
    }

    /// The same with `head_len` bytes of long frames whose checksums are not finished, if that is said;
    /// the rest is left in `body`.
    pub(crate) fn pop_head(
        &mut self,
        head_len: Option<usize>,
        meta: &mut Meta,
        bytes: &mut Vec<u8>,
        body: &mut Option<Lent>,
        wake: &mut bool,
    ) -> Result<bool, Corrupt> {
        // One body at a time.
        let head_len = head_len.filter(|_| !self.is_lent());
        loop {
            if self.head == self.tail {
                self.refresh()?;
                if self.head == self.tail {
                    *wake |= self.release();
                    return Ok(false);
                }
            }
            let available = self.tail - self.head;
            let slot = self
                .place
                .read(self.head, available, head_len, meta, bytes)?;
            if slot.rest > 0 {
                self.lent.0 = self.head;
                *body = Some(Lent::new(
                    &self.place,
                    self.head + to_u64(HEADER_LEN + bytes.len()),
                    slot.rest,
                    &self.lent.1,
                ));
            }
            self.head += slot.len;
            if self.head - self.released >= RELEASE_BYTES {
                *wake |= self.release();
            }
            if slot.is_frame {
                return Ok(true);
            }
        }
    }

    /// Whether the rest of a frame is still in use.
    fn is_lent(&self) -> bool {
        Rc::strong_count(&self.lent.1) > 1
    }

    /// Gives the space of what was read back, up to what is lent. Says whether the other side waits for
    /// that.
    pub(crate) fn release(&mut self) -> bool {
        let head = if self.is_lent() {
            self.lent.0
        } else {
            self.head
        };
        if self.released != head {
            self.place.head().store(head, Ordering::Release);
            self.released = head;
        }
        fence(Ordering::SeqCst);
        let waits = self.place.flag(WRITER_WAITS);
        if waits.load(Ordering::Relaxed) == 0 {
            return false;
        }
        // To wake it for every slot would cost more than the slot.
        let tail = self.place.tail().load(Ordering::Acquire);
        let used = tail.wrapping_sub(head);
        used <= to_u64(RING_LEN / 2) && waits.swap(0, Ordering::Relaxed) != 0
    }

    /// Asks to be woken when a frame comes. Says whether one is there already.
    pub(crate) fn wait_for_frames(&mut self) -> Result<bool, Corrupt> {
        self.place.flag(READER_SLEEPS).store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.refresh()?;
        Ok(self.head != self.tail || self.is_closed())
    }

    /// Takes the wish to be woken back.
    pub(crate) fn awake(&self) {
        self.place.flag(READER_SLEEPS).store(0, Ordering::Relaxed);
    }

    /// How many bytes of the section come through the pipe before the ring, once they are in it.
    pub(crate) fn switched_at(&self) -> Option<u64> {
        let word = self
            .place
            .memory
            .double_word(self.place.control + SWITCHED_AT);
        Some(word.load(Ordering::Acquire)).filter(|bytes| *bytes != 0)
    }

    /// Nothing will come after what is there.
    pub(crate) fn is_closed(&self) -> bool {
        self.place.flag(CLOSED).load(Ordering::Acquire) != 0
    }

    fn refresh(&mut self) -> Result<(), Corrupt> {
        let tail = self.place.tail().load(Ordering::Acquire);
        if tail < self.tail || tail - self.head > to_u64(RING_LEN) || !is_aligned(tail) {
            return Err(Corrupt);
        }
        self.tail = tail;
        Ok(())
    }
}

/// Bytes of a slot with a frame of `len` bytes.
pub(crate) const fn slot_len(len: usize) -> usize {
    (HEADER_LEN + len).next_multiple_of(HEADER_LEN)
}

const fn is_aligned(index: u64) -> bool {
    index.is_multiple_of(to_u64(HEADER_LEN))
}

#[expect(clippy::cast_possible_truncation, reason = "less than RING_LEN")]
const fn offset_of(index: u64) -> usize {
    (index % to_u64(RING_LEN)) as usize
}

const fn to_u64(len: usize) -> u64 {
    len as u64
}

#[cfg(test)]
mod tests;
