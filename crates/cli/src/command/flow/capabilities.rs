//! What this kernel can tell, and what is missing where it does not let plumb ask.

use std::io::{self, Write};

use plumb_ebpf::flow::{Error, Recorder};
use plumb_link::{Capability, capability};

use crate::command::network::program;
use crate::exit::{Exit, Failure};
use crate::output::style::{BAD, FAINT, GOOD, Look, STRONG};

/// Prints what this kernel can tell.
pub(super) fn capabilities(recorder: &Recorder, as_json: bool) -> anyhow::Result<Exit> {
    let mut out = io::stdout().lock();
    let look = Look::of_stdout();
    for capability in recorder.capabilities() {
        if as_json {
            let line = serde_json::json!({
                "name": capability.name,
                "gives": capability.gives,
                "source": capability.source,
                "since": capability.since,
                "live": capability.missing.is_none(),
                "off": capability.is_off,
                "missing": capability.missing,
            });
            writeln!(out, "{line}")?;
            continue;
        }
        let state = match capability.missing {
            None => look.paint(GOOD, "live   "),
            Some(_) if capability.is_off => look.paint(FAINT, "off    "),
            Some(_) => look.paint(BAD, "missing"),
        };
        let name = look.paint(STRONG, &format!("{:<15}", capability.name));
        let source = format!("{} (Linux {})", capability.source, capability.since);
        let source = look.paint(FAINT, &source);
        let why = capability.missing.as_ref().map(|why| format!("; {why}"));
        let why = why.unwrap_or_default();
        writeln!(out, "{state} {name} {}{why}  {source}", capability.gives)?;
    }
    Ok(Exit::Reached)
}

/// What is missing, and the way to get it.
pub(super) fn explain(error: Error) -> anyhow::Error {
    match error {
        Error::Permission => {
            let needed = [Capability::Bpf, Capability::PerfMon];
            let lacking: Vec<_> = needed
                .into_iter()
                .filter(|&needed| !capability::has(needed))
                .map(|capability| capability.to_string())
                .collect();
            let what = if lacking.is_empty() {
                "although CAP_BPF and CAP_PERFMON are there: a security module, seccomp or \
                 kernel lockdown forbids it"
                    .to_owned()
            } else {
                let program = program();
                format!(
                    "for want of {}; run `sudo setcap cap_bpf,cap_perfmon+ep {program}` once, or \
                     use sudo",
                    lacking.join(" and ")
                )
            };
            Failure::permission(format!("{error}, {what}")).into()
        }
        Error::NoTypes | Error::Refused(_) | Error::System { .. } => error.into(),
    }
}
