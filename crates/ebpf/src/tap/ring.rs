//! Reading a ring buffer of the kernel (Documentation/bpf/ringbuf.rst).

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A record's header: its length with two flags, and where it is.
const HEADER_LEN: usize = 8;
const BUSY: u32 = 1 << 31;
const DISCARD: u32 = 1 << 30;
/// After so many bytes the kernel is told that they are read. Each time costs the watched packet that
/// is next: it looks at both positions, which another processor has just had.
const TOLD: usize = 4096;

/// The reader's end.
#[derive(Debug)]
pub(crate) struct Ring {
    /// Readable once the kernel has woken the reader, until it looks. The map itself would be as
    /// soon as there is anything: a reader that polls it never sleeps while packets come.
    woken: OwnedFd,
    /// Open for as long as that waits for it.
    _map: OwnedFd,
    consumer: Mapping,
    /// The producer's position, then the data twice, so that every record is in one piece.
    producer: Mapping,
    page: usize,
    mask: usize,
}

#[derive(Debug)]
struct Mapping {
    at: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(fd: BorrowedFd<'_>, len: usize, writable: bool, offset: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping, wherever the kernel wants, touches no memory that is in use.
        let at = unsafe {
            libc::mmap(
                core::ptr::null_mut(),
                len,
                protection,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                offset,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(at.cast()).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self { at, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing that was borrowed of it outlives it.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.len) };
    }
}

impl Ring {
    /// Maps a ring buffer of this size, a power of two.
    pub(crate) fn new(map: OwnedFd, size: usize) -> io::Result<Self> {
        let page = page_size();
        Ok(Self {
            consumer: Mapping::new(map.as_fd(), page, true, 0)?,
            producer: Mapping::new(map.as_fd(), page + 2 * size, false, page)?,
            woken: edges(map.as_fd())?,
            _map: map,
            page,
            mask: size - 1,
        })
    }

    fn consumed(&self) -> &AtomicUsize {
        // SAFETY: the mapping is a page, aligned as such, and begins with this word, which both
        // sides use atomically.
        unsafe { self.consumer.at.cast().as_ref() }
    }

    fn produced(&self) -> &AtomicUsize {
        // SAFETY: as above; only the kernel writes it.
        unsafe { self.producer.at.cast().as_ref() }
    }

    /// Hands up to `most` records to `sink`, until it wants no more by returning false; says how
    /// many.
    pub(crate) fn consume(&self, most: usize, mut sink: impl FnMut(&[u8]) -> bool) -> usize {
        // Before it looks: whoever is woken meanwhile looks again.
        self.forget_waking();
        let mut at = self.consumed().load(Ordering::Relaxed);
        let (mut told, mut produced) = (at, at);
        let mut count = 0;
        let mut goes_on = true;
        while goes_on && count < most {
            if at == produced {
                produced = self.produced().load(Ordering::Acquire);
                if at == produced {
                    break;
                }
            }
            // SAFETY: the data is behind the first page, and `at & mask` lies within its first
            // copy; records are aligned to 8 bytes.
            let header: &AtomicU32 = unsafe {
                self.producer
                    .at
                    .add(self.page + (at & self.mask))
                    .cast()
                    .as_ref()
            };
            let word = header.load(Ordering::Acquire);
            if word & BUSY != 0 {
                break;
            }
            let len = (word & !(BUSY | DISCARD)) as usize;
            if word & DISCARD == 0 && len <= self.mask {
                // SAFETY: a record that is not busy is not written any more until it is consumed,
                // and the second copy of the data makes it contiguous.
                let record = unsafe {
                    core::slice::from_raw_parts(
                        self.producer
                            .at
                            .as_ptr()
                            .add(self.page + (at & self.mask) + HEADER_LEN),
                        len,
                    )
                };
                goes_on = sink(record);
                count += 1;
            }
            at += (HEADER_LEN + len).next_multiple_of(8);
            if at - told >= TOLD {
                self.consumed().store(at, Ordering::Release);
                told = at;
            }
        }
        self.consumed().store(at, Ordering::Release);
        count
    }

    fn forget_waking(&self) {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: there is room for the one event that it may write; it does not wait.
        unsafe { libc::epoll_wait(self.woken.as_raw_fd(), &raw mut event, 1, 0) };
    }

    /// Whether there is nothing to read.
    pub(crate) fn is_empty(&self) -> bool {
        self.consumed().load(Ordering::Relaxed) == self.produced().load(Ordering::Acquire)
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }
}

/// What becomes readable each time the kernel wakes those who wait for this map.
fn edges(map: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointers.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if epoll < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given it to us.
    let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
    let mut event = libc::epoll_event {
        events: (libc::EPOLLIN | libc::EPOLLET).cast_unsigned(),
        u64: 0,
    };
    // SAFETY: both descriptors are open, and the event outlives the call.
    let added = unsafe {
        libc::epoll_ctl(
            epoll.as_raw_fd(),
            libc::EPOLL_CTL_ADD,
            map.as_raw_fd(),
            &raw mut event,
        )
    };
    if added < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(epoll)
}

fn page_size() -> usize {
    // SAFETY: sysconf has no conditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}
