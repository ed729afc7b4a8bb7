//! Passes over the connections, which programs make where an iterator is read.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::io::{self, Read as _};

use libbpf_rs::{Iter, Link, MapCore as _, MapFlags, MapHandle};

use super::event::Event;
use super::inbox::Inbox;
use super::recorder::Options;

/// What the connections are gone over for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// For what has lasted, idled, or lost its application.
    Pass,
    /// To end all windows.
    Stop,
    /// To tell of each, and change nothing.
    Look,
}

/// Goes over connections.
pub(super) struct Passes {
    /// The iterators that could be attached.
    pub(super) links: Vec<Link>,
    /// How many passes were made.
    pub(super) made: AtomicU64,
    /// What the program is to know of a pass.
    pub(super) settings: MapHandle,
    pub(super) inbox: Inbox,
}

impl Passes {
    /// Makes one pass. What it finds comes in batches, each as soon as it was found: when `take` has
    /// the events of one, no program is looking at connections, so that an end that was told before
    /// is of a connection that the pass will not meet any more.
    pub(super) fn go_over(
        &self,
        purpose: Purpose,
        options: &Options,
        mut take: impl FnMut(Vec<Event>),
    ) -> io::Result<()> {
        let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        let settings = [
            nanos(options.active_timeout),
            nanos(options.idle_timeout),
            nanos(options.orphan_timeout),
            u64::from(purpose == Purpose::Stop),
            u64::from(purpose == Purpose::Look),
            self.made.fetch_add(1, Ordering::Relaxed) + 1,
            0, // which the program notes
        ];
        let value = settings.map(u64::to_ne_bytes).concat();
        self.settings
            .update(&0u32.to_ne_bytes(), &value, MapFlags::ANY)
            .map_err(io::Error::other)?;
        // What a pass left that was broken off.
        drop(self.inbox.take_all());
        self.links
            .iter()
            .try_for_each(|link| self.read(link, &mut take))
    }

    /// Reads one iterator to its end.
    fn read(&self, link: &Link, take: &mut impl FnMut(Vec<Event>)) -> io::Result<()> {
        let mut iterator = Iter::new(link).map_err(io::Error::other)?;
        let mut nothing = 0;
        loop {
            let over = match iterator.read(&mut [0; 64]) {
                Ok(0) => true,
                Ok(_) => false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => false,
                // The ring is full, or a million connections have been met.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => false,
                Err(e) => return Err(e),
            };
            let events = self.inbox.take_all();
            nothing = if events.is_empty() { nothing + 1 } else { 0 };
            if !events.is_empty() {
                take(events);
            }
            if over {
                return Ok(());
            }
            if nothing > MOST_FRUITLESS {
                return Err(io::Error::other("the iterator does not get on"));
            }
        }
    }
}

/// Reads that may come back without an event or an end: each stands for a million connections of
/// which nothing is to be told, or an interruption.
const MOST_FRUITLESS: u32 = 10_000;

/// Runs an iterator to its end that writes events of so many bytes.
pub(super) fn events_of(link: &Link, len: usize) -> io::Result<Vec<Event>> {
    let mut iterator = Iter::new(link).map_err(io::Error::other)?;
    let mut events = Vec::new();
    let mut rest = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = match iterator.read(&mut buffer) {
            Ok(0) => return Ok(events),
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
            Err(e) => return Err(e),
        };
        rest.extend_from_slice(buffer.get(..read).unwrap_or_default());
        let whole = rest.len() - rest.len() % len;
        events.extend(
            rest.drain(..whole)
                .as_slice()
                .chunks(len)
                .filter_map(Event::parse),
        );
    }
}
