//! `plumb chain`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::FunctionArgs;

/// Arguments of `plumb chain`.
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Chain {
    /// The stages, joined by | as in a shell: 'nat --outside 10.0.1.1 | impair --delay 20ms'.
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    pub stages: Option<String>,
    /// Take the stages from a TOML file.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// The neighbours of the chain.
    #[command(flatten)]
    pub function: FunctionArgs,
}

const AFTER_HELP: &str = "\
Stages of plumb that stand beside each other run in one process and hand packets on in memory: if and
exec at the ends, nat, impair, count, mirror between. Other programs run as processes of their own,
joined by pipes. Words are quoted as in a shell ('...', \"...\", \\), but there are no variables and no
redirections; sh -c '...' has them. Options about the pipes belong to the chain, not to its stages.

The exit status is that of the first stage that failed; a stage that ended as its neighbour had has
not. On a recording, the output is what the same stages joined by a shell would write.

Examples:
  plumb chain 'nat --outside 198.51.100.1 | impair --delay 20ms' < in.pcapng > out.pcapng
  plumb chain 'if tap0 --addr 10.0.0.1/24 | nat --outside 192.168.0.1 | if tap1'
  plumb chain 'exec --addr 10.0.0.2/8 -- ping -c 3 10.0.1.2 | nat --outside 10.0.1.1 |
    exec --addr 10.0.1.2/24 -- sleep 60'
  plumb chain 'if tap0 | count | tee seen.pcapng | impair --loss 1% | if tap1'
  plumb chain --file chain.toml

A file:
  counters = true
  stages = [
    \"if tap0 --addr 10.0.0.1/24\",
    { nat = { outside = \"192.168.0.1\", preserve-ports = true } },
    [\"tcpdump\", \"-U\", \"-r\", \"-\", \"-w\", \"-\"],
    { if = { name = \"tap1\" } },
  ]";
