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
            matches!(&packet.transport, Transport::Icmp(icmp) if icmp.is_between_neighbours())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{icmp, udp};
    use alloc::vec;
    use proptest::prelude::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    fn of(policy: &Antispoof, from: Port, src: &str) -> Option<Spoofed> {
        let src: IpAddr = src.parse().unwrap();
        let dst = if src.is_ipv4() {
            "192.0.2.1:53"
        } else {
            "[2001:db8:1::1]:53"
        };
        let frame = udp((src, 5000).into(), dst.parse().unwrap(), b"?");
        policy.check(from, &Dissected::new(&frame), &frame)
    }

    #[test]
    fn rfc_1812_no_host_sends_from_a_martian_address() {
        let policy = Antispoof::default();
        for src in [
            "0.1.2.3",
            "127.0.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "::",
        ] {
            assert_eq!(
                of(&policy, Port::Left, src),
                Some(Spoofed::Martian),
                "{src}"
            );
        }
        for src in [
            "1.0.0.0",
            "126.255.255.255",
            "223.255.255.255",
            "10.0.0.1",
            "2001:db8::1",
            "fe80::1",
        ] {
            assert_eq!(of(&policy, Port::Left, src), None, "{src}");
        }
        assert_eq!(
            of(&policy, Port::Left, "192.0.2.1"),
            Some(Spoofed::OwnDestination)
        );
        let open = Antispoof {
            martians: false,
            ..policy
        };
        assert_eq!(of(&open, Port::Left, "127.0.0.1"), None);
        assert_eq!(of(&open, Port::Left, "192.0.2.1"), None);
    }

    #[test]
    fn bcp_38_each_side_sends_from_its_own_networks() {
        let policy = Antispoof::inside(vec![prefix("10.0.0.0/8"), prefix("2001:db8::/48")]);
        for (from, src, spoofed) in [
            (Port::Left, "10.1.2.3", None),
            (Port::Left, "198.51.100.7", Some(Spoofed::Foreign)),
            (Port::Left, "2001:db8::7", None),
            (Port::Left, "2001:db8:1::7", Some(Spoofed::Foreign)),
            (Port::Left, "fe80::7", None),
            (Port::Right, "198.51.100.7", None),
            (Port::Right, "10.1.2.3", Some(Spoofed::Forbidden)),
            (Port::Right, "2001:db8::7", Some(Spoofed::Forbidden)),
            (Port::Right, "fe80::7", None),
        ] {
            assert_eq!(of(&policy, from, src), spoofed, "{from:?} {src}");
        }
        // Nothing was said of IPv6.
        let four = Antispoof::inside(vec![prefix("10.0.0.0/8")]);
        assert_eq!(of(&four, Port::Left, "2001:db8:1::7"), None);
    }

    #[test]
    fn hosts_without_an_address_may_ask_for_one() {
        let policy = Antispoof::inside(vec![prefix("10.0.0.0/8"), prefix("2001:db8::/48")]);
        let check = |frame: &Frame| policy.check(Port::Left, &Dissected::new(frame), frame);
        let discover = |dst: &str, port: u16| {
            udp(
                "0.0.0.0:68".parse().unwrap(),
                (dst.parse::<IpAddr>().unwrap(), port).into(),
                b"?",
            )
        };
        assert_eq!(check(&discover("255.255.255.255", 67)), None);
        assert_eq!(
            check(&discover("255.255.255.255", 53)),
            Some(Spoofed::Martian)
        );
        assert_eq!(check(&discover("192.0.2.1", 67)), Some(Spoofed::Martian));
        let solicit = |kind| {
            icmp(
                "::".parse().unwrap(),
                "ff02::1:ff00:1".parse().unwrap(),
                (kind, 0),
                0,
                &[0; 16],
            )
        };
        assert_eq!(check(&solicit(135)), None);
        assert_eq!(check(&solicit(128)), Some(Spoofed::Martian));
    }

    #[test]
    fn arp_claims_only_addresses_of_its_side() {
        let policy = Antispoof::inside(vec![prefix("10.0.0.0/8")]);
        let claims = |from, sender: &str| {
            let mut frame = Frame::new(plumb_wire::Instant::ZERO, &[0xff; 42]);
            frame.bytes[12..14].copy_from_slice(&[8, 6]);
            let packet = arp::Packet {
                operation: arp::Operation::Reply,
                sender_mac: [2; 6],
                sender: sender.parse().unwrap(),
                target_mac: [3; 6],
                target: [10, 0, 0, 9].into(),
            };
            packet.emit(&mut frame.bytes[14..]);
            policy.check(from, &Dissected::new(&frame), &frame)
        };
        assert_eq!(claims(Port::Left, "10.0.0.1"), None);
        assert_eq!(claims(Port::Left, "0.0.0.0"), None);
        assert_eq!(claims(Port::Left, "198.51.100.1"), Some(Spoofed::Foreign));
        assert_eq!(claims(Port::Right, "10.0.0.1"), Some(Spoofed::Forbidden));
    }

    #[test]
    fn networks_are_read_and_written() {
        for (text, written) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("::/0", "::/0"),
            ("2001:db8::1", "2001:db8::1/128"),
        ] {
            assert_eq!(std::format!("{}", prefix(text)), written);
        }
        for text in ["10.0.0.0/33", "::/129", "10.0.0.0/", "x", "", "10.0.0.0/-1"] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_network_contains_what_shares_its_bits(a: u128, b: u128, len in 0..=128u8) {
            let network = Prefix::new(Ipv6Addr::from_bits(a).into(), len).unwrap();
            let same = len == 0 || (a ^ b) >> (128 - u32::from(len)) == 0;
            prop_assert_eq!(network.contains(Ipv6Addr::from_bits(b).into()), same);
            prop_assert!(network.contains(Ipv6Addr::from_bits(a).into()));
            prop_assert!(!network.contains(Ipv4Addr::UNSPECIFIED.into()));
        }
    }
}
