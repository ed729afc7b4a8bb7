//! Measures plumb beside its peers, alternating, over a chain of network namespaces.
//!
//! Everything happens in namespaces without a way to the real network, which vanish with the
//! process.

#![forbid(unsafe_code)]
#![allow(
    clippy::cast_precision_loss,
    reason = "no count here comes near the limits of a double"
)]

mod cgroup;
mod chain;
mod child;
mod machine;
mod measure;
mod mirror;
mod pcap;
mod report;
mod results;
mod stats;
mod traffic;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum as _};

use chain::Chain;
use machine::Machine;
use measure::{Bench, Measurement, OTHER_CPU, Part};
use mirror::Mirror;
use report::Report;
use traffic::Traffic;

/// How much everything that is measured goes before whatever else the machine does.
const NICE: i32 = -15;

/// Measures plumb beside its peers.
#[derive(Debug, Parser)]
struct Arguments {
    /// The binary to measure.
    #[arg(long, default_value = "target/dist/plumb")]
    plumb: PathBuf,
    /// Measure only this; may be repeated.
    #[arg(long, value_enum)]
    only: Vec<Measurement>,
    /// Of stages, measure only this; may be repeated.
    #[arg(long, value_enum, value_name = "PART")]
    stages: Vec<Part>,
    /// Alternating runs of each program.
    #[arg(long, default_value_t = 7)]
    repetitions: usize,
    /// A smoke test: small lists, two runs each.
    #[arg(long)]
    quick: bool,
    /// Where the report and the single runs are written.
    #[arg(long, default_value = "bench/out")]
    out: PathBuf,
    /// Another build of plumb, which some measurements of stages take in turns with the first.
    #[arg(long, value_name = "BINARY")]
    before: Option<PathBuf>,
    /// Set by the program itself once it is in namespaces of its own.
    #[arg(long, hide = true)]
    inside: bool,
    /// Prints the wall times in seconds of this many runs of a command and leaves.
    #[arg(long, hide = true, value_name = "RUNS")]
    time: Option<usize>,
    #[command(flatten)]
    traffic: Traffic,
    /// The command for --time.
    #[arg(last = true, hide = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "plumb-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(runs) = arguments.time {
        return measure::reveal::time(runs, &arguments.command);
    }
    if arguments.traffic.is_stage() {
        return arguments.traffic.run();
    }
    if !arguments.inside {
        return isolate();
    }
    // Ends with the process that waits for it, and before that comes before all other work: a
    // session of its own is a group of its own to the scheduler.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
    rustix::process::setsid().context("cannot make a session")?;
    rustix::process::setpriority_process(None, NICE).context("cannot go first")?;
    // Where there are no such groups, the priority above is all that counts.
    let _ = std::fs::write("/proc/self/autogroup", NICE.to_string());
    // Helpers that outlive the program that started them are still ours to measure and end.
    rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1))
        .context("cannot become a subreaper")?;
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        bail!("this needs two processors: one for the prober and one for what measures it");
    }
    let plumb = arguments.plumb.canonicalize().with_context(|| {
        format!(
            "no plumb at {}; build it first: bench/run",
            arguments.plumb.display()
        )
    })?;
    let machine = Machine::look(&plumb);
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let stem = arguments
        .out
        .join(now.strftime("%Y-%m-%dT%H%M%S").to_string());
    let title = now
        .strftime("plumb, measured %Y-%m-%d %H:%M UTC")
        .to_string();
    let mut report = Report::new(&title, &stem.with_extension("ndjson"))?;
    report.run("machine", &machine)?;
    let repetitions = if arguments.quick {
        2
    } else {
        arguments.repetitions.max(1)
    };
    report.say(&format!(
        "{}\n\nMedians of {repetitions} alternating runs unless it says otherwise, lower and upper quartile in brackets.",
        machine.lines()
    ));
    let scratch = PathBuf::from("/mnt");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "none", "/mnt"])
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        bail!("cannot mount a file system in memory");
    }
    let chain = Chain::build()?;
    let mirror = match Mirror::build(&scratch, OTHER_CPU) {
        Ok(mirror) => Some(mirror),
        Err(error) => {
            report.say(&format!("The mirror is left out: {error:#}."));
            None
        }
    };
    let before = arguments.before.map(|path| path.canonicalize());
    let mut bench = Bench {
        before: before.transpose().context("no other build")?,
        chain,
        mirror,
        plumb,
        scratch,
        repetitions,
        quick: arguments.quick,
        parts: arguments.stages,
        scamper: Command::new("scamper").arg("-v").output().is_ok(),
        report,
    };
    if !bench.scamper {
        bench
            .report
            .say("scamper is not installed: plumb is measured alone.");
    }
    let wanted = |m: &Measurement| arguments.only.is_empty() || arguments.only.contains(m);
    let mut measured = Ok(());
    for measurement in Measurement::value_variants().iter().filter(|m| wanted(m)) {
        let begin = std::time::Instant::now();
        let _ = write!(std::io::stderr(), "{measurement:?}... ");
        measured = bench.measure(*measurement);
        let _ = writeln!(std::io::stderr(), "{:.0} s", begin.elapsed().as_secs_f64());
        if measured.is_err() {
            break;
        }
    }
    // What was measured before something broke took its time, too.
    let path = stem.with_extension("md");
    std::fs::write(&path, bench.report.text())
        .with_context(|| format!("cannot write {}", path.display()))?;
    let _ = writeln!(
        std::io::stdout(),
        "{}\nwritten to {}",
        bench.report.text(),
        path.display()
    );
    measured
}

/// Starts this program anew in mount and network namespaces of its own, and waits for it.
fn isolate() -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("this makes network namespaces and runs scamper: run it as root");
    }
    let own = std::env::current_exe().context("cannot find this program")?;
    let status = Command::new("unshare")
        .args(["--mount", "--net", "--propagation", "private", "--"])
        .arg(own)
        .arg("--inside")
        .args(std::env::args_os().skip(1))
        .status()
        .context("cannot start unshare (package util-linux)")?;
    if !status.success() {
        bail!("not all was measured");
    }
    Ok(())
}
