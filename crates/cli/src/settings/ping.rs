//! What `plumb ping` will do.

use core::net::IpAddr;
use std::path::PathBuf;

use plumb_probe::{Config, PingOptions};

use super::trace::{Family, Input, family, random_seed, wait};
use crate::args::{self, ModeName, PingFormat, ProgressWhen};
use crate::exit::Failure;

/// The resolved settings of `plumb ping`.
#[derive(Clone, Debug)]
pub struct PingSettings {
    /// Where targets come from.
    pub input: Input,
    /// The IP version of the targets.
    pub family: Family,
    /// What the engine does for each target; `size` is that of the data alone.
    pub options: PingOptions,
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
    pub format: PingFormat,
    /// Where; `None` is standard output.
    pub output: Option<PathBuf>,
    /// Where all packets are written.
    pub pcap: Option<PathBuf>,
    /// Whether progress may be shown.
    pub progress: bool,
}

impl PingSettings {
    /// Resolves what was said.
    ///
    /// # Errors
    ///
    /// When options contradict each other.
    pub fn resolve(args: args::Ping) -> Result<Self, Failure> {
        let family = family(args.ipv4, args.ipv6, args.source)?;
        let input = Input::new(args.target, args.targets)?;
        if args.count == 0 && input.list.is_some() {
            return Err(Failure::usage(
                "--count 0 never ends, so a list would never get past its first targets",
            ));
        }
        Ok(Self {
            family,
            options: PingOptions {
                count: (args.count > 0).then_some(args.count),
                interval: args.interval.0,
                wait: wait(args.wait)?,
                ttl: args.ttl,
                tos: args.dscp << 2,
                size: args.size,
                report_replies: !args.quiet,
            },
            engine: Config {
                rate: args.rate.0,
                window: usize::try_from(args.window).unwrap_or(usize::MAX),
                ..Config::default()
            },
            seed: args.seed.unwrap_or_else(random_seed),
            source: args.source,
            interface: args.interface,
            mode: args.mode,
            format: if args.json {
                PingFormat::Json
            } else {
                args.format
            },
            output: args.output,
            pcap: args.pcap,
            progress: args.progress == ProgressWhen::Auto,
            input,
        })
    }
}
