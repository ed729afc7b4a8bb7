//! Simulated networks over a TUN device.

use std::ffi::OsStr;
use std::process::Command;

use crate::{Done, plumb, run};

/// `plumb lab run LAB --`, to which a command can be added.
pub fn lab_command(lab: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(plumb());
    command.args(["lab", "run"]).arg(lab).arg("--");
    command
}

/// Runs plumb with `arguments` inside the built-in lab of this name.
pub fn in_lab(lab: &str, arguments: &[&str]) -> Done {
    run(lab_command(lab).arg(plumb()).args(arguments))
}
