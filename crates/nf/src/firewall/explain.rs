//! Verdicts for people.

use alloc::string::String;
use core::fmt::Write;

use super::Seen;
use super::evaluate::{By, Fate};
use super::rules::Rules;

/// Writes what was decided about a packet, by what, and how the packet stands to connections.
pub(super) fn verdict(into: &mut String, rules: &Rules, fate: Fate, by: By, seen: Option<Seen>) {
    let word = match fate {
        Fate::Accept => "accept",
        Fate::Drop => "drop",
        Fate::Reject(_) => "reject",
    };
    let (chain, rule) = match by {
        By::Nothing => {
            // Writing to a string does not fail.
            let _ = write!(into, "{word}: no chain sees it");
            return state(into, seen);
        }
        By::Rule(chain, rule) => (chain, Some(rule)),
        By::Policy(chain) => (chain, None),
    };
    let Some(chain) = rules.chains.get(chain) else {
        return;
    };
    let rule = rule.and_then(|rule| chain.rules.get(rule));
    let base = chain.base.as_ref();
    let place = match (rule, base) {
        (Some(rule), _) => &rule.place[..],
        (None, Some(base)) => &base.place[..],
        (None, None) => "",
    };
    let (family, table, name) = (chain.family.name(), &chain.table, &chain.name);
    let text = rule.map_or("policy", |rule| &rule.text[..]);
    let _ = write!(
        into,
        "{word}: {place} table {family} {table} chain {name}: {text}"
    );
    state(into, seen);
}

fn state(into: &mut String, seen: Option<Seen>) {
    let Some(Seen { state, invalid }) = seen else {
        return;
    };
    let _ = write!(into, "; ct state {}", state.name());
    if let Some(invalid) = invalid {
        let _ = write!(into, " ({})", invalid.words());
    }
}
