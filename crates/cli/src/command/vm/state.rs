//! Where machines that stay are kept: a directory for each, with a lock, two sockets and a log.
//!
//! Who holds a machine holds its lock for as long as it lives. So a directory whose lock is free is
//! that of a holder that was killed, whichever PID namespace it was in and whoever has its number
//! now.

use core::time::Duration;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use plumb_link::namespace::outer_user;

use crate::exit::Failure;

/// The directory of all machines.
#[derive(Clone, Debug)]
pub(crate) struct State {
    path: PathBuf,
}

/// The directory of a machine.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Name of the machine.
    pub(crate) name: String,
    path: PathBuf,
}

/// A directory that is this process's own as long as this lives. Nothing of it stays.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) place: Place,
    /// Locked.
    _lock: File,
    /// What is in it shall stay, for people to read why it ended.
    keep: bool,
}

/// A socket of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Socket {
    /// Takes one client after the other, which speaks with the engine.
    Job,
    /// Takes commands and tells how the machine is.
    Control,
}

impl Socket {
    const fn name(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Control => "control",
        }
    }
}

/// What is known of a machine's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Somebody holds the machine.
    Held,
    /// The machine ended by itself, and left word why.
    Ended,
}

const LOCK: &str = "lock";
const LOG: &str = "log";
const OLD_LOG: &str = "log.old";
const ENDED: &str = "ended";

impl State {
    /// `PLUMB_STATE`, otherwise /run/plumb/vm for root, and plumb/vm in the user's runtime directory.
    /// Made if it is not there; nobody else may look in.
    pub(crate) fn open() -> Result<Self, Failure> {
        let mut refusals = Vec::new();
        for path in Self::places() {
            let mut builder = DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(&path);
            match made.and_then(|()| path.canonicalize()) {
                Ok(path) => return Self::at(path),
                Err(e) => refusals.push((path, e)),
            }
        }
        let denied = refusals
            .iter()
            .any(|(_, e)| e.kind() == ErrorKind::PermissionDenied);
        let refusals: Vec<String> = refusals
            .iter()
            .map(|(path, e)| format!("{}: {e}", path.display()))
            .collect();
        let message = format!(
            "cannot make a directory for machines ({}); set PLUMB_STATE to one that can be made",
            refusals.join(", ")
        );
        Err(match denied {
            true => Failure::permission(message),
            false => Failure::usage(message),
        })
    }

    /// This directory, if nobody else can put anything there.
    fn at(path: PathBuf) -> Result<Self, Failure> {
        let owner = path
            .metadata()
            .map_err(|e| Failure::usage(format!("cannot read {}: {e}", path.display())))?;
        let user = rustix::process::geteuid().as_raw();
        if owner.uid() != user || owner.permissions().mode() & 0o022 != 0 {
            return Err(Failure::permission(format!(
                "the directory {} for machines is somebody else's, or others may write there; set \
                 PLUMB_STATE to another",
                path.display()
            )));
        }
        Ok(Self { path })
    }

    /// Where it may be, the best first.
    fn places() -> Vec<PathBuf> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(path) = variable("PLUMB_STATE") {
            return vec![path.into()];
        }
        let user = rustix::process::geteuid();
        let own = match variable("XDG_RUNTIME_DIR") {
            Some(runtime) => Path::new(&runtime).join("plumb/vm"),
            None => std::env::temp_dir().join(format!("plumb-{}/vm", outer_user())),
        };
        // Root of a private network may be any user of this system.
        match user.is_root() {
            true => vec!["/run/plumb/vm".into(), own],
            false => vec![own],
        }
    }

    /// The machine of this name, whether there is one or not.
    pub(crate) fn machine(&self, name: &str) -> Result<Place, Failure> {
        let good = (1..=32).contains(&name.len())
            && !name.starts_with(['.', '-'])
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !good {
            return Err(Failure::usage(format!(
                "{name:?} is no name for a machine: up to 32 letters, digits, dots, underscores \
                 and hyphens"
            )));
        }
        Ok(Place {
            name: name.to_owned(),
            path: self.path.join(name),
        })
    }

    /// The machines that are there, by name. What killed holders left behind is removed.
    pub(crate) fn machines(&self) -> Result<Vec<(Place, Life)>, Failure> {
        let entries = fs::read_dir(&self.path)
            .map_err(|e| Failure::usage(format!("cannot read {}: {e}", self.path.display())))?;
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort_by_key(|name| (name.len(), name.clone()));
        let mut machines = Vec::new();
        for name in names {
            let Ok(place) = self.machine(&name) else {
                continue;
            };
            if let Some(life) = place.life() {
                machines.push((place, life));
            }
        }
        Ok(machines)
    }

    /// Claims the directory of a new machine: of this name, or of the first free number.
    pub(crate) fn claim(&self, name: Option<&str>) -> Result<Claim, Failure> {
        if let Some(name) = name {
            let place = self.machine(name)?;
            return place.claim()?.ok_or_else(|| {
                Failure::usage(format!(
                    "there is a machine {name} already; `plumb vm stop {name}` ends it"
                ))
            });
        }
        for number in 1..=MOST_NUMBERS {
            if let Some(claim) = self.machine(&format!("vm{number}"))?.claim()? {
                return Ok(claim);
            }
        }
        Err(Failure::usage(format!(
            "there are {MOST_NUMBERS} machines already"
        )))
    }
}

/// Most machines without a name of the user's.
const MOST_NUMBERS: u32 = 10_000;

impl Place {
    /// Says whether somebody holds it; `None` if there is nothing, or there was only what a killed
    /// holder left, which is removed.
    pub(crate) fn life(&self) -> Option<Life> {
        let lock = File::open(self.path.join(LOCK));
        let Ok(lock) = lock else {
            // Somebody may be about to make it, or to remove it.
            return None;
        };
        if lock.try_lock().is_err() {
            return Some(Life::Held);
        }
        if self.path.join(ENDED).exists() {
            return Some(Life::Ended);
        }
        if self.is_locked_by(&lock) {
            self.remove();
        }
        None
    }

    /// Makes the directory this process's own; `None` if it is somebody else's.
    fn claim(&self) -> Result<Option<Claim>, Failure> {
        let failed = |e: io::Error| {
            Failure::usage(format!(
                "cannot make the directory {}: {e}",
                self.path.display()
            ))
        };
        loop {
            match DirBuilder::new().mode(0o700).create(&self.path) {
                Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(failed(e)),
                _ => {}
            }
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(0o600);
            let lock = match options.open(self.path.join(LOCK)) {
                Ok(lock) => lock,
                // Somebody has removed the directory meanwhile.
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(failed(e)),
            };
            if !is_mine(&lock) {
                return Ok(None);
            }
            if !self.is_locked_by(&lock) {
                continue;
            }
            for file in [
                ENDED,
                LOG,
                OLD_LOG,
                Socket::Job.name(),
                Socket::Control.name(),
            ] {
                let _ = fs::remove_file(self.path.join(file));
            }
            return Ok(Some(Claim {
                place: self.clone(),
                _lock: lock,
                keep: false,
            }));
        }
    }

    /// Removes what is left of a machine that ended by itself; says whether there was one.
    pub(crate) fn clear(&self) -> bool {
        let there = self.life() == Some(Life::Ended);
        if there && let Ok(Some(claim)) = self.claim() {
            drop(claim);
        }
        there
    }

    /// Whether this locked file is still the one that has the name.
    fn is_locked_by(&self, lock: &File) -> bool {
        let same = || -> io::Result<bool> {
            let (named, locked) = (fs::metadata(self.path.join(LOCK))?, lock.metadata()?);
            Ok((named.dev(), named.ino()) == (locked.dev(), locked.ino()))
        };
        same().unwrap_or(false)
    }

    fn remove(&self) {
        let _ = fs::remove_dir_all(&self.path);
    }

    /// Makes a socket, which only this user may use.
    pub(crate) fn listen(&self, socket: Socket) -> io::Result<UnixListener> {
        let directory = File::open(&self.path)?;
        let listener = UnixListener::bind(short(&directory, socket))?;
        listener.set_nonblocking(true)?;
        let path = self.path.join(socket.name());
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    }

    /// Connects to a socket of the machine.
    pub(crate) fn connect(&self, socket: Socket) -> io::Result<UnixStream> {
        let directory = File::open(&self.path)?;
        UnixStream::connect(short(&directory, socket))
    }

    /// The log, to be written. What is more than its size is the old log then.
    pub(crate) fn log(&self) -> io::Result<File> {
        let path = self.path.join(LOG);
        if path.metadata().is_ok_and(|m| m.len() >= MOST_LOG) {
            fs::rename(&path, self.path.join(OLD_LOG))?;
        }
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600).open(path)
    }

    /// The logs that are there, the oldest first.
    pub(crate) fn logs(&self) -> Vec<PathBuf> {
        vec![self.path.join(OLD_LOG), self.path.join(LOG)]
    }

    /// Why the machine ended, if it did by itself.
    pub(crate) fn end(&self) -> Option<String> {
        let reason = fs::read_to_string(self.path.join(ENDED)).ok()?;
        Some(reason.trim().to_owned())
    }
}

/// Locks a file, unless its lock is somebody's for longer than a look takes.
fn is_mine(lock: &File) -> bool {
    (0..LOOKS).any(|look| {
        if look > 0 {
            std::thread::sleep(LOOK);
        }
        lock.try_lock().is_ok()
    })
}

/// How often a lock is tried. Who only looks whether it is free has it for an instant.
const LOOKS: u32 = 5;
const LOOK: Duration = Duration::from_millis(2);

/// Bytes of a log before another is begun; two are kept.
const MOST_LOG: u64 = 1 << 20;

/// The path of a socket, however long that of its directory is.
fn short(directory: &File, socket: Socket) -> String {
    format!("/proc/self/fd/{}/{}", directory.as_raw_fd(), socket.name())
}

impl Claim {
    /// Leaves word why the machine ended. What is there stays then, until it is stopped or another
    /// of the name is started.
    pub(crate) fn leave_word(mut self, reason: &str) {
        self.keep = fs::write(self.place.path.join(ENDED), reason).is_ok();
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.keep {
            self.place.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(name: &str) -> State {
        let path = std::env::temp_dir().join(format!("plumb-state-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        State { path }
    }

    #[test]
    fn a_claim_is_one_holders_and_leaves_nothing() {
        let state = state("claim");
        let claim = state.claim(Some("a")).unwrap();
        assert!(
            state
                .claim(Some("a"))
                .unwrap_err()
                .message
                .contains("already")
        );
        let second = state.claim(None).unwrap();
        assert_eq!(second.place.name, "vm1");
        let held: Vec<_> = state.machines().unwrap();
        assert_eq!(held.len(), 2);
        assert!(held.iter().all(|(_, life)| *life == Life::Held));
        drop((claim, second));
        assert!(state.machines().unwrap().is_empty());
        fs::remove_dir(&state.path).unwrap();
    }

    #[test]
    fn what_a_killed_holder_left_is_removed() {
        let state = state("killed");
        let place = state.machine("a").unwrap();
        fs::create_dir(&place.path).unwrap();
        for file in [LOCK, LOG, "job"] {
            fs::write(place.path.join(file), "").unwrap();
        }
        assert!(state.machines().unwrap().is_empty());
        assert!(!place.path.exists());
        fs::remove_dir(&state.path).unwrap();
    }

    #[test]
    fn a_machine_that_ended_by_itself_says_why_until_it_is_cleared() {
        let state = state("ended");
        state.claim(Some("a")).unwrap().leave_word("it hung\n");
        let machines = state.machines().unwrap();
        let (place, life) = &machines[0];
        assert_eq!((*life, place.end()), (Life::Ended, Some("it hung".into())));
        assert!(place.clear() && !place.clear());
        state.claim(Some("b")).unwrap().leave_word("again");
        let again = state.claim(Some("b")).unwrap();
        assert_eq!(again.place.end(), None);
        drop(again);
        fs::remove_dir(&state.path).unwrap();
    }

    #[test]
    fn sockets_work_in_directories_with_long_paths() {
        let mut state = state("long");
        let root = state.path.clone();
        state.path = state.path.join("x".repeat(120));
        fs::create_dir(&state.path).unwrap();
        let claim = state.claim(None).unwrap();
        let _listener = claim.place.listen(Socket::Job).unwrap();
        claim.place.connect(Socket::Job).unwrap();
        assert!(claim.place.connect(Socket::Control).is_err());
        drop(claim);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_directory_in_which_others_may_write_is_refused() {
        let state = state("others");
        fs::set_permissions(&state.path, fs::Permissions::from_mode(0o777)).unwrap();
        let refused = State::at(state.path.clone()).unwrap_err();
        assert_eq!(refused.exit, crate::exit::Exit::Permission);
        fs::set_permissions(&state.path, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(State::at(state.path.clone()).is_ok());
        fs::remove_dir(&state.path).unwrap();
    }

    #[test]
    fn names_that_lead_elsewhere_are_none() {
        let state = state("names");
        for bad in ["", "..", ".x", "a/b", "-x", "ä", &"x".repeat(33)] {
            assert!(state.machine(bad).is_err(), "{bad:?}");
        }
        assert!(state.machine("a-b_c.1").is_ok());
        fs::remove_dir(&state.path).unwrap();
    }
}
