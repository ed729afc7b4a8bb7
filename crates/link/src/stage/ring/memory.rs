//! The memory of a ring, shared by two processes.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

use super::{CONTROL_LEN, RING_LEN};

/// Bytes of the shared memory: a page of indices, then the slots of both directions.
pub(super) const MEMORY_LEN: usize = CONTROL_LEN + 2 * RING_LEN;

/// The memory of both directions, mapped.
#[derive(Debug)]
pub(crate) struct Memory {
    base: NonNull<u8>,
}

impl Memory {
    /// Makes memory whose size nobody can change, and maps it.
    pub(crate) fn create() -> io::Result<(Rc<Self>, OwnedFd)> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = rustix::fs::memfd_create("plumb-ring", flags)?;
        ftruncate(&fd, u64::try_from(MEMORY_LEN).unwrap_or(0))?;
        fcntl_add_seals(&fd, seals())?;
        Ok((Rc::new(Self::map(fd.as_fd())?), fd))
    }

    /// Maps memory that somebody else made, if its size is right and stays so: reading behind the
    /// end of a file that was made shorter ends a process.
    pub(crate) fn open(fd: BorrowedFd<'_>) -> io::Result<Rc<Self>> {
        let stat = fstat(fd)?;
        let sealed = fcntl_get_seals(fd)?.contains(seals());
        if !sealed || usize::try_from(stat.st_size) != Ok(MEMORY_LEN) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Rc::new(Self::map(fd)?))
    }

    fn map(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe {
            mmap(
                core::ptr::null_mut(),
                MEMORY_LEN,
                protection,
                MapFlags::SHARED,
                fd,
                0,
            )
        }?;
        let memory = Self {
            base: NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?,
        };
        // A forked child would be a second writer.
        // SAFETY: the advice concerns children only.
        unsafe { madvise(base, MEMORY_LEN, Advice::LinuxDontFork) }?;
        Ok(memory)
    }

    pub(super) fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset.checked_add(len).is_some_and(|end| end <= MEMORY_LEN));
        // SAFETY: the mapping has `MEMORY_LEN` bytes.
        unsafe { self.base.as_ptr().add(offset) }
    }

    pub(super) fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4));
        // SAFETY: within the mapping, which lives as long as `self`; aligned, as the mapping is to
        // pages; only ever accessed atomically by this process.
        unsafe { AtomicU32::from_ptr(self.at(offset, 4).cast()) }
    }

    pub(super) fn double_word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8));
        // SAFETY: as for `word`.
        unsafe { AtomicU64::from_ptr(self.at(offset, 8).cast()) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: this mapping was made by `map`, and nothing refers to it any more.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), MEMORY_LEN) };
    }
}

fn seals() -> SealFlags {
    SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_its_maker_could_make_smaller_is_refused() {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        for (len, seal) in [(MEMORY_LEN, false), (MEMORY_LEN - 1, true)] {
            let fd = rustix::fs::memfd_create("test", flags).unwrap();
            ftruncate(&fd, u64::try_from(len).unwrap()).unwrap();
            if seal {
                fcntl_add_seals(&fd, seals()).unwrap();
            }
            assert!(Memory::open(fd.as_fd()).is_err(), "{len} {seal}");
        }
    }
}
