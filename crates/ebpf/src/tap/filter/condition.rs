//! What an expression asks of a packet.

use super::super::cbpf::code;

/// A question with yes or no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    /// A value that is loaded compares like this with a constant.
    Test {
        value: Value,
        comparison: Comparison,
        with: u32,
    },
    /// Two values compare like this.
    Compare {
        left: Box<Value>,
        comparison: Comparison,
        right: Box<Value>,
    },
}

/// How two numbers compare; none is negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    /// They have a bit in common.
    SomeBits,
}

/// A number that a packet gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Constant(u32),
    /// Length of the packet.
    Len,
    /// Bytes at an offset.
    At {
        offset: u32,
        size: u8,
    },
    /// Bytes at an offset behind the IPv4 header that begins at `ip`.
    BehindIp {
        ip: u32,
        offset: u32,
        size: u8,
    },
    /// Bytes at an offset that is computed, from `base` on; behind the IPv4 header if that begins
    /// there.
    Indexed {
        base: u32,
        behind_ip: bool,
        index: Box<Self>,
        size: u8,
    },
    /// The result of an operation of classic BPF.
    Operation {
        operation: u16,
        left: Box<Self>,
        right: Box<Self>,
    },
    Negative(Box<Self>),
}

impl Value {
    /// Of which only these bits are looked at.
    pub(super) fn masked(self, mask: u32) -> Self {
        Self::Operation {
            operation: code::AND,
            left: Box::new(self),
            right: Box::new(Self::Constant(mask)),
        }
    }

    pub(super) fn equals(self, with: u32) -> Condition {
        self.compares(Comparison::Equal, with)
    }

    pub(super) const fn compares(self, comparison: Comparison, with: u32) -> Condition {
        Condition::Test {
            value: self,
            comparison,
            with,
        }
    }
}

impl Condition {
    pub(super) fn and(self, other: Self) -> Self {
        if let Self::All(mut conditions) = self {
            conditions.push(other);
            return Self::All(conditions);
        }
        Self::All(vec![self, other])
    }

    pub(super) fn or(self, other: Self) -> Self {
        if let Self::Any(mut conditions) = self {
            conditions.push(other);
            return Self::Any(conditions);
        }
        Self::Any(vec![self, other])
    }

    pub(super) fn not(self) -> Self {
        Self::Not(Box::new(self))
    }
}
