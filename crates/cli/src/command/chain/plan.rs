//! What the words of a chain's stages are.

use core::sync::atomic::AtomicU32;

use clap::FromArgMatches;
use clap::error::{ContextKind, ContextValue};

use crate::args::{self, Command, FunctionArgs, LinkArgs, Plumb};
use crate::command::{firewall, impair, mirror, nat};
use crate::exit::Failure;
use crate::settings::nearest;
use crate::stage::Attended;

/// A stage of a chain.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) words: Vec<String>,
    pub(super) kind: Kind,
}

/// What a stage is.
#[derive(Debug)]
pub(super) enum Kind {
    /// A function of plumb.
    Function(Part),
    /// An end of plumb.
    End(End),
    /// Another program.
    Program,
}

impl Kind {
    /// Says whether it takes SIGHUP for a wish to read its settings again.
    pub(super) fn reloads(&self) -> bool {
        matches!(self, Self::Function(part) if part.reload.is_some())
    }
}

/// An end of a chain: an interface, or a command with its network.
#[derive(Debug)]
pub(super) enum End {
    If(Box<args::If>),
    Exec(Box<args::Exec>),
}

/// A function that is not built yet.
pub(super) struct Part {
    pub(super) name: &'static str,
    /// Its counters are wanted at the end.
    pub(super) counters: bool,
    /// Who runs it alone on a recording need not want the packets.
    pub(super) counts_only: bool,
    /// It takes SIGHUP for a wish to read its settings again, and sees here that there was one.
    pub(super) reload: Option<&'static AtomicU32>,
    build: Box<dyn FnOnce(bool) -> anyhow::Result<Box<dyn Attended>>>,
}

impl Part {
    fn new<F: Attended + 'static>(
        name: &'static str,
        args: &FunctionArgs,
        build: impl FnOnce(bool) -> anyhow::Result<F> + 'static,
    ) -> Self {
        Self {
            name,
            counters: args.links.counters,
            counts_only: false,
            reload: None,
            build: Box::new(|live| Ok(Box::new(build(live)?))),
        }
    }

    /// The function, for packets that come now or for a recording.
    pub(super) fn build(self, live: bool) -> anyhow::Result<Box<dyn Attended>> {
        (self.build)(live)
    }
}

impl core::fmt::Debug for Part {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Part")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What of plumb a command line stands for, as a stage. This is where a new function is added.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else plumb learns is no stage until it is said to be one"
)]
fn native(command: Command) -> Result<(Kind, FunctionArgs), String> {
    let own = |links: &LinkArgs| FunctionArgs {
        offline: false,
        links: links.clone(),
    };
    Ok(match command {
        Command::If(a) => (Kind::End(End::If(a.0.clone())), own(&a.links)),
        Command::Exec(a) => (Kind::End(End::Exec(a.0.clone())), own(&a.links)),
        Command::Nat(a) => {
            let args = a.function.clone();
            let part = Part::new("nat", &args, move |live| nat::build(&a, live));
            (Kind::Function(part), args)
        }
        Command::Firewall(a) => {
            let args = a.function.clone();
            let part = Part {
                reload: Some(&firewall::RELOADS),
                ..Part::new("firewall", &args, move |live| firewall::build(&a, live))
            };
            (Kind::Function(part), args)
        }
        Command::Impair(a) => {
            let args = a.function.clone();
            let part = Part::new("impair", &args, move |_| Ok(impair::build(&a)?));
            (Kind::Function(part), args)
        }
        Command::Count(a) => {
            let part = Part {
                counters: true,
                counts_only: true,
                ..Part::new("count", &a.function, |_| Ok(plumb_nf::Count::new()))
            };
            (Kind::Function(part), a.0.function)
        }
        Command::Mirror(a) => {
            let args = a.function.clone();
            let part = Part {
                counts_only: true,
                ..Part::new("mirror", &args, move |live| mirror::build(&a, live))
            };
            (Kind::Function(part), args)
        }
        Command::Chain(_) => return Err("a chain has no chains in it: write their stages".into()),
        _ => return Err("no stage of a pipeline".into()),
    })
}

/// Finds out what each stage is, and whether it can stand where it does.
pub(super) fn plan(stages: Vec<Vec<String>>) -> Result<Vec<Stage>, Failure> {
    let count = stages.len();
    let mut planned = Vec::with_capacity(count);
    for (mut words, at) in stages.into_iter().zip(0..) {
        // So that a pipeline can be taken as it is.
        if words.len() > 1 && words[0] == "plumb" {
            words.remove(0);
        }
        let named = |what: String| {
            let name = words.first().map_or("", |word| word);
            Failure::usage(format!("stage {} ({name}): {what}", at + 1))
        };
        let kind = kind(&words).map_err(named)?;
        match &kind {
            Kind::End(end) if at > 0 && at + 1 < count => {
                let what = match end {
                    End::If(_) => "an interface",
                    End::Exec(_) => "a command with its network",
                };
                return Err(named(format!(
                    "{what} is an end, and can stand first or last only"
                )));
            }
            Kind::End(_) if count == 1 => {
                return Err(named("an end alone is no chain: add a stage".to_owned()));
            }
            Kind::Function(_) | Kind::End(_) | Kind::Program => {}
        }
        planned.push(Stage { words, kind });
    }
    Ok(planned)
}

fn kind(words: &[String]) -> Result<Kind, String> {
    let root = crate::command();
    let Some(name) = words.first() else {
        return Err("it is empty".to_owned());
    };
    let Some(subcommand) = root.find_subcommand(name) else {
        return find_program(name, root.get_subcommands().map(clap::Command::get_name));
    };
    let usage = || {
        let mut subcommand = subcommand.clone().bin_name(name.clone());
        subcommand.render_usage().to_string().replace('\n', " ")
    };
    let line = ["plumb"]
        .into_iter()
        .chain(words.iter().map(String::as_str));
    let parsed = root
        .clone()
        .try_get_matches_from(line)
        .and_then(|matches| Plumb::from_arg_matches(&matches));
    let command = match parsed {
        Ok(plumb) => plumb.command,
        Err(error) => return Err(format!("{}\n{}", in_a_line(&error), usage())),
    };
    let is_apart = matches!(&command, Command::If(a) if a.side.is_some())
        || matches!(&command, Command::Exec(a) if a.side.is_some());
    let (kind, args) = native(command)?;
    if is_apart {
        return Err("--side is for stages that a shell joins; here the place says it".to_owned());
    }
    let said = FunctionArgs {
        links: LinkArgs {
            counters: false,
            ..args.links
        },
        ..args
    };
    if said != FunctionArgs::default() {
        return Err(
            "options about recordings and links, but --counters, belong to the chain: \
             plumb chain --drop '...'"
                .to_owned(),
        );
    }
    Ok(kind)
}

/// Says whether there is such a program.
fn find_program<'a>(name: &str, stages: impl Iterator<Item = &'a str>) -> Result<Kind, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let exists = if name.contains('/') {
        std::path::Path::new(name).is_file()
    } else {
        std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
    };
    if exists {
        return Ok(Kind::Program);
    }
    let hint = nearest(name, stages).unwrap_or_default();
    Err(format!(
        "there is no such program, nor such a stage of plumb; is {hint} meant?"
    ))
}

/// What clap says, without its frame.
fn in_a_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let words: Vec<_> = first.split_whitespace().collect();
    let mut line = words.join(" ");
    if let Some(ContextValue::String(meant)) = error.get(ContextKind::SuggestedArg) {
        line.push_str("; is ");
        line.push_str(meant);
        line.push_str(" meant?");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::chain::text;

    fn planned(line: &str) -> Result<Vec<Stage>, String> {
        plan(text::split(line).unwrap()).map_err(|e| e.message)
    }

    #[test]
    fn stages_are_functions_ends_or_programs() {
        let stages = planned(
            "plumb if tap0 | nat --outside 1.2.3.4 | sh -c 'cat' | plumb count | exec -- true",
        );
        let kinds: Vec<_> = stages
            .unwrap()
            .iter()
            .map(|stage| match &stage.kind {
                Kind::Function(part) => part.name,
                Kind::End(End::If(_)) => "if",
                Kind::End(End::Exec(_)) => "exec",
                Kind::Program => "program",
            })
            .collect();
        assert_eq!(kinds, ["if", "nat", "program", "count", "exec"]);
    }

    #[test]
    fn a_mistake_names_its_stage_and_shows_how_that_is_used() {
        for (line, complaint) in [
            (
                "count | nat",
                "stage 2 (nat): the following required arguments were not provided",
            ),
            ("count | nat", "\nUsage: nat [OPTIONS]"),
            (
                "nat --outsides 1.2.3.4",
                "'--outsides' found; is --outside meant?",
            ),
            ("nat --outside x", "not an IPv4 address"),
            (
                "if tap0 | exec -- true | if tap1",
                "stage 2 (exec): a command with its network is an end",
            ),
            ("if tap0", "no chain"),
            (
                "cuont | count",
                "stage 1 (cuont): there is no such program, nor such a stage of plumb; is count meant?",
            ),
            ("trace 1.2.3.4 | count", "stage 1 (trace): no stage"),
            ("chain count | count", "no chains in it"),
            ("count --drop", "belong to the chain"),
            ("count --offline", "belong to the chain"),
            ("if tap0 --side left | count", "--side is for stages"),
        ] {
            let error = planned(line).unwrap_err();
            assert!(error.contains(complaint), "{line}: {error}");
        }
    }
}
