//! `plumb export`: recorded flow records to collectors.

use core::time::Duration;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::Context;
use plumb_record::{DnsProfile, FlowProfile, TapFlow};
use rustix::event::{PollFd, PollFlags, poll};
use serde::Deserialize;

use super::interrupt::Interrupts;
use crate::args;
use crate::exit::{Exit, Failure};
use crate::export::{Export, Outcome};

/// How long a collector may take nothing before it is given up.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn run(args: &args::Export) -> anyhow::Result<Exit> {
    let mut input = Input::open(&args.file)?;
    let export = Export::start(&args.to, true)?;
    if export.is_empty() {
        return Err(Failure::usage("say where to: --to ipfix://HOST, or --ipfix-file FILE").into());
    }
    let read = read(&mut input, &export);
    let outcomes = export.finish(PATIENCE);
    report(&outcomes);
    let end = read?;
    let waiting = outcomes.iter().any(|outcome| {
        let statistics = outcome.statistics;
        statistics.queued + statistics.queue_full + statistics.too_long > 0
    });
    Ok(match end {
        Ended::Interrupted => Exit::Interrupted,
        Ended::All if waiting => Exit::Partial,
        Ended::All => Exit::Reached,
        Ended::GaveUp => Exit::Partial,
    })
}

/// Why reading ended.
enum Ended {
    All,
    Interrupted,
    GaveUp,
}

fn read(input: &mut Input, export: &Export) -> anyhow::Result<Ended> {
    let mut interrupts = Interrupts::watch()?;
    let mut number = 0_u64;
    loop {
        let Some(line) = input.next_line(&mut interrupts)? else {
            let interrupted = interrupts.count() > 0;
            return Ok(if interrupted {
                Ended::Interrupted
            } else {
                Ended::All
            });
        };
        number += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        give(line, export).with_context(|| format!("line {number}"))?;
        if let Err(name) = export.wait_for_room(PATIENCE) {
            drop(writeln!(
                io::stderr(),
                "plumb: {name} takes no records: given up"
            ));
            return Ok(Ended::GaveUp);
        }
    }
}

/// What every line of NDJSON says of itself.
#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(default, borrow)]
    schema: Option<&'a str>,
    #[serde(default, borrow, rename = "type")]
    kind: Option<&'a str>,
}

/// Gives a line to the export, if it is one of its records.
fn give(line: &[u8], export: &Export) -> anyhow::Result<()> {
    let kind: Kind<'_> = serde_json::from_slice(line)?;
    match (kind.schema, kind.kind) {
        (Some("plumb.flow/1"), Some("flow")) => {
            export.take(&serde_json::from_slice::<FlowProfile>(line)?);
        }
        (Some("plumb.flow/1"), Some("dns")) => {
            export.take_lookup(&serde_json::from_slice::<DnsProfile>(line)?);
        }
        (Some("plumb.tap/1"), Some("flow")) => {
            export.take_tapped(&serde_json::from_slice::<TapFlow>(line)?);
        }
        _ => {}
    }
    Ok(())
}

/// A line for each destination.
fn report(outcomes: &[Outcome]) {
    let mut out = io::stderr().lock();
    for Outcome { name, statistics } in outcomes {
        let (records, messages) = (statistics.records, statistics.messages);
        let lost = statistics.queued + statistics.queue_full + statistics.too_long;
        let not = match lost {
            0 => String::new(),
            lost => format!(", {lost} not sent"),
        };
        // Nothing can be done where standard error is closed.
        drop(writeln!(
            out,
            "plumb: {name}: {records} records sent in {messages} messages{not}"
        ));
    }
}

/// Lines of a file or of standard input, until the user wants no more.
struct Input {
    file: File,
    bytes: Vec<u8>,
    read: usize,
    ended: bool,
}

/// Longest line: no record is nearly as long.
const LONGEST_LINE: usize = 1 << 20;

impl Input {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let file = if path == Path::new("-") {
            let input: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
            File::from(input)
        } else {
            File::open(path).with_context(|| format!("{} cannot be read", path.display()))?
        };
        Ok(Self {
            file,
            bytes: Vec::new(),
            read: 0,
            ended: false,
        })
    }

    /// The next line without its end; `None` at the end of the input, and once the user
    /// interrupts.
    fn next_line(&mut self, interrupts: &mut Interrupts) -> anyhow::Result<Option<&[u8]>> {
        let mut searched = self.read;
        let end = loop {
            let found = self.bytes[searched..]
                .iter()
                .position(|&byte| byte == b'\n');
            if let Some(at) = found {
                break searched + at + 1;
            }
            if self.ended {
                if self.read == self.bytes.len() {
                    return Ok(None);
                }
                break self.bytes.len();
            }
            if self.bytes.len() - self.read > LONGEST_LINE {
                return Err(Failure::usage("a line is longer than a record can be").into());
            }
            self.bytes.drain(..self.read);
            self.read = 0;
            searched = self.bytes.len();
            if !self.fill(interrupts)? {
                return Ok(None);
            }
        };
        let line = &self.bytes[self.read..end];
        self.read = end;
        Ok(Some(line.strip_suffix(b"\n").unwrap_or(line)))
    }

    /// Reads more; says whether to go on.
    fn fill(&mut self, interrupts: &mut Interrupts) -> anyhow::Result<bool> {
        let signal = interrupts.fd()?;
        loop {
            let mut fds = [
                PollFd::new(&self.file, PollFlags::IN),
                PollFd::new(&signal, PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
            let readable = !fds[0].revents().is_empty();
            if interrupts.count() > 0 {
                return Ok(false);
            }
            if readable {
                break;
            }
        }
        let old = self.bytes.len();
        self.bytes.resize(old + (64 << 10), 0);
        let read = self.file.read(&mut self.bytes[old..])?;
        self.bytes.truncate(old + read);
        self.ended = read == 0;
        Ok(true)
    }
}
