//! Pipelines as a shell makes them, with what each of their processes costs.

use core::time::Duration;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};
use rustix::process::WaitIdOptions;

use crate::child;

/// Commands, each of which reads what the one before it writes.
#[derive(Debug)]
pub(super) struct Pipeline {
    children: Vec<(String, Child)>,
    errors: std::path::PathBuf,
}

/// How a command of a pipeline has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// Seconds of processor time, without that of children.
    pub(super) cpu_s: f64,
}

impl Pipeline {
    /// Starts commands. What they say on standard error goes to files in `folder`; the kernel ends
    /// them with this process.
    pub(super) fn start(commands: &[Vec<String>], folder: &Path) -> anyhow::Result<Self> {
        let mut pipeline = Self {
            children: Vec::new(),
            errors: folder.to_owned(),
        };
        let mut input = Stdio::null();
        for (index, words) in commands.iter().enumerate() {
            let (next, output) = if index + 1 < commands.len() {
                let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
                (Stdio::from(reader), Stdio::from(writer))
            } else {
                (Stdio::null(), Stdio::null())
            };
            let errors = File::create(pipeline.errors(index))?;
            let child = Command::new("setpriv")
                .args(["--pdeathsig", "KILL"])
                .args(words)
                .stdin(core::mem::replace(&mut input, next))
                .stdout(output)
                .stderr(errors)
                .spawn()
                .with_context(|| format!("cannot start {}", words.join(" ")))?;
            pipeline.children.push((words.join(" "), child));
        }
        Ok(pipeline)
    }

    fn errors(&self, index: usize) -> std::path::PathBuf {
        self.errors.join(format!("stage{index}.err"))
    }

    /// Numbers of the processes.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.children.iter().map(|(_, child)| child.id()).collect()
    }

    /// Waits until all have ended; those that have not by then are killed, and it fails.
    pub(super) fn end(mut self, limit: Duration) -> anyhow::Result<Vec<End>> {
        let deadline = Instant::now() + limit;
        let mut ends = Vec::new();
        for index in 0..self.children.len() {
            let (name, child) = &mut self.children[index];
            let pid = child.id().cast_signed();
            let ended = loop {
                if let Some(status) = child::wait(pid, WaitIdOptions::NOHANG) {
                    break Some(status);
                }
                if Instant::now() > deadline {
                    break None;
                }
                std::thread::sleep(Duration::from_millis(2));
            };
            if ended.is_none() {
                let name = name.clone();
                let said = fs::read_to_string(self.errors(index)).unwrap_or_default();
                bail!("{name} does not end: {}", said.trim());
            }
            ends.push(End {
                cpu_s: cpu_s(child.id()),
            });
            child.wait()?;
        }
        Ok(ends)
    }

    /// What the commands said on standard error.
    pub(super) fn said(folder: &Path, count: usize) -> String {
        (0..count)
            .filter_map(|index| fs::read_to_string(folder.join(format!("stage{index}.err"))).ok())
            .collect::<Vec<_>>()
            .join(" ")
            .trim()
            .to_owned()
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        for (_, child) in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Processor time of a process, in seconds.
fn cpu_s(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    let ns = text.split(' ').next().and_then(|f| f.parse::<f64>().ok());
    ns.unwrap_or(0.0) / 1e9
}

/// Proportional set size of a process in kB, everything that it maps included.
pub(super) fn pss_kb(pid: u32) -> f64 {
    rollup(pid, "Pss:")
}

/// The part of it that no other process maps.
pub(super) fn private_kb(pid: u32) -> f64 {
    rollup(pid, "Private_Dirty:") + rollup(pid, "Private_Clean:")
}

fn rollup(pid: u32, field: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|l| l.trim().strip_suffix(" kB")?.trim().parse().ok())
        .unwrap_or(0.0)
}

/// A process and all that it has started.
pub(super) fn family(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let mut all = vec![pid];
    for child in text.unwrap_or_default().split_whitespace() {
        if let Ok(child) = child.parse() {
            all.extend(family(child));
        }
    }
    all
}
