//! Signals that ask something of a stage.

use core::sync::atomic::{AtomicU32, Ordering};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGHUP, SIGUSR1};
use signal_hook::low_level::pipe;

use crate::command::interrupt::Interrupts;

/// Signals to a stage.
pub(super) struct Asked {
    interrupts: Interrupts,
    interrupts_fd: std::os::fd::OwnedFd,
    counters: UnixStream,
    reload: Option<(UnixStream, &'static AtomicU32)>,
}

impl Asked {
    pub(super) fn watch(reload: Option<&'static AtomicU32>) -> io::Result<Self> {
        let (counters, far) = UnixStream::pair()?;
        counters.set_nonblocking(true)?;
        pipe::register(SIGUSR1, far)?;
        let (interrupts, reload) = match reload {
            None => (Interrupts::watch()?, None),
            Some(wishes) => {
                let (reload, far) = UnixStream::pair()?;
                reload.set_nonblocking(true)?;
                pipe::register(SIGHUP, far)?;
                (Interrupts::watch_but_hangup()?, Some((reload, wishes)))
            }
        };
        Ok(Self {
            interrupts_fd: interrupts.fd()?.as_fd().try_clone_to_owned()?,
            interrupts,
            counters,
            reload,
        })
    }

    pub(super) fn wants_counters(&mut self) -> bool {
        matches!(self.counters.read(&mut [0; 16]), Ok(1..))
    }

    /// Says whether settings are to be read again, and counts the wish.
    pub(super) fn wants_reload(&mut self) -> bool {
        let Some((stream, wishes)) = &mut self.reload else {
            return false;
        };
        let wanted = matches!(stream.read(&mut [0; 16]), Ok(1..));
        if wanted {
            wishes.fetch_add(1, Ordering::Relaxed);
        }
        wanted
    }

    pub(super) fn wants_end(&mut self) -> bool {
        self.interrupts.count() > 0
    }

    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let reload = self.reload.as_ref().map(|(stream, _)| stream.as_fd());
        [self.interrupts_fd.as_fd(), self.counters.as_fd()]
            .into_iter()
            .chain(reload)
    }
}
