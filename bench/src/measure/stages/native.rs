//! Frames per second from a generator through functions to a sink, without a kernel's network.

use core::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::json;

use super::super::Bench;
use super::kernel::Kernel;
use super::pipeline::{Pipeline, private_kb, pss_kb};
use super::{Stages, words};
use crate::report::{ratio, spread};
use crate::traffic::Seen;

/// How frames go from the generator to the sink.
struct Arm {
    name: &'static str,
    commands: Vec<Vec<String>>,
}

#[derive(Clone, Debug, Default)]
struct Figures {
    mpps: Vec<f64>,
    /// Processor time of each function for a frame, in ns.
    functions_ns: Vec<Vec<f64>>,
    ends_ns: Vec<f64>,
    upgrade_ms: Vec<f64>,
    disorder: u64,
}

const SIZES: [usize; 6] = [64, 256, 1024, 1500, 9000, 65_500];

pub(super) fn measure(bench: &mut Bench, stages: &Stages) -> anyhow::Result<()> {
    bench.report.say(
        "### Frames per second\n\n\
         A generator, two functions and a sink, each a process, all on the machine's processors. \
         The generator sends UDP of up to 64 flows as fast as the pipeline takes it, with numbers \
         by which the sink sees that none is missing and none out of order. \"CPU\" is the \
         processor time of each function, and of generator and sink together, for a frame. The \
         kernel's chain gets its frames from a packet socket and loses what it cannot keep up \
         with.",
    );
    let seconds = if bench.quick { "0.3" } else { "1" };
    let sizes: &[usize] = if bench.quick { &[64, 1500] } else { &SIZES };
    let mut rows = Vec::new();
    for &len in sizes {
        let kernel = (len <= 1500)
            .then(|| Kernel::build("pps", 1500, true, &bench.scratch))
            .transpose()?;
        let arms = arms(bench, stages, len, seconds, kernel.as_ref());
        let mut figures: Vec<Figures> = vec![Figures::default(); arms.len()];
        for _ in 0..bench.repetitions {
            for (arm, figures) in arms.iter().zip(&mut figures) {
                once(bench, arm, len, figures)
                    .with_context(|| format!("{} with {len} bytes", arm.name))?;
            }
        }
        let reference = figures[0].mpps.clone();
        for (arm, figures) in arms.iter().zip(figures) {
            let gbps = figures.mpps.iter().map(|m| m * len as f64 * 8.0 / 1e3);
            let functions: Vec<String> = figures
                .functions_ns
                .into_iter()
                .map(|ns| spread(ns, 0))
                .collect();
            rows.push(vec![
                len.to_string(),
                arm.name.to_owned(),
                spread(figures.mpps.clone(), 3),
                spread(gbps.collect(), 2),
                ratio(figures.mpps, reference.clone()),
                functions.join(" + "),
                spread(figures.ends_ns, 0),
                figures.disorder.to_string(),
                spread(figures.upgrade_ms, 2),
            ]);
        }
    }
    bench.report.table(
        &[
            "frame, bytes",
            "",
            "Mpps",
            "Gbps",
            "to the first",
            "CPU of the functions, ns",
            "of the ends, ns",
            "missing or out of order",
            "first frame to ring, ms",
        ],
        &rows,
    );
    Ok(())
}

fn arms(
    bench: &Bench,
    stages: &Stages,
    len: usize,
    seconds: &str,
    kernel: Option<&Kernel>,
) -> Vec<Arm> {
    let figures = super::super::text(&bench.file("sink.json"));
    let len = len.to_string();
    let more = ["--frame-len", &len, "--seconds", seconds];
    let source = stages.end("source", &more);
    let sink = [more.as_slice(), &["--figures", &figures]].concat();
    let sink = stages.end("sink", &sink);
    let pipe = |middle: Vec<Vec<String>>| {
        let mut all = vec![source.clone()];
        all.extend(middle);
        all.push(sink.clone());
        all
    };
    let mut arms = vec![Arm {
        name: "nat, second function: rings",
        commands: pipe(stages.functions(&stages.plumb, &[])),
    }];
    if let Some(before) = &stages.before {
        arms.push(Arm {
            name: "the same, build before",
            commands: pipe(stages.functions(before, &[])),
        });
    }
    if stages.has_chain {
        arms.push(Arm {
            name: "the same, fused",
            commands: pipe(vec![stages.fused()]),
        });
    }
    let mut in_band = pipe(stages.functions(&stages.plumb, &["--no-upgrade", "--gso"]));
    in_band[0].push("--no-upgrade".to_owned());
    arms.push(Arm {
        name: "the same, pipes (`--no-upgrade`)",
        commands: in_band,
    });
    arms.push(Arm {
        name: "count: rings",
        commands: pipe(vec![words(&[&stages.plumb, "count"])]),
    });
    arms.push(Arm {
        name: "nothing between: ring",
        commands: pipe(Vec::new()),
    });
    let mut in_band = pipe(Vec::new());
    in_band[0].push("--no-upgrade".to_owned());
    arms.push(Arm {
        name: "nothing between: pipe",
        commands: in_band,
    });
    arms.push(Arm {
        name: "`cat`, `cat`: pipes",
        commands: pipe(vec![words(&["cat"]), words(&["cat"])]),
    });
    if let Some(kernel) = kernel {
        let end = |server: bool, end: &[String], device: &str| {
            let mut all = kernel.place(server);
            all.extend_from_slice(end);
            all.extend(words(&["--device", device, "--to", &kernel.server()]));
            all
        };
        // Both begin at once; nothing goes from one to the other but through the kernel.
        arms.push(Arm {
            name: "kernel: veth, masquerade, filter",
            commands: vec![end(false, &source, "right"), end(true, &sink, "left")],
        });
    }
    arms
}

fn once(bench: &mut Bench, arm: &Arm, len: usize, figures: &mut Figures) -> anyhow::Result<()> {
    let file = bench.file("sink.json");
    let _ = std::fs::remove_file(&file);
    let pipeline = Pipeline::start(&arm.commands, &bench.scratch)?;
    let ends = pipeline.end(Duration::from_secs(20))?;
    let text = std::fs::read_to_string(&file).with_context(|| {
        let said = Pipeline::said(&bench.scratch, arm.commands.len());
        format!("the sink has seen nothing: {said}")
    })?;
    let seen: Seen = serde_json::from_str(&text)?;
    let lossy = arm.name.starts_with("kernel");
    if seen.frames == 0 || seen.disorder > 0 && !lossy {
        bail!(
            "{} frames arrived, {} missing or out of order: {}",
            seen.frames,
            seen.disorder,
            Pipeline::said(&bench.scratch, arm.commands.len())
        );
    }
    let ns = |cpu_s: f64| cpu_s * 1e9 / seen.frames as f64;
    let cpu: Vec<f64> = ends.iter().map(|end| ns(end.cpu_s)).collect();
    let functions = &cpu[1..cpu.len() - 1];
    figures.functions_ns.resize(functions.len(), Vec::new());
    for (all, one) in figures.functions_ns.iter_mut().zip(functions) {
        all.push(*one);
    }
    figures.mpps.push(seen.rate / 1e6);
    figures
        .ends_ns
        .push(cpu.iter().sum::<f64>() - functions.iter().sum::<f64>());
    figures.upgrade_ms.extend(seen.upgrade_ms);
    figures.disorder += seen.disorder;
    bench.report.run(
        "stages-native",
        &json!({ "arm": arm.name, "frame_len": len, "seen": seen, "cpu_ns_per_frame": cpu }),
    )
}

/// Memory of functions that are at work.
pub(super) fn memory(bench: &mut Bench, stages: &Stages) -> anyhow::Result<()> {
    let figures = super::super::text(&bench.file("sink.json"));
    let more = ["--frame-len", "1500", "--seconds", "1.5"];
    let mut commands = vec![stages.end("source", &more)];
    commands.extend(stages.functions(&stages.plumb, &[]));
    for _ in 0..6 {
        commands.push(words(&[&stages.plumb, "count"]));
    }
    commands.push(stages.end(
        "sink",
        &[more.as_slice(), &["--figures", &figures]].concat(),
    ));
    let pipeline = Pipeline::start(&commands, &bench.scratch)?;
    std::thread::sleep(Duration::from_millis(1000));
    let pids = pipeline.pids();
    let of = |kb: fn(u32) -> f64| -> Vec<f64> {
        pids[1..pids.len() - 1]
            .iter()
            .map(|pid| kb(*pid) / 1024.0)
            .collect()
    };
    let (pss, private) = (of(pss_kb), of(private_kb));
    pipeline.end(Duration::from_secs(20))?;
    bench.report.run(
        "stages-memory",
        &json!({ "pss_mb": pss, "private_mb": private }),
    )?;
    bench.report.say(&format!(
        "Memory of a function at work, rings and all, of eight in a row: PSS {} MB, of which \
         nobody else's {} MB.",
        spread(pss, 2),
        spread(private, 2)
    ));
    Ok(())
}
