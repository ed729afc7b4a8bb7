//! Programs that hold a machine: found, started with what they inherit, ended with their parent.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags};
use rustix::thread::{CapabilitySet, CapabilitySets};

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

/// What a program has that this process has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inheritance<'a> {
    /// Descriptors, under their numbers. All others are closed.
    pub(crate) files: &'a [BorrowedFd<'a>],
    /// Capabilities, if this process has them. All others are given up, and cannot be got back.
    pub(crate) capabilities: CapabilitySet,
    /// Whether the kernel may merge its pages with equal ones.
    pub(crate) merge: bool,
}

/// Starts a program. It dies with the thread that calls this.
pub(crate) fn start(mut command: Command, inherited: Inheritance<'_>) -> Result<Started, Error> {
    let (console, output) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
        .map_err(|e| Error::system("make a pipe", e.into()))?;
    rustix::io::ioctl_fionbio(&console, true)
        .map_err(|e| Error::system("make a pipe", e.into()))?;
    let failed = |e| Error::system(format!("start {}", name(&command)), e);
    let errors = output.try_clone().map_err(failed)?;
    let numbers: Vec<RawFd> = inherited.files.iter().map(AsRawFd::as_raw_fd).collect();
    let parent = std::process::id();
    let (kept, merge) = (inherited.capabilities, inherited.merge);
    let before_exec = move || {
        die_with(parent)?;
        keep_only(kept)?;
        if merge {
            // Kernels before 6.4 do not know it: then there is nothing to merge.
            let _ = plumb_link::memory::merge();
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
    let process =
        pidfd(&child).map_err(|e| Error::system(format!("watch {}", name(&command)), e.into()))?;
    Ok(Started {
        process,
        pid: child.id(),
        console,
    })
}

/// What tells of a child's end. The child must not have been waited for: its identifier is its own
/// until then.
pub(crate) fn pidfd(child: &Child) -> Result<OwnedFd, Errno> {
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(Errno::SRCH)
        .and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()))
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

/// Gives up all other capabilities, so that `execve` brings none back, whoever the user is.
fn keep_only(wanted: CapabilitySet) -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    let had = rustix::thread::capabilities(None)?;
    let kept = had.permitted & wanted;
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: kept,
    };
    rustix::thread::set_capabilities(None, sets)?;
    // For users other than root, what is not ambient is lost.
    for capability in kept.iter() {
        let _ = rustix::thread::configure_capability_in_ambient_set(capability, true);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    const NOTHING: Inheritance<'_> = Inheritance {
        files: &[],
        capabilities: CapabilitySet::empty(),
        merge: false,
    };

    #[test]
    fn a_program_has_no_capability_but_those_that_it_needs() {
        for (capabilities, most) in [
            (CapabilitySet::empty(), 0),
            (CapabilitySet::NET_ADMIN, 1 << 12),
        ] {
            let mut command = Command::new("cat");
            command.arg("/proc/self/status");
            let kept = Inheritance {
                capabilities,
                ..NOTHING
            };
            let started = start(command, kept).unwrap();
            let ended = rustix::process::WaitId::PidFd(started.process.as_fd());
            rustix::process::waitid(ended, rustix::process::WaitIdOptions::EXITED).unwrap();
            let mut status = [0; 8192];
            let len = rustix::io::read(&started.console, &mut status).unwrap();
            let status = String::from_utf8_lossy(&status[..len]);
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
            };
            for set in ["CapEff:", "CapPrm:"] {
                assert!([0, most].contains(&field(set)), "{status}");
            }
            assert_eq!(field("NoNewPrivs:"), 1);
        }
    }

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
        let error = start(Command::new("/no/such/thing"), NOTHING).unwrap_err();
        assert!(
            error.to_string().starts_with("cannot start thing: "),
            "{error}"
        );
    }
}
