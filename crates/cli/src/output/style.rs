//! Colours and line-drawing characters, as the terminal and the locale allow them.

use std::io::IsTerminal;

use anstyle::{AnsiColor, Color, Style};

/// How text for people may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// Whether colours may be used.
    pub(crate) colour: bool,
    /// Whether characters beyond ASCII may be used.
    pub(crate) unicode: bool,
}

impl Look {
    /// What standard output takes.
    pub(crate) fn of_stdout() -> Self {
        let stdout = std::io::stdout();
        Self {
            colour: anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never
                && (stdout.is_terminal() || std::env::var_os("CLICOLOR_FORCE").is_some()),
            unicode: locale_is_utf8(),
        }
    }

    /// What a file takes.
    pub(crate) fn of_file() -> Self {
        Self {
            colour: false,
            unicode: locale_is_utf8(),
        }
    }

    /// `text` in `style`, if colours may be used.
    pub(crate) fn paint(self, style: Style, text: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }

    /// One of two spellings.
    pub(crate) const fn pick(self, unicode: &'static str, ascii: &'static str) -> &'static str {
        if self.unicode { unicode } else { ascii }
    }
}

/// Headings and targets.
pub(crate) const STRONG: Style = Style::new().bold();
/// What matters less.
pub(crate) const FAINT: Style = Style::new().dimmed();
/// The brackets of tunnels and the roles at their ends.
pub(crate) const TUNNEL: Style = colour(AnsiColor::Cyan);
/// Routers that only a revelation shows.
pub(crate) const REVEALED: Style = colour(AnsiColor::Magenta).bold();
/// Labels.
pub(crate) const LABEL: Style = colour(AnsiColor::Yellow);
/// Targets that were reached.
pub(crate) const GOOD: Style = colour(AnsiColor::Green);
/// Refusals, and targets that were not reached.
pub(crate) const BAD: Style = colour(AnsiColor::Red);

const fn colour(colour: AnsiColor) -> Style {
    Style::new().fg_color(Some(Color::Ansi(colour)))
}

/// Whether the locale's characters are encoded as UTF-8 (POSIX: `LC_ALL`, `LC_CTYPE`, `LANG`).
pub(crate) fn locale_is_utf8() -> bool {
    ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(std::env::var_os)
        .find(|value| !value.is_empty())
        .is_some_and(|value| {
            let value = value.to_string_lossy().to_lowercase();
            value.contains("utf-8") || value.contains("utf8")
        })
}
