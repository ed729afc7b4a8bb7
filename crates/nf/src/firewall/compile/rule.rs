//! One rule.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::super::limit::{Allowance, Bucket};
use super::super::rules::{self, Count, Named, Op, Value, Verdict};
use super::super::set::MOST_FIELDS;
use super::super::syntax::ast::{
    self, Counter, Expr, Family, Hook, How, Kind, LimitUse, Match, Node, QuotaUse, Reject,
    Statement, Step,
};
use super::super::syntax::field::{Ct, Field, Meta, Type};
use super::super::syntax::{Complaint, Span};
use super::set::Use;
use super::value::most;
use super::{Compiled, Compiler};

impl Compiler<'_> {
    /// Makes one rule of a chain; `seen` counts those of the chain that are the same.
    pub(super) fn rule(
        &mut self,
        chain: usize,
        rule: &ast::Rule,
        seen: &mut BTreeMap<String, usize>,
    ) -> Compiled<rules::Rule> {
        let canonical = format!("{rule}");
        let which = seen.entry(canonical.clone()).or_default();
        let name = &self.rules.chains[chain].name;
        let family = self.family.name();
        let identity = format!("{family} {} {name} {canonical} #{which}", self.table);
        *which += 1;
        let mut made = rules::Rule {
            ops: Vec::new(),
            place: self.place(rule.span),
            text: self.sources.text(rule.span),
            identity,
            counter: None,
        };
        for statement in &rule.statements {
            self.statement(chain, statement, &mut made)?;
        }
        Ok(made)
    }

    fn statement(
        &mut self,
        chain: usize,
        statement: &super::super::syntax::Spanned<Statement>,
        rule: &mut rules::Rule,
    ) -> Compiled<()> {
        let span = statement.span;
        let identity = |rule: &rules::Rule| format!("{} {}", rule.identity, rule.ops.len());
        let op = match &statement.node {
            Statement::Match(matched) => self.matched(matched)?,
            Statement::Verdict(verdict) => Op::Verdict(self.verdict(Some((chain, span)), verdict)?),
            Statement::VerdictMap(key, map) => {
                let (key, kinds) = self.keys(key)?;

                let set = self.set(&kinds, map, &Use::Verdicts)?;
                self.map_jumps(chain, set, map.span);
                Op::VerdictMap { key, set }
            }
            Statement::Counter(Counter::Own { packets, bytes }) => {
                let (packets, bytes) = (*packets, *bytes);
                self.rules.counters.push(Named {
                    identity: identity(rule),
                    name: String::new(),
                    start: Count { packets, bytes },
                });
                let number = self.rules.counters.len() - 1;
                rule.counter = Some(number);
                Op::Counter(number)
            }
            Statement::Counter(Counter::Named(name)) => {
                Op::Counter(self.named(&self.counters, name, "counter")?)
            }
            Statement::Log(log) => Op::Log {
                prefix: log.prefix.clone(),
                level: log.level.unwrap_or("warn"),
            },
            Statement::Limit(LimitUse::Own(limit)) => {
                self.rules.limits.push(Named {
                    identity: identity(rule),
                    name: String::new(),
                    start: Bucket::new(*limit),
                });
                Op::Limit(self.rules.limits.len() - 1)
            }
            Statement::Limit(LimitUse::Named(name)) => {
                Op::Limit(self.named(&self.limits, name, "limit")?)
            }
            Statement::Quota(QuotaUse::Own(quota)) => {
                self.rules.quotas.push(Named {
                    identity: identity(rule),
                    name: String::new(),
                    start: Allowance::new(*quota),
                });
                Op::Quota(self.rules.quotas.len() - 1)
            }
            Statement::Quota(QuotaUse::Named(name)) => {
                Op::Quota(self.named(&self.quotas, name, "quota")?)
            }
            Statement::Reject(reject) => {
                let reject = self.reject(chain, *reject, span)?;
                rule.ops.extend(implied(reject));
                Op::Reject(reject)
            }
            Statement::Update(update) => self.update(update)?,
            Statement::Assign(Field::Ct(_), value) => Op::SetCtMark(self.assigned(value)?),
            Statement::Assign(_, value) => Op::SetMark(self.assigned(value)?),
            Statement::Notrack => {
                let base = self.rules.chains[chain].base.as_ref();
                let is_late = base
                    .is_some_and(|b| b.hook != Hook::Prerouting || b.priority >= super::CONNTRACK);
                if is_late {
                    let what = "here the packet is tracked already";
                    let help = "notrack belongs into a chain with `hook prerouting priority raw`";
                    return Err((span, Complaint::with_help(what, help)));
                }
                Op::Notrack
            }
        };
        rule.ops.push(op);
        Ok(())
    }

    fn named(&self, names: &super::Names, name: &ast::Name, what: &str) -> Compiled<usize> {
        match names.get(&self.key(&name.node)) {
            Some(number) => Ok(*number),
            None => {
                let what = format!("there is no {what} {} in this table", name.node);
                Err((name.span, Complaint::new(what)))
            }
        }
    }

    fn matched(&mut self, matched: &Match) -> Compiled<Op> {
        let (mut key, kinds) = self.keys(&matched.left)?;
        let right = &matched.right;
        let is_set = matches!(right.node, Node::Set(_) | Node::Named(_));
        if is_set {
            let negated = match matched.op {
                ast::Op::Implicit | ast::Op::Equal => false,
                ast::Op::NotEqual => true,
                _ => return Err((right.span, Complaint::new("a set is matched with == or !="))),
            };
            let set = self.set(&kinds, right, &Use::Set)?;
            return Ok(Op::Lookup { key, set, negated });
        }
        if let Node::Concat(parts) = &right.node {
            // One element is a set of one.
            let element = ast::Element {
                key: Expr {
                    node: Node::Concat(parts.clone()),
                    span: right.span,
                },
                timeout: None,
                data: None,
            };
            let set = Expr {
                node: Node::Set(vec![element]),
                span: right.span,
            };
            let negated = match matched.op {
                ast::Op::Implicit | ast::Op::Equal => false,
                ast::Op::NotEqual => true,
                _ => {
                    return Err((
                        right.span,
                        Complaint::new("several fields are matched with == or !="),
                    ));
                }
            };
            let set = self.set(&kinds, &set, &Use::Set)?;
            return Ok(Op::Lookup { key, set, negated });
        }
        let (Some(mut operand), Some(kind), true) = (key.pop(), kinds.first(), key.is_empty())
        else {
            let what = "several fields are matched with as many values: A . B, or a set of those";
            return Err((right.span, Complaint::new(what)));
        };
        let (first, last, negated) = self.test(*kind, matched.op, right, &mut operand)?;
        Ok(Op::range(operand, first, last, negated))
    }

    /// The first and last value that match, and whether all others do instead. A mask becomes a
    /// step of the operand.
    fn test(
        &self,
        kind: Kind,
        op: ast::Op,
        right: &Expr,
        operand: &mut rules::Operand,
    ) -> Compiled<(u128, u128, bool)> {
        let all = most(kind);
        let flags = |mask, operand: &mut rules::Operand, negated| {
            operand.steps.push((Step::And, mask));
            Ok((1, all, negated))
        };
        if let Node::Masked(value, mask) = &right.node {
            let negated = match op {
                ast::Op::Implicit | ast::Op::Equal => false,
                ast::Op::NotEqual => true,
                _ => {
                    return Err((
                        right.span,
                        Complaint::new("a mask is matched with == or !="),
                    ));
                }
            };
            let (value, mask) = (self.flags(kind, value)?, self.flags(kind, mask)?);
            operand.steps.push((Step::And, mask));
            return Ok((value, value, negated));
        }
        let is_list = matches!(right.node, Node::List(_));
        if is_list && !kind.of.is_flags() {
            let what = "only flags are listed like this";
            let help = "write a set: { A, B }";
            return Err((right.span, Complaint::with_help(what, help)));
        }
        match op {
            ast::Op::Implicit if kind.of.is_flags() => {
                flags(self.flags(kind, right)?, operand, false)
            }
            ast::Op::None => {
                if !kind.of.is_flags() {
                    let what = "\"!\" asks for none of some flags, and this has none";
                    return Err((right.span, Complaint::with_help(what, "write !=")));
                }
                flags(self.flags(kind, right)?, operand, true)
            }
            _ if is_list => {
                let help = "write the list without an operator for any of the flags, \"!\" for \
                            none, A | B for all of them";
                let what = "a list of flags is not compared";
                Err((right.span, Complaint::with_help(what, help)))
            }
            ast::Op::Implicit | ast::Op::Equal | ast::Op::NotEqual => {
                let (first, last) = self.range(kind, right)?;
                Ok((first, last, op == ast::Op::NotEqual))
            }
            // An empty range holds nothing: 1 to 0.
            ast::Op::Less => match self.value(kind, right)? {
                0 => Ok((1, 0, false)),
                value => Ok((0, value - 1, false)),
            },
            ast::Op::AtMost => Ok((0, self.value(kind, right)?, false)),
            ast::Op::Greater => match self.value(kind, right)? {
                value if value == all => Ok((1, 0, false)),
                value => Ok((value + 1, all, false)),
            },
            ast::Op::AtLeast => Ok((self.value(kind, right)?, all, false)),
        }
    }

    fn flags(&self, kind: Kind, expr: &Expr) -> Compiled<u128> {
        let Node::List(all) = &expr.node else {
            return self.value(kind, expr);
        };
        let mut bits = 0;
        for flag in all {
            bits |= self.value(kind, flag)?;
        }
        Ok(bits)
    }

    fn keys(&mut self, operands: &[ast::Operand]) -> Compiled<(Vec<rules::Operand>, Vec<Kind>)> {
        if let Some(extra) = operands.get(MOST_FIELDS) {
            let what = format!("a key has {MOST_FIELDS} fields at most");
            return Err((extra.span, Complaint::new(what)));
        }
        let mut keys = Vec::with_capacity(operands.len());
        let mut kinds = Vec::with_capacity(operands.len());
        for operand in operands {
            keys.push(self.operand(operand)?);
            kinds.push(operand.field.kind());
        }
        Ok((keys, kinds))
    }

    fn operand(&mut self, operand: &ast::Operand) -> Compiled<rules::Operand> {
        let of = operand.field.family();
        let never = match (self.family, of) {
            (Family::Ip, Some(Family::Ip6)) => Some("ip6"),
            (Family::Ip6, Some(Family::Ip)) => Some("ip"),
            _ => None,
        };
        if let Some(other) = never {
            let what = format!("packets of a table {} never have this", self.family.name());
            let help = format!("put the rule into a table {other} or inet");
            return Err((operand.span, Complaint::with_help(what, help)));
        }
        let kind = operand.field.kind();
        let mut steps = Vec::new();
        for (step, value) in &operand.steps {
            let of = match step {
                // By how many bits.
                Step::Left | Step::Right => Kind {
                    of: Type::Integer,
                    bits: 7,
                },
                Step::And | Step::Or | Step::Xor => kind,
            };
            steps.push((*step, self.value(of, value)?));
        }
        self.rules.reach = self.rules.reach.max(operand.field.reach());
        Ok(rules::Operand {
            field: operand.field,
            steps,
        })
    }

    /// A verdict; `from` is the chain of the rule that gives it, and where.
    pub(super) fn verdict(
        &mut self,
        from: Option<(usize, Span)>,
        verdict: &ast::Verdict,
    ) -> Compiled<Verdict> {
        let target = match verdict {
            ast::Verdict::Accept => return Ok(Verdict::Accept),
            ast::Verdict::Drop => return Ok(Verdict::Drop),
            ast::Verdict::Continue => return Ok(Verdict::Continue),
            ast::Verdict::Return => return Ok(Verdict::Return),
            ast::Verdict::Jump(name) | ast::Verdict::Goto(name) => name,
        };
        let number = self.number_of(target)?;
        if self.rules.chains[number].base.is_some() {
            let what = format!("{} has a hook, so nothing jumps there", target.node);
            return Err((target.span, Complaint::new(what)));
        }
        if let Some((from, span)) = from {
            self.jumps.push((from, number, span));
        }
        Ok(match verdict {
            ast::Verdict::Goto(_) => Verdict::Goto(number),
            _ => Verdict::Jump(number),
        })
    }

    /// Notes the jumps of a verdict map that a chain uses.
    fn map_jumps(&mut self, chain: usize, set: usize, span: Span) {
        let set = &self.rules.sets[set];
        let start = set.start.iter().map(|(element, _)| element.data);
        let targets: Vec<usize> = set
            .fixed
            .data()
            .chain(start)
            .filter_map(|data| match data.verdict() {
                Some(Verdict::Jump(to) | Verdict::Goto(to)) => Some(to),
                _ => None,
            })
            .collect();
        for to in targets {
            self.jumps.push((chain, to, span));
        }
    }

    fn reject(&self, chain: usize, reject: Reject, span: Span) -> Compiled<Reject> {
        let base = self.rules.chains[chain].base.as_ref();
        if base.is_some_and(|base| base.hook == Hook::Postrouting) {
            let what = "in postrouting nothing is refused any more";
            let help = "write the rule into a chain of hook forward, or `drop`";
            return Err((span, Complaint::with_help(what, help)));
        }
        let other = match (self.family, reject) {
            (Family::Ip, Reject::Icmpv6(_)) => "icmp",
            (Family::Ip6, Reject::Icmp(_)) => "icmpv6",
            _ => return Ok(reject),
        };
        let what = format!(
            "packets of a table {} are not refused so",
            self.family.name()
        );
        let help = format!("write `reject with {other} CODE`, or icmpx for both");
        Err((span, Complaint::with_help(what, help)))
    }

    fn update(&mut self, update: &ast::Update) -> Compiled<Op> {
        let (key, kinds) = self.keys(&update.key)?;
        let wanted = match (&update.data, update.how) {
            (None, How::Delete) => None,
            (None, _) => Some(Use::Set),
            (Some(_), _) => Some(Use::Values(Kind {
                of: Type::Integer,
                bits: 32,
            })),
        };
        let (name, span) = (&update.set.node, update.set.span);
        let set = match wanted {
            Some(wanted) => self.found_set(&kinds, name, span, &wanted)?,
            None => match self.sets.get(&self.key(name)) {
                Some(set) => *set,
                None => self.found_set(&kinds, name, span, &Use::Set)?,
            },
        };
        let of = &self.rules.sets[set];
        if !of.dynamic {
            let what = format!("packets add nothing to @{name}");
            let help = "write `flags dynamic;` into the set";
            return Err((span, Complaint::with_help(what, help)));
        }
        let kind = of.data;
        let timeout = update.timeout.or(self.timeout_of(set));
        let data = match (&update.data, kind) {
            (Some(data), Some(kind)) => Some(self.data_value(kind, data)?),
            _ => None,
        };
        Ok(Op::Update(rules::Update {
            how: update.how,
            set,
            key,
            timeout,
            limit: update.limit,
            data,
        }))
    }

    fn assigned(&mut self, value: &ast::Value) -> Compiled<Value> {
        let mark = Field::Meta(Meta::Mark).kind();
        self.data_value(mark, value)
    }

    fn data_value(&mut self, kind: Kind, value: &ast::Value) -> Compiled<Value> {
        Ok(match value {
            ast::Value::Expr(expr) => Value::Constant(self.value(kind, expr)?),
            ast::Value::Operand(operand) => {
                let of = operand.field.kind();
                if !of.of.fits(kind.of) && !matches!(operand.field, Field::Ct(Ct::Mark)) {
                    let what = format!("this is {}, not {}", of.of.words(), kind.of.words());
                    return Err((operand.span, Complaint::new(what)));
                }
                Value::Operand(self.operand(operand)?)
            }
            ast::Value::Map(key, map) => {
                let (key, kinds) = self.keys(key)?;
                Value::Map(key, self.set(&kinds, map, &Use::Values(kind))?)
            }
        })
    }
}

/// What a packet must be so that it can be refused like this.
fn implied(reject: Reject) -> Option<Op> {
    let (meta, value) = match reject {
        Reject::Default | Reject::Icmpx(_) => return None,
        Reject::TcpReset => (Meta::L4Proto, 6),
        Reject::Icmp(_) => (Meta::NfProto, 2),
        Reject::Icmpv6(_) => (Meta::NfProto, 10),
    };
    let key = rules::Operand {
        field: Field::Meta(meta),
        steps: Vec::new(),
    };
    Some(Op::range(key, value, value, false))
}
