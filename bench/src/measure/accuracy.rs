//! How well a rate is kept, seen by tcpdump on the way out.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};
use serde::Serialize;

use super::{Bench, OTHER_CPU, PROBER_CPU, text};
use crate::chain::{self, UPLINK};
use crate::report::spread;
use crate::{child, pcap};

/// Pings lists at several rates under tcpdump's eyes.
pub(super) fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    bench.report.say(
        "## Rate\n\n\
         Pings of a list at a given rate, stamped by the kernel as they leave (tcpdump, on the \
         other CPU). The gap that the rate asks for is beside the smallest one seen, the probes \
         that it asks for in 10 ms beside the most seen in any 10 ms.",
    );
    if !Command::new("tcpdump")
        .arg("--version")
        .output()
        .is_ok_and(|o| o.status.success())
    {
        bench.report.say("Not measured: tcpdump is not installed.");
        return Ok(());
    }
    let few = bench.repetitions.div_ceil(3);
    // Rate, seconds, repetitions; scamper has no higher rate than 10000.
    let plan: &[(u32, u32, usize)] = if bench.quick {
        &[(10, 1, 1), (1_000, 1, 1), (50_000, 1, 1)]
    } else {
        &[(10, 10, 1), (1_000, 5, few), (50_000, 4, few)]
    };
    let mut rows = Vec::new();
    for &(rate, seconds, repetitions) in plan {
        let peer_rate = rate.min(10_000);
        let mut runs = Vec::new();
        for _ in 0..repetitions {
            runs.push(one(bench, "plumb", rate, seconds)?);
            if bench.scamper {
                runs.push(one(bench, "scamper", peer_rate, seconds)?);
            }
        }
        for tool in ["plumb", "scamper"] {
            let chosen: Vec<&Run> = runs.iter().filter(|run| run.tool == tool).collect();
            let Some(asked) = chosen.first().map(|run| f64::from(run.rate)) else {
                continue;
            };
            let of = |figure: fn(&Run) -> f64| chosen.iter().map(|run| figure(run)).collect();
            rows.push(vec![
                tool.to_owned(),
                format!("{asked}"),
                chosen.len().to_string(),
                spread(of(|r| r.error_percent), 3),
                spread(of(|r| f64::from(r.most_in_10_ms)), 0),
                format!("{}", (asked / 100.0).max(1.0)),
                spread(of(|r| r.smallest_gap_us), 1),
                format!("{:.1}", 1e6 / asked),
            ]);
        }
        runs.iter()
            .try_for_each(|run| bench.report.run("accuracy", run))?;
    }
    bench.report.table(
        &[
            "",
            "pps asked",
            "runs",
            "error of the mean, %",
            "most in 10 ms",
            "asked in 10 ms",
            "smallest gap, µs",
            "asked, µs",
        ],
        &rows,
    );
    Ok(())
}

#[derive(Serialize)]
struct Run {
    tool: &'static str,
    rate: u32,
    probes: usize,
    error_percent: f64,
    most_in_10_ms: u32,
    smallest_gap_us: f64,
}

fn one(bench: &Bench, tool: &'static str, rate: u32, seconds: u32) -> anyhow::Result<Run> {
    let targets = rate * seconds;
    let list = bench.targets(targets)?;
    let (capture, output) = (bench.file("rate.pcap"), text(&bench.file("rate.ndjson")));
    let _ = std::fs::remove_file(&output);
    let pps = rate.to_string();
    let command = match tool {
        "plumb" => vec![
            bench.plumb(),
            "ping",
            "--count",
            "1",
            "--quiet",
            "--targets",
            &list,
            "--rate",
            &pps,
            "--json",
            "--output",
            &output,
            "--progress",
            "never",
        ],
        _ => vec![
            "scamper",
            "-O",
            "json",
            "-o",
            &output,
            "-p",
            &pps,
            "-w",
            "0",
            "-c",
            "ping -c 1",
            "-f",
            &list,
        ],
    };
    let tcpdump = watch(bench, &capture)?;
    let outcome = child::run(&bench.chain.source(Some(PROBER_CPU)), &command, &[0, 1]);
    finish(tcpdump)?;
    outcome?;
    let times = pcap::times(&capture)?;
    let expected = usize::try_from(targets)?;
    if times.len() < expected {
        bail!("tcpdump saw {} of {expected} probes", times.len());
    }
    let span = (times[times.len() - 1] - times[0]) as f64 / 1e9;
    let mean = (times.len() - 1) as f64 / span;
    let mut first = 0;
    let mut most = 0;
    for (last, time) in times.iter().enumerate() {
        while time - times[first] >= 10_000_000 {
            first += 1;
        }
        most = most.max(last - first + 1);
    }
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    Ok(Run {
        tool,
        rate,
        probes: times.len(),
        error_percent: (mean / f64::from(rate) - 1.0) * 100.0,
        most_in_10_ms: u32::try_from(most)?,
        smallest_gap_us: gaps.min().unwrap_or(0) as f64 / 1e3,
    })
}

/// Starts tcpdump and waits until it listens.
fn watch(bench: &Bench, capture: &Path) -> anyhow::Result<Child> {
    let place = bench.chain.source(Some(OTHER_CPU));
    let file = text(capture);
    let mut child = chain::within(&place, || {
        Command::new("tcpdump")
            .args(["-i", UPLINK, "-Q", "out", "-s", "48", "-B", "65536", "-n"])
            .args([
                "-Z",
                "root",
                "--time-stamp-precision=nano",
                "-w",
                &file,
                "icmp",
            ])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start tcpdump")
    })?;
    let mut lines = BufReader::new(child.stderr.take().context("no standard error")?);
    let mut line = String::new();
    while lines.read_line(&mut line)? > 0 {
        if line.contains("listening on") {
            child.stderr = Some(lines.into_inner());
            return Ok(child);
        }
    }
    bail!("tcpdump: {}", line.trim())
}

/// Ends tcpdump once it has taken what is in its buffer.
fn finish(mut child: Child) -> anyhow::Result<()> {
    std::thread::sleep(core::time::Duration::from_millis(1500));
    super::ask_to_end(&child).context("cannot stop tcpdump")?;
    child.wait().map(|_| ()).context("cannot wait for tcpdump")
}
