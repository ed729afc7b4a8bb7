//! Rules: what is matched, and the verdict.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::super::ast::{Match, Op, Rule, Statement, Verdict};
use super::super::error::{Complaint, Spanned};
use super::super::field::{Ct, Field, Meta, PROTOCOLS};
use super::super::lexer::Token;
use super::{Parsed, Parser};

impl Parser<'_> {
    pub(super) fn rule(&mut self) -> Parsed<Rule> {
        let start = self.span();
        let mut rule = Rule {
            statements: Vec::new(),
            comment: None,
            span: start,
        };
        while !self.is_end() && !self.is_sign("}") {
            if self.take_word("comment") {
                rule.comment = Some(self.text("a comment in quotes")?);
                break;
            }
            let span = self.span();
            let ended = rule.statements.last();
            if let Some(Spanned { node, .. }) = ended
                && matches!(
                    node,
                    Statement::Verdict(_) | Statement::Reject(_) | Statement::VerdictMap(..)
                )
            {
                let what = "nothing of a rule comes behind its verdict";
                let help = "begin a new line or write \";\"";
                return Err((span, Complaint::with_help(what, help)));
            }
            let node = self.statement()?;
            let span = span.to(self.last_span());
            rule.statements.push(Spanned { node, span });
        }
        if rule.statements.is_empty() {
            return Err(self.expected("a rule"));
        }
        rule.span = start.to(self.last_span());
        Ok(rule)
    }

    fn statement(&mut self) -> Parsed<Statement> {
        if let Some(verdict) = self.verdict()? {
            return Ok(Statement::Verdict(verdict));
        }
        let word = String::from(self.peek_word());
        // `counter`, `limit` and their like are no fields; all else is matched.
        match &word[..] {
            "counter" => return self.counter(),
            "log" => return self.log(),
            "limit" => return self.limit(),
            "quota" => return self.quota(),
            "reject" => return self.reject(),
            "notrack" => {
                self.next();
                return Ok(Statement::Notrack);
            }
            "add" | "update" | "delete" if matches!(self.peek_at(1), Token::Set(_)) => {
                return self.update();
            }
            _ => {}
        }
        if !self.is_field() {
            return Err(self.refused(&word));
        }
        let start = self.span();
        let mut left = self.operands()?;
        if self.peek_word() == "set" {
            return self.assign(left, start);
        }
        if self.take_word("vmap") {
            let map = self.map()?;
            return Ok(Statement::VerdictMap(left, Self::boxed(map)));
        }
        if self.peek_word() == "map" {
            let what = "a map gives a value, which nothing takes here";
            let help = "for verdicts write vmap; for marks `meta mark set FIELD map { ... }`";
            return Err((self.span(), Complaint::with_help(what, help)));
        }
        let op = match self.peek() {
            Token::Sign("==") => Op::Equal,
            Token::Sign("!=") => Op::NotEqual,
            Token::Sign("<") => Op::Less,
            Token::Sign("<=") => Op::AtMost,
            Token::Sign(">") => Op::Greater,
            Token::Sign(">=") => Op::AtLeast,
            Token::Sign("!") => Op::None,
            _ => Op::Implicit,
        };
        if op != Op::Implicit {
            self.next();
        } else if let Token::Word(word) = self.peek() {
            let op = match &word[..] {
                "eq" => Some(Op::Equal),
                "ne" => Some(Op::NotEqual),
                "lt" => Some(Op::Less),
                "le" => Some(Op::AtMost),
                "gt" => Some(Op::Greater),
                "ge" => Some(Op::AtLeast),
                _ => None,
            };
            if let Some(op) = op {
                self.next();
                let right = self.right()?;
                return Ok(Statement::Match(Match { left, op, right }));
            }
        }
        left.shrink_to_fit();
        let right = self.right()?;
        Ok(Statement::Match(Match { left, op, right }))
    }

    fn assign(
        &mut self,
        mut left: Vec<super::super::ast::Operand>,
        start: super::super::error::Span,
    ) -> Parsed<Statement> {
        let span = start.to(self.last_span());
        self.next();
        match (left.pop(), left.is_empty()) {
            (Some(operand), true)
                if operand.steps.is_empty()
                    && matches!(operand.field, Field::Meta(Meta::Mark) | Field::Ct(Ct::Mark)) =>
            {
                Ok(Statement::Assign(operand.field, self.value()?))
            }
            _ => {
                let what = "this cannot be set";
                let help = "supported: meta mark set, ct mark set; a firewall changes no headers";
                Err((span, Complaint::with_help(what, help)))
            }
        }
    }

    /// A verdict, if there is one.
    pub(super) fn verdict(&mut self) -> Parsed<Option<Verdict>> {
        let verdict = match self.peek_word() {
            "accept" => Verdict::Accept,
            "drop" => Verdict::Drop,
            "continue" => Verdict::Continue,
            "return" => Verdict::Return,
            "jump" => {
                self.next();
                return Ok(Some(Verdict::Jump(self.target()?)));
            }
            "goto" => {
                self.next();
                return Ok(Some(Verdict::Goto(self.target()?)));
            }
            _ => return Ok(None),
        };
        self.next();
        Ok(Some(verdict))
    }

    /// Why something is not understood, as well as that can be known.
    fn refused(&self, word: &str) -> super::Fault {
        const REASONS: [(&[&str], &str); 7] = [
            (
                &["masquerade", "snat", "dnat", "redirect", "tproxy"],
                "a firewall filters; to translate addresses, put `plumb nat` beside it",
            ),
            (
                &["fib"],
                "a stage has no routes; say --left-net and --right-net against spoofed sources",
            ),
            (
                &[
                    "queue", "dup", "fwd", "synproxy", "flow", "xt", "osf", "tcp", "ct",
                ],
                "a stage hands packets to its neighbours only",
            ),
            (
                &["meter"],
                "make a set with `flags dynamic` and write `add @set { KEY limit rate ... }`",
            ),
            (
                &["numgen", "jhash", "symhash"],
                "the same packets get the same verdicts here, without chance",
            ),
            (
                &["socket", "rt", "ipsec", "cgroup", "skuid", "skgid"],
                "a stage has no sockets, routes or users",
            ),
            (
                &["frag", "hbh", "dst", "mh", "srh", "exthdr", "ah"],
                "headers between IPv6 and its payload cannot be matched; meta l4proto looks behind \
                 them",
            ),
        ];
        let reason = REASONS.iter().find(|(words, _)| words.contains(&word));
        if let Some((_, help)) = reason {
            let what = format!("{word:?} is not supported");
            return (self.span(), Complaint::with_help(what, *help));
        }
        let mut fault = self.expected("a match, a statement or a verdict");
        let mut protocols = String::new();
        for (name, ..) in PROTOCOLS {
            protocols.push_str(name);
            protocols.push_str(", ");
        }
        fault.1.help = format!(
            "supported: matches on {protocols}vlan, meta, ct, iifname, oifname and @th,0,16; \
             counter, log, limit, quota, reject, notrack, add, update and delete @set; accept, \
             drop, return, continue, jump, goto"
        );
        fault
    }
}
