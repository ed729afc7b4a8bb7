//! What can be wrong with a topology file.

use alloc::string::String;
use core::net::IpAddr;

/// Why a topology cannot be used. Every message names what the user has to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// Not TOML, or a key or value that the format does not have; the message names the line.
    #[error("{0}")]
    Syntax(String),
    /// More of something than a topology may have.
    #[error("too many {what}: at most {limit}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// A name that nothing has.
    #[error("{place} names {name:?}, which is no {expected}")]
    Unknown {
        /// Where the name stands.
        place: String,
        /// The name.
        name: String,
        /// What it should name.
        expected: &'static str,
    },
    /// Two things of one name.
    #[error("{name:?} is declared twice")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A value out of its range.
    #[error("{place}: {value:?} is not {expected}")]
    BadValue {
        /// Where the value stands.
        place: String,
        /// The value as it was written.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// An address that measurement tools ignore because no router on the Internet has it.
    #[error("{place}: {address} is in a reserved block, which measurement tools ignore")]
    Reserved {
        /// Where the address stands.
        place: String,
        /// The address.
        address: IpAddr,
    },
    /// An address or prefix that two nodes have.
    #[error("{address} belongs to both {first:?} and {second:?}")]
    AddressTaken {
        /// The address, or the prefix.
        address: String,
        /// One owner.
        first: String,
        /// The other.
        second: String,
    },
    /// A block too small for what automatic addressing has to take from it.
    #[error("block {block} is too small to number all {what}")]
    BlockTooSmall {
        /// The block.
        block: String,
        /// What is numbered from it.
        what: &'static str,
    },
    /// Anything else that contradicts itself.
    #[error("{place}: {problem}")]
    Contradiction {
        /// Where.
        place: String,
        /// What.
        problem: &'static str,
    },
}

impl TopologyError {
    pub(crate) const fn too_many(what: &'static str, limit: usize) -> Self {
        Self::TooMany { what, limit }
    }

    pub(crate) fn unknown(place: String, name: &str, expected: &'static str) -> Self {
        Self::Unknown {
            place,
            name: name.into(),
            expected,
        }
    }

    pub(crate) fn bad(place: String, value: &str, expected: &'static str) -> Self {
        Self::BadValue {
            place,
            value: value.into(),
            expected,
        }
    }
}
