//! The engine: tasks, their timers and queue, and the jobs that they serve.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::IpAddr;

use plumb_wire::{Instant, ProbeId, SendError, Transmit};

use crate::cache::Cache;
use crate::echo::{self, Echo, EchoOptions};
use crate::flow::FlowTable;
use crate::job::{Config, Headers, Job, JobId, Refused, TraceOptions};
use crate::observation::{Asked, Observation};
use crate::pace::Pacer;
use crate::ping_job::PingJob;
use crate::random::Random;
use crate::reply::Reply;
use crate::reveal_job::{RevealJob, RevealKey, Revelations};
use crate::slab::{Key, Slab};
use crate::task::{Common, Owner, Task, Work};
use crate::timer::Timers;
use crate::trace_job::TraceJob;
use crate::walk::{self, Walk, WalkOptions};
use crate::{Event, Stats};

/// Who waits for an address's echo reply TTL.
#[derive(Clone, Copy, Debug)]
pub(crate) enum EchoWaiter {
    Trace(Key),
    Reveal(Key),
}

#[derive(Debug)]
pub(crate) enum JobState {
    Trace(TraceJob),
    Ping(PingJob),
}

/// The probing engine. See the crate's documentation.
#[derive(Debug)]
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) random: Random,
    pacer: Pacer,
    pub(crate) tasks: Slab<Task>,
    pub(crate) flows: FlowTable,
    timers: Timers,
    /// Tasks that can send, in the order in which they may.
    ready: VecDeque<Key>,
    pub(crate) jobs: Slab<JobState>,
    pub(crate) reveals: Slab<RevealJob>,
    pub(crate) echo_ttls: Cache<IpAddr, Option<u8>, EchoWaiter>,
    pub(crate) revelations: Revelations,
    pub(crate) events: VecDeque<Event>,
    stats: Stats,
    /// The latest time that a driver has named.
    pub(crate) now: Instant,
}

/// Echo requests that tunnel discovery sends go this far.
const ECHO_TTL: u8 = 64;

impl Engine {
    /// An engine without jobs. All that it chooses freely follows from `seed`.
    pub fn new(config: Config, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let flows = FlowTable::new(config.window, &mut random);
        Self {
            pacer: Pacer::new(config.rate),
            tasks: Slab::new(),
            flows,
            timers: Timers::default(),
            ready: VecDeque::new(),
            jobs: Slab::new(),
            reveals: Slab::new(),
            echo_ttls: Cache::new(config.cache_lifetime, config.cache_entries),
            revelations: Cache::<RevealKey, _, _>::new(config.cache_lifetime, config.cache_entries),
            events: VecDeque::new(),
            stats: Stats::default(),
            now: Instant::ZERO,
            config,
            random,
        }
    }

    /// Takes a job.
    ///
    /// # Errors
    /// If the job cannot be done, or not now; see [`Refused`].
    pub fn start(&mut self, job: Job, now: Instant) -> Result<JobId, Refused> {
        self.now = self.now.max(now);
        if !self.has_room() {
            return Err(Refused::Full);
        }
        job.check()?;
        let key = match job {
            Job::Trace(trace) => self.start_trace(trace),
            Job::Ping(ping) => self.start_ping(ping),
        };
        Ok(JobId(key.to_bits()))
    }

    /// Ends a job early. Its final event follows, with what is known so far; for a job that has
    /// ended nothing happens.
    pub fn stop(&mut self, job: JobId, now: Instant) {
        self.now = self.now.max(now);
        let key = Key::from_bits(job.0);
        match self.jobs.get_mut(key) {
            Some(JobState::Trace(trace)) => {
                trace.interrupted = true;
                if let Some(task) = trace.task {
                    self.end_task(task);
                } else {
                    self.advance_trace(key);
                }
            }
            Some(JobState::Ping(ping)) => {
                let task = ping.task;
                if let Some(Task {
                    work: Work::Echo(echo),
                    ..
                }) = task.and_then(|t| self.tasks.get_mut(t))
                {
                    echo.stop();
                }
                task.into_iter().for_each(|t| self.end_task(t));
            }
            None => {}
        }
    }

    /// Jobs under way.
    pub fn active(&self) -> usize {
        self.jobs.len()
    }

    /// Says whether another job would be taken.
    pub fn has_room(&self) -> bool {
        self.jobs.len() < self.config.window
    }

    /// Measurements that could send at once if the rate allowed it. While there are some, another
    /// job would only make all of them slower.
    pub fn backlog(&self) -> usize {
        self.ready.len()
    }

    /// Counters since the engine was made.
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    pub(crate) fn finish_job(&mut self, key: Key, event: Event) {
        self.jobs.remove(key);
        self.stats.finished += 1;
        self.events.push_back(event);
    }

    /// Starts a task and returns its name.
    pub(crate) fn spawn(&mut self, common: Common, owner: Owner, payer: Key, work: Work) -> Key {
        let (flow, dst) = (common.flow, common.dst);
        let task = Task::new(common, owner, payer, work, &mut self.random);
        let key = self.tasks.insert(task);
        self.flows.insert(flow, dst, key.index);
        self.settle(key);
        key
    }

    pub(crate) fn spawn_walk(
        &mut self,
        common: Common,
        owner: Owner,
        payer: Key,
        mut options: WalkOptions,
    ) -> Key {
        if self.config.headers == Headers::Rebuilt
            && common.method == plumb_record::Method::UdpParis
        {
            options.parallel = 1;
        }
        let walk = Walk::new(options, common.dst);
        self.spawn(common, owner, payer, Work::Walk(walk))
    }

    /// Asks for the echo reply TTL of an address; `None` if the waiter will be told later.
    pub(crate) fn ask_echo_ttl(
        &mut self,
        addr: IpAddr,
        waiter: EchoWaiter,
        payer: Key,
        src: IpAddr,
        options: &TraceOptions,
    ) -> Option<Option<u8>> {
        match self.echo_ttls.ask(addr, waiter, self.now) {
            crate::cache::Lookup::Hit(ttl) => Some(ttl),
            crate::cache::Lookup::Pending => None,
            crate::cache::Lookup::Start => {
                let pings = options.tunnels.map_or(1, |t| t.pings.max(1));
                let common = Common {
                    method: plumb_record::Method::IcmpParis,
                    src,
                    dst: addr,
                    flow: self.flows.allocate(),
                    dst_port: 0,
                    tos: options.tos,
                    size: options.size,
                    ttl: ECHO_TTL,
                };
                let echo = EchoOptions {
                    count: Some(u32::from(pings) * u32::from(options.attempts)),
                    enough: Some(u32::from(pings)),
                    interval: options.wait,
                    eager: true,
                    wait: options.wait,
                };
                let work = Work::Echo(Echo::new(echo, self.now));
                self.spawn(common, Owner::EchoTtl(addr), payer, work);
                None
            }
        }
    }

    /// Brings a task's place in the queue, its timer, or its end up to date.
    fn settle(&mut self, key: Key) {
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        if task.is_done() {
            self.end_task(key);
            return;
        }
        if !task.queued && task.can_send(self.now) {
            task.queued = true;
            self.ready.push_back(key);
        }
        let Some(deadline) = task.deadline(self.now) else {
            return;
        };
        if task.armed.is_none_or(|armed| deadline < armed) {
            task.armed = Some(deadline);
            self.timers.push(deadline, key);
        }
    }

    fn end_task(&mut self, key: Key) {
        let Some(task) = self.tasks.remove(key) else {
            return;
        };
        let Common { flow, dst, .. } = task.common;
        self.flows.remove(flow, dst, key.index);
        match (task.owner, task.work) {
            (Owner::Job(job), Work::Walk(walk)) => self.on_trace_walked(job, walk),
            (Owner::Job(job), Work::Echo(echo)) => self.on_pinged(job, &task.common, &echo),
            (Owner::EchoTtl(addr), Work::Echo(echo)) => {
                let ttl = echo.reply_ttl();
                let waiters = self.echo_ttls.learn(addr, ttl, ttl.is_none(), self.now);
                for waiter in waiters {
                    match waiter {
                        EchoWaiter::Trace(job) => self.on_trace_echo(job, addr, ttl),
                        EchoWaiter::Reveal(reveal) => self.on_reveal_echo(reveal, addr, ttl),
                    }
                }
            }
            (Owner::Reveal(reveal, ask), work) => self.on_reveal_answer(reveal, ask, work),
            (Owner::EchoTtl(_), Work::Walk(_)) => {}
        }
    }

    /// The task and the number of the probe that a reply answers.
    fn find(&self, reply: &Reply<'_>) -> Option<(Key, u32)> {
        let number = |task: &Task| {
            let mut names = reply.names.iter().flatten();
            names.find_map(|name| task.number(*name))
        };
        let fits = |index: u32| {
            let (key, task) = self.tasks.at(index)?;
            let common = &task.common;
            (common.flow == reply.flow && common.method == reply.method).then_some((key, task))
        };
        let exact = self
            .flows
            .exact(reply.flow, reply.target)
            .filter_map(fits)
            .filter(|(_, task)| task.common.dst == reply.target)
            .find_map(|(key, task)| number(task).map(|n| (key, n)));
        if exact.is_some() || reply.quote.is_some() {
            return exact;
        }
        // A host may answer from another of its addresses; identifier and sequence number (or TCP
        // ports and acknowledgement) still name the probe.
        let mut any = self.flows.any(reply.flow).filter_map(fits);
        any.find_map(|(key, task)| number(task).map(|n| (key, n)))
    }

    fn on_walk_heard(&mut self, key: Key, heard: Option<walk::Heard>) {
        let ttl = match heard {
            None => {
                self.stats.ignored += 1;
                return;
            }
            Some(walk::Heard::Duplicate) => {
                self.stats.duplicates += 1;
                None
            }
            Some(walk::Heard::Late(ttl)) => {
                self.stats.late += 1;
                ttl
            }
            Some(walk::Heard::Answer(ttl)) => {
                self.stats.replies += 1;
                Some(ttl)
            }
        };
        let Some(ttl) = ttl else {
            return;
        };
        if let Some(Task {
            owner: Owner::Job(job),
            ..
        }) = self.tasks.get(key)
        {
            self.on_trace_hop(*job, key, ttl);
        }
    }

    fn on_echo_heard(&mut self, key: Key, heard: Option<echo::Heard>) {
        match heard {
            None => self.stats.ignored += 1,
            Some(echo::Heard::Duplicate) => self.stats.duplicates += 1,
            Some(echo::Heard::Late) => self.stats.late += 1,
            Some(echo::Heard::Answer(outcome)) => {
                self.stats.replies += 1;
                self.report_outcomes(key, &[outcome]);
            }
        }
    }

    fn report_outcomes(&mut self, key: Key, outcomes: &[echo::Outcome]) {
        if let Some(task) = self.tasks.get(key)
            && let Owner::Job(job) = task.owner
        {
            let dst = task.common.dst;
            self.on_ping_outcomes(job, dst, outcomes);
        }
    }

    fn on_task_timeout(&mut self, key: Key) {
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        task.armed = None;
        let owner = task.owner;
        match &mut task.work {
            Work::Walk(walk) => {
                let silent = walk.on_timeout(self.now);
                if let Owner::Job(job) = owner {
                    silent
                        .into_iter()
                        .for_each(|ttl| self.on_trace_hop(job, key, ttl));
                }
            }
            Work::Echo(echo) => {
                let expired = echo.on_timeout(self.now);
                self.report_outcomes(key, &expired);
            }
        }
        self.settle(key);
    }

    fn charge(&mut self, task: Key) {
        let Some(Task { payer, owner, .. }) = self.tasks.get(task) else {
            return;
        };
        if let Some(JobState::Trace(trace)) = self.jobs.get_mut(*payer) {
            trace.probes += 1;
        }
        if let Owner::Reveal(reveal, _) = owner
            && let Some(reveal) = self.reveals.get_mut(*reveal)
        {
            reveal.probes += 1;
        }
    }
}

/// A probe's name for the driver: task index, low bits of its generation, number.
const fn probe_id(key: Key, number: u16) -> ProbeId {
    ProbeId((key.index as u64) << 32 | ((key.generation & 0xffff) as u64) << 16 | number as u64)
}

impl Engine {
    #[expect(clippy::cast_possible_truncation, reason = "the parts of the word")]
    fn probe(&self, id: ProbeId) -> Option<(Key, u16)> {
        let (key, _) = self.tasks.at((id.0 >> 32) as u32)?;
        let same = u64::from(key.generation & 0xffff) == id.0 >> 16 & 0xffff;
        same.then_some((key, id.0 as u16))
    }
}

impl plumb_wire::Engine for Engine {
    type Event = Event;

    fn handle_packet(&mut self, at: Instant, packet: &[u8]) {
        self.now = self.now.max(at);
        let found = Reply::parse(packet).and_then(|reply| Some((self.find(&reply)?, reply)));
        let Some(((key, number), reply)) = found else {
            self.stats.ignored += 1;
            return;
        };
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        let src = task.common.src;
        #[expect(clippy::cast_possible_truncation, reason = "sequence numbers wrap")]
        let low = number as u16;
        let seq = task.seq(low);
        let (now, headers) = (self.now, self.config.headers);
        let observe = |sent, attempt| {
            let asked = Asked {
                src,
                seq,
                attempt,
                sent,
            };
            Observation::new(&reply, asked, at).with(headers)
        };
        match &mut task.work {
            Work::Walk(walk) => {
                let heard = walk
                    .asked(low)
                    .and_then(|(sent, attempt)| walk.on_answer(low, observe(sent, attempt)));
                self.on_walk_heard(key, heard);
            }
            Work::Echo(echo) => {
                let heard = echo
                    .asked(number)
                    .and_then(|sent| echo.on_answer(number, observe(sent, 1), now));
                self.on_echo_heard(key, heard);
            }
        }
        self.settle(key);
    }

    fn handle_sent(&mut self, probe: ProbeId, at: Instant) {
        if let Some((key, number)) = self.probe(probe)
            && let Some(task) = self.tasks.get_mut(key)
        {
            task.on_sent(number, at);
        }
    }

    fn handle_send_error(&mut self, probe: ProbeId, at: Instant, _error: SendError) {
        self.now = self.now.max(at);
        self.stats.send_errors += 1;
        let Some((key, number)) = self.probe(probe) else {
            return;
        };
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        match &mut task.work {
            Work::Walk(walk) => walk.on_send_error(number),
            Work::Echo(echo) => {
                let outcome = echo.number_of(number).and_then(|n| echo.on_send_error(n));
                let outcomes: Vec<_> = outcome.into_iter().collect();
                self.report_outcomes(key, &outcomes);
            }
        }
        self.settle(key);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        while let Some((at, key)) = self.timers.pop_due(self.now) {
            let Some(task) = self.tasks.get_mut(key) else {
                continue;
            };
            if task.armed != Some(at) {
                continue;
            }
            if task
                .deadline(self.now)
                .is_some_and(|deadline| deadline > self.now)
            {
                task.armed = None;
                self.settle(key);
            } else {
                self.on_task_timeout(key);
            }
        }
    }

    fn poll_transmit(&mut self, now: Instant, into: &mut [u8]) -> Option<Transmit> {
        self.now = self.now.max(now);
        loop {
            let key = *self.ready.front()?;
            let can_send = self
                .tasks
                .get(key)
                .is_some_and(|task| task.can_send(self.now));
            if can_send && !self.pacer.take(self.now) {
                return None;
            }
            self.ready.pop_front();
            let Some(task) = self.tasks.get_mut(key) else {
                continue;
            };
            task.queued = false;
            let probe = task.next_probe(self.now, into);
            if probe.is_some() {
                self.charge(key);
            }
            self.settle(key);
            if let Some((number, len)) = probe {
                self.stats.sent += 1;
                let probe = probe_id(key, number);
                return Some(Transmit { len, probe });
            }
        }
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let send = (!self.ready.is_empty()).then(|| self.pacer.next());
        match (send, self.timers.next()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}
