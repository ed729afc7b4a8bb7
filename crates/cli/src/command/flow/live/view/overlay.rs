//! Pages that lie over the table: help, and all that is known of a connection.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{Screen, ends};
use crate::command::flow::live::field::{recorded, recorded_text};
use crate::command::flow::live::keys::KEYS;
use crate::live::view::cut;
use crate::live::view::paint::Paint;
use crate::live::view::panel::panel;
use crate::output::text;

/// Columns of the screen for the name of a field.
const NAME: usize = 36;
const VALUE: usize = 24;

/// Draws the keys and what the columns mean.
pub(super) fn help(frame: &mut Frame<'_>, screen: &Screen<'_>, area: Rect) {
    let paint = Paint(screen.ui.look);
    let mut lines: Vec<Line<'static>> = KEYS
        .iter()
        .map(|(key, _, words)| {
            Line::from(vec![
                Span::styled(format!("{key:>4}  "), paint.strong()),
                Span::raw(*words),
            ])
        })
        .collect();
    lines.push(Line::default());
    for words in [
        "Counters are those since a connection's beginning, as far as the kernel",
        "has them; rates are those since the look before. Ended connections stay",
        "for ten seconds. What a field means: docs/kpis.md, and d on a row.",
    ] {
        lines.push(Line::raw(words));
    }
    page(frame, screen, area, "help: ? or Esc closes", lines);
}

/// Draws every field of the selected connection that is known.
pub(super) fn detail(frame: &mut Frame<'_>, screen: &Screen<'_>, area: Rect) {
    let paint = Paint(screen.ui.look);
    let selected = screen.ui.selected.and_then(|id| screen.model.get(id));
    let Some(connection) = selected else {
        let lines = vec![Line::raw("This connection is not there any more.")];
        page(frame, screen, area, "d or Esc closes", lines);
        return;
    };
    let profile = connection.profile();
    // The window is all its life, which the view tells elsewhere.
    let elsewhere = [
        "start",
        "end",
        "event",
        "profile",
        "local_addr",
        "remote_addr",
    ];
    let ports = ["local_port", "remote_port"];
    let mut lines = vec![Line::styled(ends(screen.ui, profile), paint.strong())];
    if let Some(cgroup) = &profile.cgroup {
        lines.push(Line::raw(format!(
            "{:<NAME$} {}",
            "cgroup",
            text::plain(cgroup)
        )));
    }
    for column in recorded() {
        if elsewhere.contains(&column.field) || ports.contains(&column.field) {
            continue;
        }
        let Some(value) = recorded_text(profile, column.field) else {
            continue;
        };
        if column.field == "cgroup" {
            continue;
        }
        lines.push(Line::from(vec![
            Span::styled(format!("{:<NAME$} ", column.field), paint.faint()),
            Span::raw(format!("{:<VALUE$} ", cut(&text::plain(&value), VALUE))),
            Span::styled(column.element.description, paint.faint()),
        ]));
    }
    page(frame, screen, area, "d or Esc closes", lines);
}

fn page(
    frame: &mut Frame<'_>,
    screen: &Screen<'_>,
    area: Rect,
    title: &'static str,
    mut lines: Vec<Line<'static>>,
) {
    let widest = lines.iter().map(Line::width).max().unwrap_or(0);
    let width = u16::try_from(widest + 4)
        .unwrap_or(u16::MAX)
        .min(area.width);
    let inner = usize::from(area.height.saturating_sub(2));
    if lines.len() > inner {
        let more = lines.len() + 1 - inner;
        lines.truncate(inner.saturating_sub(1));
        lines.push(Line::raw(format!(
            "and {more} lines for which this terminal is too low"
        )));
    }
    panel(frame, area, width, title, lines, screen.ui.look);
}
