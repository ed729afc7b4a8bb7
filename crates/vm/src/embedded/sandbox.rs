//! What the monitor gives up before it runs code of the guest.

use std::io;

use rustix::process::{Gid, Pid, Resource, Rlimit, Signal, Uid};

use super::seccomp;
use crate::Error;

/// The user and group "nobody".
const NOBODY: u32 = 65_534;

/// Closes every file descriptor but the standard ones: whatever a parent let slip through.
///
/// # Errors
/// If the kernel is older than 5.9.
pub(super) fn close_others() -> Result<(), Error> {
    // SAFETY: called before anything of this process has opened a descriptor, so that none that is
    // owned by some object goes away.
    let done = unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    if done != 0 {
        return Err(failed(
            "close inherited descriptors",
            io::Error::last_os_error(),
        ));
    }
    Ok(())
}

/// Gives up user, groups and every capability. `parent`, if given, takes this process with it when
/// it ends.
///
/// # Errors
/// If the kernel refuses, or the parent has ended already.
pub(super) fn drop_privileges(parent: Option<u32>) -> Result<(), Error> {
    if rustix::process::geteuid().is_root() {
        become_nobody()?;
    }
    plumb_link::capability::drop_all()
        .map_err(|error| failed("drop privileges", io::Error::other(error)))?;
    for resource in [Resource::Nofile, Resource::Core] {
        let zero = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        rustix::process::setrlimit(resource, zero).map_err(|e| failed("set limits", e.into()))?;
    }
    // Only now: a change of user forgets it.
    if let Some(parent) = parent {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(|e| failed("die with the parent", e.into()))?;
        let now = rustix::process::getppid().map(Pid::as_raw_nonzero);
        if now.and_then(|pid| u32::try_from(pid.get()).ok()) != Some(parent) {
            return Err(failed(
                "die with the parent",
                io::ErrorKind::NotFound.into(),
            ));
        }
    }
    Ok(())
}

fn become_nobody() -> Result<(), Error> {
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    let changed = rustix::thread::set_thread_groups(&[])
        .and_then(|()| rustix::thread::set_thread_res_gid(gid, gid, gid))
        .and_then(|()| rustix::thread::set_thread_res_uid(uid, uid, uid));
    match changed {
        // A user namespace that has no such user, or forbids to leave groups: root of such a
        // namespace is an ordinary user already.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM) => Ok(()),
        changed => changed.map_err(|error| failed("become nobody", error.into())),
    }
}

/// Restricts the calling thread to the system calls that its part of the monitor needs.
///
/// # Errors
/// If the kernel refuses.
pub(super) fn restrict(filter: &seccomp::Filter) -> Result<(), Error> {
    filter
        .apply()
        .map_err(|error| failed("restrict system calls", error))
}

fn failed(operation: &str, source: io::Error) -> Error {
    Error::system(operation, source)
}
