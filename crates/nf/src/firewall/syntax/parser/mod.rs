//! Reading rules: what each word means where it stands.

mod expr;
mod rule;
mod set;
mod statement;
mod table;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::ast::{Command, Expr, Family, Name, TableName};
use super::error::{Complaint, Source, Sources, Span, Spanned};
use super::lexer::{self, Token};

/// Files that may include each other in a row, as in nft.
const MOST_DEEP: usize = 16;
/// Files in all.
const MOST_FILES: usize = 256;
/// Bytes of all files.
const MOST_BYTES: usize = 16 << 20;
/// Values in all, those of variables counted wherever they are used.
const MOST_VALUES: usize = 1 << 20;
/// Expressions within each other.
const MOST_NESTED: usize = 32;

type Fault = (Span, Complaint);
type Parsed<T> = Result<T, Fault>;

/// Reads files, the first and those that it includes. `include` gives what a name stands for,
/// or why there is nothing; it is told who asks.
pub(crate) fn parse(
    main: Source,
    defines: &[(String, String)],
    include: &mut dyn FnMut(&str, &str) -> Result<Vec<Source>, String>,
) -> Result<(Vec<Command>, Sources), (Sources, Fault)> {
    let mut parser = Parser {
        sources: Sources::default(),
        words: Vec::new(),
        at: 0,
        defines: BTreeMap::new(),
        values: 0,
        nested: 0,
        bytes: 0,
        include,
    };
    let mut commands = Vec::new();
    let done = parser
        .given(defines)
        .and_then(|()| parser.file(main, 0, &mut commands));
    match done {
        Ok(()) => Ok((commands, parser.sources)),
        Err(fault) => Err((parser.sources, fault)),
    }
}

struct Parser<'a> {
    sources: Sources,
    words: Vec<(Token, Span)>,
    at: usize,
    defines: BTreeMap<String, (Expr, usize)>,
    values: usize,
    nested: usize,
    bytes: usize,
    include: &'a mut dyn FnMut(&str, &str) -> Result<Vec<Source>, String>,
}

impl Parser<'_> {
    /// Variables of the command line.
    fn given(&mut self, defines: &[(String, String)]) -> Parsed<()> {
        for (name, value) in defines {
            let source = Source {
                name: format!("--define {name}"),
                text: value.clone(),
            };
            self.open(source)?;
            self.define(name.clone())?;
            if *self.peek() != Token::End {
                return Err(self.expected("the end of the value"));
            }
        }
        Ok(())
    }

    fn open(&mut self, source: Source) -> Parsed<()> {
        let number = u16::try_from(self.sources.0.len()).unwrap_or(u16::MAX);
        let nowhere = Span {
            file: number,
            ..Span::default()
        };
        let is_full = self.sources.0.len() >= MOST_FILES;
        self.bytes = self.bytes.saturating_add(source.text.len());
        let words = if is_full || self.bytes > MOST_BYTES {
            Err((
                nowhere,
                Complaint::new("more than 256 files or 16 MiB of rules"),
            ))
        } else {
            lexer::words(number, &source.text)
        };
        self.sources.0.push(source);
        self.words = words?;
        self.at = 0;
        Ok(())
    }

    fn file(&mut self, source: Source, depth: usize, into: &mut Vec<Command>) -> Parsed<()> {
        self.open(source)?;
        loop {
            self.skip_ends();
            match self.peek() {
                Token::End => return Ok(()),
                Token::Word(word) if word == "include" => self.included(depth, into)?,
                Token::Word(_) => {
                    self.command(into)?;
                    self.end_of_statement()?;
                }
                _ => return Err(self.expected(COMMANDS)),
            }
        }
    }

    fn included(&mut self, depth: usize, into: &mut Vec<Command>) -> Parsed<()> {
        self.next();
        let span = self.span();
        let Token::Text(path) = self.peek().clone() else {
            return Err(self.expected("the path of a file in quotes"));
        };
        self.next();
        self.end_of_statement()?;
        if depth + 1 >= MOST_DEEP {
            let what = "files include each other more than 16 deep";
            return Err((span, Complaint::new(what)));
        }
        let from = self.sources.0.get(usize::from(span.file));
        let from = from.map(|source| source.name.clone()).unwrap_or_default();
        let files = (self.include)(&from, &path).map_err(|why| (span, Complaint::new(why)))?;
        let (words, at) = (core::mem::take(&mut self.words), self.at);
        for file in files {
            self.file(file, depth + 1, into)?;
        }
        (self.words, self.at) = (words, at);
        Ok(())
    }

    fn define(&mut self, name: String) -> Parsed<()> {
        let before = self.values;
        let value = self.initializer()?;
        self.defines.insert(name, (value, self.values - before));
        Ok(())
    }

    /// A variable's value, as if it stood here.
    fn variable(&mut self, name: &str, span: Span) -> Parsed<Expr> {
        let Some((value, size)) = self.defines.get(name) else {
            let what = format!("${name} is not defined");
            let known: Vec<_> = self.defines.keys().take(20).map(|k| &k[..]).collect();
            let help = if known.is_empty() {
                format!("write `define {name} = VALUE` above, or --define {name}=VALUE")
            } else {
                format!("defined: {}", known.join(", "))
            };
            return Err((span, Complaint::with_help(what, help)));
        };
        let (mut value, size) = (value.clone(), *size);
        value.span = span;
        self.charge(size.max(1), span)?;
        Ok(value)
    }

    fn charge(&mut self, values: usize, span: Span) -> Parsed<()> {
        self.values += values;
        if self.values > MOST_VALUES {
            let what = "more than 1048576 values in these rules";
            return Err((span, Complaint::new(what)));
        }
        Ok(())
    }

    /// Runs `read` one level deeper.
    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.nested >= MOST_NESTED {
            let what = "more than 32 levels of braces";
            return Err((self.span(), Complaint::new(what)));
        }
        self.nested += 1;
        let read = read(self);
        self.nested -= 1;
        read
    }

    fn peek(&self) -> &Token {
        self.peek_at(0)
    }

    fn peek_at(&self, ahead: usize) -> &Token {
        self.words
            .get(self.at + ahead)
            .map_or(&Token::End, |(token, _)| token)
    }

    fn peek_word(&self) -> &str {
        self.word_at(0)
    }

    fn word_at(&self, ahead: usize) -> &str {
        match self.peek_at(ahead) {
            Token::Word(word) => word,
            _ => "",
        }
    }

    fn span(&self) -> Span {
        self.words
            .get(self.at)
            .or(self.words.last())
            .map(|(_, span)| *span)
            .unwrap_or_default()
    }

    /// Where the last word was.
    fn last_span(&self) -> Span {
        let before = self.at.saturating_sub(1);
        self.words.get(before).map(|w| w.1).unwrap_or_default()
    }

    fn next(&mut self) {
        if self.at < self.words.len() {
            self.at += 1;
        }
    }

    fn is_sign(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(found) if *found == sign)
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let found = self.is_sign(sign);
        if found {
            self.next();
        }
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek_word() == word;
        if found {
            self.next();
        }
        found
    }

    fn expect_sign(&mut self, sign: &str) -> Parsed<()> {
        if self.take_sign(sign) {
            Ok(())
        } else {
            Err(self.expected(&format!("{sign:?}")))
        }
    }

    fn expect_word(&mut self, word: &str) -> Parsed<()> {
        if self.take_word(word) {
            Ok(())
        } else {
            Err(self.expected(&format!("{word:?}")))
        }
    }

    fn name(&mut self, what: &str) -> Parsed<Name> {
        let span = self.span();
        match self.peek().clone() {
            Token::Word(node) if !node.starts_with(|c: char| c.is_ascii_digit()) => {
                self.next();
                Ok(Spanned { node, span })
            }
            _ => Err(self.expected(what)),
        }
    }

    fn number(&mut self, what: &str) -> Parsed<u64> {
        match self.peek() {
            Token::Number(number) => match u64::try_from(*number) {
                Ok(number) => {
                    self.next();
                    Ok(number)
                }
                Err(_) => Err((self.span(), Complaint::new("the number is too large"))),
            },
            _ => Err(self.expected(what)),
        }
    }

    fn text(&mut self, what: &str) -> Parsed<String> {
        match self.peek().clone() {
            Token::Text(text) => {
                self.next();
                Ok(text)
            }
            _ => Err(self.expected(what)),
        }
    }

    /// What is here, and what should be.
    fn expected(&self, what: &str) -> Fault {
        let found = match self.peek() {
            Token::Word(word) => format!("{word:?}"),
            Token::Text(text) => format!("the text {text:?}"),
            Token::Number(number) => format!("{number}"),
            Token::Address(address) => format!("{address}"),
            Token::Mac(_) => "a MAC address".into(),
            Token::Variable(name) => format!("${name}"),
            Token::Set(name) => format!("@{name}"),
            Token::Sign(sign) => format!("{sign:?}"),
            Token::Line => "the end of the line".into(),
            Token::End => "the end of the file".into(),
        };
        let what = format!("expected {what}, found {found}");
        (self.span(), Complaint::new(what))
    }

    fn skip_lines(&mut self) {
        while *self.peek() == Token::Line {
            self.next();
        }
    }

    fn skip_ends(&mut self) {
        while *self.peek() == Token::Line || self.is_sign(";") {
            self.next();
        }
    }

    fn is_end(&self) -> bool {
        matches!(self.peek(), Token::Line | Token::End) || self.is_sign(";")
    }

    fn end_of_statement(&mut self) -> Parsed<()> {
        if self.is_sign("}") {
            return Ok(());
        }
        if !self.is_end() {
            return Err(self.expected("the end of the line or \";\""));
        }
        self.next();
        Ok(())
    }

    fn family(&mut self) -> Parsed<Family> {
        const REFUSED: [(&str, &str); 2] = [
            (
                "arp",
                "rules for ARP belong into a table of the family bridge: `ether type arp`",
            ),
            (
                "netdev",
                "a stage has no devices; use hook prerouting of a table inet or bridge",
            ),
        ];
        let word = self.peek_word();
        if let Some((_, why)) = REFUSED.iter().find(|(name, _)| *name == word)
            && matches!(self.peek_at(1), Token::Word(_))
        {
            let what = format!("tables of the family {word} are not supported");
            return Err((self.span(), Complaint::with_help(what, *why)));
        }
        let family = Family::ALL.iter().find(|(name, _)| *name == word);
        // A table may be called "ip", too.
        match family {
            Some((_, family)) if matches!(self.peek_at(1), Token::Word(_)) => {
                self.next();
                Ok(*family)
            }
            _ => Ok(Family::Ip),
        }
    }

    fn table_name(&mut self) -> Parsed<TableName> {
        let family = self.family()?;
        let name = self.name("the name of a table")?;
        Ok(TableName { family, name })
    }

    fn boxed(expr: Expr) -> alloc::boxed::Box<Expr> {
        alloc::boxed::Box::new(expr)
    }

    fn one(expr: Expr) -> Vec<Expr> {
        vec![expr]
    }
}

const COMMANDS: &str = "a command: table, add, create, insert, flush, delete, destroy, define, \
                        redefine, undefine or include";
