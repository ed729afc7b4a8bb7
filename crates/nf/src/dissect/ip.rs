//! IP headers of both versions.

use core::net::IpAddr;

use plumb_wire::{checksum, ipv4, ipv6};

use crate::offload::get;

use super::{Extensions, Fault, Fragment, Ip};

pub(super) const HOP_BY_HOP: u8 = 0;
pub(super) const ROUTING: u8 = 43;
pub(super) const FRAGMENT: u8 = 44;
pub(super) const AUTHENTICATION: u8 = 51;
pub(super) const DESTINATION: u8 = 60;

/// Extension headers that are followed at most.
const MOST_EXTENSIONS: usize = 16;

/// Reads an IPv4 header, and says what is wrong with it where it can be read all the same. The frame may
/// have been cut off: it had `whole` bytes. The header goes where it is to stay: what was written part by
/// part is slow to move at once.
#[inline(always)]
pub(super) fn v4<'a>(
    bytes: &[u8],
    at: usize,
    whole: usize,
    into: &'a mut Option<Ip>,
) -> Result<(&'a Ip, Option<Fault>), Fault> {
    let packet = bytes.get(at..).ok_or(Fault::IpHeader)?;
    let (header, rest) = ipv4::Header::parse(packet).map_err(|_| Fault::IpHeader)?;
    let header_len = packet.len() - rest.len();
    let len = usize::from(header.total_len);
    let end = (at + len).min(bytes.len()).max(at + header_len);
    let (more, offset) = (
        header.flags_fragment & ipv4::MORE_FRAGMENTS != 0,
        header.flags_fragment << 3,
    );
    let is_fragment = more || offset != 0;
    let ip = into.insert(Ip {
        src: IpAddr::V4(header.src),
        dst: IpAddr::V4(header.dst),
        tos: header.tos,
        ttl: header.ttl,
        len: header.total_len.into(),
        flow_label: 0,
        ident: header.ident,
        dont_fragment: header.flags_fragment & ipv4::DONT_FRAGMENT != 0,
        fragment: is_fragment.then(|| Fragment {
            ident: header.ident.into(),
            offset,
            more,
            start: at + header_len,
        }),
        extensions: Extensions::default(),
        protocol: header.protocol,
        payload: at + header_len,
        payload_len: u32::from(header.total_len).saturating_sub(word(header_len)),
        end,
    });
    let fault = if checksum(&packet[..header_len]) != 0 {
        Some(Fault::IpChecksum)
    } else if len < header_len || len > whole.saturating_sub(at) {
        Some(Fault::IpLength)
    } else {
        impossible(ip)
    };
    Ok((ip, fault))
}

/// The same for IPv6, with its extension headers.
pub(super) fn v6<'a>(
    bytes: &[u8],
    at: usize,
    whole: usize,
    into: &'a mut Option<Ip>,
) -> Result<(&'a Ip, Option<Fault>), Fault> {
    let packet = bytes.get(at..).ok_or(Fault::IpHeader)?;
    let (header, rest) = ipv6::Header::parse(packet).map_err(|_| Fault::IpHeader)?;
    let payload_len = usize::from(header.payload_len);
    let end = bytes.len().min(at + ipv6::HEADER_LEN + payload_len);
    let ip = into.insert(Ip {
        src: IpAddr::V6(header.src),
        dst: IpAddr::V6(header.dst),
        tos: header.traffic_class,
        ttl: header.hop_limit,
        len: u32::from(header.payload_len) + 40,
        flow_label: header.flow_label,
        ident: 0,
        dont_fragment: false,
        fragment: None,
        extensions: Extensions::default(),
        protocol: header.next_header,
        payload: at + ipv6::HEADER_LEN,
        payload_len: header.payload_len.into(),
        end,
    });
    if payload_len > whole.saturating_sub(bytes.len() - rest.len()) {
        return Ok((ip, Some(Fault::IpLength)));
    }
    for _ in 0..=MOST_EXTENSIONS {
        let number = ip.protocol;
        let here = &bytes[ip.payload..end];
        let len = match number {
            HOP_BY_HOP | ROUTING | DESTINATION => here.get(1).map(|n| (usize::from(*n) + 1) * 8),
            AUTHENTICATION => here.get(1).map(|n| (usize::from(*n) + 2) * 4),
            FRAGMENT => Some(8),
            _ => return Ok((ip, None)),
        };
        let Some(extension) = len.and_then(|len| here.get(..len)) else {
            break;
        };
        ip.extensions = ip.extensions.with(number);
        ip.protocol = extension[0];
        ip.payload += extension.len();
        ip.payload_len = ip.payload_len.saturating_sub(word(extension.len()));
        if number == FRAGMENT {
            let offset = get(extension, 2);
            ip.fragment = Some(Fragment {
                ident: u32::from_be_bytes([extension[4], extension[5], extension[6], extension[7]]),
                offset: offset & 0xfff8,
                more: offset & 1 != 0,
                start: ip.payload,
            });
            let fault = impossible(ip);
            if ip.is_later() || fault.is_some() {
                return Ok((ip, fault));
            }
        }
    }
    Ok((ip, Some(Fault::Extension)))
}

/// Says whether a fragment cannot be a piece of any datagram.
fn impossible(ip: &Ip) -> Option<Fault> {
    let fragment = ip.fragment?;
    let ends_odd = fragment.more && !ip.payload_len.is_multiple_of(8);
    let ends_behind = u32::from(fragment.offset) + ip.payload_len > u32::from(u16::MAX);
    (ends_odd || ends_behind).then_some(Fault::FragmentLength)
}

/// The length of a header, which is short.
fn word(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
