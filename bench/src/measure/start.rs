//! Start-up time, and size on disk.

use serde_json::json;

use super::Bench;
use crate::child::{self, Place};
use crate::report::spread;

/// Starts the programs to print their versions.
pub(super) fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    bench
        .report
        .say("## Start-up and size\n\nFrom start to end of printing the version.");
    let plumb = bench.plumb().to_owned();
    let programs: [(&str, &[&str]); 2] = [
        ("plumb --version", &[&plumb, "--version"]),
        ("scamper -v", &["scamper", "-v"]),
    ];
    let mut times: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..if bench.quick { 20 } else { 200 } {
        for ((_, command), times) in programs.iter().zip(&mut times) {
            if command[0] == "scamper" && !bench.scamper {
                continue;
            }
            // scamper leaves with 255 after printing its version.
            times.push(child::run(&Place::default(), command, &[0, 255])?.wall_s * 1e3);
        }
    }
    let mut rows = Vec::new();
    for ((name, command), ms) in programs.iter().zip(times) {
        let path = if command[0] == "scamper" {
            "/usr/bin/scamper"
        } else {
            command[0]
        };
        let size = std::fs::metadata(path).map_or(0, |m| m.len());
        bench.report.run(
            "start",
            &json!({ "command": name, "wall_ms": ms, "bytes": size }),
        )?;
        rows.push(vec![
            format!("`{name}`"),
            ms.len().to_string(),
            spread(ms, 2),
            format!("{:.2}", size as f64 / 1e6),
        ]);
    }
    bench.report.table(&["", "runs", "ms", "binary, MB"], &rows);
    bench.report.say(
        "scamper's binary needs libscamperfile and libc beside it; the commands of plumb are one file.",
    );
    Ok(())
}
