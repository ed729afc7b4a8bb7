//! `plumb trace`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum, ValueHint};
use serde::{Deserialize, Serialize};

use super::{Rate, Seconds};

/// Arguments of `plumb trace`.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
#[command(args_override_self = true, after_help = AFTER_HELP, group = ArgGroup::new("what").required(true).multiple(true))]
pub struct Trace {
    /// Name or address to trace to; `-` reads a list from standard input.
    #[arg(value_name = "TARGET", group = "what", value_hint = ValueHint::Hostname)]
    pub target: Vec<String>,

    /// Read targets from a file, one a line; `#` begins a comment, `-` is standard input.
    #[arg(long, value_name = "FILE", group = "what", value_hint = ValueHint::FilePath)]
    pub targets: Option<PathBuf>,

    /// Kind of probe; each keeps what load balancers hash constant over a trace.
    #[arg(long, value_enum, help_heading = PROBES, default_value = "icmp-paris")]
    pub method: MethodName,
    /// Short for --method icmp-paris.
    #[arg(short = 'I', long, help_heading = PROBES, overrides_with_all = ["method", "udp", "tcp"])]
    pub icmp: bool,
    /// Short for --method udp-paris.
    #[arg(short = 'U', long, help_heading = PROBES, overrides_with_all = ["method", "icmp", "tcp"])]
    pub udp: bool,
    /// Short for --method tcp-paris.
    #[arg(short = 'T', long, help_heading = PROBES, overrides_with_all = ["method", "icmp", "udp"])]
    pub tcp: bool,
    /// Trace over IPv4 only.
    #[arg(short = '4', long, help_heading = PROBES, overrides_with = "ipv6")]
    pub ipv4: bool,
    /// Trace over IPv6 only.
    #[arg(short = '6', long, help_heading = PROBES, overrides_with = "ipv4")]
    pub ipv6: bool,
    /// TTL of the first probe.
    #[arg(short, long, value_name = "TTL", help_heading = PROBES, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    pub first: u8,
    /// Highest TTL to probe.
    #[arg(short, long, value_name = "TTL", help_heading = PROBES, default_value_t = 32, value_parser = clap::value_parser!(u8).range(1..))]
    pub max_hops: u8,
    /// Probes per hop before it counts as silent.
    #[arg(short = 'q', long, value_name = "COUNT", help_heading = PROBES, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=15))]
    pub attempts: u8,
    /// Consecutive silent hops that end a trace.
    #[arg(short, long, value_name = "COUNT", help_heading = PROBES, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..))]
    pub gap_limit: u8,
    /// How long to wait for a reply, such as 1s, 300ms or 0.5.
    #[arg(short, long, value_name = "TIME", help_heading = PROBES, default_value = "1s")]
    pub wait: Seconds,
    /// Destination port of UDP and TCP probes [default: 33435, TCP 80].
    #[arg(short, long, help_heading = PROBES, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Length of the probes in bytes, IP header included; raised to the least possible.
    #[arg(long, value_name = "BYTES", help_heading = PROBES, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1500))]
    pub size: u16,
    /// Differentiated services code point of the probes.
    #[arg(long, help_heading = PROBES, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..64))]
    pub dscp: u8,
    /// Flow identifier (ICMP identifier, or source port); another takes another way through load
    /// balancers [default: a different one for each trace].
    #[arg(long, value_name = "NUMBER", help_heading = PROBES, value_parser = clap::value_parser!(u16).range(1..=65534))]
    pub flow: Option<u16>,
    /// Source address.
    #[arg(short, long, value_name = "ADDRESS", help_heading = PROBES)]
    pub source: Option<core::net::IpAddr>,
    /// Interface to send from.
    #[arg(short, long, value_name = "NAME", help_heading = PROBES, value_hint = ValueHint::Other)]
    pub interface: Option<String>,
    /// How packets reach the network; raw sockets need CAP_NET_RAW.
    #[arg(long, value_enum, help_heading = PROBES, default_value_t = ModeName::Auto)]
    pub mode: ModeName,

    /// Most packets per second over all targets, retries and pings included: 1000, 10k or
    /// unlimited.
    #[arg(short, long, value_name = "PPS", help_heading = PACE, default_value = "1000")]
    pub rate: Rate,
    /// TTLs probed at once: 1 costs the fewest probes, more the least time [default: 8, lists 1].
    #[arg(long, value_name = "COUNT", help_heading = PACE, value_parser = clap::value_parser!(u8).range(1..))]
    pub parallel: Option<u8>,
    /// Most targets under way at once.
    #[arg(long, value_name = "COUNT", help_heading = PACE, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    pub window: u32,
    /// Seed of all random choices, to repeat a run [default: from the system].
    #[arg(long, value_name = "NUMBER", help_heading = PACE)]
    pub seed: Option<u64>,

    /// Reveal the routers of hidden tunnels: where a trigger fires, between any two hops, or
    /// never.
    #[arg(long, value_enum, value_name = "WHEN", help_heading = TUNNELS, default_value_t = RevealWhen::Auto)]
    pub reveal: RevealWhen,
    /// Least forward/return path asymmetry that triggers a revelation, in hops.
    #[arg(long, value_name = "HOPS", help_heading = TUNNELS, default_value_t = 3, value_parser = clap::value_parser!(i16).range(1..=255))]
    pub frpla: i16,
    /// Least return tunnel length that triggers a revelation, in hops.
    #[arg(long, value_name = "HOPS", help_heading = TUNNELS, default_value_t = 1, value_parser = clap::value_parser!(i16).range(1..=255))]
    pub rtla: i16,
    /// Least sum of U-turn signatures over consecutive hops that makes an implicit tunnel.
    #[arg(long, value_name = "HOPS", help_heading = TUNNELS, default_value_t = 3, value_parser = clap::value_parser!(i16).range(1..=255))]
    pub uturn: i16,
    /// Least label TTL that makes a tunnel opaque rather than explicit.
    #[arg(long, value_name = "TTL", help_heading = TUNNELS, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=254))]
    pub opaque_ttl: u8,
    /// Echo requests per hop address, for fingerprints and triggers.
    #[arg(long, value_name = "COUNT", help_heading = TUNNELS, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    pub pings: u8,
    /// Stop after the first hidden tunnel that was revealed on a path.
    #[arg(long, help_heading = TUNNELS)]
    pub first_tunnel_only: bool,
    /// Plain traceroute: no pings, no tunnels.
    #[arg(long, help_heading = TUNNELS)]
    pub no_tunnels: bool,
    /// How long results of pings and revelations are shared between targets.
    #[arg(long, value_name = "TIME", help_heading = TUNNELS, default_value = "1h")]
    pub cache_lifetime: Seconds,

    /// What to print.
    #[arg(long, value_enum, help_heading = OUTPUT, default_value_t = Format::Table, overrides_with = "json")]
    pub format: Format,
    /// Short for --format json.
    #[arg(long, help_heading = OUTPUT, overrides_with = "format")]
    pub json: bool,
    /// Write the result to a file instead of standard output.
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT, value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Write all packets sent and received to a file as pcapng.
    #[arg(long, value_name = "FILE", help_heading = OUTPUT, value_hint = ValueHint::FilePath)]
    pub pcap: Option<PathBuf>,
    /// Look up the names of hops.
    #[arg(long, help_heading = OUTPUT, overrides_with = "numeric")]
    pub names: bool,
    /// Don't look up names of hops (the default; for traceroute's fingers).
    #[arg(short, long, help_heading = OUTPUT, overrides_with = "names")]
    pub numeric: bool,
    /// Continuous view in the terminal.
    #[arg(long, help_heading = OUTPUT)]
    pub live: bool,
    /// With --live: time between rounds.
    #[arg(long, value_name = "TIME", help_heading = OUTPUT, default_value = "1s")]
    pub interval: Seconds,
    /// Follow the targets without a view, and print a report after some rounds.
    #[arg(long, help_heading = OUTPUT)]
    pub report: bool,
    /// With --live: rounds per target [default: no end]; with --report [default: 10].
    #[arg(short = 'c', long, alias = "count", value_name = "COUNT", help_heading = OUTPUT, value_parser = clap::value_parser!(u64).range(1..))]
    pub rounds: Option<u64>,
    /// With --live: time between looks for tunnels; 0 looks in the first round only.
    #[arg(long, value_name = "TIME", help_heading = OUTPUT, default_value = "1m")]
    pub recheck: Seconds,
    /// Show how far a list has come, on standard error.
    #[arg(long, value_enum, value_name = "WHEN", help_heading = OUTPUT, default_value_t = ProgressWhen::Auto)]
    pub progress: ProgressWhen,
    /// Print the first probes that would be sent, one a line, and send nothing.
    #[arg(long, help_heading = OUTPUT)]
    pub dry_run: bool,
    /// Show more of each reply.
    #[arg(short, long, help_heading = OUTPUT)]
    pub verbose: bool,
}

/// `--method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum MethodName {
    /// ICMP echo requests with constant checksum and identifier.
    IcmpParis,
    /// UDP datagrams with constant ports.
    UdpParis,
    /// TCP SYN segments with constant ports.
    TcpParis,
}

/// `--mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum ModeName {
    /// Raw sockets if they may be had, else unprivileged ones.
    Auto,
    /// A packet socket, for the highest rates: past local packet filters and queues; raw IP
    /// sockets for what it cannot send.
    Packet,
    /// Raw IP sockets.
    Raw,
    /// ICMP and UDP sockets that need no privilege: without TCP probes, quoted TTLs and IP
    /// identifications.
    Unprivileged,
}

/// `--reveal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum RevealWhen {
    /// Where a trigger fires.
    Auto,
    /// Between any two consecutive hops.
    Always,
    /// Never; triggers are still shown.
    Never,
}

/// `--format` of `plumb trace`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Format {
    /// A table for people.
    Table,
    /// NDJSON, one record a line (plumb schema trace).
    Json,
    /// The text layout of TNT's dump.
    Tnt,
    /// The JSON lines of scamper.
    ScamperJson,
}

/// `--progress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum ProgressWhen {
    /// On a terminal, for lists.
    Auto,
    /// Never.
    Never,
}

const PROBES: &str = "Probes";
const PACE: &str = "Pace";
const TUNNELS: &str = "MPLS tunnels";
const OUTPUT: &str = "Output";

const AFTER_HELP: &str = "\
Examples:
  plumb trace example.com                      trace, and reveal tunnels
  plumb trace -T -p 443 2001:db8::1            TCP SYN to port 443, over IPv6
  plumb trace --reveal always --json 192.0.2.7 try every pair of hops; records as NDJSON
  plumb trace --targets list.txt -r 10k --json -o traces.ndjson
  zcat list.gz | plumb trace - --format tnt    TNT's text layout
  plumb trace --live 1.1.1.1 9.9.9.9           continuous view
  plumb trace --report -c 10 example.com       loss and delay over ten rounds

Every option can also be set in plumb.toml ([trace] max-hops = 20) or in the environment
(PLUMB_TRACE_MAX_HOPS=20); `plumb config show` prints what holds.

Exit status: 0 all reached; 1 a target was not reached; 2 usage or bad input; 3 no permission;
5 some targets could not be used; 130 interrupted.";
