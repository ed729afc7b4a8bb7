//! A private network for a command: namespaces that vanish with the process that made them.
//!
//! [`enter`] moves the calling process into a network namespace of its own, and makes the next
//! child the first process of a new PID namespace. [`Child::spawn`] starts a command there. When
//! this process dies, however it dies, the kernel kills everything in that PID namespace, and with
//! the last process go the network namespace and its devices: there is nothing to clean up.

use core::cell::Cell;
use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, getgid, getpid, getuid,
    kill_process, pidfd_open, pidfd_send_signal, set_parent_process_death_signal, wait, waitid,
};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::netlink::Netlink;
use crate::spawn::spawn;
use crate::{Capability, Error, capability, sys};

/// Moves the calling process into a private network, with the loopback interface up.
///
/// A process that may (CAP_SYS_ADMIN) keeps its user; any other becomes root of a new user
/// namespace in which only its own user exists. Unprivileged ping works for commands that
/// [`Child::spawn`] starts there. Must be called while there is one thread.
///
/// # Errors
/// If namespaces are forbidden; [`why_forbidden`] tells by what.
pub fn enter() -> Result<(), Error> {
    enter_new(UnshareFlags::NEWNET | UnshareFlags::NEWPID)
}

/// Moves the calling process into a private network like [`enter`], but its children into no PID
/// namespace, so that it may have many, one after the other. They must see to it themselves that
/// they end with this process. Mounts that it makes are its own.
///
/// # Errors
/// If namespaces are forbidden; [`why_forbidden`] tells by what.
pub fn enter_network() -> Result<(), Error> {
    enter_new(UnshareFlags::NEWNET | UnshareFlags::NEWNS)?;
    let_ping();
    Ok(())
}

/// Moves the calling thread into the network namespace of another process, or one that `ip netns`
/// has made: `target` is a process id, a name, or a path.
///
/// # Errors
/// If there is none, or CAP_SYS_ADMIN is missing.
pub fn join_network(target: &str) -> Result<(), Error> {
    let path = if target.bytes().all(|byte| byte.is_ascii_digit()) {
        format!("/proc/{target}/ns/net")
    } else if target.contains('/') {
        target.to_owned()
    } else {
        format!("/run/netns/{target}")
    };
    let file = fs::File::open(&path).map_err(|e| Error::system("open", path.clone(), e))?;
    join(&file, &path)
}

fn join(file: &fs::File, what: &str) -> Result<(), Error> {
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|e| Error::privileged("enter", what, Capability::SysAdmin, e))
}

/// A network namespace, kept as long as this is. Two are equal if they are the same one.
#[derive(Debug)]
pub struct Network {
    file: fs::File,
    id: (u64, u64),
}

impl Network {
    /// That of the calling thread.
    ///
    /// # Errors
    /// If there is no /proc.
    pub fn current() -> io::Result<Self> {
        Self::of(fs::File::open("/proc/thread-self/ns/net")?)
    }

    /// That of a process.
    ///
    /// # Errors
    /// If there is no such process, or it may not be looked into.
    pub fn of_process(process: u32) -> io::Result<Self> {
        Self::of(fs::File::open(format!("/proc/{process}/ns/net"))?)
    }

    /// The one that a file stands for.
    pub(crate) fn of(file: fs::File) -> io::Result<Self> {
        let found = file.metadata()?;
        let id = (found.dev(), found.ino());
        Ok(Self { file, id })
    }

    /// Moves the calling thread there.
    ///
    /// # Errors
    /// If CAP_SYS_ADMIN is missing.
    pub fn join(&self) -> Result<(), Error> {
        join(&self.file, "a network namespace")
    }
}

impl PartialEq for Network {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Network {}

fn enter_new(mut flags: UnshareFlags) -> Result<(), Error> {
    let (user, group) = (getuid().as_raw(), getgid().as_raw());
    let own_user = !capability::has(Capability::SysAdmin);
    if own_user {
        flags |= UnshareFlags::NEWUSER;
    }
    // SAFETY: no memory or descriptor table is unshared, which is what would concern other code.
    unsafe { unshare_unsafe(flags) }
        .map_err(|e| Error::privileged("make", "a private network", Capability::SysAdmin, e))?;
    if own_user {
        let map = |file: &str, content: String| {
            fs::write(file, content).map_err(|e| Error::system("write", file, e))
        };
        map("/proc/self/setgroups", "deny".to_owned())?;
        map("/proc/self/uid_map", format!("0 {user} 1"))?;
        map("/proc/self/gid_map", format!("0 {group} 1"))?;
    }
    let loopback = sys::interface_index("lo").ok_or(Error::NoInterface("lo".to_owned()))?;
    Netlink::open()
        .and_then(|netlink| netlink.set_up(loopback, None))
        .map_err(|e| Error::system("bring up", "the loopback interface", e))?;
    Ok(())
}

/// Makes unprivileged ping work in this network, for whoever exists there; [`Child::spawn`] does. A
/// /proc/sys that cannot be written has to do without.
pub fn let_ping() {
    let everyone = fs::write(PING_GROUP_RANGE, "0 2147483647");
    if everyone.is_err() {
        let _ = fs::write(PING_GROUP_RANGE, "0 0");
    }
}

/// Sees to it that no router behind an interface that is there gives it an address or a route (RFC
/// 4861 §6.3.4). Kernels without IPv6, and a /proc/sys that cannot be written, have to do without.
fn believe_no_routers() {
    for entry in fs::read_dir(IPV6_CONF).into_iter().flatten().flatten() {
        // What a command makes for itself later is its own affair.
        if entry.file_name() != "all" && entry.file_name() != "default" {
            let _ = fs::write(entry.path().join("accept_ra"), "0");
        }
    }
}

const IPV6_CONF: &str = "/proc/sys/net/ipv6/conf";
const PING_GROUP_RANGE: &str = "/proc/sys/net/ipv4/ping_group_range";

/// This user's number outside the user namespace of this process, which [`enter`] may have made and
/// where everybody is root.
pub fn outer_user() -> u32 {
    let user = rustix::process::geteuid().as_raw();
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let outer = map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let (inner, outer, count) = (
            numbers.next()?.ok()?,
            numbers.next()?.ok()?,
            numbers.next()?.ok()?,
        );
        let offset = user.checked_sub(inner).filter(|o| *o < count)?;
        outer.checked_add(offset)
    });
    outer.unwrap_or(user)
}

/// The kernel settings that forbid unprivileged user namespaces here: each with the command that
/// allows them.
pub fn why_forbidden() -> Vec<(&'static str, &'static str)> {
    const SETTINGS: [(&str, &str, &str); 3] = [
        (
            "/proc/sys/kernel/unprivileged_userns_clone",
            "0",
            "sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        (
            "/proc/sys/user/max_user_namespaces",
            "0",
            "sysctl -w user.max_user_namespaces=15000",
        ),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ];
    SETTINGS
        .into_iter()
        .filter(|(file, forbids, _)| {
            fs::read_to_string(file).is_ok_and(|value| value.trim() == *forbids)
        })
        .map(|(file, _, allow)| (file, allow))
        .collect()
}

/// A command that runs in the private network.
#[derive(Debug)]
pub struct Child {
    process: OwnedFd,
    signals: OwnedFd,
    /// SIGUSR1 is for this process, and has come.
    keeps_user_signal: Cell<Option<bool>>,
}

impl Child {
    /// Starts `command` with its arguments and these additional environment variables, with the
    /// caller's standard streams. Must be called once, after [`enter`], while there is one thread.
    ///
    /// The command is the child of a process that waits for it and passes signals on: the first
    /// process of a PID namespace ignores all signals that it does not handle, Ctrl-C included.
    ///
    /// From now on this process leaves the keyboard's signals to the command, which they reach
    /// anyway, and [`try_wait`](Self::try_wait) passes on those that ask to end.
    ///
    /// # Errors
    /// If no process can be made. A command that cannot be run ends with status 127 or 126.
    pub fn spawn(command: &[OsString], environment: &[(&str, OsString)]) -> Result<Self, Error> {
        let failed = |e: io::Error| Error::system("start", "a process in the private network", e);
        let myself = pidfd_open(getpid(), PidfdFlags::empty()).map_err(|e| failed(e.into()))?;
        let signals = sys::signals(&PASSED_ON).map_err(failed)?;
        // SAFETY: there is one thread, so the child has all that it needs in a sound state.
        let pid = unsafe { libc::fork() };
        if pid < 0 {
            return Err(failed(io::Error::last_os_error()));
        }
        let Some(pid) = Pid::from_raw(pid) else {
            let status = init(&myself, command, environment);
            // SAFETY: ends this process without running what the parent registered for its end.
            unsafe { libc::_exit(status) };
        };
        for signal in KEYBOARD {
            // SAFETY: ignoring a signal runs no handler.
            unsafe { libc::signal(signal, libc::SIG_IGN) };
        }
        let process = pidfd_open(pid, PidfdFlags::empty()).map_err(|e| failed(e.into()))?;
        Ok(Self {
            process,
            signals,
            keeps_user_signal: Cell::new(None),
        })
    }

    /// What becomes readable when the command has ended, and when a signal waits to be passed on.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.process.as_fd(), self.signals.as_fd()]
    }

    /// Says whether SIGUSR1 has come since the last call. From the first call on, it is not passed
    /// on to the command.
    pub fn take_user_signal(&self) -> bool {
        self.keeps_user_signal.replace(Some(false)) == Some(true)
    }

    /// Sends the command a signal; SIGKILL ends everything in the private network.
    pub fn signal(&self, signal: Signal) {
        // It may have ended by now.
        let _ = pidfd_send_signal(&self.process, signal);
    }

    /// Passes waiting signals on to the command and tells how it ended: its exit status, or 128
    /// and the number of the signal that ended it. `None` as long as it runs.
    ///
    /// # Errors
    /// If the process cannot be waited for.
    pub fn try_wait(&self) -> Result<Option<u8>, Error> {
        while let Some(signal) = sys::next_signal(self.signals.as_fd()) {
            if signal == libc::SIGUSR1 && self.keeps_user_signal.get().is_some() {
                self.keeps_user_signal.set(Some(true));
            } else if let Some(signal) = Signal::from_named_raw(signal) {
                self.signal(signal);
            }
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = waitid(WaitId::PidFd(self.process.as_fd()), options)
            .map_err(|e| Error::system("wait for", "the command", e))?;
        Ok(status.map(|s| {
            s.exit_status()
                .map_or(137, |code| u8::try_from(code).unwrap_or(1))
        }))
    }
}

/// The signals that are sent to one process, and by convention are meant for its work.
pub(crate) const PASSED_ON: [libc::c_int; 4] =
    [libc::SIGHUP, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2];

/// The signals that a keyboard sends to all processes of a foreground job.
pub(crate) const KEYBOARD: [libc::c_int; 2] = [libc::SIGINT, libc::SIGQUIT];

/// Sees to it that the program that `command` becomes is killed when this process ends, however it
/// ends.
///
/// # Errors
/// If the kernel has no descriptors for processes.
pub fn end_with_this_process(command: &mut Command) -> Result<(), Error> {
    let failed = |e: rustix::io::Errno| Error::system("watch", "this process", e);
    let myself = pidfd_open(getpid(), PidfdFlags::empty()).map_err(failed)?;
    sys::before_exec(command, move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if is_dead(&myself) {
            return Err(ErrorKind::NotConnected.into());
        }
        Ok(())
    });
    Ok(())
}

/// The first process of the PID namespace: runs the command, passes signals on to it, reaps
/// orphans, and returns the command's status.
fn init(parent: &OwnedFd, command: &[OsString], environment: &[(&str, OsString)]) -> i32 {
    // When the process that made the namespaces dies, so does this one, and the kernel ends the
    // rest of the namespace. It may be dead already.
    if set_parent_process_death_signal(Some(Signal::KILL)).is_err() || is_dead(parent) {
        return 126;
    }
    mount_own_views();
    // By the /proc just mounted: in one that networks share, the kernel finds the file of one only
    // after those of all others.
    let_ping();
    believe_no_routers();
    let Some(program) = command.first() else {
        return 127;
    };
    // The parent's are those of another process, and must not be taken from it.
    let wanted = [PASSED_ON.as_slice(), &[libc::SIGCHLD]].concat();
    let Ok(signals) = sys::signals(&wanted) else {
        return 126;
    };
    // Those of the keyboard wait where several commands are being started.
    let theirs = [wanted.as_slice(), &KEYBOARD].concat();
    let command = match start(command, environment, &theirs) {
        Ok(command) => command,
        Err(error) => {
            let line = format!("plumb: cannot run {}: {error}\n", program.to_string_lossy());
            let _ = rustix::io::write(io::stderr(), line.as_bytes());
            return if error.kind() == ErrorKind::NotFound {
                127
            } else {
                126
            };
        }
    };
    loop {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == command {
                let signal = status.terminating_signal().map(|signal| 128 + signal);
                return status.exit_status().or(signal).unwrap_or(1);
            }
        }
        let mut fds = [PollFd::new(&signals, PollFlags::IN)];
        let _ = poll(&mut fds, None);
        while let Some(signal) = sys::next_signal(signals.as_fd()) {
            if let Some(signal) = Signal::from_named_raw(signal)
                && signal != Signal::CHILD
            {
                let _ = kill_process(command, signal);
            }
        }
    }
}

/// Starts a command with these signals unblocked.
fn start(
    command: &[OsString],
    environment: &[(&str, OsString)],
    signals: &[libc::c_int],
) -> io::Result<Pid> {
    match spawn(command, environment, signals) {
        // A script that does not say whose: the library's way hands it to a shell.
        Err(error) if error.raw_os_error() == Some(libc::ENOEXEC) => {}
        other => return other,
    }
    let mut words = command.iter();
    let program = words.next().ok_or(ErrorKind::InvalidInput)?;
    let mut process = Command::new(program);
    process.args(words);
    process.envs(environment.iter().map(|(name, value)| (*name, value)));
    sys::unblock_in(&mut process, signals)?;
    let child = process.spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| ErrorKind::Other.into())
}

pub(crate) fn is_dead(process: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())) != Ok(0)
}

/// Mounts /proc and /sys of the new namespaces, where that is allowed, so that tools which look
/// for processes and interfaces there find those inside. Programs can do without.
fn mount_own_views() {
    // SAFETY: no memory or descriptor table is unshared, which is what would concern other code.
    if unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.is_err() {
        return;
    }
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    if mount_change("/", private).is_err() {
        return;
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let _ = mount("proc", "/proc", "proc", flags, None);
    let _ = mount("sysfs", "/sys", "sysfs", flags, None);
}
