//! Every dependency comes from crates.io under a licence that deny.toml allows.
//!
//! `cargo deny` checks the same and advisories too, but would have to be compiled for minutes.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use crate::Report;
use crate::metadata;

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub(crate) fn check() -> Result<Report> {
    let deny = std::fs::read_to_string(metadata::root().join("deny.toml"))?;
    let deny: toml::Table = toml::from_str(&deny).context("deny.toml")?;
    let allowed = deny
        .get("licenses")
        .and_then(|table| table.get("allow")?.as_array());
    let allowed: BTreeSet<&str> = allowed
        .context("deny.toml has no licenses.allow")?
        .iter()
        .filter_map(toml::Value::as_str)
        .collect();

    let packages = metadata::all()?;
    let foreign: Vec<_> = packages
        .iter()
        .filter(|package| package.source.is_some())
        .collect();
    let mut faults = Vec::new();
    for package in &foreign {
        let name = format!("{} {}", package.name, package.version);
        if package.source.as_deref() != Some(REGISTRY) {
            faults.push(format!("{name} is not from crates.io"));
        }
        let expression = package.licence.as_deref().unwrap_or("none");
        if !satisfied(expression, &allowed) {
            faults.push(format!(
                "{name}: deny.toml does not allow its licence, {expression}"
            ));
        }
    }
    let checked = format!(
        "{} packages from crates.io, all licences allowed",
        foreign.len()
    );
    Ok(Report { checked, faults })
}

/// Says whether an SPDX expression (annex D) can be satisfied with the allowed licences. A slash
/// means OR in old manifests; an exception (WITH) only ever permits more.
fn satisfied(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let value = any_of(&mut words, allowed);
    value == Some(true) && words.next().is_none()
}

type Words<'a> = core::iter::Peekable<core::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>, allowed: &BTreeSet<&str>) -> Option<bool> {
    let mut value = all_of(words, allowed)?;
    while words.next_if_eq(&"OR").is_some() {
        value |= all_of(words, allowed)?;
    }
    Some(value)
}

fn all_of(words: &mut Words<'_>, allowed: &BTreeSet<&str>) -> Option<bool> {
    let mut value = one(words, allowed)?;
    while words.next_if_eq(&"AND").is_some() {
        value &= one(words, allowed)?;
    }
    Some(value)
}

fn one(words: &mut Words<'_>, allowed: &BTreeSet<&str>) -> Option<bool> {
    let value = match words.next()? {
        "(" => {
            let value = any_of(words, allowed)?;
            words.next_if_eq(&")")?;
            value
        }
        licence => allowed.contains(licence),
    };
    if words.next_if_eq(&"WITH").is_some() {
        words.next()?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_judged_as_spdx_reads_them() {
        let allowed = BTreeSet::from(["MIT", "Apache-2.0", "Unicode-3.0"]);
        for expression in [
            "MIT",
            "GPL-3.0 OR MIT",
            "MIT/Apache-2.0",
            "Unlicense/MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
            "GPL-3.0 AND BSL-1.0 OR MIT",
        ] {
            assert!(satisfied(expression, &allowed), "{expression}");
        }
        for expression in [
            "",
            "none",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "MIT AND (GPL-3.0 OR LGPL-3.0)",
            "MIT Apache-2.0",
            "(MIT",
            "MIT OR",
        ] {
            assert!(!satisfied(expression, &allowed), "{expression}");
        }
    }
}
