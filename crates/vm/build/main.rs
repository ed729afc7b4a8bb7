//! Builds the unikernel's image, which the library embeds.

#![expect(clippy::print_stdout, reason = "that is how cargo is spoken to")]

use std::path::{Path, PathBuf};

mod image;

/// Files and folders, from the root of the repository, that end up in the image.
const SOURCES: [&str; 15] = [
    "Cargo.toml",
    "crates/channel/Cargo.toml",
    "crates/channel/src",
    "crates/probe/Cargo.toml",
    "crates/probe/src",
    "crates/record/Cargo.toml",
    "crates/record/src",
    "crates/wire/Cargo.toml",
    "crates/wire/src",
    "unikernel/Cargo.toml",
    "unikernel/src",
    "unikernel/image/Cargo.lock",
    "unikernel/image/Cargo.toml",
    "unikernel/image/image.ld",
    "unikernel/image/src",
];

fn main() {
    if let Err(error) = run() {
        for line in error.lines() {
            println!("cargo::error={line}");
        }
        std::process::exit(1);
    }
}

fn run() -> Result<(), String> {
    let variable = |name| std::env::var_os(name).ok_or_else(|| format!("cargo sets no {name}"));
    let out = PathBuf::from(variable("OUT_DIR")?);
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let root = here.ancestors().nth(2).ok_or("this crate has moved")?;

    println!("cargo::rerun-if-changed=build");
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    let copy = out.join("image");
    if std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() != Ok("x86_64") {
        return std::fs::write(copy, []).map_err(|error| error.to_string());
    }
    let built = image::build(root, &target(&out), false)?;
    std::fs::copy(&built, copy).map_err(|error| format!("{}: {error}", built.display()))?;
    Ok(())
}

/// Where cargo keeps the image's own build: one place for all profiles of this one, so that it is
/// built once for `check`, `clippy`, tests and release alike.
fn target(out: &Path) -> PathBuf {
    let tagged = out
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").is_file());
    tagged.unwrap_or(out).join("unikernel")
}
