//! What tells one connection from another.

use core::net::IpAddr;

use plumb_wire::SplitMix64;
use plumb_wire::icmp::Family;

use crate::dissect::{Icmp, Ip, Transport};

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Protocol number.
    pub protocol: u8,
    /// Source port; the identifier of an ICMP query; 0 where there are no ports.
    pub src_port: u16,
    /// Destination port; type (upper byte) and code of an ICMP query; 0 where there are no ports.
    pub dst_port: u16,
}

impl Tuple {
    /// The tuple of a packet, as far as it has one.
    pub(super) fn new(ip: &Ip, transport: &Transport) -> Self {
        let (src_port, dst_port) = if let Transport::Icmp(icmp) = transport {
            (icmp.ident, u16::from_be_bytes([icmp.kind, icmp.code]))
        } else {
            transport.ports().unwrap_or((0, 0))
        };
        Self {
            src: ip.src,
            dst: ip.dst,
            protocol: ip.protocol,
            src_port,
            dst_port,
        }
    }
}

/// The type of the query that an answer is to (`nf_ct_invert_icmp_tuple`).
const fn question_to(family: Family, kind: u8) -> Option<u8> {
    Some(match (family, kind) {
        (Family::V4, 0) => 8,
        (Family::V4, 14) => 13,
        (Family::V4, 16) => 15,
        (Family::V4, 18) => 17,
        (Family::V6, 129) => 128,
        (Family::V6, 140) => 139,
        _ => return None,
    })
}

/// Says whether an ICMP message may begin a connection.
pub(super) const fn is_query(icmp: &Icmp) -> bool {
    matches!(
        (icmp.family, icmp.kind),
        (Family::V4, 8 | 13 | 15 | 17) | (Family::V6, 128 | 139)
    )
}

/// Both directions of a connection in one, so that one look-up finds it: without translation the
/// answer's tuple is the question's, turned round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key([u64; 5]);

impl PartialEq for Key {
    /// In registers: a library's function is called to compare arrays otherwise.
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        let words = self.0.iter().zip(&other.0);
        words.fold(0, |differ, (one, other)| differ | one ^ other) == 0
    }
}

impl Eq for Key {}

impl Key {
    /// The key of a packet, and whether it had to be turned round for it, as one direction of a
    /// connection has to be and the other has not; none for a later fragment or a damaged packet.
    #[inline(always)]
    pub(super) fn of(ip: &Ip, transport: &Transport, zone: u16) -> Option<(Self, bool)> {
        let (src, dst) = (words(&ip.src), words(&ip.dst));
        let ((src_port, dst_port), turned) = match transport {
            Transport::None => return None,
            // A question and an answer have the same end as source if turned to the question.
            Transport::Icmp(icmp) => {
                let question = question_to(icmp.family, icmp.kind);
                let kind = question.unwrap_or(icmp.kind);
                let ports = (icmp.ident, u16::from_be_bytes([kind, icmp.code]));
                (ports, question.is_some())
            }
            Transport::Tcp(_) | Transport::Udp(_) | Transport::Ports(_) | Transport::Other => {
                let (one, two) = transport.ports().unwrap_or((0, 0));
                let turned = (src, one) > (dst, two);
                (if turned { (two, one) } else { (one, two) }, turned)
            }
        };
        let (src, dst) = if turned { (dst, src) } else { (src, dst) };
        let ports = u64::from(src_port) << 48 | u64::from(dst_port) << 32;
        let rest =
            u64::from(zone) << 16 | u64::from(ip.protocol) << 8 | u64::from(ip.src.is_ipv6());
        Some((Self([src[0], src[1], dst[0], dst[1], ports | rest]), turned))
    }

    /// A hash that nobody without `secret` can steer (the mixing step of wyhash).
    pub(super) const fn hash(&self, secret: &[u64; 6]) -> u64 {
        let [a, b, c, d, e] = self.0;
        let one = fold(a ^ secret[0], b ^ secret[1]);
        let two = fold(c ^ secret[2], d ^ secret[3]);
        fold(e ^ one ^ secret[4], two ^ secret[5])
    }
}

/// What the hash is keyed with.
pub(super) fn secret(random: &mut SplitMix64) -> [u64; 6] {
    core::array::from_fn(|_| random.next() | 1)
}

const fn fold(a: u64, b: u64) -> u64 {
    let wide = a as u128 * b as u128;
    #[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
    {
        wide as u64 ^ (wide >> 64) as u64
    }
}

fn words(address: &IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(address) => [0, address.to_bits().into()],
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h, rest @ ..] = address.octets();
            [
                u64::from_be_bytes([a, b, c, d, e, f, g, h]),
                u64::from_be_bytes(rest),
            ]
        }
    }
}
