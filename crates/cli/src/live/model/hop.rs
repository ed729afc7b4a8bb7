//! One TTL of a path.

use core::net::IpAddr;

use plumb_record::Hop;

use crate::live::statistics::{RttStatistics, Sample};

/// Addresses that a hop remembers; of more, the one not seen for the longest time goes.
const MAX_ADDRESSES: usize = 16;

/// An address that answered at a hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeenAddress {
    /// The address.
    pub(crate) addr: IpAddr,
    /// Replies from it.
    pub(crate) received: u64,
    /// Round of its latest reply.
    pub(crate) last_round: u64,
}

/// What pings of a hop's address told, from the latest tunnel check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    /// Address that was pinged.
    pub(crate) addr: IpAddr,
    /// TTL of its echo reply.
    pub(crate) echo_reply_ttl: Option<u8>,
    /// Forward/return path length asymmetry, in hops.
    pub(crate) frpla: Option<i16>,
    /// Return tunnel length, in hops.
    pub(crate) rtla: Option<i16>,
    /// U-turn signature, in hops.
    pub(crate) uturn: Option<i16>,
    /// Vendors whose routers have this pair of initial TTLs.
    pub(crate) vendor: Vec<String>,
}

/// Everything known of one TTL.
#[derive(Clone, Debug)]
pub(crate) struct HopState {
    ttl: u8,
    statistics: RttStatistics,
    addresses: Vec<SeenAddress>,
    changes: u64,
    latest: Option<Hop>,
    signature: Option<Signature>,
}

/// What a hop shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HopStatus {
    /// Its first probe has not been answered, and may still be.
    Awaiting,
    /// Probes were sent and none was answered.
    Silent,
    /// It has answered.
    Answering,
    /// It has answered, with the address of an earlier hop: packets go round.
    Loop,
}

impl HopState {
    /// A hop that has not been probed.
    pub(crate) fn new(ttl: u8) -> Self {
        Self {
            ttl,
            statistics: RttStatistics::default(),
            addresses: Vec::new(),
            changes: 0,
            latest: None,
            signature: None,
        }
    }

    /// Takes what a round found. Returns the address that answered before, if another does now.
    pub(crate) fn record(&mut self, hop: &Hop, round: u64) -> Option<IpAddr> {
        let attempts = hop.attempt.max(1);
        let answered = hop.addr.is_some();
        for _ in 0..attempts - u8::from(answered) {
            self.statistics.add(Sample::Lost);
        }
        let addr = hop.addr?;
        self.statistics
            .add(hop.rtt_ns.map_or(Sample::Untimed, Sample::Rtt));
        let before = self.current();
        match self.addresses.iter_mut().find(|seen| seen.addr == addr) {
            Some(seen) => {
                seen.received += 1;
                seen.last_round = round;
            }
            None => self.insert(addr, round),
        }
        self.learn(hop);
        self.latest = Some(hop.clone());
        let before = before.filter(|before| *before != addr);
        self.changes += u64::from(before.is_some());
        before
    }

    /// Takes what only a tunnel check finds out.
    pub(crate) fn learn(&mut self, hop: &Hop) {
        let Some(addr) = hop.addr else { return };
        let pinged = hop.echo_reply_ttl.is_some() || !hop.vendor.is_empty();
        if pinged || hop.frpla.is_some() || hop.rtla.is_some() || hop.uturn.is_some() {
            self.signature = Some(Signature {
                addr,
                echo_reply_ttl: hop.echo_reply_ttl,
                frpla: hop.frpla,
                rtla: hop.rtla,
                uturn: hop.uturn,
                vendor: hop.vendor.clone(),
            });
        }
    }

    /// Forgets the statistics, but not what the hop is.
    pub(crate) fn reset(&mut self) {
        self.statistics = RttStatistics::default();
        self.changes = 0;
        let current = self.current();
        self.addresses.retain(|seen| Some(seen.addr) == current);
        for seen in &mut self.addresses {
            seen.received = 0;
        }
    }

    /// TTL of the probes.
    pub(crate) const fn ttl(&self) -> u8 {
        self.ttl
    }

    /// Loss and delay.
    pub(crate) const fn statistics(&self) -> &RttStatistics {
        &self.statistics
    }

    /// Addresses that answered, in order of their first reply.
    pub(crate) fn addresses(&self) -> &[SeenAddress] {
        &self.addresses
    }

    /// Address of the latest reply.
    pub(crate) fn current(&self) -> Option<IpAddr> {
        self.latest.as_ref().and_then(|hop| hop.addr)
    }

    /// Times that a reply came from another address than the one before.
    pub(crate) const fn changes(&self) -> u64 {
        self.changes
    }

    /// The latest reply.
    pub(crate) const fn latest(&self) -> Option<&Hop> {
        self.latest.as_ref()
    }

    /// What pings told of the current address.
    pub(crate) fn signature(&self) -> Option<&Signature> {
        self.signature
            .as_ref()
            .filter(|signature| Some(signature.addr) == self.current())
    }

    fn insert(&mut self, addr: IpAddr, round: u64) {
        if self.addresses.len() == MAX_ADDRESSES
            && let Some(oldest) = (0..self.addresses.len()).min_by_key(|i| {
                self.addresses
                    .get(*i)
                    .map_or(u64::MAX, |seen| seen.last_round)
            })
        {
            self.addresses.remove(oldest);
        }
        self.addresses.push(SeenAddress {
            addr,
            received: 1,
            last_round: round,
        });
    }
}
