//! `plumb vm`: the probing engine in machines of its own.

mod hold;
mod machine;
mod state;
mod status;
mod stay;
mod uplink;

use crate::args::{Vm, VmCommand};
use crate::exit::Exit;

pub(super) fn run(args: Vm) -> anyhow::Result<Exit> {
    match args.command {
        VmCommand::Start { options, .. } => stay::start(&options),
        VmCommand::Hold { name, options } => hold::run(name.as_deref(), &options),
        VmCommand::List { json } => stay::list(json),
        VmCommand::Logs { name, follow } => stay::logs(&name, follow),
        VmCommand::Stop { names, all } => stay::stop(&names, all),
    }
}
