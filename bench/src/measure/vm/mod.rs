//! The same trace by a process, in a container, and in a microVM: what each costs.

mod arm;
mod container;
mod density;
mod docker;
mod lab;
mod run;

use anyhow::Context as _;

use self::arm::Arm;
use self::lab::Lab;
use self::run::Run;
use super::Bench;
use crate::report::{ratio, spread};

/// Runs all arms alternately.
pub(super) fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    bench.report.say(
        "## A microVM beside a container and a process\n\n\
         One trace with revelation through the lab `php`, whose simulated routers sit on a bridge \
         in a network namespace; every arm runs the same engine with the same options. \"create\" \
         is from the start of the command to the first packet that tcpdump sees of it, \"measure\" \
         from there to the record on standard output, \"remove\" from there to the end of the \
         command. Memory and processor time are those of all processes of an arm, the hypervisor \
         and whoever controls it included, by the kernel's account of their control group; tables \
         of pages and the like count. The container's runtime finds a network namespace ready \
         except where it says that one is made for it. Docker's engine runs in the process's network \
         and lends it to its containers; what its daemons do for a run counts, the memory that they \
         had before does not.",
    );
    let (lab, arms) = prepare(bench)?;
    let rounds = if bench.quick {
        3
    } else {
        bench.repetitions.max(30)
    };
    let mut runs: Vec<Vec<Run>> = arms.iter().map(|_| Vec::new()).collect();
    // The first round finds nothing in any cache; it is not counted.
    for round in 0..=rounds {
        for (arm, runs) in arms.iter().zip(&mut runs) {
            let run =
                run::once(bench, &lab, arm).with_context(|| format!("running {}", arm.name))?;
            if round > 0 {
                bench.report.run("vm", &run)?;
                runs.push(run);
            }
        }
    }
    let total = |runs: &[Run]| runs.iter().map(|r| r.total_ms).collect::<Vec<_>>();
    let reference = arms
        .iter()
        .position(|arm| arm.is_reference)
        .map(|index| total(&runs[index]));
    let mut rows = Vec::new();
    for (arm, runs) in arms.iter().zip(&runs) {
        let of = |figure: fn(&Run) -> f64| runs.iter().map(figure).collect::<Vec<f64>>();
        rows.push(vec![
            arm.name.clone(),
            format!("{:.0}", arm.artifact as f64 / 1e3),
            runs.len().to_string(),
            spread(of(|r| r.create_ms), 1),
            spread(of(|r| r.measure_ms), 1),
            spread(of(|r| r.remove_ms), 1),
            spread(of(|r| r.total_ms), 1),
            reference.clone().map_or_else(
                || String::from("-"),
                |reference| ratio(total(runs), reference),
            ),
            spread(of(|r| r.cpu_ms), 1),
            spread(of(|r| r.peak_mb), 2),
        ]);
    }
    bench.report.table(
        &[
            "",
            "artifact, kB",
            "runs",
            "create, ms",
            "measure, ms",
            "remove, ms",
            "total, ms",
            "total to crun's",
            "CPU, ms",
            "peak memory, MB",
        ],
        &rows,
    );
    Ok(())
}

/// Runs as many of each arm at once as there is room for.
pub(super) fn crowds(bench: &mut Bench) -> anyhow::Result<()> {
    let (lab, arms) = prepare(bench)?;
    density::measure(bench, &lab, &arms)
}

/// The lab and the arms that work here; the report names the others.
fn prepare(bench: &mut Bench) -> anyhow::Result<(Lab, Vec<Arm>)> {
    // crun refuses to run where both versions of control groups are mounted. The mounts are this
    // program's own.
    let _ = std::process::Command::new("umount")
        .arg("/sys/fs/cgroup/unified")
        .stderr(std::process::Stdio::null())
        .status();
    let lab = Lab::open(bench, "php").context("cannot run a lab with a bridge")?;
    let (arms, left_out) = arm::all(bench, &lab)?;
    for (name, why) in &left_out {
        bench.report.say(&format!("Left out: {name}: {why}."));
    }
    Ok((lab, arms))
}
