//! The continuous view on a real terminal, and its reports in pipes, inside labs.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking and says why it was skipped"
)]

use core::time::Duration;
use std::path::PathBuf;
use std::time::Instant;

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use serde_json::Value;

/// A directory that is removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let name = format!(
            "plumb-live-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Says why a test is skipped, or fails it where that is not wanted.
fn skip(why: &str) {
    eprintln!("skipped: {why}");
    assert!(std::env::var_os("TESTS_NO_SKIP").is_none(), "{why}");
}

/// Whether this system lets us run labs.
fn labs_run() -> bool {
    let doctor = Command::new(cargo_bin!("plumb"))
        .args(["doctor", "--json"])
        .output()
        .unwrap();
    String::from_utf8(doctor.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|c| c["name"] == "TUN device" || c["name"] == "user namespaces")
        .all(|check| {
            let ok = check["state"] == "ok";
            if !ok {
                skip(&format!("labs cannot run here: {}", check["found"]));
            }
            ok
        })
}

/// Runs a shell script inside a lab, with `$P` for plumb. Returns status, output and errors.
fn in_lab(lab: &str, script: &str) -> Option<(i32, String, String)> {
    if !labs_run() {
        return None;
    }
    let output = Command::new(cargo_bin!("plumb"))
        .args(["lab", "run", lab, "--seed", "7", "--", "sh", "-c", script])
        .env("P", cargo_bin!("plumb"))
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .env("LC_ALL", "C.UTF-8")
        .timeout(Duration::from_secs(60))
        .output()
        .unwrap();
    Some((
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    ))
}

/// A shell in a terminal of its own, 100 columns and 30 lines.
struct Terminal {
    directory: Directory,
}

impl Terminal {
    /// `None`, and the reason, where there is no tmux or there are no labs.
    fn open() -> Option<Self> {
        if !labs_run() {
            return None;
        }
        if std::process::Command::new("tmux")
            .arg("-V")
            .output()
            .is_err()
        {
            skip("tmux is not installed");
            return None;
        }
        let terminal = Self {
            directory: Directory::new(),
        };
        let size = ["-x", "100", "-y", "30"];
        let shell = ["env", "-u", "ENV", "PS1=ready> ", "sh"];
        terminal.tmux(&[&["new-session", "-d"], &size[..], &shell[..]].concat());
        terminal.wait_for("ready>");
        Some(terminal)
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = std::process::Command::new("tmux")
            .arg("-S")
            .arg(self.directory.0.join("tmux"))
            .args(["-f", "/dev/null", "-u"])
            .args(arguments)
            .env("P", cargo_bin!("plumb"))
            .env("D", &self.directory.0)
            .env("XDG_CONFIG_HOME", "/nonexistent")
            .env("LC_ALL", "C.UTF-8")
            .env_remove("TMUX")
            .env_remove("NO_COLOR")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn type_line(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.tmux(&["send-keys", "Enter"]);
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// The screen, as soon as it has `text`.
    fn wait_for(&self, text: &str) -> String {
        self.wait_until(text, |screen| screen.contains(text))
    }

    fn wait_until(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let screen = self.screen();
            if is(&screen) {
                return screen;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "no '{what}' on:\n{screen}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Whether the alternate screen is shown, and whether the cursor is.
    fn flags(&self) -> String {
        let format = "#{alternate_on} #{cursor_flag}";
        self.tmux(&["display-message", "-p", format])
            .trim()
            .to_owned()
    }

    /// Whether the line settings are as they were before.
    fn assert_restored(&self) {
        self.wait_until("a prompt", |screen| screen.trim_end().ends_with("ready>"));
        assert_eq!(self.flags(), "0 1", "alternate screen, cursor");
        self.type_line("stty -g > $D/after; echo compared");
        self.wait_until("the comparison", |screen| {
            screen.lines().any(|line| line == "compared")
        });
        assert_eq!(self.directory.read("before"), self.directory.read("after"));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = std::process::Command::new("tmux")
            .arg("-S")
            .arg(self.directory.0.join("tmux"))
            .arg("kill-server")
            .status();
    }
}

#[test]
fn the_view_and_its_keys_are_the_same_from_a_machine() {
    if !std::path::Path::new("/dev/kvm").exists() {
        skip("it needs /dev/kvm");
        return;
    }
    let Some(terminal) = Terminal::open() else {
        return;
    };
    terminal.type_line(
        "stty -g > $D/before; clear; $P vm run --uplink lab:php -- trace --live --interval 0.2 \
         5.0.8.2; echo status $?",
    );
    let screen = terminal.wait_for("3 routers revealed by BRPR");
    assert!(screen.contains("╰─   3 5.0.6.2"), "{screen}");
    assert_eq!(terminal.flags(), "1 0", "alternate screen, no cursor");
    terminal.press("p");
    terminal.wait_for("paused");
    terminal.press("q");
    let screen = terminal.wait_for("status 0");
    assert!(
        screen.contains("report on 5.0.8.2 from 5.0.1.1"),
        "{screen}"
    );
    terminal.assert_restored();
}

#[test]
fn keys_work_and_leaving_restores_the_terminal_and_prints_the_report() {
    let Some(terminal) = Terminal::open() else {
        return;
    };
    terminal.type_line(
        "stty -g > $D/before; clear; $P lab run php -- $P trace --live --interval 0.2 5.0.8.2; \
         echo status $?",
    );
    let screen = terminal.wait_for("3 routers revealed by BRPR");
    for line in [
        "╭─   2 5.0.2.2",
        "┊      5.0.3.2",
        "╰─   3 5.0.6.2",
        "q quit",
    ] {
        assert!(screen.contains(line), "no '{line}' on:\n{screen}");
    }
    assert_eq!(terminal.flags(), "1 0", "alternate screen, no cursor");
    let round = |screen: &str| -> Option<u32> {
        let words = screen.split_whitespace();
        words.skip_while(|w| *w != "round").nth(1)?.parse().ok()
    };
    let before = round(&screen).unwrap();
    terminal.wait_until("rounds that go on", |screen| {
        round(screen).is_some_and(|now| now > before + 3)
    });

    terminal.press("?");
    terminal.wait_for("help: ? or Esc closes");
    terminal.press("?");
    terminal.press("c");
    terminal.wait_for("jworst");
    terminal.press("t");
    terminal.wait_until("no tunnels", |screen| !screen.contains("BRPR"));
    terminal.press("t");
    terminal.press("Down");
    terminal.press("j");
    terminal.press("d");
    terminal.wait_for("ingress    MPLS invisible (PHP)");
    terminal.press("d");
    terminal.press("+");
    terminal.wait_for("every 500ms");
    terminal.press("p");
    terminal.wait_for("paused");
    terminal.tmux(&["resize-window", "-x", "70", "-y", "20"]);
    terminal.wait_until("70 columns", |screen| {
        let mut lines = screen.lines();
        lines.next().is_some_and(|line| line.chars().count() == 70)
    });

    terminal.press("q");
    let screen = terminal.wait_for("status 0");
    assert!(
        screen.contains("report on 5.0.8.2 from 5.0.1.1"),
        "{screen}"
    );
    assert!(screen.contains("┊      5.0.4.2 revealed: BRPR"), "{screen}");
    assert!(!screen.contains("q quit"), "{screen}");
    terminal.assert_restored();
}

#[test]
fn a_signal_restores_the_terminal_too() {
    let Some(terminal) = Terminal::open() else {
        return;
    };
    for (signal, status) in [("TERM", 130), ("INT", 130)] {
        terminal.type_line(&format!(
            "stty -g > $D/before; clear; $P lab run plain -- sh -c 'sh -c \"sleep 2; kill \
             -{signal} $$\" & exec $P trace --live 5.0.4.2'; echo status $?"
        ));
        terminal.wait_for("q quit");
        let screen = terminal.wait_for(&format!("status {status}"));
        assert!(screen.contains("report on 5.0.4.2"), "{screen}");
        terminal.assert_restored();
    }
}

#[test]
fn silence_and_refusals_are_explained_after_three_seconds() {
    let Some(terminal) = Terminal::open() else {
        return;
    };
    // Only the routers that never answer are asked.
    terminal.type_line(
        "stty -g > $D/before; clear; $P lab run silent -- $P trace --live -f 2 -m 3 5.0.9.2; \
         echo status $?",
    );
    let screen = terminal.wait_for("No answer for");
    assert!(screen.contains("ICMP echo requests"), "{screen}");
    assert!(screen.contains("likely cause"), "{screen}");
    terminal.press("Escape");
    terminal.wait_for("status 1");
    terminal.assert_restored();
    terminal.type_line("clear; $P lab run plain -- $P trace --live 5.0.99.1; echo status $?");
    terminal.wait_for("5.0.1.2 at hop 2 says: network unreachable");
    terminal.press("C-c");
    terminal.wait_for("status 1");
    terminal.assert_restored();
}

#[test]
fn a_report_needs_no_terminal() {
    let script = "$P trace --report -c 4 --interval 0.05 5.0.8.2 | cat";
    let Some((status, stdout, stderr)) = in_lab("explicit", script) else {
        return;
    };
    assert_eq!((status, stderr.as_str()), (0, ""));
    let hops: Vec<Vec<&str>> = stdout
        .lines()
        .filter(|line| line.contains("5.0.") && !line.contains("report"))
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(hops.len(), 8, "{stdout}");
    assert!(
        stdout.contains("MPLS explicit: 3 routers seen; labels"),
        "{stdout}"
    );
    assert_eq!(stdout.matches("  labels ").count(), 3, "{stdout}");
    assert!(stdout.contains("reached; 4 rounds, "), "{stdout}");
    assert!(!stdout.contains('\u{1b}'), "{stdout}");
}

#[test]
fn a_report_as_json_is_framed_like_every_other_record() {
    let script = "$P trace --report --json -c 3 --interval 0.05 5.0.8.2";
    let Some((status, stdout, stderr)) = in_lab("php", script) else {
        return;
    };
    assert_eq!((status, stderr.as_str()), (0, ""));
    let records: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<&str> = records
        .iter()
        .map(|r| r["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["start", "report", "end"]);
    assert!(records.iter().all(|r| r["schema"] == "plumb.live/1"));
    assert_eq!(records[1]["rounds"], 3);
    assert_eq!(
        records[1]["tunnels"][0]["lsrs"].as_array().unwrap().len(),
        3
    );
    assert_eq!(records[2]["reason"], "completed");
}

#[test]
fn in_a_pipe_json_has_every_round() {
    let script = "$P trace --live --json --rounds 3 --interval 0.05 5.0.8.2";
    let Some((status, stdout, stderr)) = in_lab("php", script) else {
        return;
    };
    assert_eq!((status, stderr.as_str()), (0, ""));
    let records: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<&str> = records
        .iter()
        .map(|r| r["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["start", "trace", "trace", "trace", "end"]);
    assert!(records.iter().all(|r| r["schema"] == "plumb.trace/1"));
    let ports: Vec<&Value> = records[1..4].iter().map(|r| &r["src_port"]).collect();
    assert!(ports.iter().all(|port| *port == ports[0]), "one flow");
    let with_tunnels = |r: &&Value| !r["tunnels"].as_array().unwrap().is_empty();
    assert_eq!(records[1..4].iter().filter(with_tunnels).count(), 1);
}

#[test]
fn an_interrupted_report_still_reports() {
    let script = "sh -c 'sleep 1; kill -INT $PPID' & exec $P trace --report -c 1000 5.0.4.2";
    let Some((status, stdout, _)) = in_lab("plain", script) else {
        return;
    };
    assert_eq!(status, 130);
    assert!(stdout.starts_with("report on 5.0.4.2"), "{stdout}");
}

#[test]
fn a_view_without_a_terminal_is_refused_and_says_what_to_do() {
    let output = Command::new(cargo_bin!("plumb"))
        .args(["trace", "--live", "127.0.0.1"])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("--report"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1);
}
