//! The port towards the real network for who may open raw sockets.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use plumb_wire::icmp::Family;
use plumb_wire::{Instant, SendError};
use rustix::event::epoll;

use crate::raw::RawSender;
use crate::raw_receiver::RawReceiver;
use crate::ring::Ring;
use crate::{
    Batch, Capability, Clock, Error, KernelTime, Port, ProbePortOptions, Progress, Receive, filter,
};

/// Raw sockets to send, raw or packet sockets to receive.
#[derive(Debug)]
pub(crate) struct RawPort {
    sender: RawSender,
    receivers: Vec<Receiver>,
    epoll: OwnedFd,
    clock: Clock,
    time: KernelTime,
    /// The receiver to begin with, so that none starves the others.
    first: usize,
}

impl RawPort {
    pub(crate) fn open(
        options: &ProbePortOptions,
        interface: Option<(&str, u32)>,
    ) -> Result<Self, Error> {
        let sender = RawSender::open(options.ipv4, options.ipv6, interface)?;
        let index = interface.map_or(0, |(_, index)| index);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|e| Error::system("create", "an epoll instance", e))?;
        let mut receivers = Vec::new();
        for (wanted, family) in [(options.ipv4, Family::V4), (sender.has_ipv6(), Family::V6)] {
            if wanted {
                open_receivers(family, options, index, &mut receivers)?;
            }
        }
        for receiver in &receivers {
            let data = epoll::EventData::new_u64(0);
            epoll::add(&epoll, receiver.fd(), data, epoll::EventFlags::IN)
                .map_err(|e| Error::system("watch", "a socket", e))?;
        }
        Ok(Self {
            sender,
            receivers,
            epoll,
            clock: Clock::new(),
            time: KernelTime::new(),
            first: 0,
        })
    }
}

impl Port for RawPort {
    fn send(
        &mut self,
        batch: &Batch,
        report: &mut dyn FnMut(usize, Result<Instant, SendError>),
    ) -> Result<Progress, Error> {
        Ok(self.sender.send(batch, report))
    }

    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(Instant, &[u8]),
    ) -> Result<usize, Error> {
        let Self {
            receivers,
            clock,
            time,
            first,
            ..
        } = self;
        time.refresh();
        let mut taken = 0;
        let count = receivers.len();
        for turn in 0..count {
            let left = budget - taken;
            taken += match &mut receivers[(*first + turn) % count] {
                Receiver::Ring(ring) => ring.receive(left, |wall_ns, packet| {
                    sink(time.instant(wall_ns), packet);
                }),
                Receiver::Socket(socket) => socket
                    .receive(left, |wall_ns, packet| {
                        let at = wall_ns.map_or_else(|| clock.now(), |ns| time.instant(ns));
                        sink(at, packet);
                    })
                    .map_err(|e| Error::system("receive from", "a raw socket", e))?,
            };
        }
        *first = first.wrapping_add(1);
        if taken < budget {
            time.drained();
        }
        Ok(taken)
    }

    fn readable(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    fn writable(&self) -> BorrowedFd<'_> {
        self.sender.writable().unwrap_or_else(|| self.epoll.as_fd())
    }

    fn dropped(&mut self) -> u64 {
        self.receivers
            .iter_mut()
            .map(|receiver| match receiver {
                Receiver::Ring(ring) => ring.dropped(),
                Receiver::Socket(socket) => socket.dropped(),
            })
            .sum()
    }
}

#[derive(Debug)]
enum Receiver {
    Ring(Ring),
    Socket(RawReceiver),
}

impl Receiver {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Ring(ring) => ring.fd(),
            Self::Socket(socket) => socket.fd(),
        }
    }
}

/// Opens what receives packets of `family`.
fn open_receivers(
    family: Family,
    options: &ProbePortOptions,
    interface: u32,
    into: &mut Vec<Receiver>,
) -> Result<(), Error> {
    let port = options.first_port;
    match options.receive {
        Receive::Rings { bytes } => {
            let (ethertype, filter) = match family {
                Family::V4 => (libc::ETH_P_IP, filter::ipv4(port)),
                Family::V6 => (libc::ETH_P_IPV6, filter::ipv6(port)),
            };
            let ethertype = u16::try_from(ethertype).unwrap_or(0);
            let ring = Ring::open(ethertype, &filter, interface, bytes)
                .map_err(|e| Error::privileged("open", "a packet socket", Capability::NetRaw, e))?;
            into.push(Receiver::Ring(ring));
        }
        Receive::Sockets => {
            for tcp in [false, true] {
                if !tcp || options.tcp {
                    let name = options.interface.as_deref();
                    let socket = RawReceiver::open(family, tcp, port, name)?;
                    into.push(Receiver::Socket(socket));
                }
            }
        }
    }
    Ok(())
}
