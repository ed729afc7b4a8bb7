//! Which packets a session chooses: from texts to what is in the kernel.

use core::net::IpAddr;
use std::sync::Arc;

use plumb_ebpf::tap::cbpf::Program;
use plumb_ebpf::tap::{
    Builder, Choice, Chooser, Error, MAX_PREFIXES, Prefix, PrefixSet, Rule, filter,
};
use plumb_record::{TapAction, TapRule};
use serde::{Deserialize, Serialize};

use super::failure;
use crate::args::Selection;
use crate::exit::Failure;

/// What is to be different about the choice of packets; what is not said stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Change {
    filter: Option<String>,
    rules: Option<Vec<TapRule>>,
    prefixes: Option<Vec<String>>,
}

impl Change {
    /// From arguments, with files of prefixes read.
    pub(super) fn new(
        selection: &Selection,
        no_rules: bool,
        no_prefixes: bool,
    ) -> Result<Self, Failure> {
        let rules = rules(&selection.rule)?;
        for rule in &rules {
            compile_rule(rule)?;
        }
        let prefixes = prefixes(&selection.cidr)?;
        Ok(Self {
            filter: selection.filter.clone(),
            rules: (no_rules || !rules.is_empty()).then_some(rules),
            prefixes: (no_prefixes || !prefixes.is_empty())
                .then(|| prefixes.iter().map(shown).collect()),
        })
    }

    /// Whether all stays.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What is shown of a choice.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    pub(super) filter: String,
    pub(super) rules: Vec<TapRule>,
    pub(super) prefixes: u64,
}

/// A choice that is ready to take the place of another.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) chooser: Chooser,
    pub(super) shown: Shown,
}

/// Which packets a session chooses, and how another choice is made.
#[derive(Clone, Debug)]
pub(super) struct Selected {
    pub(super) choice: Choice,
    pub(super) shown: Shown,
    pub(super) set: Option<Arc<PrefixSet>>,
    pub(super) builder: Arc<Builder>,
}

impl Selected {
    /// Puts together what a change makes of it, beside what is there.
    pub(super) fn change(&self, change: &Change) -> Result<(Self, Chosen), Failure> {
        let mut next = self.clone();
        if let Some(text) = &change.filter {
            next.choice.filter = compile(text)?;
            next.shown.filter.clone_from(text);
        }
        if let Some(rules) = &change.rules {
            let compiled: Result<_, _> = rules.iter().map(compile_rule).collect();
            next.choice.rules = compiled?;
            next.shown.rules.clone_from(rules);
        }
        if let Some(texts) = &change.prefixes {
            let parsed: Option<Vec<Prefix>> = texts.iter().map(|text| prefix(text)).collect();
            let parsed = parsed.ok_or_else(|| Failure::usage("not a prefix"))?;
            next.set = next.builder.prefixes(&parsed).map_err(|e| failure(&e))?;
            next.shown.prefixes = texts.len() as u64;
        }
        let chooser = next.builder.build(&next.choice, next.set.clone());
        let chosen = Chosen {
            chooser: chooser.map_err(|e| failure(&e))?,
            shown: next.shown.clone(),
        };
        Ok((next, chosen))
    }
}

/// What arguments choose: filter and rules, and how they are shown.
pub(super) fn choice(
    selection: &Selection,
    bytecode: Option<&String>,
) -> Result<(Choice, Shown), Failure> {
    let filter = match (&selection.filter, bytecode) {
        (Some(expression), _) => compile(expression)?,
        (None, Some(program)) => Some(
            program
                .parse()
                .map_err(|error| Failure::usage(format!("--bytecode: {error}")))?,
        ),
        (None, None) => None,
    };
    let rules = rules(&selection.rule)?;
    let compiled: Result<_, _> = rules.iter().map(compile_rule).collect();
    let shown = Shown {
        filter: selection
            .filter
            .as_ref()
            .or(bytecode)
            .cloned()
            .unwrap_or_default(),
        rules,
        prefixes: 0,
    };
    let rules = compiled?;
    Ok((Choice { filter, rules }, shown))
}

/// Reads pairs of an action and an expression.
fn rules(arguments: &[String]) -> Result<Vec<TapRule>, Failure> {
    let pairs = arguments.as_chunks::<2>().0.iter();
    pairs
        .map(|[action, filter]| {
            let action = match action.as_str() {
                "include" => TapAction::Include,
                "exclude" => TapAction::Exclude,
                other => {
                    return Err(Failure::usage(format!(
                        "--rule {other:?}: a rule is to include or exclude what its expression \
                         matches, such as --rule exclude 'port 22'"
                    )));
                }
            };
            let filter = filter.clone();
            Ok(TapRule { action, filter })
        })
        .collect()
}

fn compile_rule(rule: &TapRule) -> Result<Rule, Failure> {
    let program = filter::compile(&rule.filter).map_err(|error| {
        let (action, text) = (rule.action.name(), &rule.filter);
        Failure::usage(format!("--rule {action} {text:?}: {error}"))
    })?;
    let include = rule.action == TapAction::Include;
    Ok(Rule { include, program })
}

/// The program of an expression; none for an empty one.
fn compile(expression: &str) -> Result<Option<Program>, Failure> {
    filter::compile(expression)
        .map_err(|error| Failure::usage(format!("--filter {expression:?}: {error}")))
}

/// The prefixes that arguments name, themselves or in files.
pub(super) fn prefixes(arguments: &[String]) -> Result<Vec<Prefix>, Failure> {
    let mut found = Vec::new();
    for argument in arguments {
        if let Some(prefix) = prefix(argument) {
            found.push(prefix);
            continue;
        }
        let file = std::fs::read_to_string(argument).map_err(|error| {
            Failure::usage(format!(
                "--cidr {argument:?} is neither a prefix such as 10.2.0.0/16 nor a file: {error}"
            ))
        })?;
        for (line, text) in (1..).zip(file.lines()) {
            let text = text.split('#').next().unwrap_or_default().trim();
            if !text.is_empty() {
                found.push(prefix(text).ok_or_else(|| {
                    Failure::usage(format!(
                        "{argument}, line {line}: {text:?} is no prefix such as 10.2.0.0/16"
                    ))
                })?);
            }
        }
    }
    if found.len() > MAX_PREFIXES {
        return Err(failure(&Error::TooManyPrefixes(found.len())));
    }
    Ok(found)
}

/// As [`prefix`] reads it.
fn shown(prefix: &Prefix) -> String {
    let sign = if prefix.include { "" } else { "-" };
    format!("{sign}{}/{}", prefix.address, prefix.len)
}

/// Reads `10.2.0.0/16`, `-2001:db8::/32`, or an address alone.
fn prefix(text: &str) -> Option<Prefix> {
    let (include, text) = match text.strip_prefix('-') {
        Some(rest) => (false, rest),
        None => (true, text.strip_prefix('+').unwrap_or(text)),
    };
    let (address, len) = match text.split_once('/') {
        Some((address, len)) => (address, Some(len.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let len = len.unwrap_or(most);
    (len <= most).then_some(Prefix {
        address,
        len,
        include,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_says_whether_its_packets_are_wanted() {
        let of = |address: [u8; 4], len, include| {
            Some(Prefix {
                address: address.into(),
                len,
                include,
            })
        };
        assert_eq!(prefix("10.2.0.0/16"), of([10, 2, 0, 0], 16, true));
        assert_eq!(prefix("-10.2.3.4"), of([10, 2, 3, 4], 32, false));
        assert_eq!(prefix("+10.2.3.4/0").map(|p| p.len), Some(0));
        assert!(prefix("-2001:db8::/32").is_some_and(|p| !p.include && p.len == 32));
        for wrong in ["", "-", "10.2.0.0/33", "10.2/16", "::/129", "a file"] {
            assert_eq!(prefix(wrong), None, "{wrong}");
        }
        assert!(prefixes(&["/nonexistent".to_owned()]).is_err());
    }

    #[test]
    fn what_is_sent_to_a_session_is_what_was_meant() {
        for text in ["10.2.0.0/16", "-10.2.3.4/32", "-2001:db8::/32", "::/0"] {
            let prefix = prefix(text).expect("a prefix");
            assert_eq!(shown(&prefix), text);
        }
        let words = ["exclude", "port 22", "include", ""].map(str::to_owned);
        let rules = rules(&words).expect("rules");
        assert_eq!(rules[0].action, TapAction::Exclude);
        let all = compile_rule(&rules[1]).expect("a rule");
        assert_eq!((all.include, all.program), (true, None));
        for wrong in [["excluded", "port 22"], ["", ""]] {
            assert!(super::rules(&wrong.map(str::to_owned)).is_err());
        }
    }
}
