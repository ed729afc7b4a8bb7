//! The `plumb` command: arguments, resolved settings, commands, output.
//!
//! [`args`] is what can be written on the command line; [`settings`] adds what files and the
//! environment say and resolves all of it into what a command needs; [`mod@command`] has one module a
//! verb; [`output`] one a format.

#![forbid(unsafe_code)]

pub mod args;
pub mod command;
pub mod exit;
pub mod export;
pub mod output;
pub mod settings;
pub mod targets;

mod live;
mod names;
mod stage;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use args::Plumb;
use exit::Exit;
use settings::Layers;

/// Runs `plumb` with the arguments, environment and directory of this process.
pub fn main() -> ExitCode {
    let result = if command::vm::hold::is_holder() {
        command::vm::hold::main()
    } else if command::vm::control::is_controller() {
        command::vm::control::main()
    } else {
        run(std::env::args_os().collect())
    };
    match result {
        Ok(code) => code,
        Err(error) => exit::report(&error).into(),
    }
}

/// The command line that this process was started with by whoever runs plumb.
fn arguments() -> impl Iterator<Item = OsString> {
    let own = command::vm::control::own_arguments();
    std::env::args_os().skip(own)
}

/// The command line as clap knows it, for man pages and completions.
pub fn command() -> clap::Command {
    Plumb::command()
}

/// A verb with all that it takes. In [`command`], clap knows of a verb no more than its name and summary
/// until the verb is met.
fn verb(name: &str) -> Option<clap::Command> {
    let verb = command().find_subcommand(name)?.clone();
    let mut verb = verb.disable_help_flag(true);
    verb.build();
    Some(verb)
}

fn run(arguments: Vec<OsString>) -> anyhow::Result<ExitCode> {
    match parse(arguments, &[])? {
        Ok(plumb) => command::run(plumb.command),
        Err(shown) => Ok(show(&shown)),
    }
}

/// Reads a command line, and in front of its own options those that files and environment say,
/// but for the keys `without`.
fn parse(
    mut arguments: Vec<OsString>,
    without: &[&str],
) -> anyhow::Result<Result<Plumb, clap::Error>> {
    let matches = match command().try_get_matches_from(&arguments) {
        Ok(matches) => matches,
        Err(shown) => return Ok(Err(shown)),
    };
    let section = arguments.get(1).and_then(|a| a.to_str()).unwrap_or("");
    let section = if section == "traceroute" {
        "trace"
    } else {
        section
    };
    if !settings::SECTIONS.contains(&section) {
        return Ok(Plumb::from_arg_matches(&matches));
    }
    let mut layers = Layers::load(&settings::Sources::of_process())?.arguments(section);
    layers.retain(|argument| {
        let key = argument
            .split('=')
            .next()
            .and_then(|k| k.strip_prefix("--"));
        key.is_none_or(|key| !without.contains(&key))
    });
    if layers.is_empty() {
        return Ok(Plumb::from_arg_matches(&matches));
    }
    arguments.splice(2..2, layers.into_iter().map(OsString::from));
    Ok(command()
        .try_get_matches_from(&arguments)
        .and_then(|matches| Plumb::from_arg_matches(&matches)))
}

/// Prints a usage error, a help text or the version.
fn show(shown: &clap::Error) -> ExitCode {
    drop(shown.print());
    if shown.use_stderr() {
        Exit::Usage.into()
    } else {
        Exit::Reached.into()
    }
}
