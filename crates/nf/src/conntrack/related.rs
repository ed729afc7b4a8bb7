//! ICMP errors: the packet that they quote says which connection they are about.

use core::net::IpAddr;

use plumb_wire::icmp::{self, Family};

use crate::dissect::{Icmp, Ip, Transport, quoted};

use super::verdict::Invalid;

/// The hop limit of neighbour discovery: it has crossed no router (RFC 4861 §6.1.1).
const FROM_NEIGHBOUR: u8 = 255;
const REDIRECT: u8 = 137;

/// Says whether a message is an error, or a redirect, which quotes as errors do.
pub(super) const fn is_error(icmp: &Icmp) -> bool {
    match icmp.family {
        Family::V4 => matches!(icmp.kind, 3 | 4 | 5 | 11 | 12),
        Family::V6 => icmp.kind < 128 || icmp.kind == REDIRECT,
    }
}

/// The quoted packet as it was sent.
///
/// Neither its length nor its checksums are looked at: the quote is the start of what the router
/// had, which may have changed it.
pub(super) fn quote(ip: &Ip, icmp: &Icmp, bytes: &[u8]) -> Result<(Ip, Transport), Invalid> {
    let mut at = ip.payload + icmp::HEADER_LEN;
    let is_redirect = icmp.family == Family::V6 && icmp.kind == REDIRECT;
    if is_redirect {
        // Target and destination, then an option that holds the packet (RFC 4861 §4.6.3).
        const OPTION: u8 = 4;
        at += 32;
        let from_neighbour = ip.ttl == FROM_NEIGHBOUR
            && matches!(ip.src, IpAddr::V6(src) if src.is_unicast_link_local());
        if !from_neighbour || bytes.get(at) != Some(&OPTION) {
            return Err(Invalid::IcmpNoQuestion);
        }
        at += 8;
    }
    let bytes = bytes.get(..ip.end).unwrap_or(bytes);
    let (quote, transport) = quoted(bytes, at, icmp.family).ok_or(Invalid::IcmpNoConnection)?;
    if !is_redirect && ip.dst != quote.src {
        return Err(Invalid::IcmpWrongTarget);
    }
    Ok((quote, transport))
}
