//! A sequence of probes to one address: a walk, or echo requests.

use alloc::vec::Vec;
use core::net::IpAddr;

use plumb_record::Method;
use plumb_wire::Instant;

use crate::echo::Echo;
use crate::method::Probe;
use crate::random::Random;
use crate::slab::Key;
use crate::tnt::reveal::Ask;
use crate::walk::Walk;

/// Sequence numbers that a walk may use from its first one on.
const MOST_PROBES: u16 = 4096;

/// Who is told when a task ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The job whose main part the task is.
    Job(Key),
    /// Everyone who waits for the echo reply TTL of the address.
    EchoTtl(IpAddr),
    /// A revelation that asked for it.
    Reveal(Key, Ask),
}

#[derive(Debug)]
pub(crate) enum Work {
    Walk(Walk),
    Echo(Echo),
}

/// What all probes of a task have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Common {
    pub(crate) method: Method,
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) flow: u16,
    pub(crate) dst_port: u16,
    pub(crate) tos: u8,
    pub(crate) size: u16,
    /// TTL of echo requests; walks have their own.
    pub(crate) ttl: u8,
}

#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) common: Common,
    pub(crate) owner: Owner,
    /// The job whose account the probes go to.
    pub(crate) payer: Key,
    pub(crate) work: Work,
    /// Sequence number of probe 0. Random, so that a late reply to an earlier task of the same
    /// flow and target is not taken for one of this task's.
    first_seq: u16,
    /// When the timer entry that matters fires.
    pub(crate) armed: Option<Instant>,
    /// In the queue of tasks that can send.
    pub(crate) queued: bool,
}

impl Task {
    pub(crate) const fn new(
        common: Common,
        owner: Owner,
        payer: Key,
        work: Work,
        random: &mut Random,
    ) -> Self {
        Self {
            common,
            owner,
            payer,
            work,
            // Neither 0 nor 0xffff within a walk: a UDP checksum can have neither.
            first_seq: 1 + random.below(u16::MAX - 1 - MOST_PROBES),
            armed: None,
            queued: false,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        match &self.work {
            Work::Walk(walk) => walk.is_done(),
            Work::Echo(echo) => echo.is_done(),
        }
    }

    pub(crate) fn can_send(&self, now: Instant) -> bool {
        match &self.work {
            Work::Walk(walk) => walk.can_send(),
            Work::Echo(echo) => echo.can_send(now),
        }
    }

    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        match &self.work {
            Work::Walk(walk) => walk.deadline(),
            Work::Echo(echo) => echo.deadline(now),
        }
    }

    /// Writes the next probe; returns its number and its length.
    pub(crate) fn next_probe(&mut self, now: Instant, into: &mut [u8]) -> Option<(u16, usize)> {
        let (number, ttl) = match &mut self.work {
            Work::Walk(walk) => walk.next_probe(now)?,
            Work::Echo(echo) => ((echo.next_probe(now)? & 0xffff) as u16, self.common.ttl),
        };
        let Common {
            method,
            src,
            dst,
            flow,
            dst_port,
            tos,
            size,
            ..
        } = self.common;
        let probe = Probe {
            method,
            src,
            dst,
            flow,
            dst_port,
            seq: self.seq(number),
            ttl,
            tos,
            size,
        };
        Some((number, probe.emit(into)))
    }

    pub(crate) const fn seq(&self, number: u16) -> u16 {
        self.first_seq.wrapping_add(number)
    }

    /// The number of the probe that has this sequence number, if it was sent and is remembered.
    pub(crate) fn number(&self, seq: u16) -> Option<u32> {
        let number = seq.wrapping_sub(self.first_seq);
        match &self.work {
            Work::Walk(walk) => walk.asked(number).map(|_| u32::from(number)),
            Work::Echo(echo) => echo.number_of(number),
        }
    }

    pub(crate) fn on_sent(&mut self, number: u16, at: Instant) {
        match &mut self.work {
            Work::Walk(walk) => walk.on_sent(number, at),
            Work::Echo(echo) => {
                if let Some(number) = echo.number_of(number) {
                    echo.on_sent(number, at);
                }
            }
        }
    }
}

/// Addresses whose echo reply TTL somebody wants, and what is known of them.
#[derive(Debug, Default)]
pub(crate) struct EchoTtls {
    known: Vec<(IpAddr, Option<u8>)>,
    pub(crate) waiting: usize,
}

impl EchoTtls {
    pub(crate) fn contains(&self, addr: IpAddr) -> bool {
        self.known.iter().any(|(a, _)| *a == addr)
    }

    /// Notes that the address was asked for; `known` is the answer if there is one already.
    pub(crate) fn add(&mut self, addr: IpAddr, known: Option<Option<u8>>) {
        self.known.push((addr, known.flatten()));
        self.waiting += usize::from(known.is_none());
    }

    pub(crate) fn learn(&mut self, addr: IpAddr, ttl: Option<u8>) {
        if let Some(entry) = self.known.iter_mut().find(|(a, _)| *a == addr) {
            entry.1 = ttl;
            self.waiting = self.waiting.saturating_sub(1);
        }
    }

    pub(crate) fn get(&self, addr: IpAddr) -> Option<u8> {
        self.known
            .iter()
            .find(|(a, _)| *a == addr)
            .and_then(|(_, ttl)| *ttl)
    }
}
