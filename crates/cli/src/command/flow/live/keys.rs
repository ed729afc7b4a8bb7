//! Keys, and what they do.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use plumb_wire::Instant;

use super::field::{COLUMNS, Field, names};
use super::model::{Id, Model};
use crate::output::style::Look;
use crate::settings::nearest;

/// What is shown, and how.
#[derive(Clone, Debug)]
pub(super) struct Ui {
    /// What rows are sorted by.
    pub(super) sort: Field,
    /// Whether the other way round.
    pub(super) reverse: bool,
    /// Whether nothing moves.
    pub(super) paused: bool,
    /// Only rows with these words are shown.
    pub(super) filter: String,
    /// What is being typed.
    pub(super) prompt: Option<Prompt>,
    /// The selected connection.
    pub(super) selected: Option<Id>,
    /// Whether all that is known of it is shown.
    pub(super) detail: bool,
    /// Whether help lies over everything.
    pub(super) help: bool,
    /// What the terminal can show.
    pub(super) look: Look,
}

/// A line that is being typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prompt {
    /// What for.
    pub(super) asks: Asks,
    /// What was typed so far.
    pub(super) text: String,
}

/// What a line that is being typed is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    /// The words of a filter.
    Filter,
    /// The name of a field.
    Sort,
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Sort by the column so many further.
    Column(isize),
    /// Sort the other way round.
    Reverse,
    /// Stop or go on.
    Pause,
    /// Ask for a line.
    Ask(Asks),
    /// Select the connection so many rows further.
    Select(isize),
    /// Show or hide all that is known of a connection.
    Detail,
    /// Show or hide help.
    Help,
    /// Back out of what is open; of the view if nothing is.
    Back,
    /// Leave.
    Quit,
}

/// Keys as shown on screen: what to press, in a word, in a line.
pub(super) const KEYS: [(&str, &str, &str); 9] = [
    ("q", "quit", "leave (also ^C)"),
    (
        "< >",
        "sort",
        "sort by the column before or behind (also the arrows)",
    ),
    ("r", "reverse", "the other way round"),
    (
        "/",
        "filter",
        "only rows with these words: process, address, state, group",
    ),
    ("s", "by", "sort by any field of the records, by its name"),
    ("p", "pause", "stop, or go on (also space)"),
    ("j k", "row", "select a connection (also the arrows)"),
    (
        "d",
        "detail",
        "all that is known of the connection (also enter)",
    ),
    ("?", "help", "this page (also h)"),
];

/// Longest line that can be typed.
const MOST_TYPED: usize = 80;

/// What a key asks for; `None` if nothing.
pub(super) fn action(key: KeyEvent) -> Option<Action> {
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
        KeyCode::Char('q') => Action::Quit,
        KeyCode::Esc => Action::Back,
        KeyCode::Char('<' | ',') | KeyCode::Left => Action::Column(-1),
        KeyCode::Char('>' | '.') | KeyCode::Right => Action::Column(1),
        KeyCode::Char('r') => Action::Reverse,
        KeyCode::Char('p' | ' ') => Action::Pause,
        KeyCode::Char('/' | 'f') => Action::Ask(Asks::Filter),
        KeyCode::Char('s') => Action::Ask(Asks::Sort),
        KeyCode::Char('j') | KeyCode::Down => Action::Select(1),
        KeyCode::Char('k') | KeyCode::Up => Action::Select(-1),
        KeyCode::PageDown => Action::Select(10),
        KeyCode::PageUp => Action::Select(-10),
        KeyCode::End => Action::Select(isize::MAX),
        KeyCode::Home => Action::Select(isize::MIN),
        KeyCode::Char('d') | KeyCode::Enter => Action::Detail,
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => Action::Help,
        _ => return None,
    })
}

impl Ui {
    /// The view at the start.
    pub(super) const fn new(sort: Field, look: Look) -> Self {
        Self {
            sort,
            reverse: false,
            paused: false,
            filter: String::new(),
            prompt: None,
            selected: None,
            detail: false,
            help: false,
            look,
        }
    }

    /// Does what a key asks for. Returns true if it is to leave.
    pub(super) fn press(&mut self, key: KeyEvent, model: &Model, now: Instant) -> bool {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if self.prompt.is_some() && !control {
            if key.kind != KeyEventKind::Release {
                self.write(key.code);
            }
            return false;
        }
        action(key).is_some_and(|action| self.apply(action, model, now))
    }

    /// A key while a line is typed. A filter works at once.
    fn write(&mut self, code: KeyCode) {
        let Some(prompt) = &mut self.prompt else {
            return;
        };
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "most of the many keys there are do nothing"
        )]
        match code {
            KeyCode::Char(c) if prompt.text.chars().count() < MOST_TYPED => prompt.text.push(c),
            KeyCode::Backspace => drop(prompt.text.pop()),
            KeyCode::Esc => {
                if prompt.asks == Asks::Filter {
                    self.filter.clear();
                }
                self.prompt = None;
                return;
            }
            KeyCode::Enter => {
                if let (Asks::Sort, Some(field)) = (prompt.asks, prompt.field()) {
                    self.sort = field;
                }
                self.prompt = None;
                return;
            }
            _ => return,
        }
        if prompt.asks == Asks::Filter {
            self.filter.clone_from(&prompt.text);
        }
    }

    fn apply(&mut self, action: Action, model: &Model, now: Instant) -> bool {
        match action {
            Action::Quit if self.help => self.help = false,
            Action::Quit => return true,
            Action::Back if self.help => self.help = false,
            Action::Back if self.detail => self.detail = false,
            Action::Back if !self.filter.is_empty() => self.filter.clear(),
            Action::Back => return true,
            Action::Help => self.help = !self.help,
            Action::Pause => self.paused = !self.paused,
            Action::Reverse => self.reverse = !self.reverse,
            Action::Column(by) => self.sort = beside(self.sort, by),
            Action::Ask(asks) => {
                let text = match asks {
                    Asks::Filter => self.filter.clone(),
                    Asks::Sort => String::new(),
                };
                self.prompt = Some(Prompt { asks, text });
            }
            Action::Select(by) => self.select(by, model, now),
            Action::Detail => {
                self.detail = !self.detail;
                if self.selected.is_none_or(|id| model.get(id).is_none()) {
                    self.selected = None;
                    self.select(1, model, now);
                }
            }
        }
        false
    }

    fn select(&mut self, by: isize, model: &Model, now: Instant) {
        let rows = model.rows(self.sort, self.reverse, &self.filter, now);
        let Some(last) = rows.len().checked_sub(1) else {
            return;
        };
        let at = self
            .selected
            .and_then(|id| rows.iter().position(|row| row.0 == id));
        let next = match at {
            None if by > 0 && by != isize::MAX => 0,
            None if by == isize::MIN => 0,
            None => last,
            Some(at) => at.saturating_add_signed(by).min(last),
        };
        self.selected = rows.get(next).map(|row| row.0);
    }
}

impl Prompt {
    /// The field whose name was typed, or the nearest if it is the beginning of one.
    pub(super) fn field(&self) -> Option<Field> {
        let typed = self.text.trim().to_lowercase().replace('-', "_");
        if typed.is_empty() {
            return None;
        }
        let begins = || names().find(|name| name.starts_with(&typed));
        let near = || nearest(&typed, names());
        Field::named(&typed).or_else(|| Field::named(begins().or_else(near)?))
    }
}

/// The column before or behind that which rows are sorted by.
fn beside(sort: Field, by: isize) -> Field {
    let count = isize::try_from(COLUMNS.len()).unwrap_or(1);
    let at = COLUMNS.iter().position(|column| *column == sort);
    let next = match at {
        Some(at) => isize::try_from(at).unwrap_or(0).saturating_add(by),
        None if by > 0 => 0,
        None => -1,
    };
    let next = usize::try_from(next.rem_euclid(count)).unwrap_or(0);
    COLUMNS.get(next).copied().unwrap_or(sort)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::flow::live::testing::profile;

    const NOW: Instant = Instant::from_millis(5000);

    fn ui() -> Ui {
        let look = Look {
            colour: false,
            unicode: true,
        };
        Ui::new(Field::Rate, look)
    }

    fn model() -> Model {
        let mut model = Model::default();
        model.begin_look();
        for n in 1..=5 {
            let mut profile = profile(n);
            profile.bytes_sent = n * 1000;
            profile.process = Some(format!("program{n}"));
            model.handle_look(profile, NOW);
        }
        model.end_look(NOW);
        model
    }

    fn press(ui: &mut Ui, model: &Model, keys: &str) -> bool {
        let mut left = false;
        for c in keys.chars() {
            let code = match c {
                '\n' => KeyCode::Enter,
                '\x1b' => KeyCode::Esc,
                '\x08' => KeyCode::Backspace,
                c => KeyCode::Char(c),
            };
            left |= ui.press(KeyEvent::new(code, KeyModifiers::NONE), model, NOW);
        }
        left
    }

    #[test]
    fn every_key_on_screen_does_something() {
        for (keys, word, _) in KEYS {
            for key in keys.split(' ') {
                let code = KeyCode::Char(key.chars().next().unwrap());
                let key = KeyEvent::new(code, KeyModifiers::NONE);
                assert!(action(key).is_some(), "{word}");
            }
        }
    }

    #[test]
    fn columns_go_round() {
        let (mut ui, model) = (ui(), model());
        press(&mut ui, &model, ">");
        assert_eq!(ui.sort, Field::SendRate);
        press(&mut ui, &model, "<");
        assert_eq!(ui.sort.name(), "establishment_ns");
        press(&mut ui, &model, ">>");
        assert_eq!(ui.sort, Field::ReceiveRate);
        press(&mut ui, &model, "r");
        assert!(ui.reverse);
    }

    #[test]
    fn any_field_is_found_by_the_beginning_of_its_name() {
        let (mut ui, model) = (ui(), model());
        press(&mut ui, &model, "sspur\n");
        assert_eq!(ui.sort.name(), "spurious_retransmissions");
        press(&mut ui, &model, "sbytes-acke\n");
        assert_eq!(ui.sort.name(), "bytes_acked");
        press(&mut ui, &model, "s\n");
        assert_eq!(ui.sort.name(), "bytes_acked");
        press(&mut ui, &model, "srtos\x1b");
        assert_eq!(ui.sort.name(), "bytes_acked");
    }

    #[test]
    fn a_filter_works_while_it_is_typed_and_goes_with_escape() {
        let (mut ui, model) = (ui(), model());
        press(&mut ui, &model, "/programq");
        assert_eq!(ui.filter, "programq");
        press(&mut ui, &model, "\x083\n");
        assert_eq!((ui.filter.as_str(), &ui.prompt), ("program3", &None));
        assert_eq!(model.rows(ui.sort, false, &ui.filter, NOW).len(), 1);
        assert!(!press(&mut ui, &model, "\x1b"));
        assert_eq!(ui.filter, "");
        press(&mut ui, &model, &format!("/{}", "x".repeat(500)));
        assert_eq!(ui.filter.len(), MOST_TYPED);
    }

    #[test]
    fn the_selection_follows_its_connection() {
        let (mut ui, model) = (ui(), model());
        ui.sort = Field::named("bytes_sent").unwrap();
        press(&mut ui, &model, "jj");
        assert_eq!(ui.selected, Some((0, 4)));
        press(&mut ui, &model, "rd");
        assert_eq!((ui.selected, ui.detail), (Some((0, 4)), true));
        press(&mut ui, &model, "j");
        assert_eq!(ui.selected, Some((0, 5)));
        press(&mut ui, &model, "jjjj");
        assert_eq!(ui.selected, Some((0, 5)));
        ui.selected = Some((0, 99));
        press(&mut ui, &model, "dd");
        assert_eq!(ui.selected, Some((0, 1)));
    }

    #[test]
    fn one_steps_out_of_what_is_open_before_one_leaves() {
        let (mut ui, model) = (ui(), model());
        press(&mut ui, &model, "d?");
        assert!(!press(&mut ui, &model, "\x1b"));
        assert!(!press(&mut ui, &model, "\x1b"));
        assert_eq!((ui.help, ui.detail), (false, false));
        assert!(press(&mut ui, &model, "\x1b"));
        assert!(press(&mut ui, &model, "q"));
        let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        press(&mut ui, &model, "/abc");
        assert!(ui.press(control, &model, NOW));
    }
}
