//! Sets and maps, named and not.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::super::rules;
use super::super::set::{Conflict, Data, Fixed, MOST_FIELDS};
use super::super::syntax::ast::{self, Expr, Kind, Node};
use super::super::syntax::{Complaint, Span};
use super::{Compiled, Compiler};

/// What a set must be where it is used.
pub(super) enum Use {
    Set,
    Verdicts,
    Values(Kind),
}

/// What one is to be made of.
struct Plan<'a> {
    key: &'a [Kind],
    data: Option<Kind>,
    leads_to_verdicts: bool,
    elements: &'a [ast::Element],
    interval: bool,
    merge: bool,
}

impl Compiler<'_> {
    pub(super) fn named_set(&mut self, set: &ast::Set) -> Compiled<()> {
        let key = self.key(&set.name.node);
        if set.key.len() > MOST_FIELDS {
            let what = format!("a key has {MOST_FIELDS} fields at most");
            return Err((set.span, Complaint::new(what)));
        }
        if set.dynamic && set.interval {
            let what = "a set of intervals whose elements come and go is not supported";
            let help =
                "leave out `flags interval`, or `flags dynamic`, `flags timeout` and timeout";
            return Err((set.span, Complaint::with_help(what, help)));
        }
        let plan = Plan {
            key: &set.key,
            data: set.data,
            leads_to_verdicts: set.leads_to_verdicts,
            elements: &set.elements,
            interval: set.interval,
            merge: set.auto_merge,
        };
        let (elements, any) = self.elements(&plan)?;
        if let Some(size) = set.size
            && u32::try_from(elements.len()).is_ok_and(|n| n > size)
        {
            let what = format!("more elements than the size {size} of the set");
            return Err((set.span, Complaint::new(what)));
        }
        let mut made = rules::Set {
            name: format!("{} {} {}", self.family.name(), self.table, set.name.node),
            key: set.key.clone(),
            data: set.data,
            leads_to_verdicts: set.leads_to_verdicts,
            fixed: Fixed::default(),
            dynamic: set.dynamic,
            size: set.size,
            timeout: set.timeout,
            start: Vec::new(),
        };
        if set.dynamic {
            let timeouts = set.elements.iter().map(|e| e.timeout.or(set.timeout));
            made.start = elements.into_iter().zip(timeouts).collect();
        } else {
            if let Some(element) = set.elements.iter().find(|e| e.timeout.is_some()) {
                let help = "write `flags timeout;` into the set";
                let what = "elements of this set have no timeout";
                return Err((element.key.span, Complaint::with_help(what, help)));
            }
            made.fixed = fixed(&plan, &elements, any)?;
        }
        let number = self.rules.sets.len();
        self.rules.sets.push(made);
        self.sets.insert(key, number);
        Ok(())
    }

    /// The set that an expression is, for keys of these kinds.
    pub(super) fn set(&mut self, keys: &[Kind], expr: &Expr, wanted: &Use) -> Compiled<usize> {
        let elements = match &expr.node {
            Node::Named(name) => return self.found_set(keys, name, expr.span, wanted),
            Node::Set(elements) => elements,
            _ => return Err((expr.span, Complaint::new("expected a set"))),
        };
        if elements.is_empty() {
            return Err((expr.span, Complaint::new("the set is empty")));
        }
        let (data, leads_to_verdicts) = match wanted {
            Use::Set => (None, false),
            Use::Verdicts => (None, true),
            Use::Values(kind) => (Some(*kind), false),
        };
        let plan = Plan {
            key: keys,
            data,
            leads_to_verdicts,
            elements,
            interval: true,
            merge: true,
        };
        let (found, any) = self.elements(&plan)?;
        if let Some(element) = elements.iter().find(|e| e.timeout.is_some()) {
            let what = "elements of a set without a name have no timeout";
            return Err((element.key.span, Complaint::new(what)));
        }
        let fixed = fixed(&plan, &found, any)?;
        self.rules.sets.push(rules::Set {
            name: String::new(),
            key: keys.to_vec(),
            data,
            leads_to_verdicts,
            fixed,
            dynamic: false,
            size: None,
            timeout: None,
            start: Vec::new(),
        });
        Ok(self.rules.sets.len() - 1)
    }

    /// A named set, if it fits.
    pub(super) fn found_set(
        &self,
        keys: &[Kind],
        name: &str,
        span: Span,
        wanted: &Use,
    ) -> Compiled<usize> {
        let Some(number) = self.sets.get(&self.key(name)).copied() else {
            let what = format!("there is no set {name} in this table");
            return Err((span, Complaint::new(what)));
        };
        let set = &self.rules.sets[number];
        let fits =
            set.key.len() == keys.len() && set.key.iter().zip(keys).all(|(a, b)| a.of.fits(b.of));
        if !fits {
            let mut words = String::new();
            for kind in &set.key {
                words.push_str(if words.is_empty() { "" } else { " . " });
                words.push_str(kind.of.words());
            }
            let what = format!("the elements of @{name} are of another type: {words}");
            return Err((span, Complaint::new(what)));
        }
        let what = match wanted {
            Use::Set if set.leads_to_verdicts || set.data.is_some() => "is a map",
            Use::Verdicts if !set.leads_to_verdicts => "does not lead to verdicts",
            Use::Values(kind) if !set.data.is_some_and(|data| data.of.fits(kind.of)) => {
                "does not lead to such values"
            }
            Use::Set | Use::Verdicts | Use::Values(_) => return Ok(number),
        };
        Err((span, Complaint::new(format!("@{name} {what}"))))
    }

    fn elements(
        &mut self,
        plan: &Plan<'_>,
    ) -> Compiled<(Vec<super::super::set::Element>, Option<Data>)> {
        let mut made = Vec::with_capacity(plan.elements.len());
        let mut any = None;
        for element in plan.elements {
            let data = self.data(plan, element)?;
            let parts = match &element.key.node {
                Node::Concat(parts) => &parts[..],
                _ => core::slice::from_ref(&element.key),
            };
            if matches!(element.key.node, Node::Any) {
                any = Some(data);
                continue;
            }
            if parts.len() != plan.key.len() {
                let (have, want) = (parts.len(), plan.key.len());
                let what = format!("the key has {want} fields, this has {have}");
                return Err((element.key.span, Complaint::new(what)));
            }
            let (mut first, mut last) = ([0; MOST_FIELDS], [0; MOST_FIELDS]);
            for (i, (part, kind)) in parts.iter().zip(plan.key).enumerate() {
                (first[i], last[i]) = self.range(*kind, part)?;
            }
            if !plan.interval && first != last {
                let what = "this set holds single values";
                let help = "write `flags interval;` into it for ranges and prefixes";
                return Err((element.key.span, Complaint::with_help(what, help)));
            }
            made.push(super::super::set::Element { first, last, data });
        }
        Ok((made, any))
    }

    fn data(&mut self, plan: &Plan<'_>, element: &ast::Element) -> Compiled<Data> {
        let span = element.key.span;
        match (&element.data, plan.leads_to_verdicts, plan.data) {
            (None, false, None) => Ok(Data::Nothing),
            (Some(ast::Data::Verdict(verdict)), true, _) => {
                Ok(Data::Verdict(self.verdict(None, verdict)?))
            }
            (Some(ast::Data::Value(value)), false, Some(kind)) => {
                Ok(Data::Value(self.value(kind, value)?))
            }
            (None, ..) => Err((
                span,
                Complaint::new("in a map each element leads somewhere"),
            )),
            (Some(_), false, None) => Err((span, Complaint::new("elements of a set lead nowhere"))),
            (Some(_), true, _) => Err((span, Complaint::new("this map leads to verdicts"))),
            (Some(_), false, Some(_)) => Err((span, Complaint::new("this map leads to values"))),
        }
    }

    /// How long an element of a set lives, if not for ever.
    pub(super) fn timeout_of(&self, set: usize) -> Option<Duration> {
        self.rules.sets.get(set)?.timeout
    }
}

fn fixed(
    plan: &Plan<'_>,
    elements: &[super::super::set::Element],
    any: Option<Data>,
) -> Compiled<Fixed> {
    Fixed::new(plan.key.len(), elements, any, plan.merge).map_err(|conflict| {
        // "*" is no element of its own, and never conflicts.
        let keys = plan
            .elements
            .iter()
            .filter(|e| !matches!(e.key.node, Node::Any));
        let span = |number: usize| {
            keys.clone()
                .nth(number)
                .map(|e| e.key.span)
                .unwrap_or_default()
        };
        match conflict {
            Conflict::Overlap(first, second) => {
                let other = keys.clone().nth(first).map(|e| format!("{}", e.key));
                let what = format!("this overlaps {}", other.unwrap_or_default());
                let help = if plan.data.is_some() || plan.leads_to_verdicts {
                    "a key must lead to one thing only"
                } else {
                    "write `auto-merge;` into the set to make one interval of them"
                };
                (span(second), Complaint::with_help(what, help))
            }
            Conflict::TooMany => {
                let what = format!(
                    "more than {} elements of several fields hold ranges",
                    super::super::set::MOST_CROSSED
                );
                (span(0), Complaint::new(what))
            }
        }
    })
}
