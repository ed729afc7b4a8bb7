//! A TUN device: a network interface whose wire is a file descriptor.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use plumb_wire::{Instant, SendError};

use crate::netlink::Netlink;
use crate::wire_end::WireEnd;
use crate::{Batch, Capability, Error, Port, Progress, sys};

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
    wire: WireEnd,
}

impl Tun {
    /// Creates the interface in the current network namespace, gives it its addresses and routes,
    /// and brings it up.
    ///
    /// # Errors
    /// If /dev/net/tun is missing or cannot be opened, if CAP_NET_ADMIN is missing in the user
    /// namespace that the network namespace belongs to, or if the name or an address is taken.
    pub fn create(options: &TunOptions) -> Result<Self, Error> {
        let flags = libc::IFF_TUN | libc::IFF_NO_PI;
        let wire = WireEnd::open(&options.name, flags, |e| {
            let object = format!("the TUN device {:?}", options.name);
            Error::privileged("create", object, Capability::NetAdmin, e)
        })?;
        let name = wire.name();
        let failed = |operation: &'static str, e| {
            Error::privileged(operation, name, Capability::NetAdmin, e)
        };
        let index = sys::interface_index(name).ok_or_else(|| Error::NoInterface(name.into()))?;
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
        Ok(Self { wire })
    }

    /// Takes over a device that another process created and configured.
    pub fn from_fd(fd: OwnedFd, name: String) -> Self {
        let wire = WireEnd::of(File::from(fd), name);
        Self { wire }
    }

    /// Name of the interface.
    pub fn name(&self) -> &str {
        self.wire.name()
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wire.as_fd()
    }
}

impl Port for Tun {
    fn send(
        &mut self,
        batch: &Batch,
        report: &mut dyn FnMut(usize, Result<Instant, SendError>),
    ) -> Result<Progress, Error> {
        self.wire.send(batch, report)
    }

    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(Instant, &[u8]),
    ) -> Result<usize, Error> {
        self.wire.receive(budget, sink)
    }

    fn readable(&self) -> BorrowedFd<'_> {
        self.wire.readable()
    }

    fn writable(&self) -> BorrowedFd<'_> {
        self.wire.writable()
    }

    fn dropped(&mut self) -> u64 {
        self.wire.dropped()
    }
}
