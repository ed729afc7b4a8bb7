//! Builds the unikernel's image alone, and says what it consists of.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use crate::Report;
use crate::metadata;

#[path = "../../crates/vm/build/image.rs"]
mod build;
#[expect(
    unreachable_pub,
    reason = "it is a public module where it lives, and compiled here a second time: whoever \
              needs that crate builds the image"
)]
#[path = "../../crates/vm/src/image/mod.rs"]
mod describe;

/// `image [--symbols] [--output FILE]`.
pub(crate) fn run(arguments: &[&str]) -> Result<Report> {
    let (mut symbols, mut output) = (false, None);
    let mut arguments = arguments.iter();
    while let Some(&argument) = arguments.next() {
        match argument {
            "--symbols" => symbols = true,
            "--output" => output = Some(*arguments.next().context("--output names a file")?),
            other => {
                bail!("unknown: {other}; usage: cargo xtask image [--symbols] [--output FILE]")
            }
        }
    }
    let target = metadata::target()?.join("unikernel");
    let built =
        build::build(&metadata::root(), &target, symbols).map_err(|error| anyhow!(error))?;
    let image = std::fs::read(&built).with_context(|| built.display().to_string())?;
    let file = output.map(PathBuf::from);
    if let Some(file) = &file {
        std::fs::write(file, &image).with_context(|| file.display().to_string())?;
    }
    let description = describe::Description::of(&image).context("that is no ELF file")?;
    let file: &Path = file.as_deref().unwrap_or(&built);
    let checked = format!("file     {}\n{}", file.display(), description);
    let checked = checked.trim_end().to_owned();
    Ok(Report {
        checked,
        faults: Vec::new(),
    })
}
