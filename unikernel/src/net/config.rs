//! Addresses of the one interface.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address with the length of its network's prefix, as in `10.0.0.2/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix<A> {
    /// The interface's address.
    pub address: A,
    /// Length of the prefix that is on the link, in bits: 0 to 32, or to 128. What is longer counts
    /// as all bits.
    pub len: u8,
}

/// Addresses of the interface. What is absent is not spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// IPv4 address, the word `ip=`.
    pub v4: Option<Prefix<Ipv4Addr>>,
    /// Router for everything that is not on the IPv4 link, the word `gw=`.
    pub gateway_v4: Option<Ipv4Addr>,
    /// IPv6 address, the word `ip6=`. The link-local address is made from the MAC address.
    pub v6: Option<Prefix<Ipv6Addr>>,
    /// Router for everything that is not on the IPv6 link, the word `gw6=`.
    pub gateway_v6: Option<Ipv6Addr>,
}

impl Prefix<Ipv4Addr> {
    /// Says whether `other` has the same prefix.
    pub fn contains(&self, other: Ipv4Addr) -> bool {
        let differ = self.address.to_bits() ^ other.to_bits();
        differ.leading_zeros() >= u32::from(self.len.min(32))
    }
}

impl Prefix<Ipv6Addr> {
    /// Says whether `other` has the same prefix.
    pub fn contains(&self, other: Ipv6Addr) -> bool {
        let differ = self.address.to_bits() ^ other.to_bits();
        differ.leading_zeros() >= u32::from(self.len.min(128))
    }
}

impl Config {
    /// The neighbour that a packet to `dst` goes to: `dst` itself on the link, else the gateway;
    /// `None` if there is neither. Groups and broadcasts have no neighbour to ask for.
    pub fn next_hop(&self, dst: IpAddr) -> Option<IpAddr> {
        match dst {
            IpAddr::V4(dst) if self.v4?.contains(dst) => Some(dst.into()),
            IpAddr::V4(_) => self.gateway_v4.map(IpAddr::V4),
            IpAddr::V6(dst) if dst.is_unicast_link_local() || self.v6?.contains(dst) => {
                Some(dst.into())
            }
            IpAddr::V6(_) => self.gateway_v6.map(IpAddr::V6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            v4: Some(Prefix {
                address: Ipv4Addr::new(10, 0, 0, 2),
                len: 24,
            }),
            gateway_v4: Some(Ipv4Addr::new(10, 0, 0, 1)),
            v6: Some(Prefix {
                address: "fd00::2".parse().unwrap(),
                len: 64,
            }),
            gateway_v6: Some("fe80::1".parse().unwrap()),
        }
    }

    #[test]
    fn what_is_off_the_link_goes_to_the_gateway() {
        for (dst, hop) in [
            ("10.0.0.255", Some("10.0.0.255")),
            ("10.0.1.0", Some("10.0.0.1")),
            ("5.0.0.1", Some("10.0.0.1")),
            ("fd00::ffff:0:0:1", Some("fd00::ffff:0:0:1")),
            ("fd00:0:0:1::1", Some("fe80::1")),
            ("fe80::9", Some("fe80::9")),
        ] {
            let hop = hop.map(|hop| hop.parse().unwrap());
            assert_eq!(config().next_hop(dst.parse().unwrap()), hop, "{dst}");
        }
    }

    #[test]
    fn the_longest_and_the_shortest_prefix_do_not_overflow() {
        for (len, inside) in [(0, true), (32, false), (255, false)] {
            let prefix = Prefix {
                address: Ipv4Addr::new(10, 0, 0, 2),
                len,
            };
            assert_eq!(prefix.contains(Ipv4Addr::new(200, 0, 0, 1)), inside);
            assert!(prefix.contains(prefix.address));
        }
    }

    #[test]
    fn a_family_without_address_is_not_spoken() {
        let none = Config {
            v4: None,
            v6: None,
            ..config()
        };
        assert_eq!(none.next_hop(Ipv4Addr::new(10, 0, 0, 1).into()), None);
        assert_eq!(none.next_hop("2a00::1".parse().unwrap()), None);
    }
}
