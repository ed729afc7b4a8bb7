//! What can be written on the command line, and nothing else.
//!
//! Parsing leaves everything that was not said at `None`; [`settings`](crate::settings) fills it
//! in. Help, man pages and completions come from these types.

mod address;
mod chain;
mod config;
mod count;
mod doctor;
mod exec;
mod export;
mod firewall;
mod flow;
mod impair;
mod interface;
mod lab;
mod link;
mod mirror;
mod nat;
mod ping;
mod schema;
mod tap;
mod trace;
mod value;
mod verb;
mod vm;
mod vm_run;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

pub use address::{AddressRange, ForwardedPorts, Network, PortRange, StaticPair};
pub use chain::Chain;
pub use config::{Config, ConfigCommand};
pub use count::Count;
pub use doctor::Doctor;
pub use exec::Exec;
pub use export::{CollectorAddress, CollectorTransport, Export, ExportArgs};
pub use firewall::Firewall;
pub use flow::{Flow, FlowFormat, KeptBits, MetricsAddress};
pub use impair::{DistributionName, Impair, Way};
pub use interface::{If, Side};
pub use lab::{Lab, LabCommand};
pub use link::{Addressed, FunctionArgs, LinkArgs, PathPair};
pub use mirror::Mirror;
pub use nat::{FilteringName, Nat};
pub use ping::{Ping, PingFormat};
pub use schema::{Schema, SchemaName};
pub use tap::{
    AttachName, OneIn, RateLimit, Reduction, Selection, Tap, TapCommand, TapDirection, TapFlowArgs,
    TapRun,
};
pub use trace::{Format, MethodName, ModeName, ProgressWhen, RevealWhen, Trace};
pub use value::{BitRate, ByteCount, LossModel, Percent, Rate, Seconds};
pub use verb::Verb;
pub use vm::{
    AcceleratorName, Mac, MachineName, MachineOptions, Prefix, RunnerChoice, Vm, VmCommand,
};
pub use vm_run::{VmImage, VmRun};

/// The command line of `plumb`.
#[derive(Debug, Parser)]
#[command(
    name = "plumb",
    version,
    about = "Network observation: traceroute that finds and reveals MPLS tunnels, ping, and a \
             simulated internet to try them on",
    after_help = AFTER_HELP,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub struct Plumb {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs and nouns of `plumb`.
#[derive(Debug, Subcommand)]
// What a verb takes is put together when it is met: to do so for all of them takes a millisecond.
#[command(defer = true)]
pub enum Command {
    /// Trace paths and reveal the MPLS tunnels on them.
    #[command(visible_alias = "traceroute")]
    Trace(Verb<Trace>),
    /// Measure reachability and round-trip time of one or many targets.
    Ping(Verb<Ping>),
    /// Run a command inside a simulated internet.
    Lab(Verb<Lab>),
    /// Join an interface to a packet pipeline.
    If(Verb<If>),
    /// Run a command whose only network is a packet pipeline.
    Exec(Verb<Exec>),
    /// Translate addresses and ports: the hosts on the left share outside addresses on the right.
    Nat(Verb<Nat>),
    /// Filter packets by rules written as for nft.
    Firewall(Verb<Firewall>),
    /// Make a bad link of packets that pass: delay, loss, duplicates, corruption, a rate.
    Impair(Verb<Impair>),
    /// Count the packets that pass.
    Count(Verb<Count>),
    /// Pass packets on, and copy them to a file, an interface or another pipe.
    Mirror(Verb<Mirror>),
    /// Run stages joined by |, with those of plumb in one process.
    Chain(Verb<Chain>),
    /// Copy the packets of virtual machines and other interfaces, in the kernel.
    Tap(Verb<Tap>),
    /// Probe from machines of their own: small virtual ones that start in milliseconds.
    Vm(Verb<Vm>),
    /// Record how every TCP connection of this host fares, from inside its kernel.
    Flow(Verb<Flow>),
    /// Send recorded flow records to IPFIX collectors.
    Export(Verb<Export>),
    /// Check what plumb needs on this machine and say how to fix what is missing.
    Doctor(Verb<Doctor>),
    /// Show the settings and where each came from.
    Config(Verb<Config>),
    /// Print the JSON Schema of the records that --json writes.
    Schema(Verb<Schema>),
    /// Print a completion script for a shell.
    #[command(hide = true)]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the man pages into a directory.
    #[command(hide = true)]
    Man {
        /// The directory.
        directory: PathBuf,
    },
}

const AFTER_HELP: &str = "\
Examples:
  plumb trace example.com             the path, with the MPLS tunnels on it
  plumb ping 1.1.1.1 2606:4700::1111  several targets at once
  plumb lab run php                   a shell inside a simulated MPLS network
  plumb doctor                        what is missing on this machine

Exit status: 0 done and reached; 1 not reached; 2 usage or bad input; 3 no permission;
5 partial result; 130 interrupted.";
