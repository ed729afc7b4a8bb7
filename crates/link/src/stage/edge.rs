//! A network device as a link: the kernel's network stack is behind it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use plumb_wire::frame::{Offload, VNET_HEADER_LEN};
use plumb_wire::pcapng::Direction;
use rustix::event::PollFlags;
use rustix::io::Errno;

use super::body::{Body, Kept, Place};
use super::piece_limit::PieceLimit;
use super::wait::{Event, Needs, Tag, Waiting};
use super::{Counters, Link, LinkError, LinkFrame, Meta, Outgoing, Received, Sent};
use crate::netlink::Netlink;
use crate::tap::configure_as;
use crate::{Capability, Clock, Error, Interface, Tap, TapOptions, sys};

/// Longest frame that a device gives: what IP allows behind an Ethernet header with tags.
const MAX_LEN: usize = 65_536 + 64;

/// The end of a private pair that frames are taken from.
const WIRE: &str = "wire";

/// A device whose frames come and go with what is left to do with them, so that large ones stay
/// whole.
#[derive(Debug)]
pub struct Edge {
    fd: OwnedFd,
    name: String,
    clock: Clock,
    counters: Counters,
    /// Of an interface behind a packet socket.
    limit: Option<PieceLimit>,
}

impl Edge {
    /// Creates a TAP device, which exists as long as this does.
    ///
    /// # Errors
    /// As [`Tap::create`].
    pub fn create(options: &TapOptions) -> Result<Self, Error> {
        let options = TapOptions {
            virtio_header: true,
            ..options.clone()
        };
        Self::of_tap(Tap::create(&options)?)
    }

    /// Creates a device in a network that nobody else uses: a TAP device, or where this user may not
    /// have one (/dev/net/tun is root's on some systems), a pair of virtual Ethernet devices, of
    /// which the other one is called `wire`.
    ///
    /// # Errors
    /// As [`Tap::create`], and if the kernel has no virtual Ethernet either.
    pub fn create_private(options: &TapOptions) -> Result<Self, Error> {
        let options = &TapOptions {
            private: true,
            ..options.clone()
        };
        let refused = match Self::create(options) {
            Err(
                error @ Error::System {
                    operation: "open", ..
                },
            ) => error,
            other => return other,
        };
        let Ok(netlink) = Netlink::open() else {
            return Err(refused);
        };
        netlink.add_veth(&options.name, WIRE).map_err(|e| {
            let object = format!("the virtual Ethernet device {:?}", options.name);
            Error::privileged("create", object, Capability::NetAdmin, e)
        })?;
        let wire = TapOptions {
            name: WIRE.to_owned(),
            addresses: Vec::new(),
            private: false,
            ..options.clone()
        };
        for end in [&wire, options] {
            let interface =
                Interface::find(&end.name)?.ok_or_else(|| Error::NoInterface(end.name.clone()))?;
            configure_as(&interface, end)?;
        }
        let mut edge = Self::open(WIRE)?;
        edge.name.clone_from(&options.name);
        Ok(edge)
    }

    /// Opens a device that exists: a TAP device as its wire, any other by a packet socket, so that
    /// what comes in over it is received here, and what is sent here goes out.
    ///
    /// # Errors
    /// If there is no such device, or CAP_NET_RAW is missing.
    pub fn open(name: &str) -> Result<Self, Error> {
        let interface =
            Interface::find(name)?.ok_or_else(|| Error::NoInterface(name.to_owned()))?;
        if interface.kind == "tun" {
            return Self::of_tap(Tap::open(name, true)?);
        }
        let socket = sys::packet_socket(interface.index).map_err(|e| {
            let object = format!("a packet socket on {name:?}");
            Error::privileged("open", object, Capability::NetRaw, e)
        })?;
        Ok(Self {
            limit: Some(PieceLimit::new()),
            ..Self::new(socket, name.to_owned())
        })
    }

    /// Sends all that has no other route over the device, to this neighbour.
    ///
    /// # Errors
    /// If no address of the device makes the neighbour reachable, or CAP_NET_ADMIN is missing.
    pub fn add_default_route(&self, gateway: IpAddr) -> Result<(), Error> {
        let index = sys::interface_index(&self.name)
            .ok_or_else(|| Error::NoInterface(self.name.clone()))?;
        let everything = match gateway {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Netlink::open()
            .and_then(|netlink| netlink.add_route(index, everything, 0, Some(gateway)))
            .map_err(|e| {
                let object = format!("a default route by {gateway}");
                Error::privileged("add", object, Capability::NetAdmin, e)
            })
    }

    /// Name of the interface.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn of_tap(tap: Tap) -> Result<Self, Error> {
        let name = tap.name().to_owned();
        let fd = tap.into_fd();
        // Kernels before 6.2 segment UDP themselves.
        sys::tun_set_offload(fd.as_fd(), true)
            .or_else(|_| sys::tun_set_offload(fd.as_fd(), false))
            .map_err(|e| Error::system("set the offload of", name.clone(), e))?;
        Ok(Self::new(fd, name))
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether the pieces that a frame is to be cut into are not too long for the device.
    fn allows(&mut self, frame: &Outgoing<'_>, len: usize) -> bool {
        let (Some(limit), Some(gso)) = (&mut self.limit, frame.meta.offload.gso) else {
            return true;
        };
        limit.follow((self.fd.as_fd(), &self.name), self.clock.now());
        let allowed = limit.allows(frame.bytes, len, &frame.meta.offload, gso);
        self.counters.refused_frames += u64::from(!allowed);
        allowed
    }

    /// Whether there was something to read.
    fn was_read(&self, read: io::Result<()>) -> Result<bool, LinkError> {
        match read.map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO)) {
            Ok(()) => Ok(true),
            // The last one, where the interface went down; it may come up again.
            Err(Errno::AGAIN | Errno::INTR | Errno::NETDOWN) => Ok(false),
            Err(e) => Err(Error::system("read from", self.name.clone(), e).into()),
        }
    }

    /// What is known of a frame of this length that was read behind `header`; none if that makes no
    /// sense.
    fn received(&mut self, header: &[u8], len: usize) -> Option<Meta> {
        let Ok(offload) = Offload::parse(header) else {
            self.counters.refused_frames += 1;
            return None;
        };
        self.counters.receive(len);
        Some(Meta {
            at_ns: self.clock.wall_ns(self.clock.now()),
            direction: Direction::Unknown,
            mark: 0,
            offload,
        })
    }

    /// What became of a frame that was written.
    const fn sent(&mut self, wrote: Result<(), Errno>, len: usize) -> Sent {
        match wrote {
            Ok(()) => {
                self.counters.send(len);
                Sent::Taken
            }
            Err(Errno::AGAIN | Errno::INTR) => Sent::Full,
            Err(Errno::BADFD | Errno::NODEV | Errno::NXIO) => Sent::Closed,
            // Too short, too long, left work that makes no sense, the interface is down: it is this
            // frame's fault, or passes.
            Err(_) => {
                self.counters.refused_frames += 1;
                Sent::Refused
            }
        }
    }

    /// A device that is open, with a header before each frame and without waiting.
    pub(super) fn new(fd: OwnedFd, name: String) -> Self {
        Self {
            fd,
            name,
            clock: Clock::new(),
            counters: Counters::default(),
            limit: None,
        }
    }
}

impl Link for Edge {
    fn receive(&mut self, frame: &mut LinkFrame) -> Result<Received, LinkError> {
        loop {
            let mut header = [0; VNET_HEADER_LEN];
            let read = sys::read_frame(self.fd.as_fd(), &mut header, &mut frame.bytes, MAX_LEN);
            if !self.was_read(read)? {
                return Ok(Received::Nothing);
            }
            let Some(meta) = self.received(&header, frame.bytes.len()) else {
                continue;
            };
            frame.meta = meta;
            frame.original_len = 0;
            frame.comment.clear();
            return Ok(Received::Frame);
        }
    }

    fn pass_on(&mut self, to: &mut dyn Link) -> Result<Option<Received>, LinkError> {
        loop {
            let Some(mut room) = to.room(MAX_LEN) else {
                return Ok(None);
            };
            let mut header = [0; VNET_HEADER_LEN];
            let mut len = 0;
            let read = room.read_frame(&mut header, self.fd.as_fd());
            if !self.was_read(read.map(|read| len = read))? {
                return Ok(Some(Received::Nothing));
            }
            let Some(meta) = self.received(&header, len) else {
                continue;
            };
            let direction = Direction::Outbound;
            let wake = room.send(&Meta { direction, ..meta }, len);
            to.was_put(len, wake);
            return Ok(Some(Received::Frame));
        }
    }

    fn send(&mut self, frame: Outgoing<'_>) -> Result<Sent, LinkError> {
        if !self.allows(&frame, frame.bytes.len()) {
            return Ok(Sent::Refused);
        }
        let mut header = [0; VNET_HEADER_LEN];
        frame.meta.offload.emit(&mut header);
        // A device takes a frame whole or not at all.
        let wrote = rustix::io::writev(
            &self.fd,
            &[IoSlice::new(&header), IoSlice::new(frame.bytes)],
        );
        Ok(self.sent(wrote.map(drop), frame.bytes.len()))
    }

    fn takes_bodies(&self) -> Option<Place> {
        Some(Place::Ring)
    }

    fn send_with_body(
        &mut self,
        frame: Outgoing<'_>,
        body: &mut Option<Body>,
    ) -> Result<Sent, LinkError> {
        let Some(Body(Kept::Lent(lent))) = body else {
            return Ok(Sent::Full);
        };
        let len = frame.bytes.len() + lent.len();
        if !self.allows(&frame, len) {
            return Ok(Sent::Refused);
        }
        let mut header = [0; VNET_HEADER_LEN];
        frame.meta.offload.emit(&mut header);
        let wrote = lent
            .write_behind(&header, frame.bytes, self.fd.as_fd())
            .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO));
        let sent = self.sent(wrote, len);
        if sent != Sent::Full {
            *body = None;
        }
        Ok(sent)
    }

    fn flush(&mut self) -> Result<(), LinkError> {
        Ok(())
    }

    fn takes_offload(&self) -> bool {
        true
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn describe(&self) -> String {
        self.name.clone()
    }

    fn prepare(&mut self, _: Needs) -> Result<bool, LinkError> {
        Ok(false)
    }

    fn watch<'a>(&'a self, needs: Needs, waiting: &mut Waiting<'a>) {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, needs.receive);
        flags.set(PollFlags::OUT, needs.send);
        if !flags.is_empty() {
            waiting.add(Tag::Device, self.fd.as_fd(), flags);
        }
    }

    fn attend(&mut self, _: Event) -> Result<(), LinkError> {
        Ok(())
    }

    fn look_after(&mut self) -> Result<(), LinkError> {
        Ok(())
    }
}
