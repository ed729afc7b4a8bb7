//! `plumb firewall`.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use plumb_nf::antispoof::Prefix;

use super::FunctionArgs;

/// Arguments of `plumb firewall`.
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Firewall {
    /// The rules, in the language of nft.
    #[arg(value_name = "RULES", value_hint = ValueHint::FilePath)]
    pub rules: PathBuf,
    /// Say whether the rules are good, and do nothing else.
    #[arg(long, conflicts_with = "explain")]
    pub check: bool,
    /// Let every packet pass, with a comment that says what would become of it, and which rule
    /// decides.
    #[arg(long)]
    pub explain: bool,
    /// A variable of the rules, as `define NAME = VALUE` in their first line; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = define)]
    pub define: Vec<(String, String)>,
    /// What the rules call the interface on the left.
    #[arg(long, value_name = "NAME", default_value = "left")]
    pub left_name: String,
    /// What the rules call the interface on the right.
    #[arg(long, value_name = "NAME", default_value = "right")]
    pub right_name: String,

    /// Networks that are on the left: packets from there with another source are dropped as
    /// spoofed.
    #[arg(long, value_name = "NETWORKS", value_delimiter = ',', help_heading = SPOOFED)]
    pub left_net: Vec<Prefix>,
    /// Networks that are on the right, likewise.
    #[arg(long, value_name = "NETWORKS", value_delimiter = ',', help_heading = SPOOFED)]
    pub right_net: Vec<Prefix>,

    /// Connections that may be tracked at a time.
    #[arg(long, value_name = "COUNT", help_heading = TRACKING, default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(1..=16_000_000))]
    pub max_connections: u32,
    /// A TCP connection whose start was not seen is invalid, instead of picked up.
    #[arg(long, help_heading = TRACKING)]
    pub strict: bool,
    /// Write what `log` statements say to a file, one JSON object a line (`plumb schema firewall`),
    /// instead of standard error.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub log: Option<PathBuf>,
    /// The neighbours.
    #[command(flatten)]
    pub function: FunctionArgs,
}

fn define(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("expected NAME=VALUE, such as LAN=10.0.0.0/8")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

const SPOOFED: &str = "Spoofed sources";
const TRACKING: &str = "Connections";

const AFTER_HELP: &str = "\
A stage forwards: rules in chains of hook forward decide, those of prerouting and postrouting come
before and behind them. The interfaces are called \"left\" and \"right\". What the rules say and
plumb does not support is refused with its place; nothing is ignored. SIGHUP reads the rules again
and keeps connections and counters; if they are bad, the old ones stay.

Packets come from the left, but those that arrived at an interface called \"right\" come from the
right. If standard input is a file, time is that of the packets' stamps, and the same input gives
the same output.

Examples:
  plumb firewall --check rules.nft
  plumb firewall rules.nft < in.pcapng > out.pcapng
  tcpdump -i eth0 -w - | plumb firewall --explain rules.nft | tshark -r - -T fields -e frame.comment
  plumb exec --addr 10.0.0.2/24 -- curl 10.0.0.3 | plumb firewall rules.nft |
    plumb exec --addr 10.0.0.3/24 --keep -- python3 -m http.server 80";
