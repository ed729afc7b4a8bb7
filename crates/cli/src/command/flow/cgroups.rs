//! Paths of control groups, by the number that the kernel gives them.

use core::time::Duration;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use plumb_wire::Instant;

/// Time between two walks through the hierarchy, which may be large.
const EVERY: Duration = Duration::from_secs(2);
/// Groups that are remembered.
const MOST: usize = 65_536;

/// The paths that are known.
#[derive(Debug)]
pub(super) struct Cgroups {
    root: Option<PathBuf>,
    paths: BTreeMap<u64, String>,
    walked: Option<Instant>,
}

impl Cgroups {
    pub(super) fn new() -> Self {
        Self {
            root: root(),
            paths: BTreeMap::new(),
            walked: None,
        }
    }

    /// The path of a group, from the root of its hierarchy; `None` if there is none any more.
    pub(super) fn path(&mut self, id: u64, now: Instant) -> Option<String> {
        if let Some(path) = self.paths.get(&id) {
            return Some(path.clone());
        }
        if self.walked.is_some_and(|walked| now < walked + EVERY) {
            return None;
        }
        self.walked = Some(now);
        let root = self.root.clone()?;
        self.paths.clear();
        self.walk(&root, &root);
        self.paths.get(&id).cloned()
    }

    fn walk(&mut self, root: &Path, directory: &Path) {
        if self.paths.len() >= MOST {
            return;
        }
        // A group is called by the number of its directory.
        if let Ok(metadata) = directory.metadata() {
            let path = directory.strip_prefix(root).unwrap_or(directory);
            let path = format!("/{}", path.display());
            self.paths.insert(metadata.ino(), path);
        }
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.walk(root, &entry.path());
            }
        }
    }
}

/// Where the hierarchy of version 2 is mounted.
pub(super) fn root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        (back.split(' ').next() == Some("cgroup2"))
            .then(|| front.split(' ').nth(4).map(PathBuf::from))?
    })
}
