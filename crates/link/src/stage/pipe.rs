//! Reading and writing descriptors that other processes share, without ever waiting.
//!
//! O_NONBLOCK belongs to what is open, not to the descriptor: to set it on standard input or output
//! would set it for the shell and everybody who inherited the same. So a pipe is opened anew, by the
//! name that proc(5) gives it. Where that is not allowed, each call asks for itself not to wait, where
//! the kernel knows how to; where it does not, a call is made only after poll(2) said that it will not
//! wait.

use core::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fstat};
use rustix::io::{Errno, ReadWriteFlags};
use rustix::net::{RecvFlags, SendFlags};
use rustix::pipe::{SpliceFlags, splice};

/// Bytes that a pipe with room takes without waiting (PIPE_BUF).
const ATOMIC_LEN: usize = 4096;

/// What a pipe that is used much should hold: the most that a user may ask for by default.
const LARGE_LEN: usize = 1 << 20;

/// A descriptor with packets.
#[derive(Debug)]
pub(crate) struct Pipe {
    fd: OwnedFd,
    kind: Kind,
    /// The kernel does not know calls on this kind of descriptor that do not wait.
    must_poll: Cell<bool>,
    /// A named pipe of which the other end has been open.
    met: Cell<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Fifo,
    /// The same, open for nobody else, so that no call waits.
    OwnFifo,
    Socket,
    /// Never waits for anybody: a file, or a device such as /dev/null or a terminal.
    Other,
}

/// What became of reading or writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// So many bytes.
    Bytes(usize),
    /// None, for now.
    Wait,
    /// There is nobody at the other end.
    End,
}

/// Tells one pipe from another on this machine, now: what stat(2) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl Pipe {
    /// Takes over a descriptor that is open.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let pipe = Self::of(fd, false)?;
        match pipe.kind {
            Kind::Fifo => reopened(&pipe.fd).map_or(Ok(pipe), |own| Self::of(own, true)),
            Kind::OwnFifo | Kind::Socket | Kind::Other => Ok(pipe),
        }
    }

    /// The same of one that is open for nobody else, so that no call waits.
    fn of(fd: OwnedFd, is_own: bool) -> io::Result<Self> {
        let file_type = FileType::from_raw_mode(fstat(&fd)?.st_mode);
        let kind = if file_type == FileType::Fifo {
            if is_own { Kind::OwnFifo } else { Kind::Fifo }
        } else if file_type == FileType::Socket {
            Kind::Socket
        } else {
            Kind::Other
        };
        Ok(Self {
            fd,
            kind,
            must_poll: Cell::new(false),
            met: Cell::new(true),
        })
    }

    /// Opens a path for reading. A named pipe that nobody writes to yet is not at its end.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NONBLOCK);
        let pipe = Self::of(options.open(path)?.into(), true)?;
        pipe.met.set(!pipe.is_fifo());
        Ok(pipe)
    }

    /// Which pipe it is; nothing if it is none.
    pub(crate) fn identity(&self) -> Option<Identity> {
        let stat = fstat(&self.fd).ok()?;
        self.is_fifo().then_some(Identity {
            device: stat.st_dev,
            inode: stat.st_ino,
        })
    }

    /// The same socket again, to be used the other way; nothing if it is none.
    pub(crate) fn other_way(&self) -> io::Result<Option<Self>> {
        match self.kind {
            Kind::Socket => Self::new(self.fd.try_clone()?).map(Some),
            Kind::Fifo | Kind::OwnFifo | Kind::Other => Ok(None),
        }
    }

    /// Lets a pipe hold more, where the kernel allows it.
    pub(crate) fn grow(&self) {
        if self.is_fifo() {
            let _ = rustix::pipe::fcntl_setpipe_size(&self.fd, LARGE_LEN);
        }
    }

    pub(crate) fn read(&self, into: &mut [u8]) -> io::Result<Moved> {
        self.read_pieces(into, &mut [])
    }

    /// Reads into `into`, and what is more than that `behind`, where that is done in one call with what
    /// this is.
    pub(crate) fn read_pieces(&self, into: &mut [u8], behind: &mut [u8]) -> io::Result<Moved> {
        let result = match self.kind {
            Kind::Other => rustix::io::read(&self.fd, into),
            Kind::OwnFifo if behind.is_empty() => rustix::io::read(&self.fd, into),
            Kind::OwnFifo => {
                let mut pieces = [IoSliceMut::new(into), IoSliceMut::new(behind)];
                rustix::io::readv(&self.fd, &mut pieces)
            }
            Kind::Socket => {
                rustix::net::recv(&self.fd, into, RecvFlags::DONTWAIT).map(|(len, _)| len)
            }
            Kind::Fifo if self.must_poll.get() => match self.ready(PollFlags::IN)? {
                true => rustix::io::read(&self.fd, into),
                false => Err(Errno::AGAIN),
            },
            Kind::Fifo => self.or_poll(rustix::io::preadv2(
                &self.fd,
                &mut [IoSliceMut::new(into), IoSliceMut::new(behind)],
                CURRENT,
                ReadWriteFlags::NOWAIT,
            )),
        };
        match result {
            Ok(0) if self.meets()? => Ok(Moved::End),
            Ok(0) | Err(Errno::AGAIN | Errno::INTR) => Ok(Moved::Wait),
            Err(Errno::CONNRESET) => Ok(Moved::End),
            Ok(len) => {
                self.met.set(true);
                Ok(Moved::Bytes(len))
            }
            Err(e) => Err(e.into()),
        }
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<Moved> {
        let result = match self.kind {
            Kind::Other | Kind::OwnFifo => rustix::io::write(&self.fd, bytes),
            Kind::Socket => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                rustix::net::send(&self.fd, bytes, flags)
            }
            Kind::Fifo if self.must_poll.get() => match self.ready(PollFlags::OUT)? {
                true => rustix::io::write(&self.fd, &bytes[..bytes.len().min(ATOMIC_LEN)]),
                false => Err(Errno::AGAIN),
            },
            Kind::Fifo => self.or_poll(rustix::io::pwritev2(
                &self.fd,
                &[IoSlice::new(bytes)],
                CURRENT,
                ReadWriteFlags::NOWAIT,
            )),
        };
        Self::written(result)
    }

    /// Writes several pieces, one behind the other, in one call; nothing where that is not done with
    /// what this is.
    pub(crate) fn write_pieces(&self, pieces: &[IoSlice<'_>]) -> io::Result<Option<Moved>> {
        if self.kind == Kind::OwnFifo {
            return Self::written(rustix::io::writev(&self.fd, pieces)).map(Some);
        }
        if self.kind != Kind::Fifo || self.must_poll.get() {
            return Ok(None);
        }
        let flags = ReadWriteFlags::NOWAIT;
        let result = rustix::io::pwritev2(&self.fd, pieces, CURRENT, flags);
        Self::written(self.or_poll(result)).map(Some)
    }

    /// Whether bytes can be moved between this and another pipe without a copy. They could be where it
    /// is open for others, too, but then the kernel lets no other call ask not to wait any more.
    pub(crate) fn can_splice(&self) -> bool {
        self.kind == Kind::OwnFifo
    }

    const fn is_fifo(&self) -> bool {
        matches!(self.kind, Kind::Fifo | Kind::OwnFifo)
    }

    /// Moves the next bytes to a pipe, `most` at most. To wait may also mean that it has no room.
    pub(crate) fn splice_to(&self, to: &OwnedFd, most: usize) -> io::Result<Moved> {
        match splice(&self.fd, None, to, None, most, UNWAITING) {
            Ok(0) => Ok(Moved::End),
            Ok(len) => Ok(Moved::Bytes(len)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Moved::Wait),
            Err(e) => Err(e.into()),
        }
    }

    /// Takes the next bytes of a pipe in, `most` at most.
    pub(crate) fn splice_from(&self, from: &OwnedFd, most: usize) -> io::Result<Moved> {
        Self::written(splice(from, None, &self.fd, None, most, UNWAITING))
    }

    /// Whether there is something to read, or never will be.
    pub(crate) fn is_readable(&self) -> io::Result<bool> {
        self.ready(PollFlags::IN)
    }

    fn written(result: rustix::io::Result<usize>) -> io::Result<Moved> {
        match result {
            Ok(len) => Ok(Moved::Bytes(len)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Moved::Wait),
            Err(Errno::PIPE | Errno::CONNRESET) => Ok(Moved::End),
            Err(e) => Err(e.into()),
        }
    }

    fn or_poll(&self, result: rustix::io::Result<usize>) -> rustix::io::Result<usize> {
        // Pipes take the flag since Linux 6.4, and preadv2 is missing in some sandboxes.
        if matches!(result, Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL)) {
            self.must_poll.set(true);
            return Err(Errno::INTR);
        }
        result
    }

    /// Whether a named pipe that reads as empty has had a writer.
    fn meets(&self) -> io::Result<bool> {
        if !self.met.get() && self.ready(PollFlags::HUP)? {
            self.met.set(true);
        }
        Ok(self.met.get())
    }

    fn ready(&self, wanted: PollFlags) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.fd, wanted)];
        poll(&mut fds, Some(&Timespec::default()))?;
        Ok(fds[0]
            .revents()
            .intersects(wanted | PollFlags::HUP | PollFlags::ERR))
    }
}

/// The same end of a pipe, open for this process alone and so that no call waits. None where there is no
/// proc(5), the pipe is somebody else's, or nobody has its other end.
fn reopened(fd: &OwnedFd) -> Option<OwnedFd> {
    let way = fcntl_getfl(fd).ok()? & OFlags::RWMODE;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = way | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).ok()
}

/// The offset with which preadv2(2) reads where the last call ended.
const CURRENT: u64 = u64::MAX;

/// Moves bytes from one pipe of this process's own to another, `most` at most, and says how many: none
/// if there are none, or no room.
pub(super) fn splice_between(from: &OwnedFd, to: &OwnedFd, most: usize) -> io::Result<usize> {
    match splice(from, None, to, None, most, UNWAITING) {
        Err(Errno::AGAIN) => Ok(0),
        moved => Ok(moved?),
    }
}

/// How bytes are moved between pipes.
const UNWAITING: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

impl AsFd for Pipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A named pipe to be written, which can be opened only when somebody reads it.
#[derive(Debug)]
pub(crate) struct Opening(PathBuf);

impl Opening {
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        if std::fs::metadata(path)?.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        Ok(Self(path.to_owned()))
    }

    /// Opens it, if that does not wait.
    pub(crate) fn try_open(&self) -> io::Result<Option<Pipe>> {
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(libc::O_NONBLOCK);
        match options.open(&self.0) {
            Ok(file) => Pipe::of(File::into(file), true).map(Some),
            Err(e) if e.raw_os_error() == Some(libc::ENXIO) => Ok(None),
            Err(e) => Err(e),
        }
    }
}
