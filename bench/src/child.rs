//! Running a program and measuring it from outside.

use core::time::Duration;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, bail};
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitIdStatus, waitid};
use rustix::thread::{CpuSet, LinkNameSpaceType, move_into_link_name_space, sched_setaffinity};

/// What a run of a program cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Seconds from its start to its end.
    pub(crate) wall_s: f64,
    /// Seconds of processor time, all its processes together.
    pub(crate) cpu_s: f64,
    /// The part of `cpu_s` that was spent in the kernel, from 0 to 1; 0 for runs too short to say.
    pub(crate) system_share: f64,
    /// Most memory that was resident, all its processes together, in bytes.
    pub(crate) peak_rss: u64,
}

/// Where a program runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    /// The network namespace, or the harness's own.
    pub(crate) namespace: Option<PathBuf>,
    /// The one processor it may use, or any.
    pub(crate) cpu: Option<usize>,
}

impl Place {
    /// Any processor, in this network namespace.
    pub(crate) const fn in_namespace(path: PathBuf) -> Self {
        Self {
            namespace: Some(path),
            cpu: None,
        }
    }

    /// Moves the calling thread, and what it starts from now on, to this place.
    pub(crate) fn enter(&self) -> anyhow::Result<()> {
        if let Some(path) = &self.namespace {
            let file =
                fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .context("cannot enter a network namespace")?;
        }
        if let Some(cpu) = self.cpu {
            let mut set = CpuSet::new();
            set.set(cpu);
            sched_setaffinity(None, &set).context("cannot choose a processor")?;
        }
        Ok(())
    }
}

/// Runs a command at a place to its end. It must exit with one of these codes.
pub(crate) fn run(place: &Place, command: &[&str], exits: &[i32]) -> anyhow::Result<Cost> {
    let name = command.join(" ");
    // A thread of its own: it never comes back from the namespace.
    thread::scope(|scope| {
        let thread = scope.spawn(|| measure(place, command, exits));
        thread.join().unwrap_or_else(|_| bail!("the thread broke"))
    })
    .with_context(|| format!("measuring {name}"))
}

/// How often the processes of a run are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

fn measure(place: &Place, command: &[&str], exits: &[i32]) -> anyhow::Result<Cost> {
    let [program, arguments @ ..] = command else {
        bail!("no command");
    };
    place.enter()?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let begin = Instant::now();
    let mut child = command.spawn().context("cannot start it")?;
    let pid = child.id().cast_signed();
    // Read along: whoever has much to say must not wait for a reader.
    let mut stderr = child.stderr.take().context("no standard error")?;
    let said = thread::spawn(move || {
        let mut said = Vec::new();
        let _ = stderr.read_to_end(&mut said);
        said
    });
    // The clock stops when the child ends, not when the next look finds that.
    let (sender, ended) = std::sync::mpsc::channel();
    let waiter = thread::spawn(move || {
        let status = wait(pid, WaitIdOptions::empty());
        let _ = sender.send(Instant::now());
        status
    });
    let mut seen: BTreeMap<i32, Usage> = BTreeMap::new();
    let end = loop {
        look(pid, &mut seen);
        if let Ok(end) = ended.recv_timeout(LOOK_EVERY) {
            break end;
        }
    };
    let status = waiter.join().ok().flatten().context("cannot wait for it")?;
    look(pid, &mut seen);
    // Its helpers, orphans now, are handed to this process, a subreaper.
    for helper in seen
        .keys()
        .copied()
        .filter(|p| *p != pid)
        .collect::<Vec<_>>()
    {
        for _ in 0..100 {
            let gone = !Path::new(&format!("/proc/{helper}")).exists();
            if gone || wait(helper, WaitIdOptions::NOHANG).is_some() {
                look(helper, &mut seen);
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let _ = Pid::from_raw(helper).map(|helper| waitid(WaitId::Pid(helper), options));
    }
    child.wait().context("cannot wait for it")?;
    let said = said.join().unwrap_or_default();
    let code = status.exit_status();
    if !code.is_some_and(|code| exits.contains(&code)) {
        bail!(
            "exit status {code:?}: {}",
            String::from_utf8_lossy(&said).trim()
        );
    }
    let ticks: u64 = seen.values().map(|u| u.user_ticks + u.system_ticks).sum();
    let system: u64 = seen.values().map(|u| u.system_ticks).sum();
    Ok(Cost {
        wall_s: (end - begin).as_secs_f64(),
        cpu_s: seen.values().map(|u| u.cpu_ns).sum::<u64>() as f64 / 1e9,
        system_share: system as f64 / ticks.max(1) as f64,
        peak_rss: seen.values().map(|u| u.peak_rss).sum(),
    })
}

/// What one process has used so far.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    cpu_ns: u64,
    user_ticks: u64,
    system_ticks: u64,
    peak_rss: u64,
}

/// Waits for a process without letting go of it.
pub(crate) fn wait(pid: i32, more: WaitIdOptions) -> Option<WaitIdStatus> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | more;
    waitid(WaitId::Pid(Pid::from_raw(pid)?), options).ok()?
}

/// Processor time that the threads of a process have used so far, in nanoseconds.
pub(crate) fn threads_cpu_ns(pid: i32) -> u64 {
    fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| {
            let schedstat = fs::read_to_string(task.path().join("schedstat")).ok()?;
            schedstat.split(' ').next()?.parse::<u64>().ok()
        })
        .sum()
}

/// Reads what a process and its descendants have used.
fn look(pid: i32, seen: &mut BTreeMap<i32, Usage>) {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let usage = seen.entry(pid).or_default();
    let keep = |kept: &mut u64, found: Option<u64>| *kept = (*kept).max(found.unwrap_or(0));
    let stat = read("stat");
    // Fields are counted from the end of the name, which may hold anything.
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    keep(
        &mut usage.user_ticks,
        fields.get(11).and_then(|f| f.parse().ok()),
    );
    keep(
        &mut usage.system_ticks,
        fields.get(12).and_then(|f| f.parse().ok()),
    );
    keep(&mut usage.cpu_ns, Some(threads_cpu_ns(pid)));
    let peak = read("status").lines().find_map(|line| {
        line.strip_prefix("VmHWM:")?
            .trim()
            .strip_suffix(" kB")?
            .parse::<u64>()
            .ok()
    });
    keep(&mut usage.peak_rss, peak.map(|kb| kb * 1024));
    for child in read(&format!("task/{pid}/children")).split_whitespace() {
        if let Ok(child) = child.parse() {
            look(child, seen);
        }
    }
}
