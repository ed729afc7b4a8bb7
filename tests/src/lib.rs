//! What whole-system tests need: the binary, commands that cannot hang, chains of network
//! namespaces, simulated networks over TUN, and readers for what plumb and its peers print.
//!
//! Tests that need root, namespaces or a TUN device are named `root_*`. A test that cannot run
//! says so with [`skip!`]; where `TESTS_NO_SKIP` is set, it fails instead.

#![forbid(unsafe_code)]
#![expect(
    clippy::missing_panics_doc,
    reason = "this is part of tests, which panic to fail"
)]

mod binary;
mod chain;
mod command;
mod dissect;
mod flows;
pub mod ipfix_lab;
mod lab;
mod machines;
mod records;
mod schema;
mod shell;
pub mod tap_lab;
mod temporary;
mod terminal;
mod timeless;
mod watch;

pub use binary::plumb;
pub use chain::Chain;
pub use command::{Done, Running, at_once, run, run_with};
pub use dissect::dissect;
pub use flows::{ndjson, profiles};
pub use lab::{in_lab, lab_command};
pub use machines::runners;
pub use records::{Records, line};
pub use schema::Schema;
pub use shell::shell;
pub use temporary::Directory;
pub use terminal::Terminal;
pub use timeless::{timeless, traces};
pub use watch::{SCENARIOS, Watch, namespace, server};

use std::path::Path;

/// Ends the test that calls it, and says on standard error that it did not run, and why.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        fn here() {}
        let test = core::any::type_name_of_val(&here).trim_end_matches("::here");
        $crate::skipped(test, &format!($($reason)*));
        return;
    }};
}

/// Skips the test that calls it unless it runs as root, can make TUN devices, and has the named
/// commands.
#[macro_export]
macro_rules! require {
    ($($tool:expr),* $(,)?) => {
        if let Err(reason) = $crate::requirements(&[$($tool),*]) {
            $crate::skip!("{reason}");
        }
    };
}

/// Says that `test` did not run; what [`skip!`] is made of.
#[expect(clippy::print_stderr, reason = "nobody else says it")]
pub fn skipped(test: &str, reason: &str) {
    assert!(
        std::env::var_os("TESTS_NO_SKIP").is_none(),
        "{test} cannot run: {reason}"
    );
    eprintln!("skipped: {test}: {reason}");
}

/// Whether this process is root, with a TUN device to be had, and whether all `tools` are in PATH.
///
/// # Errors
///
/// What is missing, in words.
pub fn requirements(tools: &[&str]) -> Result<(), String> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let root = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_whitespace().nth(1))
        == Some("0");
    if !root {
        return Err("it needs root".into());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Err("it needs /dev/net/tun".into());
    }
    match tools.iter().find(|tool| !has(tool)) {
        Some(tool) => Err(format!("it needs {tool}, which is not installed")),
        None => Ok(()),
    }
}

/// Whether a command is in PATH or where administrators' commands are.
fn has(tool: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(ADMINISTRATORS_PATH.split(':'))
        .any(|directory| Path::new(directory).join(tool).is_file())
}

/// What PATH lacks on some systems even for root.
const ADMINISTRATORS_PATH: &str = "/usr/local/sbin:/usr/sbin:/sbin";
