//! What an engine is asked to do, and its refusals.

use alloc::sync::Arc;
use core::net::IpAddr;
use core::time::Duration;

use plumb_record::Method;

/// Names a job from its start to its end. Never used twice by one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// Settings that hold for all jobs of an engine.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Most packets per second over all jobs, retries and pings included; `None` for no cap.
    pub rate: Option<u32>,
    /// Most jobs under way at once; more are refused with [`Refused::Full`].
    pub window: usize,
    /// How long results of pings and revelations are shared between jobs.
    pub cache_lifetime: Duration,
    /// Most entries of each of those caches; the oldest goes first.
    pub cache_entries: usize,
    /// How much of received IP headers is real.
    pub headers: Headers,
}

/// How much of the IP headers that an engine is handed is what the network sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Headers {
    /// All of it.
    #[default]
    Received,
    /// Addresses, TTL and TOS of the packet. The driver rebuilt the rest, and the IP header that
    /// an ICMP error quotes: identification of the reply, and TTL, TOS and length of the quote are
    /// unknown. Nor is it sure which of several UDP probes a quote names, so a path is walked with
    /// one of them at a time.
    Rebuilt,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            rate: Some(1000),
            window: 10_000,
            cache_lifetime: Duration::from_secs(3600),
            cache_entries: 1 << 18,
            headers: Headers::Received,
        }
    }
}

impl Config {
    /// Most measurements that may be kept from sending ([`Engine::backlog`](crate::Engine::backlog))
    /// before another job is started: the packets of a fiftieth of a second. Started jobs are
    /// finished before others are begun, so that results come early and the probes of a path are
    /// not stretched over minutes.
    pub fn most_backlog(&self) -> usize {
        let most = self.rate.map_or(MOST_BACKLOG, |rate| {
            (rate / BACKLOG_PER_SECOND).clamp(1, MOST_BACKLOG)
        });
        usize::try_from(most).unwrap_or(usize::MAX)
    }
}

/// The share of a second's packets that may be waiting before no more jobs are started.
const BACKLOG_PER_SECOND: u32 = 50;
/// Most measurements that may be kept from sending, before another job is started.
const MOST_BACKLOG: u32 = 256;

/// Something to measure.
#[derive(Clone, Debug)]
pub enum Job {
    /// A path.
    Trace(Trace),
    /// Reachability and round-trip time.
    Ping(Ping),
}

impl Job {
    /// Its source address.
    pub const fn src(&self) -> IpAddr {
        match self {
            Self::Trace(trace) => trace.src,
            Self::Ping(ping) => ping.src,
        }
    }

    /// Its destination.
    pub const fn dst(&self) -> IpAddr {
        match self {
            Self::Trace(trace) => trace.dst,
            Self::Ping(ping) => ping.dst,
        }
    }

    /// Says whether it can be done at all.
    ///
    /// # Errors
    /// If it cannot: any [`Refused`] but [`Refused::Full`].
    pub fn check(&self) -> Result<(), Refused> {
        let dst = self.dst();
        if self.src().is_ipv4() != dst.is_ipv4() {
            return Err(Refused::FamilyMismatch);
        }
        if dst.is_unspecified() || dst.is_multicast() || dst == IpAddr::from([255; 4]) {
            return Err(Refused::NotATarget);
        }
        match self {
            Self::Trace(trace) => trace.options.check(),
            Self::Ping(_) => Ok(()),
        }
    }
}

/// A path to be traced.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Source address of the probes; of the same family as `dst`.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// How. Shared: a list of a million targets has one.
    pub options: Arc<TraceOptions>,
}

/// How paths are traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceOptions {
    /// Kind of probe.
    pub method: Method,
    /// TTL of the first probe, from 1.
    pub first_ttl: u8,
    /// Highest TTL probed.
    pub max_ttl: u8,
    /// Probes per hop before it counts as silent, from 1 to 15.
    pub attempts: u8,
    /// Consecutive silent hops that end a trace.
    pub gap_limit: u8,
    /// How long a reply is waited for.
    pub wait: Duration,
    /// TTLs probed at once: 1 costs the fewest probes, more the least time.
    pub parallel: u8,
    /// Destination port of UDP and TCP probes.
    pub dst_port: u16,
    /// Flow identifier: ICMP identifier and checksum, or source port. `None` lets the engine
    /// choose a different one for each trace.
    pub flow: Option<u16>,
    /// Traffic class byte of the probes (DSCP in the upper six bits).
    pub tos: u8,
    /// Length of the probes in bytes, IP header included; raised to the least that the method
    /// needs.
    pub size: u16,
    /// MPLS tunnel discovery; `None` for a plain traceroute.
    pub tunnels: Option<TunnelOptions>,
    /// Report every hop as [`Event::Hop`](crate::Event::Hop) when it is known.
    pub report_hops: bool,
}

impl Default for TraceOptions {
    fn default() -> Self {
        Self {
            method: Method::IcmpParis,
            first_ttl: 1,
            max_ttl: 32,
            attempts: 2,
            gap_limit: 5,
            wait: Duration::from_secs(1),
            parallel: 1,
            dst_port: 33_435,
            flow: None,
            tos: 0,
            size: 0,
            tunnels: Some(TunnelOptions::default()),
            report_hops: false,
        }
    }
}

impl TraceOptions {
    fn check(&self) -> Result<(), Refused> {
        let good = (1..=self.max_ttl).contains(&self.first_ttl)
            && (1..=MOST_ATTEMPTS).contains(&self.attempts)
            && self.parallel > 0
            && self.gap_limit > 0
            && !matches!(self.flow, Some(0 | u16::MAX));
        good.then_some(()).ok_or(Refused::BadOptions)
    }
}

/// Most attempts per hop: keeps a walk's sequence numbers within its share.
const MOST_ATTEMPTS: u8 = 15;

/// Whether hidden tunnels are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reveal {
    /// Where a trigger fires.
    Auto,
    /// Between any two consecutive hops (TNT's brute force).
    Always,
    /// Never: triggers are reported, hidden routers are not looked for.
    Never,
}

/// How MPLS tunnels are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelOptions {
    /// Whether hidden tunnels are revealed.
    pub reveal: Reveal,
    /// Least forward/return asymmetry that triggers a revelation, in hops.
    pub frpla_threshold: i16,
    /// Least return tunnel length that triggers a revelation, in hops.
    pub rtla_threshold: i16,
    /// Least sum of U-turn signatures over consecutive hops that makes an implicit tunnel.
    pub uturn_threshold: i16,
    /// Least label TTL that makes a tunnel opaque; below, and at 255, it is explicit.
    pub opaque_ttl: u8,
    /// Echo requests per hop address; the most frequent TTL of the replies counts.
    pub pings: u8,
    /// Stop after the first hidden tunnel that was revealed.
    pub first_only: bool,
}

impl Default for TunnelOptions {
    fn default() -> Self {
        Self {
            reveal: Reveal::Auto,
            frpla_threshold: 3,
            rtla_threshold: 1,
            uturn_threshold: 3,
            opaque_ttl: 2,
            pings: 1,
            first_only: false,
        }
    }
}

/// A target to be pinged.
#[derive(Clone, Debug)]
pub struct Ping {
    /// Source address of the requests; of the same family as `dst`.
    pub src: IpAddr,
    /// Target.
    pub dst: IpAddr,
    /// How.
    pub options: Arc<PingOptions>,
}

/// How targets are pinged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PingOptions {
    /// Requests to send; `None` until the job is stopped.
    pub count: Option<u32>,
    /// Time between requests to one target.
    pub interval: Duration,
    /// How long a reply is waited for.
    pub wait: Duration,
    /// TTL of the requests.
    pub ttl: u8,
    /// Traffic class byte of the requests.
    pub tos: u8,
    /// Length of the requests in bytes, IP header included; raised to the least possible.
    pub size: u16,
    /// Report every request as [`Event::PingReply`](crate::Event::PingReply).
    pub report_replies: bool,
}

impl Default for PingOptions {
    fn default() -> Self {
        Self {
            count: Some(4),
            interval: Duration::from_secs(1),
            wait: Duration::from_secs(1),
            ttl: 64,
            tos: 0,
            size: 84,
            report_replies: true,
        }
    }
}

/// Why a job was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// As many jobs as [`Config::window`] allows are under way; try again when one has ended.
    Full,
    /// Source and destination are of different families.
    FamilyMismatch,
    /// The destination cannot be a target: unspecified, multicast or broadcast.
    NotATarget,
    /// `first_ttl` is 0 or greater than `max_ttl`; `attempts`, `parallel` or `gap_limit` is 0, or
    /// `attempts` is above 15; or a fixed `flow` is 0 or 65535.
    BadOptions,
}

impl core::fmt::Display for Refused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Full => "as many jobs as the window allows are under way",
            Self::FamilyMismatch => "source and destination are of different IP versions",
            Self::NotATarget => "not an address that can be probed",
            Self::BadOptions => "the options contradict each other",
        })
    }
}

impl core::error::Error for Refused {}
