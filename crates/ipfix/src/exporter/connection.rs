//! When a transport is tried again.

use core::time::Duration;

use plumb_wire::Instant;

/// Where the transport to the collector stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Down, and to be tried at this time.
    Down(Instant),
    /// Being tried.
    Trying,
    /// Up.
    Up,
}

/// The transport to a collector: down, tried after a wait that doubles with each failure, or up.
#[derive(Debug)]
pub(super) struct Connection {
    state: State,
    wait: Duration,
}

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

impl Connection {
    pub(super) const fn new() -> Self {
        Self {
            state: State::Down(Instant::ZERO),
            wait: FIRST_WAIT,
        }
    }

    /// Whether to try now; says so once for each attempt.
    pub(super) fn poll(&mut self, now: Instant) -> bool {
        match self.state {
            State::Down(at) if at <= now => {
                self.state = State::Trying;
                true
            }
            State::Down(_) | State::Trying | State::Up => false,
        }
    }

    pub(super) const fn up(&mut self) {
        self.state = State::Up;
    }

    /// A message went through: the next failure is the first of its kind.
    pub(super) const fn works(&mut self) {
        self.wait = FIRST_WAIT;
    }

    pub(super) fn down(&mut self, now: Instant) {
        self.state = State::Down(now + self.wait);
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
    }

    pub(super) const fn is_up(&self) -> bool {
        matches!(self.state, State::Up)
    }

    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Down(at) => Some(at),
            State::Trying | State::Up => None,
        }
    }
}
