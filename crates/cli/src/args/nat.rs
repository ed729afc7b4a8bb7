//! `plumb nat`.

use core::net::Ipv4Addr;
use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};
use plumb_nf::nat::Forward;

use super::{AddressRange, ForwardedPorts, FunctionArgs, Network, PortRange, Seconds, StaticPair};

/// Arguments of `plumb nat`.
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Nat {
    /// Addresses on the right that stand for the hosts on the left: one, a range such as
    /// 198.51.100.1-198.51.100.4, or several with commas.
    #[arg(
        long,
        value_name = "ADDRESSES",
        value_delimiter = ',',
        required_unless_present = "fixed"
    )]
    pub outside: Vec<AddressRange>,
    /// Networks that are on the left, such as 10.0.0.0/8; packets from others are dropped
    /// [default: any].
    #[arg(long, value_name = "NETWORKS", value_delimiter = ',')]
    pub inside: Vec<Network>,
    /// Ports that lead inside: tcp:8080=10.0.0.2:80, or tcp:198.51.100.1:8000-8010=10.0.0.2:8000;
    /// may be repeated.
    #[arg(long, value_name = "PORTS")]
    pub forward: Vec<ForwardedPorts>,
    /// An outside address for one inside host alone: 198.51.100.9=10.0.0.9; may be repeated.
    #[arg(long = "static", id = "fixed", value_name = "OUTSIDE=INSIDE")]
    pub fixed: Vec<StaticPair>,
    /// Who outside may send to a mapping.
    #[arg(long, value_enum, default_value_t = FilteringName::AddressAndPortDependent)]
    pub filtering: FilteringName,
    /// Packets from the inside to an outside address are dropped instead of coming back in.
    #[arg(long)]
    pub no_hairpin: bool,
    /// The NAT counts as a hop: it lowers the TTL, and says so where it expires.
    #[arg(long)]
    pub decrement_ttl: bool,

    /// Ports that may be given out.
    #[arg(long, value_name = "FIRST-LAST", help_heading = LIMITS, default_value = "1-65535")]
    pub ports: PortRange,
    /// A mapping takes the port of the inside endpoint where that is free.
    #[arg(long, help_heading = LIMITS)]
    pub preserve_ports: bool,
    /// Give ports to hosts in blocks of this size; the log then names blocks only.
    #[arg(long, value_name = "PORTS", help_heading = LIMITS, value_parser = clap::value_parser!(u16).range(2..))]
    pub port_block: Option<u16>,
    /// Blocks that a host may have.
    #[arg(long, value_name = "BLOCKS", help_heading = LIMITS, default_value_t = 4, requires = "port_block", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub blocks_per_host: u16,
    /// Mappings that a host may have [default: any number].
    #[arg(long, value_name = "MAPPINGS", help_heading = LIMITS, value_parser = clap::value_parser!(u32).range(1..))]
    pub per_host: Option<u32>,
    /// Mappings, and pairs of a mapping and an outside endpoint, that there may be.
    #[arg(long, value_name = "COUNT", help_heading = LIMITS, default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(1..=16_000_000))]
    pub max: u32,

    /// How long a UDP mapping is kept after the last packet outwards; at least 2m.
    #[arg(long, value_name = "TIME", help_heading = TIMEOUTS, default_value = "5m")]
    pub udp_timeout: Seconds,
    /// How long an open TCP connection may be silent; at least 124m.
    #[arg(long, value_name = "TIME", help_heading = TIMEOUTS, default_value = "124m")]
    pub tcp_timeout: Seconds,
    /// How long a TCP connection may take to open or close; at least 4m.
    #[arg(long, value_name = "TIME", help_heading = TIMEOUTS, default_value = "4m")]
    pub tcp_transitory_timeout: Seconds,
    /// How long an ICMP query may be answered; at least 1m.
    #[arg(long, value_name = "TIME", help_heading = TIMEOUTS, default_value = "1m")]
    pub icmp_timeout: Seconds,

    /// Write each mapping that is created or deleted to a file, one JSON object a line
    /// (`plumb schema nat`).
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub log: Option<PathBuf>,
    /// Seed of the choice of ports: the same seed and input give the same output
    /// [default: 1 for a file, unpredictable for live packets].
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// The neighbours.
    #[command(flatten)]
    pub function: FunctionArgs,
}

/// Who outside may send to a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FilteringName {
    /// Everybody.
    #[value(alias = "eif")]
    EndpointIndependent,
    /// Addresses to which the inside endpoint has sent.
    #[value(alias = "adf")]
    AddressDependent,
    /// Endpoints to which the inside endpoint has sent.
    #[value(alias = "apdf")]
    AddressAndPortDependent,
}

impl Nat {
    /// The pool, in order.
    ///
    /// # Errors
    /// If it has more addresses than any NAT needs.
    pub fn pool(&self) -> Result<Vec<Ipv4Addr>, String> {
        const MOST: usize = 65_536;
        let pool: Vec<_> = self
            .outside
            .iter()
            .flat_map(|range| range.0.clone())
            .take(MOST + 1)
            .map(Ipv4Addr::from_bits)
            .collect();
        if pool.len() > MOST {
            return Err(format!("there can be {MOST} outside addresses"));
        }
        Ok(pool)
    }

    /// The forwarded ports; those that name no outside address are of the first of the pool.
    ///
    /// # Errors
    /// If there is no pool to take an address from.
    pub fn forwards(&self, pool: &[Ipv4Addr]) -> Result<Vec<Forward>, String> {
        self.forward
            .iter()
            .map(|ports| {
                let first = pool.first().copied();
                let outside = ports.outside.or(first).ok_or("--forward needs --outside")?;
                Ok(Forward {
                    protocol: ports.protocol,
                    outside,
                    ports: ports.ports.clone(),
                    inside: ports.inside,
                    inside_port: ports.inside_port,
                })
            })
            .collect()
    }
}

const LIMITS: &str = "Ports and limits";
const TIMEOUTS: &str = "Timeouts";

const AFTER_HELP: &str = "\
Packets are read from standard input (pcapng or pcap, Ethernet) and written to standard output
(pcapng). They come from the left, where the hosts are; in a capture of both sides, packets that
arrived at an interface called \"right\" come from outside. If standard input is a file, time is that
of the packets' stamps, and the same input gives the same output. Between two other stages of plumb
packets pass both ways.

Examples:
  plumb nat --outside 198.51.100.1 < in.pcapng > out.pcapng
  plumb nat --outside 198.51.100.1-198.51.100.4 --port-block 512 --log log.ndjson < in.pcap > out.pcapng
  plumb nat --outside 198.51.100.1 --forward tcp:80=10.0.0.2:8080 --filtering endpoint-independent \\
    --counters < both.pcapng | tshark -r -
  plumb exec --addr 10.0.0.2/8 -- ping 10.0.1.2 | plumb nat --outside 10.0.1.1 |
    plumb exec --addr 10.0.1.2/24 --keep -- sleep 10";
