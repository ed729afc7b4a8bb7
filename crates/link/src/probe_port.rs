//! The port towards the real network.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use plumb_wire::{Instant, SendError};
use rustix::event::epoll;

use crate::raw::RawSender;
use crate::ring::Ring;
use crate::{Batch, Capability, Error, KernelTime, Port, Progress, filter, sys};

/// How packets are sent and received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The best that needs no decision: raw sockets.
    #[default]
    Auto,
    /// Raw sockets to send, packet sockets to receive. Needs CAP_NET_RAW.
    Raw,
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
    /// Bytes of memory per family for packets that have arrived and were not taken yet, 2048 per
    /// packet.
    pub receive_buffer: usize,
}

impl Default for ProbePortOptions {
    fn default() -> Self {
        Self {
            mode: Mode::Auto,
            interface: None,
            ipv4: true,
            ipv6: true,
            first_port: 0x8000,
            receive_buffer: 4 << 20,
        }
    }
}

/// Sends probes to the real network and receives what answers them.
#[derive(Debug)]
pub struct ProbePort {
    sender: RawSender,
    rings: Vec<Ring>,
    epoll: OwnedFd,
    time: KernelTime,
    /// The ring to begin with, so that neither starves the other.
    first: usize,
}

impl ProbePort {
    /// Opens the sockets.
    ///
    /// # Errors
    /// If a capability is missing, the interface does not exist, or the kernel refuses otherwise.
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
        let sender = RawSender::open(options.ipv4, options.ipv6, interface)?;
        let index = interface.map_or(0, |(_, index)| index);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|e| Error::system("create", "an epoll instance", e))?;
        let mut rings = Vec::new();
        for (wanted, ethertype, filter) in [
            (
                options.ipv4,
                libc::ETH_P_IP,
                filter::ipv4(options.first_port),
            ),
            (
                options.ipv6,
                libc::ETH_P_IPV6,
                filter::ipv6(options.first_port),
            ),
        ] {
            if !wanted {
                continue;
            }
            let ethertype = u16::try_from(ethertype).unwrap_or(0);
            let ring = Ring::open(ethertype, &filter, index, options.receive_buffer)
                .map_err(|e| Error::privileged("open", "a packet socket", Capability::NetRaw, e))?;
            let data = epoll::EventData::new_u64(0);
            epoll::add(&epoll, ring.fd(), data, epoll::EventFlags::IN)
                .map_err(|e| Error::system("watch", "a packet socket", e))?;
            rings.push(ring);
        }
        Ok(Self {
            sender,
            rings,
            epoll,
            time: KernelTime::new(),
            first: 0,
        })
    }
}

impl Port for ProbePort {
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
            rings, time, first, ..
        } = self;
        time.refresh();
        let mut taken = 0;
        let count = rings.len();
        for turn in 0..count {
            let ring = &mut rings[(*first + turn) % count];
            taken += ring.receive(budget - taken, |wall_ns, packet| {
                sink(time.instant(wall_ns), packet);
            });
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
        self.rings.iter_mut().map(Ring::dropped).sum()
    }
}
