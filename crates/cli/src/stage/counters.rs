//! What a stage has counted, in words.

use std::io::{self, Write};

use plumb_nf::Counter;

/// Writes the counters to standard error: one line each, or one JSON object.
pub(super) fn report(stage: &str, counters: &[Counter], json: bool) -> io::Result<()> {
    let mut out = io::stderr().lock();
    if json {
        let numbers: serde_json::Map<_, _> = counters
            .iter()
            .map(|counter| (counter.name.to_owned(), counter.value.into()))
            .collect();
        let line = serde_json::json!({
            "schema": "plumb.counters/1",
            "stage": stage,
            "counters": numbers,
        });
        return writeln!(out, "{line}");
    }
    for Counter { name, value } in counters {
        writeln!(out, "{stage}: {value:>12} {}", name.replace('_', " "))?;
    }
    Ok(())
}
