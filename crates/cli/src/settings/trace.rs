//! What `plumb trace` will do.

use core::net::IpAddr;
use core::time::Duration;
use std::path::PathBuf;

use plumb_probe::{Config, Reveal, TraceOptions, TunnelOptions};
use plumb_record::Method;

use crate::args::{self, Format, MethodName, ModeName, ProgressWhen, RevealWhen};
use crate::exit::Failure;

/// Where targets come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Targets given as arguments.
    pub arguments: Vec<String>,
    /// A list to be read: a file, or standard input if the path is `-`.
    pub list: Option<PathBuf>,
}

/// The IP versions that names are resolved to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// Whatever the system prefers.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// The resolved settings of `plumb trace`.
#[derive(Clone, Debug)]
pub struct TraceSettings {
    /// Where targets come from.
    pub input: Input,
    /// The IP version of the targets.
    pub family: Family,
    /// What the engine does for each target.
    pub options: TraceOptions,
    /// What the engine does for all of them.
    pub engine: Config,
    /// Seed of the engine's random choices.
    pub seed: u64,
    /// Source address, if the user chose one.
    pub source: Option<IpAddr>,
    /// Interface, if the user chose one.
    pub interface: Option<String>,
    /// How packets reach the network.
    pub mode: ModeName,
    /// What is printed.
    pub format: Format,
    /// Where; `None` is standard output.
    pub output: Option<PathBuf>,
    /// Where all packets are written.
    pub pcap: Option<PathBuf>,
    /// Whether names of hops are looked up.
    pub names: bool,
    /// The pace of the continuous view, if that is wanted.
    pub live: Option<LiveSettings>,
    /// Whether progress may be shown.
    pub progress: bool,
    /// Whether probes are only printed.
    pub dry_run: bool,
    /// Whether more of each reply is shown.
    pub verbose: bool,
}

/// The pace of the continuous view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveSettings {
    /// Time from the start of one round to that of the next.
    pub interval: Duration,
    /// Whether a report is all that is wanted, so that no terminal is needed.
    pub report: bool,
    /// Rounds per target; `None` for no end.
    pub rounds: Option<u64>,
    /// Time between looks for tunnels; `None` for the first round only.
    pub recheck: Option<Duration>,
}

impl TraceSettings {
    /// Resolves what was said.
    ///
    /// # Errors
    ///
    /// When options contradict each other.
    pub fn resolve(args: args::Trace) -> Result<Self, Failure> {
        if args.first > args.max_hops {
            return Err(Failure::usage(format!(
                "--first {} is beyond --max-hops {}",
                args.first, args.max_hops
            )));
        }
        let family = family(args.ipv4, args.ipv6, args.source)?;
        let input = Input::new(args.target, args.targets)?;
        let method = if args.udp {
            Method::UdpParis
        } else if args.tcp {
            Method::TcpParis
        } else if args.icmp {
            Method::IcmpParis
        } else {
            args.method.into()
        };
        let format = if args.json { Format::Json } else { args.format };
        let follows = args.live || args.report;
        let reports = matches!(format, Format::Table | Format::Json);
        if follows && (input.list.is_some() || args.output.is_some() || !reports) {
            return Err(Failure::usage(
                "--live and --report take targets as arguments and write to standard output, \
                 as table or as json",
            ));
        }
        if follows && args.interval.0.is_zero() {
            return Err(Failure::usage("--interval must be more than 0"));
        }
        let live = follows.then_some(LiveSettings {
            interval: args.interval.0,
            report: args.report,
            rounds: args.rounds.or(args.report.then_some(REPORT_ROUNDS)),
            recheck: Some(args.recheck.0).filter(|time| !time.is_zero()),
        });
        let tunnels = (!args.no_tunnels).then_some(TunnelOptions {
            reveal: args.reveal.into(),
            frpla_threshold: args.frpla,
            rtla_threshold: args.rtla,
            uturn_threshold: args.uturn,
            opaque_ttl: args.opaque_ttl,
            pings: args.pings,
            first_only: args.first_tunnel_only,
        });
        let few = input.list.is_none();
        Ok(Self {
            family,
            options: TraceOptions {
                method,
                first_ttl: args.first,
                max_ttl: args.max_hops,
                attempts: args.attempts,
                gap_limit: args.gap_limit,
                wait: wait(args.wait)?,
                parallel: args.parallel.unwrap_or(if few { PARALLEL_FEW } else { 1 }),
                dst_port: args.port.unwrap_or(match method {
                    Method::TcpParis => 80,
                    Method::IcmpParis | Method::UdpParis => 33_435,
                }),
                flow: args.flow,
                tos: args.dscp << 2,
                size: args.size,
                tunnels,
                report_hops: false,
            },
            engine: Config {
                rate: args.rate.0,
                window: usize::try_from(args.window).unwrap_or(usize::MAX),
                cache_lifetime: args.cache_lifetime.0,
                ..Config::default()
            },
            seed: args.seed.unwrap_or_else(random_seed),
            source: args.source,
            interface: args.interface,
            mode: args.mode,
            format,
            output: args.output,
            pcap: args.pcap,
            names: args.names,
            live,
            progress: args.progress == ProgressWhen::Auto,
            dry_run: args.dry_run,
            verbose: args.verbose,
            input,
        })
    }
}

impl Input {
    /// What the targets on the command line and `--targets` come to.
    pub(super) fn new(arguments: Vec<String>, list: Option<PathBuf>) -> Result<Self, Failure> {
        let stdin = arguments.iter().any(|a| a == "-");
        if stdin && (arguments.len() > 1 || list.is_some()) {
            return Err(Failure::usage(
                "`-` reads all targets from standard input; give no others beside it",
            ));
        }
        Ok(if stdin {
            Self {
                arguments: Vec::new(),
                list: Some("-".into()),
            }
        } else {
            Self { arguments, list }
        })
    }
}

impl From<MethodName> for Method {
    fn from(name: MethodName) -> Self {
        match name {
            MethodName::IcmpParis => Self::IcmpParis,
            MethodName::UdpParis => Self::UdpParis,
            MethodName::TcpParis => Self::TcpParis,
        }
    }
}

impl From<RevealWhen> for Reveal {
    fn from(when: RevealWhen) -> Self {
        match when {
            RevealWhen::Auto => Self::Auto,
            RevealWhen::Always => Self::Always,
            RevealWhen::Never => Self::Never,
        }
    }
}

/// TTLs probed at once where a person waits for a few targets.
const PARALLEL_FEW: u8 = 8;

/// Rounds of a report.
const REPORT_ROUNDS: u64 = 10;

/// The longest wait that makes sense for a reply.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

pub(super) fn wait(seconds: args::Seconds) -> Result<Duration, Failure> {
    if seconds.0.is_zero() || seconds.0 > LONGEST_WAIT {
        return Err(Failure::usage(format!(
            "--wait {seconds} is out of range: more than 0 and at most {LONGEST_WAIT:?}"
        )));
    }
    Ok(seconds.0)
}

pub(super) fn family(v4: bool, v6: bool, source: Option<IpAddr>) -> Result<Family, Failure> {
    let asked = match (v4, v6) {
        (true, _) => Family::V4,
        (_, true) => Family::V6,
        _ => Family::Any,
    };
    let of_source = match source {
        Some(IpAddr::V4(_)) => Family::V4,
        Some(IpAddr::V6(_)) => Family::V6,
        None => Family::Any,
    };
    match (asked, of_source) {
        (Family::V4, Family::V6) | (Family::V6, Family::V4) => Err(Failure::usage(
            "--source is an address of the other IP version than -4 or -6 asks for",
        )),
        (Family::Any, of_source) => Ok(of_source),
        (asked, _) => Ok(asked),
    }
}

/// A number that differs from run to run.
pub(super) fn random_seed() -> u64 {
    use core::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}
