//! Targets: arguments and lists, addresses and names.
//!
//! A list is read by a thread of its own, and names in it are resolved by a few more, so that
//! neither a slow pipe nor a slow name server keeps a probe waiting. Never more than a small part
//! of a list is in memory, except the addresses already used, which are needed to skip duplicates.

mod bell;
mod list;
mod reader;
#[cfg(test)]
mod tests;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::HashSet;
use std::io;
use std::net::ToSocketAddrs;

use crate::settings::Family;

pub(crate) use list::{List, Next, list_name};

/// Something to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its address.
    pub addr: IpAddr,
    /// The name that stood for it.
    pub name: Option<String>,
}

impl Target {
    /// Whether one host can have the address, so that there is something to measure.
    pub(crate) const fn is_unicast(&self) -> bool {
        match self.addr {
            IpAddr::V4(v4) => !v4.is_unspecified() && !v4.is_multicast() && !v4.is_broadcast(),
            IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast(),
        }
    }

    /// Reads an address or resolves a name, which may take as long as the system's resolver waits.
    ///
    /// # Errors
    ///
    /// Why there is no target, in a line.
    pub fn resolve(text: &str, family: Family) -> Result<Self, String> {
        if let Ok(addr) = text.parse::<IpAddr>() {
            return match (addr, family) {
                (IpAddr::V4(_), Family::V6) => {
                    Err(format!("{text} is an IPv4 address, but IPv6 is asked for"))
                }
                (IpAddr::V6(_), Family::V4) => {
                    Err(format!("{text} is an IPv6 address, but IPv4 is asked for"))
                }
                _ => Ok(Self { addr, name: None }),
            };
        }
        if !is_name(text) {
            let shown: String = text.chars().take(60).flat_map(char::escape_debug).collect();
            return Err(format!("'{shown}' is neither an address nor a name"));
        }
        let mut addresses = (text, 0)
            .to_socket_addrs()
            .map_err(|e| format!("cannot resolve {text}: {}", resolver_error(&e)))?
            .map(|socket| socket.ip());
        let found = addresses.find(|addr| match family {
            Family::Any => true,
            Family::V4 => addr.is_ipv4(),
            Family::V6 => addr.is_ipv6(),
        });
        match (found, family) {
            (Some(addr), _) => Ok(Self {
                addr,
                name: Some(text.to_owned()),
            }),
            (None, Family::V6) => Err(format!("{text} has no IPv6 address")),
            (None, Family::Any | Family::V4) => Err(format!("{text} has no IPv4 address")),
        }
    }
}

/// Addresses that have been seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    v4: HashSet<u32>,
    v6: HashSet<u128>,
}

impl Seen {
    /// Adds `addr` and says whether it is new.
    pub(crate) fn insert(&mut self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(addr) => self.v4.insert(Ipv4Addr::to_bits(addr)),
            IpAddr::V6(addr) => self.v6.insert(Ipv6Addr::to_bits(addr)),
        }
    }
}

/// Whether `text` can be a host name (RFC 1123 §2.1, with the underscores that exist), and not
/// one of the ways to write an IPv4 address that only inet_aton(3) knows.
fn is_name(text: &str) -> bool {
    let characters = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
    let last = text.trim_end_matches('.').rsplit('.').next();
    let numeric = |label: &str| {
        let hex = label.strip_prefix("0x").or(label.strip_prefix("0X"));
        match hex {
            Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
            None => label.bytes().all(|b| b.is_ascii_digit()),
        }
    };
    !text.is_empty()
        && text.len() <= 253
        && text.chars().all(characters)
        && !text.starts_with(['.', '-'])
        && !last.is_none_or(numeric)
}

/// What the resolver said, without the words that say that it was the resolver.
fn resolver_error(error: &io::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("failed to lookup address information: ")
        .unwrap_or(&text)
        .to_owned()
}
