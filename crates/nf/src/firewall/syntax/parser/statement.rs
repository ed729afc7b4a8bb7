//! What rules do besides matching.

use alloc::format;
use alloc::string::String;

use super::super::ast::{
    Counter, How, Limit, LimitUse, Log, Object, ObjectState, Quota, QuotaUse, Reject, Statement,
    Update,
};
use super::super::error::{Complaint, Spanned};
use super::super::field::Type;
use super::super::lexer::Token;
use super::super::symbol::{ICMPX, LEVELS};
use super::{Parsed, Parser};

impl Parser<'_> {
    /// `name NAME`, quoted or not, or a quoted name alone.
    fn named(&mut self, what: &str) -> Parsed<Option<super::super::ast::Name>> {
        if !self.take_word("name") {
            return Ok(None);
        }
        let span = self.span();
        if let Token::Text(node) = self.peek().clone() {
            self.next();
            return Ok(Some(Spanned { node, span }));
        }
        self.name(what).map(Some)
    }

    pub(super) fn counter(&mut self) -> Parsed<Statement> {
        self.next();
        if let Some(name) = self.named("the name of a counter")? {
            return Ok(Statement::Counter(Counter::Named(name)));
        }
        let (packets, bytes) = self.counted()?;
        Ok(Statement::Counter(Counter::Own { packets, bytes }))
    }

    fn counted(&mut self) -> Parsed<(u64, u64)> {
        if !self.take_word("packets") {
            return Ok((0, 0));
        }
        let packets = self.number("a number of packets")?;
        self.expect_word("bytes")?;
        Ok((packets, self.number("a number of bytes")?))
    }

    pub(super) fn log(&mut self) -> Parsed<Statement> {
        self.next();
        let mut log = Log::default();
        loop {
            match self.peek_word() {
                "prefix" => {
                    self.next();
                    let span = self.span();
                    log.prefix = self.text("a prefix in quotes")?;
                    if log.prefix.len() > 127 {
                        return Err((span, Complaint::new("a prefix has 127 bytes at most")));
                    }
                }
                "level" => {
                    self.next();
                    let name = self.name("a level")?;
                    let Some(level) = LEVELS.iter().find(|level| **level == name.node) else {
                        return Err((name.span, Complaint::unknown("level", &name.node, LEVELS)));
                    };
                    log.level = Some(level);
                }
                "group" | "snaplen" | "queue-threshold" | "flags" => {
                    let what = format!("log {} is not supported", self.peek_word());
                    let help = "supported: log prefix \"TEXT\" level LEVEL; see --log for JSON";
                    return Err((self.span(), Complaint::with_help(what, help)));
                }
                _ => return Ok(Statement::Log(log)),
            }
        }
    }

    pub(super) fn limit(&mut self) -> Parsed<Statement> {
        self.next();
        if let Some(name) = self.named("the name of a limit")? {
            return Ok(Statement::Limit(LimitUse::Named(name)));
        }
        Ok(Statement::Limit(LimitUse::Own(self.rate()?)))
    }

    /// `rate [over] 10/second [burst 5 packets]`.
    fn rate(&mut self) -> Parsed<Limit> {
        self.expect_word("rate")?;
        let over = self.take_word("over");
        if !over {
            self.take_word("until");
        }
        let span = self.span();
        let rate = self.number("a rate, such as 10/second or 1 mbytes/second")?;
        let mut is_bytes = false;
        let mut factor = 1;
        let unit = if self.take_sign("/") {
            self.name("a unit of time")?
        } else {
            let mut unit = self.name("\"/second\" or a unit such as mbytes/second")?;
            let Some((size, time)) = unit.node.split_once('/') else {
                let what = "a rate needs a unit of time";
                return Err((
                    unit.span,
                    Complaint::with_help(what, "such as kbytes/second"),
                ));
            };
            match size {
                "packets" => {}
                size => {
                    let Some(bytes) = bytes_of(size) else {
                        let complaint = Complaint::unknown("unit", size, SIZES);
                        return Err((unit.span, complaint));
                    };
                    (is_bytes, factor) = (true, bytes);
                }
            }
            unit.node = String::from(time);
            unit
        };
        let unit_ns = match &unit.node[..] {
            "second" => 1,
            "minute" => 60,
            "hour" => 3600,
            "day" => 86_400,
            "week" => 604_800,
            word => {
                let units = ["second", "minute", "hour", "day", "week"];
                return Err((unit.span, Complaint::unknown("unit of time", word, units)));
            }
        } * 1_000_000_000;
        let mut burst = if is_bytes { 0 } else { 5 };
        if self.take_word("burst") {
            let number = self.number("a burst")?;
            let name = self.name("a unit: packets, bytes, kbytes or mbytes")?;
            burst = match (&name.node[..], is_bytes) {
                ("packets", false) => number,
                (size, true) if bytes_of(size).is_some() => {
                    number.saturating_mul(bytes_of(size).unwrap_or(1))
                }
                _ => {
                    let what = "the burst has another unit than the rate";
                    return Err((name.span, Complaint::new(what)));
                }
            };
        }
        let rate = rate.saturating_mul(factor);
        /// Above that, tokens would not be nanoseconds any more.
        const MOST: u64 = 1 << 40;
        if !(1..=MOST).contains(&rate) || burst > MOST || (burst == 0 && !is_bytes) {
            let what = "rate and burst must be above zero and below 2^40";
            return Err((span, Complaint::new(what)));
        }
        Ok(Limit {
            over,
            rate,
            unit_ns,
            burst,
            is_bytes,
        })
    }

    pub(super) fn quota(&mut self) -> Parsed<Statement> {
        self.next();
        if let Some(name) = self.named("the name of a quota")? {
            return Ok(Statement::Quota(QuotaUse::Named(name)));
        }
        Ok(Statement::Quota(QuotaUse::Own(self.amount()?)))
    }

    fn amount(&mut self) -> Parsed<Quota> {
        let over = self.take_word("over");
        if !over {
            self.take_word("until");
        }
        let bytes = self.size()?;
        let used = if self.take_word("used") {
            self.size()?
        } else {
            0
        };
        Ok(Quota { over, bytes, used })
    }

    fn size(&mut self) -> Parsed<u64> {
        let number = self.number("a number of bytes")?;
        let name = self.name("a unit: bytes, kbytes or mbytes")?;
        match bytes_of(&name.node) {
            Some(unit) => Ok(number.saturating_mul(unit)),
            None => Err((name.span, Complaint::unknown("unit", &name.node, SIZES))),
        }
    }

    pub(super) fn reject(&mut self) -> Parsed<Statement> {
        self.next();
        if !self.take_word("with") {
            return Ok(Statement::Reject(Reject::Default));
        }
        let with = self.name("tcp, icmp, icmpv6 or icmpx")?;
        if with.node == "tcp" {
            self.expect_word("reset")?;
            return Ok(Statement::Reject(Reject::TcpReset));
        }
        if self.take_word("type") {
            // The word is optional in nft since 1.0.
        }
        let span = self.span();
        let code = match self.peek().clone() {
            Token::Number(number) => u8::try_from(number).ok(),
            Token::Word(word) => {
                let of = match &with.node[..] {
                    "icmp" => Some(Type::IcmpCode),
                    "icmpv6" => Some(Type::Icmpv6Code),
                    _ => None,
                };
                let found = match of {
                    Some(of) => of.symbol(&word).and_then(|code| u8::try_from(code).ok()),
                    None => ICMPX.iter().find(|(name, _)| *name == word).map(|c| c.1),
                };
                if found.is_none() {
                    let complaint = match of {
                        Some(of) => {
                            let names = of.symbols().iter().map(|s| s.0);
                            Complaint::unknown("code", &word, names)
                        }
                        None => Complaint::unknown("code", &word, ICMPX.map(|c| c.0)),
                    };
                    return Err((span, complaint));
                }
                found
            }
            _ => return Err(self.expected("a code such as port-unreachable")),
        };
        self.next();
        let reject = match (&with.node[..], code) {
            ("icmp", Some(code @ 0..=15)) => Reject::Icmp(code),
            ("icmpv6", Some(code @ 0..=6)) => Reject::Icmpv6(code),
            ("icmpx", Some(code @ 0..=3)) => Reject::Icmpx(code),
            ("icmp" | "icmpv6" | "icmpx", _) => {
                return Err((span, Complaint::new("there is no such code")));
            }
            (word, _) => {
                let known = ["tcp reset", "icmp CODE", "icmpv6 CODE", "icmpx CODE"];
                return Err((with.span, Complaint::unknown("refusal", word, known)));
            }
        };
        Ok(Statement::Reject(reject))
    }

    pub(super) fn update(&mut self) -> Parsed<Statement> {
        let how = match self.peek_word() {
            "add" => How::Add,
            "update" => How::Update,
            _ => How::Delete,
        };
        self.next();
        let span = self.span();
        let Token::Set(node) = self.peek().clone() else {
            return Err(self.expected("@ and the name of a set"));
        };
        self.next();
        self.expect_sign("{")?;
        let mut update = Update {
            how,
            set: Spanned { node, span },
            key: self.operands()?,
            timeout: None,
            limit: None,
            data: None,
        };
        loop {
            match self.peek_word() {
                "timeout" => {
                    self.next();
                    update.timeout = Some(self.time()?);
                }
                "limit" if update.limit.is_none() => {
                    self.next();
                    update.limit = Some(self.rate()?);
                }
                _ => break,
            }
        }
        if self.take_sign(":") {
            update.data = Some(self.value()?);
        }
        if !self.is_sign("}") {
            let mut fault = self.expected("\"}\"");
            fault.1.help = "supported behind the key: timeout, limit rate".into();
            return Err(fault);
        }
        self.next();
        Ok(Statement::Update(update))
    }

    /// A named counter, limit or quota, behind its word.
    pub(super) fn object(&mut self, word: &str) -> Parsed<Object> {
        let name = self.name("a name")?;
        let braces = self.take_sign("{");
        if braces {
            self.skip_ends();
        }
        let state = match word {
            "counter" => {
                let (packets, bytes) = self.counted()?;
                ObjectState::Counter { packets, bytes }
            }
            "limit" => ObjectState::Limit(self.rate()?),
            _ => ObjectState::Quota(self.amount()?),
        };
        if braces {
            self.skip_ends();
            self.expect_sign("}")?;
        }
        Ok(Object { name, state })
    }
}

const SIZES: [&str; 3] = ["bytes", "kbytes", "mbytes"];

fn bytes_of(unit: &str) -> Option<u64> {
    match unit {
        "bytes" => Some(1),
        "kbytes" => Some(1024),
        "mbytes" => Some(1024 * 1024),
        _ => None,
    }
}
