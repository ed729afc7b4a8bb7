//! What TUN and TAP devices have in common: an interface whose wire is a file descriptor.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use plumb_wire::{Instant, SendError};

use crate::raw::{Failure, classify};
use crate::{Batch, Clock, Error, Port, Progress, Then, sys};

/// Where the kernel makes TUN and TAP devices.
const DEVICE: &str = "/dev/net/tun";

/// The end of an interface's wire. It carries whole packets or frames.
#[derive(Debug)]
pub(crate) struct WireEnd {
    file: File,
    name: String,
    clock: Clock,
    /// Empty until something is received: to stages, which read past it, it would be dead weight.
    buffer: Vec<u8>,
}

impl WireEnd {
    /// Makes the interface `name`, or opens it if it is there, in the current network namespace.
    /// `flags` are those of TUNSETIFF, `refused` says what the kernel's refusal means.
    pub(crate) fn open(
        name: &str,
        flags: libc::c_int,
        refused: impl FnOnce(io::Error) -> Error,
    ) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(DEVICE)
            .map_err(|e| Error::system("open", DEVICE, e))?;
        let name = sys::tun_set_iff(file.as_fd(), name, flags).map_err(refused)?;
        Ok(Self::of(file, name))
    }

    /// Takes over a device that somebody else opened.
    pub(crate) fn of(file: File, name: String) -> Self {
        Self {
            file,
            name,
            clock: Clock::new(),
            buffer: Vec::new(),
        }
    }

    /// Name of the interface.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The descriptor alone.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.file.into()
    }
}

impl AsFd for WireEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Port for WireEnd {
    fn send(
        &mut self,
        batch: &Batch,
        report: &mut dyn FnMut(usize, Result<Instant, SendError>),
    ) -> Result<Progress, Error> {
        for index in 0..batch.len() {
            let at = self.clock.now();
            // The device takes a packet whole or not at all.
            match rustix::io::write(&self.file, batch.packet(index)).map_err(io::Error::from) {
                Ok(_) => report(index, Ok(at)),
                Err(error) => match classify(&error) {
                    Failure::Retry(then) => return Ok(Progress { done: index, then }),
                    Failure::Packet(reason) => report(index, Err(reason)),
                },
            }
        }
        Ok(Progress {
            done: batch.len(),
            then: Then::Now,
        })
    }

    /// These devices have no receive times: a packet's is when it is read.
    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(Instant, &[u8]),
    ) -> Result<usize, Error> {
        if self.buffer.is_empty() {
            self.buffer = vec![0; 65_536];
        }
        for taken in 0..budget {
            match self.file.read(&mut self.buffer) {
                Ok(len) => sink(self.clock.now(), &self.buffer[..len]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    return Ok(taken);
                }
                Err(e) => return Err(Error::system("read from", self.name.clone(), e)),
            }
        }
        Ok(budget)
    }

    fn readable(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }

    fn writable(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }

    /// The kernel counts what it could not put into the device's queue as its own drops.
    fn dropped(&mut self) -> u64 {
        0
    }
}
