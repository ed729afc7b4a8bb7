//! A path as the tunnel logic looks at it: by position, with what pings added.

use alloc::vec::Vec;
use core::net::IpAddr;

use plumb_wire::icmp::Family;
use plumb_wire::mpls::Lse;

use super::fingerprint;
use crate::observation::Observation;
use crate::walk::Path;

/// One TTL.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HopView<'a> {
    pub(crate) ttl: u8,
    pub(crate) answer: Option<&'a Observation>,
    /// TTL of the echo reply when its address was pinged.
    pub(crate) echo_ttl: Option<u8>,
}

impl<'a> HopView<'a> {
    pub(crate) fn addr(&self) -> Option<IpAddr> {
        self.answer.map(|a| a.addr)
    }

    /// The reply, if it is a time-exceeded one: the only kind that tells about tunnels.
    pub(crate) fn time_exceeded(&self) -> Option<&'a Observation> {
        self.answer.filter(|a| a.is_time_exceeded())
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.answer.is_none()
    }

    /// Top of the quoted label stack.
    pub(crate) fn top(&self) -> Option<Lse> {
        self.time_exceeded().and_then(|a| a.stack.first().copied())
    }

    /// TTL of the probe as quoted, where it can be what is left of the probe's own.
    pub(crate) fn quoted_ttl(&self) -> Option<u8> {
        let quoted = self.time_exceeded()?.quoted_ttl?;
        (quoted <= self.ttl).then_some(quoted)
    }

    fn ttls(&self) -> Option<(u8, u8)> {
        Some((self.time_exceeded()?.reply_ttl, self.echo_ttl?))
    }

    pub(crate) fn frpla(&self) -> Option<i16> {
        self.time_exceeded()
            .map(|a| fingerprint::frpla(a.reply_ttl, self.ttl))
    }

    pub(crate) fn rtla(&self) -> Option<i16> {
        self.ttls().and_then(|(te, er)| fingerprint::rtla(te, er))
    }

    pub(crate) fn uturn(&self) -> Option<i16> {
        self.ttls().map(|(te, er)| fingerprint::uturn(te, er))
    }

    pub(crate) fn is_junos(&self) -> bool {
        self.ttls()
            .is_some_and(|(te, er)| fingerprint::is_junos(te, er))
    }

    pub(crate) fn vendors(&self) -> &'static [&'static str] {
        match (self.ttls(), self.addr()) {
            (Some((te, er)), Some(addr)) => fingerprint::vendors(Family::of(addr), te, er),
            _ => &[],
        }
    }
}

/// A path, by position from 0. Positions are consecutive TTLs.
#[derive(Clone, Debug)]
pub(crate) struct View<'a> {
    pub(crate) hops: Vec<HopView<'a>>,
}

impl<'a> View<'a> {
    /// Views `path`; `echo_ttl` tells what the ping of an address gave.
    pub(crate) fn new(path: &'a Path, echo_ttl: impl Fn(IpAddr) -> Option<u8>) -> Self {
        let hops = path
            .hops
            .iter()
            .zip(path.first_ttl..)
            .map(|(hop, ttl)| {
                let answer = hop.answer.as_ref();
                HopView {
                    ttl,
                    answer,
                    echo_ttl: answer.and_then(|a| echo_ttl(a.addr)),
                }
            })
            .collect();
        Self { hops }
    }

    pub(crate) fn get(&self, at: usize) -> Option<&HopView<'a>> {
        self.hops.get(at)
    }
}
