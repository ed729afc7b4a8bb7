//! What each program in the kernel costs, by the kernel's own account.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::lab::Lab;
use super::load::Load;
use super::watcher::{Watch, Watcher};
use crate::measure::Bench;

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// The kernel's account of programs, which costs some 20 ns a run itself; switched on until this is
/// dropped, for the whole machine.
struct Account(String);

impl Account {
    fn open() -> anyhow::Result<Self> {
        let before = fs::read_to_string(SWITCH).context("the kernel keeps no account")?;
        fs::write(SWITCH, "1").context("cannot switch the account on")?;
        Ok(Self(before))
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let _ = fs::write(SWITCH, self.0.trim());
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Program {
    id: u32,
    name: String,
    run_time_ns: f64,
    run_cnt: f64,
}

/// Runs, and nanoseconds in all, by program.
type Programs = BTreeMap<String, (f64, f64)>;

/// All programs on this machine but those that were there before.
fn programs(others: &[u32]) -> anyhow::Result<Programs> {
    let ours = all()?.into_iter().filter(|p| !others.contains(&p.id));
    Ok(ours
        .map(|program| (program.name, (program.run_cnt, program.run_time_ns)))
        .collect())
}

fn all() -> anyhow::Result<Vec<Program>> {
    let shown = Command::new("bpftool")
        .args(["--json", "prog", "show"])
        .output()
        .context("cannot start bpftool")?;
    serde_json::from_slice(&shown.stdout).context("bpftool says something else")
}

/// What one program did for one unit of a load.
#[derive(Debug, Serialize)]
struct Share<'a> {
    arguments: &'a [&'a str],
    load: &'a str,
    program: &'a str,
    runs: f64,
    ns: f64,
}

/// Runs each load once under account.
pub(super) fn measure(
    bench: &mut Bench,
    lab: &Lab,
    load: &Load<'_>,
    arguments: &'static [&'static str],
) -> anyhow::Result<()> {
    if Command::new("bpftool").arg("version").output().is_err() {
        bench
            .report
            .say("bpftool is not installed: nothing is said about single programs.");
        return Ok(());
    }
    let account = Account::open()?;
    let others: Vec<u32> = all()?.iter().map(|program| program.id).collect();
    let watch = Watch::Plumb(bench.plumb.clone(), arguments);
    let watcher = Watcher::start(lab, &bench.scratch, &watch)?;
    let loads: [(&str, &dyn Fn() -> anyhow::Result<f64>); 3] = [
        ("connection", &|| Ok(load.connections(&watcher)?.units)),
        ("request", &|| Ok(load.requests(&watcher)?.units)),
        ("MB", &|| Ok(load.bulk(&watcher)?.units * 1000.0)),
    ];
    let mut rows: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut sums = Vec::new();
    for (name, run) in loads {
        let before = programs(&others)?;
        let units = run()?;
        let after = programs(&others)?;
        if after.is_empty() {
            bail!("bpftool shows no programs of plumb");
        }
        let mut sum = 0.0;
        for (program, (runs, ns)) in after {
            let (runs_before, ns_before) = before.get(&program).copied().unwrap_or_default();
            let share = Share {
                arguments,
                load: name,
                program: &program,
                runs: (runs - runs_before) / units,
                ns: (ns - ns_before) / units,
            };
            sum += share.ns;
            let row = rows.entry(program.clone()).or_default();
            row.push(format!("{:.2}", share.runs));
            row.push(format!("{:.0}", share.ns));
            bench.report.run("flow-programs", &share)?;
        }
        sums.extend([String::new(), format!("{sum:.0}")]);
    }
    drop(account);
    let head: Vec<String> = loads
        .iter()
        .flat_map(|(name, _)| [format!("runs a {name}"), format!("ns a {name}")])
        .collect();
    let head: Vec<&str> = ["program"]
        .into_iter()
        .chain(head.iter().map(String::as_str))
        .collect();
    let mut table: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(program, figures)| [vec![program], figures].concat())
        .collect();
    table.push([vec!["all".to_owned()], sums].concat());
    bench.report.say(&format!(
        "### Flow records: programs in the kernel, `plumb flow {}`\n\nBy the kernel's own account \
         (`kernel.bpf_stats_enabled`), which adds some 20 ns to each run; both ends together.",
        arguments.join(" ")
    ));
    bench.report.table(&head, &table);
    watcher.stop()?;
    Ok(())
}
