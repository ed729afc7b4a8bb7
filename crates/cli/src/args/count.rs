//! `plumb count`.

use clap::Args;

use super::FunctionArgs;

/// Arguments of `plumb count`.
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Count {
    /// The neighbours.
    #[command(flatten)]
    pub function: FunctionArgs,
}

const AFTER_HELP: &str = "\
Packets are read from standard input (pcapng or pcap, Ethernet) and written unchanged to standard
output (pcapng); the counts go to standard error at the end. Where standard output is a terminal,
no packets are written. Between two other stages of plumb, packets pass both ways.

Examples:
  plumb count < in.pcapng                                what is in a capture
  tcpdump -i eth0 -w - | plumb count | tcpdump -nr -     counted on the way";
