//! Commands whose networks the links of a stage are.

use std::os::fd::{AsFd, BorrowedFd};

use plumb_link::namespace::Child;
use plumb_link::stage::{PassedOn, Tenant};
use plumb_nf::Port;
use rustix::process::Signal;

/// The status of a command that SIGHUP ended.
const HUNG_UP: u8 = 129;

/// A command whose network one of the links is.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) port: Port,
    pub(crate) process: Process,
    /// It is not told when the pipeline has ended.
    pub(crate) keep: bool,
    /// How it ended.
    status: Option<u8>,
    /// It was told that the pipeline has ended.
    told: bool,
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
            told: false,
        }
    }

    fn signal(&self, signal: Signal) {
        match &self.process {
            Process::Child(child) if signal == Signal::HUP => child.hang_up(),
            // It takes the others itself.
            Process::Child(_) => {}
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
    wants_counters: bool,
}

impl Guests {
    /// Tenants, with the signals that are passed on to them.
    pub(crate) fn tenants(guests: Vec<Guest>, signals: Option<PassedOn>) -> Self {
        Self {
            guests,
            signals,
            wants_counters: false,
        }
    }

    /// One command, in the network that this process is in.
    pub(crate) fn child(port: Port, child: Child, keep: bool) -> Self {
        // From now on this signal is for the stage.
        child.take_user_signal();
        Self::tenants(vec![Guest::new(port, Process::Child(child), keep)], None)
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

    /// Says whether all have ended.
    pub(super) fn are_gone(&self) -> bool {
        self.guests.iter().all(|guest| guest.status.is_some())
    }

    /// Says whether somebody is to be told that the pipeline has ended.
    pub(super) fn wait_for_the_end(&self) -> bool {
        let waits = |guest: &Guest| !guest.keep && !guest.told && guest.status.is_none();
        self.guests.iter().any(waits)
    }

    /// Tells those that run on that the pipeline has ended.
    pub(super) fn hang_up(&mut self) {
        for guest in &mut self.guests {
            if !guest.keep && guest.status.is_none() {
                guest.signal(Signal::HUP);
                guest.told = true;
            }
        }
    }

    /// The first status that is a failure, from left to right; a command that ended because it was told
    /// of the pipeline's end has not failed.
    pub(super) fn status(&self) -> u8 {
        let failed = |guest: &Guest| match guest.status {
            Some(HUNG_UP) if guest.told => None,
            status => status.filter(|status| *status != 0),
        };
        self.guests.iter().find_map(failed).unwrap_or(0)
    }

    /// Says whether a command ended because it was told of the pipeline's end.
    pub(super) fn were_hung_up(&self) -> bool {
        let was = |guest: &Guest| guest.told && guest.status == Some(HUNG_UP);
        self.guests.iter().any(was)
    }

    /// Says whether the link at a port is a command's network.
    pub(super) fn has(&self, port: Port) -> bool {
        self.guests.iter().any(|guest| guest.port == port)
    }
}
