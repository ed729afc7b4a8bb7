//! One TCP stream from one network to another.

use core::time::Duration;
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::json;

use super::super::{Bench, text};
use super::kernel::Kernel;
use super::pipeline::Pipeline;
use super::tool::Tool;
use super::{Stages, load, words};
use crate::report::{ratio, spread};

/// What lies between client and server.
#[derive(Clone, Debug)]
enum Path {
    /// Stages of this binary.
    Stages(Vec<Vec<String>>),
    /// The same joined by named pipes both ways, so that there are no rings.
    NamedPipes(Vec<Vec<String>>, &'static [&'static str]),
    /// One process: these functions, and the private networks at both ends.
    OneProcess(Vec<Vec<String>>),
    /// Namespaces.
    Kernel(usize),
}

#[derive(Debug)]
struct Arm {
    name: &'static str,
    plumb: String,
    path: Path,
}

#[derive(Clone, Debug, Default)]
struct Figures {
    gbps: Vec<f64>,
    /// Processor time of all stages for each MB.
    cpu_us: Vec<f64>,
    retransmits: Vec<f64>,
}

const WRITES: [usize; 7] = [64, 128, 256, 512, 1024, 8192, 65_500];
const LARGE_MTU: u32 = 65_521;
/// The arm of the build before in the order of [`arms`].
const BEFORE: &str = "the same, build before";

pub(super) fn measure(bench: &mut Bench, stages: &Stages) -> anyhow::Result<()> {
    bench.report.say(
        "### One TCP stream\n\n\
         iperf3 with cubic from one private network to another, goodput at the receiver. Stages: \
         `exec | ... | exec`; \"fused\", the functions are one process; \"one process with both ends\" \
         is `plumb chain 'exec ... | nat | firewall | exec ...'`. \"CPU\" is the processor time of \
         all stages for each MB, without iperf3 and the work of the kernel that it pays for; the \
         kernel's chain has no processes to ask.",
    );
    let mtus: &[u32] = if bench.quick {
        &[1500]
    } else {
        &[1500, LARGE_MTU]
    };
    let mut rows = Vec::new();
    for &mtu in mtus {
        let kernels = [
            Kernel::build("tcp", mtu, true, &bench.scratch)?,
            Kernel::build("direct", mtu, false, &bench.scratch)?,
        ];
        let arms = arms(stages);
        let mut figures = vec![Figures::default(); arms.len()];
        for _ in 0..bench.repetitions {
            for (arm, figures) in arms.iter().zip(&mut figures) {
                once(bench, arm, mtu, Tool::Iperf3, None, &kernels, figures)
                    .with_context(|| format!("{}, MTU {mtu}", arm.name))?;
            }
        }
        let kernel = arms.iter().position(|arm| arm.name.starts_with("kernel"));
        let reference = kernel.map_or(Vec::new(), |at| figures[at].gbps.clone());
        for (arm, figures) in arms.iter().zip(figures) {
            rows.push(vec![
                mtu.to_string(),
                arm.name.to_owned(),
                spread(figures.gbps.clone(), 2),
                ratio2(figures.gbps, reference.clone()),
                spread(figures.cpu_us, 0),
                spread(figures.retransmits, 0),
            ]);
        }
    }
    bench.report.table(
        &[
            "MTU",
            "",
            "Gbps",
            "to the kernel's chain",
            "CPU of the stages, µs/MB",
            "retransmits",
        ],
        &rows,
    );
    Ok(())
}

/// The paper's figure 2: what an application writes at once.
pub(super) fn writes(bench: &mut Bench, stages: &Stages) -> anyhow::Result<()> {
    bench.report.say(
        "### What the application writes at once\n\n\
         The same with two functions and MTU 65521, by the length of what the sender writes, as in \
         the paper's figure 2. There, with netperf and nothing between two LKL instances, 1024 \
         bytes gave 9.1 Gbps. netperf's receiver takes what there is; those of nuttcp and iperf3 \
         take no more at once than the sender writes, which is work that no stage does.",
    );
    let sizes: &[usize] = if bench.quick { &[1024] } else { &WRITES };
    let kernels = [Kernel::build("write", LARGE_MTU, true, &bench.scratch)?];
    let arms: Vec<Arm> = arms(stages)
        .into_iter()
        .filter(|arm| arm.is_in_sweep())
        .collect();
    let kernel = arms.iter().position(|arm| arm.name.starts_with("kernel"));
    let mut rows = Vec::new();
    for tool in Tool::for_writes() {
        for &size in sizes {
            let mut figures = vec![Figures::default(); arms.len()];
            for _ in 0..bench.repetitions {
                for (arm, figures) in arms.iter().zip(&mut figures) {
                    once(bench, arm, LARGE_MTU, tool, Some(size), &kernels, figures)
                        .with_context(|| format!("{}, writes of {size}", arm.name))?;
                }
            }
            let reference = kernel.map_or(Vec::new(), |at| figures[at].gbps.clone());
            for (arm, figures) in arms.iter().zip(figures) {
                rows.push(vec![
                    tool.name().to_owned(),
                    size.to_string(),
                    arm.name.to_owned(),
                    spread(figures.gbps.clone(), 2),
                    ratio2(figures.gbps, reference.clone()),
                ]);
            }
        }
    }
    bench.report.table(
        &[
            "sender",
            "write, bytes",
            "",
            "Gbps",
            "to the kernel's chain",
        ],
        &rows,
    );
    Ok(())
}

impl Arm {
    fn is_in_sweep(&self) -> bool {
        self.name.starts_with("kernel")
            || self.name.starts_with("nat, second function")
            || self.name.ends_with("fused")
            || matches!(self.path, Path::OneProcess(_))
            || self.name == BEFORE
    }
}

fn arms(stages: &Stages) -> Vec<Arm> {
    let functions = |plumb| stages.functions(plumb, &[]);
    let of = |name, plumb: &String, path| Arm {
        name,
        plumb: plumb.clone(),
        path,
    };
    let plumb = &stages.plumb;
    let mut arms = vec![of(
        "nat, second function: rings",
        plumb,
        Path::Stages(functions(plumb)),
    )];
    if let Some(before) = &stages.before {
        arms.push(of(BEFORE, before, Path::Stages(functions(before))));
    }
    if stages.has_chain {
        arms.push(of(
            "the same, fused",
            plumb,
            Path::Stages(vec![stages.fused()]),
        ));
        arms.push(of(
            "the same, one process with both ends",
            plumb,
            Path::OneProcess(stages.in_a_chain()),
        ));
    }
    let pipes = |name, plumb, options| of(name, plumb, Path::NamedPipes(functions(plumb), options));
    arms.push(pipes("the same, pipes, `--gso`", plumb, &["--gso"]));
    if let Some(before) = &stages.before {
        arms.push(pipes(
            "the same, pipes, `--gso`, build before",
            before,
            &["--gso"],
        ));
    }
    arms.push(pipes("the same, pipes, frames of the MTU", plumb, &[]));
    if let Some(before) = &stages.before {
        arms.push(pipes(
            "the same, pipes, frames of the MTU, build before",
            before,
            &[],
        ));
    }
    arms.extend([
        of("nothing between: ring", plumb, Path::Stages(Vec::new())),
        of(
            "`cat`, `cat`: pipes, a ring back",
            plumb,
            Path::Stages(vec![words(&["cat"]), words(&["cat"])]),
        ),
        of("kernel: veth, masquerade, filter", plumb, Path::Kernel(0)),
        of("a veth pair", plumb, Path::Kernel(1)),
    ]);
    arms
}

fn once(
    bench: &mut Bench,
    arm: &Arm,
    mtu: u32,
    tool: Tool,
    write: Option<usize>,
    kernels: &[Kernel],
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let seconds = if bench.quick { 1 } else { 2 };
    let log = bench.file("stream.log");
    let kernel = if let Path::Kernel(which) = arm.path {
        Some(kernels.get(which).context("no such chain")?)
    } else {
        None
    };
    let server = kernel.map_or_else(|| "10.0.1.2".to_owned(), Kernel::server);
    let client = words(&[
        "sh",
        "-c",
        &tool.client(&server, seconds, write, &text(&log)),
    ]);
    let listener = words(&["sh", "-c", tool.listener(kernel.is_some())]);
    let commands = pipeline(bench, arm, mtu, kernel, &client, &listener)?;
    let pipeline = Pipeline::start(&commands, &bench.scratch)?;
    let ends = pipeline
        .end(Duration::from_secs(40))
        .with_context(|| Pipeline::said(&bench.scratch, commands.len()))?;
    let result = std::fs::read_to_string(&log).unwrap_or_default();
    let Some(carried) = tool.read(&result) else {
        bail!(
            "{} has no result: {}",
            tool.name(),
            Pipeline::said(&bench.scratch, commands.len())
        );
    };
    figures.gbps.push(carried.bits_per_s / 1e9);
    figures.retransmits.push(carried.retransmits);
    let cpu_s: f64 = ends.iter().map(|end| end.cpu_s).sum();
    if kernel.is_none() && carried.bytes > 0.0 {
        figures.cpu_us.push(cpu_s * 1e12 / carried.bytes);
    }
    bench.report.run(
        "stages-tcp",
        &json!({
            "arm": arm.name,
            "tool": tool.name(),
            "mtu": mtu,
            "write": write,
            "gbps": carried.bits_per_s / 1e9,
            "retransmits": carried.retransmits,
            "cpu_s": ends.iter().map(|end| end.cpu_s).collect::<Vec<_>>(),
            "load": load(),
        }),
    )
}

/// The commands of an arm, as a shell would join them.
fn pipeline(
    bench: &Bench,
    arm: &Arm,
    mtu: u32,
    kernel: Option<&Kernel>,
    client: &[String],
    server: &[String],
) -> anyhow::Result<Vec<Vec<String>>> {
    if let Some(kernel) = kernel {
        return Ok([(false, client), (true, server)]
            .map(|(is_server, command)| [&kernel.place(is_server), command].concat())
            .to_vec());
    }
    let mtu = mtu.to_string();
    let (functions, more): (_, &[&str]) = match &arm.path {
        Path::Stages(functions) | Path::OneProcess(functions) => (functions, &[]),
        Path::NamedPipes(functions, more) => (functions, more),
        Path::Kernel(_) => bail!("no stages"),
    };
    let is_chain = matches!(arm.path, Path::OneProcess(_));
    let exec = |address: &str, command: &[String]| {
        let mut all = words(&["exec", "--mtu", &mtu, "--addr", address]);
        if !is_chain {
            all.insert(0, arm.plumb.clone());
        }
        all.push("--".to_owned());
        all.extend_from_slice(command);
        all
    };
    // Without a NAT, both are in one network.
    let has_nat = functions.iter().flatten().any(|word| word.contains("nat"));
    let address = if has_nat { "10.0.0.2/8" } else { "10.0.1.1/24" };
    let mut commands = vec![exec(address, client)];
    commands.extend(functions.iter().cloned());
    commands.push(exec("10.0.1.2/24", server));
    if is_chain {
        // What JSON says of lists of texts, TOML says likewise.
        let file = bench.file("chain.toml");
        std::fs::write(&file, format!("stages = {}\n", json!(commands)))?;
        return Ok(vec![words(&[&arm.plumb, "chain", "--file", &text(&file)])]);
    }
    if matches!(arm.path, Path::NamedPipes(..)) {
        let last = commands.len() - 1;
        for (index, command) in commands.iter_mut().enumerate() {
            let mut links = Vec::new();
            if index > 0 {
                let back = back(bench, index - 1)?;
                links.push(format!("--left=in=/dev/stdin,out={back}"));
            }
            if index < last {
                links.push(format!(
                    "--right=in={},out=/dev/stdout",
                    back(bench, index)?
                ));
            }
            links.extend(words(more));
            // Behind the verb.
            command.splice(2..2, links);
        }
    }
    Ok(commands)
}

/// The named pipe that leads back to a stage from the one behind it.
fn back(bench: &Bench, index: usize) -> anyhow::Result<String> {
    let path = bench.file(&format!("back{index}"));
    if !path.exists() {
        let made = Command::new("mkfifo").arg(&path).status();
        if !made.is_ok_and(|status| status.success()) {
            bail!("cannot make a named pipe");
        }
    }
    Ok(text(&path))
}

/// A ratio with two decimals.
fn ratio2(of: Vec<f64>, to: Vec<f64>) -> String {
    let text = ratio(of.iter().map(|f| f * 10.0).collect(), to);
    match text.strip_suffix('x').and_then(|t| t.parse::<f64>().ok()) {
        Some(tenfold) => format!("{:.2}x", tenfold / 10.0),
        None => text,
    }
}
