//! The table of hops.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::paint::Paint;
use super::{Screen, cut};
use crate::live::columns::{Column, ColumnSet, labels};
use crate::live::explain;
use crate::live::model::{HopState, HopStatus, Target};
use crate::live::rows::{Content, Row, rows};
use crate::live::statistics::Sample;
use crate::output::style::Look;

/// Columns of the screen before the address: bracket and TTL.
const EDGE: usize = 7;
/// Fewest samples worth drawing.
const LEAST_HISTORY: usize = 8;
/// Loss from which it is shown as bad, in percent.
const BAD_LOSS: f64 = 1.0;

/// Widths of the parts of a line.
struct Widths {
    host: usize,
    columns: Vec<Column>,
    history: usize,
}

/// Draws the table, as much of it as fits, with the selected hop in view.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &Screen<'_>, target: &Target, area: Rect) {
    let rows = rows(target, screen.ui.tunnels);
    let table = Table {
        screen,
        target,
        paint: Paint(screen.ui.look),
    };
    let widths = table.widths(&rows, usize::from(area.width));
    let room = usize::from(area.height.saturating_sub(1));
    let selected = rows
        .iter()
        .position(|row| Some(row.content) == screen.ui.selected.map(Content::Hop));
    let first = match selected {
        // A line of what follows stays in view.
        Some(line) if line + 2 > room => (line + 2 - room).min(rows.len().saturating_sub(room)),
        _ => 0,
    };
    let mut lines = vec![table.heading(&widths)];
    if rows.is_empty() {
        lines.push(Line::styled(
            format!("{:EDGE$}waiting for the first answer", ""),
            table.paint.faint(),
        ));
    }
    let below = rows.len().saturating_sub(first + room);
    let shown = if below > 0 {
        room.saturating_sub(1)
    } else {
        room
    };
    for row in rows.iter().skip(first).take(shown) {
        lines.push(table.line(*row, &widths, usize::from(area.width)));
    }
    if below > 0 {
        lines.push(Line::styled(
            format!("{:EDGE$}{} more lines below: j", "", below + 1),
            table.paint.faint(),
        ));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

struct Table<'a> {
    screen: &'a Screen<'a>,
    target: &'a Target,
    paint: Paint,
}

impl Table<'_> {
    fn widths(&self, rows: &[Row], width: usize) -> Widths {
        let width = width.saturating_sub(EDGE);
        let longest = rows
            .iter()
            .map(|row| {
                let host = self.host(row.content);
                host.iter().map(Span::width).sum::<usize>()
            })
            .max()
            .unwrap_or(0);
        // An address is worth more than any figure but loss and time.
        let wanted = longest.clamp(15, 60).min(width.saturating_sub(13).max(8));
        let history = if self.screen.ui.columns != ColumnSet::Tunnels && width >= wanted + 34 {
            LEAST_HISTORY + 1
        } else {
            0
        };
        let columns = self
            .screen
            .ui
            .columns
            .fit(width.saturating_sub(wanted + history));
        let used: usize = columns.iter().map(|column| column.width() + 1).sum();
        let left = width.saturating_sub(used + wanted);
        let history = if history > 0 {
            left.saturating_sub(1)
        } else {
            0
        };
        Widths {
            host: if history > 0 { wanted } else { wanted + left },
            columns,
            history,
        }
    }

    fn heading(&self, widths: &Widths) -> Line<'static> {
        let mut text = format!(
            "{:>6} {:<host$}",
            "#",
            cut("host", widths.host),
            host = widths.host
        );
        for column in &widths.columns {
            let width = column.width();
            if column.is_text() {
                text.push_str(&format!(" {:<width$}", column.heading()));
            } else {
                text.push_str(&format!(" {:>width$}", column.heading()));
            }
        }
        if widths.history > 0 {
            text.push_str(" history");
        }
        Line::styled(text, self.paint.strong())
    }

    fn line(&self, row: Row, widths: &Widths, width: usize) -> Line<'static> {
        let look = self.screen.ui.look;
        let dotted = matches!(row.content, Content::Hidden(..));
        let mut spans = vec![
            Span::styled(row.bracket.glyph(look, dotted), self.paint.tunnel()),
            Span::raw(" "),
        ];
        let mut style = Style::new();
        match row.content {
            Content::Hop(ttl) => {
                if self.screen.ui.selected == Some(ttl) {
                    style = style.add_modifier(Modifier::REVERSED);
                }
                spans.push(Span::raw(format!("{ttl:>3} ")));
                spans.extend(fit(self.host(row.content), widths.host));
                if let Some(hop) = self.target.hop(ttl) {
                    self.figures(&mut spans, hop, widths);
                }
            }
            Content::Title(index) => {
                spans.push(Span::raw("    "));
                let Some(state) = self.target.tunnels().get(index) else {
                    return Line::default();
                };
                let title = if self.target.is_stale(state) {
                    format!("path changed since: {}", explain::title(state))
                } else {
                    explain::title(state)
                };
                spans.push(Span::styled(
                    cut(&title, width.saturating_sub(EDGE)),
                    self.paint.tunnel(),
                ));
            }
            Content::Hidden(tunnel, index) => {
                spans.push(Span::raw("    "));
                spans.extend(fit(self.host(row.content), widths.host));
                let state = self.target.tunnels().get(tunnel);
                let about = state
                    .and_then(|state| Some(explain::hidden_router(state, state.hidden(index)?)))
                    .unwrap_or_default();
                let room = width.saturating_sub(EDGE + widths.host + 1);
                spans.push(Span::styled(
                    format!(" {}", cut(&about, room)),
                    self.paint.faint(),
                ));
            }
        }
        Line::from(spans).style(style)
    }

    /// What stands in the column of addresses.
    fn host(&self, content: Content) -> Vec<Span<'static>> {
        let look = self.screen.ui.look;
        let name = |addr: core::net::IpAddr| {
            self.screen
                .session
                .name(addr)
                .map_or_else(|| addr.to_string(), str::to_owned)
        };
        match content {
            Content::Title(_) => Vec::new(),
            Content::Hidden(tunnel, index) => {
                let state = self.target.tunnels().get(tunnel);
                let addr = state.and_then(|state| state.hidden(index)?.addr());
                vec![match addr {
                    Some(addr) => Span::styled(name(addr), self.paint.revealed()),
                    None => Span::styled("?", self.paint.faint()),
                }]
            }
            Content::Hop(ttl) => {
                let Some(hop) = self.target.hop(ttl) else {
                    return Vec::new();
                };
                let Some(addr) = hop.current() else {
                    let word = match self.target.status(hop) {
                        HopStatus::Awaiting => look.pick("…", "..."),
                        HopStatus::Silent | HopStatus::Answering | HopStatus::Loop => "no reply",
                    };
                    return vec![Span::styled(word, self.paint.faint())];
                };
                let style = if addr == self.target.dst() {
                    self.paint.strong()
                } else {
                    self.paint.plain()
                };
                let mut spans = vec![Span::styled(name(addr), style)];
                if self.target.status(hop) == HopStatus::Loop {
                    spans.push(Span::styled(" loop", self.paint.bad()));
                }
                let others = hop.addresses().len().saturating_sub(1);
                if others > 0 {
                    spans.push(Span::styled(format!(" +{others}"), self.paint.notice()));
                }
                let labels = labels(hop);
                if !labels.is_empty() && self.screen.ui.columns != ColumnSet::Tunnels {
                    spans.push(Span::styled(format!(" [{labels}]"), self.paint.label()));
                }
                spans
            }
        }
    }

    fn figures(&self, spans: &mut Vec<Span<'static>>, hop: &HopState, widths: &Widths) {
        for column in &widths.columns {
            let width = column.width();
            let text = cut(&column.value(hop), width);
            let text = if column.is_text() {
                format!(" {text:<width$}")
            } else {
                format!(" {text:>width$}")
            };
            let loss = hop.statistics().loss_percent();
            let style = if *column == Column::Loss {
                self.loss_style(hop, loss)
            } else if *column == Column::Labels {
                self.paint.label()
            } else if column.is_text() {
                self.paint.faint()
            } else {
                self.paint.plain()
            };
            spans.push(Span::styled(text, style));
        }
        if widths.history > 0 {
            spans.push(Span::raw(" "));
            spans.extend(self.history(hop, widths.history));
        }
    }

    fn loss_style(&self, hop: &HopState, loss: f64) -> Style {
        if hop.statistics().received() == 0 {
            self.paint.faint()
        } else if loss == 0.0 {
            self.paint.plain()
        } else if explain::loss_is_local(self.target, hop.ttl()) {
            self.paint.faint()
        } else if loss < BAD_LOSS {
            self.paint.notice()
        } else {
            self.paint.bad()
        }
    }

    /// The latest samples as bars between best and worst of what is shown, the newest at the
    /// right. A spread of less than a quarter of the best does not fill the height: it is noise.
    fn history(&self, hop: &HopState, width: usize) -> Vec<Span<'static>> {
        let samples = hop.statistics().history();
        let shown: Vec<Sample> = samples.rev().take(width).collect();
        let times = || {
            shown.iter().filter_map(|sample| match sample {
                Sample::Rtt(rtt) => Some(*rtt),
                Sample::Lost | Sample::Untimed => None,
            })
        };
        let best = times().min().unwrap_or(0);
        let worst = times().max().unwrap_or(0);
        let span = (worst - best).max(best / 4).max(1);
        let look = self.screen.ui.look;
        let mut spans = vec![Span::raw(" ".repeat(width - shown.len()))];
        for sample in shown.iter().rev() {
            spans.push(match sample {
                Sample::Lost => Span::styled(look.pick("×", "x"), self.paint.bad()),
                Sample::Untimed => Span::styled("?", self.paint.faint()),
                Sample::Rtt(rtt) => {
                    let bars = bars(look);
                    let top = bars.len() as u64 - 1;
                    let level = u128::from(rtt - best) * u128::from(top) / u128::from(span);
                    let level = usize::try_from(level).unwrap_or(0);
                    let bar = bars.get(level).copied().unwrap_or(" ");
                    Span::styled(bar, self.paint.history())
                }
            });
        }
        spans
    }
}

const fn bars(look: Look) -> &'static [&'static str] {
    if look.unicode {
        &["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"]
    } else {
        &["_", ".", "-", "=", "+", "*", "#"]
    }
}

/// Spans cut or filled up to a width.
fn fit(spans: Vec<Span<'static>>, width: usize) -> Vec<Span<'static>> {
    let mut room = width;
    let mut fitted = Vec::new();
    for span in spans {
        let text = cut(&span.content, room);
        room -= Span::raw(text.as_str()).width();
        fitted.push(Span::styled(text, span.style));
    }
    fitted.push(Span::raw(" ".repeat(room)));
    fitted
}
