//! Commands, tables and chains.

use alloc::format;
use alloc::vec::Vec;

use super::super::ast::{Base, Chain, Command, Family, Hook, Item, Name, Node, Policy, TableName};
use super::super::error::{Complaint, Spanned};
use super::super::lexer::Token;
use super::super::symbol::{BRIDGE_PRIORITIES, PRIORITIES};
use super::{COMMANDS, Parsed, Parser};

impl Parser<'_> {
    pub(super) fn command(&mut self, into: &mut Vec<Command>) -> Parsed<()> {
        let span = self.span();
        let word = self.peek_word();
        match word {
            "table" => return self.table(into),
            "chain" | "rule" | "set" | "map" | "element" | "counter" | "limit" | "quota" => {
                return self.add(into, false);
            }
            "add" | "create" => {
                self.next();
                return self.add(into, false);
            }
            "insert" => {
                self.next();
                return self.add(into, true);
            }
            "flush" => {
                self.next();
                return self.flush(into);
            }
            "delete" | "destroy" => {
                let must_exist = word == "delete";
                self.next();
                if !self.take_word("table") {
                    let mut fault = self.expected("\"table\"");
                    fault.1.help = "rules come from files here: only whole tables can be deleted, \
                                    before they are written anew"
                        .into();
                    return Err(fault);
                }
                let table = self.table_name()?;
                into.push(Command::DeleteTable { table, must_exist });
            }
            "define" | "redefine" => {
                let again = word == "redefine";
                self.next();
                let name = self.name("the name of a variable")?;
                if !again && self.defines.contains_key(&name.node) {
                    let what = format!("{} is defined already", name.node);
                    let help = "write `redefine` to change it";
                    return Err((name.span, Complaint::with_help(what, help)));
                }
                self.expect_sign("=")?;
                self.define(name.node)?;
            }
            "undefine" => {
                self.next();
                let name = self.name("the name of a variable")?;
                if self.defines.remove(&name.node).is_none() {
                    let what = format!("{} is not defined", name.node);
                    return Err((name.span, Complaint::new(what)));
                }
            }
            "list" | "reset" | "rename" | "replace" | "monitor" | "describe" | "export" => {
                let what = format!("the command {word} has no place in rules that are loaded");
                return Err((span, Complaint::with_help(what, COMMANDS)));
            }
            _ => return Err(self.expected(COMMANDS)),
        }
        Ok(())
    }

    fn flush(&mut self, into: &mut Vec<Command>) -> Parsed<()> {
        match self.peek_word() {
            "ruleset" => {
                self.next();
                into.push(Command::FlushRuleset);
            }
            "table" => {
                self.next();
                into.push(Command::FlushTable(self.table_name()?));
            }
            "chain" => {
                self.next();
                let table = self.table_name()?;
                let chain = self.name("the name of a chain")?;
                into.push(Command::FlushChain(table, chain));
            }
            _ => return Err(self.expected("\"ruleset\", \"table\" or \"chain\"")),
        }
        Ok(())
    }

    fn add(&mut self, into: &mut Vec<Command>, first: bool) -> Parsed<()> {
        let word = alloc::string::String::from(self.peek_word());
        if word == "table" && !first {
            return self.table(into);
        }
        if first && word != "rule" {
            return Err(self.expected("\"rule\""));
        }
        let what = "table, chain, rule, set, map, element, counter, limit or quota";
        if word.is_empty() {
            return Err(self.expected(what));
        }
        match &word[..] {
            "chain" | "rule" | "set" | "map" | "element" | "counter" | "limit" | "quota" => {
                self.next();
            }
            // nft takes "add inet filter forward ..." for a rule, too; it is better said.
            _ => return Err(self.expected(what)),
        }
        let table = self.table_name()?;
        let item = match &word[..] {
            "chain" => Item::Chain(self.chain(table.family)?),
            "rule" => {
                let chain = self.name("the name of a chain")?;
                for place in ["position", "handle", "index"] {
                    if self.peek_word() == place {
                        let what = format!("rules have no {place} here");
                        let help = "rules stand in the order in which they are written";
                        return Err((self.span(), Complaint::with_help(what, help)));
                    }
                }
                let rule = self.rule()?;
                Item::Rule { chain, rule, first }
            }
            "set" => Item::Set(self.set(false)?),
            "map" => Item::Set(self.set(true)?),
            "element" => {
                let name = self.name("the name of a set")?;
                Item::Elements(name, self.elements()?)
            }
            _ => Item::Object(self.object(&word)?),
        };
        into.push(Command::Add(table, item));
        Ok(())
    }

    fn table(&mut self, into: &mut Vec<Command>) -> Parsed<()> {
        self.expect_word("table")?;
        let table = self.table_name()?;
        let mut items = Vec::new();
        if self.take_sign("{") {
            loop {
                self.skip_ends();
                if self.take_sign("}") {
                    break;
                }
                self.item(&table, &mut items)?;
            }
        }
        into.push(Command::Table(table, items));
        Ok(())
    }

    fn item(&mut self, table: &TableName, into: &mut Vec<Item>) -> Parsed<()> {
        let word = alloc::string::String::from(self.peek_word());
        let span = self.span();
        self.next();
        match &word[..] {
            "chain" => into.push(Item::Chain(self.chain(table.family)?)),
            "set" => into.push(Item::Set(self.set(false)?)),
            "map" => into.push(Item::Set(self.set(true)?)),
            "counter" | "limit" | "quota" => into.push(Item::Object(self.object(&word)?)),
            "define" => {
                let name = self.name("the name of a variable")?;
                self.expect_sign("=")?;
                self.define(name.node)?;
            }
            "comment" => drop(self.text("a comment in quotes")?),
            "ct" | "flowtable" | "secmark" | "synproxy" | "flags" => {
                let what = format!("{word} in a table is not supported");
                return Err((
                    span,
                    Complaint::with_help(what, format!("supported: {ITEMS}")),
                ));
            }
            _ => {
                self.at -= 1;
                return Err(self.expected(ITEMS));
            }
        }
        self.end_of_statement()
    }

    pub(super) fn chain(&mut self, family: Family) -> Parsed<Chain> {
        let name = self.name("the name of a chain")?;
        let mut chain = Chain {
            name,
            base: None,
            policy: None,
            rules: Vec::new(),
        };
        if !self.take_sign("{") {
            return Ok(chain);
        }
        loop {
            self.skip_ends();
            if self.take_sign("}") {
                return Ok(chain);
            }
            match self.peek_word() {
                "type" => chain.base = Some(self.base(family)?),
                "policy" => chain.policy = Some(self.policy()?),
                "comment" => {
                    self.next();
                    self.text("a comment in quotes")?;
                }
                "devices" | "device" | "flags" => {
                    let what = format!("{} has no meaning in these chains", self.peek_word());
                    return Err((self.span(), Complaint::new(what)));
                }
                _ => chain.rules.push(self.rule()?),
            }
            self.end_of_statement()?;
        }
    }

    fn base(&mut self, family: Family) -> Parsed<Base> {
        let start = self.span();
        self.next();
        let span = self.span();
        let kind = self.name("the type of the chain")?;
        match &kind.node[..] {
            "filter" => {}
            "nat" | "route" => {
                let what = format!("chains of type {} are not supported", kind.node);
                let help = "a firewall filters; to translate addresses, put `plumb nat` beside it";
                return Err((span, Complaint::with_help(what, help)));
            }
            word => return Err((span, Complaint::unknown("type of chain", word, ["filter"]))),
        }
        self.expect_word("hook")?;
        let name = self.name("the name of a hook")?;
        let hook = match &name.node[..] {
            "prerouting" => Hook::Prerouting,
            "forward" => Hook::Forward,
            "postrouting" => Hook::Postrouting,
            "input" | "output" => {
                let what = format!(
                    "hook {} never sees a packet: a stage forwards, and nothing is for or from it",
                    name.node
                );
                let help = "write hook forward";
                return Err((name.span, Complaint::with_help(what, help)));
            }
            word => {
                let hooks = ["prerouting", "forward", "postrouting"];
                return Err((name.span, Complaint::unknown("hook", word, hooks)));
            }
        };
        self.expect_word("priority")?;
        let priority = self.priority(family)?;
        let span = start.to(self.last_span());
        Ok(Base {
            hook,
            priority,
            span,
        })
    }

    fn priority(&mut self, family: Family) -> Parsed<i32> {
        let named: &[_] = if family == Family::Bridge {
            &BRIDGE_PRIORITIES
        } else {
            &PRIORITIES
        };
        let negative = self.take_sign("-");
        let span = self.span();
        let mut start = None;
        if let Token::Variable(name) = self.peek().clone() {
            self.next();
            start = Some(match self.variable(&name, span)?.node {
                Node::Number(number) => i32::try_from(number).unwrap_or(i32::MAX),
                Node::Symbol(word) => named_priority(named, &word).map_err(|c| (span, c))?,
                _ => return Err((span, Complaint::new("this is no priority"))),
            });
        } else if let Token::Word(word) = self.peek().clone() {
            self.next();
            start = Some(named_priority(named, &word).map_err(|c| (span, c))?);
        }
        let Some(start) = start else {
            let number = self.number("a priority")?;
            let number = i32::try_from(number).unwrap_or(i32::MAX);
            return Ok(if negative { -number } else { number });
        };
        let sign = match self.peek() {
            Token::Sign("-") => -1,
            Token::Sign("+") => 1,
            _ => return Ok(start),
        };
        self.next();
        let number = i32::try_from(self.number("a number")?).unwrap_or(i32::MAX);
        Ok(start.saturating_add(number.saturating_mul(sign)))
    }

    fn policy(&mut self) -> Parsed<Spanned<Policy>> {
        self.next();
        let span = self.span();
        let word = match self.peek().clone() {
            Token::Word(word) => {
                self.next();
                word
            }
            Token::Variable(name) => {
                self.next();
                match self.variable(&name, span)?.node {
                    Node::Symbol(word) => word,
                    _ => return Err((span, Complaint::new("this is no policy"))),
                }
            }
            _ => return Err(self.expected("accept or drop")),
        };
        let node = match &word[..] {
            "accept" => Policy::Accept,
            "drop" => Policy::Drop,
            word => return Err((span, Complaint::unknown("policy", word, ["accept", "drop"]))),
        };
        Ok(Spanned { node, span })
    }

    pub(super) fn target(&mut self) -> Parsed<Name> {
        self.name("the name of a chain")
    }
}

fn named_priority(named: &[(&str, i32)], word: &str) -> Result<i32, Complaint> {
    let found = named.iter().find(|(name, _)| *name == word);
    match found {
        Some((_, priority)) => Ok(*priority),
        None => {
            let names = named.iter().map(|(name, _)| *name);
            Err(Complaint::unknown("priority", word, names))
        }
    }
}

const ITEMS: &str = "chain, set, map, counter, limit, quota or comment";
