//! Anti-spoofing (BCP 38): which source addresses may come from which side.
//!
//! A stage on a wire has no routes to hold a source against, as reverse-path filtering does. What
//! it is told instead is which networks are on which side; what no side can send, it knows.

use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use plumb_wire::frame::Port;
use plumb_wire::{arp, ethernet};

use crate::Frame;
use crate::dissect::{Dissected, Transport};

/// A network: all addresses whose first bits are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: IpAddr,
    len: u8,
}

/// Which sources may come from one side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Nothing else may; empty for anything. A family of which there is no network here is not
    /// limited.
    pub only: Vec<Prefix>,
    /// These may not.
    pub never: Vec<Prefix>,
}

/// What anti-spoofing is told to do. The default drops what no host may send, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Antispoof {
    /// Sources on the left.
    pub left: Sources,
    /// Sources on the right.
    pub right: Sources,
    /// Sources that no host may have are spoofed: loopback, multicast, broadcast, reserved, and
    /// those that are the packet's destination, too.
    pub martians: bool,
}

/// What is wrong with a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoofed {
    /// No host may have the address (RFC 1812 §5.3.7, RFC 4291 §2.5, §2.7).
    Martian,
    /// It is the destination, too: a "land" attack.
    OwnDestination,
    /// It is in none of the networks of its side.
    Foreign,
    /// It is in a network that its side may not send from.
    Forbidden,
}

impl Spoofed {
    /// The fault in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Martian => "source that no host may have",
            Self::OwnDestination => "source that is the destination, too",
            Self::Foreign => "source of another side",
            Self::Forbidden => "source that its side may not send from",
        }
    }
}

impl Default for Antispoof {
    fn default() -> Self {
        Self {
            left: Sources::default(),
            right: Sources::default(),
            martians: true,
        }
    }
}

impl Antispoof {
    /// Networks that are on the left and nowhere else: nothing else comes from there, and nothing
    /// from there comes from the right.
    pub fn inside(networks: Vec<Prefix>) -> Self {
        Self {
            left: Sources {
                only: networks.clone(),
                never: Vec::new(),
            },
            right: Sources {
                only: Vec::new(),
                never: networks,
            },
            martians: true,
        }
    }

    /// Says what is wrong with the source of a packet, or with the sender that ARP claims, if
    /// anything. What is neither IP nor ARP has no source.
    pub fn check(&self, from: Port, packet: &Dissected, frame: &Frame) -> Option<Spoofed> {
        if packet.ethertype == ethernet::ethertype::ARP {
            let claimed = arp::Packet::parse(frame.bytes.get(packet.network..)?).ok()?;
            // Whoever asks whether an address is free has none yet (RFC 5227 §2.1.1).
            if claimed.sender.is_unspecified() {
                return None;
            }
            return self.source(from, claimed.sender.into());
        }
        let ip = packet.ip.as_ref()?;
        if has_no_address_yet(packet, ip.src, ip.dst) {
            return None;
        }
        if self.martians && ip.src == ip.dst {
            return Some(Spoofed::OwnDestination);
        }
        self.source(from, ip.src)
    }

    fn source(&self, from: Port, src: IpAddr) -> Option<Spoofed> {
        if self.martians && is_martian(src) {
            return Some(Spoofed::Martian);
        }
        let sources = match from {
            Port::Left => &self.left,
            Port::Right => &self.right,
        };
        // Every interface has an address of its own on the link, whatever networks it is in.
        let is_of_link = matches!(src, IpAddr::V6(src) if src.is_unicast_link_local());
        let contains = |networks: &[Prefix]| networks.iter().any(|n| n.contains(src));
        let is_limited = sources.only.iter().any(|n| n.is_ipv4() == src.is_ipv4());
        if is_limited && !is_of_link && !contains(&sources.only) {
            return Some(Spoofed::Foreign);
        }
        contains(&sources.never).then_some(Spoofed::Forbidden)
    }
}

/// Says whether a host asks for an address: DHCP (RFC 2131 §4.1), or the detection of duplicates
/// and the listener reports that go before it (RFC 4861 §4.3, RFC 3590).
fn has_no_address_yet(packet: &Dissected, src: IpAddr, dst: IpAddr) -> bool {
    match (src, dst) {
        (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::BROADCAST)) => {
            matches!(packet.ports(), Some((68, 67)))
        }
        (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(_)) => {
            matches!(packet.transport, Transport::Icmp(icmp) if matches!(icmp.kind, 130..=136 | 143))
        }
        _ => false,
    }
}

/// Says whether no host may send from an address.
fn is_martian(address: IpAddr) -> bool {
    match address {
        // "This network", loopback, multicast, reserved and broadcast.
        IpAddr::V4(address) => matches!(address.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(address) => {
            address.is_unspecified()
                || address.is_loopback()
                || address.is_multicast()
                || address.to_ipv4_mapped().is_some()
        }
    }
}

impl Prefix {
    /// The network of `address`; none if it has fewer bits than `len`. Bits behind are cleared.
    pub fn new(address: IpAddr, len: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(address) => {
                let host = 32u32.checked_sub(len.into())?;
                let mask = u32::MAX.checked_shl(host).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
            }
            IpAddr::V6(address) => {
                let host = 128u32.checked_sub(len.into())?;
                let mask = u128::MAX.checked_shl(host).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
        };
        Some(Self { address, len })
    }

    /// Says whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::new(address, self.len).is_some_and(|of| of.address == self.address)
    }

    /// Says whether it is of IPv4.
    pub const fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

/// A text that is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAPrefix;

impl fmt::Display for NotAPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a network: expected ADDRESS/LENGTH, for example 10.0.0.0/8")
    }
}

impl core::error::Error for NotAPrefix {}

impl FromStr for Prefix {
    type Err = NotAPrefix;

    /// Reads `ADDRESS/LENGTH`, or an address for itself alone.
    fn from_str(text: &str) -> Result<Self, NotAPrefix> {
        let (address, len) = match text.split_once('/') {
            Some((address, len)) => (address, Some(len)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotAPrefix)?;
        let len = match len {
            Some(len) => len.parse().map_err(|_| NotAPrefix)?,
            None if address.is_ipv4() => 32,
            None => 128,
        };
        Self::new(address, len).ok_or(NotAPrefix)
    }
}
