//! The binary under test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::SystemTime;

/// Path of the `plumb` binary: `TESTED_PLUMB` if set, else the one of this workspace and profile, built
/// if it is older than its sources.
pub fn plumb() -> &'static Path {
    static PLUMB: OnceLock<PathBuf> = OnceLock::new();
    PLUMB.get_or_init(find)
}

fn find() -> PathBuf {
    if let Some(path) = std::env::var_os("TESTED_PLUMB") {
        return path.into();
    }
    // TARGET/PROFILE/deps/this-test, TARGET/PROFILE/plumb
    let exe = std::env::current_exe().expect("the path of this test");
    let directory = exe.parent().and_then(Path::parent).expect("a profile");
    let binary = directory.join("plumb");
    if is_fresh(&binary) {
        return binary;
    }
    let lock = File::create(directory.join(".plumb-tests.lock")).expect("a lock file");
    lock.lock().expect("the lock");
    if is_fresh(&binary) {
        return binary;
    }
    build(directory)
}

/// Whether the binary is younger than every file it was made of.
fn is_fresh(binary: &Path) -> bool {
    let modified = |path: &Path| -> Option<SystemTime> { path.metadata().ok()?.modified().ok() };
    let Some(built) = modified(binary) else {
        return false;
    };
    let Ok(dependencies) = std::fs::read_to_string(binary.with_extension("d")) else {
        return false;
    };
    // One rule, `binary: source source`, with spaces in names escaped.
    let sources = dependencies.replace("\\ ", "\0");
    let mut sources = sources.split_whitespace().skip(1).peekable();
    sources.peek().is_some()
        && sources.all(|source| {
            modified(Path::new(&source.replace('\0', " "))).is_some_and(|at| at <= built)
        })
}

fn build(directory: &Path) -> PathBuf {
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--package", "plumb-cli", "--bin", "plumb"])
        .args(["--profile", profile, "--message-format", "json"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo can be run");
    assert!(output.status.success(), "plumb cannot be built");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?)))
        .next_back()
        .expect("cargo names the binary that it built")
}
