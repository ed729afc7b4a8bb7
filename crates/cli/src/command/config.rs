//! `plumb config`: what holds and why.

use std::io::Write;

use serde::Serialize;

use crate::args::{Config, ConfigCommand};
use crate::exit::Exit;
use crate::settings::{Layers, Origin, SECTIONS, Sources};

pub(super) fn run(args: Config) -> anyhow::Result<Exit> {
    let ConfigCommand::Show { json } = args.command;
    let layers = Layers::load(&Sources::of_process())?;
    let mut out = std::io::stdout().lock();
    for (number, section) in SECTIONS.into_iter().enumerate() {
        if !json {
            let gap = if number == 0 { "" } else { "\n" };
            writeln!(out, "{gap}[{section}]")?;
        }
        for (key, setting) in layers.all(section) {
            if json {
                let line = Line {
                    section,
                    key: &key,
                    value: setting.value.as_deref(),
                    origin: &setting.origin.to_string(),
                };
                writeln!(out, "{}", serde_json::to_string(&line)?)?;
                continue;
            }
            let said = match setting.value {
                Some(value) => format!("{key} = {}", toml_value(&value)),
                None => format!("# {key} is chosen at run time"),
            };
            let from = if setting.origin == Origin::Default {
                ""
            } else {
                "from "
            };
            writeln!(out, "{said:<40} # {from}{}", setting.origin)?;
        }
    }
    Ok(Exit::Reached)
}

/// A line of `plumb config show --json`.
#[derive(Serialize)]
struct Line<'a> {
    section: &'a str,
    key: &'a str,
    value: Option<&'a str>,
    origin: &'a str,
}

/// A value as TOML writes it.
fn toml_value(value: &str) -> String {
    if value.parse::<i64>().is_ok() || value == "true" || value == "false" {
        value.to_owned()
    } else {
        // TOML's basic strings have the escapes of Rust's that can occur in a setting.
        format!("{value:?}")
    }
}
