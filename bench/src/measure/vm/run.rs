//! One run of one arm, timed from outside.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use serde::Serialize;
use serde_json::Value;

use super::Bench;
use super::arm::Arm;
use super::lab::{HIDDEN, Lab};
use crate::cgroup::Cgroup;
use crate::child::Place;
use crate::pcap;

/// What a run took.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Run {
    pub(super) arm: String,
    /// Start of the command to the first packet.
    pub(super) create_ms: f64,
    /// First packet to the record.
    pub(super) measure_ms: f64,
    /// Record to the end of the command.
    pub(super) remove_ms: f64,
    pub(super) total_ms: f64,
    /// Processor time of everything in the control group.
    pub(super) cpu_ms: f64,
    /// Most memory that the control group was charged with.
    pub(super) peak_mb: f64,
}

/// Starts a command at a place; its standard output is a pipe.
pub(super) fn spawn(place: &Place, command: &[String]) -> anyhow::Result<Child> {
    let [program, arguments @ ..] = command else {
        bail!("no command");
    };
    // A thread of its own: it never comes back from the namespace.
    thread::scope(|scope| {
        let thread = scope.spawn(|| -> anyhow::Result<Child> {
            place.enter()?;
            Command::new(program)
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .with_context(|| format!("cannot start {program}"))
        });
        thread.join().unwrap_or_else(|_| bail!("the thread broke"))
    })
}

/// Whether a line is the record of a trace that found what the lab hides.
pub(super) fn is_right(line: &str) -> bool {
    let Ok(record) = serde_json::from_str::<Value>(line) else {
        return false;
    };
    let tunnels = record["tunnels"].as_array().into_iter().flatten();
    let lsrs: usize = tunnels
        .filter_map(|tunnel| tunnel["lsrs"].as_array())
        .map(Vec::len)
        .sum();
    record["type"] == "trace" && record["stop_reason"] == "completed" && lsrs == HIDDEN
}

/// Runs an arm once.
pub(super) fn once(_bench: &Bench, lab: &Lab, arm: &Arm) -> anyhow::Result<Run> {
    let group = Cgroup::create("run")?;
    let place = arm.place.clone().unwrap_or_else(|| lab.place());
    let command = arm.command(&group.name);
    let seen_before = pcap::times(&lab.capture)?.len();
    let inside = group.enter()?;
    let lent = arm.daemons().iter().map(|pid| group.borrow(*pid));
    let lent = lent.collect::<anyhow::Result<Vec<_>>>()?;
    let begin = now_ns();
    let mut child = spawn(&place, &command)?;
    let mut stderr = child.stderr.take().context("no standard error")?;
    let said = thread::spawn(move || {
        let mut said = Vec::new();
        let _ = stderr.read_to_end(&mut said);
        said
    });
    let out = BufReader::new(child.stdout.take().context("no standard output")?);
    let mut record = None;
    for line in out.lines() {
        if is_right(&line?) {
            record = Some(now_ns());
        }
    }
    let status = child.wait()?;
    let end = now_ns();
    let used = group.used();
    drop((inside, lent));
    let said = said.join().unwrap_or_default();
    let Some(record) = record else {
        bail!(
            "no right record ({status}): {}",
            String::from_utf8_lossy(&said).trim()
        );
    };
    // tcpdump may be a moment behind.
    let mut first = None;
    for _ in 0..100 {
        let times = pcap::times(&lab.capture)?;
        first = times[seen_before.min(times.len())..]
            .iter()
            .copied()
            .find(|time| *time >= begin);
        if first.is_some() {
            break;
        }
        thread::sleep(core::time::Duration::from_millis(5));
    }
    let first = first.context("tcpdump saw no packet")?;
    let ms = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e6;
    Ok(Run {
        arm: arm.name.clone(),
        create_ms: ms(begin, first),
        measure_ms: ms(first, record),
        remove_ms: ms(record, end),
        total_ms: ms(begin, end),
        cpu_ms: used.cpu_s * 1e3,
        peak_mb: used.peak_memory as f64 / 1e6,
    })
}

/// Wall time, which is also what tcpdump's stamps are.
fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}
