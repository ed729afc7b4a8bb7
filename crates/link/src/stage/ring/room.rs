//! Room in a ring for a frame that the kernel is to put there.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::slot::HEADER_LEN;
use super::{Corrupt, Producer};
use crate::stage::Meta;

/// Where the next frame that is sent over a link is to be: in memory that the neighbour reads it from.
#[derive(Debug)]
pub struct Room<'a> {
    producer: &'a mut Producer,
    most: usize,
}

impl<'a> Room<'a> {
    /// Room for a frame of up to `most` bytes; none if there is not as much.
    pub(in crate::stage) fn new(
        producer: &'a mut Producer,
        most: usize,
    ) -> Result<Option<Self>, Corrupt> {
        Ok(producer.make_room(most)?.then_some(Self { producer, most }))
    }

    /// Reads a frame, and the header before it, with one call. Returns the length of the frame.
    pub(in crate::stage) fn read_frame(
        &mut self,
        header: &mut [u8],
        fd: BorrowedFd<'_>,
    ) -> io::Result<usize> {
        let slot = self
            .producer
            .place
            .slot(self.producer.tail, HEADER_LEN + self.most);
        let pieces = [
            libc::iovec {
                iov_base: header.as_mut_ptr().cast(),
                iov_len: header.len(),
            },
            libc::iovec {
                // SAFETY: `slot` has checked that more than the header lies within the memory.
                iov_base: unsafe { slot.add(HEADER_LEN) }.cast(),
                iov_len: self.most,
            },
        ];
        // SAFETY: the kernel writes into a live slice and, within bounds that `slot` checks, into a slot
        // that no frame is in yet.
        let len = unsafe { libc::readv(fd.as_raw_fd(), pieces.as_ptr(), 2) };
        let Ok(len) = usize::try_from(len) else {
            return Err(io::Error::last_os_error());
        };
        Ok(len.saturating_sub(header.len()).min(self.most))
    }

    /// Hands over the frame of this length that was read there. Says whether the neighbour has to be
    /// woken.
    pub(in crate::stage) fn send(self, meta: &Meta, len: usize) -> bool {
        let mut wake = false;
        self.producer.end_slot(meta, len.min(self.most), &mut wake);
        wake
    }
}
