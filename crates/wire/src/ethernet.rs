//! Ethernet II header (IEEE 802.3 §3.2.6) and the multicast addresses that IP maps to it.

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::{Malformed, be16, head};

/// Length of the header: no tag before it, no frame check sequence after the payload.
pub const HEADER_LEN: usize = 14;

/// All stations.
pub const BROADCAST: [u8; 6] = [0xff; 6];

/// EtherTypes (IANA "IEEE 802 Numbers") that plumb reads or writes.
pub mod ethertype {
    /// Internet Protocol version 4.
    pub const IPV4: u16 = 0x0800;
    /// Address Resolution Protocol.
    pub const ARP: u16 = 0x0806;
    /// Internet Protocol version 6.
    pub const IPV6: u16 = 0x86dd;
}

/// An Ethernet II header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Destination MAC address.
    pub dst: [u8; 6],
    /// Source MAC address.
    pub src: [u8; 6],
    /// What the payload is. Values below 0x0600 are the length of an IEEE 802.3 frame.
    pub ethertype: u16,
}

impl Header {
    /// Reads a header and returns it with the bytes that follow, padding included.
    ///
    /// # Errors
    /// If there are fewer than [`HEADER_LEN`] bytes.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let h = head("Ethernet header", bytes, HEADER_LEN)?;
        let header = Self {
            dst: address(h, 0),
            src: address(h, 6),
            ethertype: be16(h, 12),
        };
        Ok((header, &bytes[HEADER_LEN..]))
    }

    /// Writes the header into the first [`HEADER_LEN`] bytes.
    ///
    /// # Panics
    /// If `into` is shorter.
    pub fn emit(&self, into: &mut [u8]) {
        into[..6].copy_from_slice(&self.dst);
        into[6..12].copy_from_slice(&self.src);
        into[12..14].copy_from_slice(&self.ethertype.to_be_bytes());
    }
}

/// Says whether a MAC address names a group of stations; [`BROADCAST`] is one.
pub const fn is_multicast(mac: [u8; 6]) -> bool {
    mac[0] & 1 != 0
}

/// Says whether a MAC address can be that of one interface: neither a group nor all zero.
pub const fn is_unicast(mac: [u8; 6]) -> bool {
    !is_multicast(mac) && !matches!(mac, [0, 0, 0, 0, 0, 0])
}

/// The MAC address of an IPv4 multicast group (RFC 1112 §6.4).
pub const fn multicast_v4(group: Ipv4Addr) -> [u8; 6] {
    let [_, b, c, d] = group.octets();
    [0x01, 0x00, 0x5e, b & 0x7f, c, d]
}

/// The MAC address of an IPv6 multicast group (RFC 2464 §7).
pub const fn multicast_v6(group: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// Reads a MAC address. Panics where the caller has not checked the length.
pub(crate) fn address(bytes: &[u8], at: usize) -> [u8; 6] {
    let mut address = [0; 6];
    address.copy_from_slice(&bytes[at..at + 6]);
    address
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn groups_map_to_the_addresses_of_the_standards() {
        let all_nodes = "ff02::1".parse().unwrap();
        assert_eq!(multicast_v6(all_nodes), [0x33, 0x33, 0, 0, 0, 1]);
        let group = Ipv4Addr::new(239, 255, 1, 2);
        assert_eq!(multicast_v4(group), [1, 0, 0x5e, 0x7f, 1, 2]);
        assert!(is_multicast(BROADCAST) && is_multicast(multicast_v4(group)));
        assert!(!is_unicast([0; 6]) && is_unicast([2, 0, 0, 0, 0, 1]));
    }

    proptest! {
        #[test]
        fn a_written_header_reads_back(dst: [u8; 6], src: [u8; 6], ethertype: u16) {
            let header = Header { dst, src, ethertype };
            let mut bytes = [0xaa; HEADER_LEN + 3];
            header.emit(&mut bytes);
            let (parsed, rest) = Header::parse(&bytes).unwrap();
            prop_assert_eq!(parsed, header);
            prop_assert_eq!(rest, &[0xaa; 3]);
            let oracle = etherparse::Ethernet2Header::from_slice(&bytes).unwrap().0;
            prop_assert_eq!(oracle.destination, dst);
            prop_assert_eq!(oracle.source, src);
            prop_assert_eq!(oracle.ether_type.0, ethertype);
        }

        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(Header::parse(&bytes).is_ok(), bytes.len() >= HEADER_LEN);
        }
    }
}
