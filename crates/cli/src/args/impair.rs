//! `plumb impair`.

use clap::{Args, ValueEnum};

use super::{BitRate, FunctionArgs, LossModel, Percent, Seconds};

/// Arguments of `plumb impair`.
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Impair {
    /// How late every packet is, such as 20ms; on average where there is jitter.
    #[arg(long, value_name = "TIME", default_value = "0")]
    pub delay: Seconds,
    /// How much the delay varies.
    #[arg(long, value_name = "TIME", default_value = "0")]
    pub jitter: Seconds,
    /// How the jitter is distributed; all but uniform have it as their standard deviation.
    #[arg(long, value_enum, default_value_t = DistributionName::Uniform)]
    pub distribution: DistributionName,
    /// No packet overtakes another, whatever the jitter.
    #[arg(long, conflicts_with = "reorder")]
    pub keep_order: bool,
    /// How many packets are lost: 0.1%, or gemodel:P,R[,BAD[,GOOD]] for a link that turns bad with
    /// probability P, good again with R, and loses BAD (100%) and GOOD (0%) of the packets then.
    #[allow(
        rustdoc::broken_intra_doc_links,
        reason = "brackets for people, not links"
    )]
    #[arg(long, value_name = "LOSS", default_value = "0%")]
    pub loss: LossModel,
    /// How many packets come twice.
    #[arg(long, value_name = "PERCENT", default_value = "0%")]
    pub duplicate: Percent,
    /// In how many packets one bit is flipped.
    #[arg(long, value_name = "PERCENT", default_value = "0%")]
    pub corrupt: Percent,
    /// How many packets are not delayed, so that they overtake others; needs a delay.
    #[arg(long, value_name = "PERCENT", default_value = "0%")]
    pub reorder: Percent,
    /// Bits per second that pass, such as 10Mbit or 1G; Ethernet headers count, preambles do not.
    #[arg(long, value_name = "BITS")]
    pub rate: Option<BitRate>,
    /// Packets that are held back at most, in each direction; what comes then is dropped.
    #[arg(long, value_name = "PACKETS", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub limit: u32,
    /// Which way packets go that are impaired.
    #[arg(long, value_enum, default_value_t = Way::Both)]
    pub direction: Way,
    /// Seed of all chances: the same seed and input give the same output.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// The neighbours.
    #[command(flatten)]
    pub function: FunctionArgs,
}

/// How jitter is distributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DistributionName {
    /// Anything up to the jitter more or less.
    Uniform,
    /// A bell curve.
    Normal,
    /// A few packets are much later than the others.
    Pareto,
    /// A quarter normal, three quarters Pareto.
    Paretonormal,
}

/// The direction that packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// Both.
    Both,
    /// From left to right.
    Right,
    /// From right to left.
    Left,
}

const AFTER_HELP: &str = "\
Packets are read from standard input (pcapng or pcap, Ethernet) and written to standard output
(pcapng). If standard input is a file, time is that of the packets' stamps: a delay is seen in the
stamps that are written, not felt, and the same input gives the same output. In a pipe it is felt,
and between two other stages of plumb packets pass both ways.

Examples:
  plumb impair --delay 20ms --loss 0.1% < in.pcapng > out.pcapng
  plumb impair --delay 50ms --jitter 10ms --distribution normal --rate 10Mbit < in.pcap > out.pcapng
  plumb impair --loss gemodel:1%,25% --seed 7 < in.pcapng | tshark -r -
  plumb if tap0 | plumb impair --delay 20ms | plumb if tap1";
