//! `plumb tap`: copies of the packets of virtual machines.

mod control;
mod flows;
mod machine;
mod outputs;
mod run;
mod settings;
mod sink;
mod sources;

use std::process::ExitCode;

use crate::args::{Tap, TapCommand};

pub(super) fn run(args: Tap) -> anyhow::Result<ExitCode> {
    match args.command {
        None => run::run(&args.run),
        Some(TapCommand::List { json }) => control::list(json),
        Some(TapCommand::Status { id, json }) => control::status(id, json),
        Some(TapCommand::Set {
            id,
            filter,
            reduction,
        }) => control::set(id, filter, &reduction),
        Some(TapCommand::Stop { id }) => control::stop(id),
    }
}
