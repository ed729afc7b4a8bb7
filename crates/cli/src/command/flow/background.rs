//! Works in time that nobody else wants, as long as there is enough of it.
//!
//! What plumb does with events can wait, while a client and a server that wait for a processor are what
//! it is to watch, not to slow. So the thread that does it leaves its turn to any other that wakes up
//! (SCHED_IDLE). On a host whose processors are all busy such a thread hardly has a turn; another
//! thread, which has nothing else to do, then makes it an ordinary one for a while.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

use plumb_link::capability::{self, Capability};
use plumb_link::scheduling::{Policy, set_policy};
use plumb_wire::Instant;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::thread::{Pid, gettid};

/// Time between two looks at the worker. It has a turn at least as often, if it has any.
const TICK: Duration = Duration::from_millis(100);
/// Looks in a row without a turn of the worker, after which it is made ordinary.
const PATIENCE: u32 = 2;
/// How long it stays so.
const ORDINARY: Duration = Duration::from_secs(2);

/// What both threads know.
#[derive(Debug, Default)]
struct Shared {
    /// Turns that the worker had.
    turns: AtomicU64,
    /// Whether it is in the background. The worker sets it, the guard clears it.
    is_behind: AtomicBool,
}

/// The calling thread as a worker in the background, until this is dropped.
///
/// A thread does not come back from there by itself: that is for the guard to do, which keeps
/// CAP_SYS_NICE for it and nothing else, unless RLIMIT_NICE allows it to everybody.
#[derive(Debug)]
pub(super) struct Background {
    shared: Arc<Shared>,
    worker: Pid,
    ordinary_since: Option<Instant>,
    /// Ends the guard when it is closed.
    stop: Option<UnixStream>,
    guard: Option<JoinHandle<()>>,
}

impl Background {
    /// Puts the calling thread in the background. `filling` becomes readable when what waits for it
    /// gets much. None where it could not come back.
    ///
    /// # Errors
    /// If there can be no other thread.
    pub(super) fn begin(filling: impl AsFd) -> io::Result<Option<Self>> {
        let worker = gettid();
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = UnixStream::pair()?;
        let guard = Guard {
            shared: Arc::clone(&shared),
            worker,
            stopped,
            filling: filling.as_fd().try_clone_to_owned()?,
        };
        let (tell, told) = mpsc::channel();
        let thread = std::thread::Builder::new().name("plumb-guard".to_owned());
        let background = Self {
            guard: Some(thread.spawn(move || guard.run(&tell))?),
            shared,
            worker,
            ordinary_since: None,
            stop: Some(stop),
        };
        let is_ready = told.recv().unwrap_or(false);
        Ok((is_ready && background.step_back()).then_some(background))
    }

    /// To be called whenever the worker has its turn.
    pub(super) fn turn(&mut self, now: Instant) {
        self.shared.turns.fetch_add(1, Ordering::SeqCst);
        if self.shared.is_behind.load(Ordering::SeqCst) {
            self.ordinary_since = None;
            return;
        }
        let since = *self.ordinary_since.get_or_insert(now);
        if now.since(since) >= ORDINARY {
            self.step_back();
        }
    }

    /// Puts the worker in the background, if somebody looks after it. False if it stays what it is.
    fn step_back(&self) -> bool {
        let is_guarded = self
            .guard
            .as_ref()
            .is_some_and(|guard| !guard.is_finished());
        let done = is_guarded && set_policy(self.worker, Policy::Idle).is_ok();
        if done {
            self.shared.is_behind.store(true, Ordering::SeqCst);
        }
        done
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(guard) = self.guard.take() {
            // It does not panic.
            drop(guard.join());
        }
    }
}

/// Whether the worker has to wait too long, as seen at each look.
#[derive(Debug, Default)]
struct Verdict {
    turns: u64,
    without: u32,
}

impl Verdict {
    /// Takes in how many turns the worker has had, and says whether it is to be made ordinary.
    fn look(&mut self, turns: u64, is_filling: bool) -> bool {
        if turns != self.turns {
            self.turns = turns;
            self.without = 0;
        } else if !is_filling {
            self.without += 1;
        }
        if !is_filling && self.without < PATIENCE {
            return false;
        }
        self.without = 0;
        true
    }
}

/// The thread that looks after the worker.
struct Guard {
    shared: Arc<Shared>,
    worker: Pid,
    stopped: UnixStream,
    filling: OwnedFd,
}

impl Guard {
    /// Says first whether it can do what it is there for.
    fn run(self, tell: &Sender<bool>) {
        let can = Self::can();
        // Whoever made it waits for this.
        let _ = tell.send(can);
        if !can {
            return;
        }
        let mut verdict = Verdict::default();
        loop {
            let is_behind = self.shared.is_behind.load(Ordering::SeqCst);
            let mut fds = [
                PollFd::new(&self.stopped, PollFlags::IN),
                PollFd::new(&self.filling, PollFlags::IN),
            ];
            let watched = if is_behind {
                fds.as_mut_slice()
            } else {
                &mut fds[..1]
            };
            let time = Timespec::try_from(TICK).ok();
            match poll(watched, time.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => {
                    // It cannot be looked after any more.
                    self.release();
                    return;
                }
            }
            let [stopped, filling] = fds.map(|fd| !fd.revents().is_empty());
            if stopped {
                self.release();
                return;
            }
            let turns = self.shared.turns.load(Ordering::SeqCst);
            if is_behind && verdict.look(turns, filling) {
                self.release();
            }
        }
    }

    /// Whether it can bring back a thread: itself, to try.
    fn can() -> bool {
        let itself = gettid();
        capability::drop_all_but(Capability::SysNice).is_ok()
            && set_policy(itself, Policy::Idle).is_ok()
            && set_policy(itself, Policy::Other).is_ok()
    }

    /// Makes the worker an ordinary thread.
    fn release(&self) {
        // What is refused now may be permitted at the next look.
        if set_policy(self.worker, Policy::Other).is_ok() {
            self.shared.is_behind.store(false, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_has_its_turns_stays_in_the_background() {
        let mut verdict = Verdict::default();
        assert!((1..100).all(|turn| !verdict.look(turn, false)));
        // Looks may come just before its turn.
        assert!((100..200).all(|look| !verdict.look(look / 2, false)));
    }

    #[test]
    fn a_worker_without_a_turn_for_two_looks_is_made_ordinary() {
        let mut verdict = Verdict::default();
        assert!(!verdict.look(7, false));
        assert!(!verdict.look(7, false));
        assert!(verdict.look(7, false));
        assert!(!verdict.look(7, false));
        assert!(verdict.look(7, false));
    }

    #[test]
    fn a_worker_whose_ring_fills_up_is_made_ordinary_at_once() {
        let mut verdict = Verdict::default();
        assert!(!verdict.look(7, false));
        assert!(verdict.look(8, true));
    }
}
