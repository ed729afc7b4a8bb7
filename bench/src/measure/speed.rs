//! Lists: how fast, at what cost, and in how much memory.

use serde::Serialize;

use super::{Bench, PROBER_CPU, text};
use crate::child::{self, Cost, Place};
use crate::report::{ratio, spread};
use crate::results::Results;

/// Traces lists of targets.
pub(super) fn trace(bench: &mut Bench) -> anyhow::Result<()> {
    bench.report.say(
        "## Traces of a list\n\n\
         ICMP-Paris traces of 6 hops each, state, matching and JSON (to a file in memory) included; \
         the prober may use one CPU. \"Chain\": five routers and a destination of the kernel's own \
         in a row of namespaces; all their work (about 7 links and a reply per probe) happens in \
         softirqs on the prober's CPU and in its processor time, so that this figure is mostly the \
         kernel's. \"Mirror\": the same answers from a BPF program on the other CPU, as from a real \
         network; this is the prober's own speed.",
    );
    let targets = if bench.quick {
        Targets {
            chain: 5_000,
            mirror: 20_000,
            scamper: 2_000,
        }
    } else {
        Targets {
            chain: 50_000,
            mirror: 100_000,
            scamper: 10_000,
        }
    };
    compare(bench, "trace", &targets)
}

/// Pings lists of targets.
pub(super) fn ping(bench: &mut Bench) -> anyhow::Result<()> {
    bench.report.say(
        "## Pings of a list\n\n\
         One echo request per target. The second that scamper waits after its last request is not \
         counted.",
    );
    let targets = if bench.quick {
        Targets {
            chain: 20_000,
            mirror: 20_000,
            scamper: 10_000,
        }
    } else {
        Targets {
            chain: 100_000,
            mirror: 100_000,
            scamper: 40_000,
        }
    };
    compare(bench, "ping", &targets)
}

/// Lengths of lists.
struct Targets {
    chain: u32,
    mirror: u32,
    scamper: u32,
}

#[derive(Serialize)]
struct Run {
    tool: &'static str,
    network: &'static str,
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
        network: &'static str,
        targets: u32,
        cost: Cost,
        results: Results,
    ) -> Self {
        let probes = results.probes as f64;
        Self {
            tool,
            network,
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

fn compare(bench: &mut Bench, verb: &'static str, targets: &Targets) -> anyhow::Result<()> {
    let mut runs: Vec<Run> = Vec::new();
    let mut networks = vec![("chain", bench.chain.source(Some(PROBER_CPU)), targets.chain)];
    if let Some(mirror) = &bench.mirror {
        networks.push(("mirror", mirror.source(Some(PROBER_CPU)), targets.mirror));
    }
    for (network, place, count) in &networks {
        for _ in 0..bench.repetitions {
            let list = bench.targets(*count)?;
            let (cost, results) = plumb(bench, place, verb, &list, 10_000)?;
            runs.push(Run::new("plumb", network, *count, cost, results));
            if bench.scamper {
                let list = bench.targets(targets.scamper)?;
                let what = match verb {
                    "ping" => "ping -c 1",
                    _ => "trace -P icmp-paris",
                };
                let (mut cost, results) = scamper(bench, place, what, &list)?;
                if verb == "ping" {
                    cost.wall_s -= 1.0;
                }
                runs.push(Run::new("scamper", network, targets.scamper, cost, results));
            }
        }
    }
    let mut rows = Vec::new();
    for (network, ..) in &networks {
        for tool in ["plumb", "scamper"] {
            let of = |figure: fn(&Run) -> f64, tool: &str| -> Vec<f64> {
                let chosen = runs
                    .iter()
                    .filter(|r| r.tool == tool && r.network == *network);
                chosen.map(figure).collect()
            };
            let cells = |figure: fn(&Run) -> f64| of(figure, tool);
            let peer = |figure: fn(&Run) -> f64| of(figure, "scamper");
            let Some(count) = cells(|r| r.targets.into()).first().copied() else {
                continue;
            };
            rows.push(vec![
                (*network).to_owned(),
                tool.to_owned(),
                count.to_string(),
                spread(cells(|r| r.kpps), 1),
                ratio(cells(|r| r.kpps), peer(|r| r.kpps)),
                spread(cells(|r| r.cpu_us_per_probe), 2),
                spread(cells(|r| r.cpu_us_per_probe * (1.0 - r.system_share)), 2),
                spread(
                    cells(|r| (r.results.targets - r.results.complete) as f64),
                    0,
                ),
                if tool == "plumb" {
                    spread(cells(|r| r.results.dropped.unwrap_or(0) as f64), 0)
                } else {
                    String::from("-")
                },
            ]);
        }
    }
    bench.report.table(
        &[
            "network",
            "",
            "targets",
            "kpps",
            "to scamper",
            "CPU µs per probe",
            "of it in user mode",
            "targets with a silent hop",
            "replies lost in its buffers",
        ],
        &rows,
    );
    runs.iter().try_for_each(|run| bench.report.run(verb, run))
}

/// Traces one large list with each program and looks at memory.
pub(super) fn memory(bench: &mut Bench) -> anyhow::Result<()> {
    let count = if bench.quick { 10_000 } else { 100_000 };
    bench.report.say(&format!(
        "## Memory\n\nMost resident memory while {count} targets are traced over the chain, one run \
         each. Silent targets answer nothing behind the first router, so that traces wait five hops \
         long for a second each, twice, and many are under way; both programs may have all of them \
         under way at once. plumb's receive rings have 16 MB each, one per IP version."
    ));
    let place = bench.chain.source(Some(PROBER_CPU));
    let (answering, silent) = (bench.targets(count)?, bench.silent_targets(count)?);
    let mut runs = Vec::new();
    for (what, list, window) in [
        ("plumb, all answer, 10000 at once", &answering, 10_000),
        ("plumb, all answer, any number at once", &answering, count),
        ("plumb, all silent, any number at once", &silent, count),
    ] {
        let (cost, results) = plumb(bench, &place, "trace", list, window)?;
        runs.push((what, Run::new("plumb", "chain", count, cost, results)));
    }
    if bench.scamper && !bench.quick {
        let (cost, results) = scamper(bench, &place, "trace -P icmp-paris -w 1", &silent)?;
        runs.push((
            "scamper, all silent",
            Run::new("scamper", "chain", count, cost, results),
        ));
    }
    let mut rows = Vec::new();
    for (what, run) in runs {
        rows.push(vec![
            what.to_owned(),
            format!("{:.1}", run.peak_rss as f64 / 1e6),
            run.results.targets.to_string(),
            run.results.probes.to_string(),
            format!("{:.1}", run.wall_s),
        ]);
        bench.report.run("memory", &run)?;
    }
    bench
        .report
        .table(&["", "peak RSS, MB", "targets", "probes", "seconds"], &rows);
    Ok(())
}

fn plumb(
    bench: &Bench,
    place: &Place,
    verb: &str,
    list: &str,
    window: u32,
) -> anyhow::Result<(Cost, Results)> {
    let output = bench.file("plumb.ndjson");
    let (window, to) = (window.to_string(), text(&output));
    let mut command = vec![bench.plumb(), verb, "--targets", list, "--window", &window];
    command.extend(["--rate", "unlimited", "--progress", "never"]);
    command.extend(["--json", "--output", &to]);
    if verb == "ping" {
        command.extend(["--count", "1", "--quiet"]);
    }
    let cost = child::run(place, &command, &[0, 1])?;
    Ok((cost, Results::read(&output)?))
}

fn scamper(
    bench: &Bench,
    place: &Place,
    what: &str,
    list: &str,
) -> anyhow::Result<(Cost, Results)> {
    let output = bench.file("scamper.ndjson");
    let to = text(&output);
    let _ = std::fs::remove_file(&output);
    let command = [
        "scamper", "-O", "json", "-o", &to, "-p", "10000", "-w", "0", "-c", what, "-f", list,
    ];
    let cost = child::run(place, &command, &[0])?;
    Ok((cost, Results::read(&output)?))
}
