//! The engines build without the standard library, with what they depend on.
//!
//! The engines alone are built for the host, then a crate that brings a panic handler of its own is
//! checked against them. Where std was drawn in by anything, there are two panic handlers, and the
//! compiler says so. This needs no target that would have to be downloaded.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::Report;
use crate::metadata;

const ENGINES: [&str; 8] = [
    "plumb-wire",
    "plumb-record",
    "plumb-ipfix",
    "plumb-probe",
    "plumb-nf",
    "plumb-sim",
    "plumb-channel",
    "plumb-unikernel",
];

pub(crate) fn check() -> Result<Report> {
    let members = metadata::members()?;
    let engines: Vec<&str> = ENGINES
        .into_iter()
        .filter(|engine| members.iter().any(|member| member.name == *engine))
        .collect();
    // Built alone, so that no other crate of the workspace can switch a feature on.
    let mut cargo = metadata::cargo();
    cargo.args([
        "build",
        "--locked",
        "--lib",
        "--message-format=json-render-diagnostics",
    ]);
    for engine in &engines {
        cargo.args(["--package", engine]);
    }
    let output = cargo.stderr(std::process::Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("the engines do not build");
    }
    let libraries = libraries(&String::from_utf8(output.stdout)?, &engines);
    let folder = metadata::target()?.join("no-std");
    let output = compile(&folder, &libraries)?;
    let mut faults = Vec::new();
    if !output.status.success() {
        faults.push(String::from_utf8_lossy(&output.stderr).into_owned());
        faults
            .push("a dependency of an engine needs std: see the features of what it names".into());
    }
    let checked = format!("{} build without std", engines.join(", "));
    Ok(Report { checked, faults })
}

/// Names and files of the libraries of `engines` among cargo's messages.
fn libraries(messages: &str, engines: &[&str]) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for message in messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
    {
        let name = message["target"]["name"].as_str().unwrap_or_default();
        let ours = engines
            .iter()
            .any(|engine| engine.replace('-', "_") == name);
        let files = message["filenames"].as_array().into_iter().flatten();
        let mut rlibs = files
            .filter_map(Value::as_str)
            .filter(|file| file.ends_with(".rlib"));
        if let (true, Some(file)) = (ours, rlibs.next()) {
            found.push((name.to_owned(), PathBuf::from(file)));
        }
    }
    found
}

/// Checks a crate that has its own panic handler and links `libraries`.
fn compile(folder: &Path, libraries: &[(String, PathBuf)]) -> Result<Output> {
    let mut code = String::from("#![no_std]\n");
    for (name, _) in libraries {
        code.push_str(&format!("extern crate {name} as _;\n"));
    }
    code.push_str("#[panic_handler]\nfn panic(_: &core::panic::PanicInfo<'_>) -> ! { loop {} }\n");
    std::fs::create_dir_all(folder)?;
    let file = folder.join("no_std.rs");
    std::fs::write(&file, code)?;

    let mut rustc = Command::new("rustc");
    rustc.args([
        "--edition=2024",
        "--crate-type=rlib",
        "--emit=metadata",
        "--out-dir",
    ]);
    rustc.arg(folder).arg(&file);
    for (name, library) in libraries {
        rustc
            .arg("--extern")
            .arg(format!("{name}={}", library.display()));
        if let Some(folder) = library.parent() {
            let deps = folder.join("deps");
            rustc
                .arg("-L")
                .arg(format!("dependency={}", deps.display()));
        }
    }
    rustc.output().context("rustc does not start")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_needs_std_is_caught() {
        let folder = std::env::temp_dir().join(format!("plumb-no-std-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let library = |name: &str, code: &str| {
            let source = folder.join(format!("{name}.rs"));
            std::fs::write(&source, code).unwrap();
            let mut rustc = Command::new("rustc");
            rustc
                .args(["--crate-type=rlib", "--edition=2024", "--out-dir"])
                .arg(&folder);
            assert!(rustc.arg(&source).status().unwrap().success());
            (name.to_owned(), folder.join(format!("lib{name}.rlib")))
        };
        let with = library(
            "with",
            "pub fn f() -> std::string::String { std::string::String::new() }",
        );
        let without = library(
            "without",
            "#![no_std] extern crate alloc; pub fn f() -> alloc::string::String { alloc::string::String::new() }",
        );
        let caught = compile(&folder, &[with, without.clone()]).unwrap();
        let fine = compile(&folder, &[without]).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();

        assert!(
            fine.status.success(),
            "{}",
            String::from_utf8_lossy(&fine.stderr)
        );
        assert!(String::from_utf8_lossy(&caught.stderr).contains("panic_impl"));
    }
}
