//! The event loop.

use core::time::Duration;
use std::io;
use std::os::fd::BorrowedFd;

use plumb_wire::{Engine, Instant};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{Batch, Clock, Error, Port, Then};

/// What the owner of an engine wants after a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Go on, with the next round no later than at this time.
    Continue {
        /// When `turn` wants to be called though nothing happened.
        wake_at: Option<Instant>,
    },
    /// Leave the loop.
    Stop,
}

/// Sees every packet that is sent or received.
pub trait Observer {
    /// Takes a packet that left.
    fn sent(&mut self, at: Instant, packet: &[u8]);
    /// Takes a packet that arrived, before the engine has seen it.
    fn received(&mut self, at: Instant, packet: &[u8]);
}

/// Looks away.
impl Observer for () {
    fn sent(&mut self, _at: Instant, _packet: &[u8]) {}
    fn received(&mut self, _at: Instant, _packet: &[u8]) {}
}

/// Drives `engine` over `port` until `turn` says stop.
///
/// A round sends what is due, hands in what arrived, does what is due at the time, and calls
/// `turn`, which takes events, starts jobs and looks at whatever the owner waits for. Then the
/// loop sleeps until the engine's next deadline, the turn's `wake_at`, a packet, or until one of
/// `watch` is readable (which `turn` must read, or it will be woken again). Each round does a
/// bounded amount of each, so that neither sending at full speed nor a flood of packets starves
/// the rest.
///
/// # Errors
/// If the port breaks, or waiting fails.
pub fn run<E, P>(
    engine: &mut E,
    port: &mut P,
    clock: &Clock,
    watch: &[BorrowedFd<'_>],
    observer: &mut dyn Observer,
    mut turn: impl FnMut(&mut E, Instant) -> Turn,
) -> Result<(), Error>
where
    E: Engine,
    P: Port + ?Sized,
{
    // Without this the kernel rounds every wait up by 50 us.
    let _ = rustix::thread::set_current_timer_slack(Some(core::num::NonZeroU64::MIN));
    let mut batch = Batch::new();
    loop {
        let sending = transmit(engine, port, clock, &mut batch, observer)?;
        let received = port.receive(RECEIVE_BUDGET, &mut |at, packet| {
            observer.received(at, packet);
            engine.handle_packet(at, packet);
        })?;
        let now = clock.now();
        if engine.poll_timeout().is_some_and(|due| due <= now) {
            engine.handle_timeout(now);
        }
        let Turn::Continue { wake_at } = turn(engine, now) else {
            return Ok(());
        };
        if received == RECEIVE_BUDGET {
            continue;
        }
        let deadline = [engine.poll_timeout(), wake_at].into_iter().flatten().min();
        let mut writable = None;
        let until = match sending {
            Sending::More => continue,
            Sending::Idle => deadline,
            // The engine may well be due for a transmission, but there is no room for it.
            Sending::Blocked(then) => {
                let retry = match then {
                    Then::After(pause) => now + pause,
                    Then::Now => now,
                    Then::Writable => {
                        writable = Some(port.writable());
                        now + WRITABLE_LIMIT
                    }
                };
                Some(
                    deadline
                        .filter(|due| *due > now)
                        .map_or(retry, |due| due.min(retry)),
                )
            }
        };
        let pause = until.map(|at| at.since(clock.now()));
        if pause.is_some_and(|pause| pause < SPIN) && writable.is_none() {
            core::hint::spin_loop();
            continue;
        }
        wait(port.readable(), writable, watch, pause)?;
    }
}

/// Most packets taken in one round.
const RECEIVE_BUDGET: usize = 256;
/// Most batches sent in one round.
const TRANSMIT_BUDGET: usize = 2;
/// Waits shorter than this are spent spinning: going to sleep and waking up takes about as long.
const SPIN: Duration = Duration::from_micros(50);
/// Most time that a full socket buffer is waited for before the round goes on.
const WRITABLE_LIMIT: Duration = Duration::from_millis(10);

enum Sending {
    /// The engine had nothing more to send.
    Idle,
    /// The budget of the round is used up.
    More,
    /// The port has no room.
    Blocked(Then),
}

fn transmit<E, P>(
    engine: &mut E,
    port: &mut P,
    clock: &Clock,
    batch: &mut Batch,
    observer: &mut dyn Observer,
) -> Result<Sending, Error>
where
    E: Engine,
    P: Port + ?Sized,
{
    for _ in 0..TRANSMIT_BUDGET {
        if batch.is_empty() {
            let now = clock.now();
            while batch.push(|into| engine.poll_transmit(now, into)) {}
        }
        if batch.is_empty() {
            return Ok(Sending::Idle);
        }
        let full = batch.len() == Batch::CAPACITY;
        let progress = port.send(batch, &mut |index, result| match result {
            Ok(at) => {
                observer.sent(at, batch.packet(index));
                engine.handle_sent(batch.probe(index), at);
            }
            Err(error) => engine.handle_send_error(batch.probe(index), clock.now(), error),
        })?;
        batch.advance(progress.done);
        if !batch.is_empty() && progress.then != Then::Now {
            return Ok(Sending::Blocked(progress.then));
        }
        if batch.is_empty() && !full {
            return Ok(Sending::Idle);
        }
    }
    Ok(Sending::More)
}

fn wait(
    readable: BorrowedFd<'_>,
    writable: Option<BorrowedFd<'_>>,
    watch: &[BorrowedFd<'_>],
    pause: Option<Duration>,
) -> Result<(), Error> {
    let mut fds = Vec::with_capacity(watch.len() + 2);
    fds.push(PollFd::from_borrowed_fd(readable, PollFlags::IN));
    fds.extend(writable.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::OUT)));
    let watched = watch.iter().copied();
    fds.extend(watched.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
    let timeout = pause.and_then(|pause| Timespec::try_from(pause).ok());
    match poll(&mut fds, timeout.as_ref()) {
        // A signal may be what `turn` waits for.
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(Error::system("wait for", "packets", io::Error::from(errno))),
    }
}
