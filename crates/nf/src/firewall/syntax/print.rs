//! Rules as text: what was understood, in one form whatever was written.

use core::fmt::{Display, Formatter, Result};
use core::time::Duration;

use super::ast::{
    Counter, Data, Element, Expr, How, Item, Limit, LimitUse, Node, ObjectState, Op, Operand,
    Quota, QuotaUse, Reject, Rule, Set, Statement, Step, Value, Verdict,
};
use super::field::Type;
use super::symbol::ICMPX;

fn joined<T: Display>(f: &mut Formatter<'_>, items: &[T], by: &str) -> Result {
    for (number, item) in items.iter().enumerate() {
        if number > 0 {
            f.write_str(by)?;
        }
        write!(f, "{item}")?;
    }
    Ok(())
}

fn time(f: &mut Formatter<'_>, time: Duration) -> Result {
    match time.as_millis() {
        millis if millis % 1000 == 0 => write!(f, "{}s", millis / 1000),
        millis => write!(f, "{millis}ms"),
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for (number, statement) in self.statements.iter().enumerate() {
            if number > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{}", statement.node)?;
        }
        match &self.comment {
            Some(comment) => write!(f, " comment \"{comment}\""),
            None => Ok(()),
        }
    }
}

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Match(matched) => {
                joined(f, &matched.left, " . ")?;
                let op = match matched.op {
                    Op::Implicit => " ",
                    Op::Equal => " == ",
                    Op::NotEqual => " != ",
                    Op::Less => " < ",
                    Op::AtMost => " <= ",
                    Op::Greater => " > ",
                    Op::AtLeast => " >= ",
                    Op::None => " ! ",
                };
                write!(f, "{op}{}", matched.right)
            }
            Self::Verdict(verdict) => verdict.fmt(f),
            Self::VerdictMap(key, map) => {
                joined(f, key, " . ")?;
                write!(f, " vmap {map}")
            }
            Self::Counter(Counter::Own { packets, bytes }) => {
                write!(f, "counter packets {packets} bytes {bytes}")
            }
            Self::Counter(Counter::Named(name)) => write!(f, "counter name \"{}\"", name.node),
            Self::Log(log) => {
                f.write_str("log")?;
                if !log.prefix.is_empty() {
                    write!(f, " prefix \"{}\"", log.prefix)?;
                }
                match log.level {
                    Some(level) => write!(f, " level {level}"),
                    None => Ok(()),
                }
            }
            Self::Limit(LimitUse::Own(limit)) => write!(f, "limit {limit}"),
            Self::Limit(LimitUse::Named(name)) => write!(f, "limit name \"{}\"", name.node),
            Self::Quota(QuotaUse::Own(quota)) => write!(f, "quota {quota}"),
            Self::Quota(QuotaUse::Named(name)) => write!(f, "quota name \"{}\"", name.node),
            Self::Reject(reject) => reject.fmt(f),
            Self::Update(update) => {
                let how = match update.how {
                    How::Add => "add",
                    How::Update => "update",
                    How::Delete => "delete",
                };
                write!(f, "{how} @{} {{ ", update.set.node)?;
                joined(f, &update.key, " . ")?;
                if let Some(timeout) = update.timeout {
                    f.write_str(" timeout ")?;
                    time(f, timeout)?;
                }
                if let Some(limit) = &update.limit {
                    write!(f, " limit {limit}")?;
                }
                if let Some(data) = &update.data {
                    write!(f, " : {data}")?;
                }
                f.write_str(" }")
            }
            Self::Assign(field, value) => write!(f, "{field} set {value}"),
            Self::Notrack => f.write_str("notrack"),
        }
    }
}

impl Display for Limit {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let over = if self.over { "over " } else { "" };
        let unit = match self.unit_ns / 1_000_000_000 {
            1 => "second",
            60 => "minute",
            3600 => "hour",
            86_400 => "day",
            _ => "week",
        };
        let (bytes, what) = if self.is_bytes {
            (" bytes", "bytes")
        } else {
            ("", "packets")
        };
        write!(f, "rate {over}{}{bytes}/{unit}", self.rate)?;
        if self.burst > 0 {
            write!(f, " burst {} {what}", self.burst)?;
        }
        Ok(())
    }
}

impl Display for Quota {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let over = if self.over { "over " } else { "" };
        write!(f, "{over}{} bytes", self.bytes)?;
        if self.used > 0 {
            write!(f, " used {} bytes", self.used)?;
        }
        Ok(())
    }
}

impl Display for Reject {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let named = |of: Type, code: u8| {
            let mut symbols = of.symbols().iter();
            symbols.find(|(_, v)| *v == u16::from(code)).map(|s| s.0)
        };
        let (what, name, code) = match self {
            Self::Default => return f.write_str("reject"),
            Self::TcpReset => return f.write_str("reject with tcp reset"),
            Self::Icmp(code) => ("icmp", named(Type::IcmpCode, *code), code),
            Self::Icmpv6(code) => ("icmpv6", named(Type::Icmpv6Code, *code), code),
            Self::Icmpx(code) => {
                let name = ICMPX.iter().find(|(_, c)| c == code).map(|c| c.0);
                ("icmpx", name, code)
            }
        };
        match name {
            Some(name) => write!(f, "reject with {what} type {name}"),
            None => write!(f, "reject with {what} type {code}"),
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Continue => f.write_str("continue"),
            Self::Return => f.write_str("return"),
            Self::Jump(name) => write!(f, "jump {}", name.node),
            Self::Goto(name) => write!(f, "goto {}", name.node),
        }
    }
}

impl Display for Operand {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        self.field.fmt(f)?;
        for (step, value) in &self.steps {
            let sign = match step {
                Step::And => "&",
                Step::Or => "|",
                Step::Xor => "^",
                Step::Left => "<<",
                Step::Right => ">>",
            };
            if matches!(value.node, Node::Or(_)) {
                write!(f, " {sign} ({value})")?;
            } else {
                write!(f, " {sign} {value}")?;
            }
        }
        Ok(())
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Expr(expr) => expr.fmt(f),
            Self::Operand(operand) => operand.fmt(f),
            Self::Map(key, map) => {
                joined(f, key, " . ")?;
                write!(f, " map {map}")
            }
        }
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match &self.node {
            Node::Number(number) => number.fmt(f),
            Node::Address(address) => address.fmt(f),
            Node::Mac([a, b, c, d, e, g]) => {
                write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
            }
            Node::Symbol(symbol) => {
                let is_word = symbol.starts_with(|c: char| c.is_ascii_alphabetic())
                    && symbol
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
                if is_word {
                    f.write_str(symbol)
                } else {
                    write!(f, "\"{symbol}\"")
                }
            }
            Node::Range(first, last) => write!(f, "{first}-{last}"),
            Node::Prefix(address, len) => write!(f, "{address}/{len}"),
            Node::List(all) => joined(f, all, ", "),
            Node::Masked(value, mask) => write!(f, "{value} / {mask}"),
            Node::Or(all) => joined(f, all, " | "),
            Node::Concat(all) => joined(f, all, " . "),
            Node::Set(elements) => {
                f.write_str("{ ")?;
                joined(f, elements, ", ")?;
                f.write_str(" }")
            }
            Node::Named(name) => write!(f, "@{name}"),
            Node::Any => f.write_str("*"),
        }
    }
}

impl Display for Element {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        self.key.fmt(f)?;
        if let Some(timeout) = self.timeout {
            f.write_str(" timeout ")?;
            time(f, timeout)?;
        }
        match &self.data {
            Some(Data::Verdict(verdict)) => write!(f, " : {verdict}"),
            Some(Data::Value(value)) => write!(f, " : {value}"),
            None => Ok(()),
        }
    }
}

impl Display for Set {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let name_of = |of: Type| Type::NAMED.iter().find(|n| n.1 == of).map_or("", |n| n.0);
        let word = if self.is_map { "map" } else { "set" };
        write!(f, "{word} {} {{ type ", self.name.node)?;
        for (number, kind) in self.key.iter().enumerate() {
            let by = if number > 0 { " . " } else { "" };
            write!(f, "{by}{}", name_of(kind.of))?;
        }
        if self.leads_to_verdicts {
            f.write_str(" : verdict")?;
        } else if let Some(data) = self.data {
            write!(f, " : {}", name_of(data.of))?;
        }
        match (self.interval, self.dynamic) {
            (true, true) => f.write_str("; flags interval, dynamic")?,
            (true, false) => f.write_str("; flags interval")?,
            (false, true) => f.write_str("; flags dynamic, timeout")?,
            (false, false) => {}
        }
        if let Some(timeout) = self.timeout {
            f.write_str("; timeout ")?;
            time(f, timeout)?;
        }
        if let Some(size) = self.size {
            write!(f, "; size {size}")?;
        }
        if self.auto_merge {
            f.write_str("; auto-merge")?;
        }
        if !self.elements.is_empty() {
            f.write_str("; elements = { ")?;
            joined(f, &self.elements, ", ")?;
            f.write_str(" }")?;
        }
        f.write_str("; }")
    }
}

impl Display for ObjectState {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Counter { packets, bytes } => write!(f, "packets {packets} bytes {bytes}"),
            Self::Limit(limit) => limit.fmt(f),
            Self::Quota(quota) => quota.fmt(f),
        }
    }
}

impl Display for Item {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Chain(chain) => {
                write!(f, "chain {} {{ ", chain.name.node)?;
                if let Some(base) = &chain.base {
                    let (hook, priority) = (base.hook.name(), base.priority);
                    write!(f, "type filter hook {hook} priority {priority}; ")?;
                }
                if let Some(policy) = &chain.policy {
                    let policy = match policy.node {
                        super::ast::Policy::Accept => "accept",
                        super::ast::Policy::Drop => "drop",
                    };
                    write!(f, "policy {policy}; ")?;
                }
                for rule in &chain.rules {
                    write!(f, "{rule}; ")?;
                }
                f.write_str("}")
            }
            Self::Set(set) => set.fmt(f),
            Self::Object(object) => {
                let word = match object.state {
                    ObjectState::Counter { .. } => "counter",
                    ObjectState::Limit(_) => "limit",
                    ObjectState::Quota(_) => "quota",
                };
                write!(f, "{word} {} {{ {} }}", object.name.node, object.state)
            }
            Self::Elements(name, elements) => {
                write!(f, "{} {{ ", name.node)?;
                joined(f, elements, ", ")?;
                f.write_str(" }")
            }
            Self::Rule { chain, rule, .. } => write!(f, "{} {rule}", chain.node),
        }
    }
}
