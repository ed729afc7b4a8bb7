//! The kernel's own stack as one host more on an Ethernet segment.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use plumb_wire::ethernet::{HEADER_LEN, Header, ethertype};
use plumb_wire::{Instant, SendError};
use rustix::event::epoll;
use rustix::io::Errno;

use crate::raw::{Failure, classify};
use crate::{Batch, Clock, Error, Port, Progress, Tap, Then, Tun};

/// A [`Tap`] and a [`Tun`] as one port that carries Ethernet frames: what comes from the TUN
/// device comes from the host [`Segment::HOST`], and what is sent to that host goes there.
#[derive(Debug)]
pub struct Segment {
    tap: Tap,
    tun: Tun,
    /// MAC address of the router, to which all that comes from the TUN device is addressed.
    router: [u8; 6],
    /// Readable when either is.
    both: OwnedFd,
    clock: Clock,
    buffer: Box<[u8]>,
}

impl Segment {
    /// MAC address of the host behind the TUN device: a locally administered one.
    pub const HOST: [u8; 6] = [0x02, 0x70, 0x6c, 0x75, 0x6d, 0x00];

    /// Joins the two. The TAP device must have no virtio header.
    ///
    /// # Errors
    /// If the two cannot be waited for together.
    pub fn new(tap: Tap, tun: Tun, router: [u8; 6]) -> Result<Self, Error> {
        let failed = |e: Errno| Error::system("wait for", "two devices at once", e);
        let both = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
        for (fd, data) in [(tap.as_fd(), 0), (tun.as_fd(), 1)] {
            let data = epoll::EventData::new_u64(data);
            epoll::add(&both, fd, data, epoll::EventFlags::IN).map_err(failed)?;
        }
        Ok(Self {
            tap,
            tun,
            router,
            both,
            clock: Clock::new(),
            buffer: vec![0; 65_536].into_boxed_slice(),
        })
    }
}

impl Port for Segment {
    fn send(
        &mut self,
        batch: &Batch,
        report: &mut dyn FnMut(usize, Result<Instant, SendError>),
    ) -> Result<Progress, Error> {
        for index in 0..batch.len() {
            let at = self.clock.now();
            let frame = batch.packet(index);
            let written = match Header::parse(frame) {
                Ok((header, packet)) if header.dst == Self::HOST => {
                    rustix::io::write(&self.tun, packet)
                }
                _ => rustix::io::write(&self.tap, frame),
            };
            // Either takes a packet whole or not at all.
            match written.map_err(io::Error::from) {
                Ok(_) => report(index, Ok(at)),
                Err(error) => match classify(&error) {
                    // Which of the two was full, `writable` cannot say.
                    Failure::Retry(_) => {
                        return Ok(Progress {
                            done: index,
                            then: Then::After(FULL),
                        });
                    }
                    Failure::Packet(reason) => report(index, Err(reason)),
                },
            }
        }
        Ok(Progress {
            done: batch.len(),
            then: Then::Now,
        })
    }

    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(Instant, &[u8]),
    ) -> Result<usize, Error> {
        let mut taken = 0;
        // Half for the host, so that machines which send without end do not silence it.
        while taken < budget / 2 {
            match rustix::io::read(&self.tun, &mut self.buffer[HEADER_LEN..]) {
                Ok(len) => {
                    let header = Header {
                        dst: self.router,
                        src: Self::HOST,
                        ethertype: match self.buffer[HEADER_LEN] >> 4 {
                            6 => ethertype::IPV6,
                            _ => ethertype::IPV4,
                        },
                    };
                    header.emit(&mut self.buffer);
                    sink(self.clock.now(), &self.buffer[..HEADER_LEN + len]);
                    taken += 1;
                }
                Err(Errno::AGAIN | Errno::INTR) => break,
                Err(e) => return Err(Error::system("read from", self.tun.name(), e)),
            }
        }
        Ok(taken + self.tap.receive(budget - taken, sink)?)
    }

    fn readable(&self) -> BorrowedFd<'_> {
        self.both.as_fd()
    }

    fn writable(&self) -> BorrowedFd<'_> {
        self.tap.as_fd()
    }

    fn dropped(&mut self) -> u64 {
        0
    }
}

/// When a device that was full is tried again.
const FULL: core::time::Duration = core::time::Duration::from_millis(1);
