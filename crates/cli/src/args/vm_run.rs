//! `plumb vm run` and `plumb vm image`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueHint};
use serde::{Deserialize, Serialize};

use super::{MachineOptions, Seconds};

/// Arguments of `plumb vm run`.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
#[command(after_help = RUN_AFTER_HELP)]
pub struct VmRun {
    /// The machine that is started.
    #[command(flatten)]
    pub machine: MachineOptions,
    /// Boot another image than the one that is built in.
    #[arg(long, value_name = "FILE", help_heading = super::vm::MACHINE, value_hint = ValueHint::FilePath)]
    pub image: Option<PathBuf>,
    /// Use a machine that `plumb vm start` started, instead of a new one.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["uplink", "address", "gateway", "image"], value_hint = ValueHint::Other)]
    pub vm: Option<String>,
    /// Fail when everything together takes longer than this.
    #[arg(long, value_name = "TIME")]
    pub deadline: Option<Seconds>,
    /// Say which runner was taken and why, and what machine it is.
    #[arg(short, long)]
    pub verbose: bool,
    /// `trace` or `ping` with its arguments, as `plumb trace` and `plumb ping` take them.
    #[arg(last = true, required = true, value_name = "trace|ping ARGUMENTS")]
    #[serde(skip)]
    pub measurement: Vec<OsString>,
}

/// Arguments of `plumb vm image`.
#[derive(Clone, Debug, Args)]
#[command(after_help = IMAGE_AFTER_HELP)]
pub struct VmImage {
    /// Write the image to a file.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// One JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}

const RUN_AFTER_HELP: &str = "\
Behind `--` stands what `plumb trace` or `plumb ping` would be told; options, settings, output,
signals and exit status are the same, but for what a machine has no use for: --mode, --interface
and --dry-run. Records say in rtt_error_ns by how much the machine may lengthen round-trip times.

Examples:
  plumb vm run --uplink lab:php -- trace --json 5.0.8.2
  plumb vm run --uplink br0 --address 192.0.2.9/24 --gateway 192.0.2.1 -- trace example.com
  plumb vm run --uplink lab:wide --runner qemu -- trace --targets list.txt -r 10k --json
  plumb vm run --uplink lab:plain --deadline 10s -- ping -c 3 5.0.4.2
  plumb vm run --uplink lab:php -- trace --live 5.0.8.2
  plumb vm run --vm probe1 -- trace 5.0.8.2        in a machine that `plumb vm start` started

Exit status: that of the measurement; 2 wrong usage, or no runner works here (plumb doctor);
3 no permission; 5 the machine failed.";

const IMAGE_AFTER_HELP: &str = "\
Examples:
  plumb vm image                     size, entry points, sections, digest
  plumb vm image -o plumb.elf        for a hypervisor of your own";
