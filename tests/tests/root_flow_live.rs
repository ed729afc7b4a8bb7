//! `plumb flow --live` on a real terminal.

#![forbid(unsafe_code)]

use std::process::{Command, Stdio};

use plumb_tests::{Chain, Running, Terminal, plumb, require, run};

/// A connection over loopback that sends as it is told, and then another one.
const TALK: &str = "
import socket, sys
s = socket.create_server(('127.0.0.1', 0))
a = socket.create_connection(s.getsockname()); b, _ = s.accept()
def say(n):
    a.sendall(b'x' * n); b.recv(n, socket.MSG_WAITALL)
say(5000)
print('port', s.getsockname()[1], flush=True)
for line in sys.stdin:
    if line.strip() == 'end': break
    say(int(line))
a.shutdown(socket.SHUT_WR); b.recv(1); b.close(); a.close()
print('closed', flush=True)
sys.stdin.read()
";

/// Both ends of a connection in a namespace of its own, and the process that has them.
struct Talk {
    _chain: Chain,
    process: Running,
}

impl Talk {
    fn start() -> Self {
        let chain = Chain::new(2);
        let mut command = chain.command(0, "python3");
        let command = command.args(["-c", TALK]).stdin(Stdio::piped());
        let mut process = Running::start(command);
        process.wait_until(|out, _| out.contains("port"));
        Self {
            _chain: chain,
            process,
        }
    }

    /// The arguments that choose its connections.
    fn which(&self) -> String {
        format!("--netns {}", self.process.pid())
    }
}

#[test]
fn root_flow_live_shows_what_is_there_and_what_just_ended_and_leaves_the_terminal_as_it_was() {
    require!("ip", "ethtool", "python3", "tmux", "stty");
    let mut talk = Talk::start();
    let terminal = Terminal::new();
    let which = talk.which();
    terminal.run(&format!(
        "$P flow --live --sort bytes-sent --interval 0.2 {which}"
    ));
    let process = format!("python3/{}", talk.process.pid());
    let screen = terminal.wait_until("both ends", |screen| screen.matches(&process).count() == 2);
    assert!(screen.contains("2 connections, 0 just ended"), "{screen}");
    assert!(screen.contains(" open "), "{screen}");
    // The end that sends is first, with what it has sent.
    let rows: Vec<&str> = screen
        .lines()
        .filter(|line| line.contains(&process))
        .collect();
    assert!(
        rows[0].contains(" 5.0 kB") && rows[1].contains(" 0 B"),
        "{screen}"
    );
    assert!(terminal.is_taken());

    // What comes while one looks is seen.
    talk.process.send("45000\n");
    terminal.wait_for("50 kB");
    terminal.press("r");
    let reversed = |screen: &str| {
        let last = screen.lines().rfind(|line| line.contains(&process));
        screen.contains("reversed") && last.is_some_and(|row| row.contains(" 50 kB"))
    };
    terminal.wait_until("the order turned round", reversed);
    terminal.press("r");

    terminal.press("/");
    terminal.type_line("no such words");
    terminal.wait_for("no connection has these words");
    terminal.press("Escape");
    terminal.wait_for(&process);
    terminal.press("s");
    terminal.type_line("rtt_min");
    terminal.wait_for("by rtt_min_ns");
    terminal.press(">");
    terminal.wait_for("by rtt_variance_ns");

    terminal.resize(140, 60);
    terminal.press("j");
    terminal.press("d");
    let screen = terminal.wait_for("congestion_window_packets");
    assert!(screen.contains("Congestion window"), "{screen}");
    assert!(screen.contains("congestion_control"), "{screen}");
    terminal.press("Escape");
    for (columns, lines) in [(20, 3), (60, 8), (140, 20)] {
        terminal.resize(columns, lines);
        let what = if columns < 40 { "small: 40" } else { &process };
        terminal.wait_for(what);
    }

    // Nothing moves while it stands still.
    terminal.press("p");
    terminal.wait_for("paused");
    talk.process.send("end\n");
    talk.process.wait_until(|out, _| out.contains("closed"));
    assert!(terminal.screen().contains("2 connections"));
    terminal.press("p");
    terminal.wait_for("0 connections");
    terminal.press("q");
    terminal.wait_for("status 0");
    terminal.assert_restored();
}

#[test]
fn root_flow_live_shows_how_a_connection_ended() {
    require!("ip", "ethtool", "python3", "tmux", "stty");
    let mut talk = Talk::start();
    let terminal = Terminal::new();
    let which = talk.which();
    terminal.run(&format!("$P flow --live --interval 0.2 {which}"));
    terminal.wait_for("2 connections, 0 just ended");
    talk.process.send("end\n");
    let screen = terminal.wait_for("0 connections, 2 just ended");
    assert_eq!(screen.matches(" closed ").count(), 2, "{screen}");
    terminal.press("C-c");
    terminal.wait_for("status 0");
    terminal.assert_restored();
}

#[test]
fn root_flow_live_restores_the_terminal_after_a_signal() {
    require!("ip", "ethtool", "python3", "tmux", "stty");
    let talk = Talk::start();
    let terminal = Terminal::new();
    let which = talk.which();
    for signal in ["TERM", "INT", "HUP"] {
        // The shell that becomes plumb says which process that is.
        terminal.run(&format!(
            "sh -c 'echo $$ > $D/pid; exec $P flow --live {which}'"
        ));
        terminal.wait_for("2 connections");
        let pid = terminal.read("pid");
        run(Command::new("kill").args(["-s", signal, pid.trim()])).expect(0);
        terminal.wait_for("status 130");
        terminal.assert_restored();
    }
}

#[test]
fn flow_live_wants_a_terminal_a_field_and_time() {
    let mut command = Command::new(plumb());
    let done = run(command.args(["flow", "--live"])).expect(2);
    assert!(done.stderr.contains("standard output is none"), "{done}");
    assert_eq!(done.stderr.lines().count(), 1, "{done}");
    for arguments in [
        ["--live", "--json"].as_slice(),
        &["--live", "--output", "x"],
        &["--sort", "rtt_ns"],
        &["--interval", "1s"],
    ] {
        let mut command = Command::new(plumb());
        run(command.arg("flow").args(arguments)).expect(2);
    }
}

#[test]
fn root_flow_live_ends_when_its_terminal_is_gone() {
    require!("ip", "ethtool", "python3", "tmux", "stty");
    let talk = Talk::start();
    let terminal = Terminal::new();
    let which = talk.which();
    // Nobody tells it but the terminal itself: SIGHUP is ignored.
    terminal.run(&format!(
        "sh -c 'trap \"\" HUP; echo $$ > $D/pid; exec $P flow --live --interval 0.2 {which}'"
    ));
    terminal.wait_for("2 connections, 0 just ended");
    let pid = terminal.read("pid");
    let process = std::path::Path::new("/proc").join(pid.trim());
    assert!(process.exists());
    terminal.hang_up();
    let begun = std::time::Instant::now();
    while process.exists() {
        assert!(begun.elapsed().as_secs() < 30, "it runs on");
        std::thread::sleep(core::time::Duration::from_millis(50));
    }
}
