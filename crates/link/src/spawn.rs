//! Starts a program without a copy of this process in between.

use core::ptr::null;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;

use libc::{c_char, c_int};
use rustix::process::Pid;

use crate::sys;

/// Starts `command`, which is looked for in PATH, with its arguments, this process's environment
/// and additional variables, and its open descriptors; `signals` are not blocked there, and SIGPIPE
/// ends it.
///
/// [`std::process::Command`] does this by a fork where signals are concerned: a copy of all of this
/// process's page tables.
///
/// # Errors
/// If there is no such program or it cannot be run.
pub(crate) fn spawn(
    command: &[OsString],
    environment: &[(&str, OsString)],
    signals: &[c_int],
) -> io::Result<Pid> {
    let arguments = strings(command.iter().cloned())?;
    let is_added = |name: &OsString| environment.iter().any(|(added, _)| name == added);
    let variables = std::env::vars_os().filter(|(name, _)| !is_added(name));
    let added = environment.iter();
    let variables = variables.chain(added.map(|(name, value)| ((*name).into(), value.clone())));
    let variables = strings(variables.map(|(mut line, value)| {
        line.push("=");
        line.push(value);
        line
    }))?;
    let program = arguments.first().ok_or(io::ErrorKind::InvalidInput)?;
    let attributes = Attributes::new(signals)?;
    let (argv, envp) = (pointers(&arguments), pointers(&variables));
    let mut pid = 0;
    // SAFETY: the strings and both arrays, each with a null pointer at its end, live until the call
    // is over, and so do the attributes, which were initialised; no file actions is allowed.
    let error = unsafe {
        libc::posix_spawnp(
            &raw mut pid,
            program.as_ptr(),
            null(),
            &raw const attributes.0,
            argv.as_ptr(),
            envp.as_ptr(),
        )
    };
    done(error)?;
    Pid::from_raw(pid).ok_or_else(|| io::ErrorKind::Other.into())
}

/// How the program is started.
struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new(unblocked: &[c_int]) -> io::Result<Self> {
        let blocked = mask_without(unblocked)?;
        let pipe = sys::signal_set(&[libc::SIGPIPE])?;
        // SAFETY: plain memory, which the next call initialises.
        let mut attributes = Self(unsafe { core::mem::zeroed() });
        let all = &raw mut attributes.0;
        let flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
        let flags = libc::c_short::try_from(flags).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: all pointers are to live values; the attributes are initialised first.
        unsafe {
            done(libc::posix_spawnattr_init(all))?;
            done(libc::posix_spawnattr_setflags(all, flags))?;
            done(libc::posix_spawnattr_setsigmask(all, &raw const blocked))?;
            done(libc::posix_spawnattr_setsigdefault(all, &raw const pipe))?;
        }
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: they were initialised, or are all zero, of which nothing is freed.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}

/// The signals that are blocked in this thread, but for these.
fn mask_without(signals: &[c_int]) -> io::Result<libc::sigset_t> {
    let mut mask = sys::signal_set(&[])?;
    // SAFETY: changes nothing, and writes the mask into a live set.
    done(unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, null(), &raw mut mask) })?;
    for signal in signals {
        // SAFETY: the set is initialised; a number that is no signal is refused.
        sys::check(unsafe { libc::sigdelset(&raw mut mask, *signal) })?;
    }
    Ok(mask)
}

/// These functions return the error's number.
fn done(error: c_int) -> io::Result<()> {
    match error {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

fn strings(all: impl Iterator<Item = OsString>) -> io::Result<Vec<CString>> {
    all.map(|one| Ok(CString::new(OsStr::as_bytes(&one))?))
        .collect()
}

fn pointers(strings: &[CString]) -> Vec<*mut c_char> {
    let each = strings.iter().map(|string| string.as_ptr().cast_mut());
    each.chain([core::ptr::null_mut()]).collect()
}
