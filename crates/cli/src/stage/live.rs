//! A function between two live links.

mod send;

use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;

use plumb_link::Clock;
use plumb_link::stage::{Link, LinkError, LinkFrame, Needs, Received, wait};
use plumb_nf::{Frame, Function, HEAD_LEN, Output, Port};
use plumb_wire::Instant;

use super::Guests;
use super::asked::Asked;
use super::bodies::Bodies;
use super::counters::{self, Passed};
use crate::args::LinkArgs;
use crate::exit::Failure;

/// Frames that are taken in at once.
const BATCH_FRAMES: usize = 64;
/// Bytes that are taken in at once: more would not stay in a core's cache until they are sent.
const BATCH_BYTES: usize = 128 * 1024;
/// Longest that a frame waits for others to be written with.
const FLUSH_AFTER: Duration = Duration::from_micros(100);
/// Frames that a function may have sent back where they came from, and that wait there.
const MOST_WAITING: usize = 4096;
/// Batches that a command may have sent and nobody has taken when it ends: a full queue of large
/// frames.
const LAST_BATCHES: usize = 4096;
/// How often the commands and signals are looked after while packets flow.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What a stage does besides passing packets.
#[derive(Debug)]
pub(crate) struct Live {
    /// The name of the stage, as its verb.
    pub(crate) name: &'static str,
    /// Frames that a link does not take at once are dropped.
    pub(crate) drop: bool,
    /// The counters are printed at the end.
    pub(crate) counters: bool,
    /// They are JSON.
    pub(crate) json: bool,
    /// How long it looks for frames before it sleeps.
    pub(crate) busy_poll: Duration,
    /// SIGHUP asks to read settings again, and adds one to this; none if it asks to end.
    pub(crate) reload: Option<&'static AtomicU32>,
}

impl Live {
    pub(crate) fn new(name: &'static str, args: &LinkArgs) -> Self {
        Self {
            name,
            drop: args.drop,
            counters: args.counters,
            json: args.json,
            busy_poll: args.busy_poll.map_or(Duration::ZERO, |long| long.0),
            reload: None,
        }
    }
}

/// Why a stage has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// All that came in is passed on.
    Input,
    /// Nobody wants more.
    Closed,
    /// Somebody has asked.
    Interrupted,
    /// All commands have ended, like this.
    Commands(u8),
}

/// The exit status of a stage whose reader is gone: what a shell says of one that SIGPIPE ended.
const CLOSED_STATUS: u8 = 141;

/// A link with what waits to be sent over it.
struct Side<'a> {
    link: &'a mut dyn Link,
    waiting: VecDeque<Frame>,
    ended: bool,
    closed: bool,
    dropped: u64,
    /// Since when something is not flushed.
    unflushed: Option<Instant>,
}

impl Side<'_> {
    /// Whether the link can have a frame as it is.
    fn takes(&self, frame: &Frame) -> bool {
        frame.offload.is_complete() || self.link.takes_offload()
    }
}

struct Run<'a, F> {
    sides: [Side<'a>; 2],
    function: F,
    out: Output,
    batch: Vec<Frame>,
    /// What a link gives, until a whole batch is there.
    received: Vec<LinkFrame>,
    clock: Clock,
    live: &'a Live,
    /// A signal has come, or a command has ended.
    attention: bool,
    /// The bodies of frames of which only the beginning is with the function, by where they came from.
    bodies: Bodies,
}

/// Runs a function between two links until the pipeline or the commands end; returns the exit
/// status. `after` is called with the function whenever frames have passed.
pub(crate) fn run<F: Function>(
    function: F,
    left: &mut dyn Link,
    right: &mut dyn Link,
    live: &Live,
    guests: Guests,
    mut after: impl FnMut(&mut F) -> anyhow::Result<()>,
) -> anyhow::Result<u8> {
    let side = |link| Side {
        link,
        waiting: VecDeque::new(),
        ended: false,
        closed: false,
        dropped: 0,
        unflushed: None,
    };
    let mut run = Run {
        sides: [side(left), side(right)],
        function,
        out: Output::default(),
        batch: Vec::new(),
        received: Vec::new(),
        clock: Clock::new(),
        live,
        attention: true,
        bodies: Bodies::default(),
    };
    let ended = run.until_ended(guests, &mut after);
    if live.counters {
        run.report()?;
    }
    match ended {
        Ok(Ending::Input) => match run.sides[0].link.unsound_end() {
            None => Ok(0),
            Some(what) => Err(Failure::usage(format!("standard input {what}")).into()),
        },
        Ok(Ending::Closed) => Ok(CLOSED_STATUS),
        Ok(Ending::Interrupted) => Ok(130),
        Ok(Ending::Commands(status)) => Ok(status),
        Err(error) => match error.downcast::<LinkError>() {
            Ok(error @ LinkError::System(_)) => Err(error.into()),
            Ok(error) => Err(Failure::usage(error.to_string()).into()),
            Err(error) => Err(error),
        },
    }
}

impl<F: Function> Run<'_, F> {
    fn until_ended(
        &mut self,
        mut guests: Guests,
        after: &mut impl FnMut(&mut F) -> anyhow::Result<()>,
    ) -> anyhow::Result<Ending> {
        let signal = |e: io::Error| {
            LinkError::System(plumb_link::Error::System {
                operation: "take over",
                object: "signals".to_owned(),
                source: e,
            })
        };
        // A command's signals come with the command.
        let mut asked = match guests.is_empty() {
            false => None,
            true => Some(Asked::watch(self.live.reload).map_err(signal)?),
        };
        let mut look_at = Instant::ZERO;
        let (mut moved_at, mut peek_at) = (Instant::ZERO, Instant::ZERO);
        let mut pipeline_ended: Option<(Ending, Instant)> = None;
        loop {
            let now = self.now();
            let moved = self.pass(now)?;
            if moved {
                moved_at = now;
                after(&mut self.function)?;
            }
            self.flush(now, !moved)?;

            if pipeline_ended.is_none()
                && let Some(ending) = self.ending(moved)?
            {
                if guests.is_empty() {
                    return Ok(ending);
                }
                pipeline_ended = Some((ending, now));
            }
            if now >= look_at || core::mem::take(&mut self.attention) {
                look_at = now + LOOK_EVERY;
                if let Some(asked) = &mut asked {
                    if asked.wants_counters() {
                        let _ = self.report();
                    }
                    if asked.wants_reload() {
                        after(&mut self.function)?;
                    }
                    if asked.wants_end() {
                        self.drain()?;
                        return Ok(Ending::Interrupted);
                    }
                }
                while let Some(port) = guests.look()? {
                    self.leave(port)?;
                    after(&mut self.function)?;
                }
                if guests.take_wish_for_counters() {
                    let _ = self.report();
                }
                if guests.take_wish_to_reload()
                    && let Some(wishes) = self.live.reload
                {
                    wishes.fetch_add(1, Ordering::Relaxed);
                    after(&mut self.function)?;
                }
                if let Some((_, at)) = pipeline_ended {
                    guests.tell(now.since(at));
                }
                // What a function holds back is waited for as long as somebody is there to get it.
                let is_over = pipeline_ended.is_some() || self.function.held() == 0;
                if !guests.is_empty() && guests.are_gone() && is_over {
                    self.drain()?;
                    let nobody_reads = matches!(pipeline_ended, Some((Ending::Closed, _)));
                    return Ok(match guests.status() {
                        0 if nobody_reads && guests.were_hung_up() && !guests.has(Port::Right) => {
                            Ending::Closed
                        }
                        status => Ending::Commands(status),
                    });
                }
            }
            if moved || self.attention {
                continue;
            }
            let polls = now.since(moved_at) < self.live.busy_poll;
            if polls && now < peek_at {
                // Others may have work to do on this processor.
                std::thread::yield_now();
                continue;
            }
            peek_at = now + LOOK_EVERY;
            let mut until = self.function.poll_timeout();
            if let (Some((_, at)), Some(after)) = (pipeline_ended, guests.next_word()) {
                let due = at + after;
                until = Some(until.map_or(due, |u| u.min(due)));
            }
            // That a neighbour was killed is told by descriptors only.
            self.sleep(
                if polls { Some(now) } else { until },
                asked.as_ref(),
                &guests,
            )?;
        }
    }

    /// The command at a port has ended: passes on what it has sent last, and expects nothing more.
    fn leave(&mut self, port: Port) -> Result<(), LinkError> {
        for _ in 0..LAST_BATCHES {
            if !self.pass(self.now())? {
                break;
            }
        }
        let side = &mut self.sides[index(port)];
        match port {
            Port::Left => side.ended = true,
            Port::Right => side.closed = true,
        }
        self.attention = true;
        Ok(())
    }

    /// The time: wall time as it was at the start plus what has passed since, so that it never goes
    /// backwards and stamps of captures have their place in it.
    fn now(&self) -> Instant {
        Instant::from_nanos(self.clock.wall_ns(self.clock.now()))
    }

    /// Passes on one batch in each direction, and does what is due. Says whether there was anything.
    fn pass(&mut self, now: Instant) -> Result<bool, LinkError> {
        let mut moved = false;
        if self.function.poll_timeout().is_some_and(|due| due <= now) {
            self.function.handle_timeout(now, &mut self.out);
            self.dispatch(now)?;
            moved = true;
        }
        for port in [Port::Left, Port::Right] {
            self.sides[index(port)].link.look_after()?;
            moved |= self.send_waiting(port, now)?;
        }
        for from in [Port::Left, Port::Right] {
            if !self.may_receive(from) {
                continue;
            }
            if self.function.passes(from)
                && let Some(passed) = self.pass_on(from, now)?
            {
                moved |= passed;
                continue;
            }
            self.receive(from, now)?;
            if self.batch.is_empty() {
                continue;
            }
            moved = true;
            self.function
                .handle_frames(from, &mut self.batch, now, &mut self.out);
            for frame in self.batch.drain(..) {
                self.out.recycle(frame);
            }
            self.dispatch(now)?;
            let waits = |frame: &Frame| frame.body.is_some();
            let to = &self.sides[index(from.opposite())];
            if !to.waiting.iter().any(waits) {
                self.bodies.forget(from);
            }
        }
        Ok(moved)
    }

    /// Hands frames from link to link, where these know how to. Says whether there were any; none if the
    /// links do not, or not at this time.
    fn pass_on(&mut self, from: Port, now: Instant) -> Result<Option<bool>, LinkError> {
        let [left, right] = &mut self.sides;
        let (this, to) = match from {
            Port::Left => (left, right),
            Port::Right => (right, left),
        };
        let mut any = false;
        for _ in 0..BATCH_FRAMES {
            match this.link.pass_on(to.link)? {
                Some(Received::Frame) => any = true,
                Some(received) => {
                    this.ended |= received == Received::End;
                    break;
                }
                None if any => break,
                None => return Ok(None),
            }
        }
        if any && to.unflushed.is_none() {
            to.unflushed = Some(now);
        }
        Ok(Some(any))
    }

    /// Fills the batch. Frames are first taken from the link, then made those of the function: what
    /// has just been written bit by bit is not read as a whole at once, for which a processor would
    /// have to wait.
    fn receive(&mut self, from: Port, now: Instant) -> Result<(), LinkError> {
        let (mut bytes, mut count) = (0, 0);
        let place = self.sides[index(from.opposite())].link.takes_bodies();
        let leave = place.filter(|_| self.function.heads_suffice());
        let side = &mut self.sides[index(from)];
        side.link.leave_bodies(leave.map(|place| (HEAD_LEN, place)));
        let mut body = None;
        while count < BATCH_FRAMES && bytes < BATCH_BYTES {
            if count == self.received.len() {
                self.received.push(LinkFrame::default());
            }
            let Some(frame) = self.received.get_mut(count) else {
                break;
            };
            let received = side.link.receive(frame)?;
            if received != Received::Frame {
                side.ended |= received == Received::End;
                break;
            }
            bytes += frame.bytes.len();
            count += 1;
            body = side.link.take_body();
            if body.is_some() {
                break;
            }
        }
        for received in self.received.iter_mut().take(count) {
            let mut frame = self.out.used();
            // The buffers go round: link, function, link.
            core::mem::swap(&mut received.bytes, &mut frame.bytes);
            core::mem::swap(&mut received.comment, &mut frame.comment);
            frame.at = match received.meta.at_ns {
                0 => now,
                stamp => Instant::from_nanos(stamp),
            };
            frame.offload = received.meta.offload;
            frame.original_len = received.original_len;
            frame.body = None;
            self.batch.push(frame);
        }
        if let (Some(body), Some(frame)) = (body, self.batch.last_mut()) {
            self.bodies.keep(from, frame, body);
        }
        Ok(())
    }

    /// Lets the neighbours have what was sent: all of it where nothing more comes at once, else what
    /// has waited long enough.
    fn flush(&mut self, now: Instant, idle: bool) -> Result<(), LinkError> {
        for side in &mut self.sides {
            let due = side
                .unflushed
                .is_some_and(|since| now.since(since) >= FLUSH_AFTER);
            if idle || due {
                side.link.flush()?;
                side.unflushed = None;
            }
        }
        Ok(())
    }

    /// Whether the input of a side is wanted: not while what it leads to has to wait.
    fn may_receive(&self, from: Port) -> bool {
        let (this, other) = (
            &self.sides[index(from)],
            &self.sides[index(from.opposite())],
        );
        let is_wanted = from == Port::Right || !self.is_right_gone();
        !this.ended
            && is_wanted
            && other.waiting.is_empty()
            && this.waiting.len() < MOST_WAITING / 2
    }

    /// Whether nobody receives any more what is sent to the right.
    fn is_right_gone(&self) -> bool {
        let right = &self.sides[index(Port::Right)];
        right.closed || right.link.is_closed()
    }

    /// How the pipeline has ended, if it has; `moved` says whether something has just passed.
    fn ending(&mut self, moved: bool) -> Result<Option<Ending>, LinkError> {
        if self.is_right_gone() {
            let right = &self.sides[index(Port::Right)];
            // What the neighbour sent before it went, the last of a connection, is passed on.
            let is_told = right.link.counters().received_frames == 0;
            if !is_told && (moved || self.function.held() > 0) {
                return Ok(None);
            }
            self.drain()?;
            return Ok(Some(Ending::Closed));
        }
        let [left, right] = &self.sides;
        let done = left.ended
            && self.function.held() == 0
            && right.waiting.is_empty()
            && right.link.is_flushed();
        Ok(done.then_some(Ending::Input))
    }

    /// Waits until everything that was taken in is out, a second at most.
    fn drain(&mut self) -> Result<(), LinkError> {
        for _ in 0..50 {
            let now = self.now();
            for port in [Port::Left, Port::Right] {
                self.send_waiting(port, now)?;
            }
            self.flush(now, true)?;
            let is_out = |side: &Side<'_>| {
                side.link.is_closed() || side.waiting.is_empty() && side.link.is_flushed()
            };
            if self.sides.iter().all(is_out) {
                break;
            }
            let until = self.now() + Duration::from_millis(20);
            self.sleep(Some(until), None, &Guests::default())?;
        }
        Ok(())
    }

    fn sleep(
        &mut self,
        until: Option<Instant>,
        asked: Option<&Asked>,
        guests: &Guests,
    ) -> Result<(), LinkError> {
        let limit = until.map(|until| until.since(self.now()));
        let needs = [Port::Left, Port::Right].map(|port| Needs {
            receive: self.may_receive(port),
            send: !self.sides[index(port)].waiting.is_empty(),
        });
        let mut others: Vec<BorrowedFd<'_>> = Vec::with_capacity(2);
        if let Some(asked) = asked {
            others.extend(asked.fds());
        }
        others.extend(guests.fds());
        let [left, right] = &mut self.sides;
        self.attention = wait(left.link, right.link, needs, &others, limit)? != 0;
        Ok(())
    }

    /// Prints what has passed.
    fn report(&self) -> io::Result<()> {
        let links = [Port::Left, Port::Right].map(|port| {
            let side = &self.sides[index(port)];
            Passed {
                port,
                link: side.link.describe(),
                counters: side.link.counters(),
                no_room_frames: side.dropped,
            }
        });
        counters::report_live(self.live.name, &links, &self.function, self.live.json)
    }
}

const fn index(port: Port) -> usize {
    match port {
        Port::Left => 0,
        Port::Right => 1,
    }
}
