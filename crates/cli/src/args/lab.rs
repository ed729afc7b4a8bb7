//! `plumb lab`.

use clap::{Args, Subcommand};

/// Arguments of `plumb lab`.
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Lab {
    /// What to do with a lab.
    #[command(subcommand)]
    pub command: LabCommand,
}

/// What can be done with labs.
#[derive(Clone, Debug, Subcommand)]
pub enum LabCommand {
    /// List the built-in labs.
    List {
        /// One JSON object a line instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Print the TOML of a lab.
    Show {
        /// Name of a built-in lab, or a TOML file.
        #[arg(value_name = "NAME|FILE")]
        lab: String,
    },
    /// Run a command, or a shell, in a private network whose uplink is the lab.
    #[command(after_help = RUN_AFTER_HELP)]
    Run {
        /// Name of a built-in lab, or a TOML file.
        #[arg(value_name = "NAME|FILE")]
        lab: String,
        /// Seed of the lab's random choices (loss, delay, identifiers), to repeat a run.
        #[arg(long, value_name = "NUMBER")]
        seed: Option<u64>,
        /// Put the lab on a bridge of this name as well, for machines that the command starts:
        /// each of them finds the lab for itself and may use the address in PLUMB_LAB_ADDRESS.
        #[arg(long, value_name = "BRIDGE")]
        bridge: Option<String>,
        /// The command and its arguments [default: $SHELL].
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
}

const AFTER_HELP: &str = "\
Examples:
  plumb lab list                                what there is
  plumb lab show php                            a topology, as a start for your own
  plumb lab run php                             a shell inside
  plumb lab run php -- plumb trace 5.0.9.9      one command inside";

const RUN_AFTER_HELP: &str = "\
The command sees one uplink and nothing else: no other interface, no way to the real network.
Nothing is left behind when it ends; plumb exits with the command's exit status.

Environment of the command: PLUMB_LAB, PLUMB_LAB_TARGETS, and with --bridge PLUMB_LAB_BRIDGE,
PLUMB_LAB_ADDRESS (of every machine, with prefix lengths), PLUMB_LAB_GATEWAY.

Examples:
  plumb lab run php
  plumb lab run php --bridge lab0 -- ./start-machines.sh
  plumb lab run ./my-network.toml --seed 7 -- mtr --report 5.0.9.9";
