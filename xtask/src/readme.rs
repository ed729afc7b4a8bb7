//! Every command of README.md runs.
//!
//! Commands are the lines that begin with `$ ` in `console` blocks, with the lines that a backslash
//! continues. A block after a `<!-- not run: REASON -->` line is left out, and said so. `plumb` in
//! a command is the binary that `cargo build` makes.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::Report;
use crate::metadata;

/// The longest that a command of a README may take, in seconds.
const PATIENCE: &str = "300";

pub(crate) fn check() -> Result<Report> {
    let root = metadata::root();
    let readme = root.join("README.md");
    let text = std::fs::read_to_string(&readme)
        .with_context(|| format!("{} cannot be read", readme.display()))?;
    let build = metadata::cargo()
        .args(["build", "--locked", "--package", "plumb-cli"])
        .status()?;
    ensure!(build.success(), "plumb does not build");

    // Where this user may neither probe nor make a network, the commands show nothing.
    for needed in ["plumb doctor", "plumb lab run plain -- true"] {
        let Some(why) = run(&root, needed)? else {
            continue;
        };
        let faults = match std::env::var_os("TESTS_NO_SKIP") {
            Some(_) => vec![why],
            None => {
                println!("{why}");
                Vec::new()
            }
        };
        let checked = "the commands of README.md cannot run here".to_owned();
        return Ok(Report { checked, faults });
    }

    let (mut ran, mut faults) = (0, Vec::new());
    for block in blocks(&text) {
        match block {
            Block::Commands(commands) => {
                for command in commands {
                    if command.contains("plumb vm run") && run(&root, MACHINES)?.is_some() {
                        println!("not run: no hypervisor for {command}");
                        continue;
                    }
                    println!("$ {command}");
                    ran += 1;
                    faults.extend(run(&root, &command)?);
                }
            }
            Block::NotRun(reason) => println!("not run: {reason}"),
        }
    }
    let checked = format!("{ran} commands of README.md");
    Ok(Report { checked, faults })
}

/// Succeeds where there is something that runs machines.
const MACHINES: &str = "test -w /dev/kvm || command -v qemu-system-x86_64";

/// Runs a command at the root of the repository and says what went wrong.
fn run(root: &Path, command: &str) -> Result<Option<String>> {
    let mut path = metadata::target()?.join("debug").into_os_string();
    if let Some(others) = std::env::var_os("PATH") {
        path.push(":");
        path.push(others);
    }
    let output = Command::new("timeout")
        .args([PATIENCE, "bash", "-euo", "pipefail", "-c", command])
        .current_dir(root)
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .context("timeout (coreutils) does not start")?;
    if output.status.success() {
        return Ok(None);
    }
    let (stdout, stderr) = (output.stdout, output.stderr);
    Ok(Some(format!(
        "`{command}` ends with {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    )))
}

#[derive(Debug, PartialEq, Eq)]
enum Block {
    Commands(Vec<String>),
    NotRun(String),
}

/// The `console` blocks of a Markdown text.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut reason = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("<!-- not run: ") {
            reason = Some(rest.trim_end_matches("-->").trim().to_owned());
        } else if line.trim() == "```console" {
            let inside: Vec<&str> = lines.by_ref().take_while(|l| l.trim() != "```").collect();
            blocks.push(match reason.take() {
                Some(reason) => Block::NotRun(reason),
                None => Block::Commands(commands(&inside)),
            });
        } else if !line.trim().is_empty() {
            reason = None;
        }
    }
    blocks
}

fn commands(lines: &[&str]) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut continues = false;
    for line in lines {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (_, Some(command)) if continues => {
                command.push('\n');
                command.push_str(line);
            }
            (Some(command), _) => commands.push(command.to_owned()),
            (None, _) => continue,
        }
        continues = line.ends_with('\\');
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_taken_with_their_continuations_and_without_their_output() {
        let text = "# x\n```console\n$ one \\\n  --two\noutput\n$ three\n```\n```rust\n$ no\n```\n";
        let commands = ["one \\\n  --two", "three"].map(str::to_owned);
        assert_eq!(blocks(text), [Block::Commands(commands.to_vec())]);
    }

    #[test]
    fn a_block_is_left_out_only_if_the_line_before_it_says_why() {
        let text = "<!-- not run: takes minutes -->\n\n```console\n$ a\n```\n<!-- not run: x -->\ntext\n```console\n$ b\n```\n";
        assert_eq!(
            blocks(text),
            [
                Block::NotRun("takes minutes".into()),
                Block::Commands(vec!["b".into()])
            ]
        );
    }

    #[test]
    fn a_command_that_fails_is_reported_with_what_it_said() {
        let root = metadata::root();
        assert_eq!(run(&root, "true").unwrap(), None);
        let fault = run(&root, "echo why; false | true").unwrap().unwrap();
        assert!(
            fault.contains("exit status: 1") && fault.contains("why"),
            "{fault}"
        );
    }
}
