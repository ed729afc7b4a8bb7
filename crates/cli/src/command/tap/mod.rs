//! `plumb tap`: copies of the packets of virtual machines.

mod control;
mod flows;
mod machine;
mod outputs;
mod requests;
mod run;
mod selection;
mod settings;
mod sink;
mod sources;

use std::process::ExitCode;

use plumb_ebpf::tap::Error;

use super::network::program;
use crate::args::{Tap, TapCommand};
use crate::exit::Failure;

pub(super) fn run(args: Tap) -> anyhow::Result<ExitCode> {
    match args.command {
        None => run::run(&args.run),
        Some(TapCommand::List { json }) => control::list(json),
        Some(TapCommand::Status { id, json }) => control::status(id, json),
        Some(TapCommand::Set {
            id,
            selection,
            no_rules,
            no_cidr,
            reduction,
        }) => control::set(id, &selection, no_rules, no_cidr, &reduction),
        Some(TapCommand::Stop { id }) => control::stop(id),
    }
}

/// What the kernel's refusal means for a user.
fn failure(error: &Error) -> Failure {
    if error.is_permission() {
        return Failure::permission(format!(
            "{error}; tapping needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: use sudo, or once \
             `sudo setcap cap_bpf,cap_net_admin,cap_perfmon+ep {}`",
            program()
        ));
    }
    Failure::usage(error.to_string())
}
