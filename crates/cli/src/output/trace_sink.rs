//! Where finished traces go, in the format that was asked for.

use std::io::{self, Write};

use plumb_record::{End, Progress, Start, Trace, TraceSchema};

use super::ndjson::write_record;
use super::scamper_json::{self, Context};
use super::table::Table;
use super::tnt;

/// How traces are written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TraceFormat {
    /// A table for people.
    Table(Table),
    /// NDJSON.
    Json,
    /// TNT's text; `true` with the attempts that revealed nothing.
    Tnt(bool),
    /// scamper's JSON lines.
    ScamperJson(Context),
}

/// Writes the records of a run.
#[derive(Debug)]
pub(crate) struct TraceSink<W: Write> {
    out: W,
    format: TraceFormat,
    written: u64,
}

impl<W: Write> TraceSink<W> {
    pub(crate) const fn new(out: W, format: TraceFormat) -> Self {
        Self {
            out,
            format,
            written: 0,
        }
    }

    /// Writes what comes before all traces.
    pub(crate) fn start(&mut self, start: &Start<TraceSchema>) -> io::Result<()> {
        match self.format {
            TraceFormat::Json => write_record(&mut self.out, start),
            TraceFormat::ScamperJson(_) => scamper_json::cycle_start(&mut self.out, start.time),
            TraceFormat::Table(_) | TraceFormat::Tnt(_) => Ok(()),
        }
    }

    /// Writes a finished trace.
    pub(crate) fn trace(&mut self, trace: &Trace) -> io::Result<()> {
        self.written += 1;
        match self.format {
            TraceFormat::Table(table) => {
                if self.written > 1 {
                    writeln!(self.out)?;
                }
                table.write(&mut self.out, trace)
            }
            TraceFormat::Json => write_record(&mut self.out, trace),
            TraceFormat::Tnt(verbose) => tnt::write(&mut self.out, trace, verbose),
            TraceFormat::ScamperJson(context) => scamper_json::trace(&mut self.out, trace, context),
        }
    }

    /// Writes how far a long run has come.
    pub(crate) fn progress(&mut self, progress: &Progress<TraceSchema>) -> io::Result<()> {
        match self.format {
            TraceFormat::Json => write_record(&mut self.out, progress),
            TraceFormat::Table(_) | TraceFormat::Tnt(_) | TraceFormat::ScamperJson(_) => Ok(()),
        }
    }

    /// Writes what comes after all traces.
    pub(crate) fn end(&mut self, end: &End<TraceSchema>) -> io::Result<()> {
        match self.format {
            TraceFormat::Json => write_record(&mut self.out, end)?,
            TraceFormat::ScamperJson(_) => scamper_json::cycle_stop(&mut self.out, end.time)?,
            TraceFormat::Table(_) | TraceFormat::Tnt(_) => {}
        }
        self.out.flush()
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use plumb_record::{EndReason, EndType, StartType, WallTime};

    use super::super::fixtures;
    use super::*;

    #[test]
    fn ndjson_begins_with_start_ends_with_end_and_reads_back() {
        let traces = fixtures::all();
        let mut out = Vec::new();
        let mut sink = TraceSink::new(&mut out, TraceFormat::Json);
        sink.start(&Start {
            schema: TraceSchema::V1,
            kind: StartType::Start,
            time: WallTime(5),
            version: "1".into(),
            arguments: vec!["plumb".into()],
        })
        .unwrap();
        for (_, trace) in &traces {
            sink.trace(trace).unwrap();
        }
        sink.end(&End {
            schema: TraceSchema::V1,
            kind: EndType::End,
            time: WallTime(6),
            reason: EndReason::Completed,
            error: None,
            finished: 1,
            reached: 1,
            tunnels: 0,
            probes_sent: 3,
            replies: 3,
            late: 0,
            dropped: 0,
        })
        .unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), traces.len() + 2);
        assert!(lines[0].starts_with(r#"{"schema":"plumb.trace/1","type":"start""#));
        assert!(lines[lines.len() - 1].contains(r#""type":"end""#));
        for (line, (_, trace)) in lines[1..].iter().zip(&traces) {
            assert_eq!(&serde_json::from_str::<Trace>(line).unwrap(), trace);
        }
    }
}
