//! Rules as they are evaluated: names resolved, values of a type, in the order of the hooks.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::limit::{Allowance, Bucket};
use super::narrow::Narrow;
use super::set::{Data, Element, Fixed};
use super::syntax::ast::{Family, Hook, How, Kind, Limit, Reject, Step};
use super::syntax::field::Field;

/// What a ruleset says; see [`Ruleset`](super::Ruleset).
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub(super) chains: Vec<Chain>,
    /// Base chains that come before connection tracking, in order.
    pub(super) before: Vec<usize>,
    /// Base chains behind it, in order.
    pub(super) after: Vec<usize>,
    pub(super) sets: Vec<Set>,
    pub(super) counters: Vec<Named<Count>>,
    pub(super) limits: Vec<Named<Bucket>>,
    pub(super) quotas: Vec<Named<Allowance>>,
    /// How many bytes behind the beginning of a header rules look at, at most.
    pub(super) reach: usize,
}

/// Something that changes, and what it is called, so that it is found again after a reload.
#[derive(Clone, Debug)]
pub(super) struct Named<T> {
    /// Says where it belongs and how it was declared.
    pub(super) identity: String,
    /// For people; empty if it belongs to a rule.
    pub(super) name: String,
    pub(super) start: T,
}

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl Count {
    pub(super) fn add(&mut self, len: u32) {
        self.packets += 1;
        self.bytes += u64::from(len);
    }
}

#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub(super) family: Family,
    pub(super) table: String,
    pub(super) name: String,
    pub(super) base: Option<Base>,
    pub(super) rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
pub(super) struct Base {
    pub(super) hook: Hook,
    pub(super) priority: i32,
    pub(super) drops: bool,
    /// File and line.
    pub(super) place: String,
}

#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) ops: Vec<Op>,
    /// File and line.
    pub(super) place: String,
    /// As it is written, on one line.
    pub(super) text: String,
    /// Says which rule it is, whatever line it is on.
    pub(super) identity: String,
    /// Its own counter, if it has one.
    pub(super) counter: Option<usize>,
}

#[derive(Clone, Debug)]
pub(super) enum Op {
    /// As `Range`, in a form that is quick to evaluate.
    Narrow(Narrow),
    /// The value lies between two others, both included.
    Range {
        key: Operand,
        first: u128,
        last: u128,
        negated: bool,
    },
    Lookup {
        key: Vec<Operand>,
        set: usize,
        negated: bool,
    },
    VerdictMap {
        key: Vec<Operand>,
        set: usize,
    },
    Counter(usize),
    Limit(usize),
    Quota(usize),
    Log {
        prefix: String,
        level: &'static str,
    },
    Update(Update),
    SetMark(Value),
    SetCtMark(Value),
    Notrack,
    Reject(Reject),
    Verdict(Verdict),
}

impl Op {
    /// A value lies between two others, both included.
    pub(super) fn range(key: Operand, first: u128, last: u128, negated: bool) -> Self {
        match Narrow::new(&key, first, last, negated) {
            Some(narrow) => Self::Narrow(narrow),
            None => Self::Range {
                key,
                first,
                last,
                negated,
            },
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Operand {
    pub(super) field: Field,
    pub(super) steps: Vec<(Step, u128)>,
}

#[derive(Clone, Debug)]
pub(super) struct Update {
    pub(super) how: How,
    pub(super) set: usize,
    pub(super) key: Vec<Operand>,
    pub(super) timeout: Option<Duration>,
    pub(super) limit: Option<Limit>,
    pub(super) data: Option<Value>,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Constant(u128),
    Operand(Operand),
    Map(Vec<Operand>, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    Drop,
    Continue,
    Return,
    Jump(usize),
    Goto(usize),
}

#[derive(Clone, Debug)]
pub(super) struct Set {
    /// Family, table and name; empty if it belongs to a rule.
    pub(super) name: String,
    pub(super) key: Vec<Kind>,
    pub(super) data: Option<Kind>,
    pub(super) leads_to_verdicts: bool,
    pub(super) fixed: Fixed,
    /// Its elements come and go.
    pub(super) dynamic: bool,
    pub(super) size: Option<u32>,
    pub(super) timeout: Option<Duration>,
    /// Elements that are there at the start, and for how long.
    pub(super) start: Vec<(Element, Option<Duration>)>,
}

impl Set {
    /// Says that elements of one are elements of the other.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.name == other.name
            && self.key == other.key
            && self.data == other.data
            && self.leads_to_verdicts == other.leads_to_verdicts
            && self.dynamic == other.dynamic
    }
}

impl Data {
    pub(super) const fn verdict(self) -> Option<Verdict> {
        match self {
            Self::Verdict(verdict) => Some(verdict),
            Self::Nothing | Self::Value(_) => None,
        }
    }

    pub(super) const fn value(self) -> Option<u128> {
        match self {
            Self::Value(value) => Some(value),
            Self::Nothing | Self::Verdict(_) => None,
        }
    }
}
