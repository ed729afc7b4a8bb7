//! What a NAT is told to do.

use alloc::vec::Vec;
use core::fmt;
use core::net::Ipv4Addr;
use core::ops::RangeInclusive;
use core::time::Duration;

/// A transport protocol whose ports, or identifiers, are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Queries of ICMP, by their identifier.
    Icmp,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Its name in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Icmp => "icmp",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// An address and a port, or an ICMP identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The address.
    pub address: Ipv4Addr,
    /// The port or identifier.
    pub port: u16,
}

impl Endpoint {
    /// An endpoint.
    pub const fn new(address: Ipv4Addr, port: u16) -> Self {
        Self { address, port }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.address, self.port)
    }
}

/// Who outside may send to a mapping (RFC 4787 §5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filtering {
    /// Everybody: most transparent.
    EndpointIndependent,
    /// Addresses to which the inside endpoint has sent.
    AddressDependent,
    /// Endpoints to which the inside endpoint has sent.
    #[default]
    AddressAndPortDependent,
}

/// Ports of an outside address that lead to an inside host, whoever sends first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// [`Protocol::Tcp`] or [`Protocol::Udp`].
    pub protocol: Protocol,
    /// An address of the pool.
    pub outside: Ipv4Addr,
    /// Its ports.
    pub ports: RangeInclusive<u16>,
    /// The inside host.
    pub inside: Ipv4Addr,
    /// Where the first of the ports leads; the others follow it.
    pub inside_port: u16,
}

/// How long what is unused is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// UDP, since the last packet outwards: at least 2 minutes (RFC 4787 REQ-5).
    pub udp: Duration,
    /// TCP connections that are open: at least 2 h 4 min (RFC 5382 REQ-5).
    pub tcp_established: Duration,
    /// TCP connections that are being opened or closed: at least 4 minutes (RFC 5382 REQ-5).
    pub tcp_transitory: Duration,
    /// ICMP queries: at least 60 s (RFC 5508 REQ-2).
    pub icmp: Duration,
    /// What is known of a fragmented packet.
    pub fragments: Duration,
    /// How long an unsolicited SYN stays unanswered: at least 6 s (RFC 5382 REQ-4).
    pub unsolicited_syn: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            udp: Duration::from_secs(300),
            tcp_established: Duration::from_secs(7440),
            tcp_transitory: Duration::from_secs(240),
            icmp: Duration::from_secs(60),
            fragments: Duration::from_secs(30),
            unsolicited_syn: Duration::from_secs(6),
        }
    }
}

/// What a NAT is told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The pool: addresses on the right that stand for the hosts on the left. Each host keeps to
    /// one of them (RFC 4787 REQ-2).
    pub outside: Vec<Ipv4Addr>,
    /// Ports and identifiers that may be given out.
    pub ports: RangeInclusive<u16>,
    /// A mapping takes the port of the inside endpoint where that is free, else any.
    pub preserve_ports: bool,
    /// Who outside may send to a mapping.
    pub filtering: Filtering,
    /// Networks (address, prefix length) that are on the left; packets from other sources are
    /// dropped. Empty for any.
    pub inside: Vec<(Ipv4Addr, u8)>,
    /// Ports that lead inside.
    pub forwards: Vec<Forward>,
    /// Outside addresses that stand for one inside host each, whatever the protocol.
    pub statics: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// Packets from the inside to an outside address come back in (RFC 4787 REQ-9).
    pub hairpin: bool,
    /// The NAT counts as a hop.
    pub decrement_ttl: bool,
    /// Mappings that a host may have at most (RFC 6888 REQ-4); 0 for any number.
    pub per_host: u32,
    /// Ports are given to hosts in blocks of this size (RFC 6888 REQ-14); 0 for single ports.
    pub block: u16,
    /// Blocks that a host may have at most.
    pub blocks_per_host: u16,
    /// Mappings that there may be at most.
    pub max_mappings: usize,
    /// Pairs of a mapping and an outside endpoint that there may be at most.
    pub max_sessions: usize,
    /// How long what is unused is kept.
    pub timeouts: Timeouts,
    /// The MAC address with which the NAT answers for its outside addresses.
    pub mac: [u8; 6],
    /// What ports and addresses are chosen from.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            outside: Vec::new(),
            ports: 1..=u16::MAX,
            preserve_ports: false,
            filtering: Filtering::default(),
            inside: Vec::new(),
            forwards: Vec::new(),
            statics: Vec::new(),
            hairpin: true,
            decrement_ttl: false,
            per_host: 0,
            block: 0,
            blocks_per_host: 4,
            max_mappings: 262_144,
            max_sessions: 262_144,
            timeouts: Timeouts::default(),
            mac: *b"\x02plumb",
            seed: 1,
        }
    }
}

/// Why a configuration cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is neither a pool nor a static address.
    NoOutside,
    /// An outside address is given twice.
    Twice(Ipv4Addr),
    /// A port is forwarded from an address that is not in the pool.
    NotInPool(Ipv4Addr),
    /// A port is forwarded twice.
    ForwardedTwice(Protocol, Endpoint),
    /// Two ports are forwarded to one inside endpoint, which can have one mapping only.
    SharedTarget(Protocol, Endpoint),
    /// A range of inside ports ends above 65535.
    PortsEnd,
    /// An inside host has two static addresses, or is one itself.
    StaticTarget(Ipv4Addr),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoOutside => f.write_str("there is no outside address"),
            Self::Twice(a) => write!(f, "the outside address {a} is given twice"),
            Self::NotInPool(a) => write!(f, "{a} is not one of the outside addresses"),
            Self::ForwardedTwice(p, e) => write!(f, "{} {e} is forwarded twice", p.name()),
            Self::SharedTarget(p, e) => write!(f, "two ports lead to {} {e}", p.name()),
            Self::PortsEnd => f.write_str("the inside ports end above 65535"),
            Self::StaticTarget(a) => write!(f, "{a} cannot have a static address"),
        }
    }
}

impl core::error::Error for Refused {}
