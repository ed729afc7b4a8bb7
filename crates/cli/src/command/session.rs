//! One run of the probing engine over a list of targets: what trace and ping have in common.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::Context;
use plumb_link::{Clock, Mode, Observer, Port, Turn};
use plumb_probe::{Config, Engine, Event, Headers, Job, JobId, Refused};
use plumb_record::{End, EndReason, EndType, Progress, ProgressType, Start, StartType, WallTime};
use plumb_wire::Instant;

use super::feed::Feed;
use super::interrupt::Interrupts;
use super::network::{Way, lacks};
use super::prober::{Prober, ProberNews};
use super::status::Status;
use crate::exit::{Exit, Failure};
use crate::output::pcapng::Capture;
use crate::settings::{Family, Input};
use crate::targets::{Next, Seen, Target};

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
            arguments: crate::arguments()
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

/// Runs an engine in this process until all targets are done or the user has had enough.
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
    let mut sources = way.sources()?;
    let bulk = input.list.is_some();
    let mut port = way.open(feed.needs(family), bulk)?;
    // Threads keep the privileges that they are born with, so none is born before this.
    feed.start();
    let mut interrupts = Interrupts::watch().context("cannot watch for signals")?;
    status.announce(engine.rate);
    if port.mode() == Mode::Unprivileged {
        status.line(&lacks());
        engine.headers = Headers::Rebuilt;
    }
    engine.window = engine.window.min(port.flows().unwrap_or(usize::MAX));
    let sources: SourceOf = Box::new(move |dst| {
        let source = sources.source_for(dst);
        source.map_err(|error| error.to_string())
    });
    let mut session = Session::new(work, feed, sources, status, clock, &engine);
    let mut engine = Engine::new(engine, seed);
    session.begin()?;
    let signals = interrupts.fd().context("cannot watch for signals")?;
    let bell = session.bell()?;
    let mut watch = vec![signals.as_fd()];
    watch.extend(bell.as_ref().map(AsFd::as_fd));
    let mut nobody = ();
    let outcome = plumb_link::run(
        &mut engine,
        &mut port,
        &clock,
        &watch,
        observer(&mut capture, &mut nobody),
        |engine, now| session.turn(engine, now, interrupts.count()),
    );
    let outcome = outcome.map_err(anyhow::Error::from);
    let stats = engine.stats();
    session.end(stats, port.dropped(), capture, outcome)
}

/// Who is told of packets: the capture, if there is one.
pub(crate) fn observer<'a>(
    capture: &'a mut Option<Capture>,
    nobody: &'a mut (),
) -> &'a mut dyn Observer {
    match capture {
        Some(capture) => capture,
        None => nobody,
    }
}

/// How often a JSON list gets a progress record.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);
/// Longest time that something written waits in a buffer.
const FLUSH_EVERY: Duration = Duration::from_millis(100);
/// Longest sleep of the loop, for the sake of what is drawn.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Most targets started in one turn, so that starting never keeps packets waiting.
const STARTS_PER_TURN: usize = 256;
/// Most records that may wait for names before no more targets are started.
const MOST_PENDING: usize = 10_000;

/// What says which source address leads to a destination, or why none does.
pub(super) type SourceOf = Box<dyn FnMut(IpAddr) -> Result<IpAddr, String>>;

/// A run: targets in, news out, whatever it is that runs the jobs.
pub(super) struct Session<'a> {
    work: &'a mut dyn Work,
    feed: Feed,
    sources: SourceOf,
    seen: Seen,
    /// Jobs under way, with the names of their targets.
    jobs: HashMap<JobId, Option<String>>,
    /// A target that the engine had no room for.
    held: Option<(IpAddr, Target)>,
    run: Run,
    pub(super) status: Status,
    flushed: Instant,
    /// Whether something was written and not flushed.
    dirty: bool,
    stopping: bool,
    /// Why a turn ended the run.
    failed: Option<anyhow::Error>,
    next_progress: Instant,
    /// Measurements waiting to send with which no target is started.
    most_backlog: usize,
}

impl<'a> Session<'a> {
    /// A run that has not begun. `engine` is how its jobs are done.
    pub(super) fn new(
        work: &'a mut dyn Work,
        feed: Feed,
        sources: SourceOf,
        status: Status,
        clock: Clock,
        engine: &Config,
    ) -> Self {
        let started = clock.now();
        Self {
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
                stats: plumb_probe::Stats::default(),
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
            failed: None,
            next_progress: started + PROGRESS_EVERY,
            most_backlog: engine.most_backlog(),
        }
    }

    /// Writes what comes first.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        self.work.start(&self.run)
    }
    /// Begins to read the list, if there is one, in a thread of its own.
    pub(super) fn start_feed(&mut self) {
        self.feed.start();
    }

    /// What becomes readable when the list has more.
    pub(super) fn bell(&self) -> io::Result<Option<OwnedFd>> {
        self.feed.bell()
    }

    /// Writes what comes last, and says how the run ended. After a turn that failed there is
    /// nothing to write.
    pub(super) fn end(
        mut self,
        stats: plumb_probe::Stats,
        dropped: u64,
        capture: Option<Capture>,
        outcome: anyhow::Result<()>,
    ) -> anyhow::Result<Exit> {
        self.status.clear();
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.run.now = self.run.clock.now();
        self.run.stats = stats;
        let ending = Ending {
            reason: match (&outcome, self.stopping) {
                (Err(_), _) => EndReason::Failed,
                (Ok(()), true) => EndReason::Interrupted,
                (Ok(()), false) => EndReason::Completed,
            },
            error: outcome.as_ref().err().map(ToString::to_string),
            dropped,
        };
        self.work.end(&self.run, &ending)?;
        if let Some(capture) = capture {
            capture.finish().context("cannot write the packets")?;
        }
        self.status.summary(&self.run);
        outcome?;
        Ok(self.run.exit(&ending))
    }

    /// One round: news out, targets in. What fails here ends the run, and [`end`](Self::end) says
    /// what it was.
    pub(super) fn turn<P: Prober>(
        &mut self,
        prober: &mut P,
        now: Instant,
        interrupts: usize,
    ) -> Turn {
        self.try_turn(prober, now, interrupts)
            .unwrap_or_else(|error| {
                self.failed = Some(error);
                Turn::Stop
            })
    }

    /// The same for who can end the run himself.
    ///
    /// # Errors
    /// If the list, the names or what is written fail.
    pub(super) fn try_turn<P: Prober>(
        &mut self,
        prober: &mut P,
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
            prober.stop_all(&mut self.jobs.keys().copied(), now);
        }
        self.drain(prober)?;
        if !self.stopping {
            self.start_jobs(prober, now)?;
            // A job may end as it begins.
            self.drain(prober)?;
        }
        let pending = self.work.pending();
        let wanted = self.work.idle(now)?;
        self.dirty |= self.work.pending() != pending;
        self.run.stats = prober.stats();
        self.run.active = prober.active();
        let fed = self.stopping || self.run.all_taken && self.held.is_none();
        let finished = fed && prober.finish();
        if finished && self.jobs.is_empty() && (self.stopping || self.work.pending() == 0) {
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

    fn drain<P: Prober>(&mut self, prober: &mut P) -> io::Result<()> {
        while let Some(news) = prober.poll_news() {
            let event = match news {
                ProberNews::Event(event) => event,
                ProberNews::Refused { job, dst, why } => {
                    self.jobs.remove(&job);
                    if let Some(why) = why {
                        self.refused(dst, &why);
                    }
                    continue;
                }
            };
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

    /// Takes note that a target that was taken cannot be used.
    fn refused(&mut self, dst: IpAddr, why: &str) {
        self.run.taken -= 1;
        self.run.unusable += 1;
        self.status.complain(&format!("{dst}: {why}"));
    }

    fn start_jobs<P: Prober>(&mut self, prober: &mut P, now: Instant) -> Result<(), Failure> {
        for _ in 0..STARTS_PER_TURN {
            let busy = prober.backlog() >= self.most_backlog;
            if busy || !prober.has_room() || self.work.pending() >= MOST_PENDING {
                return Ok(());
            }
            let Some((src, target)) = self.held.take().or_else(|| self.next_target()) else {
                return Ok(());
            };
            match prober.start(self.work.job(src, target.addr), now) {
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
                    self.refused(target.addr, &refused.to_string());
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
            match (self.sources)(target.addr) {
                Ok(src) => return Some((src, target)),
                Err(error) => {
                    self.run.unroutable += 1;
                    self.status.complain(&error);
                }
            }
        }
    }
}
