//! A TUN device: a network interface whose wire is a file descriptor.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use plumb_wire::{Instant, SendError};

use crate::netlink::Netlink;
use crate::raw::{Failure, classify};
use crate::{Batch, Capability, Clock, Error, Port, Progress, Then, sys};

/// How to create a [`Tun`].
#[derive(Clone, Debug)]
pub struct TunOptions {
    /// Name of the interface; empty for the kernel's choice.
    pub name: String,
    /// IPv4 address of this host on the interface, with its prefix length.
    pub v4: Option<(Ipv4Addr, u8)>,
    /// IPv6 address of this host on the interface, with its prefix length.
    pub v6: Option<(Ipv6Addr, u8)>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Send everything that has no other route there, in each family that has an address.
    pub default_route: bool,
}

impl Default for TunOptions {
    fn default() -> Self {
        Self {
            name: String::new(),
            v4: None,
            v6: None,
            mtu: 1500,
            default_route: true,
        }
    }
}

/// A TUN device, seen from the wire: what the kernel sends over the interface is received here,
/// and what is sent here arrives at the kernel. It ceases to exist when this is dropped.
#[derive(Debug)]
pub struct Tun {
    file: File,
    name: String,
    clock: Clock,
    buffer: Box<[u8]>,
}

/// Where the kernel makes TUN devices.
pub(crate) const DEVICE: &str = "/dev/net/tun";

impl Tun {
    /// Creates the interface in the current network namespace, gives it its addresses and routes,
    /// and brings it up.
    ///
    /// # Errors
    /// If /dev/net/tun is missing or cannot be opened, if CAP_NET_ADMIN is missing in the user
    /// namespace that the network namespace belongs to, or if the name or an address is taken.
    pub fn create(options: &TunOptions) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(DEVICE)
            .map_err(|e| Error::system("open", DEVICE, e))?;
        let flags = libc::IFF_TUN | libc::IFF_NO_PI;
        let name = sys::tun_set_iff(file.as_fd(), &options.name, flags).map_err(|e| {
            let object = format!("the TUN device {:?}", options.name);
            Error::privileged("create", object, Capability::NetAdmin, e)
        })?;
        let failed = |operation: &'static str, e| {
            Error::privileged(operation, name.clone(), Capability::NetAdmin, e)
        };
        let index = sys::interface_index(&name).ok_or_else(|| Error::NoInterface(name.clone()))?;
        let netlink = Netlink::open().map_err(|e| Error::system("open", "a netlink socket", e))?;
        netlink
            .set_up(index, Some(options.mtu))
            .map_err(|e| failed("bring up", e))?;
        let addresses = [
            options.v4.map(|(v4, len)| (IpAddr::V4(v4), len)),
            options.v6.map(|(v6, len)| (IpAddr::V6(v6), len)),
        ];
        for (address, prefix_len) in addresses.into_iter().flatten() {
            netlink
                .add_address(index, address, prefix_len)
                .map_err(|e| failed("add an address to", e))?;
            if options.default_route {
                netlink
                    .add_route(index, address, 0, None)
                    .map_err(|e| failed("add a default route to", e))?;
            }
        }
        Ok(Self::new(file, name))
    }

    /// Takes over a device that another process created and configured.
    pub fn from_fd(fd: OwnedFd, name: String) -> Self {
        Self::new(File::from(fd), name)
    }

    /// Name of the interface.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn new(file: File, name: String) -> Self {
        Self {
            file,
            name,
            clock: Clock::new(),
            buffer: vec![0; 65_536].into_boxed_slice(),
        }
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Port for Tun {
    fn send(
        &mut self,
        batch: &Batch,
        report: &mut dyn FnMut(usize, Result<Instant, SendError>),
    ) -> Result<Progress, Error> {
        for index in 0..batch.len() {
            let at = self.clock.now();
            // The device takes a packet whole or not at all.
            match rustix::io::write(&self.file, batch.packet(index)).map_err(io::Error::from) {
                Ok(_) => report(index, Ok(at)),
                Err(error) => match classify(&error) {
                    Failure::Retry(then) => return Ok(Progress { done: index, then }),
                    Failure::Packet(reason) => report(index, Err(reason)),
                },
            }
        }
        Ok(Progress {
            done: batch.len(),
            then: Then::Now,
        })
    }

    /// A TUN device has no receive times: a packet's is when it is read.
    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(Instant, &[u8]),
    ) -> Result<usize, Error> {
        for taken in 0..budget {
            match self.file.read(&mut self.buffer) {
                Ok(len) => sink(self.clock.now(), &self.buffer[..len]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(taken),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(taken),
                Err(e) => return Err(Error::system("read from", self.name.clone(), e)),
            }
        }
        Ok(budget)
    }

    fn readable(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }

    fn writable(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }

    /// The kernel counts what it could not put into the device's queue as its own drops.
    fn dropped(&mut self) -> u64 {
        0
    }
}
