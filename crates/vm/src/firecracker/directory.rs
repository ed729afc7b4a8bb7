//! A directory for sockets that nobody else finds.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use crate::Error;

/// A directory that ceases to exist when this is dropped.
#[derive(Debug)]
pub(super) enum Directory {
    /// A file system in memory that is mounted nowhere: it goes with its last descriptor, those
    /// that were inherited included.
    Unnamed(OwnedFd),
    /// Where that is not allowed, or the kernel is older than 5.2: one with a name. It is left
    /// behind if this process is killed while it has it.
    Named(PathBuf),
}

impl Directory {
    pub(super) fn new() -> Result<Self, Error> {
        match unnamed() {
            Ok(root) => Ok(Self::Unnamed(root)),
            Err(Errno::PERM | Errno::NOSYS | Errno::NODEV) => named().map(Self::Named),
            Err(e) => Err(Error::system("make a file system in memory", e.into())),
        }
    }

    /// A path in it, for this process and for those that inherit [`fd`](Self::fd).
    pub(super) fn path(&self, name: &str) -> PathBuf {
        match self {
            Self::Unnamed(root) => format!("/proc/self/fd/{}/{name}", root.as_raw_fd()).into(),
            Self::Named(path) => path.join(name),
        }
    }

    /// What has to be inherited for the path to lead there.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Unnamed(root) => Some(root.as_fd()),
            Self::Named(_) => None,
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Self::Named(path) = self {
            let _ = fs::remove_dir_all(path);
        }
    }
}

fn unnamed() -> Result<OwnedFd, Errno> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn named() -> Result<PathBuf, Error> {
    let parent = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    for number in 0..1000 {
        let path = parent.join(format!("plumb-vm-{}-{number}", std::process::id()));
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(failed(&parent, e)),
        }
    }
    Err(failed(&parent, io::ErrorKind::AlreadyExists.into()))
}

fn failed(parent: &Path, error: io::Error) -> Error {
    Error::system(format!("make a directory in {}", parent.display()), error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn sockets_are_found_there_and_nothing_stays() {
        for directory in [
            Directory::new().unwrap(),
            Directory::Named(named().unwrap()),
        ] {
            let path = directory.path("socket");
            let _listener = UnixListener::bind(&path).unwrap();
            UnixStream::connect(&path).unwrap();
            let there = directory.path("");
            drop(directory);
            assert!(!path.exists());
            assert!(fs::read_dir(there).is_err());
        }
    }
}
