//! How many fit: memory of each when there are many, and right results under a bound.

use core::time::Duration;
use std::fs;
use std::io::Read as _;
use std::process::Child;
use std::thread;
use std::time::Instant;

use serde::Serialize;

use super::arm::Arm;
use super::lab::{Lab, TARGET};
use super::{Bench, run};
use crate::cgroup::Cgroup;

/// The memory that instances are to fit in.
const ROOM: u64 = 1 << 30;

#[derive(Clone, Debug, Default, Serialize)]
struct Crowd {
    arm: String,
    asked: usize,
    /// Instances that gave the right result.
    right: usize,
    /// Seconds from the first start to the last end.
    seconds: f64,
    /// Proportional memory of all processes of an instance, in bytes, when all were there.
    pss: f64,
    /// The part that nobody shares.
    private: f64,
    /// Proportional memory of the machine's or the measuring process alone, without the one that
    /// controls it, in bytes.
    core_pss: f64,
    /// Most memory that the control group was charged with, per instance.
    charged: f64,
    /// Processes of an instance.
    processes: f64,
}

/// Runs crowds of the arms that can be run in crowds.
pub(super) fn measure(bench: &mut Bench, lab: &Lab, arms: &[Arm]) -> anyhow::Result<()> {
    let counts: &[usize] = if bench.quick { &[20] } else { &[50, 200] };
    bench.report.say(
        "## Many at once\n\n\
         Each instance pings the target until all are there and their memory has been read, in a \
         control group of 1 GiB. PSS and private memory are sums over all processes of an instance, \
         the controlling `plumb vm run` or the runtime included; \"PSS of what measures\" leaves \
         those out: the monitor with its machine, or the process in the container; \"charged\" is the group's peak \
         divided by the instances, with everything that the kernel holds for them. \"fit in 1 GiB\" \
         is 1 GiB divided by the larger of PSS and charged memory. Right: the instances whose \
         pings were all answered.",
    );
    let mut rows = Vec::new();
    for arm in arms.iter().filter(|arm| arm.dense) {
        for &count in counts {
            let crowd = crowd(lab, arm, count)?;
            bench.report.run("density", &crowd)?;
            let kb = |bytes: f64| format!("{:.0}", bytes / 1e3);
            rows.push(vec![
                crowd.arm.clone(),
                count.to_string(),
                crowd.right.to_string(),
                kb(crowd.pss),
                kb(crowd.private),
                kb(crowd.core_pss),
                kb(crowd.charged),
                format!("{:.1}", crowd.processes),
                format!("{:.0}", ROOM as f64 / crowd.pss.max(1.0)),
                format!("{:.0}", ROOM as f64 / crowd.pss.max(crowd.charged).max(1.0)),
                format!("{:.1}", crowd.seconds),
                format!("{:.1}", crowd.right as f64 / crowd.seconds),
            ]);
        }
    }
    bench.report.table(
        &[
            "",
            "instances",
            "right",
            "PSS each, kB",
            "private each, kB",
            "PSS of what measures, kB",
            "charged each, kB",
            "processes each",
            "1 GiB by PSS",
            "fit in 1 GiB",
            "seconds",
            "right per second",
        ],
        &rows,
    );
    Ok(())
}

/// Time for which pages may be merged before memory is read.
const MERGING: Duration = Duration::from_secs(6);

fn crowd(lab: &Lab, arm: &Arm, count: usize) -> anyhow::Result<Crowd> {
    let group = Cgroup::create("crowd")?;
    group.limit_memory(ROOM)?;
    let ksm = arm.merge.then(Ksm::on);
    // Long enough that the last one is up before the first one ends.
    let pings = 10 + count / 10 + if arm.merge { 8 } else { 0 };
    let arguments: Vec<String> = ["ping", "-c", &pings.to_string(), "--json", TARGET]
        .map(str::to_owned)
        .into();
    let place = arm.place.clone().unwrap_or_else(|| lab.place());
    let inside = group.enter()?;
    let begin = Instant::now();
    let mut children: Vec<Child> = Vec::new();
    for instance in 0..count {
        let command = arm.command_of(&group.name, instance, &arguments);
        children.push(run::spawn(&place, &command)?);
    }
    let outputs: Vec<_> = children
        .iter_mut()
        .map(|child| child.stdout.take())
        .map(|out| {
            thread::spawn(move || {
                let mut text = String::new();
                if let Some(mut out) = out {
                    let _ = out.read_to_string(&mut text);
                }
                text
            })
        })
        .collect();
    thread::sleep(Duration::from_secs(5) + if arm.merge { MERGING } else { Duration::ZERO });
    let mut memory = Memory::default();
    let mut processes = group.processes();
    processes.retain(|pid| *pid != std::process::id());
    for pid in &processes {
        memory.add(*pid);
    }
    let mut right = 0;
    for (output, child) in outputs.into_iter().zip(&mut children) {
        let text = output.join().unwrap_or_default();
        let wanted = format!("\"received\":{pings}");
        right += usize::from(text.lines().any(|line| line.contains(&wanted)));
        child.wait()?;
    }
    let charged = group.used().peak_memory;
    drop((ksm, inside));
    let each = |sum: u64| sum as f64 / count as f64;
    Ok(Crowd {
        arm: arm.name.clone(),
        asked: count,
        right,
        seconds: begin.elapsed().as_secs_f64(),
        pss: each(memory.pss),
        private: each(memory.private),
        core_pss: each(memory.core_pss),
        charged: each(charged),
        processes: each(processes.len() as u64),
    })
}

#[derive(Debug, Default)]
struct Memory {
    pss: u64,
    private: u64,
    core_pss: u64,
}

impl Memory {
    fn add(&mut self, pid: u32) {
        // What measures is the last of an instance's processes: it has no children.
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let is_core = children.is_ok_and(|children| children.trim().is_empty());
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            let bytes = value
                .split_whitespace()
                .next()
                .and_then(|kb| kb.parse::<u64>().ok())
                .unwrap_or(0)
                * 1024;
            match key {
                "Pss" => {
                    self.pss += bytes;
                    self.core_pss += if is_core { bytes } else { 0 };
                }
                "Private_Clean" | "Private_Dirty" => self.private += bytes,
                _ => {}
            }
        }
    }
}

/// Page merging as the measurement wants it; put back as it was when dropped.
#[derive(Debug)]
struct Ksm(Vec<(&'static str, String)>);

impl Ksm {
    fn on() -> Self {
        let wanted = [
            ("sleep_millisecs", "10"),
            ("pages_to_scan", "5000"),
            ("smart_scan", "0"),
            ("use_zero_pages", "1"),
            ("run", "1"),
        ];
        let before = wanted.map(|(file, value)| {
            let path = format!("/sys/kernel/mm/ksm/{file}");
            let was = fs::read_to_string(&path).unwrap_or_default();
            let _ = fs::write(&path, value);
            (file, was)
        });
        Self(before.into())
    }
}

impl Drop for Ksm {
    fn drop(&mut self) {
        for (file, was) in &self.0 {
            let _ = fs::write(format!("/sys/kernel/mm/ksm/{file}"), was.trim());
        }
    }
}
