//! `plumb ping`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum, ValueHint};
use serde::{Deserialize, Serialize};

use super::{ModeName, ProgressWhen, Rate, Seconds};

/// Arguments of `plumb ping`.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
#[command(args_override_self = true, after_help = AFTER_HELP, group = ArgGroup::new("what").required(true).multiple(true))]
pub struct Ping {
    /// Name or address to ping; `-` reads a list from standard input.
    #[arg(value_name = "TARGET", group = "what", value_hint = ValueHint::Hostname)]
    pub target: Vec<String>,

    /// Read targets from a file, one a line; `#` begins a comment, `-` is standard input.
    #[arg(long, value_name = "FILE", group = "what", value_hint = ValueHint::FilePath)]
    pub targets: Option<PathBuf>,

    /// Requests per target; 0 goes on until interrupted.
    #[arg(short, long, help_heading = PROBES, default_value_t = 4)]
    pub count: u32,
    /// Time between requests to one target.
    #[arg(short, long, value_name = "TIME", help_heading = PROBES, default_value = "1s")]
    pub interval: Seconds,
    /// How long to wait for a reply, such as 1s, 300ms or 0.5.
    #[arg(short, long, value_name = "TIME", help_heading = PROBES, default_value = "1s")]
    pub wait: Seconds,
    /// Bytes of data in a request.
    #[arg(short, long, value_name = "BYTES", help_heading = PROBES, default_value_t = 56, value_parser = clap::value_parser!(u16).range(0..=1452))]
    pub size: u16,
    /// TTL of the requests.
    #[arg(short, long, help_heading = PROBES, default_value_t = 64, value_parser = clap::value_parser!(u8).range(1..))]
    pub ttl: u8,
    /// Differentiated services code point of the requests.
    #[arg(long, help_heading = PROBES, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..64))]
    pub dscp: u8,
    /// Ping over IPv4 only.
    #[arg(short = '4', long, help_heading = PROBES, overrides_with = "ipv6")]
    pub ipv4: bool,
    /// Ping over IPv6 only.
    #[arg(short = '6', long, help_heading = PROBES, overrides_with = "ipv4")]
    pub ipv6: bool,
    /// Source address.
    #[arg(long, value_name = "ADDRESS", help_heading = PROBES)]
    pub source: Option<core::net::IpAddr>,
    /// Interface to send from.
    #[arg(short = 'I', long, value_name = "NAME", help_heading = PROBES, value_hint = ValueHint::Other)]
    pub interface: Option<String>,
    /// How packets reach the network.
    #[arg(long, value_enum, help_heading = PROBES, default_value_t = ModeName::Auto)]
    pub mode: ModeName,

    /// Most packets per second over all targets: 1000, 10k or unlimited.
    #[arg(short, long, value_name = "PPS", help_heading = PACE, default_value = "1000")]
    pub rate: Rate,
    /// Most targets under way at once.
    #[arg(long, value_name = "COUNT", help_heading = PACE, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    pub window: u32,
    /// Seed of all random choices, to repeat a run [default: from the system].
    #[arg(long, value_name = "NUMBER", help_heading = PACE)]
    pub seed: Option<u64>,

    /// What to print.
    #[arg(long, value_enum, help_heading = OUTPUT, default_value_t = PingFormat::Table, overrides_with = "json")]
    pub format: PingFormat,
    /// Short for --format json.
    #[arg(long, help_heading = OUTPUT, overrides_with = "format")]
    pub json: bool,
    /// Write the result to a file instead of standard output.
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT, value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Write all packets sent and received to a file as pcapng.
    #[arg(long, value_name = "FILE", help_heading = OUTPUT, value_hint = ValueHint::FilePath)]
    pub pcap: Option<PathBuf>,
    /// Only the summary of each target.
    #[arg(short, long, help_heading = OUTPUT)]
    pub quiet: bool,
    /// Show how far a list has come, on standard error.
    #[arg(long, value_enum, value_name = "WHEN", help_heading = OUTPUT, default_value_t = ProgressWhen::Auto)]
    pub progress: ProgressWhen,
}

/// `--format` of `plumb ping`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum PingFormat {
    /// Lines for people.
    Table,
    /// NDJSON, one record a line (plumb schema ping).
    Json,
}

const PROBES: &str = "Probes";
const PACE: &str = "Pace";
const OUTPUT: &str = "Output";

const AFTER_HELP: &str = "\
Examples:
  plumb ping example.com                     four requests, a second apart
  plumb ping -c 20 -i 100ms 1.1.1.1 9.9.9.9  two targets at once
  plumb ping -c 1 -q --targets list.txt -r 10k --json

Every option can also be set in plumb.toml ([ping] count = 10) or in the environment
(PLUMB_PING_COUNT=10); `plumb config show` prints what holds.

Exit status: 0 every target answered; 1 a target did not; 2 usage or bad input;
3 no permission; 5 some targets could not be used; 130 interrupted.";
