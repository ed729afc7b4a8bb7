//! `plumb flow`: how the connections of this host fare.

mod anonymise;
mod background;
mod besides;
mod capabilities;
mod cgroups;
mod limit;
mod live;
mod metrics;
mod quic;
mod resolve;
mod session;

use core::time::Duration;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::Context;
use plumb_ebpf::flow::{Config, Event, Profiler, Recorder};
use plumb_link::{Clock, capability};
use plumb_record::{EndReason, EndType, FlowSchema, Start, StartType, WallTime};
use plumb_wire::Instant;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::background::Background;
use self::besides::{Besides, watch_lookups};
use self::capabilities::{capabilities, explain};
use self::cgroups::Cgroups;
use self::limit::Limit;
use self::live::Live;
use self::metrics::{Around, Metrics};
use self::quic::QuicSocket;
use self::session::{Losses, Session};
use super::interrupt::Interrupts;
use super::trace::open;
use crate::args;
use crate::exit::{Exit, Failure};
use crate::export::Export;
use crate::output::flow_record::FlowEnd;
use crate::output::flow_sink::{FlowFormat, FlowSink};
use crate::output::style::Look;

/// Time between two looks into the ring, where it does not fill up before. A wake-up for each event
/// would cost more than watching the connection does.
const LOOK: Duration = Duration::from_millis(50);
/// Time between two looks for connections whose end was lost.
const SWEEP: Duration = Duration::from_secs(60);
/// How long a collector may take nothing at the end.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn run(args: &args::Flow) -> anyhow::Result<Exit> {
    let options = resolve::options(args).map_err(Failure::usage)?;
    let live = match args.live {
        true => Some(live::Settings::new(&args.sort, args.interval.0)?),
        false => None,
    };
    let mut interrupts = Interrupts::watch()?;
    // Whoever looks at the terminal shall not find it written over.
    let export = Export::start(&args.export, live.is_none())?;
    let out = open(args.output.as_deref())?;
    let clock = Clock::new();
    let metrics = match args.metrics {
        Some(address) => Some(Metrics::listen(address, clock.wall_ns(clock.now()))?),
        None => None,
    };
    let (recorder, there) = Recorder::start(options).map_err(explain)?;
    let besides = Besides {
        dns: match args.dns {
            true => Some(watch_lookups(args)?),
            false => None,
        },
        quic: match &args.quic_socket {
            Some(path) => Some(QuicSocket::bind(path)?),
            None => None,
        },
    };
    // Whoever looks at the screen is not to wait.
    let background = match args.live || args.capabilities {
        true => None,
        false => Background::begin(&recorder)?,
    };
    capability::drop_all()?;
    if args.capabilities {
        return capabilities(
            &recorder,
            args.json || args.format == args::FlowFormat::Json,
        );
    }
    if let Some(metrics) = &metrics {
        let address = metrics.address()?;
        // Nothing can be done where standard error is closed.
        drop(writeln!(
            io::stderr(),
            "plumb: metrics at http://{address}/metrics"
        ));
    }
    let format = match args.format {
        _ if args.live => FlowFormat::Nothing,
        _ if args.json => FlowFormat::Json,
        args::FlowFormat::Json => FlowFormat::Json,
        args::FlowFormat::None => FlowFormat::Nothing,
        args::FlowFormat::Table if args.output.is_some() => FlowFormat::Table(Look::of_file()),
        args::FlowFormat::Table => FlowFormat::Table(Look::of_stdout()),
    };
    let mut session = Session {
        profiler: Profiler::new(Config {
            live: recorder.live(),
            max_connections: usize::try_from(args.max_connections).unwrap_or(usize::MAX),
        }),
        sink: FlowSink::new(out, format),
        export,
        processes: args.processes.clone(),
        kept: args.anonymise,
        limit: args.rate.map(|rate| Limit::new(rate, clock.now())),
        cgroups: Cgroups::new(),
        clock,
        profiles: 0,
        over_rate: 0,
        live: None,
        metrics,
    };
    session.sink.start(&Start {
        schema: FlowSchema::V1,
        kind: StartType::Start,
        time: WallTime(clock.wall_ns(clock.now())),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        arguments: std::env::args_os()
            .map(|a| a.to_string_lossy().into_owned())
            .collect(),
    })?;
    if let Some(settings) = live {
        session.live = Some(Live::open(settings, clock.now())?);
    }
    session.handle(&there)?;
    let exit = watch(
        &mut session,
        recorder,
        besides,
        &mut interrupts,
        background,
        args,
    );
    // The terminal is put back before anything is printed.
    session.live = None;
    for outcome in session.export.finish(PATIENCE) {
        let statistics = outcome.statistics;
        let lost = statistics.queued + statistics.queue_full + statistics.too_long;
        if lost > 0 {
            let name = outcome.name;
            // Nothing can be done where standard error is closed.
            drop(writeln!(
                io::stderr(),
                "plumb: {name}: {lost} records not sent"
            ));
        }
    }
    exit
}

/// Takes what happens until the user wants no more.
fn watch(
    session: &mut Session,
    mut recorder: Recorder,
    mut besides: Besides,
    interrupts: &mut Interrupts,
    mut background: Option<Background>,
    args: &args::Flow,
) -> anyhow::Result<Exit> {
    let started = session.clock.now();
    let until = args.duration.map(|duration| started + duration.0);
    // Often enough that no timeout is late by more than a quarter.
    let every = args
        .active_timeout
        .0
        .min(args.idle_timeout.0)
        .min(args.orphan_timeout.0)
        / 4;
    let every = every.clamp(Duration::from_millis(250), Duration::from_secs(30));
    let mut next_pass = started + every;
    let mut next_sweep = started + SWEEP;
    let signal = interrupts.fd()?;
    let mut losses = Losses::default();
    let reason = loop {
        wait(&recorder, &signal, session, LOOK)?;
        let now = session.clock.now();
        if let Some(background) = &mut background {
            background.turn(now);
        }
        session.clock.follow(Clock::new());
        if now >= next_pass {
            next_pass = now + every;
            go_over(session, |handle| recorder.pass(handle))?;
        }
        take(session, &mut recorder)?;
        if now >= next_sweep {
            next_sweep = now + SWEEP;
            sweep(session, &mut recorder, now)?;
        }
        besides.pass(session, now)?;
        session.export.wake();
        session.sink.flush()?;
        losses.tell(session, recorder.counts().dropped);
        answer(session, &recorder, &besides);
        if session.show(&mut recorder, now)? {
            break EndReason::Completed;
        }
        if interrupts.count() > 0 {
            break EndReason::Interrupted;
        }
        if until.is_some_and(|until| now >= until) {
            break EndReason::Completed;
        }
    };
    session.live = None;
    drop(background);
    go_over(session, |handle| recorder.stop(handle))?;
    take(session, &mut recorder)?;
    besides.pass(session, session.clock.now())?;
    besides.finish(session)?;
    let counts = recorder.counts();
    session.sink.end(&FlowEnd {
        schema: FlowSchema::V1,
        kind: EndType::End,
        time: WallTime(session.clock.wall_ns(session.clock.now())),
        reason,
        connections: counts.connections,
        profiles: session.profiles,
        profiles_over_rate: session.over_rate,
        events_dropped: counts.dropped,
        events_unknown: session.profiler.unknown(),
        ends_lost: session.profiler.ends_lost(),
        connections_untracked: counts.untracked,
    })?;
    losses.report(session, counts.dropped);
    Ok(match reason {
        EndReason::Interrupted => Exit::Interrupted,
        EndReason::Completed | EndReason::Failed => Exit::Reached,
    })
}

/// Forgets the connections whose end was lost.
fn sweep(session: &mut Session, recorder: &mut Recorder, now: Instant) -> anyhow::Result<()> {
    let mut there = BTreeSet::new();
    let seen = recorder.look(|event| {
        there.insert(event.cookie);
    });
    seen.context("cannot look at the connections")?;
    session.profiler.sweep(&there, now.as_nanos());
    Ok(())
}

/// Hands on what the programs have told.
fn take(session: &mut Session, recorder: &mut Recorder) -> anyhow::Result<()> {
    go_over(session, |handle| {
        recorder.take(handle);
        Ok(())
    })
}

/// Hands on what a pass over the connections tells.
fn go_over(
    session: &mut Session,
    pass: impl FnOnce(&mut dyn FnMut(&[Event])) -> io::Result<()>,
) -> anyhow::Result<()> {
    let mut handled = Ok(());
    pass(&mut |events| {
        if handled.is_ok() {
            handled = session.handle(events);
        }
    })
    .context("cannot go over the connections")?;
    Ok(handled?)
}

/// Answers who asks for metrics.
fn answer(session: &mut Session, recorder: &Recorder, besides: &Besides) {
    let Some(metrics) = &mut session.metrics else {
        return;
    };
    let around = Around {
        recorder,
        profiler: &session.profiler,
        export: &session.export,
        besides,
        over_rate: session.over_rate,
    };
    metrics.answer(session.clock.now(), around);
}

/// Waits until the ring is a quarter full, a signal, a key or a scrape comes, or the time is over.
fn wait(
    recorder: &Recorder,
    signal: &impl AsFd,
    session: &Session,
    time: Duration,
) -> io::Result<()> {
    let keyboard = session.live.as_ref().map(Live::keyboard);
    let always: [BorrowedFd<'_>; 2] = [recorder.as_fd(), signal.as_fd()];
    let to_read = always.into_iter().chain(keyboard);
    let scrapes = session.metrics.iter().flat_map(Metrics::interests);
    let mut fds: Vec<PollFd<'_>> = to_read
        .map(|fd| (fd, PollFlags::IN))
        .chain(scrapes)
        .map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags))
        .collect();
    let time = Timespec::try_from(time).map_err(io::Error::other)?;
    match poll(&mut fds, Some(&time)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
