//! What many connections at once take, in the kernel and in the process that records them.

use core::time::Duration;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context, bail};
use serde::Serialize;

use super::lab::Lab;
use super::watcher::{Watch, Watcher};
use crate::cgroup::Cgroup;
use crate::measure::Bench;

/// Pairs of sockets that a process may have with the least of usual limits on files.
const PAIRS: usize = 8_000;

#[derive(Clone, Copy, Debug, Serialize)]
struct Taken {
    /// Of `plumb flow`.
    arguments: &'static [&'static str],
    /// Sockets with a connection.
    sockets: usize,
    /// All that the kernel charged, in bytes, at the most.
    charged: u64,
    /// Most that was resident in the process, in bytes.
    resident: u64,
}

/// Records none, and then as many as are asked for.
pub(super) fn measure(
    bench: &mut Bench,
    lab: &Lab,
    arguments: &'static [&'static str],
) -> anyhow::Result<()> {
    let wanted = if bench.quick { 2_000 } else { 100_000 };
    let none = once(bench, lab, arguments, 0)?;
    let all = once(bench, lab, arguments, wanted)?;
    let mut rows = Vec::new();
    for taken in [none, all] {
        let each = |of: fn(&Taken) -> u64| {
            let more = of(&taken).saturating_sub(of(&none));
            match taken.sockets {
                0 => String::from("-"),
                sockets => format!("{:.0}", more as f64 / sockets as f64),
            }
        };
        let mega = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
        rows.push(vec![
            taken.sockets.to_string(),
            mega(taken.charged),
            mega(taken.resident),
            each(|taken| taken.charged),
            each(|taken| taken.resident),
        ]);
        bench.report.run("flow-memory", &taken)?;
    }
    bench.report.say(&format!(
        "### Flow records: memory, `plumb flow {}`\n\nConnections that are open at once, both ends \
         of each on this machine and recorded; the most that the kernel charged to its control \
         group, for socket storage, ring and programs, and for the process.",
        arguments.join(" ")
    ));
    bench.report.table(
        &[
            "connections recorded",
            "charged in all, MB",
            "of it resident in the process, MB",
            "charged for each, bytes",
            "of it in the process",
        ],
        &rows,
    );
    Ok(())
}

fn once(
    bench: &mut Bench,
    lab: &Lab,
    arguments: &'static [&'static str],
    sockets: usize,
) -> anyhow::Result<Taken> {
    let group = Cgroup::create("flow")?;
    let watch = Watch::Plumb(bench.plumb.clone(), arguments);
    let inside = group.enter()?;
    let watcher = Watcher::start(lab, &bench.scratch, &watch);
    drop(inside);
    let watcher = watcher?;
    let mut holders = Vec::new();
    let mut left = sockets / 2;
    while left > 0 {
        let pairs = left.min(PAIRS);
        holders.push(Holder::start(lab, pairs)?);
        left -= pairs;
    }
    // Long enough for some passes over all connections.
    thread::sleep(Duration::from_secs(4));
    let status = fs::read_to_string(format!("/proc/{}/status", watcher.pid()))?;
    let resident = status.lines().find_map(|line| {
        let kb = line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?;
        kb.trim().parse::<u64>().ok()
    });
    let taken = Taken {
        arguments,
        sockets,
        charged: group.used().peak_memory,
        resident: resident.context("no resident memory")? * 1024,
    };
    let said = watcher.stop()?;
    // Whatever else this machine connects is watched, too.
    if !said.is_empty() {
        bench.report.say(&format!("plumb flow said: {said}"));
    }
    Ok(taken)
}

/// A process that has connections.
struct Holder(Child);

impl Holder {
    fn start(lab: &Lab, pairs: usize) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("cannot find this program")?;
        let place = lab.place("server", None);
        let spawn = || -> anyhow::Result<Child> {
            place.enter()?;
            let mut command = Command::new(Path::new(&own));
            command.args(["--stage", "hold", "--rounds", &pairs.to_string()]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            command.spawn().context("cannot start it")
        };
        // A thread of its own: it never comes back from the namespace.
        let child = thread::scope(|scope| {
            let thread = scope.spawn(spawn);
            thread.join().unwrap_or_else(|_| bail!("the thread broke"))
        })?;
        let mut holder = Self(child);
        let stdout = holder.0.stdout.take().context("no standard output")?;
        let mut said = String::new();
        BufReader::new(stdout).read_line(&mut said)?;
        if said.trim() != "held" {
            bail!("{pairs} connections cannot be held");
        }
        Ok(holder)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
