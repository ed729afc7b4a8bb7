//! Comparisons of numbers: `tcp[tcpflags] & tcp-syn != 0`.

use super::super::condition::{Comparison, Condition, Value};
use super::super::lexer::Token;
use super::super::primitive::{ICMP6, IP, IP6};
use super::super::{Error, names};
use super::{Parser, Protocol, at};
use crate::tap::cbpf::{arithmetic, code};

/// A number, and what must hold for it to be there.
struct Number {
    value: Value,
    needs: Vec<Condition>,
}

impl Number {
    const fn constant(number: u32) -> Self {
        Self {
            value: Value::Constant(number),
            needs: Vec::new(),
        }
    }
}

/// Operators by how tightly they bind, the loosest first.
const LEVELS: [&[(&str, u16)]; 5] = [
    &[("|", code::OR), ("^", code::XOR)],
    &[("&", code::AND)],
    &[("<<", code::LSH), (">>", code::RSH)],
    &[("+", code::ADD), ("-", code::SUB)],
    &[("*", code::MUL), ("/", code::DIV), ("%", code::MOD)],
];

impl Parser<'_> {
    /// A comparison, if one is next; else nothing is taken.
    pub(super) fn relation(&mut self) -> Result<Option<Condition>, Error> {
        let start = self.next;
        if !self.may_be_number() {
            return Ok(None);
        }
        let left = self.arithmetic(0);
        let comparison = match (&left, self.comparison()) {
            (Ok(_), Some(comparison)) => comparison,
            // Something that cannot be anything else is wrong here.
            (Err(error), _) if self.is_surely_number(start) => return Err(error.clone()),
            (Ok(_), None) if self.is_surely_number(start) => {
                return Err(self.wrong("a comparison was expected"));
            }
            _ => {
                self.next = start;
                return Ok(None);
            }
        };
        let (left, right) = (left?, self.arithmetic(0)?);
        let mut conditions = left.needs;
        conditions.extend(right.needs);
        conditions.push(match (left.value, right.value) {
            (value, Value::Constant(with)) => value.compares(comparison, with),
            (left, right) => Condition::Compare {
                left: Box::new(left),
                comparison,
                right: Box::new(right),
            },
        });
        Ok(Some(Condition::All(conditions)))
    }

    fn may_be_number(&self) -> bool {
        match self.peek() {
            Some(Token::Number(_)) => true,
            Some(Token::Sign(sign)) => matches!(*sign, "(" | "-"),
            Some(Token::Word {
                text,
                escaped: false,
            }) => {
                matches!(text.as_str(), "len" | "length")
                    || names::constant(text).is_some()
                    || self.is_load(self.next)
            }
            _ => false,
        }
    }

    /// Whether what begins there can only be a number: bytes of a packet, a sign before one.
    fn is_surely_number(&self, start: usize) -> bool {
        match self.tokens.get(start).map(|placed| &placed.token) {
            Some(Token::Sign("-")) => true,
            Some(Token::Word { text, .. }) => {
                matches!(text.as_str(), "len" | "length") || self.is_load(start)
            }
            _ => false,
        }
    }

    fn is_load(&self, start: usize) -> bool {
        let bracket = self.tokens.get(start + 1).map(|placed| &placed.token);
        let name = self.tokens.get(start).map(|placed| &placed.token);
        matches!((name, bracket), (Some(Token::Word { text, escaped: false }), Some(Token::Sign("[")))
            if Protocol::named(text).is_some())
    }

    fn comparison(&mut self) -> Option<Comparison> {
        let Some(Token::Sign(sign)) = self.peek() else {
            return None;
        };
        let comparison = match *sign {
            "=" | "==" => Comparison::Equal,
            "!=" => Comparison::NotEqual,
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterOrEqual,
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            _ => return None,
        };
        self.next += 1;
        Some(comparison)
    }

    fn arithmetic(&mut self, level: usize) -> Result<Number, Error> {
        let Some(operators) = LEVELS.get(level) else {
            return self.deeper(Self::factor);
        };
        let mut left = self.arithmetic(level + 1)?;
        loop {
            let Some(Token::Sign(sign)) = self.peek() else {
                return Ok(left);
            };
            let Some((_, operation)) = operators.iter().find(|(name, _)| name == sign) else {
                return Ok(left);
            };
            self.next += 1;
            let right = self.arithmetic(level + 1)?;
            left = self.operation(*operation, left, right)?;
        }
    }

    fn operation(&self, operation: u16, left: Number, right: Number) -> Result<Number, Error> {
        let mut needs = left.needs;
        needs.extend(right.needs);
        let value = match (left.value, right.value) {
            (Value::Constant(left), Value::Constant(right)) => {
                let result = arithmetic(operation, left, right);
                Value::Constant(result.ok_or_else(|| self.wrong("this divides by zero"))?)
            }
            (_, Value::Constant(0)) if matches!(operation, code::DIV | code::MOD) => {
                return Err(self.wrong("this divides by zero"));
            }
            (left, right) => Value::Operation {
                operation,
                left: Box::new(left),
                right: Box::new(right),
            },
        };
        Ok(Number { value, needs })
    }

    fn factor(&mut self) -> Result<Number, Error> {
        if self.take_sign("-") {
            let inner = self.deeper(Self::factor)?;
            return Ok(Number {
                value: if let Value::Constant(number) = inner.value {
                    Value::Constant(number.wrapping_neg())
                } else {
                    Value::Negative(Box::new(inner.value))
                },
                needs: inner.needs,
            });
        }
        if self.take_sign("(") {
            let inner = self.deeper(|parser| parser.arithmetic(0))?;
            return match self.take_sign(")") {
                true => Ok(inner),
                false => Err(self.wrong("a closing parenthesis was expected")),
            };
        }
        let token = self.peek();
        match token {
            Some(Token::Number(number)) => {
                self.next += 1;
                Ok(Number::constant(*number))
            }
            Some(Token::Word {
                text,
                escaped: false,
            }) => {
                if self.is_load(self.next)
                    && let Some(protocol) = Protocol::named(text)
                {
                    self.next += 2;
                    return self.load(protocol);
                }
                if matches!(text.as_str(), "len" | "length") {
                    self.next += 1;
                    return Ok(Number {
                        value: Value::Len,
                        needs: Vec::new(),
                    });
                }
                if let Some(number) = names::constant(text) {
                    self.next += 1;
                    return Ok(Number::constant(number));
                }
                // "13-1" is one word, as names have hyphens.
                Err(self.wrong(format!("{text:?} is no number")))
            }
            _ => Err(self.wrong("a number was expected")),
        }
    }

    /// Bytes of a header, behind the opening bracket.
    fn load(&mut self, protocol: Protocol) -> Result<Number, Error> {
        let index = self.deeper(|parser| parser.arithmetic(0))?;
        let size = if self.take_sign(":") {
            match self.number()? {
                1 => 1,
                2 => 2,
                4 => 4,
                _ => return Err(self.wrong("one, two or four bytes can be taken")),
            }
        } else {
            1
        };
        if !self.take_sign("]") {
            return Err(self.wrong("a closing bracket was expected"));
        }
        let payload = self.link.payload;
        let mut needs = index.needs;
        let (base, behind_ip) = match protocol {
            Protocol::Ether => (0, false),
            Protocol::Type(number) => {
                needs.push(self.link.ethertype(number));
                (payload, false)
            }
            Protocol::Carried { number: ICMP6, .. } => {
                needs.push(
                    self.link
                        .ethertype(IP6)
                        .and(at(payload + 6, 1).equals(ICMP6)),
                );
                (payload + 40, false)
            }
            Protocol::Carried { number, .. } => {
                needs.push(
                    self.link
                        .ethertype(IP)
                        .and(at(payload + 9, 1).equals(number))
                        .and(self.link.has_transport()),
                );
                (payload, true)
            }
        };
        let value = if let Value::Constant(offset @ ..0x1000_0000) = index.value {
            if behind_ip {
                Value::BehindIp {
                    ip: base,
                    offset,
                    size,
                }
            } else {
                at(base + offset, size)
            }
        } else {
            Value::Indexed {
                base,
                behind_ip,
                index: Box::new(index.value),
                size,
            }
        };
        Ok(Number { value, needs })
    }
}
