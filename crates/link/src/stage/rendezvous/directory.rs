//! The directory with this user's sockets, which nobody else can look into.

use core::time::Duration;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};
use rustix::io::Errno;
use rustix::net::{SocketAddrUnix, connect};

use super::seqpacket;
use crate::namespace::outer_user;

/// Sockets that nobody has listened on for this long are removed.
const STALE: Duration = Duration::from_secs(60);

/// The directory, without the sockets of the dead.
pub(super) fn open() -> io::Result<PathBuf> {
    let directory = find()?;
    sweep(&directory);
    Ok(directory)
}

fn find() -> io::Result<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let runtime = runtime.filter(|path| is_private(path));
    let mut found = Err(io::ErrorKind::NotFound.into());
    for path in places(runtime.as_deref(), outer_user()) {
        found = private_directory(path);
        if found.is_ok() {
            break;
        }
    }
    found
}

/// Where it may be, the best place first. In memory, where distributions have the other two: a disk's
/// file system takes as long for a socket's name as the stage for all else.
fn places(runtime: Option<&Path>, user: u32) -> impl Iterator<Item = PathBuf> {
    let own = runtime.map(|path| path.join("plumb"));
    let shared = ["/dev/shm", "/tmp"].map(|path| PathBuf::from(format!("{path}/plumb-{user}")));
    own.into_iter().chain(shared)
}

fn private_directory(path: PathBuf) -> io::Result<PathBuf> {
    match fs::DirBuilder::new().mode(0o700).create(&path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        Ok(()) | Err(_) => {}
    }
    if !is_private(&path) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(path)
}

/// A directory (no link to one) of this user's that others may not use.
fn is_private(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| {
        meta.is_dir()
            && meta.uid() == rustix::process::geteuid().as_raw()
            && meta.mode() & 0o077 == 0
    })
}

/// Removes the sockets of stages that were killed, unless somebody has done so a short while ago: to
/// look at a thousand takes longer than all else that a stage does before its first packet. The
/// directory's time of access is when.
fn sweep(directory: &Path) {
    let is_recent = |at| age(at).is_some_and(|age| age <= STALE);
    if fs::symlink_metadata(directory).is_ok_and(|meta| is_recent(meta.accessed())) {
        return;
    }
    let now = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        },
        last_modification: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
    };
    // Some mounts write no times when a directory is read.
    let _ = utimensat(CWD, directory, &now, AtFlags::SYMLINK_NOFOLLOW);
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let is_old = |at| age(at).is_some_and(|age| age > STALE);
        if entry.metadata().is_ok_and(|meta| is_old(meta.modified())) && is_orphan(&path) {
            let _ = fs::remove_file(&path);
        }
    }
}

/// How long ago that was; none if it is in the future.
fn age(at: io::Result<SystemTime>) -> Option<Duration> {
    at.ok()?.elapsed().ok()
}

fn is_orphan(path: &Path) -> bool {
    let call = seqpacket().and_then(|socket| connect(&socket, &SocketAddrUnix::new(path)?));
    call == Err(Errno::CONNREFUSED)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rustix::net::{bind, listen};

    use super::*;

    #[test]
    fn old_sockets_of_the_dead_are_removed_and_looked_for_once_a_minute() {
        let name = format!("plumb-sweep-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).unwrap();
        let old = |path: &Path| {
            let long_ago = Timespec {
                tv_sec: 1_000_000_000,
                tv_nsec: 0,
            };
            let times = Timestamps {
                last_access: long_ago,
                last_modification: long_ago,
            };
            utimensat(CWD, path, &times, AtFlags::empty()).unwrap();
        };
        let listening = |name: &str| {
            let socket = seqpacket().unwrap();
            let path = directory.join(name);
            bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
            listen(&socket, 1).unwrap();
            (socket, path)
        };
        let (_alive, alive) = listening("alive");
        let [dead, young, later] = ["dead", "young", "later"].map(|name| listening(name).1);
        old(&alive);
        old(&dead);
        old(&directory);
        sweep(&directory);
        assert_eq!(
            [&alive, &dead, &young].map(|path| path.exists()),
            [true, false, true]
        );
        old(&later);
        sweep(&directory);
        assert!(later.exists(), "it was not a minute");
        old(&directory);
        sweep(&directory);
        assert!(!later.exists());
        old(&young);
        sweep(&directory);
        assert!(young.exists(), "the time of the last sweep was taken down");
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_directory_that_others_may_use_holds_no_sockets_and_the_next_place_is_taken() {
        let name = format!("plumb-places-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let open = directory.join("open");
        fs::create_dir_all(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink(&open, directory.join("link")).unwrap();
        fs::write(directory.join("file"), "").unwrap();
        for taken in ["open", "link", "file", "missing/below"] {
            assert!(private_directory(directory.join(taken)).is_err(), "{taken}");
        }
        let own = directory.join("own");
        for _ in 0..2 {
            assert_eq!(private_directory(own.clone()).unwrap(), own);
        }
        fs::remove_dir_all(&directory).unwrap();

        let places: Vec<_> = places(Some(Path::new("/run/user/7")), 7).collect();
        let expected = ["/run/user/7/plumb", "/dev/shm/plumb-7", "/tmp/plumb-7"];
        assert_eq!(places, expected.map(PathBuf::from));
    }
}
