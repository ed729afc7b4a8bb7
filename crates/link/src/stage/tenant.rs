//! A command in a private network, of which only the device is in this process.
//!
//! A process can be in one network namespace and have children in one PID namespace. Where it serves
//! several commands, each with a network of its own, a child for each enters them in its place and
//! hands over the device.

use core::mem::MaybeUninit;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Command;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, pidfd_open, pidfd_send_signal,
    set_parent_process_death_signal, waitid,
};

use super::Edge;
use crate::namespace::{Child, KEYBOARD, PASSED_ON, is_dead};
use crate::{Error, sys};

/// A command in a private network of its own.
#[derive(Debug)]
pub struct Tenant {
    /// The process that waits for the command. It ends with this one, and the command with it.
    process: OwnedFd,
    /// The network, which outlives the command: its last frames are still in the device.
    _network: OwnedFd,
}

impl Tenant {
    /// Starts a command in the network that `prepare` enters, in a child of this process, and whose
    /// device it returns. If it returns an exit status instead, having said why, so does this.
    /// Must be called while there is one thread.
    ///
    /// # Errors
    /// If no process can be made. A command that cannot be run ends with status 127 or 126.
    pub fn spawn(
        command: &[OsString],
        prepare: impl FnOnce() -> Result<Edge, u8>,
    ) -> Result<Result<(Self, Edge), u8>, Error> {
        let failed = |e: io::Error| Error::system("start", "a process in a private network", e);
        let myself = pidfd_open(getpid(), PidfdFlags::empty()).map_err(|e| failed(e.into()))?;
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|e| failed(e.into()))?;
        // SAFETY: there is one thread, so the child has all that it needs in a sound state.
        let pid = unsafe { libc::fork() };
        if pid < 0 {
            return Err(failed(io::Error::last_os_error()));
        }
        let Some(pid) = Pid::from_raw(pid) else {
            drop(ours);
            let status = keep_house(&myself, theirs, command, prepare);
            // SAFETY: ends this process without running what the parent registered for its end.
            unsafe { libc::_exit(status.into()) };
        };
        drop(theirs);
        let process = pidfd_open(pid, PidfdFlags::empty()).map_err(|e| failed(e.into()))?;
        match take_over(ours.as_fd()).map_err(failed)? {
            Some((edge, network)) => {
                let tenant = Self {
                    process,
                    _network: network,
                };
                Ok(Ok((tenant, edge)))
            }
            None => wait_for(process.as_fd(), WaitIdOptions::EXITED)
                .map(|status| Err(status.unwrap_or(1))),
        }
    }

    /// What becomes readable when the command has ended.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    /// Sends the command a signal; SIGKILL ends everything in its network.
    pub fn signal(&self, signal: Signal) {
        // It may have ended by now.
        let _ = pidfd_send_signal(&self.process, signal);
    }

    /// Tells how the command ended: its exit status, or 128 and the number of the signal that ended
    /// it. `None` as long as it runs.
    ///
    /// # Errors
    /// If the process cannot be waited for.
    pub fn try_wait(&self) -> Result<Option<u8>, Error> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        wait_for(self.process.as_fd(), options)
    }
}

fn wait_for(process: BorrowedFd<'_>, options: WaitIdOptions) -> Result<Option<u8>, Error> {
    let status = waitid(WaitId::PidFd(process), options)
        .map_err(|e| Error::system("wait for", "the command", e))?;
    Ok(status.map(|s| {
        s.exit_status()
            .map_or(137, |code| u8::try_from(code).unwrap_or(1))
    }))
}

/// The child: enters the network, hands its device over, runs the command, and returns its status.
fn keep_house(
    parent: &OwnedFd,
    to_parent: OwnedFd,
    command: &[OsString],
    prepare: impl FnOnce() -> Result<Edge, u8>,
) -> u8 {
    if set_parent_process_death_signal(Some(Signal::KILL)).is_err() || is_dead(parent) {
        return 126;
    }
    let edge = match prepare() {
        Ok(edge) => edge,
        Err(status) => return status,
    };
    if hand_over(to_parent.as_fd(), &edge).is_err() {
        return 126;
    }
    drop((edge, to_parent));
    let Ok(child) = Child::spawn(command, &[]) else {
        return 126;
    };
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status,
            Ok(None) => {}
            Err(_) => return 126,
        }
        let mut fds = child
            .fds()
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let _ = poll(&mut fds, None);
    }
}

fn hand_over(to: BorrowedFd<'_>, edge: &Edge) -> io::Result<()> {
    let network = File::open("/proc/self/ns/net")?;
    let fds = [edge.fd(), network.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    let name = [IoSlice::new(edge.name().as_bytes())];
    sendmsg(to, &name, &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The device and the network that the child hands over; `None` if it has ended without.
fn take_over(from: BorrowedFd<'_>) -> io::Result<Option<(Edge, OwnedFd)>> {
    let mut name = [0; libc::IFNAMSIZ];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(
        from,
        &mut [IoSliceMut::new(&mut name)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    let mut fds = fds.into_iter();
    let (Some(device), Some(network)) = (fds.next(), fds.next()) else {
        return Ok(None);
    };
    let name = String::from_utf8_lossy(&name[..message.bytes]).into_owned();
    Ok(Some((Edge::new(device, name), network)))
}

/// Signals to this process that it passes on to the commands that it runs, and those of the keyboard,
/// which reach them anyway.
///
/// A signal that comes while commands are being started waits until they all are there.
#[derive(Debug)]
pub struct PassedOn {
    signals: OwnedFd,
    keyboard: OwnedFd,
}

impl PassedOn {
    /// Takes these signals over. Must be called while there is one thread, and before the first
    /// command is started: a [`Tenant`], or a process that [`leave_to`](Self::leave_to) has prepared.
    ///
    /// # Errors
    /// If the kernel fails.
    pub fn take_over() -> Result<Self, Error> {
        let take = |wanted: &[_]| {
            sys::signals(wanted).map_err(|e| Error::system("take over", "signals", e))
        };
        Ok(Self {
            signals: take(&PASSED_ON)?,
            keyboard: take(&KEYBOARD)?,
        })
    }

    /// Lets the program that `command` becomes have the signals that wait here.
    ///
    /// # Errors
    /// If the kernel fails.
    pub fn leave_to(&self, command: &mut Command) -> Result<(), Error> {
        sys::unblock_in(command, &[PASSED_ON.as_slice(), &KEYBOARD].concat())
            .map_err(|e| Error::system("pass on", "signals", e))
    }

    /// Leaves the keyboard's signals, from now on, to the commands, all of which run. Returns one that
    /// has come before, when some of them were not there yet.
    pub fn leave_keyboard(&self) -> Option<Signal> {
        let early = sys::next_signal(self.keyboard.as_fd()).and_then(Signal::from_named_raw);
        for signal in KEYBOARD {
            // SAFETY: ignoring a signal runs no handler.
            unsafe { libc::signal(signal, libc::SIG_IGN) };
        }
        early
    }

    /// The next one that has come.
    pub fn next(&self) -> Option<Signal> {
        sys::next_signal(self.signals.as_fd()).and_then(Signal::from_named_raw)
    }
}

impl AsFd for PassedOn {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}
