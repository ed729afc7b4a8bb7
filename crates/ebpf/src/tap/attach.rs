//! Hanging a program on an interface, in the way that the kernel has.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::program::Hook;
use super::sys::{self, TcFilter};

/// How programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By a tcx link (Linux 6.6): the kernel removes it when this process is gone.
    Tcx,
    /// By a filter in a clsact qdisc: it stays if this process is killed.
    Clsact,
}

impl Way {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// A program on an interface; gone when dropped.
#[derive(Debug)]
pub(crate) enum Attachment {
    Tcx(OwnedFd),
    Clsact(TcFilter),
}

impl Attachment {
    /// Attaches; `way` is the one to take, or else the better one that the kernel has.
    pub(crate) fn new(
        program: BorrowedFd<'_>,
        interface: u32,
        hook: Hook,
        way: Option<Way>,
        handle: u32,
    ) -> io::Result<Self> {
        if way != Some(Way::Clsact) {
            match sys::attach_tcx(program, interface, hook) {
                Ok(link) => return Ok(Self::Tcx(link)),
                Err(e) if way == Some(Way::Tcx) || !is_unknown(&e) => return Err(e),
                Err(_) => {}
            }
        }
        let filter = TcFilter {
            interface,
            hook,
            handle,
            // Behind everybody who said a number: it never decides anything.
            priority: 0xfff0,
        };
        sys::attach_tc(program, &filter)?;
        Ok(Self::Clsact(filter))
    }

    /// Puts another program into its place, so that no packet meets none.
    pub(crate) fn replace(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        match self {
            Self::Tcx(link) => sys::update_link(link.as_fd(), program),
            Self::Clsact(filter) => sys::attach_tc(program, filter),
        }
    }

    pub(crate) const fn way(&self) -> Way {
        match self {
            Self::Tcx(_) => Way::Tcx,
            Self::Clsact(_) => Way::Clsact,
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if let Self::Clsact(filter) = self {
            // The interface may be gone, and the filter with it.
            let _ = sys::detach_tc(filter);
        }
    }
}

/// Whether the kernel does not know what was asked of it.
fn is_unknown(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS)
    )
}
