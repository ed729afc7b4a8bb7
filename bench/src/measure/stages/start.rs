//! How soon a stage passes its first packet, and a thousand of them at once.

use core::time::Duration;
use std::io::{PipeWriter, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail};
use plumb_wire::capture::Reader;
use plumb_wire::pcapng::{self, Interface, LinkType, Packet, Read};
use serde_json::json;

use super::super::{Bench, text};
use super::pipeline::{family, private_kb, pss_kb};
use super::{Stages, words};
use crate::report::spread;
use crate::stats::Summary;

/// A stage that has passed a frame and lives, and the pipe to it, which stays open.
struct Started(
    Child,
    #[expect(dead_code, reason = "what counts is that it is open")] Option<PipeWriter>,
);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn measure(bench: &mut Bench, stages: &Stages) -> anyhow::Result<()> {
    bench.report.say(
        "### Start\n\n\
         From before the start of the process until its first frame is read from its pipe. \
         `exec` makes its network and starts ping in it, whose first frame asks for an address; \
         `count` passes on a frame that waits for it. The paper: 47.4 ms.",
    );
    let rules = text(&bench.file("masquerade.nft"));
    let script = format!("nft -f {rules} && exec ping -q -i 60 10.0.0.1");
    let ping: &[&str] = &["ping", "-q", "-i", "60", "10.0.0.1"];
    let exec = |plumb: &str, command: &[&str]| {
        let mut all = words(&[plumb, "exec", "--addr", "10.0.0.2/24", "--"]);
        all.extend(words(command));
        all
    };
    let plumb = &stages.plumb;
    let mut arms = vec![
        ("count", words(&[plumb, "count"])),
        ("exec, ping", exec(plumb, ping)),
        (
            "exec, sh, nft with a masquerade, ping",
            exec(plumb, &["sh", "-c", &script]),
        ),
    ];
    if let Some(before) = &stages.before {
        arms.push(("count, build before", words(&[before, "count"])));
        arms.push(("exec, ping, build before", exec(before, ping)));
    }
    let mut figures: Vec<Vec<f64>> = vec![Vec::new(); arms.len()];
    let rounds = if bench.quick { 5 } else { 60 };
    for _ in 0..=rounds {
        for ((name, command), ms) in arms.iter().zip(&mut figures) {
            let (_stage, took) = start(command).with_context(|| (*name).to_owned())?;
            bench
                .report
                .run("stages-start", &json!({ "arm": name, "ms": took }))?;
            ms.push(took);
        }
    }
    let rows: Vec<_> = arms
        .iter()
        .zip(figures)
        // The first round finds nothing in any cache.
        .map(|((name, _), ms)| {
            let ms = ms[1..].to_vec();
            vec![(*name).to_owned(), ms.len().to_string(), spread(ms, 2)]
        })
        .collect();
    bench.report.table(&["", "runs", "ms"], &rows);
    many(bench, &exec(plumb, ping))
}

/// As many as there are to be, one after the other, all alive; and that some times.
fn many(bench: &mut Bench, command: &[String]) -> anyhow::Result<()> {
    let count = if bench.quick { 20 } else { 1000 };
    let part = count / 10;
    let mean = |ms: &[f64]| ms.iter().sum::<f64>() / ms.len().max(1) as f64;
    let median = |mb: &[f64]| Summary::of(mb.to_vec()).map_or(0.0, |s| s.median);
    let mut figures: [Vec<f64>; 8] = core::array::from_fn(|_| Vec::new());
    for _ in 0..bench.repetitions {
        let once = once(count, command)?;
        let first = mean(&once.ms[..part]);
        let last = mean(&once.ms[count - part..]);
        let row = [
            once.start_s,
            first,
            last,
            last / first,
            once.end_s,
            median(&once.pss_mb),
            median(&once.private_mb),
            once.machine_mb,
        ];
        for (figures, figure) in figures.iter_mut().zip(row) {
            figures.push(figure);
        }
        bench
            .report
            .run("stages-many", &serde_json::to_value(once)?)?;
        until_gone();
    }
    bench.report.say(&format!(
        "A number of them, {} times; what the last time has left is gone before the next begins.",
        bench.repetitions
    ));
    bench.report.table(
        &[
            "`exec` stages alive",
            "seconds to start",
            "first tenth, mean ms",
            "last tenth, mean ms",
            "last to first",
            "seconds to end",
            "PSS of a stage with ping, MB",
            "private, MB",
            "memory of the machine for each, MB",
        ],
        &[core::iter::once(count.to_string())
            .chain(figures.into_iter().map(|figures| spread(figures, 2)))
            .collect()],
    );
    Ok(())
}

/// What many stages took.
#[derive(Clone, Debug, serde::Serialize)]
struct Many {
    /// Until the first frame of each.
    ms: Vec<f64>,
    start_s: f64,
    end_s: f64,
    /// Of each tenth stage, all its processes together.
    pss_mb: Vec<f64>,
    private_mb: Vec<f64>,
    /// What the machine had less for each.
    machine_mb: f64,
}

fn once(count: usize, command: &[String]) -> anyhow::Result<Many> {
    let begin = Instant::now();
    let mut alive = Vec::new();
    let mut ms = Vec::new();
    let before = meminfo_kb("MemAvailable:");
    for _ in 0..count {
        let (stage, took) = start(command)?;
        ms.push(took);
        alive.push(stage);
    }
    let start_s = begin.elapsed().as_secs_f64();
    let machine_mb = (before - meminfo_kb("MemAvailable:")) / 1024.0 / count as f64;
    let of = |kb: fn(u32) -> f64| -> Vec<f64> {
        alive
            .iter()
            .step_by(10)
            .map(|stage| family(stage.0.id()).into_iter().map(kb).sum::<f64>() / 1024.0)
            .collect()
    };
    let (pss_mb, private_mb) = (of(pss_kb), of(private_kb));
    let begin = Instant::now();
    for stage in &mut alive {
        let _ = stage.0.kill();
    }
    drop(alive);
    Ok(Many {
        ms,
        start_s,
        end_s: begin.elapsed().as_secs_f64(),
        pss_mb,
        private_mb,
        machine_mb,
    })
}

/// Waits until the kernel has taken down the networks that nobody has any more, which it does in its own
/// time: until its memory grows smaller no more, for half a minute at most.
fn until_gone() {
    const STEP_KB: f64 = 1024.0;
    let mut before = f64::INFINITY;
    for _ in 0..15 {
        let now = meminfo_kb("SUnreclaim:");
        if now > before - STEP_KB {
            break;
        }
        before = now;
        std::thread::sleep(Duration::from_secs(2));
    }
}

/// Starts a stage and waits for its first frame; returns it, and how many milliseconds that took.
fn start(command: &[String]) -> anyhow::Result<(Started, f64)> {
    let [program, arguments @ ..] = command else {
        bail!("no command");
    };
    let is_edge = arguments.first().is_some_and(|verb| verb == "exec");
    let (input, mut feed) = std::io::pipe()?;
    feed.write_all(&recording())?;
    let begin = Instant::now();
    let child = Command::new(program)
        .args(arguments)
        .stdin(if is_edge {
            Stdio::null()
        } else {
            Stdio::from(input)
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut started = Started(child, (!is_edge).then_some(feed));
    let mut output = started.0.stdout.take().context("no output")?;
    let mut reader = Reader::for_stage();
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let len = output.read(&mut part)?;
        let ms = begin.elapsed().as_secs_f64() * 1e3;
        if len == 0 {
            bail!("the stage has ended");
        }
        bytes.extend_from_slice(&part[..len]);
        let mut rest = bytes.as_slice();
        loop {
            match reader.read(&mut rest) {
                Ok(Read::Packet(_)) => {
                    started.0.stdout = Some(output);
                    return Ok((started, ms));
                }
                Ok(Read::Control(_)) => {}
                Ok(Read::NeedBytes(_)) => break,
                Err(error) => bail!("the stage writes no packets: {error}"),
            }
        }
        let left = rest.len();
        bytes.drain(..bytes.len() - left);
    }
}

/// A section with one frame.
fn recording() -> Vec<u8> {
    let interface = Interface {
        link_type: LinkType::ETHERNET,
        name: "left",
    };
    let packet = Packet {
        data: &[0; 64],
        ..Packet::default()
    };
    let mut bytes = vec![0; 1024];
    let mut len = pcapng::emit_section(&mut bytes);
    len += interface.emit(&mut bytes[len..]);
    len += packet.emit(&mut bytes[len..]);
    bytes.truncate(len);
    bytes
}

/// A line of the kernel's account of the machine's memory.
fn meminfo_kb(name: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let rest = text.lines().find_map(|line| line.strip_prefix(name));
    rest.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap_or(0.0)
}
