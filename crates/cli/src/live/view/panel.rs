//! What lies over or in place of a view.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::symbols::border;
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Padding, Paragraph, Wrap};

use crate::output::style::Look;

const ASCII_BORDER: border::Set<'static> = border::Set {
    top_left: "+",
    top_right: "+",
    bottom_left: "+",
    bottom_right: "+",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};

/// Draws lines in a box of this width, in the middle of what is there.
pub(crate) fn panel(
    frame: &mut Frame<'_>,
    area: Rect,
    width: u16,
    title: &str,
    lines: Vec<Line<'static>>,
    look: Look,
) {
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
        .title(format!(" {title} "))
        .border_set(if look.unicode {
            border::ROUNDED
        } else {
            ASCII_BORDER
        })
        .padding(Padding::horizontal(1));
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(block), place);
}

/// Says so if there are less than so many columns and lines.
pub(crate) fn is_too_small(frame: &mut Frame<'_>, least: (u16, u16)) -> bool {
    let area = frame.area();
    if area.width >= least.0 && area.height >= least.1 {
        return false;
    }
    let words = format!(
        "This terminal is too small: {} columns and {} lines are the least.",
        least.0, least.1
    );
    frame.render_widget(Paragraph::new(words).wrap(Wrap { trim: true }), area);
    true
}
