//! `plumb flow`.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::str::FromStr;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum, ValueHint};
use plumb_ebpf::flow::optional_programs;

use super::{ExportArgs, Prefix, Seconds};

/// Arguments of `plumb flow`.
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Flow {
    /// How profiles are written.
    #[arg(long, value_enum, default_value_t = FlowFormat::Table)]
    pub format: FlowFormat,
    /// NDJSON, the same as --format json.
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// Write to a file instead of standard output.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Stop after this time [default: go on until interrupted].
    #[arg(long, value_name = "TIME")]
    pub duration: Option<Seconds>,
    /// Show the connections that are there and those that have just ended on the terminal, as they
    /// fare; ? shows the keys.
    #[arg(long, conflicts_with_all = ["format", "json", "output", "capabilities"])]
    pub live: bool,
    /// What --live sorts by: a field of the records (docs/kpis.md), or rate, send_rate,
    /// receive_rate, retransmission_ratio, age.
    #[arg(long, value_name = "FIELD", requires = "live", default_value = "rate")]
    pub sort: String,
    /// Time between two looks of --live at the connections.
    #[arg(long, value_name = "TIME", requires = "live", default_value = "1s")]
    pub interval: Seconds,
    /// Print what this kernel can tell about connections, and why it cannot tell the rest.
    #[arg(long)]
    pub capabilities: bool,

    /// Connections with an end in this network: 10.0.0.0/8, 2001:db8::/32; may be repeated.
    #[arg(long = "net", value_name = "NETWORK", help_heading = WHICH)]
    pub nets: Vec<Prefix>,
    /// Connections with this port at either end; may be repeated.
    #[arg(long = "port", value_name = "PORT", help_heading = WHICH)]
    pub ports: Vec<u16>,
    /// Connections of this process, by name or number; may be repeated.
    #[arg(long = "process", value_name = "NAME|PID", help_heading = WHICH)]
    pub processes: Vec<String>,
    /// Connections of this control group (version 2) and those below it: a path from the root of
    /// its hierarchy, such as /system.slice/nginx.service.
    #[arg(long, value_name = "PATH", help_heading = WHICH, value_hint = ValueHint::DirPath)]
    pub cgroup: Option<PathBuf>,
    /// Connections in this network namespace: a name of `ip netns`, the number of a process in it,
    /// or a file [default: all].
    #[arg(long, value_name = "NAMESPACE", help_heading = WHICH)]
    pub netns: Option<String>,
    /// One connection in so many, chosen at random.
    #[arg(long, value_name = "NUMBER", help_heading = WHICH, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub sample: u32,

    /// Look at each segment that comes in, too: round-trip times one by one, distance out of order,
    /// windows that closed, head-of-line stalls of multipath connections. Costs the kernel some
    /// time for each (docs/flow.md).
    #[arg(long, help_heading = DEPTH)]
    pub per_segment: bool,

    /// Watch name lookups, too: every query over UDP to port 53, of the whole host or of --cgroup,
    /// with the time to its answer and what that said.
    #[arg(long, help_heading = BESIDES)]
    pub dns: bool,
    /// Take profiles of QUIC connections from the processes that have them, over a Unix socket that
    /// is made at this path (docs/quic.md).
    #[arg(long, value_name = "PATH", help_heading = BESIDES, value_hint = ValueHint::FilePath)]
    pub quic_socket: Option<PathBuf>,

    /// A profile of a connection that goes on is written after this time.
    #[arg(long, value_name = "TIME", help_heading = LIMITS, default_value = "60s")]
    pub active_timeout: Seconds,
    /// And when nothing has happened for this time.
    #[arg(long, value_name = "TIME", help_heading = LIMITS, default_value = "15s")]
    pub idle_timeout: Seconds,
    /// And when its application is gone and the kernel has gone on sending for this time.
    #[arg(long, value_name = "TIME", help_heading = LIMITS, default_value = "5s")]
    pub orphan_timeout: Seconds,
    /// Profiles per second that are written or sent at most; the others are counted [default: all].
    #[arg(long, value_name = "NUMBER", help_heading = LIMITS, value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// Connections that are remembered at most, some 300 bytes each.
    #[arg(long, value_name = "NUMBER", help_heading = LIMITS, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,
    /// Memory between the kernel and plumb in MiB: 1, 2, 4 and so on. What finds it full is lost, and
    /// counted.
    #[arg(long, value_name = "MIB", help_heading = LIMITS, default_value_t = 4, value_parser = power_of_two)]
    pub ring: u32,
    /// Leave a program out, by its name in --capabilities; may be repeated.
    #[arg(long, value_name = "PROGRAM", help_heading = LIMITS, value_parser = PossibleValuesParser::new(optional_programs()))]
    pub without: Vec<String>,

    /// Answer Prometheus at this address with metrics of plumb itself and sums over all connections:
    /// 9585 or :9585 for this host alone, or ADDRESS:PORT; port 0 for any that is free.
    #[arg(long, value_name = "[ADDRESS:]PORT", help_heading = METRICS)]
    pub metrics: Option<MetricsAddress>,

    /// Bits of addresses that are kept; the others are written as 0: 24, or 24,64 for IPv4 and
    /// IPv6.
    #[arg(long, value_name = "BITS[,BITS]", help_heading = PRIVACY)]
    pub anonymise: Option<KeptBits>,
    /// Where profiles go besides.
    #[command(flatten)]
    pub export: ExportArgs,
}

/// Where metrics are had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricsAddress {
    /// The address to listen at; `None` is this host alone.
    pub host: Option<IpAddr>,
    /// The port; 0 is any that is free.
    pub port: u16,
}

impl FromStr for MetricsAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "expected 9585, 192.0.2.1:9585 or [2001:db8::1]:9585";
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self {
                host: Some(address.ip()),
                port: address.port(),
            });
        }
        let local = text.strip_prefix("localhost:");
        let port = local.or(text.strip_prefix(':')).unwrap_or(text);
        let port = port.parse().map_err(|_| EXAMPLE)?;
        Ok(Self { host: None, port })
    }
}

/// How profiles are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FlowFormat {
    /// A line a profile, for people.
    Table,
    /// NDJSON (`plumb schema flow`).
    Json,
    /// Nothing: for --export alone.
    None,
}

/// Bits of addresses that are kept: of IPv4, of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptBits(pub u8, pub u8);

impl FromStr for KeptBits {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "expected bits such as 24, or 24,64 for IPv4 and IPv6";
        let (v4, v6) = text.split_once(',').unwrap_or((text, ""));
        let v4 = v4.parse().ok().filter(|bits| *bits <= 32).ok_or(EXAMPLE)?;
        let v6 = match v6 {
            // As much of IPv6 as /24 is of IPv4: what one site has.
            "" => 64.min(v4 * 8 / 3),
            bits => bits
                .parse()
                .ok()
                .filter(|bits| *bits <= 128)
                .ok_or(EXAMPLE)?,
        };
        Ok(Self(v4, v6))
    }
}

impl fmt::Display for KeptBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.0, self.1)
    }
}

fn power_of_two(text: &str) -> Result<u32, String> {
    let size = text.parse::<u32>().ok();
    size.filter(|mib| mib.is_power_of_two() && *mib <= 1024)
        .ok_or_else(|| "expected 1, 2, 4 and so on up to 1024".into())
}

const WHICH: &str = "Which connections";
const DEPTH: &str = "What is watched";
const BESIDES: &str = "Besides TCP";
const LIMITS: &str = "Time and limits";
const METRICS: &str = "Metrics";
const PRIVACY: &str = "Privacy";

const AFTER_HELP: &str = "\
Every TCP connection of the host is watched from inside its kernel, in all namespaces and without a
packet being captured. A profile is written when something happens to a connection: it is
established, a retransmission timeout begins a lossy phase, the phase is over, it ends. A connection
without trouble gives two. Each profile covers its own window.

Needs CAP_BPF and CAP_PERFMON, which are given up once the programs are loaded.

Examples:
  sudo plumb flow                               every connection of this host, as it fares
  sudo plumb flow --port 443 --json             one JSON object a line (plumb schema flow)
  sudo plumb flow --process nginx --net 10.0.0.0/8
  sudo plumb flow --format none --export ipfix://collector.example
  sudo plumb flow --netns blue --duration 10s
  sudo plumb flow --format none --metrics 9585  for Prometheus
  sudo plumb flow --live --sort rtt_ns          what is there, the slowest first
  sudo plumb flow --dns --quic-socket /run/plumb/quic.sock
  sudo plumb flow --capabilities                what this kernel can tell";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_bits_are_those_of_a_site_unless_said() {
        assert_eq!("24".parse(), Ok(KeptBits(24, 64)));
        assert_eq!("16".parse(), Ok(KeptBits(16, 42)));
        assert_eq!("32,128".parse(), Ok(KeptBits(32, 128)));
        for wrong in ["", "33", "24,129", "a", "24,64,1"] {
            assert!(wrong.parse::<KeptBits>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn metrics_are_for_this_host_alone_unless_said() {
        let parse = |text: &str| text.parse::<MetricsAddress>().map(|a| (a.host, a.port));
        for text in ["9585", ":9585", "localhost:9585"] {
            assert_eq!(parse(text), Ok((None, 9585)), "{text}");
        }
        let all = parse("[::]:1").unwrap();
        assert_eq!(all, ("::".parse().ok(), 1));
        assert_eq!(parse("192.0.2.1:80").unwrap().1, 80);
        for wrong in [
            "",
            ":",
            "192.0.2.1",
            "host:80",
            "70000",
            "localhost",
            "localhost9",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rings_are_powers_of_two() {
        assert_eq!(power_of_two("8"), Ok(8));
        for wrong in ["0", "3", "2048", "-1", "x"] {
            assert!(power_of_two(wrong).is_err(), "{wrong}");
        }
    }
}
