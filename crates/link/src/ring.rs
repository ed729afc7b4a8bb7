//! Receiving from a packet socket through a ring that is shared with the kernel.
//!
//! The ring is TPACKET_V2: a frame per packet. The kernel hands each frame over the moment the
//! packet is in it, and wakes the reader. TPACKET_V3 hands over blocks of many packets, when they
//! are full or after a timeout of whole milliseconds, which would be added to the reply of every
//! single trace; V2 takes no system call per packet either.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::sys;

/// A packet socket of one EtherType with its ring.
#[derive(Debug)]
pub(crate) struct Ring {
    socket: OwnedFd,
    map: NonNull<u8>,
    frames: usize,
    next: usize,
    dropped: u64,
}

/// Bytes of the ring per packet: the headers that the kernel puts in front (80) and 1968 bytes of
/// packet. Longer ones are cut off; nothing that answers a probe is.
const FRAME_LEN: usize = 2048;
/// Bytes that the kernel must find in one piece.
const BLOCK_LEN: usize = 64 * 1024;

impl Ring {
    /// Opens a socket that receives packets of `ethertype` that `filter` accepts, from the
    /// interface with this index or from all (0), with a ring of about `bytes`.
    pub(crate) fn open(
        ethertype: u16,
        filter: &[libc::sock_filter],
        interface: u32,
        bytes: usize,
    ) -> io::Result<Self> {
        // Of protocol 0, so that nothing is received before the filter is in place. A socket of
        // one EtherType sees incoming packets only: our own are never among them.
        let socket = sys::socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0)?;
        let fd = socket.as_fd();
        sys::attach_filter(fd, filter)?;
        sys::set_option(fd, libc::SOL_PACKET, libc::PACKET_VERSION, &TPACKET_V2)?;
        let blocks = (bytes / BLOCK_LEN).clamp(1, 1 << 14);
        let frames = blocks * (BLOCK_LEN / FRAME_LEN);
        let small = |n: usize| u32::try_from(n).map_err(|_| io::ErrorKind::InvalidInput);
        let request = libc::tpacket_req {
            tp_block_size: small(BLOCK_LEN)?,
            tp_block_nr: small(blocks)?,
            tp_frame_size: small(FRAME_LEN)?,
            tp_frame_nr: small(frames)?,
        };
        sys::set_option(fd, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        // SAFETY: a fresh mapping at an address of the kernel's choice overlaps nothing.
        let map = unsafe {
            libc::mmap(
                core::ptr::null_mut(),
                frames * FRAME_LEN,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                socket.as_raw_fd(),
                0,
            )
        };
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let map = NonNull::new(map.cast::<u8>()).ok_or(io::ErrorKind::InvalidData)?;
        let ring = Self {
            socket,
            map,
            frames,
            next: 0,
            dropped: 0,
        };
        sys::bind_packet(ring.fd(), ethertype, interface)?;
        Ok(ring)
    }

    /// Gives `sink` up to `budget` packets, oldest first, each with the wall time in nanoseconds
    /// at which the kernel received it. Returns how many.
    pub(crate) fn receive(&mut self, budget: usize, mut sink: impl FnMut(u64, &[u8])) -> usize {
        for taken in 0..budget {
            // SAFETY: `next` is below `frames`, and the mapping has `frames * FRAME_LEN` bytes.
            let frame = unsafe { self.map.add(self.next * FRAME_LEN) };
            // SAFETY: a frame begins with its status, a 32-bit word on a boundary of 2048 bytes,
            // which the kernel and this process access only as a whole.
            let status = unsafe { AtomicU32::from_ptr(frame.cast::<u32>().as_ptr()) };
            if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
                return taken;
            }
            // SAFETY: the frame is ours until the status is given back, and begins with this
            // header of plain integers.
            let header = unsafe { frame.cast::<libc::tpacket2_hdr>().read() };
            let start = usize::from(header.tp_net).min(FRAME_LEN);
            let len = usize::try_from(header.tp_snaplen).unwrap_or(0);
            // SAFETY: the range lies within the frame, whatever the header says, and the kernel
            // does not write to the frame while it is ours.
            let packet = unsafe {
                core::slice::from_raw_parts(
                    frame.add(start).as_ptr().cast_const(),
                    len.min(FRAME_LEN - start),
                )
            };
            let seconds = u64::from(header.tp_sec);
            sink(seconds * 1_000_000_000 + u64::from(header.tp_nsec), packet);
            status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.next = (self.next + 1) % self.frames;
        }
        budget
    }

    /// Packets that found the ring full, since it was opened.
    pub(crate) fn dropped(&mut self) -> u64 {
        // Reading the counters resets them.
        let read = sys::option(self.fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS);
        self.dropped += read.map_or(0, |s: libc::tpacket_stats| u64::from(s.tp_drops));
        self.dropped
    }

    /// Takes a pending error away: that the interface went down, from which nothing follows, but
    /// which would be announced for ever.
    pub(crate) fn clear_error(&self) {
        let _: io::Result<libc::c_int> = sys::option(self.fd(), libc::SOL_SOCKET, libc::SO_ERROR);
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length in `open`, and no slice of it is alive.
        unsafe { libc::munmap(self.map.as_ptr().cast(), self.frames * FRAME_LEN) };
    }
}

const TPACKET_V2: libc::c_int = 1;
