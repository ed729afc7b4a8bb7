//! IPv4 packets in place: where their parts are, and changing them with their checksums.

use core::net::Ipv4Addr;

use plumb_wire::{checksum, ipv4, protocol};

use crate::Frame;
use crate::offload::{get, put};

/// Where the parts of an IPv4 packet are, and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// Offset of the IP header.
    pub(super) ip: usize,
    /// Offset of the transport header.
    pub(super) transport: usize,
    /// Offset behind the packet, or behind what was captured of it.
    pub(super) end: usize,
    pub(super) src: Ipv4Addr,
    pub(super) dst: Ipv4Addr,
    pub(super) protocol: u8,
    pub(super) ident: u16,
    /// Not the first fragment: there is no transport header.
    pub(super) is_later: bool,
    /// Not the last fragment.
    pub(super) has_more: bool,
    pub(super) ttl: u8,
}

impl View {
    /// Reads the header at `ip`; none if it is damaged, or announces more than the frame had before it
    /// was cut off, if it was.
    pub(super) fn of_frame(frame: &Frame, ip: usize) -> Option<Self> {
        let view = Self::parse(&frame.bytes, ip)?;
        let header = &frame.bytes[view.ip..view.transport];
        let announced = usize::from(get(header, 2));
        let fits = announced >= header.len() && ip + announced <= frame.whole_len();
        if checksum(header) != 0 || !fits {
            return None;
        }
        Some(Self {
            end: view.end.min(ip + announced).max(view.transport),
            ..view
        })
    }

    /// Reads the header at `ip`, whatever its length and checksum say, as in a quote.
    pub(super) fn parse(bytes: &[u8], ip: usize) -> Option<Self> {
        let (header, rest) = ipv4::Header::parse(bytes.get(ip..)?).ok()?;
        Some(Self {
            ip,
            transport: bytes.len() - rest.len(),
            end: bytes.len(),
            src: header.src,
            dst: header.dst,
            protocol: header.protocol,
            ident: header.ident,
            is_later: header.is_later_fragment(),
            has_more: header.flags_fragment & ipv4::MORE_FRAGMENTS != 0,
            ttl: header.ttl,
        })
    }

    /// Bytes of the transport header and payload that are there.
    pub(super) fn transport_len(&self) -> usize {
        self.end - self.transport
    }
}

/// Which end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
}

/// By how much the sum of some words has changed (RFC 1624): the one's-complement sum of what came
/// minus that of what went.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delta(u16);

impl Delta {
    fn word(self, old: u16, new: u16) -> Self {
        if old == new {
            return self;
        }
        self.plus(Self(add(!old, new)))
    }

    /// Of the two words of an address.
    fn address(old: u32, new: u32) -> Self {
        if old == new {
            return Self::default();
        }
        let [a, b] = [!old, new].map(|word| (word >> 16) + (word & 0xffff));
        let sum = a + b;
        let folded = (sum >> 16) + (sum & 0xffff);
        // At most 0x3fffc is folded, so that it fits.
        Self(u16::try_from((folded >> 16) + (folded & 0xffff)).unwrap_or(0))
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self(add(self.0, other.0))
    }

    /// The checksum after the change.
    pub(super) fn checksum(self, old: u16) -> u16 {
        !self.sum(!old)
    }

    /// The sum, not complemented, after the change.
    pub(super) fn sum(self, old: u16) -> u16 {
        // Zero is "nothing changed": adding it must not turn one form of zero into the other.
        if self.0 == 0 { old } else { add(old, self.0) }
    }
}

fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    // A sum that overflowed is at most 0xfffe.
    sum + u16::from(carry)
}

/// How the transport checksum is to be kept right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sum {
    /// There is none, or it was not captured.
    None,
    /// At this offset; it covers addresses if it does, and UDP sends zero as all ones.
    Full {
        at: usize,
        addresses: bool,
        udp: bool,
    },
    /// At this offset stands the sum of the pseudo-header; ports come later.
    Partial { at: usize },
}

/// Changes one end of a packet and mends its checksums. Returns by how much the sum of the words
/// changed, checksums included, for the checksum of whoever quotes the packet.
///
/// `partial` is the offset of the field that holds a partial checksum.
pub(super) fn rewrite(
    bytes: &mut [u8],
    view: &View,
    side: Side,
    address: Ipv4Addr,
    port: Option<u16>,
    partial: Option<usize>,
) -> Delta {
    let (address_at, port_at) = match side {
        Side::Source => (view.ip + 12, 0),
        Side::Destination => (view.ip + 16, 2),
    };
    let addresses = set_address(bytes, address_at, address);
    let header_sum = addresses.checksum(get(bytes, view.ip + 10));
    let mut total = addresses.plus(set(bytes, view.ip + 10, header_sum));
    if view.is_later {
        return total;
    }

    let sum = transport_sum(bytes, view, partial);
    let port_at = view.transport
        + if view.protocol == protocol::ICMP {
            4
        } else {
            port_at
        };
    let mut ports = Delta::default();
    if let Some(port) = port
        && port_at + 2 <= view.end
    {
        ports = set(bytes, port_at, port);
        total = total.plus(ports);
    }
    match sum {
        Sum::None => {}
        Sum::Full {
            at,
            addresses: covers,
            udp,
        } => {
            let covered = if covers { ports.plus(addresses) } else { ports };
            let mut new = covered.checksum(get(bytes, at));
            if udp && new == 0 {
                new = 0xffff;
            }
            total = total.plus(set(bytes, at, new));
        }
        Sum::Partial { at } => {
            let new = addresses.sum(get(bytes, at));
            total = total.plus(set(bytes, at, new));
        }
    }
    total
}

fn transport_sum(bytes: &[u8], view: &View, partial: Option<usize>) -> Sum {
    const DCCP: u8 = 33;
    const UDP_LITE: u8 = 136;
    let (offset, addresses) = match view.protocol {
        protocol::TCP => (16, true),
        protocol::UDP | UDP_LITE | DCCP => (6, true),
        protocol::ICMP => (2, false),
        _ => return Sum::None,
    };
    let at = view.transport + offset;
    if at + 2 > view.end {
        return Sum::None;
    }
    if partial == Some(at) && addresses {
        return Sum::Partial { at };
    }
    let udp = view.protocol == protocol::UDP;
    if udp && get(bytes, at) == 0 {
        return Sum::None;
    }
    Sum::Full { at, addresses, udp }
}

/// Writes a word and returns the change.
pub(super) fn set(bytes: &mut [u8], at: usize, new: u16) -> Delta {
    let old = get(bytes, at);
    put(bytes, at, new);
    Delta::default().word(old, new)
}

/// Writes an address and returns the change.
fn set_address(bytes: &mut [u8], at: usize, new: Ipv4Addr) -> Delta {
    let mut old = [0; 4];
    old.copy_from_slice(&bytes[at..at + 4]);
    bytes[at..at + 4].copy_from_slice(&new.octets());
    Delta::address(u32::from_be_bytes(old), new.to_bits())
}

/// Offset of the field of a partial checksum, where it is in the frame.
pub(super) fn partial_field(frame: &Frame) -> Option<usize> {
    let partial = frame.offload.checksum?;
    let at = usize::from(partial.start) + usize::from(partial.offset);
    (at + 2 <= frame.bytes.len()).then_some(at)
}

/// Takes one off the TTL.
pub(super) fn decrement_ttl(bytes: &mut [u8], view: &View) {
    let old = get(bytes, view.ip + 8);
    let delta = set(bytes, view.ip + 8, old.wrapping_sub(0x0100));
    let sum = delta.checksum(get(bytes, view.ip + 10));
    put(bytes, view.ip + 10, sum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_delta_is_what_summing_anew_gives(
            mut words in proptest::collection::vec(any::<u16>(), 2..20), changes in proptest::collection::vec((any::<usize>(), any::<u16>()), 0..6),
        ) {
            let sum = |words: &[u16]| words.iter().fold(plumb_wire::Checksum::new(), |s, w| s.word(*w)).finish();
            // A checksum stands in the packet that it covers, which so is never all zero.
            words[0] |= 1;
            let before = sum(&words);
            let mut delta = Delta::default();
            for (at, new) in changes {
                let at = 1 + at % (words.len() - 1);
                delta = delta.word(words[at], new);
                words[at] = new;
            }
            let (mended, anew) = (delta.checksum(before), sum(&words));
            prop_assert_eq!(mended % 0xffff, anew % 0xffff);
        }

        #[test]
        fn the_delta_of_an_address_is_that_of_its_words(old: u32, new: u32, sum: u16) {
            let word = |address: u32, shift: u32| u16::try_from(address >> shift & 0xffff).unwrap();
            let words = [16, 0].map(|shift| Delta::default().word(word(old, shift), word(new, shift)));
            let [upper, lower] = words;
            let by_words = upper.plus(lower).sum(sum);
            prop_assert_eq!(Delta::address(old, new).sum(sum) % 0xffff, by_words % 0xffff);
        }
    }
}
