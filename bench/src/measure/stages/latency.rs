//! What a stage adds to a round trip.

use core::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use super::super::{Bench, OTHER_CPU, text};
use super::kernel::Kernel;
use super::pipeline::Pipeline;
use super::{Stages, load, words};
use crate::report::spread;
use crate::stats::Summary;
use crate::traffic::RoundTrips;

/// Stages that do not each sleep in a process of their own.
struct Other {
    name: &'static str,
    stages: usize,
    between: Vec<Vec<String>>,
    /// Medians of native trips, and of those on one processor.
    us: [Vec<f64>; 2],
}

fn others(stages: &Stages) -> Vec<Other> {
    let other = |name, stages, between| Other {
        name,
        stages,
        between,
        us: Default::default(),
    };
    let polling = words(&[&stages.plumb, "count", "--busy-poll", "1ms"]);
    let mut others = vec![
        other("1, busy polling", 1, vec![polling.clone()]),
        other("4, busy polling", 4, vec![polling; 4]),
    ];
    if stages.has_chain {
        let chain = |count: usize| {
            let functions = vec!["count"; count].join(" | ");
            words(&[&stages.plumb, "chain", &functions])
        };
        let polling = |count| {
            let mut chain = chain(count);
            chain.splice(2..2, words(&["--busy-poll", "1ms"]));
            chain
        };
        others.push(other("4, fused", 4, vec![chain(4)]));
        others.push(other("16, fused", 16, vec![chain(16)]));
        others.push(other("4, fused, busy polling", 4, vec![polling(4)]));
        others.push(other("16, fused, busy polling", 16, vec![polling(16)]));
    }
    others
}

pub(super) fn measure(bench: &mut Bench, stages: &Stages) -> anyhow::Result<()> {
    let polls = std::fs::read_to_string("/sys/module/haltpoll/parameters/guest_halt_poll_ns");
    let polls = polls.map_or_else(|_| "not known".to_owned(), |ns| format!("{} ns", ns.trim()));
    bench.report.say(&format!(
        "### Latency\n\n\
         Round trips in µs of one frame at a time, so that every stage sleeps when it comes. \
         \"native\" is between two programs that are stages themselves, over rings; \"ping\" is \
         `exec -- ping`, whose round trip also passes the kernel four times. On one processor, none \
         that is idle has to be woken, which takes a hypervisor its time. How long idle processors \
         of this guest look for work before that (haltpoll): {polls}."
    ));
    let rounds = if bench.quick { 200 } else { 2000 };
    let kernels = [
        Kernel::build("ping", 1500, true, &bench.scratch)?,
        Kernel::build("pair", 1500, false, &bench.scratch)?,
    ];
    let counts = [0, 1, 2, 4];
    // Per number of stages: median and 99 % of native trips, median on one processor, of pings.
    let mut native: Vec<[Vec<f64>; 3]> = vec![Default::default(); counts.len()];
    let mut pings: Vec<Vec<f64>> = vec![Vec::new(); counts.len() + kernels.len()];
    let mut others = others(stages);
    let on_one = words(&["taskset", "-c", &OTHER_CPU.to_string()]);
    for _ in 0..bench.repetitions {
        for (index, count) in counts.into_iter().enumerate() {
            let stage = words(&[&stages.plumb, "count"]);
            let between = vec![stage; count];
            let us = ask(bench, stages, &between, rounds, &[])?;
            let alone = at(&ask(bench, stages, &between, rounds, &on_one)?, 50);
            bench.report.run(
                "stages-latency",
                &json!({
                    "stages": count,
                    "median_us": at(&us, 50),
                    "one_processor_median_us": alone,
                    "load": load(),
                }),
            )?;
            native[index][2].push(alone);
            native[index][0].push(at(&us, 50));
            native[index][1].push(at(&us, 99));
            let ping = words(&["ping", "-q", "-A", "-c", "500", "-w", "20", "10.0.1.2"]);
            let mut commands = vec![exec(stages, "10.0.1.1/24", &ping)];
            commands.extend(between);
            commands.push(exec(stages, "10.0.1.2/24", &words(&["sleep", "30"])));
            pings[index].push(pinged(bench, &commands)?);
        }
        for (kernel, pings) in kernels.iter().zip(&mut pings[counts.len()..]) {
            let mut command = kernel.place(false);
            command.extend(words(&["ping", "-q", "-A", "-c", "500", "-w", "20"]));
            command.push(kernel.server());
            pings.push(pinged(bench, &[command])?);
        }
        for other in &mut others {
            for (us, before) in other.us.iter_mut().zip([&[][..], &on_one]) {
                us.push(at(&ask(bench, stages, &other.between, rounds, before)?, 50));
            }
        }
    }
    let middle = |us: &[f64]| Summary::of(us.to_vec()).map_or(0.0, |s| s.median);
    let (first, first_ping) = (middle(&native[0][0]), middle(&pings[0]));
    let first_alone = middle(&native[0][2]);
    let mut rows = Vec::new();
    for (index, count) in counts.into_iter().enumerate() {
        let [median, worst, alone] = native[index].clone();
        let added = |us: &[f64], first: f64| match count {
            0 => "-".to_owned(),
            // There and back.
            _ => format!("{:.1}", (middle(us) - first) / count as f64 / 2.0),
        };
        rows.push(vec![
            count.to_string(),
            spread(median.clone(), 1),
            spread(worst, 1),
            added(&median, first),
            spread(alone.clone(), 1),
            added(&alone, first_alone),
            spread(pings[index].clone(), 1),
            added(&pings[index], first_ping),
        ]);
    }
    for other in &others {
        let added = |us: &[f64], first: f64| {
            let passed = other.stages as f64 * 2.0;
            format!("{:.2}", (middle(us) - first) / passed)
        };
        let dash = || "-".to_owned();
        let [median, alone] = &other.us;
        rows.push(vec![
            other.name.to_owned(),
            spread(median.clone(), 1),
            dash(),
            added(median, first),
            spread(alone.clone(), 1),
            added(alone, first_alone),
            dash(),
            dash(),
        ]);
    }
    for (name, us) in ["kernel: two routers", "a veth pair"]
        .into_iter()
        .zip(&pings[counts.len()..])
    {
        let dash = || "-".to_owned();
        let us = spread(us.clone(), 1);
        let mut row = vec![name.to_owned()];
        row.extend((0..5).map(|_| dash()));
        row.extend([us, dash()]);
        rows.push(row);
    }
    bench.report.table(
        &[
            "stages between",
            "native, median",
            "native, 99 %",
            "added by a stage, one way",
            "one processor, median",
            "added by a stage, one way",
            "ping, mean",
            "added by a stage, one way",
        ],
        &rows,
    );
    Ok(())
}

fn exec(stages: &Stages, address: &str, command: &[String]) -> Vec<String> {
    let mut all = words(&[&stages.plumb, "exec", "--addr", address, "--"]);
    all.extend_from_slice(command);
    all
}

/// Round trips through functions, in order of their length. `before` are words in front of each
/// command.
fn ask(
    bench: &Bench,
    stages: &Stages,
    between: &[Vec<String>],
    rounds: usize,
    before: &[String],
) -> anyhow::Result<Vec<f64>> {
    let file = bench.file("ask.json");
    let _ = std::fs::remove_file(&file);
    let (rounds, figures) = (rounds.to_string(), text(&file));
    let mut commands = vec![stages.end("ask", &["--rounds", &rounds, "--figures", &figures])];
    commands.extend_from_slice(between);
    commands.push(stages.end("answer", &[]));
    for command in &mut commands {
        command.splice(..0, before.iter().cloned());
    }
    Pipeline::start(&commands, &bench.scratch)?.end(Duration::from_secs(30))?;
    let figures = std::fs::read_to_string(&file)
        .with_context(|| Pipeline::said(&bench.scratch, commands.len()))?;
    let mut us = serde_json::from_str::<RoundTrips>(&figures)?.us;
    // The first ones meet empty caches and the way to the ring.
    us.drain(..us.len() / 10);
    us.sort_by(f64::total_cmp);
    Ok(us)
}

/// The figure below which so many of a hundred are.
fn at(sorted: &[f64], percent: usize) -> f64 {
    let index = sorted.len() * percent / 100;
    sorted.get(index).or(sorted.last()).copied().unwrap_or(0.0)
}

/// Mean round trip of ping, which is the first of these commands, in µs.
fn pinged(bench: &Bench, commands: &[Vec<String>]) -> anyhow::Result<f64> {
    // What ping prints goes to standard error, where its output is a pipe.
    let mut commands = commands.to_vec();
    if let [only] = commands.as_mut_slice() {
        *only = words(&["sh", "-c", &format!("exec {} >&2", only.join(" "))]);
    }
    Pipeline::start(&commands, &bench.scratch)?.end(Duration::from_secs(40))?;
    let said = Pipeline::said(&bench.scratch, commands.len());
    let line = said.lines().find(|line| line.starts_with("rtt "));
    let mean = line.and_then(|l| {
        l.split(" = ")
            .nth(1)?
            .split('/')
            .nth(1)?
            .parse::<f64>()
            .ok()
    });
    Ok(mean.with_context(|| format!("ping has no result: {said}"))? * 1e3)
}
