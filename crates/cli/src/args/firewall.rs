//! `plumb firewall`.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use plumb_nf::antispoof;

use super::FunctionArgs;

/// Arguments of `plumb firewall`.
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Firewall {
    /// The rules, in the language of nft.
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub rules: PathBuf,
    /// Read the rules, say what is wrong with them, and end.
    #[arg(long)]
    pub check: bool,
    /// Let every packet pass, and write into its comment what would have become of it and which
    /// rule has decided that.
    #[arg(long)]
    pub explain: bool,
    /// A variable of the rules, as `define` makes it; may be repeated.
    #[arg(short = 'D', long = "define", value_name = "NAME=VALUE", value_parser = define)]
    pub defines: Vec<(String, String)>,
    /// Write what rules log into a file [default: standard error].
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub log: Option<PathBuf>,

    /// Networks on the left: packets from there have no other source; may be repeated.
    #[arg(long, value_name = "NETWORK", help_heading = SOURCES)]
    pub left_net: Vec<antispoof::Prefix>,
    /// Networks on the right: packets from there have no other source; may be repeated.
    #[arg(long, value_name = "NETWORK", help_heading = SOURCES)]
    pub right_net: Vec<antispoof::Prefix>,
    /// Drop packets whose source no host can have: loopback, multicast, broadcast, reserved, the
    /// destination itself; implied by --left-net and --right-net.
    #[arg(long, help_heading = SOURCES)]
    pub no_martians: bool,

    /// Connections that are tracked at most.
    #[arg(long, value_name = "NUMBER", help_heading = TRACKING, default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(1..=16_777_216))]
    pub max: u32,
    /// Connections that a source may have, a /64 of IPv6 counted as one [default: any number].
    #[arg(long, value_name = "NUMBER", help_heading = TRACKING)]
    pub per_source: Option<u32>,
    /// A connection whose start was not seen is invalid, instead of picked up.
    #[arg(long, help_heading = TRACKING)]
    pub strict: bool,
    /// Segments out of a connection's window are not invalid.
    #[arg(long, help_heading = TRACKING)]
    pub liberal: bool,
    /// The neighbours.
    #[command(flatten)]
    pub function: FunctionArgs,
}

fn define(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=');
    let (name, value) = pair.ok_or("expected NAME=VALUE, such as lan=10.0.0.0/8")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

const SOURCES: &str = "Where sources belong";
const TRACKING: &str = "Connections";

const AFTER_HELP: &str = "\
The rules are a subset of what `nft -f` reads; what is not supported is refused with its place. A
stage forwards: chains of the hooks prerouting, forward and postrouting see its packets, and the
interfaces are called \"left\" and \"right\". On a recording, packets come from the left, but for
those of an interface called right. SIGUSR2 reads the rules again; connections, counters and sets
stay, and rules that are wrong are not taken. See docs/firewall.md.

Examples:
  plumb if tap0 | plumb firewall rules.nft | plumb if tap1
  plumb firewall --explain rules.nft < in.pcapng > verdicts.pcapng
  tcpdump -i eth0 -w - | plumb firewall --explain rules.nft | wireshark -k -i -
  plumb firewall --check rules.nft";
