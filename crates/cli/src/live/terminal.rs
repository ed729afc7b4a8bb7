//! The terminal, and its way back.

use core::time::Duration;
use std::io::{self, Stdout, Write};

use crossterm::event::{self, Event, KeyEvent};
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crossterm::{cursor, execute};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A terminal in raw mode, on its alternate screen. It is put back when this is dropped, and
/// before a panic says anything.
#[derive(Debug)]
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes the terminal over.
    ///
    /// # Errors
    ///
    /// If it cannot be set up; it is then as before.
    pub(crate) fn open() -> io::Result<Self> {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            before(panic);
        }));
        enable_raw_mode()?;
        let opened = execute!(io::stdout(), EnterAlternateScreen, cursor::Hide)
            .and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
        match opened {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                restore();
                Err(error)
            }
        }
    }

    /// Draws what has changed.
    ///
    /// # Errors
    ///
    /// If the terminal is gone.
    pub(crate) fn draw(&mut self, render: impl FnOnce(&mut ratatui::Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(render).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// What the terminal has to say.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Input {
    /// A key.
    Key(KeyEvent),
    /// Its size has changed, or something else that is nothing but a reason to draw.
    Other,
    /// It is gone, and says nothing any more.
    Gone,
}

/// Takes the next that the terminal has to say, if anything. Does not wait.
///
/// # Errors
///
/// If the terminal cannot be read.
pub(crate) fn next_input() -> io::Result<Option<Input>> {
    // Crossterm reads for ever from a terminal that has hung up, and no signal is looked at any
    // more.
    if is_gone() {
        return Ok(Some(Input::Gone));
    }
    if !event::poll(Duration::ZERO)? {
        return Ok(None);
    }
    Ok(Some(match event::read()? {
        Event::Key(key) => Input::Key(key),
        Event::Resize(..) => {
            // A key that comes together with it is not seen by crossterm before the next (it reads
            // what its epoll told once, and leaves at the first event); the terminal's answer to a
            // question is a next one. A terminal that does not answer is asked in vain.
            drop(cursor::position());
            Input::Other
        }
        Event::FocusGained | Event::FocusLost | Event::Mouse(_) | Event::Paste(_) => Input::Other,
    }))
}

fn is_gone() -> bool {
    let stdin = io::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|_| fds[0].revents().intersects(gone))
}

/// Puts the terminal back as well as it can: there is nobody to tell if it can't.
fn restore() {
    drop(execute!(io::stdout(), LeaveAlternateScreen, cursor::Show));
    drop(disable_raw_mode());
    drop(io::stdout().flush());
}
