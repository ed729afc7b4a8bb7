//! Compiles every `src/**/NAME.bpf.c` with clang into a skeleton, `OUT_DIR/NAME.skel.rs`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libbpf_cargo::SkeletonBuilder;

fn main() {
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-env-changed=CLANG");
    let clang = env::var_os("CLANG").unwrap_or_else(|| "clang".into());
    if Command::new(&clang).arg("--version").output().is_err() {
        println!(
            "cargo::error=clang is missing: it compiles plumb's programs for the kernel \
             (Debian: apt-get install clang libelf-dev zlib1g-dev, or run `make run` once)"
        );
        return;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let kernel_headers = kernel_headers();
    let mut sources = Vec::new();
    find(Path::new("src"), &mut sources);
    for source in sources {
        let name = source.file_name().unwrap_or_default().to_string_lossy();
        let name = name.trim_end_matches(".bpf.c");
        let built = SkeletonBuilder::new()
            .source(&source)
            .clang(&clang)
            .clang_args(
                ["-Isrc", "-Wall", "-Werror", "-mcpu=v3"]
                    .into_iter()
                    .chain(kernel_headers.iter().flat_map(|path| ["-idirafter", path])),
            )
            .build_and_generate(out.join(format!("{name}.skel.rs")));
        if let Err(error) = built {
            println!(
                "cargo::error={} does not compile: {}",
                source.display(),
                format!("{error:#}").replace('\n', " | ")
            );
        }
    }
}

/// Where Debian keeps `asm/types.h`, which clang does not look for when it compiles for BPF.
fn kernel_headers() -> Option<String> {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").ok()?;
    let path = format!("/usr/include/{arch}-linux-gnu");
    Path::new(&path).is_dir().then_some(path)
}

/// Collects the programs below a directory.
fn find(directory: &Path, sources: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            find(&path, sources);
        } else if path.to_string_lossy().ends_with(".bpf.c") {
            sources.push(path);
        }
    }
    sources.sort();
}
