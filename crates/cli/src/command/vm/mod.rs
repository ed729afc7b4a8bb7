//! `plumb vm`: the probing engine in machines of its own.

pub(crate) mod control;
pub(crate) mod hold;
mod image;
mod machine;
mod probe;
mod remote;
mod run;
mod state;
mod status;
mod stay;
mod uplink;
mod words;

use crate::args::{Vm, VmCommand};
use crate::exit::Exit;

pub(super) fn run(args: Vm) -> anyhow::Result<Exit> {
    match args.command {
        VmCommand::Run(args) => run::run(*args),
        VmCommand::Image(args) => image::run(&args),
        VmCommand::Start { name, options } => stay::start(name, options),
        VmCommand::List { json } => stay::list(json),
        VmCommand::Logs { name, follow } => stay::logs(&name, follow),
        VmCommand::Stop { names, all } => stay::stop(&names, all),
    }
}
