//! Addresses of the one interface.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use plumb_wire::{SendError, ethernet};

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

/// Who on the link a packet is given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The neighbour with this address: the destination, or the gateway.
    Neighbor(IpAddr),
    /// Everyone who listens to this MAC address.
    Group([u8; 6]),
}

impl Prefix<Ipv4Addr> {
    /// The address of all on the link; `None` where there are two at most (RFC 3021).
    pub fn broadcast(&self) -> Option<Ipv4Addr> {
        let host = u32::MAX.checked_shr(self.len.into())?;
        (host > 1).then(|| Ipv4Addr::from_bits(self.address.to_bits() | host))
    }

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
    /// Where a packet to `dst` goes.
    ///
    /// # Errors
    /// As an operating system would refuse it: where there is no gateway, the own address, which
    /// nobody else answers for, and broadcasts, which nobody is to be bothered with.
    pub fn route(&self, dst: IpAddr) -> Result<Route, SendError> {
        let gateway = match dst {
            IpAddr::V4(dst) => {
                let own = self.v4.ok_or(SendError::NoRoute)?;
                if dst.is_broadcast() || own.broadcast() == Some(dst) {
                    return Err(SendError::Forbidden);
                }
                if dst.is_multicast() {
                    return Ok(Route::Group(ethernet::multicast_v4(dst)));
                }
                if dst == own.address || dst.is_unspecified() {
                    return Err(SendError::NoRoute);
                }
                if own.contains(dst) {
                    return Ok(Route::Neighbor(dst.into()));
                }
                self.gateway_v4.map(IpAddr::V4)
            }
            IpAddr::V6(dst) => {
                let own = self.v6.ok_or(SendError::NoRoute)?;
                if dst.is_multicast() {
                    return Ok(Route::Group(ethernet::multicast_v6(dst)));
                }
                if dst == own.address || dst.is_unspecified() {
                    return Err(SendError::NoRoute);
                }
                if dst.is_unicast_link_local() || own.contains(dst) {
                    return Ok(Route::Neighbor(dst.into()));
                }
                self.gateway_v6.map(IpAddr::V6)
            }
        };
        gateway.map(Route::Neighbor).ok_or(SendError::NoRoute)
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
        for (dst, neighbor) in [
            ("10.0.0.254", "10.0.0.254"),
            ("10.0.1.0", "10.0.0.1"),
            ("5.0.0.1", "10.0.0.1"),
            ("fd00::ffff:0:0:1", "fd00::ffff:0:0:1"),
            ("fd00:0:0:1::1", "fe80::1"),
            ("fe80::9", "fe80::9"),
        ] {
            let route = config().route(dst.parse().unwrap());
            let neighbor = neighbor.parse().unwrap();
            assert_eq!(route, Ok(Route::Neighbor(neighbor)), "{dst}");
        }
        let group = config().route("224.0.0.5".parse().unwrap());
        assert_eq!(group, Ok(Route::Group([1, 0, 0x5e, 0, 0, 5])));
    }

    #[test]
    fn what_nobody_answers_for_is_refused_at_once() {
        for (dst, error) in [
            ("10.0.0.255", SendError::Forbidden),
            ("255.255.255.255", SendError::Forbidden),
            ("10.0.0.2", SendError::NoRoute),
            ("0.0.0.0", SendError::NoRoute),
            ("fd00::2", SendError::NoRoute),
            ("::", SendError::NoRoute),
        ] {
            assert_eq!(config().route(dst.parse().unwrap()), Err(error), "{dst}");
        }
        for (len, broadcast) in [(0, true), (30, true), (31, false), (32, false)] {
            let address = Ipv4Addr::new(10, 0, 0, 2);
            let prefix = Prefix { address, len };
            assert_eq!(prefix.broadcast().is_some(), broadcast, "/{len}");
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
        for dst in ["10.0.0.1", "2a00::1", "fe80::1"] {
            let route = none.route(dst.parse().unwrap());
            assert_eq!(route, Err(SendError::NoRoute));
        }
    }
}
