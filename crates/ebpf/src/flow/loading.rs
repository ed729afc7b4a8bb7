//! Which programs this kernel takes, and what is known without the others.

use std::sync::Mutex;

use libbpf_rs::btf::Btf;
use libbpf_rs::{PrintLevel, set_print};

use super::Live;
use super::programs::{self, PROGRAMS, has_member, short};

/// What is said of a program that this kernel has and nobody asked for.
pub(super) const OFF: &str = "--per-segment turns it on";

/// What is said of the program that goes over the connections where no iterator does.
pub(super) const NOT_NEEDED: &str = "pass goes over the connections";

/// Why each program is left out, in the order of [`PROGRAMS`]; `None` for those that run.
pub(super) fn verdicts(
    types: &Btf<'_>,
    without: &[String],
    per_segment: bool,
) -> Vec<Option<String>> {
    let mut verdicts: Vec<_> = PROGRAMS
        .iter()
        .map(|program| {
            if without.iter().any(|name| name == short(program.name)) {
                Some("left out by --without".to_owned())
            } else {
                let off = program.is_per_segment && !per_segment;
                let missing = program.hook.missing(types);
                missing.or_else(|| off.then(|| OFF.to_owned()))
            }
        })
        .collect();
    if reason(&verdicts, programs::PASS).is_none()
        && let Some(verdict) = verdict_mut(&mut verdicts, programs::WALK)
    {
        verdict.get_or_insert_with(|| NOT_NEEDED.to_owned());
    }
    verdicts
}

/// Leaves a program out. For the iterator over storage another program goes over the connections, if
/// nothing but that one spoke against it.
pub(super) fn leave_out(verdicts: &mut [Option<String>], name: &str, reason: String) {
    if let Some(verdict) = verdict_mut(verdicts, name) {
        *verdict = Some(reason);
    }
    if name == programs::PASS
        && let Some(verdict) = verdict_mut(verdicts, programs::WALK)
    {
        verdict.take_if(|reason| reason == NOT_NEEDED);
    }
}

fn verdict_mut<'a>(
    verdicts: &'a mut [Option<String>],
    name: &str,
) -> Option<&'a mut Option<String>> {
    let place = PROGRAMS.iter().position(|program| program.name == name)?;
    verdicts.get_mut(place)
}

/// Why the one program without which there is nothing does not run.
pub(super) fn required(verdicts: &[Option<String>]) -> Option<String> {
    reason(verdicts, programs::STATE).map(str::to_owned)
}

/// Why a program does not run.
pub(super) fn reason<'a>(verdicts: &'a [Option<String>], name: &str) -> Option<&'a str> {
    let place = PROGRAMS.iter().position(|program| program.name == name)?;
    verdicts.get(place)?.as_deref()
}

/// Which figures are known.
pub(super) fn live(types: &Btf<'_>, verdicts: &[Option<String>]) -> Live {
    let runs = |name| reason(verdicts, name).is_none();
    Live {
        congestion: runs(programs::CONGESTION),
        tail_loss_probes: runs(programs::RETRANSMIT),
        resets_received: runs(programs::RESET_RECEIVED),
        resets_sent: runs(programs::RESET_SENT),
        duplicates: runs(programs::DROP),
        out_of_order: has_member(types, "tcp_sock", "rcv_ooopack"),
        segments: runs(programs::SEGMENT),
        stalls: runs(programs::STALL),
    }
}

/// What libbpf last complained of.
static SAID: Mutex<Option<String>> = Mutex::new(None);

fn hear(level: PrintLevel, text: String) {
    let line = text.trim().trim_start_matches("libbpf: ");
    if level == PrintLevel::Warn
        && let Ok(mut said) = SAID.lock()
        // The verifier's log is long; its end says what is wrong, and comes first.
        && (said.is_none() || line.contains("VERIFIER") || line.contains("PROG LOAD LOG"))
    {
        let lines: Vec<_> = line
            .lines()
            .filter(|line| !line.starts_with("--"))
            .collect();
        let end = lines.iter().rev().find(|line| {
            !line.starts_with("processed")
                && !line.starts_with("verification time")
                && !line.starts_with("stack depth")
        });
        *said = end.map(|line| (*line).to_owned());
    }
}

/// Does something, and tells what libbpf had to say about it.
pub(super) fn listening<T>(work: impl FnOnce() -> T) -> (T, Option<String>) {
    let before = set_print(Some((PrintLevel::Warn, hear)));
    let done = work();
    set_print(before);
    let said = SAID.lock().ok().and_then(|mut said| said.take());
    (done, said)
}

/// Lets the kernel lock the memory of maps, which it counted against this limit before 5.11. Where
/// that is forbidden, it does not matter.
pub(super) fn raise_limit() {
    let all = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the structure is whole and lives through the call.
    let _ = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const all) };
}
