//! What a stage has counted, in words.

use std::io::{self, LineWriter, Write};

use plumb_link::stage::Counters;
use plumb_nf::{Counter, Detail, Function, Port};
use serde_json::{Map, Value, json};

/// What has passed one side of a stage.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) port: Port,
    /// How frames travel, or travelled last.
    pub(super) link: String,
    pub(super) counters: Counters,
    /// Frames that were dropped as the link did not take them in time.
    pub(super) no_room_frames: u64,
}

impl Passed {
    fn numbers(&self) -> [(&'static str, u64); 7] {
        let c = &self.counters;
        [
            ("received_frames", c.received_frames),
            ("received_bytes", c.received_bytes),
            ("sent_frames", c.sent_frames),
            ("sent_bytes", c.sent_bytes),
            ("no_room_frames", self.no_room_frames),
            ("no_way_frames", c.no_way_frames),
            ("refused_frames", c.refused_frames),
        ]
    }
}

/// Writes the counters of a live stage and of its links to standard error.
pub(super) fn report_live(
    stage: &str,
    links: &[Passed],
    function: &impl Function,
    as_json: bool,
) -> io::Result<()> {
    // Stages that end together would mix what they write bit by bit.
    let mut out = LineWriter::new(io::stderr().lock());
    if !as_json {
        for passed in links {
            let (port, c) = (passed.port.name(), &passed.counters);
            writeln!(
                out,
                "{stage}: {port}: received {} frames {} bytes, sent {} frames {} bytes, dropped {} \
                 (no room {}, no way {}, refused {}) [{}]",
                c.received_frames,
                c.received_bytes,
                c.sent_frames,
                c.sent_bytes,
                passed.no_room_frames + c.no_way_frames + c.refused_frames,
                passed.no_room_frames,
                c.no_way_frames,
                c.refused_frames,
                passed.link,
            )?;
        }
        drop(out);
        return report(stage, function, false);
    }
    let mut line = as_object(stage, function);
    for passed in links {
        let mut side = object(passed.numbers());
        side.insert("link".to_owned(), passed.link.clone().into());
        line[passed.port.name()] = Value::Object(side);
    }
    writeln!(out, "{line}")
}

fn object(numbers: impl IntoIterator<Item = (&'static str, u64)>) -> Map<String, Value> {
    let pairs = numbers.into_iter();
    pairs
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect()
}

/// Writes the counters to standard error: one line each, or one JSON object.
pub(super) fn report(stage: &str, function: &impl Function, json: bool) -> io::Result<()> {
    let mut out = LineWriter::new(io::stderr().lock());
    if json {
        return writeln!(out, "{}", as_object(stage, function));
    }
    let parts = function.parts();
    let parts = parts.iter().map(|(name, counters)| (&name[..], counters));
    for (name, counters) in parts.chain([(stage, &function.counters())]) {
        for Counter { name: what, value } in counters {
            writeln!(out, "{name}: {value:>12} {}", what.replace('_', " "))?;
        }
    }
    for Detail {
        name,
        packets,
        bytes,
    } in function.details()
    {
        writeln!(
            out,
            "{stage}: {packets:>12} packets {bytes:>14} bytes  {name}"
        )?;
    }
    Ok(())
}

fn as_object(stage: &str, function: &impl Function) -> Value {
    let numbers = |counters: &[Counter]| object(counters.iter().map(|c| (c.name, c.value)));
    let mut line = json!({
        "schema": "plumb.counters/1",
        "stage": stage,
        "counters": numbers(&function.counters()),
    });
    let parts = function.parts();
    if !parts.is_empty() {
        let part = |(name, counters): &(String, Vec<Counter>)| json!({ "stage": name, "counters": numbers(counters) });
        line["functions"] = parts.iter().map(part).collect();
    }
    let details = function.details();
    if !details.is_empty() {
        let detail = |d: &Detail| json!({ "name": d.name, "packets": d.packets, "bytes": d.bytes });
        line["details"] = details.iter().map(detail).collect();
    }
    line
}
