//! Revelation of a tunnel in a lab: how long, and how many round trips.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::{Bench, text};
use crate::report::spread;

/// Reveals tunnels of three hidden routers with and without delay.
pub(super) fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    bench.report.say(
        "## Revelation of a tunnel\n\n\
         Labs over a TUN device, `plumb trace -r unlimited`: eight links, an invisible tunnel of \
         three routers in the middle, revealed hop by hop backwards (php) or at once (dpr). The \
         first link has the delay, so that all round trips take as long. \"in all\" is the whole \
         trace, fingerprints and revelation included, by the trace's record; \"process\" is from \
         the program's start to its end. Round trips: what the delay adds to the median without \
         delay, by the round trip's time.",
    );
    let runs = if bench.quick { 3 } else { bench.repetitions };
    let delays: &[u32] = if bench.quick {
        &[0, 10]
    } else {
        &[0, 10, 50, 100]
    };
    let mut rows = Vec::new();
    for (lab, target) in [("php", "5.0.8.2"), ("dpr", "5.0.8.2")] {
        let mut base = [0.0; 2];
        for &delay in delays {
            let file = delayed(bench, lab, delay)?;
            let with = in_lab(bench, &file, runs, &["--reveal", "auto", target])?;
            let without = in_lab(bench, &file, runs, &["--reveal", "never", target])?;
            for (run, hidden) in with
                .iter()
                .map(|r| (r, 3))
                .chain(without.iter().map(|r| (r, 0)))
            {
                if run.revealed != hidden {
                    bail!(
                        "{lab}: {} routers revealed instead of {hidden}",
                        run.revealed
                    );
                }
                bench.report.run("reveal", &(lab, delay, run))?;
            }
            let ms = |runs: &[Run]| {
                runs.iter()
                    .map(|r| r.duration_ns as f64 / 1e6)
                    .collect::<Vec<_>>()
            };
            let median =
                |runs: &[Run]| crate::stats::Summary::of(ms(runs)).map_or(0.0, |s| s.median);
            let middle = [median(&with), median(&without)];
            let round_trips = |which: usize| match delay {
                0 => String::from("-"),
                _ => format!(
                    "{:.1}",
                    (middle[which] - base[which]) / f64::from(2 * delay)
                ),
            };
            rows.push(vec![
                lab.to_owned(),
                delay.to_string(),
                with.len().to_string(),
                spread(with.iter().map(|r| r.wall_s * 1e3).collect(), 1),
                spread(ms(&with), 1),
                spread(ms(&without), 1),
                format!("{:.1}", middle[0] - middle[1]),
                round_trips(0),
                round_trips(1),
            ]);
            if delay == 0 {
                base = middle;
            }
        }
    }
    bench.report.table(
        &[
            "lab",
            "delay of the link, ms",
            "runs",
            "process, ms",
            "in all, ms",
            "with --reveal never, ms",
            "revelation alone, ms",
            "round trips in all",
            "with --reveal never",
        ],
        &rows,
    );
    Ok(())
}

/// One trace in a lab.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Run {
    wall_s: f64,
    duration_ns: u64,
    revealed: usize,
    probes: u64,
}

/// Writes the topology of a lab with a delay on its first link, and returns the file's path.
fn delayed(bench: &Bench, lab: &str, delay: u32) -> anyhow::Result<String> {
    let output = Command::new(bench.plumb())
        .args(["lab", "show", lab])
        .output();
    let toml = String::from_utf8(output.context("cannot show a lab")?.stdout)?;
    let (before, path) = toml
        .split_once("path = \"VP ")
        .context("the lab has no path")?;
    let first = path.split([' ', '"']).next().unwrap_or_default();
    let toml =
        format!("{before}path = \"VP {first}\"\ndelay_ms = {delay}\n\n[[link]]\npath = \"{path}");
    let file = bench.file(&format!("{lab}-{delay}.toml"));
    std::fs::write(&file, toml)?;
    Ok(text(&file))
}

/// Traces in a lab, several times.
fn in_lab(bench: &Bench, lab: &str, runs: usize, arguments: &[&str]) -> anyhow::Result<Vec<Run>> {
    let own = std::env::current_exe()?;
    let output = Command::new(bench.plumb())
        .args(["lab", "run", lab, "--"])
        .arg(own)
        .args(["--time", &runs.to_string(), "--", bench.plumb()])
        .args(["trace", "-r", "unlimited", "--json"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("cannot run a lab")?;
    if !output.status.success() {
        bail!(
            "the lab failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    serde_json::from_slice(&output.stdout).context("the lab printed something else")
}

#[derive(Deserialize)]
struct Record {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    duration_ns: u64,
    #[serde(default)]
    probes_sent: u64,
    #[serde(default)]
    tunnels: serde_json::Value,
}

/// Inside a lab: runs a trace this many times and prints what its records say.
pub(crate) fn time(runs: usize, command: &[String]) -> anyhow::Result<()> {
    let [program, arguments @ ..] = command else {
        bail!("no command");
    };
    let mut times = Vec::new();
    // The first finds no neighbour entry, no route in the cache and its own pages on disk.
    for run in 0..=runs {
        let begin = Instant::now();
        let output = Command::new(program).args(arguments).output()?;
        let wall_s = begin.elapsed().as_secs_f64();
        let mut found = None;
        for line in output
            .stdout
            .split(|b| *b == b'\n')
            .filter(|line| !line.is_empty())
        {
            let record: Record = serde_json::from_slice(line).context("not a record")?;
            if record.kind == "trace" {
                let tunnels = record.tunnels.as_array().into_iter().flatten();
                let lsrs = tunnels.filter_map(|tunnel| tunnel["lsrs"].as_array());
                found = Some(Run {
                    wall_s,
                    duration_ns: record.duration_ns,
                    revealed: lsrs.map(Vec::len).sum(),
                    probes: record.probes_sent,
                });
            }
        }
        let said = || String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let found = found.with_context(said)?;
        if run > 0 {
            times.push(found);
        }
    }
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&times)?).context("cannot print")
}
