//! Which addresses no router on the public Internet may have.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 blocks (address, prefix length) of the IANA special-purpose registry (RFC 6890) that TNT
/// excludes from revelation.
const RESERVED_V4: [(Ipv4Addr, u32); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// IPv6 blocks of the same registry: unspecified and loopback with the old IPv4-compatible space,
/// IPv4-mapped, discard-only, documentation (two), unique local, link local, multicast.
const RESERVED_V6: [(Ipv6Addr, u32); 8] = [
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 80),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];

/// Says whether `address` is in a block that is not globally routed, so that a hop with it can be
/// neither pinged nor used as the target of a revelation from elsewhere.
pub fn is_reserved(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => RESERVED_V4
            .iter()
            .any(|&(net, len)| (a.to_bits() ^ net.to_bits()) >> (32 - len) == 0),
        IpAddr::V6(a) => RESERVED_V6
            .iter()
            .any(|&(net, len)| (a.to_bits() ^ net.to_bits()) >> (128 - len) == 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_blocks_end_where_the_registry_says() {
        for (address, reserved) in [
            ("100.63.255.255", false),
            ("100.64.0.0", true),
            ("100.127.255.255", true),
            ("100.128.0.0", false),
            ("172.15.255.255", false),
            ("172.31.255.255", true),
            ("198.19.255.255", true),
            ("198.20.0.0", false),
            ("223.255.255.255", false),
            ("255.255.255.255", true),
            ("5.0.0.1", false),
            ("2001:db7::1", false),
            ("2001:db8::1", true),
            ("2a00::1", false),
            ("::1", true),
            ("::ffff:1.2.3.4", true),
            ("fe80::1", true),
        ] {
            let parsed: IpAddr = address.parse().unwrap();
            assert_eq!(is_reserved(parsed), reserved, "{address}");
        }
    }
}
