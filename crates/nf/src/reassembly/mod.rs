//! Fragments: held until their datagram is whole, so that it is matched as one, and then sent on
//! as they came.
//!
//! This is what Linux does with nf_defrag before connection tracking: rules see whole datagrams
//! only, and the receiver sees the fragments that were sent. What could mean one thing here and
//! another to the receiver is dropped with all that belongs to it: fragments that overlap
//! (RFC 5722), that contradict each other about where the datagram ends, that are empty, or that
//! mix congestion marks with none (RFC 3168 §5.3).
//!
//! Memory is bounded: when there is no room, the datagram that has waited longest is dropped. One
//! that is complete within milliseconds, as honest ones are, so survives a flood of those that
//! never will be.

mod datagram;

#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use plumb_wire::Instant;
use plumb_wire::frame::Port;

use crate::dissect::{Dissected, Fault, Fragment, Ip};
use crate::slab::Slab;
use crate::{Counter, Frame, Output};

use datagram::{Added, Pieces};

/// What reassembly is told to do. The times are those of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long a datagram of IPv4 waits for its last fragment.
    pub timeout_v4: Duration,
    /// The same for IPv6 (RFC 8200 §4.5).
    pub timeout_v6: Duration,
    /// Datagrams that wait at most.
    pub max_datagrams: usize,
    /// Bytes of fragments that wait at most; each counts as 256 at least.
    pub max_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timeout_v4: Duration::from_secs(30),
            timeout_v6: Duration::from_secs(60),
            max_datagrams: 4096,
            max_bytes: 4 << 20,
        }
    }
}

/// What becomes of a frame.
#[derive(Debug)]
pub enum Outcome {
    /// It is no piece of a datagram, or was captured in part only: to be matched as it is.
    Alone(Frame),
    /// It waits for others, or was dropped and counted.
    Taken,
    /// Its datagram is whole.
    Whole(Datagram),
}

/// A datagram and what it came in.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// The datagram as if it had never been cut, to be matched, and not to be sent.
    pub whole: Frame,
    /// Its fragments in the order of their bytes, to be sent if it may pass.
    pub fragments: Vec<Frame>,
}

/// What all fragments of a datagram have in common (RFC 791 §3.2, RFC 8200 §4.5), and where they
/// come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    from: Port,
    vlan: [Option<u16>; 2],
    src: IpAddr,
    dst: IpAddr,
    /// 0 for IPv6, whose fragments need not agree.
    protocol: u8,
    ident: u32,
}

#[derive(Debug)]
struct Waiting {
    key: Key,
    expires: Instant,
    /// None if something was wrong with it: what comes of it yet is dropped.
    pieces: Option<Pieces>,
}

/// The fragments that wait.
#[derive(Debug)]
pub struct Reassembler {
    config: Config,
    waiting: Slab<Waiting>,
    by_key: BTreeMap<Key, u32>,
    timers: BTreeSet<(Instant, u32)>,
    held_frames: usize,
    held_bytes: usize,
    counts: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    fragments: u64,
    datagrams: u64,
    duplicates: u64,
    contradictory: u64,
    overflowed: u64,
    timed_out: u64,
}

impl Reassembler {
    /// One in which nothing waits.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            waiting: Slab::default(),
            by_key: BTreeMap::new(),
            timers: BTreeSet::new(),
            held_frames: 0,
            held_bytes: 0,
            counts: Counts::default(),
        }
    }

    /// Takes a frame that arrived at `from`. What it drops goes to `out` to be used again; it sends
    /// nothing.
    pub fn push(
        &mut self,
        from: Port,
        packet: &Dissected,
        frame: Frame,
        now: Instant,
        out: &mut Output,
    ) -> Outcome {
        let Some((ip, fragment)) = piece(packet, &frame) else {
            return Outcome::Alone(frame);
        };
        self.counts.fragments += 1;
        let is_v4 = ip.src.is_ipv4();
        let key = Key {
            from,
            vlan: packet.vlan.map(|tag| tag.map(|tag| tag & 0x0fff)),
            src: ip.src,
            dst: ip.dst,
            protocol: if is_v4 { ip.protocol } else { 0 },
            ident: fragment.ident,
        };
        let id = match self.by_key.get(&key) {
            Some(id) => *id,
            None => {
                let timeout = if is_v4 {
                    self.config.timeout_v4
                } else {
                    self.config.timeout_v6
                };
                self.start(key, now + timeout, out)
            }
        };
        let Some(waiting) = self.waiting.get_mut(id) else {
            out.recycle(frame);
            return Outcome::Taken;
        };
        let Some(pieces) = &mut waiting.pieces else {
            self.counts.contradictory += 1;
            out.recycle(frame);
            return Outcome::Taken;
        };
        let cost = cost(&frame);
        match pieces.add(packet, ip, fragment, frame) {
            Added::Piece => {
                self.held_frames += 1;
                self.held_bytes += cost;
            }
            Added::Duplicate(frame) => {
                self.counts.duplicates += 1;
                out.recycle(frame);
                return Outcome::Taken;
            }
            Added::Contradiction(frame) => {
                self.counts.contradictory += 1;
                out.recycle(frame);
                self.spoil(id, out);
                return Outcome::Taken;
            }
        }
        if pieces.is_whole() {
            return self.whole(id, now, out);
        }
        while self.held_bytes > self.config.max_bytes {
            self.evict(out);
        }
        Outcome::Taken
    }

    /// Drops what has waited too long.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Output) {
        while let Some((at, id)) = self.timers.first().copied()
            && at <= now
        {
            self.counts.timed_out += self.drop(id, out);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is wanted.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Fragments that wait.
    pub fn held(&self) -> usize {
        self.held_frames
    }

    /// What it has counted so far, in a fixed order.
    pub fn counters(&self) -> Vec<Counter> {
        let counts = &self.counts;
        [
            ("fragment_frames", counts.fragments),
            ("reassembled_datagrams", counts.datagrams),
            ("dropped_duplicate_fragment_frames", counts.duplicates),
            (
                "dropped_contradictory_fragment_frames",
                counts.contradictory,
            ),
            ("dropped_overflowed_fragment_frames", counts.overflowed),
            ("dropped_timed_out_fragment_frames", counts.timed_out),
        ]
        .map(|(name, value)| Counter { name, value })
        .into()
    }

    fn start(&mut self, key: Key, expires: Instant, out: &mut Output) -> u32 {
        while self.waiting.len() >= self.config.max_datagrams.max(1) {
            self.evict(out);
        }
        let id = self.waiting.insert(Waiting {
            key,
            expires,
            pieces: Some(Pieces::default()),
        });
        self.by_key.insert(key, id);
        self.timers.insert((expires, id));
        id
    }

    fn whole(&mut self, id: u32, now: Instant, out: &mut Output) -> Outcome {
        let Some(pieces) = self.take(id) else {
            return Outcome::Taken;
        };
        let Some(mut datagram) = pieces.join(out) else {
            return Outcome::Taken;
        };
        self.counts.datagrams += 1;
        datagram.whole.at = now;
        for fragment in &mut datagram.fragments {
            fragment.at = now;
        }
        Outcome::Whole(datagram)
    }

    /// Drops the datagram that would expire first.
    fn evict(&mut self, out: &mut Output) {
        if let Some((_, id)) = self.timers.first().copied() {
            self.counts.overflowed += self.drop(id, out);
        }
    }

    /// Drops all fragments of a datagram, and those that are still to come.
    fn spoil(&mut self, id: u32, out: &mut Output) {
        let pieces = self.waiting.get_mut(id).and_then(|w| w.pieces.take());
        if let Some(pieces) = pieces {
            self.counts.contradictory += self.release(&pieces);
            pieces.recycle(out);
        }
    }

    /// Forgets a datagram; returns how many fragments had waited.
    fn drop(&mut self, id: u32, out: &mut Output) -> u64 {
        self.take(id).map_or(0, |pieces| {
            let frames = u64::try_from(pieces.frames()).unwrap_or(u64::MAX);
            pieces.recycle(out);
            frames
        })
    }

    fn take(&mut self, id: u32) -> Option<Pieces> {
        let waiting = self.waiting.remove(id)?;
        self.by_key.remove(&waiting.key);
        self.timers.remove(&(waiting.expires, id));
        let pieces = waiting.pieces?;
        self.release(&pieces);
        Some(pieces)
    }

    /// Takes fragments out of what is held; returns how many.
    fn release(&mut self, pieces: &Pieces) -> u64 {
        self.held_frames -= pieces.frames();
        self.held_bytes -= pieces.cost();
        u64::try_from(pieces.frames()).unwrap_or(u64::MAX)
    }
}

/// The headers of a frame that is a piece of a datagram, as far as its header can be trusted.
fn piece<'a>(packet: &'a Dissected, frame: &Frame) -> Option<(&'a Ip, Fragment)> {
    let ip = packet.ip.as_ref().filter(|ip| ip.is_piece())?;
    let is_damaged = matches!(packet.fault, Some(Fault::IpChecksum | Fault::IpLength));
    if is_damaged || frame.original_len != 0 {
        return None;
    }
    Some((ip, ip.fragment?))
}

/// What a frame counts as: each needs memory of its own, however short it is.
fn cost(frame: &Frame) -> usize {
    frame.bytes.len().max(256)
}
