//! A control group around what is measured: all its processes' memory and processor time, whoever
//! started them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// A control group that is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Cgroup {
    /// Path below the hierarchy's root, as an OCI runtime wants it.
    pub(crate) name: String,
    memory: PathBuf,
    cpu: PathBuf,
    unified: bool,
    /// Where this process belongs in the hierarchies of `memory` and `cpu`.
    home: [PathBuf; 2],
}

/// What a group has used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    /// Most memory that was charged at any time, in bytes: anonymous pages, the page cache that it
    /// was the first to read, and the kernel's memory on its behalf.
    pub(crate) peak_memory: u64,
    /// Processor time in seconds.
    pub(crate) cpu_s: f64,
}

impl Cgroup {
    /// Makes a group; works with both versions of the kernel's interface.
    pub(crate) fn create(name: &str) -> anyhow::Result<Self> {
        let root = Path::new("/sys/fs/cgroup");
        sweep(root);
        let name = format!("{PREFIX}{}-{name}", std::process::id());
        let unified = root.join("cgroup.controllers").exists();
        let (memory, cpu) = if unified {
            // Controllers reach the children of the root only if it says so.
            let _ = fs::write(root.join("cgroup.subtree_control"), "+memory +cpu");
            (root.join(&name), root.join(&name))
        } else {
            (
                root.join("memory").join(&name),
                root.join("cpuacct").join(&name),
            )
        };
        for folder in [&memory, &cpu] {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the control group {}", folder.display()))?;
        }
        if !memory.join("cgroup.procs").exists() {
            bail!(
                "there are no control groups for memory at {}",
                root.display()
            );
        }
        let home = if unified {
            [home(root, ""), home(root, "")]
        } else {
            [
                home(&root.join("memory"), "memory"),
                home(&root.join("cpuacct"), "cpuacct"),
            ]
        };
        Ok(Self {
            name,
            memory,
            cpu,
            unified,
            home,
        })
    }

    /// Bounds the group's memory.
    pub(crate) fn limit_memory(&self, bytes: u64) -> anyhow::Result<()> {
        let file = if self.unified {
            "memory.max"
        } else {
            "memory.limit_in_bytes"
        };
        fs::write(self.memory.join(file), bytes.to_string()).context("cannot bound the memory")
    }

    /// Moves this process into the group, so that what it starts is born there, until what is
    /// returned is dropped. Moving takes milliseconds and keeps the whole system from forking:
    /// nothing that is timed should happen meanwhile.
    pub(crate) fn enter(&self) -> anyhow::Result<Inside<'_>> {
        self.borrow(std::process::id())
    }

    /// Moves another process into the group for as long.
    pub(crate) fn borrow(&self, pid: u32) -> anyhow::Result<Inside<'_>> {
        for folder in [&self.memory, &self.cpu] {
            fs::write(folder.join("cgroup.procs"), pid.to_string())
                .context("cannot enter the control group")?;
        }
        Ok(Inside(self, pid))
    }

    /// Processes in the group and in groups below it.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mut found = Vec::new();
        collect(&self.memory, &mut found);
        found
    }

    /// What was used so far.
    pub(crate) fn used(&self) -> Used {
        let number = |path: PathBuf| -> u64 {
            let text = fs::read_to_string(path).unwrap_or_default();
            text.trim().parse().unwrap_or(0)
        };
        if self.unified {
            let stat = fs::read_to_string(self.cpu.join("cpu.stat")).unwrap_or_default();
            let micros = stat
                .lines()
                .find_map(|line| line.strip_prefix("usage_usec "))
                .and_then(|n| n.trim().parse::<u64>().ok())
                .unwrap_or(0);
            Used {
                peak_memory: number(self.memory.join("memory.peak")),
                cpu_s: micros as f64 / 1e6,
            }
        } else {
            Used {
                peak_memory: number(self.memory.join("memory.max_usage_in_bytes")),
                cpu_s: number(self.cpu.join("cpuacct.usage")) as f64 / 1e9,
            }
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A container's runtime makes groups of this name for all controllers.
        let root = Path::new("/sys/fs/cgroup");
        let mut folders = vec![self.memory.clone(), self.cpu.clone()];
        if !self.unified {
            let controllers = fs::read_dir(root).into_iter().flatten().flatten();
            folders.extend(controllers.map(|entry| entry.path().join(&self.name)));
        }
        // Processes that have just ended still count for a moment.
        for _ in 0..200 {
            folders.retain(|folder| folder.exists() && !remove(folder));
            if folders.is_empty() {
                break;
            }
            std::thread::sleep(core::time::Duration::from_millis(5));
        }
    }
}

/// Removes a group and those below it; false if something is still there. A runtime makes files of
/// its own where it believes a hierarchy to be and none is mounted: those go too, and the kernel
/// keeps its own.
fn remove(folder: &Path) -> bool {
    if fs::remove_dir(folder).is_ok() {
        return true;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        } else {
            let _ = fs::remove_file(entry.path());
        }
    }
    fs::remove_dir(folder).is_ok()
}

/// What the names of groups begin with; the identifier of their process comes next.
const PREFIX: &str = "plumb-bench-";

/// Removes the groups of processes that were killed.
fn sweep(root: &Path) {
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten();
    let folders = hierarchies.map(|entry| entry.path()).chain([root.into()]);
    for entry in folders
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten()
        .flatten()
    {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| {
            let (pid, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
            pid.parse::<u32>().ok()
        });
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            remove(&entry.path());
        }
    }
}

/// A process's stay in a group; where this process came from is where it goes afterwards.
#[derive(Debug)]
pub(crate) struct Inside<'a>(&'a Cgroup, u32);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        for folder in &self.0.home {
            let _ = fs::write(folder.join("cgroup.procs"), self.1.to_string());
        }
    }
}

/// The folder of this process's own group in the hierarchy of a controller; an empty name stands
/// for the one hierarchy of version 2.
fn home(root: &Path, controller: &str) -> PathBuf {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = text.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers
            .split(',')
            .any(|name| name == controller)
            .then_some(path)
    });
    root.join(own.unwrap_or_default().trim_start_matches('/'))
}

fn collect(folder: &Path, found: &mut Vec<u32>) {
    let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), found);
        }
    }
}
