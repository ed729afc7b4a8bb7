//! Every dependency that a manifest names is used by the code beside it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::Report;
use crate::metadata::{self, Kind};

pub(crate) fn check() -> Result<Report> {
    let mut members = metadata::members()?;
    members.extend(metadata::image()?);
    let (mut count, mut faults) = (0, Vec::new());
    for package in &members {
        let (source, tests) = sources(&package.folder)?;
        for dependency in &package.dependencies {
            count += 1;
            let ident = &dependency.ident;
            let used = match dependency.kind {
                Kind::Normal => names(&source, ident),
                Kind::Build | Kind::Dev => names(&source, ident) || names(&tests, ident),
            };
            if !used {
                let manifest = package.folder.join("Cargo.toml");
                faults.push(format!(
                    "{}: {} is not used",
                    manifest.display(),
                    dependency.name
                ));
            }
        }
    }
    let checked = format!("{count} dependencies, all used");
    Ok(Report { checked, faults })
}

/// The code of a package: that of its library and binaries, and all other.
fn sources(folder: &Path) -> Result<(String, String)> {
    let (mut source, mut other) = (String::new(), String::new());
    let mut folders = vec![folder.to_path_buf()];
    while let Some(at) = folders.pop() {
        let entries = std::fs::read_dir(&at).with_context(|| format!("{}", at.display()))?;
        for path in entries.map(|entry| entry.map(|e| e.path())) {
            let path: PathBuf = path?;
            if path.is_dir() {
                // A package inside has a manifest of its own.
                if path.file_name() != Some("target".as_ref()) && !path.join("Cargo.toml").exists()
                {
                    folders.push(path);
                }
            } else if path.extension() == Some("rs".as_ref()) {
                let into = if path.starts_with(folder.join("src")) {
                    &mut source
                } else {
                    &mut other
                };
                into.push_str(&std::fs::read_to_string(&path)?);
            }
        }
    }
    Ok((source, other))
}

/// Says whether code names a crate: `ident::`, `use ident`, or `extern crate ident`.
fn names(code: &str, ident: &str) -> bool {
    code.match_indices(ident).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + ident.len()..]);
        let is_part_of_a_name = |c: char| c.is_alphanumeric() || c == '_';
        !before.ends_with(is_part_of_a_name)
            && (after.starts_with("::")
                || (!after.starts_with(is_part_of_a_name)
                    && ["use ", "extern crate "]
                        .iter()
                        .any(|word| before.ends_with(word))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_is_used_where_code_names_it_and_not_where_its_name_is_part_of_another() {
        for code in [
            "use toml;",
            "toml::from_str",
            "#[derive(toml::X)]",
            "extern crate toml as _;",
            "use toml::de;",
        ] {
            assert!(names(code, "toml"), "{code}");
        }
        for code in [
            "",
            "from_toml::x",
            "let toml = 1;",
            "use toml_edit::de;",
            "// toml",
            "tomls::x",
        ] {
            assert!(!names(code, "toml"), "{code}");
        }
    }
}
