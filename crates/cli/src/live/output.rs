//! What a live view prints: records as they come, and the report in the end.

use std::io::{self, IsTerminal, Write};

use plumb_probe::Stats;
use plumb_record::{End, EndReason, EndType, Start, StartType, TraceSchema, WallTime};
use plumb_wire::Instant;

use super::Live;
use super::model::Target;
use super::record::{self, LiveSchema};
use super::report;
use crate::args::Format;
use crate::exit::Failure;
use crate::output::ndjson::write_record;
use crate::settings::{LiveSettings, TraceSettings};

/// What is shown while it runs, and what is printed in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// The view, then the report; as NDJSON if `json`.
    View { json: bool },
    /// Nothing, then the report; as NDJSON if `json`.
    Report { json: bool },
    /// The record of each round as it ends.
    Rounds,
}

impl Output {
    /// What the options and the terminal come to.
    pub(super) fn choose(settings: &TraceSettings, live: LiveSettings) -> Result<Self, Failure> {
        let json = settings.format == Format::Json;
        if live.report {
            Ok(Self::Report { json })
        } else if io::stdout().is_terminal() {
            Ok(Self::View { json })
        } else if json {
            Ok(Self::Rounds)
        } else {
            Err(Failure::usage(
                "--live draws on a terminal, and standard output is none; --report prints a \
                 report after some rounds, --live --json every round",
            ))
        }
    }
}

/// How it ended.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) reason: EndReason,
    pub(super) error: Option<String>,
    pub(super) stats: Stats,
    pub(super) dropped: u64,
}

impl Live {
    /// Prints the report, or what comes last.
    pub(super) fn finish(&mut self, ending: &Ending) -> anyhow::Result<()> {
        let end = self.clock.now();
        let started = self.session.started();
        match self.output {
            Output::Rounds => {
                let end = self.end_record(TraceSchema::V1, ending, end);
                write_record(&mut self.out, &end)?;
            }
            Output::View { json: true } | Output::Report { json: true } => {
                let start = self.start_record(LiveSchema::V1, started);
                write_record(&mut self.out, &start)?;
                for target in self.session.targets() {
                    let wall = |at| WallTime(self.clock.wall_ns(at));
                    let report = record::report(&self.session, target, wall, wall(end));
                    write_record(&mut self.out, &report)?;
                }
                let end = self.end_record(LiveSchema::V1, ending, end);
                write_record(&mut self.out, &end)?;
            }
            Output::View { json: false } | Output::Report { json: false } => {
                let start = self.wall(started);
                report::write(&mut self.out, &self.session, self.ui.look, start)?;
            }
        }
        self.out.flush()?;
        Ok(())
    }

    pub(super) fn start_record<S>(&self, schema: S, at: Instant) -> Start<S> {
        Start {
            schema,
            kind: StartType::Start,
            time: self.wall(at),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            arguments: crate::arguments()
                .map(|a| a.to_string_lossy().into_owned())
                .collect(),
        }
    }

    fn end_record<S>(&self, schema: S, ending: &Ending, at: Instant) -> End<S> {
        let targets = || self.session.targets();
        let on_paths: usize = targets().map(|target| target.tunnels().len()).sum();
        let rounds: u64 = targets().map(Target::total_rounds).sum();
        let of_rounds = self.output == Output::Rounds;
        End {
            schema,
            kind: EndType::End,
            time: self.wall(at),
            reason: ending.reason,
            error: ending.error.clone(),
            finished: if of_rounds {
                rounds
            } else {
                targets().len() as u64
            },
            reached: targets().filter(|target| target.reached()).count() as u64,
            tunnels: if of_rounds {
                self.tunnels
            } else {
                on_paths as u64
            },
            probes_sent: ending.stats.sent,
            replies: ending.stats.replies,
            late: ending.stats.late,
            dropped: ending.dropped,
        }
    }

    pub(super) fn wall(&self, at: Instant) -> WallTime {
        WallTime(self.clock.wall_ns(at))
    }
}
