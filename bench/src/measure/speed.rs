//! Lists: how fast, at what cost, and in how much memory.

use serde::Serialize;

use super::{Bench, OTHER_CPU, PROBER_CPU, text};
use crate::chain::Forwarding;
use crate::child::{self, Cost};
use crate::report::{ratio, spread};
use crate::results::Results;

/// Traces lists of targets.
pub(super) fn trace(bench: &mut Bench) -> anyhow::Result<()> {
    bench.report.say(
        "## Traces of a list\n\n\
         ICMP-Paris traces of 6 hops each, JSON to a file in memory; the prober may use one \
         processor. \"forwarding: same CPU\" has the kernel's forwarding (7 links per round trip \
         on average, and the routers' replies) in softirqs on that processor too, so that the \
         figure is mostly the kernel's; with \"other CPU\" the network is on the other one \
         (receive packet steering), as with a real network. Processor time is what the kernel \
         charges to the prober's processes, softirqs in their time included.",
    );
    let targets = if bench.quick {
        (10_000, 2_000)
    } else {
        (100_000, 10_000)
    };
    compare(bench, "trace", targets)
}

/// Pings lists of targets.
pub(super) fn ping(bench: &mut Bench) -> anyhow::Result<()> {
    bench.report.say(
        "## Pings of a list\n\n\
         One echo request per target. scamper ends each ping a second after the request, which \
         is in its wall time once.",
    );
    let targets = if bench.quick {
        (20_000, 10_000)
    } else {
        (100_000, 100_000)
    };
    compare(bench, "ping", targets)
}

#[derive(Serialize)]
struct Run {
    tool: &'static str,
    forwarding: &'static str,
    targets: u32,
    wall_s: f64,
    cpu_s: f64,
    system_share: f64,
    peak_rss: u64,
    kpps: f64,
    cpu_us_per_probe: f64,
    results: Results,
}

impl Run {
    fn new(
        tool: &'static str,
        forwarding: &'static str,
        targets: u32,
        cost: Cost,
        results: Results,
    ) -> Self {
        let probes = results.probes as f64;
        Self {
            tool,
            forwarding,
            targets,
            wall_s: cost.wall_s,
            cpu_s: cost.cpu_s,
            system_share: cost.system_share,
            peak_rss: cost.peak_rss,
            kpps: probes / cost.wall_s / 1e3,
            cpu_us_per_probe: cost.cpu_s / probes * 1e6,
            results,
        }
    }
}

fn compare(bench: &mut Bench, verb: &'static str, targets: (u32, u32)) -> anyhow::Result<()> {
    let mut runs: Vec<Run> = Vec::new();
    for (forwarding, by) in [
        ("same CPU", Forwarding::SameCpu),
        ("other CPU", Forwarding::Cpu(OTHER_CPU)),
    ] {
        bench.chain.forward_on(by)?;
        for _ in 0..bench.repetitions {
            let (cost, results) = plumb(bench, verb, targets.0, 10_000)?;
            runs.push(Run::new("plumb", forwarding, targets.0, cost, results));
            // Its rate is its own limit, whoever forwards.
            if bench.scamper && by == Forwarding::SameCpu {
                let (cost, results) = scamper(bench, verb, targets.1)?;
                runs.push(Run::new("scamper", forwarding, targets.1, cost, results));
            }
        }
    }
    bench.chain.forward_on(Forwarding::SameCpu)?;
    let mut rows = Vec::new();
    for (tool, forwarding) in [
        ("plumb", "same CPU"),
        ("plumb", "other CPU"),
        ("scamper", "same CPU"),
    ] {
        let of = |figure: fn(&Run) -> f64, tool: &str, forwarding: &str| -> Vec<f64> {
            let chosen = runs
                .iter()
                .filter(|r| r.tool == tool && r.forwarding == forwarding);
            chosen.map(figure).collect()
        };
        let cells = |figure: fn(&Run) -> f64| of(figure, tool, forwarding);
        if cells(|r| r.kpps).is_empty() {
            continue;
        }
        let peer = |figure: fn(&Run) -> f64| of(figure, "scamper", "same CPU");
        rows.push(vec![
            tool.to_owned(),
            forwarding.to_owned(),
            format!("{:.0}", cells(|r| r.targets.into())[0]),
            spread(cells(|r| r.kpps), 1),
            ratio(cells(|r| r.kpps), peer(|r| r.kpps)),
            spread(cells(|r| r.cpu_us_per_probe), 2),
            ratio(peer(|r| r.cpu_us_per_probe), cells(|r| r.cpu_us_per_probe)),
            format!(
                "{:.0} %",
                100.0 * cells(|r| r.system_share).iter().sum::<f64>()
                    / cells(|r| r.kpps).len() as f64
            ),
            spread(
                cells(|r| (r.results.targets - r.results.complete) as f64),
                0,
            ),
            spread(cells(|r| r.results.dropped.unwrap_or(0) as f64), 0),
        ]);
    }
    bench.report.table(
        &[
            "",
            "forwarding",
            "targets",
            "kpps",
            "to scamper",
            "CPU µs per probe",
            "scamper to it",
            "of it kernel",
            "targets with a silent hop",
            "replies lost in its buffers",
        ],
        &rows,
    );
    runs.iter().try_for_each(|run| bench.report.run(verb, run))
}

/// Traces one large list with each program and looks at memory.
pub(super) fn memory(bench: &mut Bench) -> anyhow::Result<()> {
    let targets = if bench.quick { 10_000 } else { 100_000 };
    bench.report.say(&format!(
        "## Memory\n\nMost resident memory while {targets} targets are traced, one run each; \
         scamper's two processes together."
    ));
    let mut runs = Vec::new();
    for window in [10_000, targets] {
        let (cost, results) = plumb(bench, "trace", targets, window)?;
        runs.push((
            format!("plumb, {window} targets at once"),
            Run::new("plumb", "same CPU", targets, cost, results),
        ));
    }
    if bench.scamper && !bench.quick {
        let (cost, results) = scamper(bench, "trace", targets)?;
        runs.push((
            "scamper".into(),
            Run::new("scamper", "same CPU", targets, cost, results),
        ));
    }
    let mut rows = Vec::new();
    for (what, run) in runs {
        rows.push(vec![
            what,
            format!("{:.1}", run.peak_rss as f64 / 1e6),
            format!("{:.1}", run.wall_s),
            (run.results.targets - run.results.complete).to_string(),
        ]);
        bench.report.run("memory", &run)?;
    }
    bench.report.table(
        &["", "peak RSS, MB", "seconds", "targets with a silent hop"],
        &rows,
    );
    Ok(())
}

fn plumb(bench: &Bench, verb: &str, targets: u32, window: u32) -> anyhow::Result<(Cost, Results)> {
    let list = bench.targets(targets)?;
    let output = bench.file("plumb.ndjson");
    let (window, to) = (window.to_string(), text(&output));
    let mut command = vec![
        bench.plumb(),
        verb,
        "--targets",
        &list,
        "--rate",
        "unlimited",
        "--window",
        &window,
        "--json",
        "--output",
        &to,
        "--progress",
        "never",
    ];
    if verb == "ping" {
        command.extend(["--count", "1", "--quiet"]);
    }
    let cost = child::run(&bench.chain.source(Some(PROBER_CPU)), &command, &[0, 1])?;
    Ok((cost, Results::read(&output)?))
}

fn scamper(bench: &Bench, verb: &str, targets: u32) -> anyhow::Result<(Cost, Results)> {
    let list = bench.targets(targets)?;
    let output = bench.file("scamper.ndjson");
    let to = text(&output);
    let _ = std::fs::remove_file(&output);
    let what = if verb == "ping" {
        "ping -c 1"
    } else {
        "trace -P icmp-paris"
    };
    let command = [
        "scamper", "-O", "json", "-o", &to, "-p", "10000", "-w", "0", "-c", what, "-f", &list,
    ];
    let cost = child::run(&bench.chain.source(Some(PROBER_CPU)), &command, &[0])?;
    Ok((cost, Results::read(&output)?))
}
