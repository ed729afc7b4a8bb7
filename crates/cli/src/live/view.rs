//! What is drawn: a pure function of the session, the choices of the user, and the time.

mod detail;
mod help;
mod hops;
pub(crate) mod paint;
pub(crate) mod panel;

use core::time::Duration;

use plumb_probe::Stats;
use plumb_wire::Instant;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use crate::live::explain;
use crate::live::keys::{KEYS, Ui};
use crate::live::model::Target;
use crate::live::session::Session;
use crate::live::view::paint::Paint;
use crate::live::view::panel::is_too_small;
use crate::output::text;

/// All that a screen shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen<'a> {
    /// What has been measured.
    pub(crate) session: &'a Session,
    /// What the user chose to see of it.
    pub(crate) ui: &'a Ui,
    /// Packets so far.
    pub(crate) stats: Stats,
    /// Most packets per second.
    pub(crate) rate: Option<u32>,
    /// Whether replies lack quoted TTLs for want of a privilege.
    pub(crate) unprivileged: bool,
    /// The time.
    pub(crate) now: Instant,
}

/// Smallest terminal that has room for anything.
const LEAST: (u16, u16) = (40, 8);

/// Draws a screen.
pub(crate) fn draw(frame: &mut Frame<'_>, screen: &Screen<'_>) {
    if is_too_small(frame, LEAST) {
        return;
    }
    let area = frame.area();
    let paint = Paint(screen.ui.look);
    let Some(target) = screen.session.target(screen.ui.target) else {
        return;
    };
    let tabs = u16::from(screen.session.targets().len() > 1);
    let notice: Vec<Line<'static>> = notice(screen, target)
        .map(|words| wrap(&words, area.width.into()))
        .unwrap_or_default()
        .into_iter()
        .map(|line| Line::styled(line, paint.notice()))
        .collect();
    let notice_height = height(&notice).min(area.height / 3);
    let free = area.height.saturating_sub(4 + tabs + notice_height);
    let detail = screen
        .ui
        .detail
        .then(|| detail::lines(screen, target, usize::from(area.width)));
    let detail_height = detail
        .as_ref()
        .map_or(0, |lines| height(lines).saturating_add(1).min(free / 2));
    let [head, tab_area, body, detail_area, notice_area, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(tabs),
        Constraint::Min(2),
        Constraint::Length(detail_height),
        Constraint::Length(notice_height),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(header(screen, target, head.width)), head);
    frame.render_widget(Paragraph::new(tab_line(screen, tab_area.width)), tab_area);
    hops::draw(frame, screen, target, body);
    if let Some(lines) = detail {
        frame.render_widget(Paragraph::new(lines), detail_area);
    }
    frame.render_widget(Paragraph::new(notice), notice_area);
    frame.render_widget(Paragraph::new(key_line(paint, foot.width)), foot);
    if screen.ui.help {
        help::draw(frame, screen, area);
    }
}

fn header(screen: &Screen<'_>, target: &Target, width: u16) -> Vec<Line<'static>> {
    let paint = Paint(screen.ui.look);
    let session = screen.session;
    let dst = target.dst().to_string();
    let mut left = vec![
        Span::styled("plumb trace ", paint.faint()),
        Span::styled(target.name().to_owned(), paint.strong()),
    ];
    if target.name() != dst {
        left.push(Span::raw(format!(" ({dst})")));
    }
    let mut right = Vec::new();
    if session.is_paused() {
        right.push(Span::styled("paused  ", paint.notice()));
    }
    right.push(Span::raw(format!(
        "round {}  {}",
        target.rounds(),
        clock(screen.now.since(session.started()))
    )));

    let mut facts = vec![
        text::method(target.method()).to_owned(),
        format!("from {}", target.src()),
        format!("every {:?}", session.pace().interval),
    ];
    facts.extend(screen.rate.map(|rate| format!("max {rate} pps")));
    facts.push(if session.options().tunnels.is_none() {
        "no tunnel checks".to_owned()
    } else if session.is_checking(screen.ui.target) {
        "looking for tunnels".to_owned()
    } else {
        match target.last_check() {
            Some(at) => format!("tunnels checked {} ago", ago(screen.now.since(at))),
            None => "tunnels not checked".to_owned(),
        }
    });
    if screen.unprivileged {
        facts.push("unprivileged: no quoted TTLs".to_owned());
    }
    let separator = screen.ui.look.pick(" · ", ", ");
    // The source and then the rate can be found elsewhere.
    for spare in [1, 2] {
        if facts.join(separator).chars().count() > width.into() && facts.len() > spare + 1 {
            facts.remove(spare);
        }
    }
    vec![
        spread(left, right, usize::from(width)),
        Line::styled(cut(&facts.join(separator), width.into()), paint.faint()),
    ]
}

/// Spans at the left and at the right edge; the left ones give way.
pub(crate) fn spread(
    left: Vec<Span<'static>>,
    right: Vec<Span<'static>>,
    width: usize,
) -> Line<'static> {
    let right_width: usize = right.iter().map(Span::width).sum();
    let mut room = width.saturating_sub(right_width + 1);
    let mut spans = Vec::new();
    for span in left {
        let text = cut(&span.content, room);
        room -= Span::raw(text.as_str()).width();
        spans.push(Span::styled(text, span.style));
    }
    spans.push(Span::raw(" ".repeat(room + 1)));
    spans.extend(right);
    Line::from(spans)
}

fn tab_line(screen: &Screen<'_>, width: u16) -> Line<'static> {
    let paint = Paint(screen.ui.look);
    let tab = |(index, target): (usize, &Target)| {
        let mark = if target.reached() || target.total_rounds() == 0 {
            ""
        } else {
            screen.ui.look.pick(" ×", " x")
        };
        let text = format!(" {} {}{mark} ", index + 1, cut(target.name(), 30));
        let style = if index == screen.ui.target {
            paint.strong().add_modifier(Modifier::REVERSED)
        } else if mark.is_empty() {
            paint.plain()
        } else {
            paint.bad()
        };
        Span::styled(text, style)
    };
    let tabs: Vec<Span<'static>> = screen.session.targets().enumerate().map(tab).collect();
    // The tabs before the one shown give way if not all fit.
    let mut first = 0;
    while first < screen.ui.target
        && tabs[first..=screen.ui.target]
            .iter()
            .map(Span::width)
            .sum::<usize>()
            > usize::from(width)
    {
        first += 1;
    }
    Line::from(tabs.into_iter().skip(first).collect::<Vec<_>>())
}

fn notice(screen: &Screen<'_>, target: &Target) -> Option<String> {
    if let Some(refused) = screen.session.refusal(screen.ui.target) {
        return Some(format!("{} cannot be traced: {refused}.", target.name()));
    }
    if screen.session.is_paused() {
        return None;
    }
    let wait = screen.session.options().wait;
    let round = screen.session.pace().interval + wait * 2;
    explain::silence(target, wait, round, &screen.stats, screen.now)
}

fn key_line(paint: Paint, width: u16) -> Line<'static> {
    let mut spans = Vec::new();
    let mut room = usize::from(width);
    // Help explains the keys that have no room.
    let (help, others) = match KEYS.split_last() {
        Some((help, others)) => (help, others),
        None => return Line::default(),
    };
    let len = |(key, word, _): &(&str, &str, &str)| key.len() + word.len() + 3;
    room = room.saturating_sub(len(help));
    for key in others.iter().chain([help]) {
        if core::ptr::eq(key, help) {
            room += len(help);
        }
        if len(key) > room {
            continue;
        }
        room -= len(key);
        spans.push(Span::styled(key.0, paint.strong()));
        spans.push(Span::styled(format!(" {}  ", key.1), paint.faint()));
    }
    Line::from(spans)
}

/// Hours, minutes and seconds.
pub(crate) fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!(
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

fn ago(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

fn height(lines: &[Line<'_>]) -> u16 {
    u16::try_from(lines.len()).unwrap_or(u16::MAX)
}

/// Breaks a text at spaces into lines of at most `width`.
fn wrap(words: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// The first `width` columns of a text.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.is_ascii() {
        return text.get(..width).unwrap_or(text).to_owned();
    }
    let mut used = 0;
    text.chars()
        .take_while(|c| {
            let mut buffer = [0; 4];
            used += Span::raw(&*c.encode_utf8(&mut buffer)).width();
            used <= width
        })
        .collect()
}

#[cfg(test)]
mod tests;
