//! Keys, and what they do.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use plumb_wire::Instant;

use crate::live::columns::ColumnSet;
use crate::live::session::Session;
use crate::output::style::Look;

/// What is shown of a session, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ui {
    /// Index of the target shown.
    pub(crate) target: usize,
    /// TTL of the selected hop.
    pub(crate) selected: Option<u8>,
    /// Whether the details of the selected hop are shown.
    pub(crate) detail: bool,
    /// Whether tunnels are shown.
    pub(crate) tunnels: bool,
    /// Whether help lies over everything.
    pub(crate) help: bool,
    /// Which columns are shown.
    pub(crate) columns: ColumnSet,
    /// What the terminal can show.
    pub(crate) look: Look,
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Switch columns.
    Columns,
    /// Show or hide the details of a hop.
    Detail,
    /// Show or hide help.
    Help,
    /// Longer or shorter time between rounds.
    Interval {
        /// Which of the two.
        longer: bool,
    },
    /// Show or hide names.
    Names,
    /// Stop starting rounds, or go on.
    Pause,
    /// Leave.
    Quit,
    /// Look for tunnels now.
    Recheck,
    /// Forget the statistics.
    Reset,
    /// Select the hop this many rows further.
    Select(isize),
    /// Show the target this many tabs further.
    Tab(isize),
    /// Show this target, from 0.
    Target(usize),
    /// Show or hide tunnels.
    Tunnels,
}

/// Keys as shown on screen: what to press, in a word, in a line.
pub(crate) const KEYS: [(&str, &str, &str); 13] = [
    ("q", "quit", "leave, and print the report (also Esc, ^C)"),
    ("p", "pause", "start no more rounds, or go on (also space)"),
    ("r", "reset", "forget the statistics"),
    ("j k", "hop", "select a hop (also the arrows)"),
    ("d", "detail", "all that is known of the hop (also enter)"),
    ("t", "tunnels", "tunnels on or off"),
    ("x", "check", "look for tunnels in the next round"),
    ("n", "names", "names on or off"),
    ("c", "columns", "delay, jitter or tunnel columns"),
    ("+ -", "pace", "longer or shorter time between rounds"),
    ("tab", "target", "next target (shift-tab: the one before)"),
    ("1-9", "target", "that target"),
    ("?", "help", "this page (also h)"),
];

/// What a key asks for; `None` if nothing.
pub(crate) fn action(key: KeyEvent) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return (key.code == KeyCode::Char('c')).then_some(Action::Quit);
    }
    if key.modifiers.contains(KeyModifiers::ALT) {
        return None;
    }
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "most of the many keys there are do nothing"
    )]
    Some(match key.code {
        KeyCode::Char('q') | KeyCode::Esc => Action::Quit,
        KeyCode::Char('p' | ' ') => Action::Pause,
        KeyCode::Char('r') => Action::Reset,
        KeyCode::Char('j') | KeyCode::Down => Action::Select(1),
        KeyCode::Char('k') | KeyCode::Up => Action::Select(-1),
        KeyCode::PageDown => Action::Select(10),
        KeyCode::PageUp => Action::Select(-10),
        KeyCode::End => Action::Select(isize::MAX),
        KeyCode::Home => Action::Select(isize::MIN),
        KeyCode::Char('d') | KeyCode::Enter => Action::Detail,
        KeyCode::Char('t') => Action::Tunnels,
        KeyCode::Char('x') => Action::Recheck,
        KeyCode::Char('n') => Action::Names,
        KeyCode::Char('c') => Action::Columns,
        KeyCode::Char('+' | '=') => Action::Interval { longer: true },
        KeyCode::Char('-') => Action::Interval { longer: false },
        KeyCode::Tab | KeyCode::Right => Action::Tab(1),
        KeyCode::BackTab | KeyCode::Left => Action::Tab(-1),
        KeyCode::Char(digit @ '1'..='9') => {
            Action::Target(usize::try_from(digit.to_digit(10)?).ok()?.checked_sub(1)?)
        }
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => Action::Help,
        _ => return None,
    })
}

impl Ui {
    /// The view at the start.
    pub(crate) const fn new(look: Look) -> Self {
        Self {
            target: 0,
            selected: None,
            detail: false,
            tunnels: true,
            help: false,
            columns: ColumnSet::Delay,
            look,
        }
    }

    /// Does what a key asks for. Returns true if it is to leave.
    pub(crate) fn apply(&mut self, action: Action, session: &mut Session, now: Instant) -> bool {
        match action {
            Action::Quit if self.help => self.help = false,
            Action::Quit => return true,
            Action::Help => self.help = !self.help,
            Action::Pause => session.toggle_pause(),
            Action::Reset => session.reset(),
            Action::Columns => self.columns = self.columns.next(),
            Action::Tunnels => self.tunnels = !self.tunnels,
            Action::Names => session.toggle_names(),
            Action::Recheck => session.recheck(now),
            Action::Interval { longer } => session.step_interval(longer),
            Action::Detail => {
                self.detail = !self.detail;
                if self.detail && self.selected.is_none() {
                    self.select(1, session);
                }
            }
            Action::Select(by) => self.select(by, session),
            Action::Tab(by) => {
                let count = isize::try_from(session.targets().len().max(1)).unwrap_or(isize::MAX);
                let next = isize::try_from(self.target).unwrap_or(0).saturating_add(by);
                self.show(usize::try_from(next.rem_euclid(count)).unwrap_or(0));
            }
            Action::Target(index) if index < session.targets().len() => self.show(index),
            Action::Target(_) => {}
        }
        false
    }

    fn show(&mut self, target: usize) {
        if self.target != target {
            self.target = target;
            self.selected = None;
            self.detail = false;
        }
    }

    fn select(&mut self, by: isize, session: &Session) {
        let Some(target) = session.target(self.target) else {
            return;
        };
        let ttls: Vec<u8> = target.hops().map(|hop| hop.ttl()).collect();
        let Some(last) = ttls.len().checked_sub(1) else {
            return;
        };
        let at = self
            .selected
            .and_then(|ttl| ttls.iter().position(|t| *t == ttl));
        let next = match at {
            None if by > 0 && by != isize::MAX => 0,
            None => last,
            Some(at) => at.saturating_add_signed(by).min(last),
        };
        self.selected = ttls.get(next).copied();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::testing::seen;
    use crate::output::fixtures;

    fn pressed(code: KeyCode) -> Option<Action> {
        action(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn ui() -> Ui {
        Ui::new(Look {
            colour: false,
            unicode: true,
        })
    }

    #[test]
    fn every_key_on_screen_does_something() {
        for (keys, word, _) in KEYS {
            for key in keys.split(' ') {
                let code = match key {
                    "tab" => KeyCode::Tab,
                    "1-9" => KeyCode::Char('9'),
                    key => KeyCode::Char(key.chars().next().unwrap()),
                };
                assert!(pressed(code).is_some(), "{key}: {word}");
            }
        }
    }

    #[test]
    fn what_mtr_and_less_have_taught_the_fingers_works() {
        for (code, expected) in [
            (KeyCode::Esc, Action::Quit),
            (KeyCode::Char(' '), Action::Pause),
            (KeyCode::Down, Action::Select(1)),
            (KeyCode::Up, Action::Select(-1)),
            (KeyCode::Enter, Action::Detail),
            (KeyCode::BackTab, Action::Tab(-1)),
            (KeyCode::Char('3'), Action::Target(2)),
            (KeyCode::Char('='), Action::Interval { longer: true }),
            (KeyCode::Char('h'), Action::Help),
        ] {
            assert_eq!(pressed(code), Some(expected));
        }
        let control = |c| action(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL));
        assert_eq!(control('c'), Some(Action::Quit));
        assert_eq!(control('p'), None, "^P is no pause");
        assert_eq!(pressed(KeyCode::Char('0')), None);
        assert_eq!(pressed(KeyCode::Char('é')), None);
        let mut release = KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE);
        release.kind = KeyEventKind::Release;
        assert_eq!(action(release), None);
    }

    #[test]
    fn leaving_help_is_not_leaving() {
        let (mut ui, mut session) = (ui(), seen(&[fixtures::php()]));
        let now = Instant::ZERO;
        assert!(!ui.apply(Action::Help, &mut session, now));
        assert!(ui.help);
        assert!(!ui.apply(Action::Quit, &mut session, now));
        assert!(!ui.help);
        assert!(ui.apply(Action::Quit, &mut session, now));
    }

    #[test]
    fn the_selection_stays_on_the_path() {
        let (mut ui, mut session) = (ui(), seen(&[fixtures::php()]));
        let mut select = |by| {
            ui.apply(Action::Select(by), &mut session, Instant::ZERO);
            ui.selected
        };
        assert_eq!(select(1), Some(1));
        assert_eq!(select(-1), Some(1));
        assert_eq!(select(2), Some(3));
        assert_eq!(select(isize::MAX), Some(5));
        assert_eq!(select(isize::MIN), Some(1));
        assert_eq!(select(10), Some(5));
    }

    #[test]
    fn details_need_a_hop_and_take_the_first() {
        let (mut ui, mut session) = (ui(), seen(&[fixtures::php()]));
        ui.apply(Action::Detail, &mut session, Instant::ZERO);
        assert_eq!((ui.detail, ui.selected), (true, Some(1)));
    }

    #[test]
    fn there_is_no_target_beyond_the_last() {
        let (mut ui, mut session) = (ui(), seen(&[fixtures::php()]));
        ui.apply(Action::Target(1), &mut session, Instant::ZERO);
        assert_eq!(ui.target, 0);
        ui.apply(Action::Tab(-1), &mut session, Instant::ZERO);
        assert_eq!(ui.target, 0);
    }

    #[test]
    fn keys_reach_the_session() {
        let (mut ui, mut session) = (ui(), seen(&[fixtures::php(), fixtures::php()]));
        let now = Instant::from_millis(1500);
        ui.apply(Action::Reset, &mut session, now);
        assert_eq!(session.target(0).unwrap().rounds(), 0);
        ui.apply(Action::Recheck, &mut session, now);
        let round = session.poll_round(Instant::from_millis(2500)).unwrap();
        assert!(round.options.tunnels.is_some());
        ui.apply(Action::Pause, &mut session, now);
        assert!(session.is_paused());
        ui.apply(Action::Names, &mut session, now);
        assert!(!session.unnamed().is_empty());
        ui.apply(Action::Columns, &mut session, now);
        ui.apply(Action::Tunnels, &mut session, now);
        assert_eq!((ui.columns, ui.tunnels), (ColumnSet::Jitter, false));
    }
}
