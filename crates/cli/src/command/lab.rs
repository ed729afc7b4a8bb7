//! `plumb lab`: a simulated internet around a command.

use std::process::ExitCode;

use crate::args::Lab;

pub(super) fn run(args: Lab) -> anyhow::Result<ExitCode> {
    anyhow::bail!("{:?}: this build has no labs", args.command)
}
