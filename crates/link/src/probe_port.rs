//! The port towards the real network.

use std::os::fd::BorrowedFd;

use plumb_wire::{Instant, SendError};

use crate::raw_port::RawPort;
use crate::unprivileged::{self, Unprivileged};
use crate::{Batch, Capability, Error, Port, Progress, sys};

/// How packets are sent and received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Raw sockets where they may be had, else unprivileged ones.
    #[default]
    Auto,
    /// A packet socket to send, past routing, local packet filters and queueing disciplines; for
    /// what it cannot send (other than unicast over Ethernet, policy routing) as [`Mode::Raw`].
    /// Needs CAP_NET_RAW.
    Packet,
    /// Raw sockets to send, raw or packet sockets to receive. Needs CAP_NET_RAW.
    Raw,
    /// ICMP and UDP sockets that need no privilege, where `net.ipv4.ping_group_range` allows them
    /// (icmp(7)). See [`Mode::losses`].
    Unprivileged,
}

impl Mode {
    /// What cannot be done or seen in this mode, a line each; of [`Mode::Auto`] what may be lost
    /// is not known before [`ProbePort::mode`] is.
    pub const fn losses(self) -> &'static [&'static str] {
        match self {
            Self::Auto | Self::Packet | Self::Raw => &[],
            Self::Unprivileged => unprivileged::LOSSES,
        }
    }
}

/// What packets are received through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receive {
    /// Rings that packet sockets share with the kernel: no system call per packet, and packets are
    /// seen before any local firewall. Each takes the kernel some 15 ms to set up and 30 ms to
    /// take down, in which it waits for all processors (RCU).
    Rings {
        /// Bytes of memory per family for packets that have arrived and were not taken yet, 2048
        /// per packet.
        bytes: usize,
    },
    /// Raw sockets: ready and gone at once, at the price of a system call for every few packets.
    Sockets,
}

/// How to open a [`ProbePort`].
#[derive(Clone, Debug)]
pub struct ProbePortOptions {
    /// How packets are sent and received.
    pub mode: Mode,
    /// Send and receive through this interface only.
    pub interface: Option<String>,
    /// Carry IPv4.
    pub ipv4: bool,
    /// Carry IPv6. Left out without an error where the kernel has none, if IPv4 is carried.
    pub ipv6: bool,
    /// Lowest source port of probes; TCP segments to a lower one are not received.
    pub first_port: u16,
    /// Carry TCP probes and receive their answers, which takes raw sockets.
    pub tcp: bool,
    /// What packets are received through where sockets are raw.
    pub receive: Receive,
}

impl Default for ProbePortOptions {
    fn default() -> Self {
        Self {
            mode: Mode::Auto,
            interface: None,
            ipv4: true,
            ipv6: true,
            first_port: 0x8000,
            tcp: true,
            receive: Receive::Sockets,
        }
    }
}

/// Sends probes to the real network and receives what answers them.
#[derive(Debug)]
pub struct ProbePort {
    sockets: Sockets,
}

#[derive(Debug)]
enum Sockets {
    Raw(RawPort),
    Unprivileged(Unprivileged),
}

impl ProbePort {
    /// Opens the sockets.
    ///
    /// # Errors
    /// If a capability is missing, the interface does not exist, or the kernel refuses otherwise.
    /// [`Error::NoSockets`] if [`Mode::Auto`] finds no way.
    pub fn open(options: &ProbePortOptions) -> Result<Self, Error> {
        let interface = match &options.interface {
            Some(name) => {
                let index = sys::interface_index(name);
                Some((
                    name.as_str(),
                    index.ok_or_else(|| Error::NoInterface(name.clone()))?,
                ))
            }
            None => None,
        };
        let raw = || RawPort::open(options, interface).map(Sockets::Raw);
        let unprivileged = || open_unprivileged(options, interface).map(Sockets::Unprivileged);
        let sockets = match options.mode {
            Mode::Packet | Mode::Raw => raw()?,
            Mode::Unprivileged => unprivileged()?,
            Mode::Auto => match raw() {
                Err(refused) if refused.capability().is_some() && !options.tcp => unprivileged()
                    .map_err(|error| Error::NoSockets {
                        raw: Box::new(refused),
                        unprivileged: Box::new(error),
                    })?,
                other => other?,
            },
        };
        Ok(Self { sockets })
    }

    /// The mode that it works in, which is not [`Mode::Auto`].
    pub const fn mode(&self) -> Mode {
        match &self.sockets {
            Sockets::Raw(port) if port.is_fast() => Mode::Packet,
            Sockets::Raw(_) => Mode::Raw,
            Sockets::Unprivileged(_) => Mode::Unprivileged,
        }
    }

    /// Flows (ICMP identifiers, source ports) that can be under way at once; `None` for any
    /// number. Probes of more flows wait until the reply to an older one has come or is overdue.
    pub const fn flows(&self) -> Option<usize> {
        match &self.sockets {
            Sockets::Raw(_) => None,
            Sockets::Unprivileged(port) => Some(port.flows()),
        }
    }
}

impl Port for ProbePort {
    fn send(
        &mut self,
        batch: &Batch,
        report: &mut dyn FnMut(usize, Result<Instant, SendError>),
    ) -> Result<Progress, Error> {
        match &mut self.sockets {
            Sockets::Raw(port) => port.send(batch, report),
            Sockets::Unprivileged(port) => Ok(port.send(batch, report)),
        }
    }

    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(Instant, &[u8]),
    ) -> Result<usize, Error> {
        match &mut self.sockets {
            Sockets::Raw(port) => port.receive(budget, sink),
            Sockets::Unprivileged(port) => port.receive(budget, sink),
        }
    }

    fn readable(&self) -> BorrowedFd<'_> {
        match &self.sockets {
            Sockets::Raw(port) => port.readable(),
            Sockets::Unprivileged(port) => port.readable(),
        }
    }

    fn writable(&self) -> BorrowedFd<'_> {
        match &self.sockets {
            Sockets::Raw(port) => port.writable(),
            Sockets::Unprivileged(port) => port.readable(),
        }
    }

    fn dropped(&mut self) -> u64 {
        match &mut self.sockets {
            Sockets::Raw(port) => port.dropped(),
            Sockets::Unprivileged(port) => port.dropped(),
        }
    }
}

fn open_unprivileged(
    options: &ProbePortOptions,
    interface: Option<(&str, u32)>,
) -> Result<Unprivileged, Error> {
    if options.tcp {
        let refused = std::io::ErrorKind::PermissionDenied;
        return Err(Error::privileged(
            "send",
            "TCP probes",
            Capability::NetRaw,
            refused,
        ));
    }
    Unprivileged::open(options.ipv4, options.ipv6, interface)
}
