//! `plumb firewall`: what may pass, and what may not.

mod files;
mod log;

use core::sync::atomic::{AtomicBool, Ordering};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use plumb_nf::antispoof::{Antispoof, Prefix, Sources};
use plumb_nf::firewall::{Config, Firewall};
use plumb_nf::{Counter, Frame, Function, Output, Port, conntrack};
use plumb_wire::Instant;
use signal_hook::consts::SIGUSR2;

use self::log::Log;
use super::nat::unpredictable;
use crate::args;
use crate::exit::Failure;
use crate::stage::{Attended, Played, filter, is_live};

pub(super) fn run(args: &args::Firewall) -> anyhow::Result<ExitCode> {
    if args.check {
        return check(args);
    }
    let played = Played {
        name: "firewall",
        counters: args.function.links.counters,
        json: args.function.links.json,
        counts_only: false,
    };
    let firewall = build(args, is_live(&args.function, played))?;
    filter(firewall, played, &args.function, Attended::attend)
}

/// A firewall as these arguments say, for packets that come now or for a recording.
pub(super) fn build(args: &args::Firewall, live: bool) -> anyhow::Result<RuledFirewall> {
    let ruleset = files::read(&args.rules, &args.defines)?;
    let config = Config {
        explain: args.explain,
        conntrack: conntrack::Config {
            max_entries: args.max,
            per_source: args.per_source.unwrap_or(0),
            tcp_be_liberal: args.liberal,
            tcp_loose: !args.strict,
            ..conntrack::Config::default()
        },
        antispoof: antispoof(args),
        seed: if live { unpredictable()? } else { 1 },
        ..Config::default()
    };
    let wants_rules = Arc::new(AtomicBool::new(false));
    if live {
        signal_hook::flag::register(SIGUSR2, Arc::clone(&wants_rules))
            .context("cannot take over SIGUSR2")?;
    }
    Ok(RuledFirewall {
        firewall: Firewall::new(ruleset, config),
        wants_rules,
        rules: args.rules.clone(),
        defines: args.defines.clone(),
        log: Log::open(args.log.as_deref())?,
        at_once: live,
    })
}

/// Says whether rules are good.
fn check(args: &args::Firewall) -> anyhow::Result<ExitCode> {
    let ruleset = files::read(&args.rules, &args.defines)?;
    writeln!(
        io::stdout(),
        "{}: {} rules, {} chains that see packets",
        args.rules.display(),
        ruleset.rules(),
        ruleset.base_chains()
    )?;
    Ok(ExitCode::SUCCESS)
}

fn antispoof(args: &args::Firewall) -> Option<Antispoof> {
    let (left, right) = (&args.left_net, &args.right_net);
    if left.is_empty() && right.is_empty() && !args.no_martians {
        return None;
    }
    // A network is on one side, unless it is said to be on both.
    let never = |there: &[Prefix], here: &[Prefix]| {
        let elsewhere = there.iter().copied();
        elsewhere
            .filter(|network| !here.contains(network))
            .collect()
    };
    Some(Antispoof {
        left: Sources {
            only: left.clone(),
            never: never(right, left),
        },
        right: Sources {
            only: right.clone(),
            never: never(left, right),
        },
        martians: true,
    })
}

/// A firewall with the file that its rules are in, and its log.
#[derive(Debug)]
pub(super) struct RuledFirewall {
    firewall: Firewall,
    /// Somebody has asked for the rules to be read again.
    wants_rules: Arc<AtomicBool>,
    rules: PathBuf,
    defines: Vec<(String, String)>,
    log: Log,
    /// Somebody may be waiting for what is logged.
    at_once: bool,
}

impl RuledFirewall {
    /// Reads the rules again if somebody has asked for it; bad ones are not taken.
    fn look_after_rules(&mut self, now: Instant) {
        if !self.wants_rules.swap(false, Ordering::Relaxed) {
            return;
        }
        let said = match files::read(&self.rules, &self.defines) {
            Ok(ruleset) => {
                let rules = ruleset.rules();
                self.firewall.reload(ruleset, now);
                format!("{rules} rules are in force")
            }
            Err(error) => format!("the rules stay as they were: {error:#}"),
        };
        // Nothing can be done where standard error is closed.
        drop(writeln!(
            io::stderr(),
            "firewall: {}: {said}",
            self.rules.display()
        ));
    }
}

impl Attended for RuledFirewall {
    fn attend(&mut self) -> anyhow::Result<()> {
        while let Some(event) = self.firewall.poll_event() {
            self.log.write(&event).context("cannot write the log")?;
        }
        if self.at_once {
            self.log.flush().context("cannot write the log")?;
        }
        Ok(())
    }
}

impl Function for RuledFirewall {
    fn handle_frames(
        &mut self,
        from: Port,
        batch: &mut Vec<Frame>,
        now: Instant,
        out: &mut Output,
    ) {
        self.look_after_rules(now);
        self.firewall.handle_frames(from, batch, now, out);
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Output) {
        self.look_after_rules(now);
        self.firewall.handle_timeout(now, out);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.wants_rules.load(Ordering::Relaxed) {
            return Some(Instant::ZERO);
        }
        self.firewall.poll_timeout()
    }

    fn held(&self) -> usize {
        self.firewall.held()
    }

    fn input_ended(&mut self) {
        self.firewall.input_ended();
        self.at_once = true;
    }

    fn counters(&self) -> Vec<Counter> {
        self.firewall.counters()
    }

    fn parts(&self) -> Vec<(String, Vec<Counter>)> {
        let details = self.firewall.details().into_iter();
        details
            .map(|detail| {
                let counters = [("packets", detail.packets), ("bytes", detail.bytes)];
                let counters = counters.map(|(name, value)| Counter { name, value });
                (detail.name, counters.into())
            })
            .collect()
    }
}

/// Where rules are, and what is wrong with them, in one place.
fn bad_rules(error: &plumb_nf::firewall::Error) -> anyhow::Error {
    Failure::usage(error.to_string()).into()
}

type Defines = [(String, String)];
