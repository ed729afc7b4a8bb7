//! Bodies of long frames, which stay in the kernel: whoever needs only the beginning of a frame has
//! the rest moved from pipe to pipe without a copy (splice(2)).

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use super::super::LinkError;
use super::super::pipe::{Moved, Pipe, splice_between};

/// Bytes that a pipe can hold in which bodies wait: one of 64 KiB may take two pages more than that,
/// and more where it was written in small pieces.
const HOLD_LEN: usize = 128 * 1024;
/// Bodies that one link has under way at most: one that comes and one that leaves.
const MOST_HOLDS: usize = 2;

/// A pipe to oneself.
#[derive(Debug)]
struct Hold {
    from: OwnedFd,
    to: OwnedFd,
}

/// The rest of a frame in a pipe that nobody else uses.
#[derive(Debug)]
pub(in crate::stage) struct Piped {
    hold: Arc<Hold>,
    len: usize,
}

/// The pipes in which the bodies of a link wait.
#[derive(Debug, Default)]
pub(in crate::stage) struct Holds(Vec<Arc<Hold>>);

impl Holds {
    /// A body of which nothing is there yet; none where there is no pipe for it.
    pub(in crate::stage) fn begin(&mut self) -> Option<Piped> {
        let hold = match self.0.iter().find(|hold| Arc::strong_count(hold) == 1) {
            Some(hold) => Arc::clone(hold),
            None if self.0.len() < MOST_HOLDS => {
                let (from, to) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
                fcntl_setpipe_size(&to, HOLD_LEN).ok()?;
                let hold = Arc::new(Hold { from, to });
                self.0.push(Arc::clone(&hold));
                hold
            }
            None => return None,
        };
        Some(Piped { hold, len: 0 })
    }
}

impl Piped {
    /// How many bytes it has, of those that are still here.
    pub(in crate::stage) const fn len(&self) -> usize {
        self.len
    }

    /// Whether all of it is gone.
    pub(in crate::stage) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Moves the next bytes of a pipe in, `most` at most.
    pub(in crate::stage) fn take(&mut self, pipe: &Pipe, most: usize) -> io::Result<Moved> {
        let moved = pipe.splice_to(&self.hold.to, most)?;
        if let Moved::Bytes(len) = moved {
            self.len += len;
        }
        Ok(moved)
    }

    /// Copies bytes in. False if there is no room for all of them.
    pub(in crate::stage) fn write(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let len = match rustix::io::write(&self.hold.to, bytes) {
            Err(Errno::AGAIN) => 0,
            written => written?,
        };
        self.len += len;
        Ok(len == bytes.len())
    }

    /// Moves what is left of another one in. False if there is no room for all of it.
    pub(in crate::stage) fn join(&mut self, other: &mut Self) -> io::Result<bool> {
        while other.len > 0 {
            match splice_between(&other.hold.from, &self.hold.to, other.len)? {
                0 => return Ok(false),
                len => {
                    other.len = other.len.saturating_sub(len);
                    self.len += len;
                }
            }
        }
        Ok(true)
    }

    /// Moves what is left out into a pipe, as far as that has room.
    pub(in crate::stage) fn give(&mut self, pipe: &Pipe) -> io::Result<Moved> {
        let moved = pipe.splice_from(&self.hold.from, self.len)?;
        if let Moved::Bytes(len) = moved {
            self.len = self.len.saturating_sub(len);
        }
        Ok(moved)
    }

    /// One of these bytes.
    #[cfg(test)]
    pub(in crate::stage) fn of(bytes: &[u8]) -> Self {
        let mut body = Holds::default().begin().unwrap();
        assert_eq!(rustix::io::write(&body.hold.to, bytes), Ok(bytes.len()));
        body.len = bytes.len();
        body
    }

    /// Copies it behind what is in `into`.
    pub(in crate::stage) fn append_to(mut self, into: &mut Vec<u8>) -> Result<(), LinkError> {
        let at = into.len();
        into.resize(at + self.len, 0);
        self.read(&mut into[at..])
            .map_err(|e| LinkError::io("read", "packets", e))
    }

    /// Reads all of it into as many bytes.
    pub(in crate::stage) fn read(&mut self, mut into: &mut [u8]) -> io::Result<()> {
        while !into.is_empty() {
            let len = rustix::io::read(&self.hold.from, &mut *into)?;
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.len = self.len.saturating_sub(len);
            into = &mut into[len..];
        }
        Ok(())
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        let mut waste = [0; 4096];
        while self.len > 0 {
            let most = self.len.min(waste.len());
            if self.read(&mut waste[..most]).is_err() {
                // What is left of it must not become the beginning of another.
                core::mem::forget(Arc::clone(&self.hold));
                return;
            }
        }
    }
}
