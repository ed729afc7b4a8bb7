//! `plumb vm run`: a measurement from a machine.

use std::ffi::OsString;
use std::os::fd::AsFd;

use anyhow::Context as _;

use super::control::{self, Measurement, Order};
use super::probe::{Prepared, Probe};
use crate::args::{self, Command, ModeName, VmRun};
use crate::command::feed::Feed;
use crate::command::interrupt::Interrupts;
use crate::command::prober::Prober as _;
use crate::command::session::{Plan, Session, Work, observer};
use crate::command::status::Status;
use crate::command::{ping, trace};
use crate::exit::{Exit, Failure};
use crate::live::{Found, Live};
use crate::settings::{LiveSettings, TraceSettings};

pub(super) fn run(mut args: VmRun) -> anyhow::Result<Exit> {
    let measurement = core::mem::take(&mut args.measurement);
    let command = parse(measurement)?;
    let measurement = if let Command::Trace(what) = command {
        check_trace(&what)?;
        Measurement::Trace(what.0)
    } else if let Command::Ping(what) = command {
        check(what.mode, what.interface.as_deref())?;
        Measurement::Ping(what.0)
    } else {
        return Err(Failure::usage("a machine can `trace` and `ping`, and nothing else").into());
    };
    let order = Order {
        machine: args,
        measurement,
    };
    control::start_anew(&order);
    carry_out(order)
}

/// Measures from a machine.
pub(super) fn carry_out(order: Order) -> anyhow::Result<Exit> {
    let Order {
        machine,
        measurement,
    } = order;
    match measurement {
        Measurement::Trace(what) => {
            let follow = |settings, live| follow(&machine, settings, live);
            trace::run_with(*what, |plan, work| measure(&machine, plan, work), follow)
        }
        Measurement::Ping(what) => {
            ping::run_with(*what, |plan, work| measure(&machine, plan, work))
        }
    }
}

/// The measurement, as plumb's own command line would be understood.
fn parse(measurement: Vec<OsString>) -> anyhow::Result<Command> {
    let program = OsString::from("plumb");
    let arguments = core::iter::once(program).chain(measurement).collect();
    // Settings of this system's sockets are none of a machine's.
    match crate::parse(arguments, &["mode", "interface", "source"])? {
        Ok(plumb) => Ok(plumb.command),
        Err(shown) => {
            drop(shown.print());
            let exit = if shown.use_stderr() {
                Exit::Usage
            } else {
                Exit::Reached
            };
            std::process::exit(exit as i32)
        }
    }
}

fn check_trace(args: &args::Trace) -> Result<(), Failure> {
    check(args.mode, args.interface.as_deref())?;
    if args.dry_run {
        return Err(Failure::usage(
            "--dry-run sends nothing, so it needs no machine: use `plumb trace --dry-run`",
        ));
    }
    Ok(())
}

fn check(mode: ModeName, interface: Option<&str>) -> Result<(), Failure> {
    if mode != ModeName::Auto {
        return Err(Failure::usage(
            "--mode chooses among this system's sockets, and a machine uses none of them",
        ));
    }
    if interface.is_some() {
        return Err(Failure::usage(
            "a machine has one interface, so there is no --interface; see --uplink of \
             `plumb vm run`",
        ));
    }
    Ok(())
}

fn measure(args: &VmRun, plan: Plan, work: &mut dyn Work) -> anyhow::Result<Exit> {
    let Plan {
        input,
        family,
        way,
        mut engine,
        seed,
        mut capture,
        progress,
        clock,
    } = plan;
    let mut status = Status::new(progress, input.list.is_some());
    // Names are looked up in this system's network, before a lab's private one is entered.
    let feed = Feed::open(&input, family, &mut status)?;
    let prepared = Prepared::of(args, &mut status)?;
    let sources = prepared.sources(way.source)?;
    if input.list.is_none() {
        // A machine makes room for as many as there may be.
        engine.window = engine.window.min(input.arguments.len());
    }
    let mut interrupts = Interrupts::watch().context("cannot watch for signals")?;
    status.announce(engine.rate);
    let mut session = Session::new(work, feed, sources, status, clock, &engine);
    session.begin()?;
    let mut probe = Probe::new(args, prepared, (engine, seed, capture.is_some()), clock);
    session.try_turn(&mut probe.remote, clock.now(), 0)?;
    probe.start()?;
    session.start_feed();
    let signals = interrupts.fd().context("cannot watch for signals")?;
    let bell = session.bell()?;
    let mut watch = vec![signals.as_fd()];
    watch.extend(bell.as_ref().map(AsFd::as_fd));
    let mut nobody = ();
    let outcome = probe.drive(
        &watch,
        observer(&mut capture, &mut nobody),
        |remote, lines, now| {
            for line in lines {
                session.status.line(line);
            }
            session.turn(remote, now, interrupts.count())
        },
    );
    probe.shut_down();
    if probe.remote.unreported() > 0 {
        session.status.line(&lost(probe.remote.unreported()));
    }
    let (stats, dropped) = (probe.remote.stats(), probe.remote.dropped());
    let exit = session.end(stats, dropped, capture, outcome);
    probe.end();
    exit
}

/// The same for `--live` and `--report`.
fn follow(args: &VmRun, settings: TraceSettings, live: LiveSettings) -> anyhow::Result<Exit> {
    let mut status = Status::new(false, false);
    let found = Found::of(&settings);
    let prepared = Prepared::of(args, &mut status)?;
    let mut sources = prepared.sources(settings.source)?;
    let mut view = Live::new(settings, live, found, &mut sources)?;
    let mut interrupts = Interrupts::watch().context("cannot watch for signals")?;
    let signals = interrupts.fd().context("cannot watch for signals")?;
    let session = (view.engine, view.seed, view.wants_packets());
    let mut probe = Probe::new(args, prepared, session, view.clock);
    probe.start()?;
    let mut capture = view.open()?;
    let keyboard = view.keyboard()?;
    let mut watch = vec![signals.as_fd()];
    watch.extend(keyboard.as_ref().map(AsFd::as_fd));
    let mut nobody = ();
    let outcome = probe.drive(
        &watch,
        observer(&mut capture, &mut nobody),
        |remote, lines, now| {
            for line in lines.iter().filter(|_| !view.has_screen()) {
                status.line(line);
            }
            view.turn(remote, now, interrupts.count())
        },
    );
    probe.shut_down();
    let unreported = probe.remote.unreported();
    let (stats, dropped) = (probe.remote.stats(), probe.remote.dropped());
    let exit = view.end(stats, dropped, capture, outcome);
    if unreported > 0 {
        status.line(&lost(unreported));
    }
    probe.end();
    exit
}

fn lost(packets: u64) -> String {
    format!("the capture lacks {packets} packets that the machine could not send")
}
