//! A shell in a terminal of its own, as tmux has them.

use core::time::Duration;
use std::process::Command;
use std::time::Instant;

use crate::{Directory, plumb};

/// A shell in a terminal with room for 100 columns and 30 lines at first. `$P` is plumb, `$D` a
/// directory. All that runs in it ends when this is dropped.
#[derive(Debug)]
pub struct Terminal {
    directory: Directory,
}

/// What the shell says when it waits.
const PROMPT: &str = "ready>";
/// Longest wait for something on the screen, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

impl Terminal {
    /// Opens it; tmux has to be there.
    #[expect(clippy::new_without_default, reason = "it makes something")]
    pub fn new() -> Self {
        let terminal = Self {
            directory: Directory::new(),
        };
        let size = ["-x", "100", "-y", "30"];
        let shell = ["env", "-u", "ENV", "PS1=ready> ", "sh"];
        terminal.tmux(&[&["new-session", "-d"], &size[..], &shell[..]].concat());
        terminal.wait_for(PROMPT);
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux")
            .arg("-S")
            .arg(self.directory.file("tmux"))
            .args(["-f", "/dev/null", "-u"])
            .args(arguments)
            .env("P", plumb())
            .env("D", self.directory.path())
            .env("XDG_CONFIG_HOME", "/nonexistent")
            .env("LC_ALL", "C.UTF-8")
            .env_remove("TMUX")
            .env_remove("NO_COLOR")
            .output()
            .expect("tmux");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// What a command has written to a file in `$D`.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.file(name)).expect("a file")
    }

    /// Types a line and enter.
    pub fn type_line(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.press("Enter");
    }

    /// Presses a key, by tmux's name for it.
    pub fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// Makes the terminal as large.
    pub fn resize(&self, columns: u16, lines: u16) {
        let (columns, lines) = (columns.to_string(), lines.to_string());
        self.tmux(&["resize-window", "-x", &columns, "-y", &lines]);
    }

    /// What is on the screen.
    pub fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// The screen, as soon as it has `text`.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        self.wait_until(text, |screen| screen.contains(text))
    }

    /// The screen, as soon as it is as it should be.
    #[track_caller]
    pub fn wait_until(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let screen = self.screen();
            if is(&screen) {
                return screen;
            }
            assert!(begun.elapsed() < PATIENCE, "no '{what}' on:\n{screen}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Whether a program has taken the terminal over: the alternate screen is shown, the cursor is
    /// not.
    pub fn is_taken(&self) -> bool {
        let format = "#{alternate_on} #{cursor_flag}";
        let flags = self.tmux(&["display-message", "-p", format]);
        flags.trim() == "1 0"
    }

    /// Remembers the line settings, runs a command on a cleared screen, and says its exit status in
    /// the end: `status 0`.
    pub fn run(&self, command: &str) {
        self.type_line(&format!(
            "stty -g > $D/before; clear; {command}; echo status $?"
        ));
    }

    /// Takes the terminal away from what runs in it.
    pub fn hang_up(&self) {
        self.tmux(&["kill-server"]);
    }

    /// Waits for the shell, and checks that screen, cursor and line settings are as they were
    /// before [`run`](Self::run).
    #[track_caller]
    pub fn assert_restored(&self) {
        self.wait_until("a prompt", |screen| screen.trim_end().ends_with(PROMPT));
        let format = "#{alternate_on} #{cursor_flag}";
        let flags = self.tmux(&["display-message", "-p", format]);
        assert_eq!(flags.trim(), "0 1", "alternate screen, cursor");
        self.type_line("stty -g > $D/after; echo compared");
        self.wait_until("the comparison", |screen| {
            screen.lines().any(|line| line == "compared")
        });
        assert_eq!(self.read("before"), self.read("after"));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("tmux")
            .arg("-S")
            .arg(self.directory.file("tmux"))
            .arg("kill-server")
            .status();
    }
}
