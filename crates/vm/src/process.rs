//! Programs that hold a machine: found, started with what they inherit, ended with their parent.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags};

use crate::Error;

/// A program that was started.
#[derive(Debug)]
pub(crate) struct Started {
    /// Its pidfd.
    pub(crate) process: OwnedFd,
    pub(crate) pid: u32,
    /// What it writes to its standard output and error: non-blocking.
    pub(crate) console: OwnedFd,
}

/// Starts a program that inherits these descriptors under their numbers, and with it nothing else
/// that this process has open. It dies with the thread that calls this.
pub(crate) fn start(
    mut command: Command,
    inherited: &[BorrowedFd<'_>],
    merge: bool,
) -> Result<Started, Error> {
    let (console, output) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
        .map_err(|e| Error::system("make a pipe", e.into()))?;
    rustix::io::ioctl_fionbio(&console, true)
        .map_err(|e| Error::system("make a pipe", e.into()))?;
    let failed = |e| Error::system(format!("start {}", name(&command)), e);
    let errors = output.try_clone().map_err(failed)?;
    let numbers: Vec<RawFd> = inherited.iter().map(AsRawFd::as_raw_fd).collect();
    let parent = std::process::id();
    let before_exec = move || {
        die_with(parent)?;
        if merge {
            // Kernels before 6.4 do not know it: then there is nothing to merge.
            // SAFETY: no pointers are involved.
            unsafe { libc::prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0) };
        }
        for number in &numbers {
            // SAFETY: changes a flag of a descriptor that the parent keeps open meanwhile.
            if unsafe { libc::fcntl(*number, libc::F_SETFD, 0) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls only, and allocates nothing.
    unsafe { command.pre_exec(before_exec) };
    let child = command
        // ^C in a terminal is for who holds the machine, who has a record to finish with it.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(|e| Error::system(format!("start {}", name(&command)), e))?;
    let pid = child.id();
    // The child is not waited for before this, so the identifier is its own.
    let process = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(rustix::io::Errno::SRCH)
        .and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()))
        .map_err(|e| Error::system(format!("watch {}", name(&command)), e.into()))?;
    Ok(Started {
        process,
        pid,
        console,
    })
}

/// A file that exists in memory only, and cannot be changed any more.
pub(crate) fn in_memory(name: &str, bytes: &[u8]) -> Result<OwnedFd, Error> {
    let failed = |e: io::Error| Error::system("make a file in memory", e);
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = rustix::fs::memfd_create(name, flags)
        .map(File::from)
        .map_err(|e| failed(e.into()))?;
    file.write_all(bytes).map_err(failed)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals).map_err(|e| failed(e.into()))?;
    Ok(file.into())
}

/// The first program of this name in PATH, or where administrators' programs are.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = [Path::new("/usr/local/sbin"), Path::new("/usr/sbin")];
    std::env::split_paths(&path)
        .chain(more.map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|path| is_program(path))
}

/// Says whether there is a file that somebody may execute.
pub(crate) fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// What a program says of its version, in a line.
pub(crate) fn version(program: &Path) -> io::Result<String> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

const PR_SET_MEMORY_MERGE: libc::c_int = 67;

fn name(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(OsStr::new("the program"));
    name.to_string_lossy().into_owned()
}

/// Asks the kernel to kill this process when the thread that made it ends, which may have happened.
fn die_with(parent: u32) -> io::Result<()> {
    // SAFETY: no pointers are involved.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: no pointers are involved.
    let now = unsafe { libc::getppid() };
    // Where the process is the first of a PID namespace its parent has no number there.
    if now != 0 && u32::try_from(now) != Ok(parent) {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_where_they_are_and_directories_are_none() {
        assert!(find("sh").is_some_and(|path| is_program(&path)));
        assert_eq!(find("no-such-program-at-all"), None);
        assert!(!is_program(Path::new("/usr")));
        assert!(!is_program(Path::new("/etc/passwd")));
    }

    #[test]
    fn a_file_in_memory_holds_what_was_put_in_and_stays_so() {
        let file = in_memory("test", b"content").unwrap();
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        assert_eq!(std::fs::read(&path).unwrap(), b"content");
        assert!(std::fs::write(&path, b"other").is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"content");
    }

    #[test]
    fn a_program_that_cannot_be_started_is_named() {
        let error = start(Command::new("/no/such/thing"), &[], false).unwrap_err();
        assert!(
            error.to_string().starts_with("cannot start thing: "),
            "{error}"
        );
    }
}
