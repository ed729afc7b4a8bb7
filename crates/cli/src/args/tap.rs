//! `plumb tap`.

use core::str::FromStr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use super::{BitRate, LinkArgs, Mac};

/// Arguments of `plumb tap`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = AFTER_HELP,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct Tap {
    /// What is done with sessions that run.
    #[command(subcommand)]
    pub command: Option<TapCommand>,
    /// Begin a session.
    #[command(flatten)]
    pub run: TapRun,
}

/// What is done with sessions that run.
#[derive(Clone, Debug, Subcommand)]
pub enum TapCommand {
    /// List the sessions of this machine.
    List {
        /// One JSON object a session.
        #[arg(long)]
        json: bool,
    },
    /// Show what became of a session's packets, and why.
    Status {
        /// The session, as `plumb tap list` shows it.
        id: u32,
        /// One JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Change a session while it runs.
    Set {
        /// The session.
        id: u32,
        /// Which packets are chosen, instead of those before.
        #[command(flatten)]
        selection: Selection,
        /// Without the rules that there are.
        #[arg(long, conflicts_with = "rule")]
        no_rules: bool,
        /// Without the prefixes that there are.
        #[arg(long, conflicts_with = "cidr")]
        no_cidr: bool,
        /// What is handed on.
        #[command(flatten)]
        reduction: Reduction,
    },
    /// End a session.
    Stop {
        /// The session.
        id: u32,
    },
}

/// How a session begins.
#[derive(Clone, Debug, Args)]
pub struct TapRun {
    /// Interfaces whose packets are copied. A bridge stands for its ports, those to come included; so
    /// does a name with * or ? for those that match.
    #[arg(value_name = "INTERFACE")]
    pub sources: Vec<String>,
    /// A virtual machine, whose interfaces are found through its process: name of a machine of
    /// QEMU, libvirt, Firecracker or `plumb vm`, or a process id; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub vm: Vec<String>,
    /// The interface with this Ethernet address, or that of the machine which has it; may be given
    /// several times.
    #[arg(long, value_name = "ADDRESS")]
    pub mac: Vec<Mac>,
    /// Look for interfaces in this network namespace: a name, a path, or a process id.
    #[arg(long, value_name = "NAMESPACE")]
    pub netns: Option<String>,
    /// Which way packets go, as the machine behind the interface sees it.
    #[arg(long, value_enum, default_value_t = TapDirection::Both)]
    pub direction: TapDirection,
    /// Wait for interfaces that are not there yet, instead of an error.
    #[arg(long)]
    pub wait: bool,
    /// Which packets are chosen.
    #[command(flatten)]
    pub selection: Selection,
    /// A filter as `tcpdump -ddd` prints it.
    #[arg(long, value_name = "PROGRAM", conflicts_with = "filter")]
    pub bytecode: Option<String>,
    /// What is handed on.
    #[command(flatten)]
    pub reduction: Reduction,
    /// Where copies go, instead of standard output: an interface, vxlan://HOST?vni=N,
    /// geneve://HOST?vni=N, gre://HOST?key=N, erspan://HOST?session=N&type=2 (or 3); or records of
    /// their flows, to an IPFIX collector: ipfix://HOST:PORT, with ",tcp" or ",tls" behind it for
    /// another transport than UDP; may be given several times.
    #[arg(long, value_name = "OUTPUT")]
    pub to: Vec<String>,
    /// Spread flows over the outputs, instead of a copy to each.
    #[arg(long, requires = "to")]
    pub balance: bool,
    /// Write to this file (pcapng), instead of standard output.
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Begin a new file at this size: FILE.1, FILE.2 and so on.
    #[arg(long, value_name = "MEGABYTES", requires = "write", value_parser = clap::value_parser!(u64).range(1..))]
    pub rotate: Option<u64>,
    /// Keep so many files, and remove older ones.
    #[arg(long, value_name = "FILES", requires = "rotate", value_parser = clap::value_parser!(u64).range(1..))]
    pub keep: Option<u64>,
    /// Records of flows.
    #[command(flatten)]
    pub flow: TapFlowArgs,
    /// End after so many packets.
    #[arg(short = 'c', long, value_name = "PACKETS", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Bytes of the ring between kernel and this process, a power of two.
    #[arg(long, value_name = "BYTES", default_value_t = 8 << 20, value_parser = ring_len)]
    pub ring: u32,
    /// How programs are attached [default: tcx, and clsact on kernels without it].
    #[arg(long, value_enum)]
    pub attach: Option<AttachName>,
    /// The neighbour that packets are written to.
    #[command(flatten)]
    pub links: LinkArgs,
}

/// Records of flows.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Flow records")]
pub struct TapFlowArgs {
    /// Write records of flows into this file as NDJSON (plumb.tap/1); - is standard output.
    #[arg(long, value_name = "FILE")]
    pub flows: Option<PathBuf>,
    /// Tell of a flow that goes on each time that so long has passed.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub flow_active: u32,
    /// A flow has ended when nothing has come for so long.
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub flow_idle: u32,
    /// Most flows at a time; of more, the one that has been quiet for the longest is told early.
    #[arg(long, value_name = "FLOWS", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..=16_777_216))]
    pub flow_most: u32,
}

/// Which packets are chosen: those that filter, rules and prefixes all choose.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which packets")]
pub struct Selection {
    /// Copy packets that match this pcap-filter(7) expression only; an empty one is all.
    #[arg(long, value_name = "EXPRESSION")]
    pub filter: Option<String>,
    /// Include or exclude packets that match an expression; may be given several times. The first
    /// rule that matches a packet decides. What none matches is left out if a rule includes, and
    /// chosen otherwise.
    #[arg(long, num_args = 2, value_names = ["include|exclude", "EXPRESSION"])]
    pub rule: Vec<String>,
    /// Copy packets that have an address in this prefix, such as 10.2.0.0/16, or in one of those in
    /// this file, one a line; with a minus before it, those that have none. The longest prefix of
    /// an address counts; may be given several times.
    #[arg(long, value_name = "PREFIX|FILE", allow_hyphen_values = true)]
    pub cidr: Vec<String>,
}

/// What of the chosen packets is handed on.
#[derive(Clone, Debug, Default, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Reductions")]
pub struct Reduction {
    /// Keep the first bytes of a packet only; 0 is all.
    #[arg(short = 's', long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(0..=262_144))]
    pub snaplen: Option<u32>,
    /// Copy one packet in so many, by chance.
    #[arg(long, value_name = "1/N")]
    pub sample: Option<OneIn>,
    /// Copy one flow in so many, each with both its directions.
    #[arg(long, value_name = "1/N")]
    pub sample_flows: Option<OneIn>,
    /// Keep headers only, up to the transport payload.
    #[arg(long, value_name = "WHETHER", num_args = 0..=1, default_missing_value = "true")]
    pub headers: Option<bool>,
    /// Overwrite the transport payload of copies with zeros; headers and lengths stay.
    #[arg(long, value_name = "WHETHER", num_args = 0..=1, default_missing_value = "true")]
    pub mask: Option<bool>,
    /// Copy so many packets in a second at most, such as 50kpps; or bits, such as 100Mbit;
    /// "unlimited" for no cap; once for each.
    #[arg(long, value_name = "RATE")]
    pub rate_limit: Vec<RateLimit>,
    /// Leave out what another interface of the session had within this time; 0 is nothing.
    #[arg(long, value_name = "MILLISECONDS", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub dedup: Option<u32>,
}

/// The direction of packets, as the machine behind the interface sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TapDirection {
    /// What the machine receives.
    In,
    /// What the machine sends. Of a whole bridge, each packet once.
    Out,
    /// Both.
    Both,
}

/// How programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AttachName {
    /// By a link of Linux 6.6, gone with the process whatever ends it.
    Tcx,
    /// By a filter of traffic control.
    Clsact,
}

/// One in so many: "1/64".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneIn(pub u32);

impl FromStr for OneIn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_prefix("1/").unwrap_or(text);
        match number.parse() {
            Ok(n @ 1..) => Ok(Self(n)),
            _ => Err("expected one in so many, such as 1/64".to_owned()),
        }
    }
}

/// A cap on what is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RateLimit {
    /// None.
    Unlimited,
    /// Packets in a second.
    Packets(u64),
    /// Bytes in a second.
    Bytes(u64),
}

impl FromStr for RateLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str =
            "expected packets such as 50kpps, or bits such as 100Mbit, in a second";
        if text == "unlimited" {
            return Ok(Self::Unlimited);
        }
        if let Some(packets) = text.strip_suffix("pps") {
            let rate: BitRate = packets.parse().map_err(|_| EXAMPLE)?;
            return Ok(Self::Packets(rate.0));
        }
        let rate: BitRate = text.parse().map_err(|_| EXAMPLE)?;
        if text.ends_with(|c: char| c.is_ascii_digit()) {
            return Err(EXAMPLE.to_owned());
        }
        Ok(Self::Bytes((rate.0 / 8).max(1)))
    }
}

fn ring_len(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(len) if len.is_power_of_two() && (1 << 16..=1 << 30).contains(&len) => Ok(len),
        _ => Err("expected a power of two from 65536 to 1073741824".to_owned()),
    }
}

const AFTER_HELP: &str = "\
Packets are chosen, cut and copied in the kernel (eBPF); those that are watched are never changed or
held. They are written to standard output as pcapng, or go to the next stage of plumb through shared
memory. When the session ends, however it ends, nothing is left behind.

Directions are those of the machine behind the interface, if it is a TAP device or a pair's end (veth):
\"out\" is what the machine sends. Otherwise they are those of this machine.

Examples:
  plumb tap vm3-tap --filter 'tcp port 443 and net 10.2.0.0/16' --snaplen 128 | tshark -i -
  plumb tap --vm web-1 --direction both --sample 1/64 --to 'vxlan://192.0.2.9?vni=77'
  plumb tap br0 --direction out --to monitor0      each packet of a bridge once
  plumb tap 'vnet*' --write all.pcapng --rotate 100 --keep 10
  plumb tap vm3-tap | plumb count | tcpdump -nr -
  plumb tap --vm web-1 --to ipfix://192.0.2.9:4739 --flows -
  plumb tap br0 --rule exclude 'port 22' --rule include 'net 10.2.0.0/16' --to monitor0
  plumb tap set 4711 --rate-limit 50kpps --cidr tenants.txt";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cap_has_a_unit() {
        assert_eq!("50kpps".parse(), Ok(RateLimit::Packets(50_000)));
        assert_eq!("100Mbit".parse(), Ok(RateLimit::Bytes(12_500_000)));
        assert_eq!("1G".parse(), Ok(RateLimit::Bytes(125_000_000)));
        assert_eq!("unlimited".parse(), Ok(RateLimit::Unlimited));
        for wrong in ["", "50", "pps", "-1pps", "10MB"] {
            assert!(wrong.parse::<RateLimit>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_sample_is_one_in_so_many() {
        assert_eq!("1/64".parse(), Ok(OneIn(64)));
        assert_eq!("64".parse(), Ok(OneIn(64)));
        for wrong in ["", "0", "1/0", "2/64", "1/x"] {
            assert!(wrong.parse::<OneIn>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_ring_has_a_size_that_the_kernel_takes() {
        assert_eq!(ring_len("8388608"), Ok(8 << 20));
        assert!(ring_len("8000000").is_err());
        assert!(ring_len("4096").is_err());
    }
}
