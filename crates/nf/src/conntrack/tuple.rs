//! What tells one connection from another.

use core::net::IpAddr;

use plumb_wire::icmp::Family;
use plumb_wire::{SplitMix64, protocol};

use crate::dissect::{Dissected, Icmp, Ip, Transport};

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
    /// The tuple of a packet; none for a later fragment, a damaged packet, or what is not IP.
    pub fn of(packet: &Dissected) -> Option<Self> {
        let ip = packet.ip.as_ref()?;
        Self::new(ip, &packet.transport)
    }

    pub(super) fn new(ip: &Ip, transport: &Transport) -> Option<Self> {
        let (src_port, dst_port) = match transport {
            Transport::Tcp(tcp) => (tcp.src, tcp.dst),
            Transport::Udp(udp) => (udp.src, udp.dst),
            Transport::Ports(ports) => (ports.src, ports.dst),
            Transport::Icmp(icmp) => (icmp.ident, u16::from_be_bytes([icmp.kind, icmp.code])),
            Transport::Other => (0, 0),
            Transport::None => return None,
        };
        Some(Self {
            src: ip.src,
            dst: ip.dst,
            protocol: ip.protocol,
            src_port,
            dst_port,
        })
    }

    /// The tuple of the answer; none for ICMP messages that have no answer.
    pub fn inverted(&self) -> Option<Self> {
        let (src_port, dst_port) = match self.icmp_family() {
            None => (self.dst_port, self.src_port),
            Some(family) => {
                let [kind, code] = self.dst_port.to_be_bytes();
                let answer = answer_to(family, kind)?;
                (self.src_port, u16::from_be_bytes([answer, code]))
            }
        };
        Some(Self {
            src: self.dst,
            dst: self.src,
            protocol: self.protocol,
            src_port,
            dst_port,
        })
    }

    /// The family of ICMP that it is of, if any.
    fn icmp_family(&self) -> Option<Family> {
        match self.protocol {
            protocol::ICMP if self.src.is_ipv4() => Some(Family::V4),
            protocol::ICMPV6 if self.src.is_ipv6() => Some(Family::V6),
            _ => None,
        }
    }
}

/// The type of the answer to a query, and of the query to an answer (`nf_ct_invert_icmp_tuple`).
const fn answer_to(family: Family, kind: u8) -> Option<u8> {
    Some(match (family, kind) {
        (Family::V4, 8) => 0,
        (Family::V4, 0) => 8,
        (Family::V4, 13) => 14,
        (Family::V4, 14) => 13,
        (Family::V4, 15) => 16,
        (Family::V4, 16) => 15,
        (Family::V4, 17) => 18,
        (Family::V4, 18) => 17,
        (Family::V6, 128) => 129,
        (Family::V6, 129) => 128,
        (Family::V6, 139) => 140,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key([u64; 5]);

impl Key {
    pub(super) fn new(tuple: &Tuple, zone: u16) -> Self {
        let turned;
        let tuple = match tuple.icmp_family() {
            // A question and an answer have the same end as source if turned to the question.
            Some(_) => {
                let [kind, _] = tuple.dst_port.to_be_bytes();
                let is_answer = matches!(kind, 0 | 14 | 16 | 18 | 129 | 140);
                match tuple.inverted() {
                    Some(inverted) if is_answer => {
                        turned = inverted;
                        &turned
                    }
                    _ => tuple,
                }
            }
            None if (tuple.src, tuple.src_port) > (tuple.dst, tuple.dst_port) => {
                turned = Tuple {
                    src: tuple.dst,
                    dst: tuple.src,
                    src_port: tuple.dst_port,
                    dst_port: tuple.src_port,
                    ..*tuple
                };
                &turned
            }
            None => tuple,
        };
        let (src, dst) = (words(tuple.src), words(tuple.dst));
        let ports = u64::from(tuple.src_port) << 48 | u64::from(tuple.dst_port) << 32;
        let rest =
            u64::from(zone) << 16 | u64::from(tuple.protocol) << 8 | u64::from(tuple.src.is_ipv6());
        Self([src[0], src[1], dst[0], dst[1], ports | rest])
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

fn words(address: IpAddr) -> [u64; 2] {
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
