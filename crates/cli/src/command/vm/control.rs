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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Command, Plumb, VmCommand};

    fn parse(line: &str) -> Command {
        Plumb::try_parse_from(line.split(' ')).unwrap().command
    }

    fn order(machine: &str, measurement: &str) -> Order {
        let Command::Vm(vm) = parse(machine) else {
            panic!("{machine}");
        };
        let VmCommand::Run(machine) = vm.0.command else {
            panic!("{machine}");
        };
        let command = parse(measurement);
        let measurement = if let Command::Trace(what) = command {
            Measurement::Trace(what.0)
        } else if let Command::Ping(what) = command {
            Measurement::Ping(what.0)
        } else {
            panic!("{measurement}");
        };
        let machine = VmRun {
            measurement: Vec::new(),
            ..*machine
        };
        Order {
            machine,
            measurement,
        }
    }

    #[test]
    fn what_was_read_of_a_command_line_arrives_as_it_was() {
        let plain = "plumb vm run -- ping 1.1.1.1";
        let full = "plumb vm run --runner qemu --machine q35 --accel tcg --mem 16 --merge --poll \
                    --uplink br0 --address 192.0.2.2/24 --address fd00::2/64 --gateway fd00::1 \
                    --mac 02:00:00:00:00:09 --mtu 1400 --image /i --deadline 1500ms -v -- ping x";
        for (machine, measurement) in [
            (plain, "plumb trace example.com"),
            (plain, "plumb ping -c 0 example.com"),
            (
                full,
                "plumb trace -T -6 -p 443 -f 2 -m 9 -w 0.3 -s ::1 -r 10k --seed 7 --reveal never \
                 --format tnt --output /o --pcap /p --names --live --recheck 2m a b",
            ),
            (
                full,
                "plumb ping --targets - -i 20ms -r unlimited --json -q --progress never",
            ),
        ] {
            let given = order(machine, measurement);
            let json = serde_json::to_string(&given).unwrap();
            let read: Order = serde_json::from_str(&json).unwrap();
            assert_eq!(format!("{read:?}"), format!("{given:?}"));
        }
    }
}
