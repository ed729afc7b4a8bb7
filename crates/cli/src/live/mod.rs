//! The continuous view in the terminal.
//!
//! `model` is what is known of each target, `session` decides when rounds begin, `view` draws,
//! `keys` says what keys do; all four are pure. This module connects them with the engine, the
//! network and the terminal. `docs/live.md` of the project is the manual.

mod columns;
mod explain;
mod keys;
mod model;
pub(crate) mod record;
mod report;
mod rows;
mod session;
mod statistics;
mod terminal;
mod view;

#[cfg(test)]
mod testing;

use core::time::Duration;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use anyhow::Context as _;
use crossterm::event;
use plumb_link::{Clock, Mode, Observer, Port, Turn};
use plumb_probe::{Config, Engine, Event, Headers, Job, JobId, Stats};
use plumb_record::{End, EndReason, EndType, Method, Start, StartType, TraceSchema, WallTime};
use plumb_wire::{Engine as _, Instant};

use crate::args::Format;
use crate::command::interrupt::Interrupts;
use crate::command::network::{Needs, Way, lacks};
use crate::exit::{Exit, Failure};
use crate::live::keys::Ui;
use crate::live::model::{Kind, Target};
use crate::live::record::LiveSchema;
use crate::live::session::{Pace, Session};
use crate::live::terminal::Screen;
use crate::names::{Lookup, Names};
use crate::output::pcapng::Capture;
use crate::output::style::Look;
use crate::output::trace_sink::json;
use crate::settings::{LiveSettings, TraceSettings};

/// Most targets that one view follows.
const MOST_TARGETS: usize = 100;
/// Least time between two drawings.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// Longest sleep while there is a terminal, whose changes of size ring no bell.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Time between two looks for names that have come.
const NAME_LOOK: Duration = Duration::from_millis(50);
/// Longest time that a revelation is shared between targets: a check shall look, not remember.
const CACHE_LIFETIME: Duration = Duration::from_secs(5);

/// Follows the targets until the user leaves or all rounds are done, then reports.
///
/// # Errors
///
/// If there is no target, no permission, no terminal, or if output or network break.
pub(crate) fn run(settings: TraceSettings, live: LiveSettings) -> anyhow::Result<Exit> {
    let output = Output::choose(&settings, live)?;
    let clock = Clock::new();
    let capture = settings
        .pcap
        .as_deref()
        .map(|path| Capture::create(path, clock))
        .transpose()?;
    let way = Way {
        mode: settings.mode,
        source: settings.source,
        interface: settings.interface.clone(),
        flow: settings.options.flow,
        tcp: settings.options.method == Method::TcpParis,
    };
    let (targets, unusable) = targets(&settings, &way)?;
    let needs = targets
        .iter()
        .fold(Needs::default(), |needs, target| needs.with(target.dst()));
    let mut port = way.open(needs, false)?;
    let rebuilt = port.mode() == Mode::Unprivileged;
    if rebuilt {
        drop(writeln!(io::stderr(), "plumb: {}", lacks()));
    }
    let mut interrupts = Interrupts::watch().context("cannot watch for signals")?;
    let signals = interrupts.fd().context("cannot watch for signals")?;
    let engine_config = Config {
        cache_lifetime: settings.engine.cache_lifetime.min(CACHE_LIFETIME),
        // A plain round and a check of each target.
        window: (settings.engine.window)
            .max(targets.len() * 2)
            .min(port.flows().unwrap_or(usize::MAX)),
        headers: if rebuilt {
            Headers::Rebuilt
        } else {
            Headers::Received
        },
        ..settings.engine
    };
    let mut engine = Engine::new(engine_config, settings.seed);
    let now = clock.now();
    let pace = Pace {
        interval: live.interval,
        recheck: live.recheck,
        count: live.rounds,
        concurrent: !rebuilt,
    };
    let session = Session::new(
        targets,
        settings.options,
        pace,
        settings.seed,
        settings.names,
        now,
    );

    let mut view = View {
        session,
        ui: Ui::new(Look::of_stdout()),
        rate: settings.engine.rate,
        unprivileged: rebuilt,
        jobs: BTreeMap::new(),
        names: None,
        unnamed: Vec::new(),
        screen: None,
        keyboard: None,
        out: BufWriter::new(Box::new(io::stdout())),
        output,
        clock,
        tunnels: 0,
        drawn: None,
        due: now,
        left: false,
    };
    let mut interrupted = false;
    view.open(now)?;
    let keyboard = view.keyboard.as_ref().map(File::try_clone).transpose()?;
    let mut watch = vec![signals.as_fd()];
    watch.extend(keyboard.as_ref().map(AsFd::as_fd));
    let mut capture = capture;
    let mut nobody = ();
    let observer: &mut dyn Observer = match &mut capture {
        Some(capture) => capture,
        None => &mut nobody,
    };
    let mut failed = None;
    let outcome = plumb_link::run(
        &mut engine,
        &mut port,
        &clock,
        &watch,
        observer,
        |engine, now| {
            if interrupts.count() > 0 {
                interrupted = true;
                return Turn::Stop;
            }
            view.turn(engine, now).unwrap_or_else(|error| {
                failed = Some(error);
                Turn::Stop
            })
        },
    );
    // The terminal is put back before anything is printed.
    view.screen = None;
    if let Some(error) = failed {
        return Err(error);
    }
    let ending = Ending {
        reason: match (&outcome, interrupted) {
            (Err(_), _) => EndReason::Failed,
            (Ok(()), true) => EndReason::Interrupted,
            (Ok(()), false) => EndReason::Completed,
        },
        error: outcome.as_ref().err().map(ToString::to_string),
        stats: engine.stats(),
        dropped: port.dropped(),
    };
    view.finish(&ending)?;
    if let Some(capture) = capture {
        capture.finish().context("cannot write the packets")?;
    }
    outcome?;
    Ok(if interrupted {
        Exit::Interrupted
    } else if unusable {
        Exit::Partial
    } else if view.session.targets().all(Target::reached) {
        Exit::Reached
    } else {
        Exit::NotReached
    })
}

/// What is shown while it runs, and what is printed in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// The view, then the report; as NDJSON if `json`.
    View { json: bool },
    /// Nothing, then the report; as NDJSON if `json`.
    Report { json: bool },
    /// The record of each round as it ends.
    Rounds,
}

impl Output {
    fn choose(settings: &TraceSettings, live: LiveSettings) -> Result<Self, Failure> {
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
struct Ending {
    reason: EndReason,
    error: Option<String>,
    stats: Stats,
    dropped: u64,
}

/// Resolves the targets and finds the way to each. The second value says that some are no use.
fn targets(settings: &TraceSettings, way: &Way) -> anyhow::Result<(Vec<Target>, bool)> {
    let mut sources = way.sources()?;
    let mut seen = HashSet::new();
    let mut targets = Vec::new();
    let mut unusable = Vec::new();
    for text in &settings.input.arguments {
        let target = crate::targets::Target::resolve(text, settings.family).and_then(|target| {
            Ok((
                sources.source_for(target.addr).map_err(|e| e.to_string())?,
                target,
            ))
        });
        match target {
            Ok((src, target)) => {
                if seen.insert(target.addr) {
                    let name = target.name.unwrap_or_else(|| target.addr.to_string());
                    let options = &settings.options;
                    let (method, first) = (options.method, options.first_ttl);
                    targets.push(Target::new(name, src, target.addr, method, first));
                }
            }
            Err(why) => unusable.push(why),
        }
    }
    if targets.is_empty() || targets.len() > MOST_TARGETS {
        return Err(Failure::usage(if targets.is_empty() {
            unusable.join("; ")
        } else {
            format!(
                "--live follows at most {MOST_TARGETS} targets, and these are {}",
                targets.len()
            )
        })
        .into());
    }
    for why in &unusable {
        drop(writeln!(io::stderr(), "plumb: {why}"));
    }
    Ok((targets, !unusable.is_empty()))
}

/// Everything that the event loop calls.
struct View {
    session: Session,
    ui: Ui,
    rate: Option<u32>,
    /// Whether replies lack quoted TTLs for want of a privilege.
    unprivileged: bool,
    /// Rounds under way, with the index of their target and what they are for.
    jobs: BTreeMap<JobId, (usize, Kind)>,
    names: Option<Names>,
    /// Addresses whose names were asked for.
    unnamed: Vec<core::net::IpAddr>,
    screen: Option<Screen>,
    /// What becomes readable when a key is pressed.
    keyboard: Option<File>,
    out: BufWriter<Box<dyn Write>>,
    output: Output,
    clock: Clock,
    /// Tunnels in the records of rounds so far.
    tunnels: u64,
    drawn: Option<Instant>,
    /// When something will have changed on the screen, were it only the time.
    due: Instant,
    left: bool,
}

impl View {
    /// Takes over the terminal, or writes what comes first.
    fn open(&mut self, now: Instant) -> anyhow::Result<()> {
        match self.output {
            Output::View { .. } => {
                let keyboard = if io::stdin().is_terminal() {
                    File::from(io::stdin().as_fd().try_clone_to_owned()?)
                } else {
                    File::open("/dev/tty").context("cannot read keys from the terminal")?
                };
                self.keyboard = Some(keyboard);
                self.screen = Some(Screen::open().context("cannot set up the terminal")?);
            }
            Output::Rounds => {
                let start = self.start(TraceSchema::V1, now);
                json(&mut self.out, &start)?;
                self.out.flush()?;
            }
            Output::Report { .. } => {}
        }
        Ok(())
    }

    /// One round of the event loop.
    fn turn(&mut self, engine: &mut Engine, now: Instant) -> anyhow::Result<Turn> {
        self.read_keys(now)?;
        self.drain(engine, now)?;
        while let Some(round) = self.session.poll_round(now) {
            let job = Job::Trace(plumb_probe::Trace {
                src: round.src,
                dst: round.dst,
                options: Arc::new(round.options),
            });
            match engine.start(job, now) {
                Ok(job) => {
                    self.jobs.insert(job, (round.target, round.kind));
                }
                Err(refused) => self.session.handle_refusal(&round, refused, now),
            }
            self.due = now;
        }
        // A job may end as it begins.
        self.drain(engine, now)?;
        let named = self.receive_names();
        if self.left || self.session.is_finished() {
            return Ok(Turn::Stop);
        }
        self.draw(engine.stats(), now)?;
        let next_draw = self
            .screen
            .as_ref()
            .map(|_| self.next_draw().min(now + LOOK_EVERY));
        let next_name = (!named).then_some(now + NAME_LOOK);
        let wake_at = [self.session.poll_timeout(), next_draw, next_name];
        Ok(Turn::Continue {
            wake_at: wake_at.into_iter().flatten().min(),
        })
    }

    fn read_keys(&mut self, now: Instant) -> anyhow::Result<()> {
        if self.screen.is_none() {
            return Ok(());
        }
        while event::poll(Duration::ZERO).context("cannot read keys from the terminal")? {
            let action = match event::read().context("cannot read keys from the terminal")? {
                event::Event::Key(key) => keys::action(key),
                event::Event::Resize(..)
                | event::Event::FocusGained
                | event::Event::FocusLost
                | event::Event::Mouse(_)
                | event::Event::Paste(_) => None,
            };
            if let Some(action) = action {
                self.left |= self.ui.apply(action, &mut self.session, now);
            }
            self.due = now;
        }
        Ok(())
    }

    fn drain(&mut self, engine: &mut Engine, now: Instant) -> anyhow::Result<()> {
        while let Some(event) = engine.poll_event() {
            match event {
                Event::Hop { job, hop } => {
                    if let Some((target, kind)) = self.jobs.get(&job) {
                        self.session.handle_hop(*target, *kind, &hop, now);
                    }
                }
                Event::Trace {
                    job,
                    started,
                    mut trace,
                } => {
                    let Some((target, kind)) = self.jobs.remove(&job) else {
                        continue;
                    };
                    self.session.handle_trace(target, kind, &trace, now);
                    if self.output == Output::Rounds {
                        trace.start = self.wall(started);
                        trace.dst_name = self
                            .session
                            .target(target)
                            .map(|target| target.name().to_owned())
                            .filter(|name| *name != trace.dst.to_string());
                        self.tunnels += trace.tunnels.len() as u64;
                        json(&mut self.out, &trace)?;
                        self.out.flush()?;
                    }
                }
                Event::PingReply { .. } | Event::Ping { .. } => {}
            }
            self.due = now;
        }
        Ok(())
    }

    /// Asks for names and takes those that have come. Returns whether none is waited for.
    fn receive_names(&mut self) -> bool {
        let wanted = self.session.unnamed();
        self.unnamed.extend(wanted);
        if self.unnamed.is_empty() {
            return true;
        }
        let names = self.names.get_or_insert_with(Names::new);
        names.receive();
        self.unnamed.retain(|addr| match names.lookup(*addr) {
            Lookup::Asked => true,
            Lookup::Answered(name) => {
                self.session.handle_name(*addr, name.clone());
                false
            }
        });
        self.unnamed.is_empty()
    }

    fn next_draw(&self) -> Instant {
        let soonest = self.drawn.map_or(Instant::ZERO, |drawn| drawn + DRAW_EVERY);
        self.due.max(soonest)
    }

    fn draw(&mut self, stats: Stats, now: Instant) -> anyhow::Result<()> {
        if self.next_draw() > now {
            return Ok(());
        }
        let Some(screen) = &mut self.screen else {
            return Ok(());
        };
        let shown = view::Screen {
            session: &self.session,
            ui: &self.ui,
            stats,
            rate: self.rate,
            unprivileged: self.unprivileged,
            now,
        };
        screen
            .draw(|frame| view::draw(frame, &shown))
            .context("cannot draw on the terminal")?;
        self.drawn = Some(now);
        // The clock on the screen moves on with each second of the session.
        let second = now.since(self.session.started()).as_secs() + 1;
        self.due = self.session.started() + Duration::from_secs(second);
        Ok(())
    }

    /// Prints the report, or what comes last.
    fn finish(&mut self, ending: &Ending) -> anyhow::Result<()> {
        let end = self.clock.now();
        let started = self.session.started();
        match self.output {
            Output::Rounds => {
                let end = self.end(TraceSchema::V1, ending, end);
                json(&mut self.out, &end)?;
            }
            Output::View { json: true } | Output::Report { json: true } => {
                let start = self.start(LiveSchema::V1, started);
                json(&mut self.out, &start)?;
                for target in self.session.targets() {
                    let wall = |at| WallTime(self.clock.wall_ns(at));
                    let report = record::report(&self.session, target, wall, wall(end));
                    json(&mut self.out, &report)?;
                }
                let end = self.end(LiveSchema::V1, ending, end);
                json(&mut self.out, &end)?;
            }
            Output::View { json: false } | Output::Report { json: false } => {
                let start = self.wall(started);
                report::write(&mut self.out, &self.session, self.ui.look, start)?;
            }
        }
        self.out.flush()?;
        Ok(())
    }

    fn start<S>(&self, schema: S, at: Instant) -> Start<S> {
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

    fn end<S>(&self, schema: S, ending: &Ending, at: Instant) -> End<S> {
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

    fn wall(&self, at: Instant) -> WallTime {
        WallTime(self.clock.wall_ns(at))
    }
}
