//! `plumb flow --live`: the connections on a terminal, as they fare.
//!
//! `model` is what is known of the connections, `field` what they can be sorted by, `view` draws,
//! `keys` says what keys do; all four are pure. This module connects them with the terminal. Each
//! interval the kernel is asked how every connection stands, so windows and their timeouts stay
//! as they are, and profiles go to collectors as ever.

mod field;
mod keys;
mod model;
mod view;

#[cfg(test)]
mod testing;

use core::time::Duration;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::Context as _;
use plumb_record::{FlowEvent, FlowProfile};
use plumb_wire::Instant;

use self::field::{Field, names};
use self::keys::Ui;
use self::model::Model;
use self::view::{Screen, Totals};
use crate::exit::Failure;
use crate::live::terminal::{self, Input};
use crate::output::style::Look;
use crate::settings::nearest;

/// Shortest time between two looks.
const SOONEST: Duration = Duration::from_millis(100);

/// What is checked before anything is begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    sort: Field,
    interval: Duration,
}

impl Settings {
    /// What the options and the terminal come to.
    pub(super) fn new(sort: &str, interval: Duration) -> Result<Self, Failure> {
        if !io::stdout().is_terminal() {
            return Err(Failure::usage(
                "--live draws on a terminal, and standard output is none; --json writes every \
                 profile, --active-timeout 1s one of every connection each second",
            ));
        }
        if interval < SOONEST {
            return Err(Failure::usage(format!(
                "--interval must be {SOONEST:?} or longer"
            )));
        }
        let Some(sort) = Field::named(sort) else {
            let near = nearest(sort, names()).unwrap_or_default();
            return Err(Failure::usage(format!(
                "--sort {sort}: no such field; did you mean {near}? docs/kpis.md has them all"
            )));
        };
        Ok(Self { sort, interval })
    }
}

/// The view. The terminal is put back when this is dropped.
#[derive(Debug)]
pub(super) struct Live {
    model: Model,
    ui: Ui,
    interval: Duration,
    started: Instant,
    next_look: Instant,
    /// Something has changed on the screen.
    stale: bool,
    screen: terminal::Screen,
    keyboard: File,
}

impl Live {
    /// Takes the terminal over.
    pub(super) fn open(settings: Settings, now: Instant) -> anyhow::Result<Self> {
        let keyboard = if io::stdin().is_terminal() {
            File::from(io::stdin().as_fd().try_clone_to_owned()?)
        } else {
            File::open("/dev/tty").context("cannot read keys from the terminal")?
        };
        Ok(Self {
            model: Model::default(),
            ui: Ui::new(settings.sort, Look::of_stdout()),
            interval: settings.interval,
            started: now,
            next_look: now,
            stale: true,
            screen: terminal::Screen::open().context("cannot set up the terminal")?,
            keyboard,
        })
    }

    /// What becomes readable when a key is pressed.
    pub(super) fn keyboard(&self) -> BorrowedFd<'_> {
        self.keyboard.as_fd()
    }

    /// Whether it is time to ask how all connections stand; if so, [`see`](Self::see) is to be
    /// called for each and then [`looked`](Self::looked).
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        if self.ui.paused || now < self.next_look {
            return false;
        }
        // A look that took long does not make the next ones come at once.
        self.next_look = (self.next_look + self.interval).max(now + self.interval / 2);
        self.model.begin_look();
        true
    }

    /// A connection as it stands.
    pub(super) fn see(&mut self, total: FlowProfile, now: Instant) {
        self.model.handle_look(total, now);
    }

    /// All connections were seen.
    pub(super) fn looked(&mut self, now: Instant) {
        self.model.end_look(now);
        self.stale = true;
    }

    /// Something has happened to a connection, of which this is the whole.
    pub(super) fn handle(&mut self, total: FlowProfile, now: Instant) {
        if self.ui.paused {
            return;
        }
        if total.end_reason.is_some() {
            self.model.handle_end(total, now);
        } else if total.event == FlowEvent::Established {
            self.model.handle_established(total, now);
        }
    }

    /// A process reported a window of a connection.
    pub(super) fn handle_report(&mut self, window: FlowProfile, now: Instant) {
        if !self.ui.paused {
            self.model.handle_report(window, now);
        }
    }

    /// Reads keys. Returns true if the user wants to leave.
    pub(super) fn read_keys(&mut self, now: Instant) -> anyhow::Result<bool> {
        let mut left = false;
        while let Some(input) =
            terminal::next_input().context("cannot read keys from the terminal")?
        {
            match input {
                Input::Key(key) => left |= self.ui.press(key, &self.model, now),
                Input::Other => {}
                Input::Gone => return Ok(true),
            }
            self.stale = true;
        }
        Ok(left)
    }

    /// Draws what has changed, with counters of the run.
    pub(super) fn draw(
        &mut self,
        connections: u64,
        profiles: u64,
        lost: u64,
        now: Instant,
    ) -> anyhow::Result<()> {
        if !core::mem::take(&mut self.stale) {
            return Ok(());
        }
        let shown = Screen {
            model: &self.model,
            ui: &self.ui,
            totals: Totals {
                connections,
                profiles,
                lost,
            },
            interval: self.interval,
            started: self.started,
            now,
        };
        self.screen
            .draw(|frame| view::draw(frame, &shown))
            .context("cannot draw on the terminal")
    }
}
