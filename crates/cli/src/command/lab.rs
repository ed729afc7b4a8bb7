//! `plumb lab`: a simulated internet around a command.

use core::net::IpAddr;
use core::time::Duration;
use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use plumb_link::namespace::{self, Child};
use plumb_link::{Clock, Error, Port, Tun, TunOptions, Turn};
use plumb_sim::{Network, Topology, labs};
use plumb_wire::{Engine, Instant};
use serde::Serialize;

use super::lab_bridge::LabBridge;
use crate::args::{Lab, LabCommand};
use crate::exit::Failure;
use crate::output::ndjson::write_record;
use crate::settings::nearest;

pub(super) fn run(args: Lab) -> anyhow::Result<ExitCode> {
    match args.command {
        LabCommand::List { json } => list(json)?,
        LabCommand::Show { lab } => {
            io::stdout().write_all(source(&lab)?.as_bytes())?;
        }
        LabCommand::Run {
            lab,
            seed,
            bridge,
            command,
        } => return inside(&lab, seed, bridge.as_deref(), command),
    }
    Ok(ExitCode::SUCCESS)
}

/// A line of `plumb lab list --json`.
#[derive(Serialize)]
struct Listed {
    name: &'static str,
    summary: &'static str,
    targets: &'static [&'static str],
}

fn list(json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for lab in labs() {
        if json {
            let line = Listed {
                name: lab.name,
                summary: lab.summary,
                targets: lab.targets,
            };
            write_record(&mut out, &line)?;
        } else {
            writeln!(out, "{:15} {}", lab.name, lab.summary)?;
            writeln!(out, "{:15} targets: {}", "", lab.targets.join(" "))?;
        }
    }
    Ok(())
}

/// The TOML of a built-in lab, or of a file where the name says that it is one.
fn source(lab: &str) -> Result<String, Failure> {
    if let Some(found) = labs().iter().find(|l| l.name == lab) {
        return Ok(found.toml.to_owned());
    }
    let is_file = lab.contains(['/', '.']);
    if is_file {
        return fs::read_to_string(lab)
            .map_err(|e| Failure::usage(format!("cannot read the topology {lab}: {e}")));
    }
    let close = nearest(lab, labs().iter().map(|l| l.name)).unwrap_or_default();
    Err(Failure::usage(format!(
        "there is no lab {lab:?}; did you mean {close:?}? `plumb lab list` names them all"
    )))
}

/// The topology of a built-in lab, or of a file.
pub(super) fn topology(lab: &str) -> Result<Topology, Failure> {
    Topology::from_toml(&source(lab)?).map_err(|e| Failure::usage(format!("topology {lab}: {e}")))
}

/// Runs a command in a private network whose uplink is the lab, and ends as the command does.
fn inside(
    lab: &str,
    seed: Option<u64>,
    bridge: Option<&str>,
    command: Vec<String>,
) -> anyhow::Result<ExitCode> {
    let topology = topology(lab)?;
    let seed = seed.unwrap_or_else(any_seed);
    if command.is_empty() && io::stderr().is_terminal() {
        let targets = addresses(&topology).join(" ");
        writeln!(io::stderr(), "{}", topology.summary())?;
        writeln!(
            io::stderr(),
            "try: plumb trace {targets}   (exit leaves the lab)"
        )?;
    }
    namespace::enter().map_err(|e| barred(&e))?;
    let vantage = topology.vantage();
    let options = TunOptions {
        name: "uplink".to_owned(),
        v4: vantage.v4,
        v6: vantage.v6,
        ..TunOptions::default()
    };
    let mut tun = Tun::create(&options).map_err(|e| barred(&e))?;
    let segment = bridge
        .map(|name| LabBridge::create(name, topology.clone(), seed))
        .transpose()
        .map_err(|e| barred(&e))?;
    let command = if command.is_empty() {
        vec![std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into())]
    } else {
        command.into_iter().map(OsString::from).collect()
    };
    let mut environment = vec![
        ("PLUMB_LAB", OsString::from(lab)),
        ("PLUMB_LAB_TARGETS", addresses(&topology).join(" ").into()),
    ];
    environment.extend(segment.iter().flat_map(LabBridge::environment));
    let child = Child::spawn(&command, &environment)?;
    precede_hosts();
    match segment {
        None => serve(&mut Network::new(&topology, seed), &mut tun, &child),
        Some(segment) => {
            let (mut hub, mut port) = segment.with_host(tun)?;
            serve(&mut hub, &mut port, &child)
        }
    }
}

/// Where that is allowed, this thread comes before the processes whose network it is: a network that
/// waits until its hosts leave it a processor has round-trip times of seconds where there are many.
pub(super) fn precede_hosts() {
    let _ = rustix::process::setpriority_process(None, NICE);
}

/// Far before others, and behind what keeps a system alive.
const NICE: i32 = -15;

/// Answers until the command has ended, and tells how it did.
fn serve(lab: &mut impl Engine, port: &mut impl Port, command: &Child) -> anyhow::Result<ExitCode> {
    let clock = Clock::new();
    let mut status = Ok(None);
    let mut look_again = Instant::ZERO;
    plumb_link::run(lab, port, &clock, &command.fds(), &mut (), |_, now| {
        // A system call per packet would be felt.
        if now < look_again {
            return Turn::Continue {
                wake_at: Some(look_again),
            };
        }
        look_again = now + LOOK_EVERY;
        status = command.try_wait();
        match status {
            Ok(None) => Turn::Continue { wake_at: None },
            Ok(Some(_)) | Err(_) => Turn::Stop,
        }
    })?;
    Ok(ExitCode::from(status?.unwrap_or(1)))
}

/// How often the command is looked after while packets flow.
const LOOK_EVERY: Duration = Duration::from_millis(1);

fn addresses(topology: &Topology) -> Vec<String> {
    topology.targets().iter().map(IpAddr::to_string).collect()
}

/// A different lab each time, where chance is part of it.
pub(super) fn any_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(1, |since| {
        since.as_secs() ^ u64::from(since.subsec_nanos()) << 32
    })
}

/// Why there can be no private network here, and the ways out.
pub(super) fn barred(error: &Error) -> Failure {
    let forbidden = namespace::why_forbidden();
    let ways: Vec<String> = forbidden
        .iter()
        .map(|(setting, allow)| format!("{setting} forbids it: run `sudo {allow}`"))
        .collect();
    let message = if ways.is_empty() {
        format!("{error}; use sudo, or see what `plumb doctor` says is missing")
    } else {
        format!("{error}; {}; or use sudo", ways.join("; "))
    };
    let denied = matches!(
        error,
        Error::System { source, .. } if source.kind() == io::ErrorKind::PermissionDenied
    );
    if denied || error.capability().is_some() {
        Failure::permission(message)
    } else {
        Failure::usage(message)
    }
}
