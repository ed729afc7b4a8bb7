//! Talking to sessions that run: a socket that has no file, one line of JSON each way.

use core::time::Duration;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process::ExitCode;

use plumb_record::TapStatus;
use serde::{Deserialize, Serialize};

use super::selection::Change;
use crate::args::{Reduction, Selection};
use crate::exit::{Exit, Failure};

/// What the names of sockets begin with; the number of the session follows.
pub(super) const PREFIX: &str = "plumb-tap-";
/// How long either side waits for the other.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);
/// How long a session may take to answer: a large set of prefixes takes seconds.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);

/// What a session is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// How it is.
    Status,
    /// To be different.
    Set {
        change: Change,
        reduction: Reduction,
    },
    /// To end.
    Stop,
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Status(Box<TapStatus>),
    Done,
    /// It cannot, for this reason.
    Refused(String),
}

/// Asks a session.
fn ask(id: u32, request: &Request) -> anyhow::Result<Answer> {
    let absent = || {
        Failure::usage(format!(
            "there is no tap session {id} here; `plumb tap list` shows those that run"
        ))
    };
    let address = SocketAddr::from_abstract_name(format!("{PREFIX}{id}"))?;
    let mut stream = UnixStream::connect_addr(&address).map_err(|_| absent())?;
    stream.set_read_timeout(Some(ANSWER_PATIENCE))?;
    let mut bytes = serde_json::to_vec(request)?;
    bytes.push(b'\n');
    stream.write_all(&bytes)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    if line.is_empty() {
        return Err(Failure::permission(format!(
            "session {id} does not answer: it answers to root and to the user who started it"
        ))
        .into());
    }
    Ok(serde_json::from_str(&line)?)
}

fn status_of(id: u32) -> anyhow::Result<TapStatus> {
    match ask(id, &Request::Status)? {
        Answer::Status(status) => Ok(*status),
        Answer::Refused(reason) => Err(Failure::usage(reason).into()),
        Answer::Done => Err(Failure::usage("the session gives no status").into()),
    }
}

/// `plumb tap list`.
pub(super) fn list(json: bool) -> anyhow::Result<ExitCode> {
    let sockets = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let mut ids: Vec<u32> = sockets
        .lines()
        .filter_map(|line| {
            line.rsplit_once(['@', '\0'])?
                .1
                .strip_prefix(PREFIX)?
                .parse()
                .ok()
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    let mut out = io::stdout().lock();
    for id in ids {
        // It may end while it is asked, or be somebody else's.
        let Ok(status) = status_of(id) else {
            continue;
        };
        if json {
            writeln!(out, "{}", serde_json::to_string(&status)?)?;
        } else {
            writeln!(out, "{}", line(&status))?;
        }
    }
    Ok(Exit::Reached.into())
}

/// `plumb tap status`.
pub(super) fn status(id: u32, json: bool) -> anyhow::Result<ExitCode> {
    let status = status_of(id)?;
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(&status)?)?;
        return Ok(Exit::Reached.into());
    }
    writeln!(out, "{}", line(&status))?;
    for (name, value) in status.rows() {
        writeln!(out, "{value:>16} {}", name.replace('_', " "))?;
    }
    Ok(Exit::Reached.into())
}

/// A session in a line.
pub(super) fn line(status: &TapStatus) -> String {
    let interfaces: Vec<String> = status
        .interfaces
        .iter()
        .map(|interface| {
            format!(
                "{} {} ({})",
                interface.name, interface.direction, interface.attached
            )
        })
        .collect();
    let outputs: Vec<String> = status
        .outputs
        .iter()
        .map(|output| match &output.trouble {
            None => output.name.clone(),
            Some(trouble) => format!("{} ({trouble})", output.name),
        })
        .collect();
    let none = |text: String, word: &str| {
        if text.is_empty() {
            word.to_owned()
        } else {
            text
        }
    };
    let mut line = format!(
        "{}  {} -> {}  filter: {}",
        status.id,
        none(interfaces.join(", "), "no interface yet"),
        none(outputs.join(", "), "nothing"),
        none(status.filter.clone(), "all"),
    );
    for rule in &status.rules {
        let filter = none(rule.filter.clone(), "all");
        line.push_str(&format!("; {}: {filter}", rule.action.name()));
    }
    if status.prefixes > 0 {
        line.push_str(&format!("; prefixes: {}", status.prefixes));
    }
    if status.in_user_space.is_some() {
        line.push_str("; in user space");
    }
    line
}

/// `plumb tap set`.
pub(super) fn set(
    id: u32,
    selection: &Selection,
    no_rules: bool,
    no_prefixes: bool,
    reduction: &Reduction,
) -> anyhow::Result<ExitCode> {
    let request = Request::Set {
        change: Change::new(selection, no_rules, no_prefixes)?,
        reduction: reduction.clone(),
    };
    done(ask(id, &request)?)
}

/// `plumb tap stop`.
pub(super) fn stop(id: u32) -> anyhow::Result<ExitCode> {
    done(ask(id, &Request::Stop)?)
}

fn done(answer: Answer) -> anyhow::Result<ExitCode> {
    match answer {
        Answer::Refused(reason) => Err(Failure::usage(reason).into()),
        Answer::Done | Answer::Status(_) => Ok(Exit::Reached.into()),
    }
}
