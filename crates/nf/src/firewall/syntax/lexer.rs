//! The words of a file of rules.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::error::{Complaint, Span};

/// What a word is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A name or keyword, a number with a unit such as `1m30s`.
    Word(String),
    /// Text in quotes.
    Text(String),
    Number(u128),
    Address(IpAddr),
    Mac([u8; 6]),
    /// `$NAME`.
    Variable(String),
    /// `@name`.
    Set(String),
    /// A sign of one or two characters.
    Sign(&'static str),
    /// The end of a line.
    Line,
    End,
}

const SIGNS: [&str; 27] = [
    "!=", "==", "<=", ">=", "<<", ">>", "{", "}", "(", ")", ",", ";", ":", ".", "-", "/", "&", "|",
    "^", "!", "+", "=", "<", ">", "*", "[", "]",
];

/// Splits a file into words.
pub(super) fn words(file: u16, text: &str) -> Result<Vec<(Token, Span)>, (Span, Complaint)> {
    let mut lexer = Lexer { file, text, at: 0 };
    let mut words = Vec::new();
    loop {
        let (token, span) = lexer.next()?;
        let is_end = token == Token::End;
        words.push((token, span));
        if is_end {
            return Ok(words);
        }
    }
}

struct Lexer<'a> {
    file: u16,
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn next(&mut self) -> Result<(Token, Span), (Span, Complaint)> {
        self.skip();
        let start = self.at;
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Ok((Token::End, self.span(start)));
        };
        let token = match first {
            '\n' => {
                self.at += 1;
                Token::Line
            }
            '"' => self.quoted()?,
            '$' | '@' => {
                self.at += 1;
                let name = self.run(is_in_word);
                if name.is_empty() {
                    let what = format!("{first:?} without a name behind it");
                    return Err((self.span(start), Complaint::new(what)));
                }
                if first == '$' {
                    Token::Variable(name.into())
                } else {
                    Token::Set(name.into())
                }
            }
            _ => match self.address() {
                Some(token) => token,
                None if first.is_ascii_alphanumeric() || first == '_' => self.word()?,
                None => {
                    let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) else {
                        self.at += first.len_utf8();
                        let what = format!("{first:?} has no meaning here");
                        return Err((self.span(start), Complaint::new(what)));
                    };
                    self.at += sign.len();
                    Token::Sign(sign)
                }
            },
        };
        Ok((token, self.span(start)))
    }

    /// Skips blanks, comments, and ends of lines behind a backslash.
    fn skip(&mut self) {
        loop {
            let rest = self.rest();
            if rest.starts_with([' ', '\t', '\r']) {
                self.at += 1;
            } else if rest.starts_with('#') {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("\\\n") {
                self.at += 2;
            } else if rest.starts_with("\\\r\n") {
                self.at += 3;
            } else {
                return;
            }
        }
    }

    fn quoted(&mut self) -> Result<Token, (Span, Complaint)> {
        let start = self.at;
        let inner = &self.rest()[1..];
        let end = inner.find(['"', '\n']).unwrap_or(inner.len());
        self.at += 1 + end;
        if !inner[end..].starts_with('"') {
            let what = "the quote is not closed on this line";
            return Err((self.span(start), Complaint::new(what)));
        }
        self.at += 1;
        Ok(Token::Text(inner[..end].into()))
    }

    /// An IP or MAC address, if there is one.
    fn address(&mut self) -> Option<Token> {
        let rest = self.rest();
        let is_in = |c: char| c.is_ascii_hexdigit() || c == ':' || c == '.';
        let wide = &rest[..rest.find(|c| !is_in(c)).unwrap_or(rest.len())];
        let goes_on = rest[wide.len()..].starts_with(is_in_word_not_joining);
        if wide.contains(':') && !goes_on {
            let wide = wide.trim_end_matches('.');
            if let Some(mac) = mac(wide) {
                self.at += wide.len();
                return Some(Token::Mac(mac));
            }
            if let Ok(address) = wide.parse::<Ipv6Addr>() {
                self.at += wide.len();
                return Some(Token::Address(address.into()));
            }
        }
        let is_in = |c: char| c.is_ascii_digit() || c == '.';
        let narrow = &rest[..rest.find(|c| !is_in(c)).unwrap_or(rest.len())];
        let address = narrow.parse::<Ipv4Addr>().ok()?;
        self.at += narrow.len();
        Some(Token::Address(address.into()))
    }

    fn word(&mut self) -> Result<Token, (Span, Complaint)> {
        let start = self.at;
        let is_number = self.rest().starts_with(|c: char| c.is_ascii_digit());
        if !is_number {
            let word = self.run(is_in_word);
            return Ok(Token::Word(word.into()));
        }
        let digits = self.run(|c| c.is_ascii_alphanumeric());
        let number = match digits.strip_prefix("0x") {
            Some(hex) => u128::from_str_radix(hex, 16).ok(),
            None => digits.parse().ok(),
        };
        if let Some(number) = number {
            return Ok(Token::Number(number));
        }
        // A time, such as 1h30m.
        if digits.ends_with(|c: char| c.is_ascii_alphabetic()) && !digits.starts_with("0x") {
            return Ok(Token::Word(digits.into()));
        }
        let what = format!("{digits:?} is no number");
        Err((self.span(start), Complaint::new(what)))
    }

    fn run(&mut self, is_in: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let len = rest.find(|c| !is_in(c)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn span(&self, start: usize) -> Span {
        let number = |n| u32::try_from(n).unwrap_or(u32::MAX);
        Span {
            file: self.file,
            start: number(start),
            end: number(self.at),
        }
    }
}

fn is_in_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.')
}

fn is_in_word_not_joining(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| matches!(part.len(), 1 | 2))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}
