//! The process that controls the machine of `plumb vm run`.
//!
//! Reading a command line takes some hundred kB of heap and stack, of which the system gets little
//! back, and there may be hundreds of these processes. So what was read is handed to the same
//! program, started anew in the same process.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use plumb_link::memory;
use serde::{Deserialize, Serialize};

use super::run;
use crate::args::{Ping, Trace, VmRun};

/// The name under which this program is started to control a machine. Its order comes next in the
/// arguments, as JSON, and then all of the command line that was read.
const CONTROLLER: &str = "plumb-control";

/// What a controller is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) machine: VmRun,
    pub(super) measurement: Measurement,
}

/// What is measured from the machine.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Measurement {
    Trace(Box<Trace>),
    Ping(Box<Ping>),
}

/// Says whether this process was started to control a machine.
pub(crate) fn is_controller() -> bool {
    std::env::args_os()
        .next()
        .is_some_and(|name| name == CONTROLLER)
}

/// How many of this process's arguments are plumb's own, in front of the user's.
pub(crate) fn own_arguments() -> usize {
    if is_controller() { 2 } else { 0 }
}

/// Does what the order in the arguments says.
pub(crate) fn main() -> anyhow::Result<ExitCode> {
    // The system calls a process after the file that it runs, which has no name here.
    let _ = rustix::thread::set_name(c"plumb");
    memory::spare();
    let order = std::env::args().nth(1).unwrap_or_default();
    let order: Order = serde_json::from_str(&order)?;
    if order.machine.machine.merge {
        // Where that cannot be, the machine says so.
        let _ = memory::merge();
    }
    run::carry_out(order).map(ExitCode::from)
}

/// Starts this program anew, to control the machine with what it has read. Returns if that cannot
/// be: a file name that JSON has no letters for, more targets than a command line holds, no /proc.
pub(super) fn start_anew(order: &Order) {
    if let Ok(json) = serde_json::to_string(order) {
        let _ = Command::new("/proc/self/exe")
            .arg0(CONTROLLER)
            .arg(json)
            .args(std::env::args_os())
            .exec();
    }
}
