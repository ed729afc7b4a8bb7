//! `plumb chain`: several stages at once.

mod file;
mod fused;
mod plan;
mod processes;
mod text;

use std::process::ExitCode;

use crate::args::{Chain, FunctionArgs};
use crate::exit::Failure;
use fused::Row;
use plan::Kind;

/// The words of each stage of a chain, as a command line says them.
///
/// # Errors
/// What is wrong and where.
pub fn from_line(line: &str) -> Result<Vec<Vec<String>>, String> {
    text::split(line)
}

/// The words of each stage of a chain, as the text of a TOML file says them.
///
/// # Errors
/// What is wrong and where.
pub fn from_toml(text: &str) -> Result<Vec<Vec<String>>, String> {
    file::parse(text, &mut FunctionArgs::default())
}

/// The line of which [`from_line`] makes these stages.
pub fn to_line(stages: &[Vec<String>]) -> String {
    text::join(stages.iter().map(|words| &words[..]))
}

pub(super) fn run(mut args: Chain) -> anyhow::Result<ExitCode> {
    let stages = match (&args.file, &args.stages) {
        (Some(path), _) => file::read(path, &mut args.function)?,
        (None, stages) => {
            text::split(stages.as_deref().unwrap_or_default()).map_err(Failure::usage)?
        }
    };
    let stages = plan::plan(stages)?;
    if stages
        .iter()
        .any(|stage| matches!(stage.kind, Kind::Program))
    {
        return processes::run(stages, &args.function).map(ExitCode::from);
    }
    let mut row = Row::default();
    for (stage, at) in stages.into_iter().zip(0..) {
        match stage.kind {
            Kind::Function(part) => row.parts.push(part),
            Kind::End(end) if at == 0 => row.left = Some(end),
            Kind::End(end) => row.right = Some(end),
            Kind::Program => {}
        }
    }
    fused::run(row, &args.function).map(ExitCode::from)
}
