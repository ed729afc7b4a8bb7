//! A mirror with what its copies go to.

use core::time::Duration;
use std::io::Write;
use std::path::PathBuf;

use anyhow::bail;
use plumb_link::stage::{Edge, Link, LinkFrame, PipeLink, Sent};
use plumb_nf::{Counter, Frame, Function, Mirror, Output, Port};
use plumb_wire::Instant;
use plumb_wire::pcapng::Direction;

use super::Attended;
use super::recording::Recording;

/// When copies that found no room are tried again, and copies in a buffer are written.
const TRY_EVERY: Duration = Duration::from_millis(5);
/// How often that is tried when nothing passes any more.
const LAST_TRIES: u32 = 200;
/// How often that is tried for a recording, of which nothing is dropped.
const MOST_TRIES: u32 = 2000;

/// What copies go to.
#[derive(Debug)]
pub(crate) enum Target {
    /// Files.
    File(Recording),
    /// An interface.
    Interface(Edge),
    /// A pipe, by its name.
    Pipe(Box<PipeLink>, PathBuf),
}

/// A mirror that never keeps packets waiting: copies go as far as their target takes them.
#[derive(Debug)]
pub(crate) struct Copies {
    mirror: Mirror,
    target: Target,
    /// Packets come now, and must not wait.
    live: bool,
    scratch: LinkFrame,
    now: Instant,
    /// When there is something to do even if nothing passes.
    due: Option<Instant>,
    /// The target cannot take anything any more.
    broken: bool,
}

impl Copies {
    pub(crate) fn new(mirror: Mirror, target: Target, live: bool) -> Self {
        Self {
            mirror,
            target,
            live,
            scratch: LinkFrame::default(),
            now: Instant::ZERO,
            due: None,
            broken: false,
        }
    }

    /// Gives the target what waits, as far as it takes it. Says whether something is left to do.
    fn give(&mut self) -> anyhow::Result<bool> {
        while let Some((port, frame)) = self.mirror.copy() {
            let taken = match &mut self.target {
                Target::File(recording) => recording.frame(port, frame).map(|()| Sent::Taken)?,
                Target::Interface(edge) => send(edge, &mut self.scratch, frame)?,
                Target::Pipe(pipe, _) => send(&mut **pipe, &mut self.scratch, frame)?,
            };
            match taken {
                Sent::Taken => self.mirror.taken(),
                Sent::Full => return Ok(true),
                Sent::Refused | Sent::NoWay => self.mirror.refused(),
                Sent::Closed => bail!("nobody reads {} any more", self.target.describe()),
            }
        }
        match &mut self.target {
            // It is written in large pieces; at the end of a recording, the rest is.
            Target::File(_) => Ok(true),
            Target::Interface(_) => Ok(false),
            Target::Pipe(pipe, _) => {
                pipe.flush()?;
                Ok(!pipe.is_flushed())
            }
        }
    }

    /// The same for a recording, which can wait.
    fn give_all(&mut self) -> anyhow::Result<()> {
        for _ in 0..MOST_TRIES {
            if !self.give()? || matches!(self.target, Target::File(_)) {
                return Ok(());
            }
            std::thread::sleep(TRY_EVERY);
        }
        bail!("{} takes nothing", self.target.describe())
    }

    /// Gives a target that is slow a second for the rest.
    fn give_rest(&mut self) -> anyhow::Result<()> {
        for _ in 0..LAST_TRIES {
            if !self.give()? {
                break;
            }
            std::thread::sleep(TRY_EVERY);
        }
        Ok(())
    }

    /// Copies are dropped from now on. Packets pass as before.
    fn give_up(&mut self, why: &anyhow::Error) {
        self.broken = true;
        self.due = None;
        drop(writeln!(
            std::io::stderr().lock(),
            "plumb: mirror: {why:#}; no copies are made any more"
        ));
        self.refuse_all();
    }

    fn refuse_all(&mut self) {
        while self.mirror.copy().is_some() {
            self.mirror.refused();
        }
    }
}

impl Attended for Copies {
    fn attend(&mut self) -> anyhow::Result<()> {
        if self.broken {
            self.refuse_all();
            return Ok(());
        }
        if !self.live {
            return self.give_all();
        }
        let overdue = self.due.is_some_and(|due| due <= self.now);
        let given = match self.give() {
            Ok(true) if overdue => self.target.flush(),
            Ok(left) => {
                if left {
                    self.due = self.due.or(Some(self.now + TRY_EVERY));
                } else {
                    self.due = None;
                }
                Ok(())
            }
            Err(error) => Err(error),
        };
        match given {
            Ok(()) => {
                if overdue {
                    // A file is written; a pipe is asked again when time has passed.
                    let waits = self.mirror.copy().is_some() || !self.target.is_flushed();
                    self.due = waits.then(|| self.now + TRY_EVERY);
                }
            }
            Err(error) => self.give_up(&error),
        }
        Ok(())
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        if !self.broken {
            let flushed = match &self.target {
                Target::File(_) => self.give().and_then(|_| self.target.flush()),
                Target::Interface(_) | Target::Pipe(..) => self.give_rest(),
            };
            if let Err(error) = flushed {
                self.give_up(&error);
            }
        }
    }
}

impl Function for Copies {
    fn handle_frames(
        &mut self,
        from: Port,
        batch: &mut Vec<Frame>,
        now: Instant,
        out: &mut Output,
    ) {
        self.now = now;
        self.mirror.handle_frames(from, batch, now, out);
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Output) {
        self.now = now;
        self.mirror.handle_timeout(now, out);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        // On a recording, time passes with the packets, and the target is asked with each.
        self.due.filter(|_| self.live)
    }

    fn counters(&self) -> Vec<Counter> {
        self.mirror.counters()
    }
}

impl Target {
    fn describe(&self) -> String {
        match self {
            Self::File(_) => "the file".to_owned(),
            Self::Interface(edge) => edge.name().to_owned(),
            Self::Pipe(_, path) => path.display().to_string(),
        }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        match self {
            Self::File(recording) => recording.flush(),
            Self::Interface(_) => Ok(()),
            Self::Pipe(pipe, _) => Ok(pipe.flush()?),
        }
    }

    fn is_flushed(&self) -> bool {
        match self {
            Self::File(_) | Self::Interface(_) => true,
            Self::Pipe(pipe, _) => pipe.is_flushed(),
        }
    }
}

fn send(link: &mut impl Link, scratch: &mut LinkFrame, frame: &Frame) -> anyhow::Result<Sent> {
    scratch.clear();
    scratch.meta.at_ns = frame.at.as_nanos();
    scratch.meta.direction = Direction::Outbound;
    scratch.meta.offload = frame.offload;
    scratch.original_len = frame.original_len;
    scratch.comment.push_str(&frame.comment);
    scratch.bytes.extend_from_slice(&frame.bytes);
    Ok(link.send((&*scratch).into())?)
}
