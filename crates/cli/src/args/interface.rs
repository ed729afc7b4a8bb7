//! `plumb if`.

use clap::{Args, ValueEnum};

use super::{Addressed, LinkArgs};

/// Arguments of `plumb if`.
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct If {
    /// Name of the interface. If there is none, a TAP device is made, and goes away at the end.
    pub name: String,
    /// An address of this machine on the TAP device; may be given several times.
    #[arg(long, value_name = "ADDRESS/LENGTH")]
    pub addr: Vec<Addressed>,
    /// Largest packet of the TAP device, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 1500, value_parser = clap::value_parser!(u32).range(68..=65521))]
    pub mtu: u32,
    /// Where the pipe is [default: on the left if standard input is one, else on the right].
    #[arg(long)]
    pub side: Option<Side>,
    /// The pipes.
    #[command(flatten)]
    pub links: LinkArgs,
}

/// Which of its two sides joins an edge to the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Side {
    /// Standard input.
    Left,
    /// Standard output.
    Right,
}

const AFTER_HELP: &str = "\
What the kernel sends over the interface goes into the pipeline, and what comes out of the pipeline
arrives at the interface. An interface that exists is joined by a packet socket instead: what
arrives over it goes into the pipeline.

Examples:
  plumb if tap0 --addr 10.0.0.1/24 | plumb if tap1 --addr 10.0.1.1/24
  plumb if eth1 | tcpdump -nr -";
