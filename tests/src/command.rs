//! Commands that cannot hang and leave nothing behind.

use core::fmt;
use core::time::Duration;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

/// How long a command may take that is not told otherwise.
const LIMIT: Duration = Duration::from_secs(60);
/// Time between two looks at a process.
const LOOK: Duration = Duration::from_millis(5);

/// Runs a command to its end, and kills it after a minute.
pub fn run(command: &mut Command) -> Done {
    Running::start(command).finish(LIMIT)
}

/// Runs a command that reads `input`, and kills it after `limit`.
pub fn run_with(command: &mut Command, input: &[u8], limit: Duration) -> Done {
    let mut running = Running::start(command.stdin(Stdio::piped()));
    running.feed(input.to_vec());
    running.finish(limit)
}

/// Does the same with each item, four at a time: most of what tests do is waiting.
pub fn at_once<T: Send>(items: impl IntoIterator<Item = T>, work: impl Fn(T) + Sync) {
    let items: Vec<T> = items.into_iter().collect();
    let left = Mutex::new(items.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let next = left.lock().expect("no panic").next();
                    let Some(item) = next else { break };
                    work(item);
                }
            });
        }
    });
}

/// A command that has ended.
#[derive(Clone, Debug)]
pub struct Done {
    /// The command line.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Done {
    /// The exit code; `None` if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that ended it.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Itself, if it ended with this exit code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code(), Some(code), "{self}");
        self
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            command,
            status,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "{command}\n{status}\nstdout: {}\nstderr: {}",
            beginning(stdout),
            beginning(stderr)
        )
    }
}

/// As much of `text` as helps.
fn beginning(text: &str) -> String {
    text.chars().take(6000).collect()
}

/// A command under way, in a process group of its own, which is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    command: String,
    child: Child,
    stdout: Reader,
    stderr: Reader,
    feeder: Option<JoinHandle<()>>,
    ended: bool,
}

impl Running {
    /// Starts a command, without input unless its standard input was set.
    pub fn start(command: &mut Command) -> Self {
        let shown = shown(command);
        // Whoever runs the tests may have settings of their own.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PLUMB_") {
                command.env_remove(name);
            }
        }
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .env("XDG_CONFIG_HOME", "/nonexistent")
            .spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{shown}: {error}"));
        Self {
            stdout: Reader::of(child.stdout.take()),
            stderr: Reader::of(child.stderr.take()),
            command: shown,
            child,
            feeder: None,
            ended: false,
        }
    }

    /// Process identifier, which is also the one of its group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.so_far()
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.so_far()
    }

    /// Writes `text` to its standard input, which stays open until [`finish`](Self::finish).
    pub fn send(&mut self, text: &str) {
        let pipe = self.child.stdin.as_mut().expect("a piped standard input");
        pipe.write_all(text.as_bytes()).expect("somebody who reads");
    }

    /// Writes `input` to its standard input and closes it, in the background.
    pub fn feed(&mut self, input: Vec<u8>) {
        let mut pipe = self.child.stdin.take().expect("a piped standard input");
        self.feeder = Some(std::thread::spawn(move || {
            // Whoever reads may stop early.
            let _ = pipe.write_all(&input);
        }));
    }

    /// Waits until what it has written to standard output and standard error satisfies `enough`.
    #[track_caller]
    pub fn wait_until(&mut self, enough: impl Fn(&str, &str) -> bool) {
        let started = Instant::now();
        loop {
            let ended = self.child.try_wait().expect("a child").is_some();
            let (out, err) = (self.stdout.so_far(), self.stderr.so_far());
            if enough(&out, &err) {
                return;
            }
            assert!(
                !ended && started.elapsed() < LIMIT,
                "{}: waited in vain\nstdout: {}\nstderr: {}",
                self.command,
                beginning(&out),
                beginning(&err)
            );
            std::thread::sleep(LOOK);
        }
    }

    /// Sends it a signal, by name without SIG.
    pub fn signal(&self, name: &str) {
        kill(name, &self.pid().to_string());
    }

    /// Sends a signal to its whole process group, as a terminal does on ^C.
    pub fn signal_group(&self, name: &str) {
        kill(name, &format!("-{}", self.pid()));
    }

    /// Waits until it ends; after `limit` it is killed and the test fails.
    #[track_caller]
    pub fn finish(mut self, limit: Duration) -> Done {
        drop(self.child.stdin.take());
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break Some(status);
            }
            if started.elapsed() > limit {
                break None;
            }
            std::thread::sleep(LOOK);
        };
        if status.is_none() {
            self.signal_group("KILL");
        }
        let status_or_killed = status.unwrap_or_else(|| self.child.wait().expect("a child"));
        self.ended = true;
        let done = Done {
            command: core::mem::take(&mut self.command),
            status: status_or_killed,
            stdout: self.stdout.end(),
            stderr: self.stderr.end(),
        };
        assert!(status.is_some(), "still running after {limit:?}: {done}");
        if let Some(feeder) = self.feeder.take() {
            feeder.join().expect("the input's writer");
        }
        done
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.signal_group("KILL");
            let _ = self.child.wait();
        }
    }
}

/// Reads a pipe in the background.
#[derive(Debug)]
struct Reader {
    read: Arc<Mutex<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    fn of(pipe: Option<impl Read + Send + 'static>) -> Self {
        let mut pipe = pipe.expect("a pipe");
        let read = Arc::new(Mutex::new(Vec::new()));
        let output = Arc::clone(&read);
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(len @ 1..) = pipe.read(&mut buffer) {
                output
                    .lock()
                    .expect("no panic")
                    .extend_from_slice(&buffer[..len]);
            }
        });
        Self {
            read,
            thread: Some(thread),
        }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.read.lock().expect("no panic")).into_owned()
    }

    fn end(&mut self) -> String {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic");
        }
        self.so_far()
    }
}

fn kill(signal: &str, to: &str) {
    // The process may have ended by itself.
    let _ = Command::new("kill")
        .args(["-s", signal, "--", to])
        .stderr(Stdio::null())
        .status();
}

fn shown(command: &Command) -> String {
    let words: Vec<_> = core::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect();
    words.join(" ")
}
