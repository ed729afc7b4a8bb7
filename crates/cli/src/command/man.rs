//! Man pages and completions, from the same source as the help.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::exit::Exit;

pub(super) fn completions(shell: Shell) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut crate::command(), "plumb", &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(Exit::Reached)
}

pub(super) fn pages(directory: &Path) -> anyhow::Result<Exit> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let mut command = crate::command();
    command.build();
    write(&command, directory)?;
    Ok(Exit::Reached)
}

/// Writes the page of `command`, then those of the visible commands below it.
fn write(command: &clap::Command, directory: &Path) -> anyhow::Result<()> {
    let page = Man::new(command.clone())
        .date("")
        .manual("plumb")
        .source(concat!("plumb ", env!("CARGO_PKG_VERSION")));
    let path = directory.join(page.get_filename());
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    if command.has_subcommands() {
        page.render_subcommands_section(&mut text)?;
    }
    if let Some(notes) = command.get_after_help() {
        text.extend(verbatim("EXAMPLES AND NOTES", &notes.to_string()).bytes());
    }
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set())
        .try_for_each(|sub| write(sub, directory))
}

/// A section whose lines stay as they are.
fn verbatim(heading: &str, notes: &str) -> String {
    let mut text = format!(".SH \"{heading}\"\n.nf\n");
    for line in notes.lines() {
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        // A line that begins with one of these would be a request to the formatter.
        if line.starts_with(['.', '\'']) {
            text.push_str("\\&");
        }
        text.push_str(&line);
        text.push('\n');
    }
    text.push_str(".fi\n");
    text
}
