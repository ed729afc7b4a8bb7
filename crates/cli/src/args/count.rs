//! `plumb count`.

use clap::Args;

/// Arguments of `plumb count`.
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Count {
    /// One JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}

const AFTER_HELP: &str = "\
Packets are read from standard input (pcapng or pcap, Ethernet) and written unchanged to standard
output (pcapng); the counts go to standard error at the end. Where standard output is a terminal,
no packets are written.

Examples:
  plumb count < in.pcapng                                what is in a capture
  tcpdump -i eth0 -w - | plumb count | tcpdump -nr -     counted on the way";
