//! Fields and values.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::super::ast::{Data, Element, Expr, Node, Operand, Step, Value};
use super::super::error::Complaint;
use super::super::field::{
    ARP_ADDRESSES, Base, CT, Field, META, Meta, Needs, PROTOCOLS, Type, VLAN,
};
use super::super::lexer::Token;
use super::{Parsed, Parser};

impl Parser<'_> {
    /// Says whether a field begins here.
    pub(super) fn is_field(&self) -> bool {
        let word = self.peek_word();
        let is_protocol = PROTOCOLS.iter().any(|(name, ..)| *name == word);
        match self.peek() {
            Token::Set(name) => {
                matches!(&name[..], "ll" | "nh" | "th")
                    && matches!(self.peek_at(1), Token::Sign(","))
            }
            _ if is_protocol || matches!(word, "meta" | "ct" | "vlan") => {
                matches!(self.peek_at(1), Token::Word(_))
            }
            _ => matches!(word, "iifname" | "oifname" | "iif" | "oif" | "mark"),
        }
    }

    /// Fields joined by dots, each with what is done to it.
    pub(super) fn operands(&mut self) -> Parsed<Vec<Operand>> {
        let mut operands = Vec::new();
        loop {
            operands.push(self.operand()?);
            if !self.take_sign(".") {
                return Ok(operands);
            }
        }
    }

    pub(super) fn operand(&mut self) -> Parsed<Operand> {
        let start = self.span();
        let field = self.field()?;
        let mut steps = Vec::new();
        loop {
            let step = match self.peek() {
                Token::Sign("&") => Step::And,
                Token::Sign("|") => Step::Or,
                Token::Sign("^") => Step::Xor,
                Token::Sign("<<") => Step::Left,
                Token::Sign(">>") => Step::Right,
                _ => break,
            };
            let binds_tighter = match steps.last() {
                Some((Step::Or, _)) => !matches!(step, Step::Or),
                Some((Step::Xor, _)) => !matches!(step, Step::Or | Step::Xor),
                Some((Step::And, _)) => matches!(step, Step::Left | Step::Right),
                _ => false,
            };
            if binds_tighter {
                let what = "this operator would come before the one on its left";
                let help = "put the constants together, or the tighter operator first";
                return Err((self.span(), Complaint::with_help(what, help)));
            }
            self.next();
            steps.push((step, self.primary()?));
        }
        let span = start.to(self.last_span());
        Ok(Operand { field, steps, span })
    }

    fn field(&mut self) -> Parsed<Field> {
        let span = self.span();
        if let Token::Set(name) = self.peek().clone() {
            self.next();
            return self.raw(&name);
        }
        let word = String::from(self.peek_word());
        match &word[..] {
            "iifname" | "iif" => {
                self.next();
                return Ok(Field::Meta(Meta::IifName));
            }
            "oifname" | "oif" => {
                self.next();
                return Ok(Field::Meta(Meta::OifName));
            }
            "mark" => {
                self.next();
                return Ok(Field::Meta(Meta::Mark));
            }
            _ => {}
        }
        self.next();
        let name = self.name(&format!("a field of {word}"))?;
        let field = &name.node[..];
        let unknown = |known: &mut dyn Iterator<Item = &'static str>| {
            let known: Vec<_> = known.collect();
            let what = format!("field of {word}");
            Err((name.span, Complaint::unknown(&what, field, known)))
        };
        match &word[..] {
            "meta" => {
                let alias = match field {
                    "iif" => "iifname",
                    "oif" => "oifname",
                    field => field,
                };
                match META.iter().find(|(name, _)| *name == alias) {
                    Some((_, meta)) => Ok(Field::Meta(*meta)),
                    None => unknown(&mut META.iter().map(|m| m.0)),
                }
            }
            "ct" => match CT.iter().find(|(name, _)| *name == field) {
                Some((_, ct)) => Ok(Field::Ct(*ct)),
                None => unknown(&mut CT.iter().map(|c| c.0)),
            },
            "vlan" => match VLAN.iter().find(|(name, ..)| *name == field) {
                Some((name, shift, bits)) => Ok(Field::VlanTag {
                    shift: *shift,
                    bits: *bits,
                    name,
                }),
                None => unknown(&mut VLAN.iter().map(|v| v.0)),
            },
            "arp" if matches!(field, "saddr" | "daddr") => {
                let which = self.name("\"ether\" or \"ip\"")?;
                let found = ARP_ADDRESSES
                    .iter()
                    .find(|(name, which_one, ..)| *name == field && *which_one == which.node);
                let Some((_, _, at, bits, of)) = found else {
                    let known = ["ether", "ip"];
                    let complaint = Complaint::unknown("kind of address", &which.node, known);
                    return Err((which.span, complaint));
                };
                Ok(Field::Payload {
                    base: Base::Network,
                    needs: Needs::EtherType(0x0806),
                    at: *at,
                    bits: *bits,
                    of: *of,
                    name: match (field, *of) {
                        ("saddr", Type::Mac) => ("arp", "saddr ether"),
                        ("saddr", _) => ("arp", "saddr ip"),
                        (_, Type::Mac) => ("arp", "daddr ether"),
                        _ => ("arp", "daddr ip"),
                    },
                })
            }
            _ => {
                let known = PROTOCOLS.iter().find(|(name, ..)| *name == word);
                let Some((protocol, needs, base, fields)) = known else {
                    return Err((span, Complaint::new("expected a field")));
                };
                match fields.iter().find(|(name, ..)| *name == field) {
                    Some((name, at, bits, of)) => Ok(Field::Payload {
                        base: *base,
                        needs: *needs,
                        at: *at,
                        bits: *bits,
                        of: *of,
                        name: (protocol, name),
                    }),
                    None => unknown(&mut fields.iter().map(|f| f.0)),
                }
            }
        }
    }

    /// `@th,0,16`.
    fn raw(&mut self, name: &str) -> Parsed<Field> {
        let (base, needs) = match name {
            "ll" => (Base::Link, Needs::Nothing),
            "nh" => (Base::Network, Needs::Nothing),
            _ => (Base::Transport, Needs::Transport),
        };
        self.expect_sign(",")?;
        let at = self.number("the first bit")?;
        self.expect_sign(",")?;
        let span = self.span();
        let bits = self.number("how many bits")?;
        match (u16::try_from(at), u8::try_from(bits)) {
            (Ok(at), Ok(bits @ 1..=128)) if at % 8 + u16::from(bits) <= 128 => Ok(Field::Payload {
                base,
                needs,
                at,
                bits,
                of: Type::Integer,
                name: ("", ""),
            }),
            _ => Err((
                span,
                Complaint::new("1 to 128 bits within the first 8 KiB can be looked at"),
            )),
        }
    }

    /// What a field is compared with.
    pub(super) fn right(&mut self) -> Parsed<Expr> {
        let start = self.span();
        if let Token::Set(name) = self.peek().clone() {
            self.next();
            return Ok(Expr {
                node: Node::Named(name),
                span: start,
            });
        }
        let first = self.concat()?;
        let first = self.listed(first)?;
        if self.take_sign("/") {
            let mask = self.concat()?;
            let mask = self.listed(mask)?;
            let span = start.to(mask.span);
            let node = Node::Masked(Self::boxed(first), Self::boxed(mask));
            return Ok(Expr { node, span });
        }
        Ok(first)
    }

    /// The value of a variable.
    pub(super) fn initializer(&mut self) -> Parsed<Expr> {
        let first = self.concat()?;
        self.listed(first)
    }

    /// Flags behind commas.
    fn listed(&mut self, first: Expr) -> Parsed<Expr> {
        if !self.is_sign(",") {
            return Ok(first);
        }
        let start = first.span;
        let mut all = Self::one(first);
        while self.take_sign(",") {
            all.push(self.concat()?);
        }
        let span = start.to(self.last_span());
        let node = Node::List(all);
        Ok(Expr { node, span })
    }

    /// Values joined by dots.
    pub(super) fn concat(&mut self) -> Parsed<Expr> {
        let first = self.range()?;
        if !self.is_sign(".") {
            return Ok(first);
        }
        let start = first.span;
        let mut all = Self::one(first);
        while self.take_sign(".") {
            all.push(self.range()?);
        }
        let span = start.to(self.last_span());
        let node = Node::Concat(all);
        Ok(Expr { node, span })
    }

    fn range(&mut self) -> Parsed<Expr> {
        let first = self.flags()?;
        if !self.take_sign("-") {
            return Ok(first);
        }
        let last = self.flags()?;
        let span = first.span.to(last.span);
        let node = Node::Range(Self::boxed(first), Self::boxed(last));
        Ok(Expr { node, span })
    }

    /// `a | b`.
    fn flags(&mut self) -> Parsed<Expr> {
        let first = self.prefix()?;
        if !self.is_sign("|") {
            return Ok(first);
        }
        let start = first.span;
        let mut all = Self::one(first);
        while self.take_sign("|") {
            all.push(self.prefix()?);
        }
        let span = start.to(self.last_span());
        let node = Node::Or(all);
        Ok(Expr { node, span })
    }

    fn prefix(&mut self) -> Parsed<Expr> {
        let value = self.primary()?;
        let is_number = matches!(
            value.node,
            Node::Address(_) | Node::Number(_) | Node::Mac(_)
        );
        if is_number
            && self.is_sign("/")
            && let Token::Number(len) = *self.peek_at(1)
        {
            self.next();
            let span = self.span();
            self.next();
            let Ok(len) = u8::try_from(len) else {
                return Err((span, Complaint::new("a prefix has 128 bits at most")));
            };
            let span = value.span.to(span);
            let node = Node::Prefix(Self::boxed(value), len);
            return Ok(Expr { node, span });
        }
        Ok(value)
    }

    /// One value, or something in parentheses.
    pub(super) fn primary(&mut self) -> Parsed<Expr> {
        let span = self.span();
        let node = match self.peek().clone() {
            Token::Number(number) => Node::Number(number),
            Token::Address(address) => Node::Address(address),
            Token::Mac(mac) => Node::Mac(mac),
            Token::Text(text) => Node::Symbol(text),
            Token::Word(word) => {
                let star = self.words.get(self.at + 1);
                if let Some((Token::Sign("*"), star)) = star
                    && star.start == span.end
                {
                    self.next();
                    Node::Symbol(word + "*")
                } else {
                    Node::Symbol(word)
                }
            }
            Token::Variable(name) => {
                self.next();
                return self.variable(&name, span);
            }
            Token::Sign("*") => Node::Any,
            Token::Sign("{") => {
                let elements = self.deeper(Self::elements)?;
                let span = span.to(self.last_span());
                let node = Node::Set(elements);
                return Ok(Expr { node, span });
            }
            Token::Sign("(") => {
                self.next();
                let inner = self.deeper(Self::flags)?;
                self.expect_sign(")")?;
                return Ok(inner);
            }
            _ => return Err(self.expected("a value")),
        };
        self.next();
        self.charge(1, span)?;
        Ok(Expr { node, span })
    }

    /// `{ ... }`, or a variable for it.
    pub(super) fn elements(&mut self) -> Parsed<Vec<Element>> {
        let span = self.span();
        if let Token::Variable(name) = self.peek().clone() {
            self.next();
            return match self.variable(&name, span)?.node {
                Node::Set(elements) => Ok(elements),
                _ => Err((span, Complaint::new(format!("${name} is no set")))),
            };
        }
        self.expect_sign("{")?;
        let mut elements = Vec::new();
        loop {
            self.skip_lines();
            if self.take_sign("}") {
                return Ok(elements);
            }
            let key = self.concat()?;
            if let Node::Set(all) = key.node {
                elements.extend(all);
            } else {
                elements.push(self.element(key)?);
            }
            self.skip_lines();
            if !self.take_sign(",") && !self.is_sign("}") {
                return Err(self.expected("\",\" or \"}\""));
            }
        }
    }

    fn element(&mut self, key: Expr) -> Parsed<Element> {
        let mut element = Element {
            key,
            timeout: None,
            data: None,
        };
        loop {
            match self.peek_word() {
                "timeout" => {
                    self.next();
                    element.timeout = Some(self.time()?);
                }
                "comment" => {
                    self.next();
                    self.text("a comment in quotes")?;
                }
                "expires" | "counter" | "limit" | "quota" => {
                    let what = format!("{} of a single element is not supported", self.peek_word());
                    return Err((self.span(), Complaint::new(what)));
                }
                _ => break,
            }
        }
        self.skip_lines();
        if self.take_sign(":") {
            self.skip_lines();
            element.data = Some(match self.verdict()? {
                Some(verdict) => Data::Verdict(verdict),
                None => Data::Value(self.range()?),
            });
        }
        Ok(element)
    }

    /// What a mark becomes.
    pub(super) fn value(&mut self) -> Parsed<Value> {
        if !self.is_field() {
            return Ok(Value::Expr(self.flags()?));
        }
        let start = self.span();
        let mut operands = self.operands()?;
        if self.take_word("map") {
            return Ok(Value::Map(operands, self.map()?));
        }
        match (operands.pop(), operands.is_empty()) {
            (Some(operand), true) => Ok(Value::Operand(operand)),
            _ => {
                let what = "several fields are one value only with a map";
                let span = start.to(self.last_span());
                Err((
                    span,
                    Complaint::with_help(what, "write `map { KEY : VALUE }`"),
                ))
            }
        }
    }

    /// `{ KEY : VALUE, ... }`, `@map`, or a variable for it.
    pub(super) fn map(&mut self) -> Parsed<Expr> {
        let span = self.span();
        let node = match self.peek().clone() {
            Token::Set(name) => {
                self.next();
                Node::Named(name)
            }
            _ => Node::Set(self.elements()?),
        };
        let span = span.to(self.last_span());
        Ok(Expr { node, span })
    }

    /// A time such as `90s`, `1h30m`, or seconds.
    pub(super) fn time(&mut self) -> Parsed<Duration> {
        let span = self.span();
        let bad = || {
            let what = "this is no time";
            (
                span,
                Complaint::with_help(what, "examples: 30s, 5m, 1h30m, 1d"),
            )
        };
        let text = match self.peek().clone() {
            Token::Number(number) => format!("{number}s"),
            Token::Word(word) | Token::Text(word) => word,
            _ => return Err(bad()),
        };
        self.next();
        duration(&text).ok_or_else(bad)
    }
}

fn duration(text: &str) -> Option<Duration> {
    /// Above that the kernel's counters would not hold it either.
    const MOST: u64 = 100 * 365 * 86_400 * 1000;
    let mut millis: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "d" => 86_400_000,
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1000,
            "ms" => 1,
            _ => return None,
        };
        rest = &rest[letters..];
        millis = millis.checked_add(number.checked_mul(unit)?)?;
    }
    (1..=MOST)
        .contains(&millis)
        .then(|| Duration::from_millis(millis))
}
