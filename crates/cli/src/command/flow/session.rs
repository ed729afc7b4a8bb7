//! What becomes of events: profiles in a sink, at collectors, on the screen and in the metrics.

use std::io::{self, BufWriter, Write};

use anyhow::Context as _;
use plumb_ebpf::flow::{Event, EventKind, Profiler, Recorder};
use plumb_link::Clock;
use plumb_record::{DnsProfile, FlowProfile, WallTime};
use plumb_wire::Instant;

use super::anonymise::{anonymise, network};
use super::cgroups::Cgroups;
use super::limit::Limit;
use super::live::Live;
use super::metrics::Metrics;
use crate::args::KeptBits;
use crate::export::Export;
use crate::output::flow_sink::FlowSink;

/// What a run consists of, but for the kernel's part.
pub(super) struct Session {
    pub(super) profiler: Profiler,
    pub(super) sink: FlowSink<BufWriter<Box<dyn Write>>>,
    pub(super) export: Export,
    pub(super) processes: Vec<String>,
    pub(super) kept: Option<KeptBits>,
    pub(super) limit: Option<Limit>,
    pub(super) cgroups: Cgroups,
    pub(super) clock: Clock,
    pub(super) profiles: u64,
    pub(super) over_rate: u64,
    /// The view, while there is one.
    pub(super) live: Option<Live>,
    /// What is counted for Prometheus, if it is asked for.
    pub(super) metrics: Option<Metrics>,
}

impl Session {
    pub(super) fn handle(&mut self, events: &[Event]) -> io::Result<()> {
        for event in events {
            self.profiler.handle(event);
            self.point_out(event);
            while let Some(mut profile) = self.profiler.poll_profile() {
                self.write(&mut profile)?;
            }
        }
        Ok(())
    }

    /// Shows what has happened to a connection, and counts it.
    fn point_out(&mut self, event: &Event) {
        if let Some(metrics) = &mut self.metrics {
            metrics.handle_event();
        }
        let counted = self.metrics.is_some() && event.kind == EventKind::Closed;
        if !counted && self.live.is_none() {
            return;
        }
        let total = self.profiler.total(event);
        if counted
            && (self.processes.is_empty() || self.wanted(&total))
            && let Some(metrics) = &mut self.metrics
        {
            metrics.handle_end(&total);
        }
        if let Some((total, now)) = self.for_display(total)
            && let Some(live) = &mut self.live
        {
            live.handle(total, now);
        }
    }

    /// A profile as it may be shown: none of those that nobody asked for.
    fn for_display(&mut self, mut total: FlowProfile) -> Option<(FlowProfile, Instant)> {
        if !self.processes.is_empty() && !self.wanted(&total) {
            return None;
        }
        let now = self.clock.now();
        total.cgroup = total.cgroup_id.and_then(|id| self.cgroups.path(id, now));
        if let Some(kept) = self.kept {
            anonymise(&mut total, kept);
        }
        Some((total, now))
    }

    /// Keeps the view up to date. Returns true if the user has left it.
    pub(super) fn show(&mut self, recorder: &mut Recorder, now: Instant) -> anyhow::Result<bool> {
        let Some(live) = &mut self.live else {
            return Ok(false);
        };
        if live.read_keys(now)? {
            return Ok(true);
        }
        if live.is_due(now) {
            let seen = recorder.look(|event| {
                self.profiler.handle(&event);
                let total = self.profiler.total(&event);
                if let Some((total, now)) = self.for_display(total)
                    && let Some(live) = &mut self.live
                {
                    live.see(total, now);
                }
            });
            seen.context("cannot look at the connections")?;
            if let Some(live) = &mut self.live {
                live.looked(self.clock.now());
            }
        }
        let counts = recorder.counts();
        let now = self.clock.now();
        if let Some(live) = &mut self.live {
            live.draw(counts.connections, self.profiles, counts.dropped, now)?;
        }
        Ok(false)
    }

    fn write(&mut self, profile: &mut FlowProfile) -> io::Result<()> {
        if !self.processes.is_empty() && !self.wanted(profile) {
            return Ok(());
        }
        let at = Instant::from_nanos(profile.end.0);
        let wall = |time: WallTime| WallTime(self.clock.wall_ns(Instant::from_nanos(time.0)));
        (profile.start, profile.end) = (wall(profile.start), wall(profile.end));
        self.write_at(profile, at)
    }

    /// Writes a profile that a process reported, whose times are wall time.
    pub(super) fn write_reported(&mut self, mut profile: FlowProfile) -> io::Result<()> {
        if !self.processes.is_empty() && !self.wanted(&profile) {
            return Ok(());
        }
        let now = self.clock.now();
        if let Some((window, _)) = self
            .live
            .is_some()
            .then(|| self.for_display(profile.clone()))
            .flatten()
            && let Some(live) = &mut self.live
        {
            live.handle_report(window, now);
        }
        self.write_at(&mut profile, now)
    }

    pub(super) fn write_lookup(&mut self, mut lookup: DnsProfile) -> io::Result<()> {
        let now = self.clock.now();
        if !self.processes.is_empty() && !self.is_wanted(lookup.pid, lookup.process.as_deref()) {
            return Ok(());
        }
        if let Some(metrics) = &mut self.metrics {
            metrics.handle_lookup(&lookup);
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
    fn write_at(&mut self, profile: &mut FlowProfile, at: Instant) -> io::Result<()> {
        if let Some(metrics) = &mut self.metrics {
            metrics.handle_profile(profile);
        }
        if !self.may_write(at) {
            return Ok(());
        }
        profile.cgroup = profile.cgroup_id.and_then(|id| self.cgroups.path(id, at));
        if let Some(kept) = self.kept {
            anonymise(profile, kept);
        }
        self.profiles += 1;
        self.export.take(profile);
        self.sink.profile(profile)
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
pub(super) struct Losses {
    told: u64,
}

impl Losses {
    pub(super) fn tell(&mut self, session: &Session, dropped: u64) {
        if dropped > self.told {
            if self.told == 0 && session.live.is_none() {
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

    pub(super) fn report(&mut self, session: &Session, dropped: u64) {
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
