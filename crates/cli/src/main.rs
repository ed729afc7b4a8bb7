//! The `plumb` binary.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    plumb_cli::main()
}
