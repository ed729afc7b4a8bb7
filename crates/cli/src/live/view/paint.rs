//! Colours, where the terminal may have them.

use ratatui::style::{Color, Modifier, Style};

use crate::output::style::Look;

/// The styles of the view. Without colour, only weight and reversal are left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint(pub(crate) Look);

impl Paint {
    /// Ordinary text.
    pub(crate) const fn plain(self) -> Style {
        Style::new()
    }

    /// What matters most.
    pub(crate) const fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What matters less.
    pub(crate) const fn faint(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// Brackets and descriptions of tunnels.
    pub(crate) const fn tunnel(self) -> Style {
        self.colour(Color::Cyan)
    }

    /// Routers that only a revelation shows.
    pub(crate) const fn revealed(self) -> Style {
        self.colour(Color::Magenta)
    }

    /// Labels.
    pub(crate) const fn label(self) -> Style {
        self.colour(Color::Yellow)
    }

    /// Delays of the past.
    pub(crate) const fn history(self) -> Style {
        self.colour(Color::Green)
    }

    /// Loss that concerns what passes.
    pub(crate) const fn bad(self) -> Style {
        self.colour(Color::Red)
    }

    /// What needs a look.
    pub(crate) const fn notice(self) -> Style {
        self.colour(Color::Yellow)
    }

    const fn colour(self, colour: Color) -> Style {
        if self.0.colour {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }
}
