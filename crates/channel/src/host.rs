//! The end that has jobs.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use plumb_probe::{Event, Job, JobId, Refused, Stats};
use plumb_record::Method;
use plumb_wire::Instant;

use crate::frame::{Frames, MOST_ORDER, MOST_REPORT};
use crate::order::{Configure, MOST_OPTIONS, Options, Order};
use crate::outbox::Outbox;
use crate::report::{Counters, Ready, Refusal, Report, Way};
use crate::{Fault, INBOX, WINDOW, sound};

/// How much a guest may say in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that are allowed at once.
    pub bytes: u64,
    /// Bytes that are allowed besides, for every job.
    pub bytes_per_job: u64,
    /// Bytes that are allowed besides, for every second.
    pub bytes_per_second: u64,
    /// Bytes of text.
    pub text: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 16 << 20,
            bytes_per_job: 1 << 20,
            bytes_per_second: 32 << 20,
            text: 1 << 16,
        }
    }
}

/// What a guest reports. Times are those of the host's clock.
#[derive(Clone, Debug)]
pub enum News {
    /// The guest has begun the session.
    Ready(Ready),
    /// News of a job.
    Event(Event),
    /// A job that has no record. The last event of its job.
    Refused {
        /// The job.
        job: JobId,
        /// Its destination.
        dst: IpAddr,
        /// Why.
        why: Refusal,
    },
    /// A packet that the guest sent or received.
    Packet {
        /// When.
        at: Instant,
        /// Whether it was sent.
        sent: bool,
        /// The packet, from the IP header on.
        bytes: Vec<u8>,
    },
    /// A line for people. It may contain any character.
    Text(String),
    /// All jobs are done and all of their records are here.
    Finished,
}

/// Where a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// `Ready` has not come. What comes before belongs to another session.
    Waiting,
    Running,
    Finished,
}

/// A job under way.
#[derive(Clone, Copy, Debug)]
struct Asked {
    src: IpAddr,
    dst: IpAddr,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Trace {
        method: Method,
        /// Whether hops are to be reported.
        hops: bool,
    },
    Ping {
        /// Replies that may still be reported.
        replies: u64,
    },
}

/// The host's end of one session. Everything it is told is checked.
#[derive(Debug)]
pub struct Host {
    session: u64,
    packets: bool,
    state: State,
    frames: Frames,
    outbox: Outbox,
    news: VecDeque<News>,
    options: Vec<Options>,
    /// The number that new options get.
    next_number: u8,
    /// Jobs whose last event has not come, by token.
    jobs: BTreeMap<u64, Asked>,
    /// Jobs sent, which are also the last token.
    sent: u64,
    /// Jobs that the guest has taken from its inbox.
    taken: u64,
    /// Whether there will be no more jobs.
    finishing: bool,
    /// Frames of the session that have come.
    came: u64,
    /// Bytes that have come, and how many of them the guest knows of.
    received: u64,
    told: u64,
    counters: Counters,
    clocks: Clocks,
    limits: Limits,
    bytes: u64,
    text: usize,
    fault: Option<Fault>,
}

impl Host {
    /// Begins a session at `now`. [`transmit`](Self::transmit) has the first bytes for the guest.
    pub fn new(configure: &Configure, limits: Limits, now: Instant) -> Self {
        let mut host = Self {
            session: configure.session,
            packets: configure.packets,
            state: State::Waiting,
            frames: Frames::new(MOST_REPORT),
            outbox: Outbox::default(),
            news: VecDeque::new(),
            options: Vec::new(),
            next_number: 0,
            jobs: BTreeMap::new(),
            sent: 0,
            taken: 0,
            finishing: false,
            came: 0,
            received: 0,
            told: 0,
            counters: Counters::default(),
            clocks: Clocks::new(now),
            limits,
            bytes: 0,
            text: 0,
            fault: None,
        };
        host.say(&Order::Configure(*configure));
        host
    }

    /// Sends a job.
    ///
    /// # Errors
    /// [`Refused::Full`] if as many as may wait are waiting; otherwise as the engine would, as far
    /// as that can be told from here. The rest comes as [`News::Refused`].
    pub fn start(&mut self, job: &Job) -> Result<JobId, Refused> {
        if !self.has_room() {
            return Err(Refused::Full);
        }
        job.check()?;
        let options = self.number(job);
        self.sent += 1;
        let token = self.sent;
        let (src, dst) = (job.src(), job.dst());
        let what = match job {
            Job::Trace(trace) => What::Trace {
                method: trace.options.method,
                hops: trace.options.report_hops,
            },
            Job::Ping(ping) => What::Ping {
                replies: match (ping.options.report_replies, ping.options.count) {
                    (true, Some(count)) => count.into(),
                    (true, None) => u64::MAX,
                    (false, _) => 0,
                },
            },
        };
        self.jobs.insert(token, Asked { src, dst, what });
        self.say(&Order::Start {
            token,
            src,
            dst,
            options,
        });
        Ok(JobId(token))
    }

    /// Says whether another job may be sent.
    pub fn has_room(&self) -> bool {
        let waiting = self.sent - self.taken;
        !self.finishing && usize::try_from(waiting).is_ok_and(|waiting| waiting < INBOX)
    }

    /// Jobs whose last event has not come.
    pub fn active(&self) -> usize {
        self.jobs.len()
    }

    /// Ends a job early. Its last event follows.
    pub fn stop(&mut self, job: JobId) {
        if self.jobs.contains_key(&job.0) {
            self.say(&Order::Stop { token: job.0 });
        }
    }

    /// Ends all jobs early. Their last events follow.
    pub fn stop_all(&mut self) {
        self.say(&Order::StopAll);
    }

    /// Says that there will be no more jobs; when all are done, [`News::Finished`] comes.
    pub fn finish(&mut self) {
        if !self.finishing {
            self.finishing = true;
            self.say(&Order::Finish);
        }
    }

    /// Ends the machine once it knows that nothing was lost. To be called after
    /// [`News::Finished`].
    pub fn shutdown(&mut self) {
        self.say(&Order::Shutdown);
    }

    /// Takes bytes from the guest.
    ///
    /// # Errors
    /// If the guest says what it may not say. It stays that way.
    pub fn handle_bytes(&mut self, bytes: &[u8], now: Instant) -> Result<(), Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let outcome = self.take(bytes, now);
        self.received += bytes.len() as u64;
        if self.received - self.told >= WINDOW as u64 / 4 {
            self.told = self.received;
            let bytes = self.received;
            self.say(&Order::Received { bytes });
        }
        self.fault = outcome.err();
        outcome
    }

    /// The next thing that the guest reported.
    pub fn poll_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// Bytes for the guest.
    pub fn transmit(&self) -> &[u8] {
        self.outbox.waiting()
    }

    /// Takes note that this many bytes have left.
    pub fn handle_sent(&mut self, bytes: usize) {
        self.outbox.advance(bytes);
    }

    /// The guest's counters, as far as they are known.
    pub const fn stats(&self) -> Stats {
        self.counters.engine
    }

    /// Packets that were lost between network and engine.
    pub const fn dropped(&self) -> u64 {
        self.counters.dropped
    }

    /// Packets that were not reported though all should be.
    pub const fn unreported(&self) -> u64 {
        self.counters.unreported
    }

    fn say(&mut self, order: &Order) {
        // Orders are far shorter than the longest.
        self.outbox
            .frame(order.kind(), MOST_ORDER, |w| order.write(w));
    }

    /// The number of a job's options, which the guest is told if they are new. Those that got
    /// theirs first lose it when there are no more; their jobs have begun with what it stood for.
    fn number(&mut self, job: &Job) -> u8 {
        let wanted = Options::of(job);
        let mut known = self.options.iter().zip(0..);
        if let Some((_, number)) = known.find(|(options, _)| **options == wanted) {
            return number;
        }
        let number = self.next_number;
        self.next_number = (number + 1) % MOST_OPTIONS;
        self.say(&Order::Options {
            number,
            options: wanted.clone(),
        });
        match self.options.get_mut(usize::from(number)) {
            Some(options) => *options = wanted,
            None => self.options.push(wanted),
        }
        number
    }

    fn take(&mut self, bytes: &[u8], now: Instant) -> Result<(), Fault> {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        let seconds = now.since(self.clocks.began).as_secs();
        let allowed = self
            .limits
            .bytes
            .saturating_add(self.limits.bytes_per_job.saturating_mul(self.sent))
            .saturating_add(self.limits.bytes_per_second.saturating_mul(seconds));
        if self.bytes > allowed {
            return Err(Fault::Flood { allowed });
        }
        self.frames.push(bytes);
        // The frames are lent while the rest changes.
        let mut frames = core::mem::replace(&mut self.frames, Frames::new(MOST_REPORT));
        let outcome = loop {
            match frames.next_parts() {
                Ok(Some((kind, payload))) => {
                    let report = Report::read(kind, payload);
                    if let Err(fault) = report.and_then(|report| self.hear(report, now)) {
                        break Err(fault);
                    }
                }
                Ok(None) => break Ok(()),
                Err(fault) => break Err(fault),
            }
        };
        self.frames = frames;
        outcome
    }

    fn hear(&mut self, report: Report<'_>, now: Instant) -> Result<(), Fault> {
        let (_, frame) = report.kind();
        match (self.state, &report) {
            (State::Waiting, Report::Ready(ready)) if ready.session == self.session => {}
            // The end of a session whose host is gone.
            (State::Waiting, _) => return Ok(()),
            (State::Running, Report::Ready(_)) => return Err(Fault::OutOfState { frame }),
            (State::Running, _) | (State::Finished, Report::Text(_)) => {}
            (State::Finished, _) => return Err(Fault::OutOfState { frame }),
        }
        self.came += 1;
        match report {
            Report::Ready(ready) => {
                self.clocks.note(ready.time, now);
                self.state = State::Running;
                self.news.push_back(News::Ready(ready));
            }
            Report::Refused { token, why } => {
                let Asked { dst, .. } = self.end_of(token)?;
                let job = JobId(token);
                self.news.push_back(News::Refused { job, dst, why });
            }
            Report::Hop { token, record } => self.hop(token, record)?,
            Report::Trace {
                token,
                time,
                started,
                record,
            } => {
                self.clocks.note(time, now);
                self.trace(token, started, record, now)?;
            }
            Report::PingReply { token, record } => self.reply(token, record)?,
            Report::Ping {
                token,
                time,
                started,
                record,
            } => {
                self.clocks.note(time, now);
                self.ping(token, started, record, now)?;
            }
            Report::Taken { jobs } => {
                if jobs < self.taken || jobs > self.sent {
                    let field = "jobs";
                    return Err(Fault::Malformed { frame, field });
                }
                self.taken = jobs;
            }
            Report::Stats(counters) => {
                if !counters.follow(&self.counters) {
                    let field = "counters";
                    return Err(Fault::Malformed { frame, field });
                }
                self.clocks.note(counters.time, now);
                self.counters = counters;
            }
            Report::Packet { at, way, bytes } => {
                if !self.packets {
                    return Err(Fault::OutOfState { frame });
                }
                let at = self.clocks.host(at, now);
                self.news.push_back(News::Packet {
                    at,
                    sent: way == Way::Sent,
                    bytes: bytes.into(),
                });
            }
            Report::Text(text) => {
                self.text = self.text.saturating_add(text.len() + 1);
                if self.text > self.limits.text {
                    let allowed = self.limits.text as u64;
                    return Err(Fault::Flood { allowed });
                }
                let text = String::from_utf8_lossy(text).into_owned();
                self.news.push_back(News::Text(text));
            }
            Report::Finished { frames } => self.finished(frames)?,
        }
        Ok(())
    }

    fn finished(&mut self, said: u64) -> Result<(), Fault> {
        if !self.finishing || !self.jobs.is_empty() {
            return Err(Fault::OutOfState { frame: "Finished" });
        }
        let came = self.came;
        if said != came {
            return Err(Fault::Missing { said, came });
        }
        self.state = State::Finished;
        self.say(&Order::Ack { frames: came });
        self.news.push_back(News::Finished);
        Ok(())
    }

    /// The job that an event names, which is its last.
    fn end_of(&mut self, token: u64) -> Result<Asked, Fault> {
        self.jobs.remove(&token).ok_or(Fault::UnknownJob(token))
    }

    fn hop(&mut self, token: u64, record: &[u8]) -> Result<(), Fault> {
        let asked = self.jobs.get(&token);
        let Some(What::Trace { hops: true, .. }) = asked.map(|asked| asked.what) else {
            return Err(Fault::UnknownJob(token));
        };
        let hop: plumb_record::Hop = parse("Hop", record)?;
        sound::hop(&hop).map_err(|field| Fault::NotOfJob { job: token, field })?;
        let (job, hop) = (JobId(token), Box::new(hop));
        self.news.push_back(News::Event(Event::Hop { job, hop }));
        Ok(())
    }

    fn trace(
        &mut self,
        token: u64,
        started: Instant,
        record: &[u8],
        now: Instant,
    ) -> Result<(), Fault> {
        let Asked { src, dst, what } = self.end_of(token)?;
        let What::Trace { method, .. } = what else {
            return Err(Fault::UnknownJob(token));
        };
        let trace: plumb_record::Trace = parse("Trace", record)?;
        sound::trace(&trace, src, dst, method)
            .map_err(|field| Fault::NotOfJob { job: token, field })?;
        self.news.push_back(News::Event(Event::Trace {
            job: JobId(token),
            started: self.clocks.host(started, now),
            trace: Box::new(trace),
        }));
        Ok(())
    }

    fn reply(&mut self, token: u64, record: &[u8]) -> Result<(), Fault> {
        let asked = self.jobs.get_mut(&token);
        let Some(Asked {
            dst,
            what: What::Ping {
                replies: replies @ 1..,
            },
            ..
        }) = asked
        else {
            return Err(Fault::UnknownJob(token));
        };
        *replies -= 1;
        let reply: plumb_record::PingReply = parse("PingReply", record)?;
        sound::reply(&reply, *dst).map_err(|field| Fault::NotOfJob { job: token, field })?;
        let job = JobId(token);
        self.news
            .push_back(News::Event(Event::PingReply { job, reply }));
        Ok(())
    }

    fn ping(
        &mut self,
        token: u64,
        started: Instant,
        record: &[u8],
        now: Instant,
    ) -> Result<(), Fault> {
        let Asked { src, dst, what } = self.end_of(token)?;
        let What::Ping { .. } = what else {
            return Err(Fault::UnknownJob(token));
        };
        let ping: plumb_record::Ping = parse("Ping", record)?;
        sound::ping(&ping, src, dst).map_err(|field| Fault::NotOfJob { job: token, field })?;
        self.news.push_back(News::Event(Event::Ping {
            job: JobId(token),
            started: self.clocks.host(started, now),
            ping: Box::new(ping),
        }));
        Ok(())
    }
}

fn parse<T: serde::de::DeserializeOwned>(frame: &'static str, json: &[u8]) -> Result<T, Fault> {
    let field = "record";
    serde_json::from_slice(json).map_err(|_| Fault::Malformed { frame, field })
}

/// What relates the guest's clock to the host's.
///
/// A time that the guest names reaches the host some time later, so the least difference is the
/// nearest to the truth. Only the last few count, since the clocks may run at different speeds.
#[derive(Clone, Debug)]
struct Clocks {
    /// When the session began, on the host's clock: nothing happened before.
    began: Instant,
    /// Host's clock minus guest's, in nanoseconds.
    differences: [i128; 16],
    notes: usize,
}

impl Clocks {
    const fn new(began: Instant) -> Self {
        Self {
            began,
            differences: [i128::MAX; 16],
            notes: 0,
        }
    }

    fn note(&mut self, guest: Instant, host: Instant) {
        let difference = i128::from(host.as_nanos()) - i128::from(guest.as_nanos());
        self.differences[self.notes % self.differences.len()] = difference;
        self.notes += 1;
    }

    /// A guest's time on the host's clock: within the session and not after `now`.
    fn host(&self, guest: Instant, now: Instant) -> Instant {
        let least = self.differences.iter().min().copied().unwrap_or(0);
        let nanos = i128::from(guest.as_nanos()).saturating_add(least);
        let at = Instant::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX));
        let longest = now.since(self.began);
        self.began + at.since(self.began).min(longest).max(Duration::ZERO)
    }
}
