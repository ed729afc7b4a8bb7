//! Files of rules, and those that they include.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use plumb_nf::firewall::{Ruleset, Source};

use super::{Defines, bad_rules};
use crate::exit::Failure;

/// Longest file that is read.
const MOST_LEN: u64 = 16 << 20;

/// Reads rules.
pub(super) fn read(path: &Path, defines: &Defines) -> anyhow::Result<Ruleset> {
    let main = source(path).map_err(|error| Failure::usage(format!("{error:#}")))?;
    let ports = ["left".to_owned(), "right".to_owned()];
    let mut include = |from: &str, name: &str| included(from, name);
    Ruleset::parse(main, defines, &ports, &mut include).map_err(|error| bad_rules(&error))
}

fn source(path: &Path) -> anyhow::Result<Source> {
    let reading = || format!("cannot read rules from {}", path.display());
    let file = File::open(path).with_context(reading)?;
    let mut text = String::new();
    let mut bounded = file.take(MOST_LEN + 1);
    bounded.read_to_string(&mut text).with_context(reading)?;
    anyhow::ensure!(
        text.len() as u64 <= MOST_LEN,
        "{}: more than 16 MiB of rules",
        path.display()
    );
    Ok(Source {
        name: path.display().to_string(),
        text,
    })
}

/// The files that a name stands for, from the directory of the file that asks: one, or with `*` in
/// its last part, all that fit, in the order of their names.
fn included(from: &str, name: &str) -> Result<Vec<Source>, String> {
    let directory = Path::new(from).parent().unwrap_or(Path::new(""));
    let wanted = directory.join(name);
    let last = wanted.file_name().map(|last| last.to_string_lossy());
    let paths = match last {
        Some(last) if last.contains('*') => matching(&wanted, &last)?,
        _ => vec![wanted],
    };
    let sources = paths.iter().map(|path| source(path));
    sources
        .map(|source| source.map_err(|error| format!("{error:#}")))
        .collect()
}

fn matching(wanted: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let directory = match wanted.parent() {
        Some(directory) if directory != Path::new("") => directory,
        _ => Path::new("."),
    };
    let entries = directory
        .read_dir()
        .map_err(|error| format!("cannot read {}: {error}", directory.display()))?;
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| fits(&entry.file_name().to_string_lossy(), pattern))
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    Ok(paths)
}

/// Says whether a name fits a pattern, in which `*` stands for anything; hidden files fit none.
fn fits(name: &str, pattern: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything_but_the_start_of_a_hidden_file() {
        for (name, pattern, is_match) in [
            ("a.nft", "*.nft", true),
            ("a.nft", "a*", true),
            ("a.nft", "a*b*.nft", false),
            ("ab.nft", "a*b*.nft", true),
            (".nft", "*nft", false),
            ("nft", "*nft*nft", false),
            ("a.nft", "a.nft", true),
            ("a.nft2", "a.nft", false),
        ] {
            assert_eq!(fits(name, pattern), is_match, "{name} {pattern}");
        }
    }
}
