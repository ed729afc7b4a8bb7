//! Stages as a TOML file says them.

use std::collections::BTreeMap;
use std::path::Path;

use clap::ArgAction;
use serde::Deserialize;
use toml::Value;

use super::text;
use crate::args::FunctionArgs;
use crate::exit::Failure;
use crate::settings::nearest;

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    stages: Vec<Stage>,
    #[serde(default)]
    offline: bool,
    #[serde(default)]
    counters: bool,
    #[serde(default)]
    json: bool,
    #[serde(default)]
    drop: bool,
    #[serde(default)]
    no_upgrade: bool,
    #[serde(default)]
    gso: bool,
    busy_poll: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a stage: text, a list of words, or { VERB = { OPTION = VALUE, ... } }"
)]
enum Stage {
    /// As on a command line.
    Text(String),
    /// Its words, for which no quoting is needed.
    Words(Vec<String>),
    /// A verb with its options.
    Options(BTreeMap<String, BTreeMap<String, Value>>),
}

/// Reads a file: the words of each stage. What it says of the chain itself is put into `args`.
pub(super) fn read(path: &Path, args: &mut FunctionArgs) -> Result<Vec<Vec<String>>, Failure> {
    let failed = |what: String| Failure::usage(format!("{}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
    parse(&text, args).map_err(failed)
}

pub(super) fn parse(text: &str, args: &mut FunctionArgs) -> Result<Vec<Vec<String>>, String> {
    let file: File = toml::from_str(text).map_err(|e| {
        let line = e.span().map(|span| {
            let before = text.get(..span.start).unwrap_or_default();
            format!("line {}: ", before.matches('\n').count() + 1)
        });
        format!("{}{}", line.unwrap_or_default(), e.message().trim())
    })?;
    args.offline |= file.offline;
    args.links.counters |= file.counters;
    args.links.json |= file.json;
    args.links.drop |= file.drop;
    args.links.no_upgrade |= file.no_upgrade;
    args.links.gso |= file.gso;
    if let Some(text) = &file.busy_poll {
        let said = text.parse().map_err(|e| format!("busy-poll: {e}"))?;
        args.links.busy_poll.get_or_insert(said);
    }
    if file.stages.is_empty() {
        return Err("a chain needs a stage".to_owned());
    }
    let mut all = Vec::new();
    for (stage, number) in file.stages.into_iter().zip(1..) {
        let named = |what: String| format!("stage {number}: {what}");
        match stage {
            Stage::Text(text) => {
                let stages = text::split(&text).map_err(named)?;
                all.extend(stages);
            }
            Stage::Words(words) if words.is_empty() => return Err(named("it is empty".to_owned())),
            Stage::Words(words) => all.push(words),
            Stage::Options(table) => all.push(words(table).map_err(named)?),
        }
    }
    Ok(all)
}

/// The command line of a verb with its options.
fn words(table: BTreeMap<String, BTreeMap<String, Value>>) -> Result<Vec<String>, String> {
    let mut verbs = table.into_iter();
    let (Some((verb, options)), None) = (verbs.next(), verbs.next()) else {
        return Err("expected one verb, as { nat = { ... } }".to_owned());
    };
    let command = crate::command();
    let verbs = || command.get_subcommands().map(clap::Command::get_name);
    let Some(command) = crate::verb(&verb) else {
        let hint = nearest(&verb, verbs()).unwrap_or_default();
        return Err(format!(
            "plumb has no stage {verb:?}; is {hint} meant? Other programs are a list of words"
        ));
    };
    let mut words = vec![verb];
    let (mut operands, mut last) = (Vec::new(), Vec::new());
    for (key, value) in options {
        let values =
            texts(&value).ok_or_else(|| format!("{key}: expected text, numbers, true or false"))?;
        let is_key = |arg: &&clap::Arg| match arg.get_long() {
            Some(long) => long == key,
            None => arg.get_id().as_str() == key,
        };
        let Some(arg) = command.get_arguments().find(is_key) else {
            let keys = command.get_arguments().map(|arg| {
                let id = arg.get_id().as_str();
                arg.get_long().unwrap_or(id)
            });
            let hint = nearest(&key, keys).unwrap_or_default();
            return Err(format!(
                "{} has no option {key:?}; is {hint} meant?",
                words[0]
            ));
        };
        match arg.get_long() {
            None if arg.is_last_set() => last.extend(values),
            None => operands.extend(values),
            Some(long) if matches!(arg.get_action(), ArgAction::SetTrue) => match value.as_bool() {
                Some(true) => words.push(format!("--{long}")),
                Some(false) => {}
                None => return Err(format!("{key}: expected true or false")),
            },
            Some(long) => words.extend(values.iter().map(|value| format!("--{long}={value}"))),
        }
    }
    words.extend(operands);
    if !last.is_empty() {
        words.push("--".to_owned());
        words.extend(last);
    }
    Ok(words)
}

/// A value, or each of a list, as it would be written on a command line.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Integer(number) => Some(vec![number.to_string()]),
        Value::Float(number) => Some(vec![number.to_string()]),
        Value::Boolean(is) => Some(vec![is.to_string()]),
        Value::Array(values) => {
            let all: Option<Vec<_>> = values.iter().map(texts).collect();
            all.map(Vec::into_iter).map(|all| all.flatten().collect())
        }
        Value::Datetime(_) | Value::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_text_or_words_or_a_verb_with_options() {
        let mut args = FunctionArgs::default();
        let found = parse(
            r#"
            counters = true
            busy-poll = "50us"
            stages = [
                "count | impair --delay '20 ms'",
                ["tcpdump", "-r", "-"],
                { nat = { outside = ["1.2.3.4", "1.2.3.5"], preserve-ports = true, no-hairpin = false, max = 7 } },
                { exec = { addr = "10.0.0.1/24", command = ["sh", "-c", "a | b"] } },
                { if = { name = "tap0" } },
            ]"#,
            &mut args,
        );
        let expected = [
            "count",
            "impair --delay 20_ms",
            "tcpdump -r -",
            "nat --max=7 --outside=1.2.3.4 --outside=1.2.3.5 --preserve-ports",
            "exec --addr=10.0.0.1/24 -- sh -c a_|_b",
            "if tap0",
        ];
        let expected: Vec<Vec<String>> = expected
            .iter()
            .map(|line| line.split(' ').map(|word| word.replace('_', " ")).collect())
            .collect();
        assert_eq!(found, Ok(expected));
        assert!(args.links.counters && !args.links.json);
        assert_eq!(args.links.busy_poll, "50us".parse().ok());
    }

    #[test]
    fn what_cannot_be_is_refused_in_a_line_that_says_where() {
        for (text, complaint) in [
            ("", "missing field `stages`"),
            ("stages = []", "needs a stage"),
            ("stages = [\n7\n]", "line 1: expected a stage: text"),
            (
                "stages = ['count']\nstage = 1",
                "line 2: unknown field `stage`",
            ),
            ("stages = [", "line 1: "),
            (
                "stages = ['count']\nbusy-poll = 'soon'",
                "busy-poll: expected a duration",
            ),
            ("stages = ['a', 'nat |']", "stage 2: stage 2 is empty"),
            ("stages = [[]]", "stage 1: it is empty"),
            (
                "stages = [{ natt = {} }]",
                "no stage \"natt\"; is nat meant?",
            ),
            (
                "stages = [{ nat = { outsideness = 1 } }]",
                "nat has no option \"outsideness\"; is outside meant?",
            ),
            ("stages = [{ nat = {}, if = {} }]", "expected one verb"),
            (
                "stages = [{ nat = { preserve-ports = 1 } }]",
                "preserve-ports: expected true",
            ),
            (
                "stages = [{ nat = { max = { a = 1 } } }]",
                "max: expected text",
            ),
        ] {
            let error = parse(text, &mut FunctionArgs::default()).unwrap_err();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }
}
