//! How the unikernel's image is built: shared by this crate's build script and `cargo xtask image`.
//!
//! It needs nothing but what builds the rest: a stable toolchain and its linker. Where the target
//! `x86_64-unknown-none` is installed it is used; otherwise the host's libcore and liballoc serve,
//! which do not know that there is no Linux below them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds the image below `target`, a folder for cargo, and returns its file. With `symbols` it is
/// another file, for debuggers: the same code, with names and lines.
///
/// # Errors
/// In words, if it cannot be built.
pub(crate) fn build(root: &Path, target: &Path, symbols: bool) -> Result<PathBuf, String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let platform = platform(&rustc)?;

    let mut command = Command::new(&cargo);
    // Nothing of the outer build may leak in: its flags, its wrappers (clippy), its profiles.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let leaks = [
            "CARGO_BUILD_",
            "CARGO_CFG_",
            "CARGO_ENCODED_",
            "CARGO_FEATURE_",
        ]
        .into_iter()
        .chain([
            "CARGO_PKG_",
            "CARGO_PROFILE_",
            "CARGO_TARGET_",
            "CARGO_UNSTABLE_",
        ])
        .any(|prefix| text.starts_with(prefix));
        let named = [
            "RUSTFLAGS",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTDOCFLAGS",
        ];
        if leaks || named.contains(&&*text) {
            command.env_remove(&name);
        }
    }
    command
        .current_dir(root.join("unikernel/image"))
        .args([
            "build",
            "--release",
            "--locked",
            "--quiet",
            "--target",
            &platform,
        ])
        .arg("--target-dir")
        .arg(target.join(if symbols { "symbols" } else { "stripped" }))
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            flags(root, &platform).join("\x1f"),
        );
    if symbols {
        command
            .env("CARGO_PROFILE_RELEASE_STRIP", "none")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only");
    }
    let output = command
        .output()
        .map_err(|error| format!("{} does not start: {error}", cargo.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let remedy = if said.contains("--locked") {
            "\nrun: cargo update --workspace --manifest-path unikernel/image/Cargo.toml"
        } else {
            ""
        };
        return Err(format!(
            "the unikernel's image cannot be built for {platform}:\n{said}{remedy}"
        ));
    }
    let folder = target.join(if symbols { "symbols" } else { "stripped" });
    Ok(folder.join(&platform).join("release/plumb-image"))
}

/// The target to build for: the bare one if it is installed, otherwise the host's.
fn platform(rustc: &OsStr) -> Result<String, String> {
    let run = |arguments: &[&str]| {
        let output = Command::new(rustc).args(arguments).output();
        let output =
            output.map_err(|error| format!("{} does not start: {error}", rustc.display()))?;
        Ok::<String, String>(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    const BARE: &str = "x86_64-unknown-none";
    // The path is printed even if nothing is there.
    let libraries = run(&["--print", "target-libdir", "--target", BARE])?;
    if Path::new(libraries.trim()).is_dir() {
        return Ok(BARE.into());
    }
    let about = run(&["-vV"])?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    match host {
        Some(host) if host.starts_with("x86_64-") && host.contains("-linux-") => Ok(host.into()),
        _ => Err(format!(
            "the unikernel's image needs a target that is missing here: rustup target add {BARE}"
        )),
    }
}

/// Flags of the compiler. No linker is named: whichever rustc links the host's programs with
/// understands the script (GNU ld and LLVM's lld are tried).
fn flags(root: &Path, platform: &str) -> Vec<String> {
    let script = root.join("unikernel/image/image.ld");
    let mut flags = vec![
        "-Crelocation-model=static".to_owned(),
        // The least file: with less the same is repeated, with more too much is copied.
        "-Cllvm-args=-inline-threshold=50".to_owned(),
    ];
    // Panics name files: not by where they lie on the machine that built them.
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    if let Some(home) = home {
        flags.push(format!("--remap-path-prefix={}=cargo", home.display()));
    }
    flags.push(format!("--remap-path-prefix={}=plumb", root.display()));
    let mut link =
        |words: &[&str]| flags.extend(words.iter().map(|word| format!("-Clink-arg={word}")));
    if platform.ends_with("-none") {
        link(&["--nmagic", "--build-id=none", "--no-eh-frame-hdr"]);
        link(&[&format!("-T{}", script.display())]);
    } else {
        link(&["-nostartfiles", "-nodefaultlibs", "-static", "-no-pie"]);
        link(&["-Wl,--nmagic,--build-id=none,--no-eh-frame-hdr"]);
        link(&[&format!("-Wl,-T,{}", script.display())]);
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// What a compiler for `host` says whose libraries for the bare target are in `libraries`.
    fn chosen(name: &str, host: &str, libraries: &Path) -> Result<String, String> {
        let folder = std::env::temp_dir().join(format!("plumb-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let rustc = folder.join("rustc");
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in\n\
             '--print target-libdir --target x86_64-unknown-none') echo '{}';;\n\
             -vV) printf 'rustc 1.95.0\\nhost: {host}\\nrelease: 1.95.0\\n';;\n\
             *) exit 1;;\nesac\n",
            libraries.display()
        );
        std::fs::write(&rustc, script).unwrap();
        std::fs::set_permissions(&rustc, std::fs::Permissions::from_mode(0o755)).unwrap();
        // A process that another test's thread forks meanwhile may still have the file open to write.
        let chosen = loop {
            match platform(rustc.as_os_str()) {
                Err(error) if error.contains("busy") => std::thread::yield_now(),
                done => break done,
            }
        };
        std::fs::remove_dir_all(&folder).unwrap();
        chosen
    }

    const NOWHERE: &str = "/nowhere/x86_64-unknown-none/lib";

    #[test]
    fn the_bare_target_is_taken_where_its_libraries_are_whatever_the_host() {
        for host in ["x86_64-unknown-linux-gnu", "x86_64-apple-darwin"] {
            let chosen = chosen("bare", host, &std::env::temp_dir());
            assert_eq!(chosen.as_deref(), Ok("x86_64-unknown-none"));
        }
    }

    #[test]
    fn without_it_the_libraries_of_a_linux_host_serve() {
        for host in ["x86_64-unknown-linux-gnu", "x86_64-unknown-linux-musl"] {
            let chosen = chosen("hosted", host, Path::new(NOWHERE));
            assert_eq!(chosen.as_deref(), Ok(host));
        }
    }

    #[test]
    fn another_host_is_told_what_to_install() {
        for host in ["x86_64-apple-darwin", "aarch64-unknown-linux-gnu"] {
            let error = chosen("other", host, Path::new(NOWHERE)).unwrap_err();
            assert!(error.contains("rustup target add x86_64-unknown-none"));
        }
    }

    /// The bare target's linker is called without a compiler that would translate.
    #[test]
    fn each_targets_linker_gets_the_script_in_its_own_words() {
        let root = Path::new("/of/it");
        let bare = flags(root, "x86_64-unknown-none");
        assert!(bare.contains(&"-Clink-arg=-T/of/it/unikernel/image/image.ld".to_owned()));
        assert!(!bare.iter().any(|flag| flag.contains("-Wl,")));
        let hosted = flags(root, "x86_64-unknown-linux-gnu");
        let script = "-Clink-arg=-Wl,-T,/of/it/unikernel/image/image.ld";
        assert!(hosted.contains(&script.to_owned()));
        assert!(hosted.contains(&"-Clink-arg=-nostartfiles".to_owned()));
    }
}
