//! What a file of rules says.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use super::error::{Span, Spanned};
use super::field::Field;

/// A name and where it stands.
pub(crate) type Name = Spanned<String>;

/// Which packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    Ip,
    Ip6,
    Inet,
    Bridge,
}

impl Family {
    pub(crate) const ALL: [(&'static str, Self); 4] = [
        ("ip", Self::Ip),
        ("ip6", Self::Ip6),
        ("inet", Self::Inet),
        ("bridge", Self::Bridge),
    ];

    pub(crate) fn name(self) -> &'static str {
        let mut all = Self::ALL.iter();
        all.find(|(_, family)| *family == self).map_or("", |f| f.0)
    }
}

/// The name of a table.
#[derive(Clone, Debug)]
pub(crate) struct TableName {
    pub(crate) family: Family,
    pub(crate) name: Name,
}

/// What is to be done, in the order of the file.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    FlushRuleset,
    FlushTable(TableName),
    FlushChain(TableName, Name),
    DeleteTable {
        table: TableName,
        must_exist: bool,
    },
    /// Makes the table, if it is not there, and adds to it.
    Table(TableName, Vec<Item>),
    /// Adds to a table that is there.
    Add(TableName, Item),
}

/// A part of a table.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Chain(Chain),
    Set(Set),
    Elements(Name, Vec<Element>),
    Object(Object),
    Rule {
        chain: Name,
        rule: Rule,
        first: bool,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub(crate) name: Name,
    pub(crate) base: Option<Base>,
    pub(crate) policy: Option<Spanned<Policy>>,
    pub(crate) rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
pub(crate) struct Base {
    pub(crate) hook: Hook,
    pub(crate) priority: i32,
    pub(crate) span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hook {
    Prerouting,
    Forward,
    Postrouting,
}

impl Hook {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Prerouting => "prerouting",
            Self::Forward => "forward",
            Self::Postrouting => "postrouting",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    Accept,
    Drop,
}

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) statements: Vec<Spanned<Statement>>,
    pub(crate) comment: Option<String>,
    pub(crate) span: Span,
}

#[derive(Clone, Debug)]
pub(crate) enum Statement {
    Match(Match),
    Verdict(Verdict),
    VerdictMap(Vec<Operand>, Box<Expr>),
    Counter(Counter),
    Log(Log),
    Limit(LimitUse),
    Quota(QuotaUse),
    Reject(Reject),
    Update(Update),
    /// `meta mark set`, `ct mark set`.
    Assign(Field, Value),
    Notrack,
}

#[derive(Clone, Debug)]
pub(crate) struct Match {
    pub(crate) left: Vec<Operand>,
    pub(crate) op: Op,
    pub(crate) right: Expr,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// None is written: equal, or any of the flags.
    Implicit,
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
    /// `!`: none of the flags.
    None,
}

/// A field and what is done to it before it is compared.
#[derive(Clone, Debug)]
pub(crate) struct Operand {
    pub(crate) field: Field,
    pub(crate) steps: Vec<(Step, Expr)>,
    pub(crate) span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    And,
    Or,
    Xor,
    Left,
    Right,
}

/// A value, whose type follows from what it is compared with.
#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub(crate) node: Node,
    pub(crate) span: Span,
}

#[derive(Clone, Debug)]
pub(crate) enum Node {
    Number(u128),
    Address(IpAddr),
    Mac([u8; 6]),
    /// A symbol, quoted or not.
    Symbol(String),
    Range(Box<Expr>, Box<Expr>),
    Prefix(Box<Expr>, u8),
    /// Flags with commas.
    List(Vec<Expr>),
    /// `value / mask`.
    Masked(Box<Expr>, Box<Expr>),
    /// `a | b`.
    Or(Vec<Expr>),
    Concat(Vec<Expr>),
    Set(Vec<Element>),
    Named(String),
    /// `*`, in sets: all else.
    Any,
}

#[derive(Clone, Debug)]
pub(crate) struct Element {
    pub(crate) key: Expr,
    pub(crate) timeout: Option<Duration>,
    pub(crate) data: Option<Data>,
}

/// What a map leads to.
#[derive(Clone, Debug)]
pub(crate) enum Data {
    Verdict(Verdict),
    Value(Expr),
}

#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    Accept,
    Drop,
    Continue,
    Return,
    Jump(Name),
    Goto(Name),
}

/// What is assigned.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Expr(Expr),
    Operand(Operand),
    Map(Vec<Operand>, Expr),
}

#[derive(Clone, Debug)]
pub(crate) enum Counter {
    Own { packets: u64, bytes: u64 },
    Named(Name),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    pub(crate) prefix: String,
    pub(crate) level: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) over: bool,
    pub(crate) rate: u64,
    pub(crate) unit_ns: u64,
    pub(crate) burst: u64,
    pub(crate) is_bytes: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum LimitUse {
    Own(Limit),
    Named(Name),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) over: bool,
    pub(crate) bytes: u64,
    pub(crate) used: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum QuotaUse {
    Own(Quota),
    Named(Name),
}

/// How a packet is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reject {
    /// Port unreachable of the packet's own family.
    Default,
    TcpReset,
    /// Code of "destination unreachable".
    Icmp(u8),
    Icmpv6(u8),
    /// Code of nftables for both families.
    Icmpx(u8),
}

/// `add @set { ... }`.
#[derive(Clone, Debug)]
pub(crate) struct Update {
    pub(crate) how: How,
    pub(crate) set: Name,
    pub(crate) key: Vec<Operand>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) limit: Option<Limit>,
    pub(crate) data: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Add,
    Update,
    Delete,
}

/// A named set or map.
#[derive(Clone, Debug)]
pub(crate) struct Set {
    pub(crate) name: Name,
    pub(crate) is_map: bool,
    pub(crate) key: Vec<Kind>,
    /// Of maps that do not lead to verdicts.
    pub(crate) data: Option<Kind>,
    pub(crate) leads_to_verdicts: bool,
    pub(crate) interval: bool,
    pub(crate) dynamic: bool,
    pub(crate) auto_merge: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) size: Option<u32>,
    pub(crate) elements: Vec<Element>,
    pub(crate) span: Span,
}

/// A type and its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) of: super::field::Type,
    pub(crate) bits: u8,
}

/// A counter, limit or quota with a name.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) name: Name,
    pub(crate) state: ObjectState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ObjectState {
    Counter { packets: u64, bytes: u64 },
    Limit(Limit),
    Quota(Quota),
}
