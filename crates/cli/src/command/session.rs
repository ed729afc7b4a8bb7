//! One run of the probing engine over a list of targets: what trace and ping have in common.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;

use anyhow::Context;
use plumb_link::{Clock, Mode, Observer, Port, Turn};
use plumb_probe::{Config, Engine, Event, Headers, Job, JobId, Refused};
use plumb_record::{End, EndReason, EndType, Progress, ProgressType, Start, StartType, WallTime};
use plumb_wire::Engine as _;
use plumb_wire::Instant;

use super::interrupt::Interrupts;
use super::network::{Needs, SourceChoice, Way, lacks};
use super::status::Status;
use crate::exit::{Exit, Failure};
use crate::output::pcapng::Capture;
use crate::settings::{Family, Input};
use crate::targets::{List, Next, Seen, Target, list_name};

/// What differs between trace and ping.
pub(super) trait Work {
    /// The job for a target.
    fn job(&self, src: IpAddr, dst: IpAddr) -> Job;

    /// Writes what comes first.
    fn start(&mut self, run: &Run) -> io::Result<()>;

    /// Takes an event and says what it means for the run.
    fn event(&mut self, event: Event, name: Option<&str>, run: &Run) -> io::Result<News>;

    /// Does what takes no event, and says when it wants to be called again if nothing happens.
    fn idle(&mut self, _now: Instant) -> io::Result<Option<Duration>> {
        Ok(None)
    }

    /// Records that are not written yet.
    fn pending(&self) -> usize {
        0
    }

    /// Writes how far the run has come.
    fn progress(&mut self, run: &Run) -> io::Result<()>;

    /// Writes what comes last.
    fn end(&mut self, run: &Run, end: &Ending) -> io::Result<()>;

    /// Makes what was written visible.
    fn flush(&mut self) -> io::Result<()>;
}

/// What an event means for the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// A target is still under way.
    Nothing,
    /// A target is finished.
    Finished {
        /// Whether it answered.
        reached: bool,
        /// Tunnels on the way there.
        tunnels: u64,
    },
}

/// What a run is made of.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) input: Input,
    pub(super) family: Family,
    pub(super) way: Way,
    pub(super) engine: Config,
    pub(super) seed: u64,
    pub(super) capture: Option<Capture>,
    /// Whether progress may be drawn.
    pub(super) progress: bool,
    pub(super) clock: Clock,
}

/// How far a run has come.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) clock: Clock,
    pub(super) started: Instant,
    pub(super) now: Instant,
    pub(super) stats: plumb_probe::Stats,
    pub(super) finished: u64,
    pub(super) reached: u64,
    pub(super) tunnels: u64,
    /// Targets taken from the input.
    pub(super) taken: u64,
    pub(super) duplicates: u64,
    /// Lines and arguments that are no targets.
    pub(super) unusable: u64,
    /// Targets that no route leads to.
    pub(super) unroutable: u64,
    pub(super) active: usize,
    /// How much of the list has been read, from 0 to 1.
    pub(super) read: Option<f64>,
    /// Whether all targets have been taken.
    pub(super) all_taken: bool,
}

/// How a run ended.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) reason: EndReason,
    pub(super) error: Option<String>,
    pub(super) dropped: u64,
}

impl Run {
    pub(super) fn wall(&self, at: Instant) -> WallTime {
        WallTime(self.clock.wall_ns(at))
    }

    pub(super) fn start_record<S>(&self, schema: S) -> Start<S> {
        Start {
            schema,
            kind: StartType::Start,
            time: self.wall(self.started),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            arguments: std::env::args_os()
                .map(|a| a.to_string_lossy().into_owned())
                .collect(),
        }
    }

    pub(super) fn progress_record<S>(&self, schema: S) -> Progress<S> {
        Progress {
            schema,
            kind: ProgressType::Progress,
            time: self.wall(self.now),
            finished: self.finished,
            targets: self.all_taken.then_some(self.taken),
            probes_sent: self.stats.sent,
            replies: self.stats.replies,
        }
    }

    pub(super) fn end_record<S>(&self, schema: S, end: &Ending) -> End<S> {
        End {
            schema,
            kind: EndType::End,
            time: self.wall(self.now),
            reason: end.reason,
            error: end.error.clone(),
            finished: self.finished,
            reached: self.reached,
            tunnels: self.tunnels,
            probes_sent: self.stats.sent,
            replies: self.stats.replies,
            late: self.stats.late,
            dropped: end.dropped,
        }
    }

    fn exit(&self, end: &Ending) -> Exit {
        if end.reason == EndReason::Interrupted {
            Exit::Interrupted
        } else if self.taken == 0 && self.unusable > 0 {
            Exit::Usage
        } else if self.unusable > 0 {
            Exit::Partial
        } else if self.reached == self.finished && self.unroutable == 0 {
            Exit::Reached
        } else {
            Exit::NotReached
        }
    }
}

/// Runs the engine until all targets are done or the user has had enough.
pub(super) fn run(plan: Plan, work: &mut dyn Work) -> anyhow::Result<Exit> {
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
    let mut feed = Feed::open(&input, family, &mut status)?;
    let sources = way.sources()?;
    let bulk = input.list.is_some();
    let mut port = way.open(feed.needs(family), bulk)?;
    // Threads keep the privileges that they are born with, so none is born before this.
    if let Some(list) = &mut feed.list {
        list.start();
    }
    let mut interrupts = Interrupts::watch().context("cannot watch for signals")?;
    status.announce(engine.rate);
    if port.mode() == Mode::Unprivileged {
        status.line(&lacks());
        engine.headers = Headers::Rebuilt;
    }
    engine.window = engine.window.min(port.flows().unwrap_or(usize::MAX));
    // Started targets are finished before others are begun: results come early, and the probes
    // of a path are not stretched over minutes.
    let most_backlog = engine.rate.map_or(MOST_BACKLOG, |rate| {
        (rate / BACKLOG_PER_SECOND).clamp(1, MOST_BACKLOG)
    });
    let mut engine = Engine::new(engine, seed);
    let started = clock.now();
    let mut session = Session {
        work,
        feed,
        sources,
        seen: Seen::default(),
        jobs: HashMap::new(),
        held: None,
        run: Run {
            clock,
            started,
            now: started,
            stats: engine.stats(),
            finished: 0,
            reached: 0,
            tunnels: 0,
            taken: 0,
            duplicates: 0,
            unusable: status.complaints(),
            unroutable: 0,
            active: 0,
            read: None,
            all_taken: false,
        },
        status,
        flushed: started,
        dirty: true,
        stopping: false,
        next_progress: started + PROGRESS_EVERY,
        most_backlog: usize::try_from(most_backlog).unwrap_or(usize::MAX),
    };
    session.work.start(&session.run)?;
    let signals = interrupts.fd().context("cannot watch for signals")?;
    let bell = session.feed.bell()?;
    let mut watch = vec![signals.as_fd()];
    watch.extend(bell.as_ref().map(AsFd::as_fd));
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
        |engine, now| match session.turn(engine, now, interrupts.count()) {
            Ok(turn) => turn,
            Err(error) => {
                failed = Some(error);
                Turn::Stop
            }
        },
    );
    session.status.clear();
    if let Some(error) = failed {
        return Err(error);
    }
    session.run.now = clock.now();
    session.run.stats = engine.stats();
    let ending = Ending {
        reason: match (&outcome, session.stopping) {
            (Err(_), _) => EndReason::Failed,
            (Ok(()), true) => EndReason::Interrupted,
            (Ok(()), false) => EndReason::Completed,
        },
        error: outcome.as_ref().err().map(ToString::to_string),
        dropped: port.dropped(),
    };
    session.work.end(&session.run, &ending)?;
    if let Some(capture) = capture {
        capture.finish().context("cannot write the packets")?;
    }
    session.status.summary(&session.run);
    outcome?;
    Ok(session.run.exit(&ending))
}

/// How often a JSON list gets a progress record.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);
/// Longest time that something written waits in a buffer.
const FLUSH_EVERY: Duration = Duration::from_millis(100);
/// Longest sleep of the loop, for the sake of what is drawn.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Most targets started in one turn, so that starting never keeps packets waiting.
const STARTS_PER_TURN: usize = 256;
/// The share of a second's packets that may be waiting before no more targets are started.
const BACKLOG_PER_SECOND: u32 = 50;
/// Most measurements that may be kept from sending, before another target is started.
const MOST_BACKLOG: u32 = 256;
/// Most records that may wait for names before no more targets are started.
const MOST_PENDING: usize = 10_000;

struct Session<'a> {
    work: &'a mut dyn Work,
    feed: Feed,
    sources: SourceChoice,
    seen: Seen,
    /// Jobs under way, with the names of their targets.
    jobs: HashMap<JobId, Option<String>>,
    /// A target that the engine had no room for.
    held: Option<(IpAddr, Target)>,
    run: Run,
    status: Status,
    flushed: Instant,
    /// Whether something was written and not flushed.
    dirty: bool,
    stopping: bool,
    next_progress: Instant,
    /// Measurements waiting to send with which no target is started.
    most_backlog: usize,
}

impl Session<'_> {
    /// One round: news out, targets in.
    fn turn(
        &mut self,
        engine: &mut Engine,
        now: Instant,
        interrupts: usize,
    ) -> anyhow::Result<Turn> {
        self.run.now = now;
        if interrupts > 1 {
            self.stopping = true;
            return Ok(Turn::Stop);
        }
        if interrupts == 1 && !self.stopping {
            self.stopping = true;
            self.held = None;
            let mut jobs: Vec<JobId> = self.jobs.keys().copied().collect();
            jobs.sort_unstable();
            for job in jobs {
                engine.stop(job, now);
            }
        }
        self.drain(engine)?;
        if !self.stopping {
            self.start_jobs(engine, now)?;
            // A job may end as it begins.
            self.drain(engine)?;
        }
        let pending = self.work.pending();
        let wanted = self.work.idle(now)?;
        self.dirty |= self.work.pending() != pending;
        self.run.stats = engine.stats();
        self.run.active = engine.active();
        let fed = self.stopping || self.run.all_taken && self.held.is_none();
        if fed && self.jobs.is_empty() && (self.stopping || self.work.pending() == 0) {
            return Ok(Turn::Stop);
        }
        if now >= self.next_progress {
            self.next_progress = now + PROGRESS_EVERY;
            if self.feed.list.is_some() {
                self.work.progress(&self.run)?;
                self.dirty = true;
            }
        }
        self.status.draw(&self.run);
        let mut wake_at = now + wanted.unwrap_or(LOOK_EVERY).min(LOOK_EVERY);
        if self.dirty {
            if now.since(self.flushed) >= FLUSH_EVERY {
                self.work.flush()?;
                self.flushed = now;
                self.dirty = false;
            } else {
                wake_at = wake_at.min(self.flushed + FLUSH_EVERY);
            }
        }
        Ok(Turn::Continue {
            wake_at: Some(wake_at),
        })
    }

    fn drain(&mut self, engine: &mut Engine) -> io::Result<()> {
        while let Some(event) = engine.poll_event() {
            let (job, last) = match &event {
                Event::Trace { job, .. } | Event::Ping { job, .. } => (*job, true),
                Event::Hop { job, .. } | Event::PingReply { job, .. } => (*job, false),
            };
            let name = if last {
                self.jobs.remove(&job).flatten()
            } else {
                None
            };
            self.dirty = true;
            if let News::Finished { reached, tunnels } =
                self.work.event(event, name.as_deref(), &self.run)?
            {
                self.run.finished += 1;
                self.run.reached += u64::from(reached);
                self.run.tunnels += tunnels;
            }
        }
        Ok(())
    }

    fn start_jobs(&mut self, engine: &mut Engine, now: Instant) -> Result<(), Failure> {
        for _ in 0..STARTS_PER_TURN {
            let busy = engine.backlog() >= self.most_backlog;
            if busy || !engine.has_room() || self.work.pending() >= MOST_PENDING {
                return Ok(());
            }
            let Some((src, target)) = self.held.take().or_else(|| self.next_target()) else {
                return Ok(());
            };
            match engine.start(self.work.job(src, target.addr), now) {
                Ok(job) => {
                    self.jobs.insert(job, target.name);
                }
                Err(Refused::Full) => {
                    self.held = Some((src, target));
                    return Ok(());
                }
                Err(Refused::BadOptions) => {
                    return Err(Failure::usage(Refused::BadOptions.to_string()));
                }
                Err(refused @ (Refused::FamilyMismatch | Refused::NotATarget)) => {
                    self.run.taken -= 1;
                    self.run.unusable += 1;
                    self.status.complain(&format!("{}: {refused}", target.addr));
                }
            }
        }
        Ok(())
    }

    /// The next target with the source address towards it, if one can be had now.
    fn next_target(&mut self) -> Option<(IpAddr, Target)> {
        loop {
            let target = match self.feed.next() {
                Next::Target(target) => target,
                Next::Unusable(line, why) => {
                    self.run.unusable += 1;
                    let place = self.feed.place(line);
                    self.status.complain(&format!("{place}: {why}"));
                    continue;
                }
                Next::Later => {
                    self.run.read = self.feed.fraction();
                    return None;
                }
                Next::End => {
                    self.run.all_taken = true;
                    return None;
                }
            };
            self.run.read = self.feed.fraction();
            if !target.is_unicast() {
                self.run.unusable += 1;
                let refused = Refused::NotATarget;
                self.status.complain(&format!("{}: {refused}", target.addr));
                continue;
            }
            if !self.seen.insert(target.addr) {
                self.run.duplicates += 1;
                continue;
            }
            self.run.taken += 1;
            match self.sources.source_for(target.addr) {
                Ok(src) => return Some((src, target)),
                Err(error) => {
                    self.run.unroutable += 1;
                    self.status.complain(&error.to_string());
                }
            }
        }
    }
}

/// Where targets come from: the arguments, then the list.
struct Feed {
    arguments: std::vec::IntoIter<Target>,
    list: Option<List>,
    /// What the list is called.
    path: String,
}

impl Feed {
    /// Resolves the arguments and begins to read the list.
    fn open(input: &Input, family: Family, status: &mut Status) -> anyhow::Result<Self> {
        let mut targets = Vec::new();
        for text in &input.arguments {
            match Target::resolve(text, family) {
                Ok(target) => targets.push(target),
                // The only target is the only error; among several, it is one of the results.
                Err(why) if input.arguments.len() == 1 && input.list.is_none() => {
                    return Err(Failure::usage(why).into());
                }
                Err(why) => status.complain(&why),
            }
        }
        let list = match &input.list {
            Some(path) => Some(List::open(path, family)?),
            None => None,
        };
        let path = input.list.as_deref().map_or_else(String::new, list_name);
        if targets.is_empty() && list.is_none() {
            return Err(Failure::usage("none of the targets can be used").into());
        }
        Ok(Self {
            arguments: targets.into_iter(),
            list,
            path,
        })
    }

    fn next(&mut self) -> Next {
        match (self.arguments.next(), &mut self.list) {
            (Some(target), _) => Next::Target(target),
            (None, Some(list)) => list.poll(),
            (None, None) => Next::End,
        }
    }

    /// The IP versions of the targets, as far as they are known.
    fn needs(&self, family: Family) -> Needs {
        let unknown = match self.list {
            Some(_) => Needs::of(family),
            None => Needs::default(),
        };
        let arguments = self.arguments.as_slice().iter();
        arguments.fold(unknown, |needs, target| needs.with(target.addr))
    }

    fn place(&self, line: u64) -> String {
        format!("{}:{line}", self.path)
    }

    fn fraction(&self) -> Option<f64> {
        self.list.as_ref().and_then(List::fraction)
    }

    /// What becomes readable when the list has more.
    fn bell(&self) -> io::Result<Option<std::os::fd::OwnedFd>> {
        self.list
            .as_ref()
            .map(|list| list.fd().try_clone_to_owned())
            .transpose()
    }
}
