//! The port towards the real network for who may open raw sockets.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use plumb_wire::icmp::Family;
use plumb_wire::{Instant, SendError};
use rustix::event::epoll;

use crate::packet_sender::PacketSender;
use crate::raw::RawSender;
use crate::raw_receiver::RawReceiver;
use crate::ring::Ring;
use crate::{
    Batch, Capability, Clock, Error, KernelTime, Mode, Port, ProbePortOptions, Progress, Receive,
    Then, filter,
};

/// Raw sockets to send, and a packet socket where that is wanted; raw or packet sockets to receive.
#[derive(Debug)]
pub(crate) struct RawPort {
    sender: RawSender,
    /// What sends in place of `sender` what it can.
    fast: Option<PacketSender>,
    /// Whether it was that which had no room.
    fast_is_full: bool,
    receivers: Vec<Receiver>,
    epoll: OwnedFd,
    clock: Clock,
    time: KernelTime,
    /// The receiver to begin with, so that none starves the others.
    first: usize,
    /// Calls in a row in which nothing was there.
    in_vain: u32,
}

/// Calls in vain after which it may be an error that wakes the caller.
const SUSPICIOUS: u32 = 16;

impl RawPort {
    pub(crate) fn open(
        options: &ProbePortOptions,
        interface: Option<(&str, u32)>,
    ) -> Result<Self, Error> {
        let sender = RawSender::open(options.ipv4, options.ipv6, interface)?;
        let index = interface.map_or(0, |(_, index)| index);
        let fast = match options.mode {
            Mode::Packet => Some(PacketSender::open(index)?),
            Mode::Auto | Mode::Raw | Mode::Unprivileged => None,
        };
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
            fast,
            fast_is_full: false,
            receivers,
            epoll,
            clock: Clock::new(),
            time: KernelTime::new(),
            first: 0,
            in_vain: 0,
        })
    }

    /// Says whether a packet socket sends what it can.
    pub(crate) const fn is_fast(&self) -> bool {
        self.fast.is_some()
    }
}

impl Port for RawPort {
    fn send(
        &mut self,
        batch: &Batch,
        report: &mut dyn FnMut(usize, Result<Instant, SendError>),
    ) -> Result<Progress, Error> {
        let Some(fast) = &mut self.fast else {
            return Ok(self.sender.send(batch, 0..batch.len(), report));
        };
        let plan = fast.plan(batch);
        let mut done = 0;
        while done < batch.len() {
            let by_fast = plan[done].is_some();
            let same_way = plan[done..batch.len()]
                .iter()
                .take_while(|hop| hop.is_some() == by_fast);
            let range = done..done + same_way.count();
            let end = range.end;
            let progress = if by_fast {
                fast.send(batch, range, &plan, report)
            } else {
                self.sender.send(batch, range, report)
            };
            done = progress.done;
            if done < end {
                self.fast_is_full = by_fast;
                return Ok(progress);
            }
        }
        Ok(Progress {
            done,
            then: Then::Now,
        })
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
            in_vain,
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
        *in_vain = if taken == 0 { *in_vain + 1 } else { 0 };
        if *in_vain >= SUSPICIOUS {
            *in_vain = 0;
            receivers.iter().for_each(Receiver::clear_error);
        }
        if taken < budget {
            time.drained();
        }
        Ok(taken)
    }

    fn readable(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    fn writable(&self) -> BorrowedFd<'_> {
        let fast = self.fast.as_ref().filter(|_| self.fast_is_full);
        fast.map(PacketSender::fd)
            .or_else(|| self.sender.writable())
            .unwrap_or_else(|| self.epoll.as_fd())
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

    fn clear_error(&self) {
        match self {
            Self::Ring(ring) => ring.clear_error(),
            // Receiving reports it, once.
            Self::Socket(_) => {}
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
