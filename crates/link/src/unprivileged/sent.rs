//! Naming the UDP probe that an ICMP error is about.
//!
//! The error queue of a UDP socket has the quoted payload and the destination, but not the quoted
//! UDP header, and with it not the checksum that names the probe. The probe's first payload word,
//! which makes that checksum come out, is as good. Routers that quote no payload (28 bytes are
//! enough for RFC 792) leave only time.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::VecDeque;

use plumb_wire::Instant;

/// A UDP probe that has left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    pub(super) to: SocketAddr,
    pub(super) at: Instant,
    /// First 16-bit word of the payload.
    pub(super) word: u16,
    /// UDP checksum.
    pub(super) name: u16,
    /// UDP length.
    pub(super) len: u16,
    answered: bool,
}

impl Probe {
    pub(super) const fn new(to: SocketAddr, at: Instant, word: u16, name: u16, len: u16) -> Self {
        Self {
            to,
            at,
            word,
            name,
            len,
            answered: false,
        }
    }
}

/// The last UDP probes of a socket.
#[derive(Debug, Default)]
pub(super) struct Recent {
    probes: VecDeque<Probe>,
}

/// Probes that are remembered: more than a walk has TTLs and attempts under way.
const REMEMBERED: usize = 256;

/// An error that names no probe is about one that left less than this ago.
const PROMPT: Duration = Duration::from_secs(1);

impl Recent {
    pub(super) fn push(&mut self, probe: Probe) {
        if self.probes.len() == REMEMBERED {
            self.probes.pop_front();
        }
        self.probes.push_back(probe);
    }

    /// The probe to `to` whose quoted payload is `payload`, for an error that came `at`. Without a
    /// payload to tell it by, it is the one probe there that can be meant; `None` if there are
    /// several.
    pub(super) fn find(&mut self, to: SocketAddr, payload: &[u8], at: Instant) -> Option<Probe> {
        let to_there = |probe: &&mut Probe| same_host(probe.to, to);
        // Routers that pad a short quote pad it with zeros.
        let word = payload.first_chunk().map(|w| u16::from_be_bytes(*w));
        let named = word.filter(|word| *word != 0).and_then(|word| {
            let mut newest_first = self.probes.iter_mut().rev().filter(to_there);
            newest_first.find(|probe| probe.word == word)
        });
        let found = match named {
            Some(probe) => probe,
            None => {
                let mut candidates = self.probes.iter_mut().rev().filter(to_there);
                let mut possible = candidates
                    .by_ref()
                    .filter(|p| !p.answered && at.since(p.at) < PROMPT);
                let only = possible.next()?;
                if possible.next().is_some() {
                    return None;
                }
                only
            }
        };
        found.answered = true;
        Some(*found)
    }
}

/// Compares without the scope, which the kernel fills in.
fn same_host(a: SocketAddr, b: SocketAddr) -> bool {
    a.ip() == b.ip() && a.port() == b.port()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    fn to(host: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, host], 33_435))
    }

    fn recent(probes: &[(u8, u64, u16)]) -> Recent {
        let mut recent = Recent::default();
        for (host, ms, word) in probes {
            recent.push(Probe::new(to(*host), at(*ms), *word, *word + 1, 24));
        }
        recent
    }

    #[test]
    fn the_quoted_payload_names_the_probe_whatever_else_is_under_way() {
        let mut recent = recent(&[(1, 0, 10), (1, 1, 20), (2, 2, 30)]);
        let found = recent.find(to(1), &[0, 10, 9, 9], at(5000)).unwrap();
        assert_eq!(found.name, 11);
        assert!(recent.find(to(1), &[0, 30], at(5000)).is_none());
    }

    #[test]
    fn without_payload_the_only_unanswered_probe_of_the_last_second_is_meant() {
        let mut recent = recent(&[(1, 0, 10), (1, 1500, 20), (2, 1500, 30)]);
        let found = recent.find(to(1), &[], at(1600)).map(|p| p.name);
        assert_eq!(found, Some(21));
        assert!(recent.find(to(1), &[], at(1600)).is_none(), "answered");
        let padded = recent.find(to(2), &[0; 90], at(1600)).map(|p| p.name);
        assert_eq!(padded, Some(31), "zeros are padding");
    }

    #[test]
    fn an_error_that_may_be_about_several_probes_is_about_none() {
        let mut recent = recent(&[(1, 0, 10), (1, 10, 20)]);
        assert!(recent.find(to(1), &[], at(20)).is_none());
    }

    #[test]
    fn memory_is_bounded() {
        let mut recent = Recent::default();
        for word in 0..1000 {
            recent.push(Probe::new(to(1), at(0), word, word, 24));
        }
        assert_eq!(recent.probes.len(), REMEMBERED);
    }
}
