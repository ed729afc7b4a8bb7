//! Probing without any privilege, through sockets that every user may have.
//!
//! Echo requests go through ICMP sockets (icmp(7), `net.ipv4.ping_group_range`), one per flow,
//! bound to the flow's identifier; UDP probes go through UDP sockets bound to the flow's port. The
//! kernel writes IP header and checksum. It sums the same bytes as the engine did, so the word by
//! which the engine keeps a flow's checksum constant, or gives each UDP probe its own, does so
//! here too: on the wire, these are Paris probes. ICMP errors come out of the sockets' error
//! queues, extensions (RFC 4884) included, and are made IP packets again for the engine.

mod rebuild;
mod sent;
mod socket;
mod table;

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use plumb_wire::icmp::Family;
use plumb_wire::packet::Packet;
use plumb_wire::{Checksum, Instant, SendError, icmp, protocol, udp};
use rustix::event::epoll;

use crate::message::{self, Outgoing};
use crate::raw::{Failure, classify};
use crate::{Batch, Clock, Error, KernelTime, Progress, Then, sys};
use socket::{Flow, Kind, Socket};
use table::{Table, Vacancy};

/// What this way of probing does not have, a line each.
pub(crate) const LOSSES: &[&str] = &[
    "TCP probes",
    "quoted TTLs (implicit MPLS tunnels show only by the detours of their replies)",
    "IP identifications of replies",
    "signs of NAT",
    "routers that quote an ICMP sequence number of their own",
    "several UDP probes of a path at once (routers that quote 28 bytes do not say which they mean)",
    "a chosen IPv6 flow label (the kernel's is constant for a flow)",
    "the chosen ICMP identifier or UDP port where another program has it",
    "the IP headers of received packets in a packet capture (they are rebuilt)",
    "high rates (each flow takes a socket and each packet a system call)",
];

/// Sends probes through sockets without privilege, and receives what answers them.
#[derive(Debug)]
pub(crate) struct Unprivileged {
    sockets: Table<Flow, Socket>,
    epoll: OwnedFd,
    interface: Option<(String, u32)>,
    clock: Clock,
    time: KernelTime,
    delivered: Box<[u8]>,
    rebuilt: Box<[u8]>,
    /// Of sockets that were closed.
    dropped: u64,
}

/// Longest datagram or quote that is taken whole.
const LONGEST: usize = 2048;
/// Sockets whose news are taken in one call.
const READY: usize = 64;
/// Least time for which a socket stays open after its last probe, so that the reply finds it.
const OPEN_FOR: Duration = Duration::from_secs(1);
/// How long to wait when a socket buffer or a queue of the device is full.
const CONGESTED: Duration = Duration::from_micros(100);
/// Most time until a socket is looked for again when all are in use.
const CROWDED: Duration = Duration::from_millis(10);
/// Times that sending is tried. An ICMP error that a socket has not delivered yet fails the next
/// call on it, whatever that is.
const ATTEMPTS: usize = 4;

impl Unprivileged {
    /// Checks that this process may have ICMP sockets. Those that carry probes come with the
    /// flows. A family that the kernel does not have is left out, if there is another.
    pub(crate) fn open(
        ipv4: bool,
        ipv6: bool,
        interface: Option<(&str, u32)>,
    ) -> Result<Self, Error> {
        if ipv4 {
            socket::try_icmp(Family::V4)?;
        }
        if ipv6 {
            match socket::try_icmp(Family::V6) {
                Err(Error::System { source, .. })
                    if ipv4 && source.raw_os_error() == Some(libc::EAFNOSUPPORT) => {}
                other => other?,
            }
        }
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|e| Error::system("create", "an epoll instance", e))?;
        Ok(Self {
            sockets: Table::new(most_sockets()),
            epoll,
            interface: interface.map(|(name, index)| (name.to_owned(), index)),
            clock: Clock::new(),
            time: KernelTime::new(),
            delivered: vec![0; LONGEST].into_boxed_slice(),
            rebuilt: vec![0; LONGEST + rebuild::HEADERS].into_boxed_slice(),
            dropped: 0,
        })
    }

    /// Flows that can be under way at once.
    pub(crate) const fn flows(&self) -> usize {
        self.sockets.capacity()
    }

    pub(crate) fn readable(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// As [`Port::send`](crate::Port::send).
    pub(crate) fn send(
        &mut self,
        batch: &Batch,
        report: &mut dyn FnMut(usize, Result<Instant, SendError>),
    ) -> Progress {
        for index in 0..batch.len() {
            let result = match Probe::parse(batch.packet(index)) {
                Ok(probe) => self.send_probe(&probe),
                Err(error) => Err(Failure::Packet(error)),
            };
            match result {
                Ok(at) => report(index, Ok(at)),
                Err(Failure::Packet(error)) => report(index, Err(error)),
                Err(Failure::Retry(then)) => {
                    // One of many sockets is full, and none is known to poll that has room.
                    let then = match then {
                        Then::Writable => Then::After(CONGESTED),
                        Then::Now | Then::After(_) => then,
                    };
                    return Progress { done: index, then };
                }
            }
        }
        Progress {
            done: batch.len(),
            then: Then::Now,
        }
    }

    fn send_probe(&mut self, probe: &Probe<'_>) -> Result<Instant, Failure> {
        let slot = match self.sockets.find(&probe.flow) {
            Some(slot) => slot,
            None => self.open_flow(probe.flow)?,
        };
        let scope = match (probe.dst, &self.interface) {
            (IpAddr::V6(v6), Some((_, index))) if v6.is_unicast_link_local() => *index,
            _ => 0,
        };
        let now = self.clock.now();
        let Some(socket) = self.sockets.touch(slot, now) else {
            return Err(Failure::Packet(SendError::Other));
        };
        let mut to = SocketAddr::new(probe.dst, probe.dst_port);
        if let SocketAddr::V6(v6) = &mut to {
            v6.set_scope_id(scope);
        }
        let scratch = &mut self.delivered[..probe.payload.len()];
        scratch.copy_from_slice(probe.payload);
        // Another identifier or port than the flow's would change the checksum.
        let word = scratch.get_mut(probe.word_at..probe.word_at + 2);
        let mut sent_word = 0;
        if let Some(word) = word {
            sent_word = u16::from_be_bytes([word[0], word[1]]);
            if socket.ident != probe.flow.number {
                let sum = Checksum::new().word(sent_word).word(probe.flow.number);
                sent_word = sum.word(!socket.ident).fold();
                word.copy_from_slice(&sent_word.to_be_bytes());
            }
        }
        let datagram = Outgoing {
            to,
            ttl: probe.ttl,
            tos: probe.tos,
            payload: scratch,
        };
        let mut result = Ok(());
        for _ in 0..ATTEMPTS {
            result = message::send(socket.fd(), &datagram);
            match &result {
                Err(e) if e.kind() != io::ErrorKind::WouldBlock => {}
                _ => break,
            }
        }
        result.map_err(|e| classify(&e))?;
        if probe.flow.kind == Kind::Udp {
            let len = u16::try_from(probe.payload.len() + udp::HEADER_LEN).unwrap_or(u16::MAX);
            let sent = sent::Probe::new(to, now, sent_word, probe.name, len);
            socket.sent.push(sent);
        }
        Ok(now)
    }

    /// Opens the socket of a flow, in the place of the one that was not used for the longest time.
    fn open_flow(&mut self, flow: Flow) -> Result<usize, Failure> {
        let now = self.clock.now();
        let slot = match self.sockets.vacancy() {
            Vacancy::Free => None,
            Vacancy::Oldest { slot, used } if now.since(used) >= OPEN_FOR => Some(slot),
            Vacancy::Oldest { used, .. } => {
                let pause = (used + OPEN_FOR).since(now).min(CROWDED);
                return Err(Failure::Retry(Then::After(pause)));
            }
        };
        if let Some(closed) = slot.and_then(|slot| self.sockets.remove(slot)) {
            self.dropped += closed.dropped();
        }
        let interface = self.interface.as_ref().map(|(name, _)| name.as_str());
        let socket = Socket::open(flow, interface).map_err(|e| match classify(&e) {
            // Out of descriptors or memory: not this packet's fault, and it may pass.
            Failure::Packet(SendError::Other) | Failure::Retry(_) => {
                Failure::Retry(Then::After(CROWDED))
            }
            other @ Failure::Packet(_) => other,
        })?;
        let slot = self.sockets.insert(flow, socket, now);
        let data = epoll::EventData::new_u64(slot.try_into().unwrap_or(u64::MAX));
        if let Some(socket) = self.sockets.get_mut(slot) {
            let added = epoll::add(&self.epoll, socket.fd(), data, epoll::EventFlags::IN);
            if added.is_err() {
                self.sockets.remove(slot);
                return Err(Failure::Retry(Then::After(CROWDED)));
            }
        }
        Ok(slot)
    }

    /// As [`Port::receive`](crate::Port::receive).
    pub(crate) fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(Instant, &[u8]),
    ) -> Result<usize, Error> {
        self.time.refresh();
        let mut taken = 0;
        while taken < budget {
            let mut ready = [const {
                epoll::Event {
                    flags: epoll::EventFlags::empty(),
                    data: epoll::EventData::new_u64(0),
                }
            }; READY];
            let at_once = rustix::event::Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            let ready = match epoll::wait(&self.epoll, &mut ready, Some(&at_once)) {
                Ok(count) => &ready[..count],
                Err(rustix::io::Errno::INTR) => return Ok(taken),
                Err(e) => return Err(Error::system("wait for", "packets", e)),
            };
            if ready.is_empty() {
                self.time.drained();
                break;
            }
            for event in ready {
                let slot = usize::try_from({ event.data }.u64()).unwrap_or(usize::MAX);
                // The struct is packed.
                let flags = event.flags;
                let errors = flags.contains(epoll::EventFlags::ERR);
                taken += self.drain(slot, errors, budget - taken, sink);
            }
        }
        Ok(taken)
    }

    /// Takes up to `budget` datagrams and errors from a socket.
    fn drain(
        &mut self,
        slot: usize,
        errors: bool,
        budget: usize,
        sink: &mut dyn FnMut(Instant, &[u8]),
    ) -> usize {
        let Some((flow, socket)) = self.sockets.entry(slot) else {
            return 0;
        };
        let queues = if errors {
            &[libc::MSG_ERRQUEUE, 0][..]
        } else {
            &[0]
        };
        let mut taken = 0;
        for queue in queues {
            while taken < budget {
                let incoming = match message::receive(socket.fd(), &mut self.delivered, *queue) {
                    Ok(incoming) => incoming,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    // An ICMP error that came meanwhile; the error queue has it.
                    Err(_) => {
                        taken += 1;
                        continue;
                    }
                };
                taken += 1;
                let at = match incoming.wall_ns {
                    Some(wall_ns) => self.time.instant(wall_ns),
                    None => self.clock.now(),
                };
                let bytes = &self.delivered[..incoming.len.min(LONGEST)];
                if let Some(len) = socket.rebuild(flow, &incoming, bytes, at, &mut self.rebuilt) {
                    sink(at, &self.rebuilt[..len]);
                }
            }
        }
        if errors {
            // Without this an error that found no room in the queue is announced for ever.
            let _ = sys::option::<libc::c_int>(socket.fd(), libc::SOL_SOCKET, libc::SO_ERROR);
        }
        taken
    }

    /// Replies that found a socket's buffer full.
    pub(crate) fn dropped(&self) -> u64 {
        let open = self.sockets.values().map(Socket::dropped);
        self.dropped + open.sum::<u64>()
    }
}

/// What a packet becomes: a socket and a datagram.
struct Probe<'a> {
    flow: Flow,
    dst: IpAddr,
    dst_port: u16,
    ttl: u8,
    tos: u8,
    payload: &'a [u8],
    /// Where in `payload` the word is that makes the checksum come out.
    word_at: usize,
    /// UDP checksum.
    name: u16,
}

impl<'a> Probe<'a> {
    /// Reads an engine's packet.
    fn parse(bytes: &'a [u8]) -> Result<Self, SendError> {
        let packet = Packet::parse(bytes).map_err(|_| SendError::Other)?;
        let word = |at: usize| {
            let word = packet.transport.get(at..)?.first_chunk()?;
            Some(u16::from_be_bytes(*word))
        };
        let read = |kind, number_at, payload, word_at, dst_port| {
            Some(Self {
                flow: Flow {
                    kind,
                    number: word(number_at)?,
                    src: packet.src,
                },
                dst: packet.dst,
                dst_port,
                ttl: packet.ttl,
                tos: packet.tos,
                payload,
                word_at,
                name: word(6)?,
            })
        };
        let probe = match packet.protocol {
            protocol::ICMP | protocol::ICMPV6 => {
                // The kernel wants the ICMP header and writes identifier and checksum anew.
                let payload = packet.transport;
                read(Kind::Icmp, 4, payload, icmp::HEADER_LEN, 0)
            }
            protocol::UDP => match packet.transport.split_at_checked(udp::HEADER_LEN) {
                Some((_, payload)) => read(Kind::Udp, 0, payload, 0, word(2).unwrap_or(0)),
                None => None,
            },
            _ => return Err(SendError::Forbidden),
        };
        // Longer than any engine's packet is.
        probe
            .filter(|probe| probe.payload.len() <= LONGEST)
            .ok_or(SendError::Other)
    }
}

/// Sockets that may be open: at most half of the files that this process may open, so that the
/// rest of it has some too.
fn most_sockets() -> usize {
    const MOST: usize = 1024;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let half = limit.and_then(|n| usize::try_from(n / 2).ok());
    half.unwrap_or(MOST).clamp(1, MOST)
}
