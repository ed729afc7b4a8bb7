//! One file per measurement.

mod accuracy;
mod flow;
pub(crate) mod reveal;
mod single;
mod speed;
mod stages;
mod start;
mod tap;
mod vm;

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::chain::Chain;
use crate::mirror::Mirror;
use crate::report::Report;

pub(crate) use stages::Part;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Measurement {
    /// Traces of a list: probes per second, processor time, and nothing lost.
    Trace,
    /// The same for pings.
    Ping,
    /// Memory while a list is traced.
    Memory,
    /// How well a rate is kept.
    Accuracy,
    /// One trace from start to end.
    Single,
    /// Revelation of a tunnel.
    Reveal,
    /// Start-up time and size of the binary.
    Start,
    /// A trace by a process, in a container and in a microVM.
    Vm,
    /// Pipelines of stages, beside the kernel's own forwarding.
    Stages,
    /// As many containers and microVMs at once as there is room for.
    Crowds,
    /// What it costs to watch traffic.
    Tap,
    /// What it costs to record flows.
    Flow,
}

/// What all measurements need.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) chain: Chain,
    /// `None` where it cannot be had.
    pub(crate) mirror: Option<Mirror>,
    pub(crate) plumb: PathBuf,
    /// Another build of it.
    pub(crate) before: Option<PathBuf>,
    /// A folder for lists and results, in memory.
    pub(crate) scratch: PathBuf,
    pub(crate) repetitions: usize,
    /// Measure less, to see that everything works.
    pub(crate) quick: bool,
    /// Of stages, what is measured; empty for all.
    pub(crate) parts: Vec<Part>,
    pub(crate) scamper: bool,
    pub(crate) report: Report,
}

/// The processor that probers run on.
pub(crate) const PROBER_CPU: usize = 0;
/// The processor for what should not disturb them.
pub(crate) const OTHER_CPU: usize = 1;

impl Bench {
    /// Takes one measurement.
    pub(crate) fn measure(&mut self, measurement: Measurement) -> anyhow::Result<()> {
        match measurement {
            Measurement::Trace => speed::trace(self),
            Measurement::Ping => speed::ping(self),
            Measurement::Memory => speed::memory(self),
            Measurement::Accuracy => accuracy::measure(self),
            Measurement::Single => single::measure(self),
            Measurement::Reveal => reveal::measure(self),
            Measurement::Start => start::measure(self),
            Measurement::Vm => vm::measure(self),
            Measurement::Stages => stages::measure(self),
            Measurement::Crowds => vm::crowds(self),
            Measurement::Tap => tap::measure(self),
            Measurement::Flow => flow::measure(self),
        }
    }

    fn plumb(&self) -> &str {
        self.plumb.to_str().unwrap_or("plumb")
    }

    /// Writes a list of targets that answer and returns its path.
    fn targets(&self, count: u32) -> anyhow::Result<String> {
        self.list("targets", count, crate::chain::target)
    }

    /// Writes a list of targets that do not answer and returns its path.
    fn silent_targets(&self, count: u32) -> anyhow::Result<String> {
        self.list("silent", count, crate::chain::silent_target)
    }

    fn list(
        &self,
        name: &str,
        count: u32,
        address: fn(u32) -> core::net::Ipv4Addr,
    ) -> anyhow::Result<String> {
        use core::fmt::Write as _;
        let path = self.scratch.join(format!("{name}-{count}"));
        if !path.exists() {
            let mut list = String::new();
            for index in 0..count {
                let _ = writeln!(list, "{}", address(index));
            }
            std::fs::write(&path, list)?;
        }
        Ok(text(&path))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }
}

/// Asks a process to end, by SIGTERM: what runs in the background of a script was told to ignore the
/// keyboard.
fn ask_to_end(child: &std::process::Child) -> std::io::Result<()> {
    use rustix::process::{Pid, Signal, kill_process};
    match Pid::from_raw(child.id().cast_signed()) {
        Some(pid) => Ok(kill_process(pid, Signal::TERM)?),
        None => Ok(()),
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
