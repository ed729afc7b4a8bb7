//! From an address to who has it: longest prefix match by binary search.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::topology::Answer;

/// Who a destination belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) node: u16,
    pub(crate) scope: Scope,
}

/// What of the node an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Loopback,
    /// Of the interface with this index.
    Interface(u16),
    /// Of a prefix in which the node answers everywhere.
    Prefix,
    /// In the prefix of the interface with this index, but nobody's.
    Unassigned(u16),
    /// In a prefix that the node refuses.
    Refused(Answer),
}

impl Owner {
    /// Says whether a node has the address itself.
    pub(crate) const fn is_answered(self) -> bool {
        matches!(
            self.scope,
            Scope::Loopback | Scope::Interface(_) | Scope::Prefix
        )
    }
}

/// A prefix, as the range of its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) v6: bool,
    pub(crate) first: u128,
    pub(crate) last: u128,
}

impl Range {
    /// The prefix of `len` bits that holds `address`.
    pub(crate) fn new(address: IpAddr, len: u8) -> Self {
        let (v6, bits, width) = key(address);
        let host = match width - u32::from(len).min(width) {
            0 => 0,
            n => u128::MAX >> (128 - n),
        };
        Self {
            v6,
            first: bits & !host,
            last: bits | host,
        }
    }

    /// The address `n` places after the first, if it is still inside.
    pub(crate) fn nth(&self, n: u128) -> Option<IpAddr> {
        let bits = self.first.checked_add(n).filter(|&b| b <= self.last)?;
        Some(if self.v6 {
            IpAddr::V6(bits.into())
        } else {
            IpAddr::V4(u32::try_from(bits).ok()?.into())
        })
    }

    /// Length of the prefix in bits.
    pub(crate) fn prefix_len(&self) -> u8 {
        let host = 128 - (self.last - self.first).leading_zeros();
        u8::try_from(if self.v6 { 128 } else { 32 } - host).unwrap_or(0)
    }

    /// The prefix as it is written; a single address without length.
    pub(crate) fn to_text(self) -> String {
        match self.nth(0) {
            Some(only) if self.first == self.last => format!("{only}"),
            Some(first) => format!("{first}/{}", self.prefix_len()),
            None => String::new(),
        }
    }
}

/// All prefixes of a network, cut into disjoint ranges.
#[derive(Debug, Default)]
pub(crate) struct Lookup {
    v4: Vec<(u128, Option<Owner>)>,
    v6: Vec<(u128, Option<Owner>)>,
}

impl Lookup {
    /// Builds the table, or returns the range that two nodes claim, with the two.
    pub(crate) fn new(mut entries: Vec<(Range, Owner)>) -> Result<Self, (Range, u16, u16)> {
        entries.sort_by_key(|(r, _)| (r.v6, r.first, u128::MAX - r.last));
        for pair in entries.windows(2) {
            if pair[0].0 == pair[1].0 {
                return Err((pair[0].0, pair[0].1.node, pair[1].1.node));
            }
        }
        let split = entries.partition_point(|(r, _)| !r.v6);
        Ok(Self {
            v4: flatten(&entries[..split]),
            v6: flatten(&entries[split..]),
        })
    }

    /// The owner of the longest prefix that holds `address`.
    pub(crate) fn find(&self, address: IpAddr) -> Option<Owner> {
        let (v6, bits, _) = key(address);
        let table = if v6 { &self.v6 } else { &self.v4 };
        let after = table.partition_point(|&(first, _)| first <= bits);
        table[..after].last().and_then(|&(_, owner)| owner)
    }
}

/// Nested ranges, sorted by start and then by falling length, become a list of starts, each with
/// the owner from there to the next.
fn flatten(entries: &[(Range, Owner)]) -> Vec<(u128, Option<Owner>)> {
    fn mark(out: &mut Vec<(u128, Option<Owner>)>, at: u128, owner: Option<Owner>) {
        match out.last_mut() {
            Some(last) if last.0 == at => last.1 = owner,
            _ => out.push((at, owner)),
        }
    }
    fn close(out: &mut Vec<(u128, Option<Owner>)>, open: &mut Vec<(Range, Owner)>) {
        if let Some((range, _)) = open.pop()
            && let Some(next) = range.last.checked_add(1)
        {
            mark(out, next, open.last().map(|&(_, o)| o));
        }
    }
    let mut out = Vec::new();
    let mut open: Vec<(Range, Owner)> = Vec::new();
    for &(range, owner) in entries {
        while open.last().is_some_and(|(o, _)| o.last < range.first) {
            close(&mut out, &mut open);
        }
        mark(&mut out, range.first, Some(owner));
        open.push((range, owner));
    }
    while !open.is_empty() {
        close(&mut out, &mut open);
    }
    out
}

fn key(address: IpAddr) -> (bool, u128, u32) {
    match address {
        IpAddr::V4(a) => (false, u128::from(a.to_bits()), 32),
        IpAddr::V6(a) => (true, a.to_bits(), 128),
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use std::string::ToString;

    use super::*;

    fn range(text: &str) -> Range {
        let (address, len) = text.split_once('/').unwrap();
        Range::new(address.parse().unwrap(), len.parse().unwrap())
    }

    fn owner(node: u16) -> Owner {
        Owner {
            node,
            scope: Scope::Prefix,
        }
    }

    #[test]
    fn the_longest_prefix_wins_and_gaps_belong_to_nobody() {
        let table = Lookup::new(vec![
            (range("5.0.0.0/8"), owner(1)),
            (range("5.4.0.0/16"), owner(2)),
            (range("5.4.255.255/32"), owner(3)),
            (range("7.0.0.0/8"), owner(4)),
            (range("255.255.255.255/32"), owner(5)),
            (range("2a00::/16"), owner(6)),
        ])
        .unwrap();
        for (address, expected) in [
            ("4.255.255.255", None),
            ("5.0.0.0", Some(1)),
            ("5.4.0.0", Some(2)),
            ("5.4.255.254", Some(2)),
            ("5.4.255.255", Some(3)),
            ("5.5.0.0", Some(1)),
            ("6.0.0.0", None),
            ("7.9.9.9", Some(4)),
            ("8.0.0.0", None),
            ("255.255.255.255", Some(5)),
            ("2a00::1", Some(6)),
            ("2a01::1", None),
        ] {
            let found = table.find(address.parse().unwrap()).map(|o| o.node);
            assert_eq!(found, expected, "{address}");
        }
    }

    #[test]
    fn two_owners_of_one_prefix_are_named() {
        let clash = Lookup::new(vec![
            (range("5.0.0.0/8"), owner(1)),
            (range("5.0.0.0/8"), owner(2)),
        ]);
        let (range, a, b) = clash.unwrap_err();
        assert_eq!(range.nth(0).unwrap().to_string(), "5.0.0.0");
        assert_eq!((a, b), (1, 2));
    }
}
