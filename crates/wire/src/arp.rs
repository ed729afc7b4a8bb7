//! Address Resolution Protocol for IPv4 over Ethernet (RFC 826).

use core::net::Ipv4Addr;

use crate::ethernet::{address, ethertype};
use crate::{Malformed, be16, head};

/// Length of a packet, without the padding that short frames have.
pub const LEN: usize = 28;

/// Hardware type of Ethernet.
const ETHERNET: u16 = 1;

/// What a packet asks or says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Who has the target address? (1)
    Request,
    /// The sender has its address. (2)
    Reply,
    /// Any other number.
    Other(u16),
}

/// An ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What it is.
    pub operation: Operation,
    /// MAC address of the sender.
    pub sender_mac: [u8; 6],
    /// IPv4 address of the sender; unspecified in a probe for duplicates (RFC 5227 §1.1).
    pub sender: Ipv4Addr,
    /// MAC address of the target; means nothing in a request.
    pub target_mac: [u8; 6],
    /// IPv4 address of the target.
    pub target: Ipv4Addr,
}

impl Packet {
    /// Reads a packet. What follows it is padding.
    ///
    /// # Errors
    /// If there are fewer than [`LEN`] bytes, or it is not about IPv4 over Ethernet.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "ARP packet";
        let h = head(WHAT, bytes, LEN)?;
        if be16(h, 0) != ETHERNET || be16(h, 2) != ethertype::IPV4 || h[4..6] != [6, 4] {
            return Err(Malformed {
                what: WHAT,
                need: 0,
                have: bytes.len(),
            });
        }
        let ip = |at: usize| Ipv4Addr::new(h[at], h[at + 1], h[at + 2], h[at + 3]);
        Ok(Self {
            operation: match be16(h, 6) {
                1 => Operation::Request,
                2 => Operation::Reply,
                other => Operation::Other(other),
            },
            sender_mac: address(h, 8),
            sender: ip(14),
            target_mac: address(h, 18),
            target: ip(24),
        })
    }

    /// Writes the packet into the first [`LEN`] bytes.
    ///
    /// # Panics
    /// If `into` is shorter.
    pub fn emit(&self, into: &mut [u8]) {
        let h = &mut into[..LEN];
        let operation = match self.operation {
            Operation::Request => 1,
            Operation::Reply => 2,
            Operation::Other(other) => other,
        };
        h[..2].copy_from_slice(&ETHERNET.to_be_bytes());
        h[2..4].copy_from_slice(&ethertype::IPV4.to_be_bytes());
        h[4..6].copy_from_slice(&[6, 4]);
        h[6..8].copy_from_slice(&operation.to_be_bytes());
        h[8..14].copy_from_slice(&self.sender_mac);
        h[14..18].copy_from_slice(&self.sender.octets());
        h[18..24].copy_from_slice(&self.target_mac);
        h[24..28].copy_from_slice(&self.target.octets());
    }

    /// The reply to this request from an interface that has `mac` and the address asked for.
    #[must_use]
    pub const fn reply(&self, mac: [u8; 6]) -> Self {
        Self {
            operation: Operation::Reply,
            sender_mac: mac,
            sender: self.target,
            target_mac: self.sender_mac,
            target: self.sender,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_written_packet_reads_back(
            operation in 0..4u16, sender_mac: [u8; 6], sender: [u8; 4], target_mac: [u8; 6], target: [u8; 4],
        ) {
            let packet = Packet {
                operation: match operation {
                    1 => Operation::Request,
                    2 => Operation::Reply,
                    other => Operation::Other(other),
                },
                sender_mac,
                sender: sender.into(),
                target_mac,
                target: target.into(),
            };
            let mut bytes = [0xaa; LEN + 18];
            packet.emit(&mut bytes);
            prop_assert_eq!(Packet::parse(&bytes).unwrap(), packet);
            let oracle = etherparse::ArpPacket::from_slice(&bytes).unwrap().try_eth_ipv4().unwrap();
            prop_assert_eq!(oracle.operation.0, operation);
            prop_assert_eq!(oracle.sender_mac, sender_mac);
            prop_assert_eq!(oracle.sender_ipv4, sender);
            prop_assert_eq!(oracle.target_mac, target_mac);
            prop_assert_eq!(oracle.target_ipv4, target);
            let reply = packet.reply([2; 6]);
            prop_assert_eq!((reply.sender, reply.target), (packet.target, packet.sender));
        }

        #[test]
        fn no_input_panics_and_only_ipv4_over_ethernet_is_read(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..60), valid: bool,
        ) {
            if valid && bytes.len() >= 6 {
                bytes[..6].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
            }
            let fits = bytes.len() >= LEN && bytes[..6] == [0, 1, 8, 0, 6, 4];
            prop_assert_eq!(Packet::parse(&bytes).is_ok(), fits);
        }
    }
}
