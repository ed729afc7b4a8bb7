//! The `plumb` binary.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: every page that a monitor touches is there once for each machine.
    if plumb_vm::embedded::is_monitor() {
        plumb_vm::embedded::main();
    }
    plumb_cli::main()
}
