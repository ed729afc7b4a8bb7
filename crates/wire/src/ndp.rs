//! Neighbor Discovery for IPv6 (RFC 4861): the two messages that resolve addresses.

use core::net::Ipv6Addr;

use crate::ethernet::address;
use crate::icmp::{Family, fill_checksum_v6};
use crate::{Malformed, head, icmp, ipv6, protocol};

/// Length of a message with its link-layer address option, from the ICMPv6 type on.
pub const MAX_LEN: usize = 32;
/// Length of the IPv6 packet around such a message.
pub const MAX_PACKET_LEN: usize = ipv6::HEADER_LEN + MAX_LEN;
/// Hop limit of every valid message: nothing that came through a router has it.
pub const HOP_LIMIT: u8 = 255;
/// ICMPv6 type of a solicitation.
pub const SOLICITATION: u8 = 135;
/// ICMPv6 type of an advertisement.
pub const ADVERTISEMENT: u8 = 136;

const WITHOUT_OPTIONS: usize = 24;
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Who has the target address?
    Solicitation(Solicitation),
    /// The sender, or one for whom it speaks, has the target address.
    Advertisement(Advertisement),
}

/// Neighbor Solicitation (RFC 4861 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    /// Address that is asked for.
    pub target: Ipv6Addr,
    /// Source link-layer address; absent in a probe for duplicates (RFC 4862 §5.4.2).
    pub source_mac: Option<[u8; 6]>,
}

/// Neighbor Advertisement (RFC 4861 §4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// Address that this is about.
    pub target: Ipv6Addr,
    /// The sender is a router.
    pub router: bool,
    /// It answers a solicitation.
    pub solicited: bool,
    /// It overrides what a cache holds.
    pub overrides: bool,
    /// Target link-layer address.
    pub target_mac: Option<[u8; 6]>,
}

impl Message {
    /// Reads a message with all the checks of RFC 4861 §7.1.1 and §7.1.2 from the bytes that follow
    /// `header`. A message behind extension headers, which nobody sends, is refused.
    ///
    /// # Errors
    /// If it is another ICMPv6 message, cut off, or one that must be discarded silently.
    pub fn parse(header: &ipv6::Header, bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "neighbor discovery message";
        let bytes = &bytes[..usize::from(header.payload_len).min(bytes.len())];
        let fixed = head(WHAT, bytes, WITHOUT_OPTIONS)?;
        let malformed = Malformed {
            what: WHAT,
            need: 0,
            have: bytes.len(),
        };
        let icmp = icmp::Message::parse(Family::V6, bytes)?;
        let mut octets = [0; 16];
        octets.copy_from_slice(&fixed[8..24]);
        let target = Ipv6Addr::from_octets(octets);
        if header.next_header != protocol::ICMPV6
            || header.hop_limit != HOP_LIMIT
            || icmp.code != 0
            || target.is_multicast()
            || !icmp.checksum_is_right(header.src.into(), header.dst.into())
        {
            return Err(malformed);
        }
        let options = &bytes[WITHOUT_OPTIONS..];
        match fixed[0] {
            SOLICITATION => {
                let source_mac = option(options, SOURCE_LINK_LAYER_ADDRESS).ok_or(malformed)?;
                let probe = header.src.is_unspecified();
                if probe && (source_mac.is_some() || header.dst != solicited_node(target)) {
                    return Err(malformed);
                }
                Ok(Self::Solicitation(Solicitation { target, source_mac }))
            }
            ADVERTISEMENT => {
                let target_mac = option(options, TARGET_LINK_LAYER_ADDRESS).ok_or(malformed)?;
                let solicited = fixed[4] & SOLICITED != 0;
                if solicited && header.dst.is_multicast() {
                    return Err(malformed);
                }
                Ok(Self::Advertisement(Advertisement {
                    target,
                    router: fixed[4] & ROUTER != 0,
                    solicited,
                    overrides: fixed[4] & OVERRIDE != 0,
                    target_mac,
                }))
            }
            _ => Err(malformed),
        }
    }

    /// Length of the message in bytes, from the ICMPv6 type on.
    pub const fn len(&self) -> usize {
        match self.mac() {
            Some(_) => MAX_LEN,
            None => WITHOUT_OPTIONS,
        }
    }

    /// Never true: a message has a header. Here because it has a length.
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Writes the whole IPv6 packet with this message, checksum included, into the first
    /// [`MAX_PACKET_LEN`] bytes and returns its length.
    ///
    /// # Panics
    /// If `into` is shorter.
    pub fn emit_packet(&self, src: Ipv6Addr, dst: Ipv6Addr, into: &mut [u8]) -> usize {
        let len = self.len();
        let header = ipv6::Header {
            traffic_class: 0,
            flow_label: 0,
            #[expect(clippy::cast_possible_truncation, reason = "32 bytes at most")]
            payload_len: len as u16,
            next_header: protocol::ICMPV6,
            hop_limit: HOP_LIMIT,
            src,
            dst,
        };
        header.emit(into);
        let message = &mut into[ipv6::HEADER_LEN..ipv6::HEADER_LEN + len];
        message.fill(0);
        let (number, target, option) = match self {
            Self::Solicitation(s) => (SOLICITATION, s.target, SOURCE_LINK_LAYER_ADDRESS),
            Self::Advertisement(a) => {
                let flag = |set: bool, bit: u8| if set { bit } else { 0 };
                message[4] = flag(a.router, ROUTER)
                    | flag(a.solicited, SOLICITED)
                    | flag(a.overrides, OVERRIDE);
                (ADVERTISEMENT, a.target, TARGET_LINK_LAYER_ADDRESS)
            }
        };
        message[0] = number;
        message[8..24].copy_from_slice(&target.octets());
        if let Some(mac) = self.mac() {
            message[24..26].copy_from_slice(&[option, 1]);
            message[26..32].copy_from_slice(&mac);
        }
        fill_checksum_v6(src, dst, message);
        ipv6::HEADER_LEN + len
    }

    const fn mac(&self) -> Option<[u8; 6]> {
        match self {
            Self::Solicitation(s) => s.source_mac,
            Self::Advertisement(a) => a.target_mac,
        }
    }
}

/// The multicast group that whoever has `address` listens to (RFC 4291 §2.7.1).
pub const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from_octets([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// The link-local address of the interface with `mac` (RFC 4291 appendix A, modified EUI-64).
pub const fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    let mut octets = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a, b, c, 0xff, 0xfe, d, e, f];
    octets[8] ^= 2;
    Ipv6Addr::from_octets(octets)
}

/// Finds the first option of type `wanted` that holds a MAC address. The outer `None` means that
/// the options are damaged: one has length 0 or reaches over the end.
#[expect(
    clippy::option_option,
    reason = "damaged, absent and there are three things"
)]
fn option(mut options: &[u8], wanted: u8) -> Option<Option<[u8; 6]>> {
    let mut found = None;
    while let [kind, words, ..] = *options {
        let len = usize::from(words) * 8;
        if len == 0 || len > options.len() {
            return None;
        }
        if kind == wanted && words == 1 && found.is_none() {
            found = Some(address(options, 2));
        }
        options = &options[len..];
    }
    options.is_empty().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(packet: &[u8]) -> Result<Message, Malformed> {
        let (header, rest) = ipv6::Header::parse(packet).unwrap();
        Message::parse(&header, rest)
    }

    fn packet(message: Message, src: &str, dst: &str) -> ([u8; MAX_PACKET_LEN], usize) {
        let mut bytes = [0xaa; MAX_PACKET_LEN];
        let len = message.emit_packet(src.parse().unwrap(), dst.parse().unwrap(), &mut bytes);
        (bytes, len)
    }

    #[test]
    fn addresses_are_those_of_rfc_4291() {
        let address = "4037::1:800:200e:8c6c".parse().unwrap();
        let group: Ipv6Addr = "ff02::1:ff0e:8c6c".parse().unwrap();
        assert_eq!(solicited_node(address), group);
        let mac = [0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde];
        let link: Ipv6Addr = "fe80::3656:78ff:fe9a:bcde".parse().unwrap();
        assert_eq!(link_local(mac), link);
    }

    #[test]
    fn what_rfc_4861_discards_is_refused() {
        let target = "fd00::2".parse().unwrap();
        let mac = Some([2; 6]);
        let ask = |source_mac| Message::Solicitation(Solicitation { target, source_mac });
        let group = "ff02::1:ff00:2";
        let (good, len) = packet(ask(mac), "fd00::1", group);
        assert_eq!(parse(&good[..len]), Ok(ask(mac)));
        // A probe for duplicates: to the group, and without the sender's address.
        let (probe, len) = packet(ask(None), "::", group);
        assert!(parse(&probe[..len]).is_ok());
        let (bytes, len) = packet(ask(mac), "::", group);
        assert!(parse(&bytes[..len]).is_err());
        let (bytes, len) = packet(ask(None), "::", "fd00::2");
        assert!(parse(&bytes[..len]).is_err());
        // Through a router, damaged, with an option of no length.
        let mut bytes = good;
        bytes[7] = 254;
        assert!(parse(&bytes).is_err());
        let mut bytes = good;
        bytes[60] ^= 1;
        assert!(parse(&bytes).is_err());
        let mut bytes = good;
        bytes[65] = 0;
        fill_checksum_v6(
            "fd00::1".parse().unwrap(),
            group.parse().unwrap(),
            &mut bytes[40..],
        );
        assert!(parse(&bytes).is_err());
        // A solicited advertisement to everyone, and one about a group.
        let say = |target, solicited| {
            Message::Advertisement(Advertisement {
                target,
                router: false,
                solicited,
                overrides: true,
                target_mac: mac,
            })
        };
        let (bytes, _) = packet(say(target, true), "fd00::2", "ff02::1");
        assert!(parse(&bytes).is_err());
        let (bytes, _) = packet(say(target, false), "fd00::2", "ff02::1");
        assert!(parse(&bytes).is_ok());
        let (bytes, _) = packet(say("ff02::5".parse().unwrap(), false), "fd00::2", "ff02::1");
        assert!(parse(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn a_written_message_reads_back(
            advertises: bool, target: u128, mac: Option<[u8; 6]>, router: bool, solicited: bool, overrides: bool, src: u128, dst: u128,
        ) {
            let unicast = |bits: u128| Ipv6Addr::from_bits(bits & !(1 << 127) | 1);
            let (target, src, dst) = (unicast(target), unicast(src), unicast(dst));
            let message = if advertises {
                Message::Advertisement(Advertisement { target, router, solicited, overrides, target_mac: mac })
            } else {
                Message::Solicitation(Solicitation { target, source_mac: mac })
            };
            let mut bytes = [0xaa; MAX_PACKET_LEN + 1];
            let len = message.emit_packet(src, dst, &mut bytes);
            prop_assert_eq!(bytes[len], 0xaa);
            prop_assert_eq!(parse(&bytes[..len]), Ok(message));

            use etherparse::{Icmpv6Slice, icmpv6::Icmpv6PayloadSlice};
            let oracle = Icmpv6Slice::from_slice(&bytes[40..len]).unwrap();
            prop_assert!(oracle.is_checksum_valid(src.octets(), dst.octets()));
            let payload = oracle.payload_slice().unwrap();
            let seen = if let Icmpv6PayloadSlice::NeighborAdvertisement(a) = &payload {
                prop_assert!(advertises);
                a.target_address()
            } else if let Icmpv6PayloadSlice::NeighborSolicitation(s) = &payload {
                prop_assert!(!advertises);
                s.target_address()
            } else {
                panic!("{payload:?}")
            };
            prop_assert_eq!(seen, target);
        }

        #[test]
        fn no_input_panics(mut bytes in proptest::collection::vec(any::<u8>(), 40..120), number in 134..138u8, options: [u8; 2]) {
            bytes[0] = 0x60;
            bytes[6] = protocol::ICMPV6;
            bytes[7] = 255;
            bytes[4..6].copy_from_slice(&200u16.to_be_bytes());
            let (header, _) = ipv6::Header::parse(&bytes).unwrap();
            if bytes.len() >= 72 {
                bytes[40] = number;
                bytes[41] = 0;
                bytes[64..66].copy_from_slice(&options);
                fill_checksum_v6(header.src, header.dst, &mut bytes[40..]);
            }
            let _ = Message::parse(&header, &bytes[40..]);
        }
    }
}
