//! Commands whose networks the links of a stage are.

use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd};

use plumb_link::namespace::Child;
use plumb_link::stage::{PassedOn, Tenant};
use plumb_nf::Port;
use rustix::process::Signal;

/// What a command is told that runs on behind the end of the pipeline, and when: servers take the
/// first for a wish to read their configuration again, some go on serving after the second.
const WORDS: [(Duration, Signal); 3] = [
    (Duration::from_secs(1), Signal::HUP),
    (Duration::from_secs(3), Signal::TERM),
    (Duration::from_secs(6), Signal::KILL),
];

/// A command whose network one of the links is.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) port: Port,
    pub(crate) process: Process,
    /// It is not told when the pipeline has ended.
    pub(crate) keep: bool,
    /// How it ended.
    status: Option<u8>,
    /// How many of the words it was told.
    told: usize,
}

/// Where a command runs.
#[derive(Debug)]
pub(crate) enum Process {
    /// In the network that this process is in.
    Child(Child),
    /// In another.
    Tenant(Tenant),
}

impl Guest {
    pub(crate) const fn new(port: Port, process: Process, keep: bool) -> Self {
        Self {
            port,
            process,
            keep,
            status: None,
            told: 0,
        }
    }

    /// Says whether it ended of what it was told.
    fn was_hung_up(&self) -> bool {
        let signals = WORDS[..self.told].iter().map(|(_, signal)| signal.as_raw());
        let mut ends = signals.filter_map(|signal| u8::try_from(128 + signal).ok());
        ends.any(|status| Some(status) == self.status)
    }

    fn signal(&self, signal: Signal) {
        match &self.process {
            Process::Child(child) => child.signal(signal),
            Process::Tenant(tenant) => tenant.signal(signal),
        }
    }
}

/// All commands of a stage, from left to right.
#[derive(Debug, Default)]
pub(crate) struct Guests {
    guests: Vec<Guest>,
    /// Signals for tenants; a child brings its own.
    signals: Option<PassedOn>,
    /// SIGHUP is for the stage.
    reloads: bool,
    wants_counters: bool,
    wants_reload: bool,
}

impl Guests {
    /// Tenants, all of which run, with the signals that are passed on to them. SIGHUP is not, where
    /// it asks the stage to read its settings again.
    pub(crate) fn tenants(guests: Vec<Guest>, signals: PassedOn, reloads: bool) -> Self {
        // Who waits for a command leaves the keyboard's signals to it, so it has to be another one.
        if signals.leave_keyboard().is_some() {
            for guest in &guests {
                guest.signal(Signal::TERM);
            }
        }
        Self {
            guests,
            signals: Some(signals),
            reloads,
            ..Self::default()
        }
    }

    /// One command, in the network that this process is in.
    pub(crate) fn child(port: Port, child: Child, keep: bool) -> Self {
        // From now on this signal is for the stage.
        child.take_user_signal();
        Self {
            guests: vec![Guest::new(port, Process::Child(child), keep)],
            ..Self::default()
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.guests.is_empty()
    }

    /// What becomes readable when there is something to look at.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let running = self.guests.iter().filter(|guest| guest.status.is_none());
        let fds = running.flat_map(|guest| match &guest.process {
            Process::Child(child) => child.fds().to_vec(),
            Process::Tenant(tenant) => vec![tenant.fd()],
        });
        fds.chain(self.signals.iter().map(AsFd::as_fd))
    }

    /// Passes signals on, and says at which port a command has ended, if one has.
    pub(super) fn look(&mut self) -> anyhow::Result<Option<Port>> {
        while let Some(signal) = self.signals.as_ref().and_then(PassedOn::next) {
            if signal == Signal::USR1 {
                self.wants_counters = true;
                continue;
            }
            if signal == Signal::HUP && self.reloads {
                self.wants_reload = true;
                continue;
            }
            for guest in &self.guests {
                guest.signal(signal);
            }
        }
        for guest in &mut self.guests {
            if guest.status.is_some() {
                continue;
            }
            guest.status = match &guest.process {
                Process::Child(child) => {
                    let status = child.try_wait()?;
                    self.wants_counters |= child.take_user_signal();
                    status
                }
                Process::Tenant(tenant) => tenant.try_wait()?,
            };
            if guest.status.is_some() {
                return Ok(Some(guest.port));
            }
        }
        Ok(None)
    }

    /// Says whether the counters were asked for since the last call.
    pub(super) const fn take_wish_for_counters(&mut self) -> bool {
        core::mem::replace(&mut self.wants_counters, false)
    }

    /// Says whether settings are to be read again, as of the last call.
    pub(super) const fn take_wish_to_reload(&mut self) -> bool {
        core::mem::replace(&mut self.wants_reload, false)
    }

    /// Says whether all have ended.
    pub(super) fn are_gone(&self) -> bool {
        self.guests.iter().all(|guest| guest.status.is_some())
    }

    /// Tells those that run on, so long after the end of the pipeline, what they have to know by now.
    pub(super) fn tell(&mut self, since_end: Duration) {
        for guest in &mut self.guests {
            while let Some((after, signal)) = WORDS.get(guest.told)
                && *after <= since_end
                && !guest.keep
                && guest.status.is_none()
            {
                guest.told += 1;
                guest.signal(*signal);
            }
        }
    }

    /// How long after the end of the pipeline somebody is to be told something next.
    pub(super) fn next_word(&self) -> Option<Duration> {
        let waiting = self
            .guests
            .iter()
            .filter(|guest| !guest.keep && guest.status.is_none());
        let words = waiting.filter_map(|guest| WORDS.get(guest.told));
        words.map(|(after, _)| *after).min()
    }

    /// The first status that is a failure, from left to right; a command that ended because it was told
    /// of the pipeline's end has not failed.
    pub(super) fn status(&self) -> u8 {
        let failed = |guest: &Guest| match guest.was_hung_up() {
            true => None,
            false => guest.status.filter(|status| *status != 0),
        };
        self.guests.iter().find_map(failed).unwrap_or(0)
    }

    /// Says whether a command ended because it was told of the pipeline's end.
    pub(super) fn were_hung_up(&self) -> bool {
        self.guests.iter().any(Guest::was_hung_up)
    }

    /// Says whether the link at a port is a command's network.
    pub(super) fn has(&self, port: Port) -> bool {
        self.guests.iter().any(|guest| guest.port == port)
    }
}
