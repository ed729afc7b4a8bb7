//! Fragmented packets: only the first fragment says whose they are (RFC 4787 REQ-14).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use plumb_wire::Instant;
use plumb_wire::frame::Port;

use crate::Frame;

use super::rewrite::View;

/// What all fragments of a packet have in common (RFC 791 §3.2), and where they come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    from: Port,
    src: Ipv4Addr,
    dst: Ipv4Addr,
    protocol: u8,
    ident: u16,
}

impl Key {
    pub(super) const fn of(from: Port, view: &View) -> Self {
        Self {
            from,
            src: view.src,
            dst: view.dst,
            protocol: view.protocol,
            ident: view.ident,
        }
    }
}

/// What became of the first fragment, and so becomes of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Dropped,
    Sent {
        to: Port,
        src: Ipv4Addr,
        dst: Ipv4Addr,
        mac: [u8; 6],
    },
}

#[derive(Debug)]
enum Known {
    Fate(Fate),
    /// The first fragment has not come yet; these have.
    Waiting(Vec<Frame>),
}

#[derive(Debug)]
struct Packet {
    known: Known,
    expires: Instant,
}

/// Packets that are known at most, and bytes of fragments that wait at most. What is more is
/// dropped.
const MOST_PACKETS: usize = 4096;
const MOST_WAITING_BYTES: usize = 4 << 20;

#[derive(Debug, Default)]
pub(super) struct Fragments {
    packets: BTreeMap<Key, Packet>,
    /// In the order in which they came, which is that in which they expire.
    order: alloc::collections::VecDeque<(Instant, Key)>,
    waiting_bytes: usize,
    pub(super) overflowed: u64,
    pub(super) timed_out: u64,
}

impl Fragments {
    /// Says what a later fragment's fate is; where it is not known yet, keeps the frame.
    pub(super) fn later(&mut self, key: Key, frame: &mut Frame, expires: Instant) -> Option<Fate> {
        let waiting = match self.packets.get_mut(&key) {
            Some(Packet {
                known: Known::Fate(fate),
                ..
            }) => return Some(*fate),
            Some(Packet {
                known: Known::Waiting(waiting),
                ..
            }) => waiting,
            None => {
                if self.packets.len() >= MOST_PACKETS {
                    self.overflowed += 1;
                    return Some(Fate::Dropped);
                }
                self.order.push_back((expires, key));
                let packet = Packet {
                    known: Known::Waiting(Vec::new()),
                    expires,
                };
                match &mut self.packets.entry(key).or_insert(packet).known {
                    Known::Waiting(waiting) => waiting,
                    Known::Fate(fate) => return Some(*fate),
                }
            }
        };
        // Every frame costs something, however short it is.
        let cost = frame.bytes.len().max(256);
        if self.waiting_bytes + cost > MOST_WAITING_BYTES {
            self.overflowed += 1;
            return Some(Fate::Dropped);
        }
        self.waiting_bytes += cost;
        waiting.push(core::mem::take(frame));
        None
    }

    /// Takes note of the first fragment's fate and returns the others that have waited for it.
    pub(super) fn first(&mut self, key: Key, fate: Fate, expires: Instant) -> Vec<Frame> {
        if let Some(packet) = self.packets.get_mut(&key) {
            let known = core::mem::replace(&mut packet.known, Known::Fate(fate));
            return match known {
                Known::Waiting(waiting) => {
                    self.waiting_bytes -= cost(&waiting);
                    waiting
                }
                Known::Fate(_) => Vec::new(),
            };
        }
        if self.packets.len() >= MOST_PACKETS {
            // The oldest packet goes: most have all their fragments by then.
            self.overflowed += 1;
            if let Some((_, oldest)) = self.order.pop_front() {
                self.forget(oldest);
            }
        }
        self.order.push_back((expires, key));
        let known = Known::Fate(fate);
        self.packets.insert(key, Packet { known, expires });
        Vec::new()
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((at, key)) = self.order.front().copied()
            && at <= now
        {
            self.order.pop_front();
            if self.packets.get(&key).is_some_and(|p| p.expires <= now) {
                self.timed_out += self.forget(key);
            }
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.order.front().map(|(at, _)| *at)
    }

    /// Returns how many frames had waited in vain.
    fn forget(&mut self, key: Key) -> u64 {
        match self.packets.remove(&key) {
            Some(Packet {
                known: Known::Waiting(waiting),
                ..
            }) => {
                self.waiting_bytes -= cost(&waiting);
                u64::try_from(waiting.len()).unwrap_or(u64::MAX)
            }
            _ => 0,
        }
    }
}

fn cost(frames: &[Frame]) -> usize {
    frames.iter().map(|frame| frame.bytes.len().max(256)).sum()
}
