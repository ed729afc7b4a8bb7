//! Refusals: what a sender is told about a packet that may not pass.
//!
//! A stage has no address. As nftables does on a bridge, it speaks for the packet's destination.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::IpAddr;

use plumb_wire::{Checksum, Instant, ethernet, icmp, ipv4, ipv6, protocol, tcp};

use crate::dissect::{Dissected, Icmp, Ip, Tcp, Transport};
use crate::{Frame, Parts};

use super::syntax::ast::Reject;

/// Bytes of a refusal of IPv4 at most (RFC 1812 §4.3.2.3).
const MOST_V4: usize = 576;
/// Bytes of a refusal of IPv6 at most (RFC 4443 §2.4).
const MOST_V6: usize = 1280;
const TTL: u8 = 64;
const UNREACHABLE_V4: u8 = 3;
const UNREACHABLE_V6: u8 = 1;

/// Makes the refusal of a packet; none where there must not be any.
pub(super) fn answer(frame: &Frame, packet: &Dissected, reject: Reject) -> Option<Frame> {
    let ip = packet.ip.as_ref()?;
    let is_for_one = ethernet::is_unicast(packet.dst_mac) && ethernet::is_unicast(packet.src_mac);
    if !is_for_one || !is_host(ip.src) || !is_host(ip.dst) || !packet.checksum_is_right(frame) {
        return None;
    }
    let payload = match reject {
        Reject::TcpReset => match &packet.transport {
            Transport::Tcp(segment) => reset(ip, segment)?,
            _ => return None,
        },
        Reject::Default | Reject::Icmp(_) | Reject::Icmpv6(_) | Reject::Icmpx(_) => {
            unreachable(frame, packet, ip, code(reject, ip)?)?
        }
    };
    let number = match (reject, ip.src) {
        (Reject::TcpReset, _) => protocol::TCP,
        (_, IpAddr::V4(_)) => protocol::ICMP,
        (_, IpAddr::V6(_)) => protocol::ICMPV6,
    };
    let mut bytes = Vec::with_capacity(packet.network + ipv6::HEADER_LEN + payload.len());
    bytes.extend_from_slice(&packet.src_mac);
    bytes.extend_from_slice(&packet.dst_mac);
    bytes.extend_from_slice(frame.bytes.get(12..packet.network)?);
    header(&mut bytes, ip, number, payload.len())?;
    bytes.extend_from_slice(&payload);
    Some(Frame::from(Parts {
        at: frame.at,
        bytes,
        ..Parts::default()
    }))
}

/// Says whether an address is that of one host.
fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !(address.is_multicast() || address.is_broadcast() || address.is_unspecified())
        }
        IpAddr::V6(address) => !(address.is_multicast() || address.is_unspecified()),
    }
}

/// The code of "destination unreachable" in the packet's own family.
const fn code(reject: Reject, ip: &Ip) -> Option<u8> {
    match (reject, ip.src) {
        (Reject::Default | Reject::Icmpx(1), IpAddr::V4(_)) => Some(3),
        (Reject::Default | Reject::Icmpx(1), IpAddr::V6(_)) => Some(4),
        (Reject::Icmpx(0), _) => Some(0),
        (Reject::Icmpx(2), IpAddr::V4(_)) => Some(1),
        (Reject::Icmpx(2), IpAddr::V6(_)) => Some(3),
        (Reject::Icmpx(_), IpAddr::V4(_)) => Some(13),
        (Reject::Icmpx(_), IpAddr::V6(_)) => Some(1),
        (Reject::Icmp(code), IpAddr::V4(_)) | (Reject::Icmpv6(code), IpAddr::V6(_)) => Some(code),
        (Reject::Icmp(_) | Reject::Icmpv6(_) | Reject::TcpReset, _) => None,
    }
}

/// The message that quotes the packet.
fn unreachable(frame: &Frame, packet: &Dissected, ip: &Ip, code: u8) -> Option<Vec<u8>> {
    // Nobody is told of an error in an error (RFC 1122 §3.2.2).
    if let Transport::Icmp(Icmp { kind, .. }) = &packet.transport {
        let is_query = match ip.src {
            IpAddr::V4(_) => matches!(kind, 0 | 8 | 9 | 10 | 13..=18),
            IpAddr::V6(_) => *kind >= 128,
        };
        if !is_query {
            return None;
        }
    }
    let (most, header) = match ip.src {
        IpAddr::V4(_) => (MOST_V4, ipv4::HEADER_LEN),
        IpAddr::V6(_) => (MOST_V6, ipv6::HEADER_LEN),
    };
    let quote = frame.bytes.get(packet.network..ip.end)?;
    let quote = &quote[..quote.len().min(most - header - icmp::HEADER_LEN)];
    let mut message = Vec::with_capacity(icmp::HEADER_LEN + quote.len());
    message.extend_from_slice(&[0, code, 0, 0, 0, 0, 0, 0]);
    message.extend_from_slice(quote);
    match (ip.src, ip.dst) {
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            message[0] = UNREACHABLE_V6;
            icmp::fill_checksum_v6(dst, src, &mut message);
        }
        _ => {
            message[0] = UNREACHABLE_V4;
            icmp::fill_checksum_v4(&mut message);
        }
    }
    Some(message)
}

/// The reset of a segment (RFC 9293 §3.10.7.1); none for a reset.
fn reset(ip: &Ip, segment: &Tcp) -> Option<Vec<u8>> {
    if segment.flags & tcp::RST != 0 {
        return None;
    }
    let has_ack = segment.flags & tcp::ACK != 0;
    let used = u32::from(segment.flags & tcp::SYN != 0) + u32::from(segment.flags & tcp::FIN != 0);
    let mut header = tcp::Header {
        src_port: segment.dst,
        dst_port: segment.src,
        seq: if has_ack { segment.ack } else { 0 },
        ack: if has_ack {
            0
        } else {
            let end = segment.seq.wrapping_add(used);
            end.wrapping_add(segment.payload_len)
        },
        flags: if has_ack {
            tcp::RST
        } else {
            tcp::RST | tcp::ACK
        },
        window: 0,
        checksum: 0,
    };
    let mut bytes = [0; tcp::HEADER_LEN];
    header.emit(&mut bytes);
    header.checksum = Checksum::new()
        .pseudo_header(ip.dst, ip.src, protocol::TCP, bytes.len())
        .bytes(&bytes)
        .finish();
    header.emit(&mut bytes);
    Some(bytes.to_vec())
}

/// Writes the IP header of what goes back.
fn header(into: &mut Vec<u8>, ip: &Ip, number: u8, payload: usize) -> Option<()> {
    let at = into.len();
    match (ip.src, ip.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            into.resize(at + ipv4::HEADER_LEN, 0);
            ipv4::Header {
                tos: 0,
                total_len: u16::try_from(ipv4::HEADER_LEN + payload).ok()?,
                ident: 0,
                flags_fragment: ipv4::DONT_FRAGMENT,
                ttl: TTL,
                protocol: number,
                src: dst,
                dst: src,
            }
            .emit(&mut into[at..]);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            into.resize(at + ipv6::HEADER_LEN, 0);
            ipv6::Header {
                traffic_class: 0,
                flow_label: 0,
                payload_len: u16::try_from(payload).ok()?,
                next_header: number,
                hop_limit: TTL,
                src: dst,
                dst: src,
            }
            .emit(&mut into[at..]);
        }
        _ => return None,
    }
    Some(())
}

/// How many refusals by ICMP there may be, as Linux has it: `icmp_ratelimit`, and
/// `icmp_msgs_per_sec` with `icmp_msgs_burst`. Resets are not limited, as there.
#[derive(Debug)]
pub(super) struct Pace {
    /// When each of those who were told last may be told again, as a debt in time.
    targets: BTreeMap<IpAddr, Instant>,
    oldest: BTreeSet<(Instant, IpAddr)>,
    all: Instant,
    pub(super) suppressed: u64,
}

impl Pace {
    /// One message per second to a target, six at once.
    const TARGET_NS: u64 = 1_000_000_000;
    const TARGET_BURST: u64 = 6;
    /// A thousand per second in all, fifty at once.
    const ALL_NS: u64 = 1_000_000;
    const ALL_BURST: u64 = 50;
    /// Targets that are remembered at most; those whose debt is oldest are forgotten.
    const MOST: usize = 1024;

    pub(super) const fn new() -> Self {
        Self {
            targets: BTreeMap::new(),
            oldest: BTreeSet::new(),
            all: Instant::ZERO,
            suppressed: 0,
        }
    }

    /// Says whether somebody may be told something now, and takes note of it.
    pub(super) fn allows(&mut self, target: IpAddr, now: Instant) -> bool {
        let known = self.targets.get(&target).copied();
        let one = paid(
            known.unwrap_or(Instant::ZERO),
            now,
            Self::TARGET_NS,
            Self::TARGET_BURST,
        );
        let all = paid(self.all, now, Self::ALL_NS, Self::ALL_BURST);
        let (Some(one), Some(all)) = (one, all) else {
            self.suppressed += 1;
            return false;
        };
        self.all = all;
        if let Some(known) = known {
            self.oldest.remove(&(known, target));
        } else if self.targets.len() >= Self::MOST
            && let Some((_, oldest)) = self.oldest.pop_first()
        {
            self.targets.remove(&oldest);
        }
        self.targets.insert(target, one);
        self.oldest.insert((one, target));
        true
    }
}

/// Until when all is paid for, if `burst` messages fit before now; none if there is no room.
fn paid(until: Instant, now: Instant, each: u64, burst: u64) -> Option<Instant> {
    let start = until.max(now).as_nanos();
    let ahead = start - now.as_nanos();
    (ahead <= each * (burst - 1)).then(|| Instant::from_nanos(start.saturating_add(each)))
}
