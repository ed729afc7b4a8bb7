//! The report for people: what `mtr --report` prints, with tunnels and labels.

use std::io::{self, Write};

use core::net::IpAddr;

use plumb_record::WallTime;

use crate::live::columns::{Column, labels};
use crate::live::explain;
use crate::live::model::{HopStatus, Target};
use crate::live::rows::{Content, Row, rows};
use crate::live::session::Session;
use crate::output::style::Look;
use crate::output::text;

/// Figures of each hop, in order. Times are in milliseconds.
const COLUMNS: [Column; 8] = [
    Column::Loss,
    Column::Sent,
    Column::Last,
    Column::Average,
    Column::Best,
    Column::Worst,
    Column::Deviation,
    Column::JitterMean,
];

/// Writes the report of all targets.
pub(crate) fn write(
    out: &mut dyn Write,
    session: &Session,
    look: Look,
    start: WallTime,
) -> io::Result<()> {
    for (number, target) in session.targets().enumerate() {
        if number > 0 {
            writeln!(out)?;
        }
        Report {
            session,
            target,
            look,
        }
        .write(out, start)?;
    }
    Ok(())
}

struct Report<'a> {
    session: &'a Session,
    target: &'a Target,
    look: Look,
}

impl Report<'_> {
    fn write(&self, out: &mut dyn Write, start: WallTime) -> io::Result<()> {
        let target = self.target;
        let dst = target.dst().to_string();
        let name = if target.name() == dst {
            dst
        } else {
            format!("{} ({dst})", target.name())
        };
        writeln!(
            out,
            "report on {name} from {}, {}, since {}",
            target.src(),
            text::method(target.method()),
            whole_seconds(start),
        )?;
        let rows = rows(target, true);
        let host_width = rows
            .iter()
            .map(|row| self.host(row.content).chars().count())
            .max()
            .unwrap_or(0)
            .max("host".len());
        let edge = if target.tunnels().iter().any(|state| !state.is_suspicion()) {
            3
        } else {
            0
        };
        let mut heading = format!("{:edge$}  # {:<host_width$}", "", "host");
        for column in COLUMNS {
            heading.push_str(&format!(" {:>w$}", column.heading(), w = column.width()));
        }
        writeln!(out, "{heading}")?;
        for row in rows {
            let line = self.line(row, edge, host_width);
            writeln!(out, "{}", line.trim_end())?;
        }
        for change in target.changes() {
            writeln!(
                out,
                "round {}: {}",
                change.round,
                explain::change(&change.what)
            )?;
        }
        let rounds = text::count(target.rounds(), "round", "rounds");
        let probes = text::count(target.probes_sent(), "packet", "packets");
        let ended = if target.reached() {
            "reached"
        } else {
            "not reached"
        };
        writeln!(out, "{ended}; {rounds}, {probes}")
    }

    fn line(&self, row: Row, edge: usize, host_width: usize) -> String {
        let dotted = matches!(row.content, Content::Hidden(..));
        let mut line = String::new();
        if edge > 0 {
            line.push_str(row.bracket.glyph(self.look, dotted));
            line.push(' ');
        }
        match row.content {
            Content::Hop(ttl) => {
                let host = self.host(row.content);
                line.push_str(&format!("{ttl:>3} {host:<host_width$}"));
                if let Some(hop) = self.target.hop(ttl) {
                    for column in COLUMNS {
                        let value = column.value(hop);
                        line.push_str(&format!(" {value:>w$}", w = column.width()));
                    }
                    let labels = labels(hop);
                    if !labels.is_empty() {
                        line.push_str(&format!("  labels {labels}"));
                    }
                }
            }
            Content::Title(index) => {
                let title = self.target.tunnels().get(index).map(explain::title);
                line.push_str(&format!("    {}", title.unwrap_or_default()));
            }
            Content::Hidden(tunnel, index) => {
                let host = self.host(row.content);
                line.push_str(&format!("    {host:<host_width$} "));
                let state = self.target.tunnels().get(tunnel);
                let about = state.and_then(|s| Some(explain::hidden_router(s, s.hidden(index)?)));
                line.push_str(&about.unwrap_or_default());
            }
        }
        line
    }

    fn host(&self, content: Content) -> String {
        let name = |addr: IpAddr| match self.session.name(addr) {
            Some(name) => format!("{name} ({addr})"),
            None => addr.to_string(),
        };
        match content {
            Content::Title(_) => String::new(),
            Content::Hidden(tunnel, index) => {
                let state = self.target.tunnels().get(tunnel);
                let addr = state.and_then(|state| state.hidden(index)?.addr());
                addr.map_or_else(|| "?".to_owned(), name)
            }
            Content::Hop(ttl) => {
                let Some(hop) = self.target.hop(ttl) else {
                    return String::new();
                };
                let Some(addr) = hop.current() else {
                    return "no reply".to_owned();
                };
                let mut host = name(addr);
                if self.target.status(hop) == HopStatus::Loop {
                    host.push_str(" loop");
                }
                let others = hop.addresses().len().saturating_sub(1);
                if others > 0 {
                    host.push_str(&format!(" +{others}"));
                }
                host
            }
        }
    }
}

/// A time without its fraction of a second.
fn whole_seconds(time: WallTime) -> String {
    let mut text = time.to_string();
    text.truncate("2000-01-01T00:00:00".len());
    text.push('Z');
    text
}

#[cfg(test)]
mod tests {
    use plumb_record::Trace;

    use super::*;
    use crate::live::testing::{noisy, seen};
    use crate::output::fixtures;

    fn of(path: &Trace, unicode: bool) -> String {
        let session = seen(&noisy(path, 20));
        let mut out = Vec::new();
        let look = Look {
            colour: true,
            unicode,
        };
        let start = WallTime(1_795_231_111_120_000_000);
        write(&mut out, &session, look, start).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_report_shows_tunnels_and_labels() {
        insta::assert_snapshot!("two-tunnels", of(&fixtures::two_tunnels(), true));
    }

    #[test]
    fn without_tunnels_it_looks_like_any_other() {
        insta::assert_snapshot!("plain", of(&fixtures::plain(), true));
    }

    #[test]
    fn it_has_no_colours_and_can_do_with_ascii() {
        let text = of(&fixtures::two_tunnels(), false);
        assert!(text.is_ascii(), "{text}");
        assert!(!text.contains('\u{1b}'));
    }
}
