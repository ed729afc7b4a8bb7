//! `plumb flow`: how the connections of this host fare.

mod anonymise;
mod cgroups;
mod limit;
mod quic;
mod resolve;

use core::time::Duration;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::Context;
use plumb_ebpf::dns;
use plumb_ebpf::flow::{Config, Error, Event, Profiler, Recorder};
use plumb_link::{Capability, Clock, capability};
use plumb_record::{
    DnsProfile, EndReason, EndType, FlowProfile, FlowSchema, Start, StartType, WallTime,
};
use plumb_wire::Instant;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::anonymise::{anonymise, network};
use self::cgroups::Cgroups;
use self::limit::Limit;
use self::quic::QuicSocket;
use super::interrupt::Interrupts;
use super::network::program;
use super::trace::open;
use crate::args::{self, KeptBits};
use crate::exit::{Exit, Failure};
use crate::export::Export;
use crate::output::flow_record::FlowEnd;
use crate::output::flow_sink::{FlowFormat, FlowSink};
use crate::output::style::{BAD, FAINT, GOOD, Look, STRONG};

/// Time between two looks into the ring, where it does not fill up before. A wake-up for each event
/// would cost more than watching the connection does.
const LOOK: Duration = Duration::from_millis(100);
/// How long a collector may take nothing at the end.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn run(args: &args::Flow) -> anyhow::Result<Exit> {
    let options = resolve::options(args).map_err(Failure::usage)?;
    let mut interrupts = Interrupts::watch()?;
    let export = Export::start(&args.export)?;
    let out = open(args.output.as_deref())?;
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
    capability::drop_all()?;
    if args.capabilities {
        return capabilities(
            &recorder,
            args.json || args.format == args::FlowFormat::Json,
        );
    }
    let clock = Clock::new();
    let format = match args.format {
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
    session.handle(&there)?;
    let exit = watch(&mut session, recorder, besides, &mut interrupts, args);
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
    let signal = interrupts.fd()?;
    let mut losses = Losses::default();
    let reason = loop {
        wait(&recorder, &signal, LOOK)?;
        let mut events = take_all(&mut recorder);
        let now = session.clock.now();
        session.clock.follow(Clock::new());
        if now >= next_pass {
            next_pass = now + every;
            let passed = recorder.pass().context("cannot go over the connections")?;
            events.extend(passed);
            // What the ring had to say meanwhile belongs between.
            events.extend(take_all(&mut recorder));
            events.sort_by_key(|event| event.at);
        }
        session.handle(&events)?;
        besides.pass(session, now)?;
        session.sink.flush()?;
        losses.tell(session, recorder.counts().dropped);
        if interrupts.count() > 0 {
            break EndReason::Interrupted;
        }
        if until.is_some_and(|until| now >= until) {
            break EndReason::Completed;
        }
    };
    let mut events = take_all(&mut recorder);
    events.extend(recorder.stop().context("cannot go over the connections")?);
    events.extend(take_all(&mut recorder));
    events.sort_by_key(|event| event.at);
    session.handle(&events)?;
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
        connections_untracked: counts.untracked,
    })?;
    losses.report(session, counts.dropped);
    Ok(match reason {
        EndReason::Interrupted => Exit::Interrupted,
        EndReason::Completed | EndReason::Failed => Exit::Reached,
    })
}

/// All that is in the ring.
fn take_all(recorder: &mut Recorder) -> Vec<Event> {
    let mut all = recorder.take();
    // A host that is busier than plumb would keep it here.
    for _ in 0..16 {
        let more = recorder.take();
        if more.is_empty() {
            break;
        }
        all.extend(more);
    }
    all
}

/// Waits until the ring is a quarter full, a signal comes, or the time is over.
fn wait(recorder: &Recorder, signal: &impl AsFd, time: Duration) -> io::Result<()> {
    let mut fds = [
        PollFd::new(recorder, PollFlags::IN),
        PollFd::new(signal, PollFlags::IN),
    ];
    let time = Timespec::try_from(time).map_err(io::Error::other)?;
    match poll(&mut fds, Some(&time)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What is recorded besides the kernel's connections.
#[derive(Debug)]
struct Besides {
    dns: Option<dns::Recorder>,
    quic: Option<QuicSocket>,
}

impl Besides {
    /// Takes what has happened.
    fn pass(&mut self, session: &mut Session, now: Instant) -> anyhow::Result<()> {
        if let Some(recorder) = &mut self.dns {
            recorder.read(now)?;
            let mut lookups = recorder.lookups();
            while let Some(lookup) = lookups.poll_record() {
                session.write_lookup(lookup)?;
            }
        }
        if let Some(socket) = &mut self.quic {
            for profile in socket.take().context("cannot read the socket for QUIC")? {
                session.write_reported(profile)?;
            }
        }
        Ok(())
    }

    /// Ends lookups that are under way, and says what was lost.
    fn finish(&mut self, session: &mut Session) -> io::Result<()> {
        let say = |count: u64, what: &str| {
            if count > 0 {
                drop(writeln!(io::stderr(), "plumb: {count} {what}"));
            }
        };
        if let Some(recorder) = &mut self.dns {
            say(recorder.lost(), "DNS messages lost: they came too fast");
            let mut lookups = recorder.lookups();
            say(
                lookups.evicted(),
                "name lookups forgotten: there were too many at once",
            );
            lookups.finish_all(session.clock.now());
            while let Some(lookup) = lookups.poll_record() {
                session.write_lookup(lookup)?;
            }
        }
        if let Some(socket) = &self.quic {
            say(
                socket.malformed(),
                "reports that were no profiles of QUIC connections",
            );
        }
        Ok(())
    }
}

/// Begins to watch the name lookups of the host or of a control group.
fn watch_lookups(args: &args::Flow) -> anyhow::Result<dns::Recorder> {
    let clock = Clock::new();
    let group = args.cgroup.as_deref().unwrap_or(Path::new("/"));
    let group = resolve::group_directory(group).map_err(Failure::usage)?;
    dns::Recorder::start(&group, clock.wall_ns(Instant::ZERO)).map_err(|error| {
        if error.is_permission() {
            Failure::permission(format!(
                "{error}: it takes CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; run `sudo setcap \
                 cap_bpf,cap_net_admin,cap_perfmon+ep {}` once, or use sudo",
                program()
            ))
            .into()
        } else {
            error.into()
        }
    })
}

/// What a run consists of, but for the kernel's part.
struct Session {
    profiler: Profiler,
    sink: FlowSink<BufWriter<Box<dyn Write>>>,
    export: Export,
    processes: Vec<String>,
    kept: Option<KeptBits>,
    limit: Option<Limit>,
    cgroups: Cgroups,
    clock: Clock,
    profiles: u64,
    over_rate: u64,
}

impl Session {
    fn handle(&mut self, events: &[Event]) -> io::Result<()> {
        for event in events {
            self.profiler.handle(event);
            while let Some(profile) = self.profiler.poll_profile() {
                self.write(profile)?;
            }
        }
        Ok(())
    }

    fn write(&mut self, mut profile: FlowProfile) -> io::Result<()> {
        if !self.processes.is_empty() && !self.wanted(&profile) {
            return Ok(());
        }
        let at = Instant::from_nanos(profile.end.0);
        let wall = |time: WallTime| WallTime(self.clock.wall_ns(Instant::from_nanos(time.0)));
        (profile.start, profile.end) = (wall(profile.start), wall(profile.end));
        self.write_at(profile, at)
    }

    /// Writes a profile that a process reported, whose times are wall time.
    fn write_reported(&mut self, profile: FlowProfile) -> io::Result<()> {
        if !self.processes.is_empty() && !self.wanted(&profile) {
            return Ok(());
        }
        self.write_at(profile, self.clock.now())
    }

    fn write_lookup(&mut self, mut lookup: DnsProfile) -> io::Result<()> {
        let now = self.clock.now();
        if !self.processes.is_empty() && !self.is_wanted(lookup.pid, lookup.process.as_deref()) {
            return Ok(());
        }
        if !self.may_write(now) {
            return Ok(());
        }
        lookup.cgroup = lookup.cgroup_id.and_then(|id| self.cgroups.path(id, now));
        if let Some(kept) = self.kept {
            lookup.local_addr = network(lookup.local_addr, kept);
            lookup.remote_addr = network(lookup.remote_addr, kept);
        }
        self.export.take_lookup(&lookup);
        self.sink.lookup(&lookup)
    }

    /// Writes a profile in wall time, which ended at `at`.
    fn write_at(&mut self, mut profile: FlowProfile, at: Instant) -> io::Result<()> {
        if !self.may_write(at) {
            return Ok(());
        }
        profile.cgroup = profile.cgroup_id.and_then(|id| self.cgroups.path(id, at));
        if let Some(kept) = self.kept {
            anonymise(&mut profile, kept);
        }
        self.profiles += 1;
        self.export.take(&profile);
        self.sink.profile(&profile)
    }

    /// Whether --rate allows one more; what it does not is counted.
    fn may_write(&mut self, at: Instant) -> bool {
        if self.limit.as_mut().is_some_and(|limit| !limit.take(at)) {
            self.over_rate += 1;
            self.export.not_recorded(1);
            return false;
        }
        true
    }

    /// Whether a profile is of one of the processes that were asked for. The kernel keeps 15 bytes
    /// of a name.
    fn wanted(&self, profile: &FlowProfile) -> bool {
        self.is_wanted(profile.pid, profile.process.as_deref())
    }

    fn is_wanted(&self, pid: Option<u32>, process: Option<&str>) -> bool {
        self.processes.iter().any(|wanted| {
            let by_number = wanted.parse().is_ok_and(|wanted| pid == Some(wanted));
            let name = wanted.get(..15).unwrap_or(wanted);
            by_number || process == Some(name)
        })
    }
}

/// Says once that events are lost, and in the end how many.
#[derive(Debug, Default)]
struct Losses {
    told: u64,
}

impl Losses {
    fn tell(&mut self, session: &Session, dropped: u64) {
        if dropped > self.told {
            if self.told == 0 {
                drop(writeln!(
                    io::stderr(),
                    "plumb: events are lost, because there are more than --ring holds; \
                     the end tells how many"
                ));
            }
            session.export.not_recorded(dropped - self.told);
            self.told = dropped;
        }
    }

    fn report(&mut self, session: &Session, dropped: u64) {
        self.tell(session, dropped);
        let say = |count: u64, what: &str| {
            if count > 0 {
                drop(writeln!(io::stderr(), "plumb: {count} {what}"));
            }
        };
        say(dropped, "events lost: make --ring larger, or watch less");
        say(session.over_rate, "profiles not written because of --rate");
        say(
            session.profiler.unknown(),
            "events of connections that had been forgotten",
        );
    }
}

/// Prints what this kernel can tell.
fn capabilities(recorder: &Recorder, as_json: bool) -> anyhow::Result<Exit> {
    let mut out = io::stdout().lock();
    let look = Look::of_stdout();
    for capability in recorder.capabilities() {
        if as_json {
            let line = serde_json::json!({
                "name": capability.name,
                "gives": capability.gives,
                "source": capability.source,
                "since": capability.since,
                "live": capability.missing.is_none(),
                "missing": capability.missing,
            });
            writeln!(out, "{line}")?;
            continue;
        }
        let state = match capability.missing {
            None => look.paint(GOOD, "live   "),
            Some(_) => look.paint(BAD, "missing"),
        };
        let name = look.paint(STRONG, &format!("{:<15}", capability.name));
        let source = format!("{} (Linux {})", capability.source, capability.since);
        let source = look.paint(FAINT, &source);
        let why = capability.missing.as_ref().map(|why| format!("; {why}"));
        let why = why.unwrap_or_default();
        writeln!(out, "{state} {name} {}{why}  {source}", capability.gives)?;
    }
    Ok(Exit::Reached)
}

/// What is missing, and the way to get it.
fn explain(error: Error) -> anyhow::Error {
    match error {
        Error::Permission => {
            let needed = [Capability::Bpf, Capability::PerfMon];
            let lacking: Vec<_> = needed
                .into_iter()
                .filter(|&needed| !capability::has(needed))
                .map(|capability| capability.to_string())
                .collect();
            let what = if lacking.is_empty() {
                "although CAP_BPF and CAP_PERFMON are there: a security module, seccomp or \
                 kernel lockdown forbids it"
                    .to_owned()
            } else {
                let program = program();
                format!(
                    "for want of {}; run `sudo setcap cap_bpf,cap_perfmon+ep {program}` once, or \
                     use sudo",
                    lacking.join(" and ")
                )
            };
            Failure::permission(format!("{error}, {what}")).into()
        }
        Error::NoTypes | Error::Refused(_) | Error::System { .. } => error.into(),
    }
}
