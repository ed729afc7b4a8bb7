//! The rest of a frame, left in the ring that it came by.

use core::ptr::copy_nonoverlapping;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::rc::Rc;

use super::Place;

/// Bytes of a slot whose space is not given back before this is gone. The other side may change them at any
/// time, as it may before they are copied.
#[derive(Debug)]
pub(crate) struct Lent {
    place: Place,
    index: u64,
    len: usize,
    /// What the reader counts.
    _count: Rc<()>,
}

impl Lent {
    pub(super) fn new(place: &Place, index: u64, len: usize, count: &Rc<()>) -> Self {
        Self {
            place: place.clone(),
            index,
            len,
            _count: Rc::clone(count),
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Copies it to `offset` bytes behind `slot`, a slot of another ring that has room for as much.
    pub(super) fn copy_to(&self, slot: *mut u8, offset: usize) {
        let from = self.place.slot(self.index, self.len);
        // SAFETY: `Place::slot` checks the bounds of the source; those of the target were checked when the
        // caller had it by the same function. They are plain bytes of two rings, or of two directions of
        // one: whoever writes into a ring does not read from the same.
        unsafe { copy_nonoverlapping(from, slot.add(offset), self.len) };
    }

    /// Copies it behind what is in `into`.
    pub(crate) fn append_to(&self, into: &mut Vec<u8>) {
        into.reserve(self.len);
        let from = self.place.slot(self.index, self.len);
        let len = into.len();
        // SAFETY: `Place::slot` checks the bounds of the source, `reserve` made room for as much behind
        // the length, which counts the bytes when all are written.
        unsafe {
            copy_nonoverlapping(from, into.as_mut_ptr().add(len), self.len);
            into.set_len(len + self.len);
        }
    }

    /// Writes `header` and `head` and it with one call, for a device that takes a frame whole or not at
    /// all.
    pub(crate) fn write_behind(
        &self,
        header: &[u8],
        head: &[u8],
        fd: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let piece = |bytes: &[u8]| libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        let body = libc::iovec {
            iov_base: self.place.slot(self.index, self.len).cast(),
            iov_len: self.len,
        };
        let pieces = [piece(header), piece(head), body];
        // SAFETY: the kernel reads two live slices and, within bounds that `Place::slot` checks, memory
        // that stays mapped as long as `place` is there. It writes to none of them.
        let wrote = unsafe { libc::writev(fd.as_raw_fd(), pieces.as_ptr(), 3) };
        if wrote < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}
