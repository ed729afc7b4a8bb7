//! SYNs from outside that nobody asked for: they are not answered at once, as the other end may
//! be about to open the same connection (RFC 5382 REQ-4).

use alloc::collections::VecDeque;

use plumb_wire::Instant;

use crate::Frame;

use super::Endpoint;

/// SYNs that are kept at most; more are dropped without an answer.
const MOST: usize = 256;

#[derive(Debug)]
struct Syn {
    due: Instant,
    outside: Endpoint,
    remote: Endpoint,
    frame: Frame,
}

/// SYNs that wait for their answer, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Unsolicited(VecDeque<Syn>);

impl Unsolicited {
    /// Keeps a SYN until it is `due` to be answered. A second one for the same connection changes
    /// nothing.
    pub(super) fn keep(&mut self, due: Instant, outside: Endpoint, remote: Endpoint, frame: Frame) {
        let known = self
            .0
            .iter()
            .any(|syn| syn.outside == outside && syn.remote == remote);
        if !known && self.0.len() < MOST {
            self.0.push_back(Syn {
                due,
                outside,
                remote,
                frame,
            });
        }
    }

    /// Forgets the SYN of a connection that the inside opens now.
    pub(super) fn forget(&mut self, outside: Endpoint, remote: Endpoint) {
        self.0
            .retain(|syn| syn.outside != outside || syn.remote != remote);
    }

    /// Takes a SYN that is to be refused now.
    pub(super) fn due(&mut self, now: Instant) -> Option<Frame> {
        if self.0.front()?.due > now {
            return None;
        }
        Some(self.0.pop_front()?.frame)
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.0.front().map(|syn| syn.due)
    }
}
