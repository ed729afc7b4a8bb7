//! Stages as processes of their own, joined by pipes.

use std::io::pipe;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::Context;
use plumb_link::namespace::end_with_this_process;
use plumb_link::stage::PassedOn;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::plan::{Kind, Stage};
use super::text;
use crate::args::{FunctionArgs, PathPair};
use crate::exit::Failure;

/// What a shell says of a process that SIGPIPE ended.
const CLOSED_STATUS: u8 = 141;

/// Stages that run as one process.
#[derive(Debug)]
enum Group {
    /// Of plumb, side by side.
    Row {
        stages: Vec<Vec<String>>,
        /// One of them takes SIGHUP for a wish to read its settings again.
        reloads: bool,
    },
    /// An end of plumb with nothing of plumb beside it.
    End(Vec<String>),
    Program(Vec<String>),
}

#[derive(Debug)]
struct Running {
    name: String,
    child: Child,
    process: OwnedFd,
    /// What it does with signals that ask for something.
    takes: Takes,
    status: Option<u8>,
}

/// Which signals a process takes for a wish of its own kind.
#[derive(Clone, Copy, Debug, Default)]
struct Takes {
    /// SIGUSR1, for the counters.
    counters: bool,
    /// SIGHUP, to read settings again.
    reload: bool,
}

/// Runs stages as a shell would, those of plumb that stand side by side as one; returns the exit
/// status.
pub(super) fn run(stages: Vec<Stage>, args: &FunctionArgs) -> anyhow::Result<u8> {
    let groups = group(stages);
    let count = groups.len();
    let mut running: Vec<Running> = Vec::with_capacity(count);
    let signals = PassedOn::take_over()?;
    let mut input = Stdio::inherit();
    for (group, at) in groups.into_iter().zip(0..) {
        let (output, next) = if at + 1 < count {
            let (reader, writer) = pipe().context("cannot make a pipe")?;
            (Stdio::from(writer), Stdio::from(reader))
        } else {
            (Stdio::inherit(), Stdio::null())
        };
        let (mut command, name, takes) = command(group, args, (at == 0, at + 1 == count));
        command.stdin(input).stdout(output);
        let started = start(command, name, takes, &signals);
        match started {
            Ok(started) => running.push(started),
            Err(error) => {
                for other in &running {
                    let _ = pidfd_send_signal(&other.process, Signal::TERM);
                }
                let _ = wait_for_all(&mut running, None);
                return Err(error);
            }
        }
        input = next;
    }
    // The last end of each pipe that this process had goes with it.
    drop(input);
    if let Some(early) = signals.leave_keyboard() {
        pass_on(early, &running);
    }
    wait_for_all(&mut running, Some(&signals))?;
    Ok(status(&running))
}

fn group(stages: Vec<Stage>) -> Vec<Group> {
    let mut groups = Vec::new();
    for stage in stages {
        match (stage.kind, groups.last_mut()) {
            (Kind::Program, _) => groups.push(Group::Program(stage.words)),
            (Kind::End(_), None | Some(Group::Program(_))) => {
                groups.push(Group::End(stage.words));
            }
            (kind, Some(Group::Row { stages, reloads })) => {
                stages.push(stage.words);
                *reloads |= kind.reloads();
            }
            (kind, last) => {
                let mut stages = Vec::new();
                if let Some(Group::End(end)) = last {
                    stages.push(core::mem::take(end));
                    groups.pop();
                }
                stages.push(stage.words);
                let reloads = kind.reloads();
                groups.push(Group::Row { stages, reloads });
            }
        }
    }
    groups
}

/// What runs a group, and its name.
fn command(
    group: Group,
    args: &FunctionArgs,
    (is_first, is_last): (bool, bool),
) -> (Command, String, Takes) {
    let own = |reload| Takes {
        counters: true,
        reload,
    };
    match group {
        Group::Program(words) => {
            let mut words = words.into_iter();
            let name = words.next().unwrap_or_default();
            let mut command = Command::new(&name);
            command.args(words);
            (command, name, Takes::default())
        }
        Group::End(words) => {
            let mut words = words.into_iter();
            let mut command = Command::new("/proc/self/exe");
            command.args(words.next());
            command.args(["--side", if is_first { "right" } else { "left" }]);
            command.args(options(args));
            command.args(words);
            (command, "plumb".to_owned(), own(false))
        }
        Group::Row { stages, reloads } => {
            let mut command = Command::new("/proc/self/exe");
            command.arg("chain").args(options(args));
            if args.offline {
                command.arg("--offline");
            }
            if let Some(pair) = args.links.left.as_ref().filter(|_| is_first) {
                command.arg("--left").arg(written(pair));
            }
            if let Some(pair) = args.links.right.as_ref().filter(|_| is_last) {
                command.arg("--right").arg(written(pair));
            }
            let line = text::join(stages.iter().map(|words| &words[..]));
            command.arg("--").arg(line);
            (command, "plumb".to_owned(), own(reloads))
        }
    }
}

fn start(
    mut command: Command,
    name: String,
    takes: Takes,
    signals: &PassedOn,
) -> anyhow::Result<Running> {
    end_with_this_process(&mut command)?;
    signals.leave_to(&mut command)?;
    let child = command
        .spawn()
        .map_err(|e| Failure::usage(format!("cannot run {name}: {e}")))?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let process = pid
        .context("a process has no number")
        .and_then(|pid| Ok(pidfd_open(pid, PidfdFlags::empty())?))
        .context("cannot watch a process")?;
    Ok(Running {
        name,
        child,
        process,
        takes,
        status: None,
    })
}

/// The options of the chain that all its processes of plumb have too.
fn options(args: &FunctionArgs) -> Vec<String> {
    let links = &args.links;
    let all = [
        (links.no_upgrade, "--no-upgrade"),
        (links.drop, "--drop"),
        (links.gso, "--gso"),
        (links.counters, "--counters"),
        (links.json, "--json"),
    ];
    let said = all.into_iter().filter(|(is, _)| *is);
    let busy_poll = links.busy_poll.map(|long| {
        let seconds = long.0.as_secs_f64();
        format!("--busy-poll={seconds}")
    });
    said.map(|(_, option)| option.to_owned())
        .chain(busy_poll)
        .collect()
}

fn written(pair: &PathPair) -> std::ffi::OsString {
    let mut text = std::ffi::OsString::new();
    for (key, path) in [("in=", &pair.input), ("out=", &pair.output)] {
        if let Some(path) = path {
            if !text.is_empty() {
                text.push(",");
            }
            text.push(key);
            text.push(path);
        }
    }
    text
}

/// Waits for all processes, and passes signals on to them.
fn wait_for_all(running: &mut [Running], signals: Option<&PassedOn>) -> anyhow::Result<()> {
    loop {
        while let Some(signal) = signals.and_then(PassedOn::next) {
            pass_on(signal, running);
        }
        for one in running.iter_mut().filter(|one| one.status.is_none()) {
            let ended = one.child.try_wait();
            let ended = ended.with_context(|| format!("cannot wait for {}", one.name))?;
            one.status = ended.map(status_of);
        }
        let left: Vec<_> = running.iter().filter(|one| one.status.is_none()).collect();
        if left.is_empty() {
            return Ok(());
        }
        let fds = left.iter().map(|one| one.process.as_fd());
        let fds = fds.chain(signals.map(AsFd::as_fd));
        let mut fds: Vec<_> = fds
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let _ = poll(&mut fds, None);
    }
}

/// Sends a signal to whom it concerns.
fn pass_on(signal: Signal, running: &[Running]) {
    let reloads = running.iter().any(|one| one.takes.reload);
    let concerns = |one: &&Running| match signal {
        // Other programs do not know that this asks for counters, and would end of it.
        Signal::USR1 => one.takes.counters,
        Signal::HUP if reloads => one.takes.reload,
        _ => true,
    };
    for one in running
        .iter()
        .filter(|one| one.status.is_none())
        .filter(concerns)
    {
        let _ = pidfd_send_signal(&one.process, signal);
    }
}

fn status_of(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// That of the first that failed. Who ended because nobody read any more has not, unless nobody reads
/// the chain.
fn status(running: &[Running]) -> u8 {
    let last = running.len().saturating_sub(1);
    let failed = |(at, one): (usize, &Running)| {
        let status = one.status.unwrap_or(0);
        (status != 0 && (status != CLOSED_STATUS || at == last)).then_some(status)
    };
    running.iter().enumerate().find_map(failed).unwrap_or(0)
}
