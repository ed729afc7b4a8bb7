//! The packages of this workspace and of its dependencies, as `cargo metadata` tells them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// A package.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Folder of its manifest.
    pub(crate) folder: PathBuf,
    /// Where it was downloaded from; none for a package of this workspace.
    pub(crate) source: Option<String>,
    /// SPDX expression.
    pub(crate) licence: Option<String>,
    pub(crate) dependencies: Vec<Dependency>,
    /// Root files of its libraries and binaries.
    pub(crate) roots: Vec<PathBuf>,
}

/// A dependency as a manifest states it.
#[derive(Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// The name that code calls it by.
    pub(crate) ident: String,
    pub(crate) kind: Kind,
}

/// Which section of the manifest a dependency is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Build,
    Dev,
    Normal,
}

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// The folder that cargo builds into.
pub(crate) fn target() -> Result<PathBuf> {
    let target = text(&metadata(&["--no-deps"])?["target_directory"]);
    Ok(target
        .context("cargo metadata names no target directory")?
        .into())
}

/// The command that started this process as one of its own would.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

/// The packages of this workspace.
pub(crate) fn members() -> Result<Vec<Package>> {
    packages(&["--no-deps"])
}

/// The unikernel's image, which is a workspace of its own.
const IMAGE: [&str; 2] = ["--manifest-path", "unikernel/image/Cargo.toml"];

/// The package of the unikernel's image.
pub(crate) fn image() -> Result<Vec<Package>> {
    packages(&[IMAGE[0], IMAGE[1], "--no-deps"])
}

/// All packages that a build on this platform, tests and the image included, consists of.
pub(crate) fn all() -> Result<Vec<Package>> {
    let rustc = Command::new("rustc")
        .arg("-vV")
        .output()
        .context("rustc does not start")?;
    let version = String::from_utf8(rustc.stdout)?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc -vV names no host")?;
    let mut all = packages(&["--filter-platform", host])?;
    for package in packages(&[IMAGE[0], IMAGE[1], "--filter-platform", host])? {
        let same =
            |other: &Package| (&other.name, &other.version) == (&package.name, &package.version);
        if !all.iter().any(same) {
            all.push(package);
        }
    }
    Ok(all)
}

fn packages(arguments: &[&str]) -> Result<Vec<Package>> {
    let metadata = metadata(arguments)?;
    let packages = list(&metadata["packages"])
        .map(package)
        .collect::<Option<_>>();
    packages.context("cargo metadata has another form than expected")
}

fn metadata(arguments: &[&str]) -> Result<Value> {
    let output = cargo()
        .args(["metadata", "--format-version=1", "--locked"])
        .args(arguments)
        .output()
        .context("cargo does not start")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata fails: {stderr}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn package(value: &Value) -> Option<Package> {
    let manifest = Path::new(value["manifest_path"].as_str()?);
    let roots = list(&value["targets"])
        .filter(|target| {
            list(&target["kind"]).any(|kind| matches!(kind.as_str(), Some("lib" | "bin")))
        })
        .filter_map(|target| target["src_path"].as_str().map(PathBuf::from));
    Some(Package {
        name: text(&value["name"])?,
        version: text(&value["version"])?,
        folder: manifest.parent()?.to_path_buf(),
        source: text(&value["source"]),
        licence: text(&value["license"]),
        dependencies: list(&value["dependencies"])
            .map(dependency)
            .collect::<Option<_>>()?,
        roots: roots.collect(),
    })
}

fn dependency(value: &Value) -> Option<Dependency> {
    let name = text(&value["name"])?;
    Some(Dependency {
        ident: text(&value["rename"])
            .unwrap_or_else(|| name.clone())
            .replace('-', "_"),
        kind: match value["kind"].as_str() {
            Some("build") => Kind::Build,
            Some("dev") => Kind::Dev,
            _ => Kind::Normal,
        },
        name,
    })
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}
