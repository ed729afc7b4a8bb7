//! Jobs for an engine elsewhere: the host's end of the job channel over a stream, and the machine
//! at its other end watched.

use core::fmt;
use core::time::Duration;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use anyhow::Context as _;
use plumb_channel::{Configure, Fault, Host, Limits, News, Ready, Refusal};
use plumb_link::{Clock, Observer, Turn};
use plumb_probe::{Job, JobId, Refused, Stats};
use plumb_wire::Instant;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::words::LastWords;
use crate::command::prober::{Prober, ProberNews};

/// The engine elsewhere, as a prober.
#[derive(Debug)]
pub(super) struct Remote {
    host: Host,
    /// What the machine said of itself.
    ready: Option<Ready>,
    /// Lines for people that nobody has read yet.
    texts: Vec<String>,
    news: VecDeque<ProberNews>,
    finished: bool,
    /// The end of what the machine said on its console.
    pub(super) last_words: LastWords,
}

impl Remote {
    /// A session that begins now.
    pub(super) fn new(configure: &Configure, now: Instant) -> Self {
        Self {
            host: Host::new(configure, Limits::default(), now),
            ready: None,
            texts: Vec::new(),
            news: VecDeque::new(),
            finished: false,
            last_words: LastWords::default(),
        }
    }

    /// What the machine is to read first: all that there is to say by now.
    pub(super) fn module(&mut self) -> Vec<u8> {
        let bytes = self.host.transmit().to_vec();
        self.host.handle_sent(bytes.len());
        bytes
    }

    /// What the machine said of itself, once it has.
    pub(super) const fn ready(&self) -> Option<&Ready> {
        self.ready.as_ref()
    }

    /// Lines for people that came since the last call, fit for a terminal.
    pub(super) fn texts(&mut self) -> Vec<String> {
        core::mem::take(&mut self.texts)
    }

    /// Whether all jobs are done and nothing was lost.
    pub(super) const fn is_finished(&self) -> bool {
        self.finished
    }

    /// Packets that were lost between network and engine.
    pub(super) const fn dropped(&self) -> u64 {
        self.host.dropped()
    }

    /// Packets that a capture lacks.
    pub(super) const fn unreported(&self) -> u64 {
        self.host.unreported()
    }

    /// Lets the machine end.
    pub(super) fn shut_down(&mut self, mut stream: &UnixStream) {
        self.host.shutdown();
        // If this cannot be written, the machine is ended otherwise.
        if let Ok(written) = stream.write(self.host.transmit()) {
            self.host.handle_sent(written);
        }
    }

    fn hear(
        &mut self,
        bytes: &[u8],
        now: Instant,
        observer: &mut dyn Observer,
    ) -> Result<(), Fault> {
        let outcome = self.host.handle_bytes(bytes, now);
        while let Some(news) = self.host.poll_news() {
            match news {
                News::Ready(ready) => self.ready = Some(ready),
                News::Event(event) => self.news.push_back(ProberNews::Event(event)),
                News::Refused { job, dst, why } => {
                    let why = (why != Refusal::Stopped).then(|| why.to_string());
                    self.news.push_back(ProberNews::Refused { job, dst, why });
                }
                News::Packet { at, sent, bytes } if sent => observer.sent(at, &bytes),
                News::Packet { at, bytes, .. } => observer.received(at, &bytes),
                News::Text(text) => self.texts.push(super::words::printable(&text)),
                News::Finished => self.finished = true,
            }
        }
        outcome
    }
}

impl Prober for Remote {
    fn start(&mut self, job: Job, _: Instant) -> Result<JobId, Refused> {
        self.host.start(&job)
    }

    fn stop_all(&mut self, _: &mut dyn Iterator<Item = JobId>, _: Instant) {
        self.host.stop_all();
    }

    fn finish(&mut self) -> bool {
        self.host.finish();
        self.finished
    }

    fn poll_news(&mut self) -> Option<ProberNews> {
        self.news.pop_front()
    }

    fn stats(&self) -> Stats {
        self.host.stats()
    }

    fn active(&self) -> usize {
        self.host.active()
    }

    fn has_room(&self) -> bool {
        self.host.has_room()
    }

    /// The machine begins jobs as it can; what it may hold is bounded by
    /// [`has_room`](Self::has_room).
    fn backlog(&self) -> usize {
        0
    }
}

/// The way to the machine, and what can be seen of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    /// The job channel: non-blocking.
    pub(super) stream: &'a UnixStream,
    /// What its serial port says, if that can be read here: non-blocking.
    pub(super) console: Option<BorrowedFd<'a>>,
    /// What becomes readable when its process ends, if it is a process of ours.
    pub(super) process: Option<BorrowedFd<'a>>,
}

/// How long a machine may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For everything, from the beginning of the session.
    pub(super) deadline: Option<Duration>,
    /// Until it says that it is ready.
    pub(super) boot: Duration,
    /// Between two signs of life after that: it says something every second.
    pub(super) silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            deadline: None,
            boot: Duration::from_secs(60),
            silence: Duration::from_secs(30),
        }
    }
}

/// How a machine failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// It said what it may not say.
    Fault(Fault),
    /// Its process ended.
    Ended,
    /// It closed the channel.
    Closed,
    /// It has not said for that long that it is ready.
    NotReady(Duration),
    /// It has said nothing for that long.
    Silent(Duration),
    /// It took longer than that.
    Deadline(Duration),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => write!(f, "the machine sent {fault}"),
            Self::Ended => f.write_str("the machine ended before its work was done"),
            Self::Closed => f.write_str("the machine closed the job channel"),
            Self::NotReady(time) => {
                write!(f, "the machine was not ready within {} s", time.as_secs())
            }
            Self::Silent(time) => {
                write!(
                    f,
                    "the machine hangs: no word from it for {} s",
                    time.as_secs()
                )
            }
            Self::Deadline(time) => {
                write!(
                    f,
                    "the deadline of {} s has passed (--deadline)",
                    time.as_secs_f64()
                )
            }
        }
    }
}

/// Bytes read at once.
const CHUNK: usize = 1 << 16;
/// Chunks read in a round.
const READS: usize = 16;
/// Longest sleep of the loop, for the sake of deadlines.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Lets `turn` and the machine talk until `turn` says stop.
///
/// # Errors
/// If the machine fails; the outer error is one of this process.
pub(super) fn drive(
    remote: &mut Remote,
    line: Line<'_>,
    clock: &Clock,
    patience: Patience,
    watch: &[BorrowedFd<'_>],
    observer: &mut dyn Observer,
    mut turn: impl FnMut(&mut Remote, Instant) -> Turn,
) -> anyhow::Result<Result<(), Broken>> {
    let began = clock.now();
    let mut heard = began;
    let mut buffer = vec![0; CHUNK];
    // Whether the process has ended: what it wrote before may still be there.
    let mut ended = false;
    loop {
        let read = read_all(remote, line.stream, clock, observer, &mut buffer)?;
        let now = clock.now();
        let (some, closed, full) = match read {
            Ok(read) => (read.some, read.closed, read.full),
            Err(fault) => {
                // What came before is as good as ever.
                turn(remote, now);
                return Ok(Err(Broken::Fault(fault)));
            }
        };
        if some {
            heard = now;
        }
        if let Some(console) = line.console {
            remote.last_words.read(console);
        }
        let console = line.console.filter(|_| !remote.last_words.is_closed());
        let Turn::Continue { wake_at } = turn(remote, now) else {
            return Ok(Ok(()));
        };
        let writable = write_all(remote, line.stream)?;
        if !full {
            let broken = if ended {
                Some(Broken::Ended)
            } else if closed && line.process.is_none() {
                Some(Broken::Closed)
            } else {
                patience.lost(remote.ready.is_some(), began, heard, now)
            };
            if let Some(broken) = broken {
                return Ok(Err(broken));
            }
        }
        let most = now + LOOK_EVERY;
        let until = wake_at.map_or(most, |at| at.min(most));
        let pause = if full {
            Duration::ZERO
        } else {
            until.since(clock.now())
        };
        // A closed stream is readable for ever; its process's end is waited for instead.
        let stream = (!closed).then_some(line.stream.as_fd());
        let watch: Vec<BorrowedFd<'_>> = watch.iter().copied().chain(console).collect();
        ended |= wait(stream, writable, line.process, &watch, pause)?;
    }
}

impl Patience {
    fn lost(&self, ready: bool, began: Instant, heard: Instant, now: Instant) -> Option<Broken> {
        if let Some(deadline) = self.deadline
            && now.since(began) >= deadline
        {
            return Some(Broken::Deadline(deadline));
        }
        if !ready && now.since(began) >= self.boot {
            return Some(Broken::NotReady(self.boot));
        }
        (now.since(heard) >= self.silence && ready).then_some(Broken::Silent(self.silence))
    }
}

/// What came of reading.
struct Reading {
    some: bool,
    closed: bool,
    /// Whether there may be more.
    full: bool,
}

fn read_all(
    remote: &mut Remote,
    mut stream: &UnixStream,
    clock: &Clock,
    observer: &mut dyn Observer,
    buffer: &mut [u8],
) -> anyhow::Result<Result<Reading, Fault>> {
    let mut some = false;
    for _ in 0..READS {
        match stream.read(buffer) {
            Ok(0) => {
                return Ok(Ok(Reading {
                    some,
                    closed: true,
                    full: false,
                }));
            }
            Ok(len) => {
                some = true;
                if let Err(fault) = remote.hear(&buffer[..len], clock.now(), observer) {
                    return Ok(Err(fault));
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Ok(Ok(Reading {
                    some,
                    closed: false,
                    full: false,
                }));
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if is_gone(&error) => {
                return Ok(Ok(Reading {
                    some,
                    closed: true,
                    full: false,
                }));
            }
            Err(error) => return Err(error).context("cannot read from the machine"),
        }
    }
    Ok(Ok(Reading {
        some,
        closed: false,
        full: true,
    }))
}

/// Writes what there is room for, and says whether there is more.
fn write_all(remote: &mut Remote, mut stream: &UnixStream) -> anyhow::Result<bool> {
    loop {
        let bytes = remote.host.transmit();
        if bytes.is_empty() {
            return Ok(false);
        }
        match stream.write(bytes) {
            Ok(len) => remote.host.handle_sent(len),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Reading, or the process, will tell.
            Err(error) if is_gone(&error) => return Ok(false),
            Err(error) => return Err(error).context("cannot write to the machine"),
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::NotConnected
    )
}

/// Sleeps until something can be done, and says whether the machine's process has ended.
fn wait(
    stream: Option<BorrowedFd<'_>>,
    writable: bool,
    process: Option<BorrowedFd<'_>>,
    watch: &[BorrowedFd<'_>],
    pause: Duration,
) -> anyhow::Result<bool> {
    let mut fds = Vec::with_capacity(watch.len() + 2);
    if let Some(process) = process {
        fds.push(PollFd::from_borrowed_fd(process, PollFlags::IN));
    }
    if let Some(stream) = stream {
        let wanted = match writable {
            true => PollFlags::IN | PollFlags::OUT,
            false => PollFlags::IN,
        };
        fds.push(PollFd::from_borrowed_fd(stream, wanted));
    }
    fds.extend(
        watch
            .iter()
            .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)),
    );
    let timeout = Timespec::try_from(pause).ok();
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(errno) => {
            return Err(io::Error::from(errno)).context("cannot wait for the machine");
        }
    }
    let ended = process.is_some() && !fds[0].revents().is_empty();
    Ok(ended)
}

#[cfg(test)]
mod tests;
