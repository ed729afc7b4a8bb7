//! Sessions for tests: on the engine and the simulated internet, on a virtual clock.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use plumb_probe::{Config, Engine, Event, Job, JobId, Stats, TraceOptions, TunnelOptions};
use plumb_record::Trace;
use plumb_sim::{Network, Topology, labs};
use plumb_wire::{Engine as _, Instant};
use ratatui::buffer::Buffer;

use super::model::{Kind, Target};
use super::session::{Pace, Session};

/// Options as `plumb trace` has them.
pub(crate) fn options() -> TraceOptions {
    TraceOptions {
        parallel: 8,
        tunnels: Some(TunnelOptions::default()),
        ..TraceOptions::default()
    }
}

/// A round a second, checks each minute.
pub(crate) fn pace() -> Pace {
    Pace {
        interval: Duration::from_secs(1),
        recheck: Some(Duration::from_secs(60)),
        count: None,
        concurrent: true,
    }
}

/// A target with the ends of `trace`.
pub(crate) fn target(trace: &Trace) -> Target {
    let name = trace.dst.to_string();
    Target::new(name, trace.src, trace.dst, trace.method, 1)
}

/// A session over one target that has seen these traces, one a second, the first as a check.
pub(crate) fn seen(traces: &[Trace]) -> Session {
    let mut session = Session::new(
        vec![target(&traces[0])],
        options(),
        pace(),
        7,
        false,
        Instant::ZERO,
    );
    let mut now = Instant::ZERO;
    for trace in traces {
        let round = session.poll_round(now).unwrap();
        session.handle_trace(0, round.kind, trace, now + Duration::from_millis(200));
        now = now + Duration::from_secs(1);
    }
    session
}

/// Rounds along a path with delays that vary and a reply in nine lost, the same each time.
pub(crate) fn noisy(path: &Trace, rounds: u64) -> Vec<Trace> {
    let mut state = 1u64;
    let mut random = move || {
        // Constants of Knuth's MMIX.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 40
    };
    let mut traces = vec![path.clone()];
    for _ in 1..rounds {
        let mut trace = path.clone();
        trace.tunnels.clear();
        for hop in &mut trace.hops {
            let base = u64::from(hop.ttl) * 1_000_000;
            hop.rtt_ns = Some(base + random() % 900_000);
            if random() % 9 == 0 {
                hop.addr = None;
                hop.rtt_ns = None;
            }
        }
        if trace.hops.last().is_some_and(|hop| hop.addr.is_none()) {
            trace.stop_reason = plumb_record::StopReason::HopLimit;
        }
        traces.push(trace);
    }
    traces
}

/// A lab, with everything in it.
pub(crate) struct World {
    pub(crate) network: Network,
    pub(crate) engine: Engine,
    pub(crate) session: Session,
    pub(crate) now: Instant,
    jobs: BTreeMap<JobId, (usize, Kind)>,
    /// Rounds begun, with the time since the start in milliseconds and the kind.
    pub(crate) begun: Vec<(u64, Kind)>,
}

impl World {
    /// The named lab, with a session over all its targets.
    pub(crate) fn lab(name: &str, pace: Pace) -> Self {
        let lab = labs().iter().find(|lab| lab.name == name).unwrap();
        Self::new(lab.toml, lab.targets, pace)
    }

    /// A topology of the test's own.
    pub(crate) fn new(toml: &str, targets: &[&str], pace: Pace) -> Self {
        let network = Network::new(&Topology::from_toml(toml).unwrap(), 1);
        let vantage = network.vantage();
        let now = Instant::from_millis(10);
        let targets = targets
            .iter()
            .map(|text| {
                let dst: IpAddr = text.parse().unwrap();
                let src = if dst.is_ipv4() {
                    vantage.v4.unwrap().0.into()
                } else {
                    vantage.v6.unwrap().0.into()
                };
                Target::new((*text).into(), src, dst, options().method, 1)
            })
            .collect();
        Self {
            network,
            engine: Engine::new(
                Config {
                    cache_lifetime: Duration::from_secs(5),
                    ..Config::default()
                },
                1,
            ),
            session: Session::new(targets, options(), pace, 7, false, now),
            now,
            jobs: BTreeMap::new(),
            begun: Vec::new(),
        }
    }

    /// Lets virtual time pass, or less if the session is finished before.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut packet = [0; 1500];
        let mut reply = [0; 2048];
        loop {
            self.network.handle_timeout(self.now);
            while let Some(t) = self.network.poll_transmit(self.now, &mut reply) {
                self.engine.handle_packet(self.now, &reply[..t.len]);
            }
            self.engine.handle_timeout(self.now);
            self.drain();
            while let Some(round) = self.session.poll_round(self.now) {
                let at = self.now.since(self.session.started()).as_millis();
                self.begun.push((u64::try_from(at).unwrap(), round.kind));
                let job = Job::Trace(plumb_probe::Trace {
                    src: round.src,
                    dst: round.dst,
                    options: Arc::new(round.options),
                });
                let job = self.engine.start(job, self.now).unwrap();
                self.jobs.insert(job, (round.target, round.kind));
            }
            while let Some(t) = self.engine.poll_transmit(self.now, &mut packet) {
                self.engine.handle_sent(t.probe, self.now);
                self.network.handle_packet(self.now, &packet[..t.len]);
            }
            self.drain();
            let next = [
                self.network.poll_timeout(),
                self.engine.poll_timeout(),
                self.session.poll_timeout(),
            ];
            match next.into_iter().flatten().min() {
                Some(next) if next <= end => self.now = self.now.max(next),
                _ => break,
            }
        }
        self.now = end;
    }

    /// The engine's counters.
    pub(crate) fn stats(&self) -> Stats {
        self.engine.stats()
    }

    fn drain(&mut self) {
        while let Some(event) = self.engine.poll_event() {
            match event {
                Event::Hop { job, hop } => {
                    let (target, kind) = self.jobs[&job];
                    self.session.handle_hop(target, kind, &hop, self.now);
                }
                Event::Trace { job, trace, .. } => {
                    let (target, kind) = self.jobs.remove(&job).unwrap();
                    self.session.handle_trace(target, kind, &trace, self.now);
                }
                Event::PingReply { .. } | Event::Ping { .. } => {}
            }
        }
    }
}

/// What a person reads on a screen.
pub(crate) fn text(buffer: &Buffer) -> String {
    let area = buffer.area;
    let mut text = String::new();
    for y in 0..area.height {
        let line: String = (0..area.width).map(|x| buffer[(x, y)].symbol()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
