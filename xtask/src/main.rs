//! Checks of this repository that cargo alone cannot make: `cargo xtask CHECK`.

#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a check's result is what it prints"
)]

mod direction;
mod image;
mod licences;
mod metadata;
mod no_std;
mod readme;
mod unused;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask CHECK

  direction   no crate depends upward, and unsafe code stays in its rooms
  unused      every dependency that a manifest names is used
  licences    every dependency comes from crates.io under a licence that deny.toml allows
  no-std      the engines build without the standard library
  readme      every command of README.md runs
  image       builds the unikernel's image and says what it consists of
              [--symbols] with names and lines, for debuggers  [--output FILE]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let report = match arguments[..] {
        ["direction"] => direction::check(),
        ["unused"] => unused::check(),
        ["licences"] => licences::check(),
        ["no-std"] => no_std::check(),
        ["readme"] => readme::check(),
        ["image", ref rest @ ..] => image::run(rest),
        ["help" | "-h" | "--help"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match report {
        Ok(report) => {
            for fault in &report.faults {
                eprintln!("{fault}");
            }
            if !report.faults.is_empty() {
                return ExitCode::FAILURE;
            }
            println!("{}", report.checked);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What a check found.
struct Report {
    /// What holds if there is no fault, for people.
    checked: String,
    /// What is wrong, one line each, with what to do about it.
    faults: Vec<String>,
}
