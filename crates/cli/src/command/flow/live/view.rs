//! What is drawn: a pure function of the connections, the choices of the user, and the time.

mod overlay;

use core::net::SocketAddr;
use core::time::Duration;

use plumb_record::{FlowOpen, FlowProfile, FlowProtocol};
use plumb_wire::Instant;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::field::{COLUMNS, Field};
use super::keys::{Asks, KEYS, Ui};
use super::model::{Connection, Id, Model};
use crate::live::view::paint::Paint;
use crate::live::view::panel::is_too_small;
use crate::live::view::{clock, cut, spread};
use crate::output::text;

/// All that a screen shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Screen<'a> {
    /// The connections.
    pub(super) model: &'a Model,
    /// What the user chose to see of them.
    pub(super) ui: &'a Ui,
    /// Counters of the run.
    pub(super) totals: Totals,
    /// Time between two looks.
    pub(super) interval: Duration,
    /// When the run began.
    pub(super) started: Instant,
    /// When the rows were told.
    pub(super) now: Instant,
}

/// Counters of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Connections that were watched.
    pub(super) connections: u64,
    /// Profiles written or sent.
    pub(super) profiles: u64,
    /// Events and profiles lost.
    pub(super) lost: u64,
}

/// Smallest terminal that has room for anything.
const LEAST: (u16, u16) = (40, 6);
/// Columns of the screen for process and state.
const PROCESS: usize = 16;
const STATE: usize = 13;
/// Least and most for both ends of a connection.
const ENDS: (usize, usize) = (31, 90);

/// Draws a screen.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &Screen<'_>) {
    if is_too_small(frame, LEAST) {
        return;
    }
    let area = frame.area();
    let [head, body, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Min(2),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(header(screen, head.width.into())), head);
    frame.render_widget(Paragraph::new(table(screen, body)), body);
    frame.render_widget(Paragraph::new(foot_line(screen, foot.width.into())), foot);
    if screen.ui.help {
        overlay::help(frame, screen, area);
    } else if screen.ui.detail {
        overlay::detail(frame, screen, area);
    }
}

fn header(screen: &Screen<'_>, width: usize) -> Vec<Line<'static>> {
    let ui = screen.ui;
    let paint = Paint(ui.look);
    let (alive, ended) = screen.model.counts();
    let left = vec![
        Span::styled("plumb flow  ", paint.faint()),
        Span::styled(
            text::count(alive, "connection", "connections"),
            paint.strong(),
        ),
        Span::raw(format!(", {ended} just ended")),
    ];
    let mut right = Vec::new();
    if ui.paused {
        right.push(Span::styled("paused  ", paint.notice()));
    }
    right.push(Span::raw(clock(screen.now.since(screen.started))));
    let mut facts = vec![format!(
        "by {}{}",
        ui.sort.name(),
        if ui.reverse { ", reversed" } else { "" }
    )];
    if !ui.filter.is_empty() {
        facts.push(format!("only \"{}\"", ui.filter));
    }
    facts.push(format!("every {:?}", screen.interval));
    facts.push(format!(
        "{} since the start, {}",
        text::count(screen.totals.connections, "connection", "connections"),
        text::count(screen.totals.profiles, "profile", "profiles")
    ));
    let hidden = screen.model.hidden();
    if hidden > 0 {
        facts.push(format!("{hidden} have no room here"));
    }
    if screen.totals.lost > 0 {
        facts.push(format!("{} events lost", screen.totals.lost));
    }
    let separator = ui.look.pick(" · ", ", ");
    let style = if screen.totals.lost > 0 {
        paint.notice()
    } else {
        paint.faint()
    };
    vec![
        spread(left, right, width),
        Line::styled(cut(&facts.join(separator), width), style),
    ]
}

/// The columns that a width has room for, the sorted one always.
fn columns(sort: Field, room: usize) -> Vec<Field> {
    let is_shown = |field: Field| field == sort;
    // These are no figures, and have a place of their own.
    let beside = [Field::Recorded("process"), Field::Recorded("state")];
    let mut room = room;
    let extra = !COLUMNS.contains(&sort) && !beside.contains(&sort);
    if COLUMNS.contains(&sort) || extra {
        room = room.saturating_sub(sort.width() + 1);
    }
    let mut columns: Vec<Field> = if extra { vec![sort] } else { Vec::new() };
    let mut full = false;
    for column in COLUMNS {
        if is_shown(column) {
            columns.push(column);
        } else if !full && column.width() < room {
            room -= column.width() + 1;
            columns.push(column);
        } else {
            full = true;
        }
    }
    columns
}

/// The heading and the rows that fit.
fn table(screen: &Screen<'_>, area: Rect) -> Vec<Line<'static>> {
    let ui = screen.ui;
    let paint = Paint(ui.look);
    let width = usize::from(area.width);
    let rows = screen
        .model
        .rows(ui.sort, ui.reverse, &ui.filter, screen.now);
    let room = usize::from(area.height.saturating_sub(1));
    let selected = rows.iter().position(|row| Some(row.0) == ui.selected);
    let first = match selected {
        // A line of what follows stays in view.
        Some(line) if line + 2 > room => (line + 2 - room).min(rows.len().saturating_sub(room)),
        _ => 0,
    };
    let visible = rows.get(first..).unwrap_or_default();
    let visible = visible.get(..room).unwrap_or(visible);
    let ends: Vec<String> = visible
        .iter()
        .map(|row| ends(ui, row.1.profile()))
        .collect();
    let longest = ends.iter().map(|ends| ends.chars().count()).max();
    let longest = longest.unwrap_or(0).clamp(ENDS.0, ENDS.1);
    let rest = width.saturating_sub(PROCESS + STATE + 2);
    // Figures get half of it at least, where the ends do not need it to be read.
    let columns = columns(ui.sort, rest - longest.min(ENDS.0.max(rest / 2)).min(rest));
    let figures: usize = columns.iter().map(|column| column.width() + 1).sum();
    let ends_width = longest.min(rest.saturating_sub(figures));

    let mut lines = vec![heading(screen, &columns, ends_width)];
    if rows.is_empty() {
        let words = match ui.filter.is_empty() {
            true => "no connection yet",
            false => "no connection has these words",
        };
        lines.push(Line::styled(words, paint.faint()));
    }
    for (row, ends) in visible.iter().zip(ends) {
        lines.push(line(screen, *row, &ends, &columns, ends_width));
    }
    lines
}

fn heading(screen: &Screen<'_>, columns: &[Field], ends_width: usize) -> Line<'static> {
    let paint = Paint(screen.ui.look);
    let sorted = |field: Field| {
        if field == screen.ui.sort {
            paint.strong().add_modifier(Modifier::REVERSED)
        } else {
            paint.faint()
        }
    };
    let mut spans = vec![
        Span::styled(
            format!("{:<PROCESS$}", "process"),
            sorted(Field::Recorded("process")),
        ),
        Span::styled(format!(" {:<ends_width$} ", "connection"), paint.faint()),
        Span::styled(
            format!("{:<STATE$}", "state"),
            sorted(Field::Recorded("state")),
        ),
    ];
    for column in columns {
        let width = column.width();
        spans.push(Span::raw(" "));
        spans.push(Span::styled(
            format!("{:>width$}", column.heading()),
            sorted(*column),
        ));
    }
    Line::from(spans)
}

fn line(
    screen: &Screen<'_>,
    (id, connection): (Id, &Connection),
    ends: &str,
    columns: &[Field],
    ends_width: usize,
) -> Line<'static> {
    let paint = Paint(screen.ui.look);
    let profile = connection.profile();
    let base = if connection.has_ended() {
        paint.faint()
    } else {
        paint.plain()
    };
    let state = connection.state();
    let state_style = match state {
        "open" | "closed" | "ended" => base,
        "opening" | "given up" | "reset sent" => paint.notice(),
        _ => paint.bad(),
    };
    let process = match (profile.process.as_deref(), profile.pid) {
        (Some(name), Some(pid)) => {
            let name = text::plain(name);
            // The number stays whole.
            let pid = format!("/{pid}");
            format!("{}{pid}", cut(&name, PROCESS.saturating_sub(pid.len())))
        }
        (Some(name), None) => text::plain(name).into_owned(),
        (None, Some(pid)) => pid.to_string(),
        (None, None) => "-".to_owned(),
    };
    let pad = |text: &str, width: usize| {
        let text = cut(text, width);
        let rest = width.saturating_sub(Span::raw(text.as_str()).width());
        format!("{text}{}", " ".repeat(rest))
    };
    let mut spans = vec![
        Span::styled(pad(&process, PROCESS), base),
        Span::styled(format!(" {} ", pad(ends, ends_width)), base),
        Span::styled(format!("{state:<STATE$}"), state_style),
    ];
    for column in columns {
        let width = column.width();
        let text = cut(&column.text(connection, screen.now), width);
        let style = figure_style(paint, base, *column, profile);
        spans.push(Span::styled(format!(" {text:>width$}"), style));
    }
    let line = Line::from(spans);
    if Some(id) == screen.ui.selected {
        line.style(Style::new().add_modifier(Modifier::REVERSED))
    } else {
        line
    }
}

/// Loss stands out.
fn figure_style(paint: Paint, base: Style, column: Field, profile: &FlowProfile) -> Style {
    let lost = match column.name() {
        "packets_retransmitted" | "retransmission_ratio" => profile.packets_retransmitted,
        "rtos" => profile.rtos.map(u64::from),
        "packets_lost" => profile.packets_lost,
        _ => None,
    };
    if lost.is_some_and(|lost| lost > 0) {
        paint.notice()
    } else {
        base
    }
}

/// Both ends of a connection, and who opened it.
fn ends(ui: &Ui, profile: &FlowProfile) -> String {
    let arrow = match profile.open {
        Some(FlowOpen::Active) => ui.look.pick("→", "->"),
        Some(FlowOpen::Passive) => ui.look.pick("←", "<-"),
        None => ui.look.pick("↔", "--"),
    };
    let socket = |address, port| SocketAddr::new(address, port);
    let kind = match profile.protocol {
        FlowProtocol::Tcp => "",
        FlowProtocol::MptcpSubflow => " path",
        FlowProtocol::Mptcp => " mptcp",
        FlowProtocol::Quic => " quic",
    };
    format!(
        "{} {arrow} {}{kind}",
        socket(profile.local_addr, profile.local_port),
        socket(profile.remote_addr, profile.remote_port)
    )
}

/// The line that is typed, or the keys.
fn foot_line(screen: &Screen<'_>, width: usize) -> Line<'static> {
    let paint = Paint(screen.ui.look);
    if let Some(prompt) = &screen.ui.prompt {
        let (asks, after) = match prompt.asks {
            Asks::Filter => (
                "only rows with: ",
                "   enter keeps it, Esc clears it".to_owned(),
            ),
            Asks::Sort => {
                let field = prompt.field().map(Field::name);
                let after = field.map_or_else(
                    || "   a field, such as rtt_ns".to_owned(),
                    |name| format!("   enter: {name}"),
                );
                ("sort by: ", after)
            }
        };
        let spans = vec![
            Span::styled(asks, paint.strong()),
            Span::raw(prompt.text.clone()),
            Span::styled(" ", paint.plain().add_modifier(Modifier::REVERSED)),
            Span::styled(after, paint.faint()),
        ];
        return spread(spans, Vec::new(), width + 1);
    }
    let mut spans = Vec::new();
    let mut room = width;
    for (key, word, _) in KEYS {
        let len = key.len() + word.len() + 3;
        if len <= room {
            room -= len;
            spans.push(Span::styled(key, paint.strong()));
            spans.push(Span::styled(format!(" {word}  "), paint.faint()));
        }
    }
    Line::from(spans)
}

#[cfg(test)]
mod tests;
