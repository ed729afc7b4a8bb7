//! `plumb vm start`, `list`, `logs` and `stop`.

use core::time::Duration;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use serde::Serialize;

use super::hold::{HOLDER, Order, READY};
use super::machine::merge_hint;
use super::state::{Life, Place, Socket, State};
use super::status::{Memory, Status};
use crate::args::MachineOptions;
use crate::exit::{Exit, Failure};
use crate::output::ndjson::write_record;

/// Starts a holder and returns when its machine answers.
pub(super) fn start(name: Option<String>, options: MachineOptions) -> anyhow::Result<Exit> {
    let order = Order { name, options };
    let mut holder = Command::new("/proc/self/exe")
        .arg0(HOLDER)
        .arg(serde_json::to_string(&order)?)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| Failure::usage(format!("cannot start the machine's holder: {e}")))?;
    let mut line = String::new();
    if let Some(stdout) = holder.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    let Some(status) = line.strip_prefix(READY) else {
        // It has said why.
        let status = holder.wait()?;
        return Ok(match status.code() {
            Some(3) => Exit::Permission,
            _ => Exit::Usage,
        });
    };
    let status: Status = serde_json::from_str(status)?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}", status.name)?;
    let mut say = io::stderr().lock();
    writeln!(
        say,
        "plumb: {} answers after {} ms: {}, {}",
        status.name,
        status.uptime_ns / 1_000_000,
        status.uplink,
        status.addresses.join(" ")
    )?;
    if let Some(hint) = merge_hint(&order.options) {
        writeln!(say, "plumb: {hint}")?;
    }
    Ok(Exit::Reached)
}

/// A line of `plumb vm list --json`.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    state: &'static str,
    /// Why it ended, or does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    memory: Option<Memory>,
    /// Share of memory of the process that holds the machine, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    holder_pss_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    machine: Option<Status>,
}

/// Lists the machines.
pub(super) fn list(json: bool) -> anyhow::Result<Exit> {
    let mut out = io::stdout().lock();
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    for (place, life) in State::open()?.machines()? {
        let listed = look_at(&place, life);
        if json {
            write_record(&mut out, &listed)?;
        } else {
            rows.push(row(&listed));
        }
    }
    if json {
        return Ok(Exit::Reached);
    }
    if rows.len() == 1 {
        writeln!(
            io::stderr(),
            "no machines; `plumb vm start --uplink lab:php` starts one"
        )?;
        return Ok(Exit::Reached);
    }
    for row in aligned(&rows) {
        writeln!(out, "{row}")?;
    }
    Ok(Exit::Reached)
}

const HEADINGS: [&str; 11] = [
    "NAME", "STATE", "RUNNER", "UPLINK", "ADDRESS", "UP", "JOBS", "PID", "PSS", "PRIVATE", "MERGED",
];

fn look_at(place: &Place, life: Life) -> Listed {
    let mut listed = Listed {
        name: place.name.clone(),
        state: "ended",
        reason: place.end(),
        memory: None,
        holder_pss_bytes: None,
        machine: None,
    };
    if life == Life::Ended {
        return listed;
    }
    match ask(place) {
        Ok((mut status, holder)) => {
            listed.state = if status.busy { "busy" } else { "idle" };
            let pid = here(&status, holder);
            listed.memory = pid.and_then(Memory::of);
            listed.holder_pss_bytes = holder.and_then(Memory::of).map(|m| m.pss_bytes);
            status.pid = pid.unwrap_or(0);
            status.holder_pid = holder.unwrap_or(0);
            listed.machine = Some(status);
        }
        Err(error) => {
            // One that starts does not listen yet.
            listed.state = "no answer";
            listed.reason = Some(error.to_string());
        }
    }
    listed
}

/// How long a holder may take to say how its machine is.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks a holder how its machine is. The second is the holder's process as it is known here, if it
/// can be seen from here.
pub(super) fn ask(place: &Place) -> anyhow::Result<(Status, Option<u32>)> {
    let mut holder = place.connect(Socket::Control)?;
    holder.set_read_timeout(Some(PATIENCE))?;
    holder.write_all(b"status\n")?;
    let pid = rustix::net::sockopt::socket_peercred(&holder)
        .ok()
        .and_then(|peer| u32::try_from(peer.pid.as_raw_nonzero().get()).ok());
    let mut line = String::new();
    BufReader::new(holder.take(MOST_STATUS)).read_line(&mut line)?;
    Ok((serde_json::from_str(&line)?, pid))
}

/// Most bytes of a status.
const MOST_STATUS: u64 = 64 * 1024;

/// The machine's process as it is known here.
fn here(status: &Status, holder: Option<u32>) -> Option<u32> {
    let holder = holder?;
    if holder == status.holder_pid {
        return Some(status.pid);
    }
    // The holder is in another PID namespace: the machine is its only child.
    let children = std::fs::read_to_string(format!("/proc/{holder}/task/{holder}/children"));
    children.ok()?.split_whitespace().next()?.parse().ok()
}

fn row(listed: &Listed) -> [String; 11] {
    let name = listed.name.clone();
    let state = listed.state.to_owned();
    let Some(machine) = &listed.machine else {
        let reason = listed.reason.clone().unwrap_or_default();
        let mut row = [const { String::new() }; 11];
        (row[0], row[1], row[2]) = (name, state, reason);
        return row;
    };
    let size = |bytes: fn(&Memory) -> u64| {
        listed.memory.as_ref().map_or_else(
            || "?".to_owned(),
            |memory| format!("{} K", bytes(memory).div_ceil(1024)),
        )
    };
    [
        name,
        state,
        machine.runner.clone(),
        machine.uplink.clone(),
        machine.addresses.join(" "),
        duration(machine.uptime_ns),
        machine.jobs.to_string(),
        machine.pid.to_string(),
        size(|m| m.pss_bytes),
        size(|m| m.private_bytes),
        size(|m| m.merged_bytes),
    ]
}

/// A span of time in its two greatest units.
fn duration(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// Lines with the columns below each other. A row that has one long word in place of columns keeps
/// the others from growing.
fn aligned(rows: &[[String; 11]]) -> Vec<String> {
    let is_whole = |row: &[String; 11]| !row[3].is_empty();
    let width = |column: usize| {
        let cells = rows.iter().filter(|row| column < 2 || is_whole(row));
        cells
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..11).map(width).collect();
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(&widths);
            let cells = cells.map(|(cell, width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

/// Prints what a machine said.
pub(super) fn logs(name: &str, follow: bool) -> anyhow::Result<Exit> {
    let place = State::open()?.machine(name)?;
    let life = place.life();
    let Some(life) = life else {
        return Err(no_machine(name).into());
    };
    let mut out = io::stdout().lock();
    let mut last: Option<File> = None;
    for path in place.logs() {
        if let Ok(mut log) = File::open(path) {
            io::copy(&mut log, &mut out)?;
            last = Some(log);
        }
    }
    out.flush()?;
    let mut held = life == Life::Held;
    while follow && held {
        std::thread::sleep(LOOK);
        // What was said before the end was said is read after.
        held = place.life() == Some(Life::Held);
        let current = place.logs().pop().and_then(|path| File::open(path).ok());
        last = match (last.take(), current) {
            (Some(mut log), Some(current)) => {
                io::copy(&mut log, &mut out)?;
                if current.metadata()?.len() < log.stream_position()? {
                    // Another was begun.
                    let mut current = current;
                    io::copy(&mut current, &mut out)?;
                    Some(current)
                } else {
                    Some(log)
                }
            }
            (None, Some(mut current)) => {
                current.seek(SeekFrom::Start(0))?;
                io::copy(&mut current, &mut out)?;
                Some(current)
            }
            (last, None) => last,
        };
        out.flush()?;
    }
    if let Some(reason) = place.end() {
        writeln!(io::stderr(), "plumb: {reason}")?;
    }
    Ok(Exit::Reached)
}

/// Time between two looks at a log.
const LOOK: Duration = Duration::from_millis(100);

/// Ends machines.
pub(super) fn stop(names: &[String], all: bool) -> anyhow::Result<Exit> {
    let state = State::open()?;
    let places: Vec<Place> = if all {
        state
            .machines()?
            .into_iter()
            .map(|(place, _)| place)
            .collect()
    } else {
        names
            .iter()
            .map(|name| state.machine(name))
            .collect::<Result<_, _>>()?
    };
    // All at once, then wait for each.
    let mut waiting: Vec<(Place, io::Result<UnixStream>)> = Vec::new();
    for place in places {
        if place.clear() {
            continue;
        }
        if place.life() != Some(Life::Held) {
            return Err(no_machine(&place.name).into());
        }
        let asked = place.connect(Socket::Control).and_then(|mut holder| {
            holder.set_read_timeout(Some(PATIENCE_TO_END))?;
            holder.write_all(b"stop\n")?;
            Ok(holder)
        });
        waiting.push((place, asked));
    }
    for (place, holder) in waiting {
        let ended = holder.and_then(|mut holder| holder.read(&mut [0; 1]));
        if let Err(error) = ended {
            return Err(Failure::usage(format!(
                "the machine {} does not end: {error}",
                place.name
            ))
            .into());
        }
    }
    Ok(Exit::Reached)
}

/// How long a machine may take to end.
const PATIENCE_TO_END: Duration = Duration::from_secs(20);

/// There is no such machine.
pub(super) fn no_machine(name: &str) -> Failure {
    Failure::usage(format!(
        "there is no machine {name}; `plumb vm list` shows those that there are"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other_and_a_reason_moves_none() {
        let cells = |words: [&str; 11]| words.map(str::to_owned);
        let lines = aligned(&[
            cells(HEADINGS),
            cells([
                "a",
                "idle",
                "qemu",
                "lab:php",
                "5.0.1.1/30",
                "3s",
                "0",
                "7",
                "1 K",
                "1 K",
                "0 K",
            ]),
            cells([
                "long-name",
                "ended",
                "it ended, and said a lot of things",
                "",
                "",
                "",
                "",
                "",
                "",
                "",
                "",
            ]),
        ]);
        assert_eq!(
            lines,
            [
                "NAME       STATE  RUNNER  UPLINK   ADDRESS     UP  JOBS  PID  PSS  PRIVATE  MERGED",
                "a          idle   qemu    lab:php  5.0.1.1/30  3s  0     7    1 K  1 K      0 K",
                "long-name  ended  it ended, and said a lot of things",
            ]
        );
    }

    #[test]
    fn spans_have_two_units() {
        let seconds = |n: u64| duration(n * 1_000_000_000);
        assert_eq!(seconds(59), "59s");
        assert_eq!(seconds(61), "1m 1s");
        assert_eq!(seconds(7260), "2h 1m");
        assert_eq!(seconds(90_000), "1d 1h");
    }
}
