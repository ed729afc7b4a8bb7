//! Addresses and prefixes as expressions write them.

use core::net::Ipv6Addr;

/// Why a network is none.
pub(super) type Reason = String;

/// A whole IPv4 address.
pub(super) fn v4_host(parts: &[u8]) -> Result<u32, Reason> {
    match parts {
        [a, b, c, d] => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => Err("an address has four numbers".to_owned()),
    }
}

/// An IPv4 network of one to four numbers and, if there is one, the length of its prefix. Without, it
/// has those numbers.
pub(super) fn v4_net(parts: &[u8], len: Option<u32>) -> Result<(u32, u32), Reason> {
    let mut bytes = [0; 4];
    bytes[..parts.len()].copy_from_slice(parts);
    let address = u32::from_be_bytes(bytes);
    let len = match len {
        Some(len) => len,
        None => u32::try_from(parts.len() * 8).unwrap_or(32),
    };
    if len > 32 {
        return Err("an IPv4 prefix has 32 bits at most".to_owned());
    }
    let mask = u32::MAX.checked_shl(32 - len).unwrap_or(0);
    if address & !mask != 0 {
        return Err("the address has bits outside of the prefix".to_owned());
    }
    Ok((address, mask))
}

/// An IPv6 network.
pub(super) fn v6_net(address: Ipv6Addr, len: u32) -> Result<(u128, u128), Reason> {
    if len > 128 {
        return Err("an IPv6 prefix has 128 bits at most".to_owned());
    }
    let mask = u128::MAX.checked_shl(128 - len).unwrap_or(0);
    let address = address.to_bits();
    if address & !mask != 0 {
        return Err("the address has bits outside of the prefix".to_owned());
    }
    Ok((address, mask))
}
