//! The commands, one module each.

pub mod chain;
mod config;
mod count;
mod doctor;
mod dry_run;
mod exec;
mod export;
mod feed;
mod firewall;
mod flow;
mod impair;
mod interface;
pub(crate) mod interrupt;
mod lab;
mod lab_bridge;
mod man;
mod mirror;
mod nat;
pub(crate) mod network;
mod ping;
pub(crate) mod prober;
mod schema;
pub(crate) mod session;
mod status;
mod tap;
mod trace;
pub(crate) mod vm;

use std::process::ExitCode;

use crate::args::Command;

/// Runs a command.
///
/// # Errors
///
/// Whatever ended the command; [`exit::status_of`](crate::exit::status_of) tells the exit status.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Trace(args) => trace::run(*args.0).map(ExitCode::from),
        Command::Ping(args) => ping::run(*args.0).map(ExitCode::from),
        Command::Lab(args) => lab::run(*args.0),
        Command::If(args) => interface::run(*args.0),
        Command::Exec(args) => exec::run(*args.0),
        Command::Vm(args) => vm::run(*args.0).map(ExitCode::from),
        Command::Impair(args) => impair::run(&args),
        Command::Count(args) => count::run(&args),
        Command::Chain(args) => chain::run(*args.0),
        Command::Mirror(args) => mirror::run(&args),
        Command::Tap(args) => tap::run(*args.0),
        Command::Nat(args) => nat::run(&args),
        Command::Firewall(args) => firewall::run(&args),
        Command::Flow(args) => flow::run(&args).map(ExitCode::from),
        Command::Export(args) => export::run(&args).map(ExitCode::from),
        Command::Doctor(args) => doctor::run(*args.0).map(ExitCode::from),
        Command::Config(args) => config::run(*args.0).map(ExitCode::from),
        Command::Schema(args) => schema::run(*args.0).map(ExitCode::from),
        Command::Completions { shell } => man::completions(shell).map(ExitCode::from),
        Command::Man { directory } => man::pages(&directory).map(ExitCode::from),
    }
}
