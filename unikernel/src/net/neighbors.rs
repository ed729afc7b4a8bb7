//! Who on the link has which MAC address (RFC 826, RFC 4861 §7.3).

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use plumb_wire::{Instant, ProbeId, SendError};

/// Most neighbours that are remembered.
pub(super) const MOST_NEIGHBORS: usize = 128;
/// Most packets that wait for an answer.
pub(super) const MOST_WAITING: usize = 256;
/// Time from the first request to each of them. Where an answer is possible it comes at once; the
/// first repetitions are for links that are just coming up.
const REQUESTS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
/// Time from the first request until nobody is believed to be there.
const GIVE_UP: Duration = Duration::from_secs(3);
/// Time in which a neighbour that did not answer is not asked again.
const HOLD_DOWN: Duration = Duration::from_secs(1);
/// Time after which a neighbour that is in use is asked again.
const REFRESH: Duration = Duration::from_secs(60);
/// Requests to the known MAC address before everyone is asked.
const UNICAST_REQUESTS: usize = 2;

/// What is known of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// It has this MAC address.
    Known([u8; 6]),
    /// It is being asked: packets may [wait](Neighbors::wait).
    Asked,
    /// It does not answer.
    Failed,
    /// There is no room to ask for one more.
    Full,
}

/// A request that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Who has this address?
    pub(super) address: IpAddr,
    /// The one that had it last, or everyone.
    pub(super) mac: Option<[u8; 6]>,
}

/// A packet that has waited.
#[derive(Debug)]
pub(super) struct Waited {
    pub(super) probe: ProbeId,
    pub(super) packet: Vec<u8>,
    /// Where to, or why not.
    pub(super) to: Result<[u8; 6], SendError>,
}

/// The neighbours that packets were sent to, and what waits for them.
#[derive(Debug, Default)]
pub(super) struct Neighbors {
    entries: Vec<Entry>,
    waiting: Vec<(IpAddr, ProbeId, Vec<u8>)>,
    waited: VecDeque<Waited>,
}

#[derive(Debug)]
struct Entry {
    address: IpAddr,
    mac: Option<[u8; 6]>,
    /// Requests under way. Without, and without `mac`, it has failed.
    asked: Option<Asked>,
    /// When it was confirmed or failed.
    since: Instant,
    used: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    first: Instant,
    /// Requests that were sent.
    count: usize,
}

impl Asked {
    fn due(&self) -> Instant {
        self.first + REQUESTS.get(self.count).copied().unwrap_or(GIVE_UP)
    }
}

impl Neighbors {
    /// Looks a neighbour up, to whom a packet is to be sent. One that is not known is asked:
    /// [`poll_request`](Self::poll_request) follows.
    pub(super) fn lookup(&mut self, address: IpAddr, now: Instant) -> Lookup {
        let asked = Asked {
            first: now,
            count: 0,
        };
        let Some(entry) = self.entries.iter_mut().find(|e| e.address == address) else {
            if !self.make_room() {
                return Lookup::Full;
            }
            self.entries.push(Entry {
                address,
                mac: None,
                asked: Some(asked),
                since: now,
                used: now,
            });
            return Lookup::Asked;
        };
        entry.used = now;
        let age = now.since(entry.since);
        match (entry.mac, entry.asked) {
            (Some(mac), None) if age >= REFRESH => {
                entry.asked = Some(asked);
                Lookup::Known(mac)
            }
            (Some(mac), _) => Lookup::Known(mac),
            (None, Some(_)) => Lookup::Asked,
            (None, None) if age < HOLD_DOWN => Lookup::Failed,
            (None, None) => {
                entry.asked = Some(asked);
                Lookup::Asked
            }
        }
    }

    /// Lets a packet wait for a neighbour that is being asked. Returns false if too many wait.
    pub(super) fn wait(&mut self, address: IpAddr, probe: ProbeId, packet: &[u8]) -> bool {
        let room = self.waiting.len() + self.waited.len() < MOST_WAITING;
        if room {
            self.waiting.push((address, probe, packet.to_vec()));
        }
        room
    }

    /// Takes the news that a neighbour that packets were sent to has this MAC address. `None` if it
    /// was not asked; otherwise the time since, if it was asked just once.
    #[expect(
        clippy::option_option,
        reason = "not asked, asked once and asked often are three"
    )]
    pub(super) fn confirm(
        &mut self,
        address: IpAddr,
        mac: [u8; 6],
        now: Instant,
    ) -> Option<Option<Duration>> {
        let entry = self.entries.iter_mut().find(|e| e.address == address)?;
        entry.mac = Some(mac);
        entry.since = now;
        let asked = entry.asked.take();
        self.release(address, Ok(mac));
        asked.map(|asked| (asked.count == 1).then(|| now.since(asked.first)))
    }

    /// Asks a known neighbour again.
    pub(super) fn ask(&mut self, address: IpAddr, now: Instant) {
        if let Some(entry) = self.entries.iter_mut().find(|e| e.address == address) {
            entry.asked = Some(Asked {
                first: now,
                count: 0,
            });
        }
    }

    /// The next request that is due. Gives up on who has not answered for too long.
    pub(super) fn poll_request(&mut self, now: Instant) -> Option<Request> {
        loop {
            let due = |entry: &Entry| entry.asked.is_some_and(|asked| asked.due() <= now);
            let at = self.entries.iter().position(due)?;
            let entry = &mut self.entries[at];
            let address = entry.address;
            let asked = entry.asked.as_mut()?;
            if asked.count < REQUESTS.len() {
                let mac = entry.mac.filter(|_| asked.count < UNICAST_REQUESTS);
                asked.count += 1;
                return Some(Request { address, mac });
            }
            entry.asked = None;
            entry.since = now;
            if entry.mac.take().is_some() {
                // It was there. The next packet for it asks everyone, from the beginning.
                self.entries.swap_remove(at);
            } else {
                self.release(address, Err(SendError::NoRoute));
            }
        }
    }

    /// When [`poll_request`](Self::poll_request) has something next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let asked = self.entries.iter().filter_map(|entry| entry.asked);
        asked.map(|asked| asked.due()).min()
    }

    /// The next packet that has waited.
    pub(super) fn poll_waited(&mut self) -> Option<Waited> {
        self.waited.pop_front()
    }

    /// Puts a packet back that there was no room for.
    pub(super) fn put_back(&mut self, waited: Waited) {
        self.waited.push_front(waited);
    }

    fn release(&mut self, address: IpAddr, to: Result<[u8; 6], SendError>) {
        let of_it = self.waiting.extract_if(.., |(a, ..)| *a == address);
        self.waited
            .extend(of_it.map(|(_, probe, packet)| Waited { probe, packet, to }));
    }

    /// Forgets whom was written to the longest ago, if there must be room. Nobody who is being
    /// asked is forgotten, since packets may wait for him.
    fn make_room(&mut self) -> bool {
        if self.entries.len() < MOST_NEIGHBORS {
            return true;
        }
        let idle = self.entries.iter().enumerate();
        let idle = idle.filter(|(_, entry)| entry.asked.is_none());
        let oldest = idle.min_by_key(|(_, entry)| entry.used).map(|(at, _)| at);
        oldest.map(|at| self.entries.swap_remove(at)).is_some()
    }

    /// Entries, and packets that wait or have waited.
    #[cfg(test)]
    pub(super) fn len(&self) -> (usize, usize) {
        (self.entries.len(), self.waiting.len() + self.waited.len())
    }
}
