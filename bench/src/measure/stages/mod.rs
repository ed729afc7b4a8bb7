//! Pipelines of stages: how fast packets pass, how late, and what a stage costs.

mod kernel;
mod latency;
mod native;
mod pipeline;
mod start;
mod tcp;
mod tool;

use std::process::{Command, Stdio};

use anyhow::Context as _;
use clap::ValueEnum;

use self::tool::Tool;
use super::Bench;

/// A part of the measurements of stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Frames per second between generator and sink.
    Frames,
    /// Memory of functions at work.
    Memory,
    /// One TCP stream.
    Tcp,
    /// The same by the length of what the application writes.
    Writes,
    /// Round trips.
    Latency,
    /// The first frame of a stage, and a thousand of them.
    Start,
}

/// Takes all measurements of stages.
pub(super) fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    std::fs::write(bench.file("rules.nft"), kernel::FILTER)?;
    std::fs::write(bench.file("masquerade.nft"), kernel::MASQUERADE)?;
    let stages = Stages::look(bench)?;
    bench.report.say(&format!(
        "## Stages\n\n{} Load before the first run: {}.",
        stages.second_says,
        load()
    ));
    for part in Part::value_variants() {
        if !bench.parts.is_empty() && !bench.parts.contains(part) {
            continue;
        }
        match part {
            Part::Tcp if !Tool::Iperf3.is_there() => bench
                .report
                .say("iperf3 is not installed: no TCP stream is measured."),
            Part::Writes if Tool::for_writes().is_empty() => bench
                .report
                .say("Neither netperf nor nuttcp nor iperf3 is installed: no writes are measured."),
            Part::Frames => native::measure(bench, &stages)?,
            Part::Memory => native::memory(bench, &stages)?,
            Part::Tcp => tcp::measure(bench, &stages)?,
            Part::Writes => tcp::writes(bench, &stages)?,
            Part::Latency => latency::measure(bench, &stages)?,
            Part::Start => start::measure(bench, &stages)?,
        }
    }
    bench
        .report
        .say(&format!("Load after the last run: {}.", load()));
    Ok(())
}

/// What pipelines are made of.
#[derive(Clone, Debug)]
pub(super) struct Stages {
    plumb: String,
    before: Option<String>,
    /// This program, as an end of a pipeline.
    own: String,
    /// The second function, and the same words for a chain.
    second: Vec<String>,
    second_says: &'static str,
    has_chain: bool,
}

impl Stages {
    fn look(bench: &Bench) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("cannot find this program")?;
        let rules = bench.file("rules.nft");
        let has_firewall = knows(bench.plumb(), "firewall");
        Ok(Self {
            plumb: bench.plumb().to_owned(),
            before: bench.before.as_deref().map(super::text),
            own: super::text(&own),
            second: if has_firewall {
                words(&["firewall", &super::text(&rules)])
            } else {
                words(&["count"])
            },
            second_says: if has_firewall {
                "The two functions are `plumb nat` and `plumb firewall`, with the rules of the \
                 kernel's filter."
            } else {
                "The two functions are `plumb nat` and `plumb count`: this plumb has no firewall, \
                 which would do more."
            },
            has_chain: knows(bench.plumb(), "chain"),
        })
    }

    /// The two functions, each a process of this binary.
    fn functions(&self, plumb: &str, more: &[&str]) -> Vec<Vec<String>> {
        let mut nat = words(&[plumb, "nat", "--outside", "10.0.1.1"]);
        let mut second = words(&[plumb]);
        second.extend(self.second.iter().cloned());
        nat.extend(words(more));
        second.extend(words(more));
        vec![nat, second]
    }

    /// Both as they stand in a chain.
    fn in_a_chain(&self) -> Vec<Vec<String>> {
        let nat = words(&["nat", "--outside", "10.0.1.1"]);
        vec![nat, self.second.clone()]
    }

    /// Both in one process.
    fn fused(&self) -> Vec<String> {
        let chain = format!("nat --outside 10.0.1.1 | {}", self.second.join(" "));
        words(&[&self.plumb, "chain", &chain])
    }

    /// An end of a pipeline.
    fn end(&self, role: &str, more: &[&str]) -> Vec<String> {
        let mut all = words(&[&self.own, "--stage", role]);
        all.extend(words(more));
        all
    }
}

fn knows(plumb: &str, verb: &str) -> bool {
    Command::new(plumb)
        .args([verb, "--help"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The load average of the last minute.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("-").to_owned()
}
