//! The page of help.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::paint::Paint;
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
    let height = u16::try_from(lines.len() + 2)
        .unwrap_or(u16::MAX)
        .min(area.height);
    let place = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    let block = Block::bordered()
        .title(" help: ? or Esc closes ")
        .border_set(if screen.ui.look.unicode {
            ratatui::symbols::border::ROUNDED
        } else {
            ASCII_BORDER
        })
        .padding(ratatui::widgets::Padding::horizontal(1));
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(block), place);
}

pub(crate) const ASCII_BORDER: ratatui::symbols::border::Set<'static> =
    ratatui::symbols::border::Set {
        top_left: "+",
        top_right: "+",
        bottom_left: "+",
        bottom_right: "+",
        vertical_left: "|",
        vertical_right: "|",
        horizontal_top: "-",
        horizontal_bottom: "-",
    };
