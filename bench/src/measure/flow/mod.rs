//! What it costs to record flows: the same connections with and without, and beside another tool
//! that tells less, in alternation.

mod lab;
mod load;
mod memory;
mod programs;
mod watcher;

use serde::Serialize;

use self::lab::Lab;
use self::load::{Cost, Load};
use self::watcher::{Watch, Watcher};
use super::Bench;
use crate::report::spread;

/// A way to watch, and what it is called.
struct Mode {
    name: String,
    watch: Watch,
    runs: Vec<Run>,
    /// Why it cannot be measured.
    fault: Option<String>,
}

/// What one round cost.
#[derive(Clone, Debug, Serialize)]
struct Run {
    mode: String,
    connections: Cost,
    single: Cost,
    requests: Cost,
    bulk: Cost,
    /// What the watcher had to say.
    said: String,
}

const NDJSON: &[&str] = &["--json"];
const SEGMENTS: &[&str] = &["--json", "--per-segment"];
/// As fast as it goes: the collector is on this host, and all is to be sent.
const IPFIX: &[&str] = &[
    "--format",
    "none",
    "--export",
    "ipfix://127.0.0.1",
    "--export-rate",
    "100000",
];

fn modes(bench: &Bench) -> Vec<Mode> {
    let mode = |name: &str, watch| Mode {
        name: name.to_owned(),
        watch,
        runs: Vec::new(),
        fault: None,
    };
    let mut modes = vec![
        mode("nobody", Watch::Nobody),
        mode(
            "plumb flow, NDJSON",
            Watch::Plumb(bench.plumb.clone(), NDJSON),
        ),
        mode(
            "plumb flow --per-segment, NDJSON",
            Watch::Plumb(bench.plumb.clone(), SEGMENTS),
        ),
        mode(
            "plumb flow, IPFIX",
            Watch::Plumb(bench.plumb.clone(), IPFIX),
        ),
    ];
    if let Some(before) = &bench.before {
        modes.push(mode(
            "build before, NDJSON",
            Watch::Plumb(before.clone(), NDJSON),
        ));
        modes.push(mode(
            "build before, IPFIX",
            Watch::Plumb(before.clone(), IPFIX),
        ));
    }
    modes.push(mode("bpftrace, tcplife on the tracepoint", Watch::Bpftrace));
    modes.push(mode("libbpf-tools, tcplife", Watch::LibbpfTools));
    modes
}

/// Alternates all ways.
pub(super) fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let lab = Lab::build()?;
    let load = Load::new(&lab, bench.quick);
    let mut modes = modes(bench);
    let rounds = if bench.quick {
        2
    } else {
        bench.repetitions * 2
    };
    // What comes first meets empty caches, and files that were not read yet.
    let nobody = Watcher::start(&lab, &bench.scratch, &Watch::Nobody)?;
    load.connections(&nobody)?;
    for round in 0..rounds {
        for n in 0..modes.len() {
            // Another order each time, so that none always follows the same.
            let count = modes.len();
            let mode = &mut modes[(n + round) % count];
            if mode.fault.is_some() {
                continue;
            }
            let watcher = match Watcher::start(&lab, &bench.scratch, &mode.watch) {
                Ok(watcher) => watcher,
                Err(error) => {
                    mode.fault = Some(format!("{error:#}"));
                    continue;
                }
            };
            let run = Run {
                mode: mode.name.clone(),
                connections: load.connections(&watcher)?,
                single: load.single(&watcher)?,
                requests: load.requests(&watcher)?,
                bulk: load.bulk(&watcher)?,
                said: watcher.stop()?,
            };
            bench.report.run("flow", &run)?;
            mode.runs.push(run);
        }
    }
    report(bench, &modes, rounds);
    for arguments in [NDJSON, SEGMENTS] {
        programs::measure(bench, &lab, &load, arguments)?;
        memory::measure(bench, &lab, arguments)?;
    }
    Ok(())
}

fn report(bench: &mut Bench, modes: &[Mode], rounds: usize) {
    bench.report.say(&format!(
        "## Flow records\n\nTwo namespaces on a link, both ends of every connection on this machine \
         and watched; {rounds} alternating rounds. Ratios are medians of a round's figure to that of \
         its round without anybody who watches. \"CPU\" is the processor time of client and server, \
         with what the kernel does in it, and of whoever watches."
    ));
    type Part = (&'static str, fn(&Run) -> Cost, usize, f64);
    let parts: [Part; 4] = [
        (
            "short connections, as many as both processors can",
            |run| run.connections,
            0,
            1.0,
        ),
        ("short connections, one at a time", |run| run.single, 0, 1.0),
        ("requests on a kept connection", |run| run.requests, 0, 1.0),
        ("bulk, GB", |run| run.bulk, 3, 1e-3),
    ];
    for (what, of, decimals, scale) in parts {
        let mut rows = Vec::new();
        for mode in modes {
            if let Some(fault) = &mode.fault {
                rows.push(vec![mode.name.clone(), format!("does not run: {fault}")]);
                continue;
            }
            let all = |figure: &dyn Fn(&Cost) -> f64| -> Vec<f64> {
                mode.runs.iter().map(|run| figure(&of(run))).collect()
            };
            let to_nobody = |figure: &dyn Fn(&Cost) -> f64| -> Vec<f64> {
                let pairs = mode.runs.iter().zip(&modes[0].runs);
                pairs
                    .map(|(run, base)| figure(&of(run)) / figure(&of(base)))
                    .collect()
            };
            rows.push(vec![
                mode.name.clone(),
                spread(all(&|cost| cost.rate), decimals),
                spread(to_nobody(&|cost| cost.rate), 3),
                spread(all(&|cost| cost.ends_us * scale), 2),
                spread(all(&|cost| cost.watcher_us * scale), 2),
                spread(to_nobody(&Cost::all_us), 3),
                spread(to_nobody(&|cost| cost.system_us), 3),
            ]);
        }
        let unit = if scale < 1.0 { "ms" } else { "us" };
        bench.report.say(&format!("### Flow records: {what}"));
        bench.report.table(
            &[
                "watched by",
                "a second",
                "to nobody",
                &format!("CPU of the ends, {unit}"),
                &format!("of who watches, {unit}"),
                "all CPU to nobody",
                "the whole system's, to nobody",
            ],
            &rows,
        );
    }
    for mode in modes {
        let said: std::collections::BTreeSet<&str> = mode
            .runs
            .iter()
            .map(|run| run.said.as_str())
            .filter(|said| !said.is_empty())
            .collect();
        for said in said {
            bench.report.say(&format!("{} said: {said}", mode.name));
        }
    }
}
