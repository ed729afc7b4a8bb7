//! The continuous view in the terminal.
//!
//! `model` is what is known of each target, `session` decides when rounds begin, `view` draws,
//! `keys` says what keys do; all four are pure. This module connects them with the engine, the
//! network and the terminal. `docs/live.md` of the project is the manual.

mod columns;
mod explain;
mod keys;
mod model;
mod output;
pub(crate) mod record;
mod report;
mod rows;
mod session;
mod statistics;
pub(crate) mod terminal;
pub(crate) mod view;

#[cfg(test)]
pub(crate) mod testing;

use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use anyhow::Context as _;
use plumb_link::{Clock, Mode, Port, Turn};
use plumb_probe::{Config, Engine, Event, Headers, Job, JobId, Refused, Stats, TraceOptions};
use plumb_record::{EndReason, Method, TraceSchema};
use plumb_wire::Instant;

use crate::command::interrupt::Interrupts;
use crate::command::network::{Needs, Way, lacks};
use crate::command::prober::{Prober, ProberNews};
use crate::command::session::observer;
use crate::exit::{Exit, Failure};
use crate::live::keys::Ui;
use crate::live::model::Target;
use crate::live::output::{Ending, Output};
use crate::live::session::{Pace, Round, Session};
use crate::live::terminal::{Input, Screen};
use crate::names::{Lookup, Names};
use crate::output::ndjson::write_record;
use crate::output::pcapng::Capture;
use crate::output::style::Look;
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
    let way = Way {
        mode: settings.mode,
        source: settings.source,
        interface: settings.interface.clone(),
        flow: settings.options.flow,
        tcp: settings.options.method == Method::TcpParis,
    };
    let mut sources = way.sources()?;
    let found = Found::of(&settings);
    let mut view = Live::new(settings, live, found, &mut |dst| {
        sources.source_for(dst).map_err(|error| error.to_string())
    })?;
    let mut port = way.open(view.needs(), false)?;
    if port.mode() == Mode::Unprivileged {
        drop(writeln!(io::stderr(), "plumb: {}", lacks()));
        view.rebuild_headers();
    }
    view.limit_jobs(port.flows());
    let mut interrupts = Interrupts::watch().context("cannot watch for signals")?;
    let signals = interrupts.fd().context("cannot watch for signals")?;
    let mut engine = Engine::new(view.engine, view.seed);
    let clock = view.clock;
    let mut capture = view.open()?;
    let keyboard = view.keyboard()?;
    let mut watch = vec![signals.as_fd()];
    watch.extend(keyboard.as_ref().map(AsFd::as_fd));
    let mut nobody = ();
    let outcome = plumb_link::run(
        &mut engine,
        &mut port,
        &clock,
        &watch,
        observer(&mut capture, &mut nobody),
        |engine, now| view.turn(engine, now, interrupts.count()),
    );
    let outcome = outcome.map_err(anyhow::Error::from);
    view.end(engine.stats(), port.dropped(), capture, outcome)
}

/// What says which source address leads to a destination, or why none does.
pub(crate) type SourceOf<'a> = &'a mut dyn FnMut(IpAddr) -> Result<IpAddr, String>;

/// What the settings name, looked up.
pub(crate) struct Found(Vec<Result<crate::targets::Target, String>>);

impl Found {
    pub(crate) fn of(settings: &TraceSettings) -> Self {
        let names = settings.input.arguments.iter();
        let find = |name: &String| crate::targets::Target::resolve(name, settings.family);
        Self(names.map(find).collect())
    }
}

/// Finds the way to each target. The second value says that some are no use.
fn targets(
    found: Found,
    options: &TraceOptions,
    source_for: SourceOf<'_>,
) -> anyhow::Result<(Vec<Target>, bool)> {
    let mut seen = HashSet::new();
    let mut targets = Vec::new();
    let mut unusable = Vec::new();
    for target in found.0 {
        match target.and_then(|target| Ok((source_for(target.addr)?, target))) {
            Ok((src, target)) => {
                if seen.insert(target.addr) {
                    let name = target.name.unwrap_or_else(|| target.addr.to_string());
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

/// A view and its rounds, whatever it is that runs them.
pub(crate) struct Live {
    session: Session,
    ui: Ui,
    /// How the rounds are to be run.
    pub(crate) engine: Config,
    pub(crate) seed: u64,
    pub(crate) clock: Clock,
    /// Where packets go, until [`open`](Self::open) hands it out.
    capture: Option<Capture>,
    /// Whether replies lack quoted TTLs for want of a privilege.
    unprivileged: bool,
    /// Whether some targets are no use.
    unusable: bool,
    /// Rounds under way, with their identifiers there.
    jobs: BTreeMap<JobId, Round>,
    names: Option<Names>,
    /// Addresses whose names were asked for.
    unnamed: Vec<IpAddr>,
    screen: Option<Screen>,
    /// What becomes readable when a key is pressed.
    keyboard: Option<File>,
    out: BufWriter<Box<dyn Write>>,
    output: Output,
    /// Tunnels in the records of rounds so far.
    tunnels: u64,
    drawn: Option<Instant>,
    /// When something will have changed on the screen, were it only the time.
    due: Instant,
    left: bool,
    interrupted: bool,
    /// Why a turn ended it.
    failed: Option<anyhow::Error>,
}

impl Live {
    /// A view of the targets that the settings name. Nothing is shown yet.
    pub(crate) fn new(
        settings: TraceSettings,
        live: LiveSettings,
        found: Found,
        source_for: SourceOf<'_>,
    ) -> anyhow::Result<Self> {
        let output = Output::choose(&settings, live)?;
        let clock = Clock::new();
        let capture = settings
            .pcap
            .as_deref()
            .map(|path| Capture::create(path, clock))
            .transpose()?;
        let (targets, unusable) = targets(found, &settings.options, source_for)?;
        let now = clock.now();
        let engine = Config {
            cache_lifetime: settings.engine.cache_lifetime.min(CACHE_LIFETIME),
            // A plain round and a check of each target.
            window: settings.engine.window.max(targets.len() * 2),
            headers: Headers::Received,
            ..settings.engine
        };
        let pace = Pace {
            interval: live.interval,
            recheck: live.recheck,
            count: live.rounds,
            concurrent: true,
        };
        let (options, seed, names) = (settings.options, settings.seed, settings.names);
        Ok(Self {
            session: Session::new(targets, options, pace, seed, names, now),
            ui: Ui::new(Look::of_stdout()),
            engine,
            seed,
            clock,
            capture,
            unprivileged: false,
            unusable,
            jobs: BTreeMap::new(),
            names: None,
            unnamed: Vec::new(),
            screen: None,
            keyboard: None,
            out: BufWriter::new(Box::new(io::stdout())),
            output,
            tunnels: 0,
            drawn: None,
            due: now,
            left: false,
            interrupted: false,
            failed: None,
        })
    }

    /// The IP versions of the targets.
    fn needs(&self) -> Needs {
        let targets = self.session.targets();
        targets.fold(Needs::default(), |needs, target| needs.with(target.dst()))
    }

    /// Replies come without what headers say.
    fn rebuild_headers(&mut self) {
        self.unprivileged = true;
        self.engine.headers = Headers::Rebuilt;
        self.session.take_turns();
    }

    /// No more rounds than this can be told apart at once.
    fn limit_jobs(&mut self, most: Option<usize>) {
        self.engine.window = self.engine.window.min(most.unwrap_or(usize::MAX));
    }

    /// Whether somebody wants all packets.
    pub(crate) const fn wants_packets(&self) -> bool {
        self.capture.is_some()
    }

    /// Whether the terminal is taken, so that nothing else may be written there.
    pub(crate) const fn has_screen(&self) -> bool {
        self.screen.is_some()
    }

    /// What becomes readable when a key is pressed.
    pub(crate) fn keyboard(&self) -> io::Result<Option<File>> {
        self.keyboard.as_ref().map(File::try_clone).transpose()
    }

    /// One round of the event loop. What fails here ends it, and [`end`](Self::end) says what it
    /// was.
    pub(crate) fn turn<P: Prober>(
        &mut self,
        prober: &mut P,
        now: Instant,
        interrupts: usize,
    ) -> Turn {
        if interrupts > 0 {
            self.interrupted = true;
            return Turn::Stop;
        }
        self.try_turn(prober, now).unwrap_or_else(|error| {
            self.failed = Some(error);
            Turn::Stop
        })
    }

    /// Puts the terminal back, prints the report, and says how it ended.
    pub(crate) fn end(
        mut self,
        stats: Stats,
        dropped: u64,
        capture: Option<Capture>,
        outcome: anyhow::Result<()>,
    ) -> anyhow::Result<Exit> {
        // The terminal is put back before anything is printed.
        self.screen = None;
        if let Some(error) = self.failed {
            return Err(error);
        }
        let ending = Ending {
            reason: match (&outcome, self.interrupted) {
                (Err(_), _) => EndReason::Failed,
                (Ok(()), true) => EndReason::Interrupted,
                (Ok(()), false) => EndReason::Completed,
            },
            error: outcome.as_ref().err().map(ToString::to_string),
            stats,
            dropped,
        };
        self.finish(&ending)?;
        if let Some(capture) = capture {
            capture.finish().context("cannot write the packets")?;
        }
        outcome?;
        Ok(if self.interrupted {
            Exit::Interrupted
        } else if self.unusable {
            Exit::Partial
        } else if self.session.targets().all(Target::reached) {
            Exit::Reached
        } else {
            Exit::NotReached
        })
    }

    /// Takes over the terminal, or writes what comes first. Returns where packets go.
    pub(crate) fn open(&mut self) -> anyhow::Result<Option<Capture>> {
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
                let start = self.start_record(TraceSchema::V1, self.session.started());
                write_record(&mut self.out, &start)?;
                self.out.flush()?;
            }
            Output::Report { .. } => {}
        }
        Ok(self.capture.take())
    }

    fn try_turn<P: Prober>(&mut self, prober: &mut P, now: Instant) -> anyhow::Result<Turn> {
        self.read_keys(now)?;
        self.drain(prober, now)?;
        while let Some(round) = self.session.poll_round(now) {
            let job = Job::Trace(plumb_probe::Trace {
                src: round.src,
                dst: round.dst,
                options: Arc::new(round.options),
            });
            match prober.start(job, now) {
                Ok(job) => {
                    self.jobs.insert(job, round);
                }
                Err(refused) => {
                    let why = (refused != Refused::Full).then(|| refused.to_string());
                    self.session.handle_refusal(&round, why, now);
                }
            }
            self.due = now;
        }
        // A job may end as it begins.
        self.drain(prober, now)?;
        let named = self.receive_names();
        if self.left || self.session.is_finished() && prober.finish() {
            return Ok(Turn::Stop);
        }
        self.draw(prober.stats(), now)?;
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
        while let Some(input) =
            terminal::next_input().context("cannot read keys from the terminal")?
        {
            let action = match input {
                Input::Key(key) => keys::action(key),
                Input::Other => None,
                Input::Gone => {
                    self.left = true;
                    break;
                }
            };
            if let Some(action) = action {
                self.left |= self.ui.apply(action, &mut self.session, now);
            }
            self.due = now;
        }
        Ok(())
    }

    fn drain<P: Prober>(&mut self, prober: &mut P, now: Instant) -> anyhow::Result<()> {
        while let Some(news) = prober.poll_news() {
            match news {
                ProberNews::Event(event) => self.handle(event, now)?,
                ProberNews::Refused { job, why, .. } => {
                    if let Some(round) = self.jobs.remove(&job) {
                        self.session.handle_refusal(&round, why, now);
                    }
                }
            }
            self.due = now;
        }
        Ok(())
    }

    fn handle(&mut self, event: Event, now: Instant) -> anyhow::Result<()> {
        match event {
            Event::Hop { job, hop } => {
                if let Some(round) = self.jobs.get(&job) {
                    self.session.handle_hop(round.target, round.kind, &hop, now);
                }
            }
            Event::Trace {
                job,
                started,
                mut trace,
            } => {
                let Some(Round { target, kind, .. }) = self.jobs.remove(&job) else {
                    return Ok(());
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
                    write_record(&mut self.out, &trace)?;
                    self.out.flush()?;
                }
            }
            Event::PingReply { .. } | Event::Ping { .. } => {}
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
            rate: self.engine.rate,
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
}
