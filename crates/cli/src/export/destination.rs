//! One destination: the engine, and the thread that does its I/O.

use core::time::Duration;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use plumb_ipfix::{Exporter, ExporterConfig, ExporterStatistics};
use plumb_link::Clock;
use plumb_record::{DnsProfile, FlowProfile, TapFlow, WallTime};
use plumb_wire::Instant;

use super::carrier::{Carrier, Opener};

/// One destination of records.
#[derive(Debug)]
pub(super) struct Destination {
    name: String,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

/// How the export to a destination ended.
#[derive(Debug)]
pub struct Outcome {
    /// The destination.
    pub name: String,
    /// What became of the records; those that still wait were not sent.
    pub statistics: ExporterStatistics,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    state: Mutex<State>,
    /// Something is to be sent, or the end has come.
    work: Condvar,
    /// A message was sent.
    room: Condvar,
    queue_bytes: usize,
}

#[derive(Debug)]
struct State {
    exporter: Exporter,
    /// Whether the thread has something to do that it does not know of.
    is_due: bool,
    /// Those who wait for room.
    waiting: usize,
    /// When to stop, whatever still waits.
    stop_at: Option<Instant>,
    ended: bool,
}

impl Shared {
    /// A panic elsewhere leaves a state that is whole: each call of the engine finishes its own.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records come in batches: the thread is woken once for each, and takes the lock from nobody
    /// who is in the middle of one.
    fn take(&self, give: impl FnOnce(&mut Exporter, Instant)) {
        let mut state = self.lock();
        let before = state.exporter.poll_timeout();
        give(&mut state.exporter, self.clock.now());
        state.is_due |= state.exporter.is_full() || state.exporter.poll_timeout() != before;
    }

    /// Wakes the thread if it has something to do.
    fn wake(&self, state: &mut State) {
        if core::mem::take(&mut state.is_due) {
            self.work.notify_one();
        }
    }

    /// Tells those who wait for room, if anybody does.
    fn tell_room(&self, state: &State) {
        if state.waiting > 0 {
            self.room.notify_all();
        }
    }
}

impl Destination {
    pub(super) fn start(
        name: String,
        config: ExporterConfig,
        opener: Box<dyn Opener>,
        complains: bool,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            clock: Clock::new(),
            queue_bytes: config.queue_bytes,
            state: Mutex::new(State {
                exporter: Exporter::new(config),
                is_due: false,
                waiting: 0,
                stop_at: None,
                ended: false,
            }),
            work: Condvar::new(),
            room: Condvar::new(),
        });
        let driver = Driver {
            name: name.clone(),
            shared: Arc::clone(&shared),
            opener,
            carrier: None,
            complains,
            complained_at: None,
        };
        let thread = thread::Builder::new()
            .name("export".into())
            .spawn(move || driver.run())?;
        Ok(Self {
            name,
            shared,
            thread,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn take(&self, profile: &FlowProfile) {
        self.shared
            .take(|exporter, now| exporter.take(profile, now));
    }

    pub(super) fn take_lookup(&self, lookup: &DnsProfile) {
        self.shared
            .take(|exporter, now| exporter.take_lookup(lookup, now));
    }

    pub(super) fn take_tapped(&self, flow: &TapFlow) {
        self.shared
            .take(|exporter, now| exporter.take_tapped(flow, now));
    }

    /// Begins to send what was taken.
    pub(super) fn wake(&self) {
        self.shared.wake(&mut self.shared.lock());
    }

    pub(super) fn not_recorded(&self, records: u64) {
        self.shared.lock().exporter.not_recorded(records);
    }

    pub(super) fn statistics(&self) -> ExporterStatistics {
        self.shared.lock().exporter.statistics()
    }

    pub(super) fn wait_for_room(&self, patience: Duration) -> bool {
        let half = self.shared.queue_bytes / 2;
        let is_full = |state: &mut State| state.exporter.queued_bytes() > half && !state.ended;
        let mut state = self.shared.lock();
        self.shared.wake(&mut state);
        state.waiting += 1;
        let waited = self
            .shared
            .room
            .wait_timeout_while(state, patience, is_full);
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        drop(state);
        !waited.timed_out()
    }

    pub(super) fn finish(&self, patience: Duration) {
        let mut state = self.shared.lock();
        state.exporter.finish();
        state.stop_at = Some(self.shared.clock.now() + patience);
        self.shared.work.notify_one();
    }

    pub(super) fn join(self) -> Outcome {
        // A thread that panicked has said so; what it left is counted below.
        drop(self.thread.join());
        let statistics = self.shared.lock().exporter.statistics();
        Outcome {
            name: self.name,
            statistics,
        }
    }
}

/// The thread's side.
struct Driver {
    name: String,
    shared: Arc<Shared>,
    opener: Box<dyn Opener>,
    carrier: Option<Box<dyn Carrier>>,
    complains: bool,
    complained_at: Option<Instant>,
}

/// How often a destination that does not work is worth a line.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

impl Driver {
    fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        loop {
            let now = shared.clock.now();
            let over = state
                .stop_at
                .is_some_and(|at| at <= now || state.exporter.is_drained());
            if over {
                break;
            }
            if state.exporter.poll_connect(now) {
                drop(state);
                let opened = self.opener.open();
                state = shared.lock();
                let now = shared.clock.now();
                match opened {
                    Ok(carrier) => {
                        state.exporter.connected(now, carrier.max_message_len());
                        self.carrier = Some(carrier);
                    }
                    Err(error) => {
                        state.exporter.failed(now);
                        self.complain(&error, now);
                    }
                }
            } else if let Some(message) = state.exporter.poll_transmit(now, wall_time()) {
                let message = message.to_vec();
                drop(state);
                let sent = match &mut self.carrier {
                    Some(carrier) => carrier.send(&message),
                    None => Err(io::ErrorKind::NotConnected.into()),
                };
                state = shared.lock();
                match sent {
                    Ok(()) => {
                        state.exporter.transmitted();
                        shared.tell_room(&state);
                    }
                    Err(error) => {
                        self.carrier = None;
                        let now = shared.clock.now();
                        state.exporter.failed(now);
                        self.complain(&error, now);
                    }
                }
            } else {
                let wake_at = state.exporter.poll_timeout();
                let wake_at = wake_at.into_iter().chain(state.stop_at).min();
                let wait = wake_at.map_or(LONGEST_WAIT, |at| at.since(now));
                let waited = shared.work.wait_timeout(state, wait.min(LONGEST_WAIT));
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        state.ended = true;
        shared.tell_room(&state);
        drop(state);
        if let Some(mut carrier) = self.carrier.take() {
            carrier.close();
        }
    }

    /// Says why a destination does not work, now and then.
    fn complain(&mut self, error: &io::Error, now: Instant) {
        let recently = |at| now.since(at) < COMPLAIN_EVERY;
        if !self.complains || self.complained_at.is_some_and(recently) {
            return;
        }
        self.complained_at = Some(now);
        let name = &self.name;
        // Nothing can be done about an error while an error is reported.
        drop(writeln!(
            io::stderr(),
            "plumb: {name}: {error}; trying again"
        ));
    }
}

const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The time of the day, stepped as the system's clock is: collectors compare it with theirs.
fn wall_time() -> WallTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    WallTime(since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }))
}
