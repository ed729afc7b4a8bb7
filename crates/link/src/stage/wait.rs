//! Sleeping until a link has something to do.

use core::time::Duration;
use std::os::fd::BorrowedFd;

use plumb_wire::frame::Port;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::{Link, LinkError};

/// What a link is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// A frame that comes.
    pub receive: bool,
    /// Room for a frame.
    pub send: bool,
}

/// Which descriptor of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    Input,
    Output,
    Ring,
    Connection,
    Meeting,
    Device,
}

/// A descriptor of a link has something to say.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub(crate) tag: Tag,
    pub(crate) flags: PollFlags,
}

/// The descriptors of two links.
#[derive(Debug)]
pub struct Waiting<'a> {
    port: Port,
    fds: Vec<PollFd<'a>>,
    tags: Vec<(Port, Tag)>,
    limit: Option<Duration>,
}

impl<'a> Waiting<'a> {
    pub(crate) fn add(&mut self, tag: Tag, fd: BorrowedFd<'a>, flags: PollFlags) {
        self.fds.push(PollFd::from_borrowed_fd(fd, flags));
        self.tags.push((self.port, tag));
    }

    /// Sleeps no longer than this.
    pub(crate) fn at_most(&mut self, limit: Duration) {
        self.limit = Some(self.limit.map_or(limit, |l| l.min(limit)));
    }
}

/// Sleeps until a link has what is needed of it, one of `others` becomes readable, or the time is
/// over; `None` is for ever. Both must have been flushed. Says which of `others` is readable, as a
/// mask; nobody looks at them when a link has something to do already.
///
/// # Errors
/// If a link cannot go on.
pub fn wait<'a>(
    left: &'a mut (dyn Link + 'a),
    right: &'a mut (dyn Link + 'a),
    needs: [Needs; 2],
    others: &[BorrowedFd<'_>],
    limit: Option<Duration>,
) -> Result<u32, LinkError> {
    let sides = &mut [(Port::Left, left, needs[0]), (Port::Right, right, needs[1])];
    sleep(sides, others, limit)
}

/// The same with one link.
///
/// # Errors
/// If the link cannot go on.
pub fn wait_alone(
    link: &mut dyn Link,
    needs: Needs,
    others: &[BorrowedFd<'_>],
    limit: Option<Duration>,
) -> Result<u32, LinkError> {
    sleep(&mut [(Port::Right, link, needs)], others, limit)
}

/// The same without any.
///
/// # Errors
/// If the kernel fails.
pub fn wait_for(others: &[BorrowedFd<'_>], limit: Option<Duration>) -> Result<u32, LinkError> {
    sleep(&mut [], others, limit)
}

fn sleep<'a>(
    sides: &mut [(Port, &'a mut (dyn Link + 'a), Needs)],
    others: &[BorrowedFd<'_>],
    limit: Option<Duration>,
) -> Result<u32, LinkError> {
    let mut busy = false;
    // All have to be prepared: what one has to do must not keep the other from being told.
    for (_, link, needs) in &mut *sides {
        busy |= link.prepare(*needs)?;
    }
    if busy {
        return Ok(0);
    }
    let mut waiting = Waiting {
        port: Port::Left,
        fds: Vec::with_capacity(16),
        tags: Vec::with_capacity(16),
        limit,
    };
    for (port, link, needs) in &*sides {
        waiting.port = *port;
        link.watch(*needs, &mut waiting);
    }
    let Waiting {
        mut fds,
        tags,
        limit,
        ..
    } = waiting;
    fds.extend(
        others
            .iter()
            .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)),
    );
    let limit = limit.and_then(|l| Timespec::try_from(l).ok());
    match poll(&mut fds, limit.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(e) => return Err(LinkError::io("wait for", "packets", e.into())),
    }
    let ready = |fd: &PollFd<'_>| Some(fd.revents()).filter(|flags| !flags.is_empty());
    let events: Vec<_> = fds.iter().map(ready).collect();
    drop(fds);
    for ((port, tag), flags) in tags.iter().zip(&events) {
        if let Some(flags) = *flags {
            let event = Event { tag: *tag, flags };
            for (_, link, _) in sides.iter_mut().filter(|(side, ..)| side == port) {
                link.attend(event)?;
            }
        }
    }
    let mask = |(bit, flags): (usize, &Option<PollFlags>)| u32::from(flags.is_some()) << bit;
    Ok(events[tags.len()..].iter().enumerate().map(mask).sum())
}
