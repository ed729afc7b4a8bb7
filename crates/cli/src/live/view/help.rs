//! The page of help.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::paint::Paint;
use super::panel::panel;
use super::{Screen, cut};
use crate::live::columns::ColumnSet;
use crate::live::keys::KEYS;

/// Draws it over everything.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &Screen<'_>, area: Rect) {
    let paint = Paint(screen.ui.look);
    let width = area.width.min(78);
    let inner = usize::from(width.saturating_sub(4));
    let mut lines: Vec<Line<'static>> = KEYS
        .iter()
        .map(|(key, _, words)| {
            Line::from(vec![
                Span::styled(format!("{key:>4}  "), paint.strong()),
                Span::raw(cut(words, inner.saturating_sub(6))),
            ])
        })
        .collect();
    lines.push(Line::default());
    let set = screen.ui.columns;
    lines.push(Line::styled(
        format!("Columns: {} (times in milliseconds)", set.name()),
        paint.strong(),
    ));
    for column in set.fit(usize::MAX) {
        lines.push(Line::from(vec![
            Span::styled(format!("{:>6}  ", column.heading()), paint.strong()),
            Span::raw(cut(column.meaning(), inner.saturating_sub(8))),
        ]));
    }
    if set != ColumnSet::Tunnels {
        lines.push(Line::raw(cut(
            "The bars are the latest round-trip times between best and worst,",
            inner,
        )));
        let lost = screen.ui.look.pick("×", "x");
        lines.push(Line::raw(cut(
            &format!("the newest at the right; {lost} is a loss."),
            inner,
        )));
    }
    panel(
        frame,
        area,
        width,
        "help: ? or Esc closes",
        lines,
        screen.ui.look,
    );
}
