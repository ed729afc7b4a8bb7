//! The sessions of a machine: orders in, jobs under way, reports out. No I/O, no clock.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use plumb_channel::{Configure, Fault, Guest, INBOX, Options, Order, Ready, Refusal};
use plumb_probe::{Engine, Event};
use plumb_wire::{Engine as _, Instant};

use crate::under_way::UnderWay;

/// What a machine is, as its sessions are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Address of the network interface.
    pub mac: [u8; 6],
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Addresses with prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Memory that jobs and what they share may take, in bytes.
    pub memory: usize,
}

impl Machine {
    /// Most jobs under way at once that the memory allows.
    pub fn most_jobs(&self) -> usize {
        (self.memory / 2 / JOB_LEN).max(1)
    }

    /// Most entries of each cache that the memory allows.
    fn most_entries(&self) -> usize {
        (self.memory / 4 / ENTRY_LEN).max(1)
    }
}

/// Bytes that a trace under way takes, with its walk, its revelations and its record: twice what
/// `docs/benchmarks.md` measured, since the heap is never packed well.
const JOB_LEN: usize = 4096;
/// Bytes that an entry of both caches takes.
const ENTRY_LEN: usize = 512;

/// Bytes of reports that may wait to be sent before no more are made.
const MOST_WAITING: usize = 128 << 10;
/// Bytes of reports that may wait before packets are no longer reported.
const MOST_PACKETS: usize = 256 << 10;
/// Time between two reports of the counters, which are also the sign that the machine lives.
const STATS_EVERY: Duration = Duration::from_secs(1);
/// Jobs begun in one turn.
const STARTS_PER_TURN: usize = 64;

/// A job that has not begun.
#[derive(Clone, Debug)]
struct Waiting {
    token: u64,
    src: IpAddr,
    dst: IpAddr,
    /// None where their number has none.
    options: Option<Options>,
}

/// All sessions of a machine, one after the other.
#[derive(Debug)]
pub struct Sessions {
    machine: Machine,
    guest: Guest,
    current: Option<Session>,
    /// Whether all orders have been taken from the bytes that came.
    drained: bool,
    /// Whether the machine is to end when everything is acknowledged.
    closing: bool,
    /// Sessions that have begun or ended.
    changes: u64,
}

#[derive(Debug)]
struct Session {
    configure: Configure,
    engine: Engine,
    /// Options by number.
    options: Vec<Option<Options>>,
    inbox: VecDeque<Waiting>,
    under_way: UnderWay,
    finishing: bool,
    finished: bool,
    stats_due: Instant,
    unreported: u64,
}

impl Sessions {
    /// A machine without a session.
    pub fn new(machine: Machine) -> Self {
        Self {
            machine,
            guest: Guest::default(),
            current: None,
            drained: true,
            closing: false,
            changes: 0,
        }
    }

    /// Changes whenever the engine is another one.
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether [`handle_bytes`](Self::handle_bytes) may be called: not while as many jobs wait as
    /// may.
    pub fn wants_bytes(&self) -> bool {
        self.drained
    }

    /// Takes up to [`Guest::CHUNK`] bytes from the host.
    ///
    /// # Errors
    /// If they are not orders. The host is told; nothing more can be understood.
    pub fn handle_bytes(&mut self, bytes: &[u8], now: Instant) -> Result<(), Fault> {
        self.guest.handle_bytes(bytes);
        self.take_orders(now)
    }

    /// Does what can be done at `now`: takes events, begins jobs, reports. `dropped` is how many
    /// packets were lost before the engine, `rtt_error` the most by which the machine lengthens
    /// round-trip times.
    ///
    /// # Errors
    /// As [`handle_bytes`](Self::handle_bytes).
    pub fn turn(
        &mut self,
        now: Instant,
        dropped: u64,
        rtt_error: Option<Duration>,
    ) -> Result<(), Fault> {
        self.take_orders(now)?;
        let Some(session) = &mut self.current else {
            return Ok(());
        };
        session.take_events(&mut self.guest, now, rtt_error);
        session.start_jobs(&mut self.guest, &self.machine, now);
        // A job may end as it begins.
        session.take_events(&mut self.guest, now, rtt_error);
        session.report(&mut self.guest, now, dropped);
        Ok(())
    }

    /// The engine of the session, unless there is none or too much waits to be reported.
    pub fn engine(&mut self) -> Option<&mut Engine> {
        if self.guest.backlog() > MOST_WAITING {
            return None;
        }
        self.current.as_mut().map(|session| &mut session.engine)
    }

    /// The engine of the session for what has already happened: replies, times, failures.
    pub fn engine_always(&mut self) -> Option<&mut Engine> {
        self.current.as_mut().map(|session| &mut session.engine)
    }

    /// When [`turn`](Self::turn) has something to do though nothing arrives.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let session = self.current.as_ref()?;
        // Nothing is due that would make more reports, until those that wait have left.
        if self.guest.backlog() > MOST_WAITING {
            return None;
        }
        let stats = (!session.finished).then_some(session.stats_due);
        [stats, session.engine.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether a turn at once has more to do: events or jobs are left over.
    pub fn is_behind(&self) -> bool {
        let blocked = self.guest.backlog() > MOST_WAITING;
        self.current
            .as_ref()
            .is_some_and(|session| !blocked && session.may_start())
    }

    /// Whether every packet is to be reported.
    pub fn wants_packets(&self) -> bool {
        let session = self.current.as_ref();
        session.is_some_and(|session| session.configure.packets && !session.finished)
    }

    /// Reports a packet, if there is room for it.
    pub fn packet(&mut self, at: Instant, sent: bool, bytes: &[u8]) {
        let Some(session) = self.current.as_mut().filter(|s| !s.finished) else {
            return;
        };
        if self.guest.backlog() > MOST_PACKETS {
            session.unreported += 1;
        } else if sent {
            self.guest.sent_packet(at, bytes);
        } else {
            self.guest.received_packet(at, bytes);
        }
    }

    /// Says something to people.
    pub fn text(&mut self, line: &str) {
        self.guest.text(line);
    }

    /// Bytes for the host.
    pub fn transmit(&self) -> &[u8] {
        self.guest.transmit()
    }

    /// Takes note that this many bytes have left.
    pub fn handle_sent(&mut self, bytes: usize) {
        self.guest.handle_sent(bytes);
    }

    /// Whether the machine may end: it was told to, and nothing would be lost.
    pub fn is_over(&self) -> bool {
        self.closing && self.guest.is_acknowledged()
    }

    fn take_orders(&mut self, now: Instant) -> Result<(), Fault> {
        loop {
            let session = self.current.as_ref();
            // An honest host never sends so many, and what it says behind them is always heard.
            if session.is_some_and(|session| session.inbox.len() > INBOX) {
                self.drained = false;
                return Ok(());
            }
            match self.guest.poll_order() {
                Ok(Some(order)) => self.obey(order, now)?,
                Ok(None) => {
                    self.drained = true;
                    return Ok(());
                }
                Err(fault) => return Err(self.complain(fault)),
            }
        }
    }

    fn complain(&mut self, fault: Fault) -> Fault {
        self.guest.text(&format!("the host sent {fault}"));
        fault
    }

    fn obey(&mut self, order: Order, now: Instant) -> Result<(), Fault> {
        let session = self.current.as_mut();
        match (order, session) {
            (Order::Configure(configure), _) => self.begin(configure, now),
            (Order::Reset, _) => {
                self.changes += 1;
                self.current = None;
            }
            (Order::Shutdown, _) => self.closing = true,
            (Order::Options { number, options }, Some(session)) => {
                let index = usize::from(number);
                if session.options.len() <= index {
                    session.options.resize(index + 1, None);
                }
                session.options[index] = Some(options);
            }
            (
                Order::Start {
                    token,
                    src,
                    dst,
                    options,
                },
                Some(session),
            ) if !session.finishing => session.inbox.push_back(Waiting {
                token,
                src,
                dst,
                // By the time that it begins, the number may stand for others.
                options: session.options.get(usize::from(options)).cloned().flatten(),
            }),
            (Order::Stop { token }, Some(session)) => {
                session.stop(&mut self.guest, token, now);
            }
            (Order::StopAll, Some(session)) => session.stop_all(&mut self.guest, now),
            (Order::Finish, Some(session)) => session.finishing = true,
            // What the host has is the channel's business.
            (Order::Ack { .. } | Order::Received { .. }, _) => {}
            (order, _) => {
                let frame = order.name();
                return Err(self.complain(Fault::OutOfState { frame }));
            }
        }
        Ok(())
    }

    fn begin(&mut self, mut configure: Configure, now: Instant) {
        self.changes += 1;
        let engine = &mut configure.engine;
        engine.window = engine.window.min(self.machine.most_jobs());
        engine.cache_entries = engine.cache_entries.min(self.machine.most_entries());
        self.guest.ready(Ready {
            session: configure.session,
            time: now,
            mac: self.machine.mac,
            mtu: self.machine.mtu,
            window: u32::try_from(engine.window).unwrap_or(u32::MAX),
            addresses: self.machine.addresses.clone(),
        });
        self.current = Some(Session {
            engine: Engine::new(configure.engine, configure.seed),
            configure,
            options: Vec::new(),
            inbox: VecDeque::new(),
            under_way: UnderWay::default(),
            finishing: false,
            finished: false,
            stats_due: now + STATS_EVERY,
            unreported: 0,
        });
    }
}

impl Session {
    /// Whether a job waits that may begin now.
    fn may_start(&self) -> bool {
        !self.inbox.is_empty()
            && self.engine.has_room()
            && self.engine.backlog() < self.configure.engine.most_backlog()
    }

    fn start_jobs(&mut self, guest: &mut Guest, machine: &Machine, now: Instant) {
        for _ in 0..STARTS_PER_TURN {
            if !self.may_start() || guest.backlog() > MOST_WAITING {
                return;
            }
            let Some(waiting) = self.inbox.pop_front() else {
                return;
            };
            guest.took();
            let token = waiting.token;
            if let Err(why) = self.start(waiting, machine, now) {
                guest.refused(token, why);
            }
        }
    }

    fn start(&mut self, waiting: Waiting, machine: &Machine, now: Instant) -> Result<(), Refusal> {
        let Waiting {
            token,
            src,
            dst,
            options,
        } = waiting;
        if machine.addresses.iter().all(|(own, _)| *own != src) {
            return Err(Refusal::NotMyAddress);
        }
        let bad = Refusal::Engine(plumb_probe::Refused::BadOptions);
        let job = self
            .engine
            .start(options.ok_or(bad)?.job(src, dst), now)
            .map_err(Refusal::Engine)?;
        self.under_way.insert(job, token);
        Ok(())
    }

    fn stop(&mut self, guest: &mut Guest, token: u64, now: Instant) {
        if let Some(job) = self.under_way.job(token) {
            self.engine.stop(job, now);
        } else if let Some(at) = self.inbox.iter().position(|w| w.token == token) {
            self.inbox.remove(at);
            guest.took();
            guest.refused(token, Refusal::Stopped);
        }
    }

    fn stop_all(&mut self, guest: &mut Guest, now: Instant) {
        for waiting in self.inbox.drain(..) {
            guest.took();
            guest.refused(waiting.token, Refusal::Stopped);
        }
        for job in self.under_way.jobs() {
            self.engine.stop(job, now);
        }
    }

    fn take_events(&mut self, guest: &mut Guest, now: Instant, rtt_error: Option<Duration>) {
        while guest.backlog() <= MOST_WAITING {
            let Some(mut event) = self.engine.poll_event() else {
                return;
            };
            let error = rtt_error.map(|e| u64::try_from(e.as_nanos()).unwrap_or(u64::MAX));
            let (job, last) = match &mut event {
                Event::Trace { job, trace, .. } => {
                    trace.rtt_error_ns = error;
                    (*job, true)
                }
                Event::Ping { job, ping, .. } => {
                    ping.rtt_error_ns = error;
                    (*job, true)
                }
                Event::Hop { job, .. } | Event::PingReply { job, .. } => (*job, false),
            };
            let token = if last {
                self.under_way.remove(job)
            } else {
                self.under_way.token(job)
            };
            if let Some(token) = token {
                guest.event(token, &event, now);
            }
        }
    }

    fn report(&mut self, guest: &mut Guest, now: Instant, dropped: u64) {
        let ends =
            self.finishing && !self.finished && self.inbox.is_empty() && self.under_way.is_empty();
        let due = !self.finished && now >= self.stats_due;
        if ends || due && guest.backlog() <= MOST_WAITING {
            self.stats_due = now + STATS_EVERY;
            guest.stats(now, self.engine.stats(), dropped, self.unreported);
        }
        if ends {
            self.finished = true;
            guest.finished();
        }
    }
}
