//! Prefixes as they are written, and the automatic numbering of links.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use core::net::IpAddr;

use super::error::TopologyError;
use super::file::Addresses;
use crate::lookup::Range;

/// Where automatic link addresses come from.
pub(super) struct Blocks {
    v4: Option<Range>,
    v6: Option<Range>,
    /// Length of an IPv4 link's prefix; that of IPv6 is 96 more.
    subnet: u8,
}

impl Blocks {
    pub(super) fn new(a: &Addresses) -> Result<Self, TopologyError> {
        if !a.ipv4.unwrap_or(true) && !a.ipv6.unwrap_or(false) {
            return Err(TopologyError::Contradiction {
                place: "addresses".to_owned(),
                problem: "it turns both IP versions off",
            });
        }
        let subnet = a.link_prefix_len.unwrap_or(30);
        if !(30..=31).contains(&subnet) {
            let place = "addresses.link_prefix_len".to_owned();
            return Err(TopologyError::bad(place, &subnet.to_string(), "30 or 31"));
        }
        let v4 = block(a.links_v4.as_deref(), "5.0.0.0/12", false)?;
        let v6 = block(a.links_v6.as_deref(), "2a0b:5000::/48", true)?;
        Ok(Self {
            v4: a.ipv4.unwrap_or(true).then_some(v4),
            v6: a.ipv6.unwrap_or(false).then_some(v6),
            subnet,
        })
    }

    /// The IPv4 prefix of link `number`, from 1 on: the first of the block's `number`th /24.
    pub(super) fn v4(&self, number: usize) -> Result<Option<Range>, TopologyError> {
        let nth = |block| Self::nth(block, number, 24, self.subnet);
        self.v4.map(nth).transpose()
    }

    /// The IPv6 prefix of link `number`, from 1 on: the first of the block's `number`th /64.
    pub(super) fn v6(&self, number: usize) -> Result<Option<Range>, TopologyError> {
        let nth = |block| Self::nth(block, number, 64, self.subnet + 96);
        self.v6.map(nth).transpose()
    }

    fn nth(block: Range, number: usize, stride: u8, len: u8) -> Result<Range, TopologyError> {
        let width = if block.v6 { 128 } else { 32 };
        u128::try_from(number)
            .ok()
            .and_then(|n| block.nth(n << (width - u32::from(stride))))
            .map(|address| Range::new(address, len))
            .ok_or_else(|| TopologyError::BlockTooSmall {
                block: block.to_text(),
                what: "links",
            })
    }
}

/// The block in `text`, which is of IPv6 if `v6`.
pub(super) fn block(text: Option<&str>, default: &str, v6: bool) -> Result<Range, TopologyError> {
    let text = text.unwrap_or(default);
    let place = || "addresses".to_owned();
    parse_prefix_of(v6, text, &place)
}

/// Reads a prefix that must be of one IP version: IPv6 if `v6`.
pub(super) fn parse_prefix_of(
    v6: bool,
    text: &str,
    place: &dyn Fn() -> String,
) -> Result<Range, TopologyError> {
    let range = parse_prefix(text, place)?;
    let expected = if v6 {
        "an IPv6 prefix"
    } else {
        "an IPv4 prefix"
    };
    (range.v6 == v6)
        .then_some(range)
        .ok_or_else(|| TopologyError::bad(place(), text, expected))
}

/// Reads a prefix of either IP version.
pub(super) fn parse_prefix(text: &str, place: &dyn Fn() -> String) -> Result<Range, TopologyError> {
    const EXPECTED: &str = "a prefix such as 5.16.0.0/12 or 2a0b:1::/48, host bits zero";
    let parsed = text.split_once('/').and_then(|(address, len)| {
        let address: IpAddr = address.parse().ok()?;
        let len: u8 = len.parse().ok()?;
        let range =
            (len <= if address.is_ipv4() { 32 } else { 128 }).then(|| Range::new(address, len))?;
        (range.nth(0) == Some(address)).then_some(range)
    });
    parsed.ok_or_else(|| TopologyError::bad(place(), text, EXPECTED))
}
