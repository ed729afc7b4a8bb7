//! What standard error gets: complaints, progress, and a word when nothing answers.

use core::time::Duration;
use std::io::{IsTerminal, Write};

use plumb_wire::Instant;

use super::session::Run;
use crate::output::text;

/// Writes to standard error. What cannot be written there is lost: nobody is left to be told.
#[derive(Debug)]
pub(super) struct Status {
    /// Whether a line is drawn and redrawn.
    draws: bool,
    /// Whether this is a list.
    list: bool,
    drawn: bool,
    last: Option<(Instant, u64)>,
    complaints: u64,
    explained: bool,
}

impl Status {
    pub(super) fn new(progress: bool, list: bool) -> Self {
        Self {
            draws: progress && std::io::stderr().is_terminal(),
            list,
            drawn: false,
            last: None,
            complaints: 0,
            explained: false,
        }
    }

    /// Complaints so far.
    pub(super) const fn complaints(&self) -> u64 {
        self.complaints
    }

    /// Says that a target cannot be used; after many, only counts.
    pub(super) fn complain(&mut self, what: &str) {
        self.complaints += 1;
        match self.complaints {
            ..=MOST_COMPLAINTS => self.line(what),
            n if n == MOST_COMPLAINTS + 1 => self.line("more of the same will only be counted"),
            _ => {}
        }
    }

    /// Says at which rate a list is probed.
    pub(super) fn announce(&mut self, rate: Option<u32>) {
        if self.list {
            match rate {
                Some(rate) => self.line(&format!("at most {rate} packets a second (--rate)")),
                None => self.line("as many packets a second as this system can send (--rate)"),
            }
        }
    }

    /// Draws how far the run has come, and says why it may be that nothing answers.
    pub(super) fn draw(&mut self, run: &Run) {
        let elapsed = run.now.since(run.started);
        if !self.explained && run.finished == 0 && run.stats.replies == 0 && elapsed >= PATIENCE {
            self.explained = true;
            self.line(&explanation(run));
        }
        if !self.draws {
            return;
        }
        let (at, sent) = self.last.unwrap_or((run.started, 0));
        let since = run.now.since(at);
        let due = if self.list { EVERY } else { EVERY / 2 };
        if since < due {
            return;
        }
        self.last = Some((run.now, run.stats.sent));
        let rate = per_second(run.stats.sent - sent, since);
        let line = if self.list {
            list_line(run, rate, elapsed)
        } else {
            let packets = text::count(run.stats.sent, "packet", "packets");
            let answers = text::count(run.stats.replies, "answer", "answers");
            format!("{packets}, {answers}")
        };
        self.drawn = true;
        drop(write!(std::io::stderr(), "\r\x1b[K{line}"));
    }

    /// Takes the drawn line away.
    pub(super) fn clear(&mut self) {
        if self.drawn {
            self.drawn = false;
            drop(write!(std::io::stderr(), "\r\x1b[K"));
        }
    }

    /// Says what the results don't show.
    pub(super) fn summary(&mut self, run: &Run) {
        if run.duplicates > 0 {
            let targets = text::count(run.duplicates, "target was", "targets were");
            self.line(&format!("{targets} given more than once and used once"));
        }
        if run.unusable > MOST_COMPLAINTS {
            let lines = text::count(run.unusable, "line is", "lines are");
            self.line(&format!("{lines} no target"));
        }
        if self.list {
            let targets = text::count(run.finished, "target", "targets");
            let packets = text::count(run.stats.sent, "packet", "packets");
            let tunnels = match run.tunnels {
                0 => String::new(),
                n => format!(", {}", text::count(n, "tunnel", "tunnels")),
            };
            let took = text::duration(nanos(run.now.since(run.started)));
            self.line(&format!(
                "{targets}, {} reached{tunnels}; {packets} in {took}",
                run.reached
            ));
        }
    }

    pub(super) fn line(&mut self, text: &str) {
        self.clear();
        drop(writeln!(std::io::stderr(), "plumb: {text}"));
    }
}

/// Complaints that are printed in full.
const MOST_COMPLAINTS: u64 = 20;
/// How long nothing may answer before there is an explanation.
const PATIENCE: Duration = Duration::from_secs(3);
/// Time between two drawings.
const EVERY: Duration = Duration::from_millis(500);

fn list_line(run: &Run, rate: u64, elapsed: Duration) -> String {
    let answered = (run.stats.replies * 100)
        .checked_div(run.stats.sent)
        .unwrap_or(0);
    let mut line = match run.all_taken {
        true => format!("{} of {} targets", run.finished, run.taken),
        false => format!("{} targets", run.finished),
    };
    line.push_str(&format!(", {rate} packets/s, {answered}% answered"));
    if run.tunnels > 0 {
        line.push_str(&format!(
            ", {}",
            text::count(run.tunnels, "tunnel", "tunnels")
        ));
    }
    if let Some(left) = time_left(run, elapsed) {
        line.push_str(&format!(", {} left", text::duration(nanos(left))));
    }
    line
}

/// A guess from the share of the list that is done.
fn time_left(run: &Run, elapsed: Duration) -> Option<Duration> {
    #[expect(clippy::cast_precision_loss, reason = "a guess")]
    let done = if run.taken > 0 {
        run.finished as f64 / run.taken as f64 * run.read.unwrap_or(0.0)
    } else {
        0.0
    };
    if done < 0.01 || elapsed < PATIENCE {
        return None;
    }
    Duration::try_from_secs_f64(elapsed.as_secs_f64() * (1.0 - done) / done).ok()
}

/// What may be wrong if nothing answers.
fn explanation(run: &Run) -> String {
    let stats = &run.stats;
    let seconds = run.now.since(run.started).as_secs();
    if stats.sent == 0 && stats.send_errors == 0 && run.taken == 0 {
        return format!("no target for {seconds} s: the list has not given one yet");
    }
    if stats.sent == 0 && stats.send_errors == 0 {
        return format!(
            "nothing has been sent for {seconds} s: what is to send has not begun, because this \
             system has much else to do or the machine hangs"
        );
    }
    let packets = text::count(stats.sent, "packet was", "packets were");
    let errors = match stats.send_errors {
        0 => String::new(),
        n => format!(" ({n} could not be)"),
    };
    let others = match stats.ignored {
        0 => "nothing came back".to_owned(),
        n => format!(
            "{} came, none of them an answer",
            text::count(n, "packet", "packets")
        ),
    };
    let cause = if stats.send_errors > 0 && stats.send_errors >= stats.sent {
        "is the interface up, and does a local firewall allow these packets?"
    } else {
        "a firewall may drop these probes or the answers; another --method may pass, and \
         `plumb doctor` checks this system"
    };
    format!("after {seconds} s {packets} sent{errors} and {others}: {cause}")
}

fn per_second(count: u64, time: Duration) -> u64 {
    u64::try_from(u128::from(count) * 1_000_000_000 / time.as_nanos().max(1)).unwrap_or(u64::MAX)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
