//! Events that come through a ring.

use core::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use libbpf_rs::{MapCore, RingBuffer, RingBufferBuilder};

use super::error::Error;
use super::event::Event;

/// The reader's side of a ring.
pub(super) struct Inbox {
    ring: RingBuffer<'static>,
    events: Rc<RefCell<Vec<Event>>>,
}

impl Inbox {
    /// Events that are taken at once.
    const AT_ONCE: usize = 16_384;
    /// How often more is taken than was there at first.
    const MOST_TAKES: usize = 16;
    /// Events that are handed on at once: as many as the nearest cache but one holds with all that is
    /// made of them.
    const BATCH: usize = 64;

    pub(super) fn of(map: &dyn MapCore) -> Result<Self, Error> {
        let events = Rc::new(RefCell::new(Vec::new()));
        let into = Rc::clone(&events);
        let mut ring = RingBufferBuilder::new();
        ring.add(map, move |bytes| {
            into.borrow_mut().extend(Event::parse(bytes));
            0
        })
        .map_err(|e| Error::of("read the ring", &e))?;
        let ring = ring.build().map_err(|e| Error::of("map the ring", &e))?;
        Ok(Self { ring, events })
    }

    /// Takes what is there, some thousands of events at most.
    pub(super) fn take(&self) -> Vec<Event> {
        // What it returns is a count, or an error of a callback; ours has none.
        let _ = self.ring.consume_raw_n(Self::AT_ONCE);
        core::mem::take(&mut *self.events.borrow_mut())
    }

    /// Hands on what is there, in batches whose memory is used again: of a busy host's events there are
    /// more than fit into a processor's cache. Ends when there is nothing more, or as
    /// [`take_all`](Self::take_all) does.
    pub(super) fn for_each_batch(&self, mut handle: impl FnMut(&[Event])) {
        for _ in 0..=Self::MOST_TAKES * Self::AT_ONCE / Self::BATCH {
            // A count, or an error of a callback; ours has none.
            if self.ring.consume_raw_n(Self::BATCH) <= 0 {
                break;
            }
            let mut events = core::mem::take(&mut *self.events.borrow_mut());
            handle(&events);
            events.clear();
            *self.events.borrow_mut() = events;
        }
    }

    /// Takes all that is there. A host that is busier than its reader would keep it here for ever,
    /// so what comes meanwhile is taken some times only.
    pub(super) fn take_all(&self) -> Vec<Event> {
        let mut all = self.take();
        for _ in 0..Self::MOST_TAKES {
            let more = self.take();
            if more.is_empty() {
                break;
            }
            all.extend(more);
        }
        all
    }
}

/// Readable when the ring has filled up as far as its writers wake for.
impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is the ring's own, open as long as `self` is.
        unsafe { BorrowedFd::borrow_raw(self.ring.epoll_fd()) }
    }
}
