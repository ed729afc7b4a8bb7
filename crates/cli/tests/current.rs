//! What is generated and committed is what this version generates.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use assert_cmd::Command;

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name)
}

fn plumb(arguments: &[&str]) -> String {
    let output = Command::cargo_bin("plumb")
        .unwrap()
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn committed_schemas_are_current() {
    for name in ["trace", "ping", "live", "nat", "firewall", "flow", "tap"] {
        let path = docs("schema").join(format!("{name}.json"));
        let committed = std::fs::read_to_string(&path).unwrap();
        assert!(
            committed == plumb(&["schema", name]),
            "run: plumb schema {name} > {}",
            path.display()
        );
    }
}

#[test]
fn the_committed_table_of_flow_fields_is_current() {
    let committed = std::fs::read_to_string(docs("kpis.md")).unwrap();
    assert!(
        committed == plumb(&["schema", "kpis"]),
        "run: plumb schema kpis > docs/kpis.md"
    );
}

#[test]
fn committed_man_pages_are_current() {
    let fresh = std::env::temp_dir().join(format!("plumb-man-{}", std::process::id()));
    plumb(&["man", fresh.to_str().unwrap()]);
    let pages = |dir: &Path| -> Vec<(String, String)> {
        let mut pages: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, std::fs::read_to_string(&path).unwrap())
            })
            .collect();
        pages.sort();
        pages
    };
    let same = pages(&fresh) == pages(&docs("man"));
    std::fs::remove_dir_all(&fresh).unwrap();
    assert!(same, "run: rm -r docs/man; plumb man docs/man");
}

#[test]
fn every_shell_gets_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(
            plumb(&["completions", shell]).contains("targets"),
            "{shell}"
        );
    }
}

#[test]
fn every_command_has_examples_in_its_help() {
    for command in [
        vec!["--help"],
        vec!["trace", "--help"],
        vec!["ping", "--help"],
        vec!["lab", "--help"],
        vec!["if", "--help"],
        vec!["exec", "--help"],
        vec!["lab", "run", "--help"],
        vec!["nat", "--help"],
        vec!["impair", "--help"],
        vec!["count", "--help"],
        vec!["vm", "--help"],
        vec!["vm", "run", "--help"],
        vec!["vm", "image", "--help"],
        vec!["doctor", "--help"],
        vec!["config", "show", "--help"],
        vec!["schema", "--help"],
    ] {
        assert!(plumb(&command).contains("Examples:"), "{command:?}");
    }
}
