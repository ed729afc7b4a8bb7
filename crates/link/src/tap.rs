//! A TAP device: an Ethernet interface whose wire is a file descriptor.

use core::net::IpAddr;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use plumb_wire::{Instant, SendError};

use crate::netlink::{LinkChange, Netlink};
use crate::wire_end::WireEnd;
use crate::{Batch, Capability, Error, Interface, Port, Progress, sys};

/// How to create a [`Tap`].
#[derive(Clone, Debug)]
pub struct TapOptions {
    /// Name of the interface; `%d` in it becomes the first free number, and an empty name is the
    /// kernel's choice.
    pub name: String,
    /// Largest packet in bytes, Ethernet header not counted.
    pub mtu: u32,
    /// Before each frame there is a virtio-net header (<linux/virtio_net.h>), of 10 bytes unless
    /// who takes the descriptor over says otherwise. A [`Port`] has none.
    pub virtio_header: bool,
    /// Name of the bridge that it becomes a port of.
    pub bridge: Option<String>,
    /// Frames that may wait for the reader of the descriptor; more are lost.
    pub queue_len: u32,
    /// Addresses of this host on it, with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// It is in a network of its own ([`enter`](crate::namespace::enter)), where commands may give it
    /// IPv6 addresses, and whose first process sees to it that no router's advice is taken.
    pub private: bool,
}

impl Default for TapOptions {
    fn default() -> Self {
        Self {
            name: String::new(),
            mtu: 1500,
            virtio_header: true,
            bridge: None,
            queue_len: 1000,
            addresses: Vec::new(),
            private: false,
        }
    }
}

/// A TAP device, seen from the wire: frames that the kernel sends over the interface are received
/// here, and what is sent here arrives at the kernel.
///
/// One that [`create`](Self::create) made ceases to exist when the last descriptor of it is closed,
/// and with it addresses, routes and the place in a bridge. As a [`Port`] it carries whole frames.
#[derive(Debug)]
pub struct Tap {
    wire: WireEnd,
}

impl Tap {
    /// Creates the interface in the current network namespace and brings it up. Unless it is
    /// private, the kernel speaks IPv6 on it only if it gets an IPv6 address here: it sends nothing
    /// of its own accord, and takes no advice from a router behind it.
    ///
    /// # Errors
    /// If /dev/net/tun is missing or cannot be opened, if CAP_NET_ADMIN is missing in the user
    /// namespace that the network namespace belongs to, if the name is taken, or if there is no
    /// such bridge.
    pub fn create(options: &TapOptions) -> Result<Self, Error> {
        let what = || match options.name.as_str() {
            "" => "a TAP device".to_owned(),
            name => format!("the TAP device {name:?}"),
        };
        // With a name that is there, the kernel would give out a device that somebody set up.
        if sys::interface_index(&options.name).is_some() {
            return Err(Error::system("create", what(), ErrorKind::AlreadyExists));
        }
        let tap = Self::attach("create", &options.name, options.virtio_header, what)?;
        tap.configure(options)?;
        Ok(tap)
    }

    /// Opens a device that exists, as it is, and brings it up if it is down.
    ///
    /// # Errors
    /// If there is none of this name, if it is no TAP device, if it belongs to another user and
    /// CAP_NET_ADMIN is missing, or if another process has it open.
    pub fn open(name: &str, virtio_header: bool) -> Result<Self, Error> {
        let found = Interface::find(name)?.ok_or_else(|| Error::NoInterface(name.to_owned()))?;
        let what = || format!("the TAP device {name:?}");
        let tap = Self::attach("open", name, virtio_header, what)?;
        if !found.is_up {
            let netlink =
                Netlink::open().map_err(|e| Error::system("open", "a netlink socket", e))?;
            netlink
                .set_up(found.index, None)
                .map_err(|e| Error::privileged("bring up", what(), Capability::NetAdmin, e))?;
        }
        Ok(tap)
    }

    /// Name of the interface.
    pub fn name(&self) -> &str {
        self.wire.name()
    }

    /// What the kernel says of the interface.
    ///
    /// # Errors
    /// If it says nothing, or the interface was removed.
    pub fn interface(&self) -> Result<Interface, Error> {
        Interface::find(self.name())?.ok_or_else(|| Error::NoInterface(self.name().into()))
    }

    /// The descriptor, for whoever is to be at the wire's end.
    pub fn into_fd(self) -> OwnedFd {
        self.wire.into_fd()
    }

    fn attach(
        operation: &'static str,
        name: &str,
        virtio_header: bool,
        what: impl FnOnce() -> String,
    ) -> Result<Self, Error> {
        let mut flags = libc::IFF_TAP | libc::IFF_NO_PI;
        if virtio_header {
            flags |= libc::IFF_VNET_HDR;
        }
        let refused = |e| Error::privileged(operation, what(), Capability::NetAdmin, e);
        let wire = WireEnd::open(name, flags, refused)?;
        Ok(Self { wire })
    }

    fn configure(&self, options: &TapOptions) -> Result<(), Error> {
        configure_as(&self.interface()?, options)
    }
}

/// Sets an interface up as the options say.
pub(crate) fn configure_as(now: &Interface, options: &TapOptions) -> Result<(), Error> {
    let netlink = Netlink::open().map_err(|e| Error::system("open", "a netlink socket", e))?;
    let no_bridge = |name: &String| Error::NoInterface(name.clone());
    let bridge = options
        .bridge
        .as_ref()
        .map(|name| sys::interface_index(name).ok_or_else(|| no_bridge(name)))
        .transpose()?;
    let wanted = Interface {
        mtu: options.mtu,
        queue_len: options.queue_len,
        bridge,
        ..now.clone()
    };
    if options.private {
        let _ = netlink.generate_no_addresses(now.index);
    } else {
        quieten(&netlink, now.index, &now.name, &options.addresses);
    }
    configure(&netlink, now, &wanted, &options.addresses)
}

/// What a device was like, for the case that a program which takes only a name is to have it.
///
/// A device that was made here vanishes when its last descriptor is closed, and one descriptor at a
/// time is all it has. So the descriptor is closed, the program makes the device anew under its
/// name, and [`restore`](Self::restore) makes it what it was before anything is sent.
#[derive(Clone, Debug)]
pub struct Handover {
    before: Interface,
    addresses: Vec<(IpAddr, u8)>,
}

impl Handover {
    /// Takes note of what the device of this name is like.
    ///
    /// # Errors
    /// If there is none.
    pub fn of(name: &str) -> Result<Self, Error> {
        let before = Interface::find(name)?.ok_or_else(|| Error::NoInterface(name.to_owned()))?;
        let addresses = before.addresses()?;
        Ok(Self { before, addresses })
    }

    /// Gives the device that has the name now MTU, queue length, bridge and addresses of the one
    /// before, and brings it up. If it is still the one before, nothing happens.
    ///
    /// # Errors
    /// If there is none, or CAP_NET_ADMIN is missing.
    pub fn restore(&self) -> Result<(), Error> {
        let name = &self.before.name;
        let now = Interface::find(name)?.ok_or_else(|| Error::NoInterface(name.clone()))?;
        if now.index == self.before.index {
            return Ok(());
        }
        let netlink = Netlink::open().map_err(|e| Error::system("open", "a netlink socket", e))?;
        quieten(&netlink, now.index, &now.name, &self.addresses);
        configure(&netlink, &now, &self.before, &self.addresses)
    }
}

/// Makes an interface like `wanted`, with these addresses, and brings it up.
fn configure(
    netlink: &Netlink,
    now: &Interface,
    wanted: &Interface,
    addresses: &[(IpAddr, u8)],
) -> Result<(), Error> {
    let failed = |operation: &'static str, e| {
        Error::privileged(operation, now.name.clone(), Capability::NetAdmin, e)
    };
    let change = LinkChange {
        mtu: Some(wanted.mtu),
        queue_len: Some(wanted.queue_len),
        bridge: wanted.bridge,
    };
    netlink
        .change_link(now.index, &change)
        .map_err(|e| failed("bring up", e))?;
    for (address, prefix_len) in addresses {
        netlink
            .add_address(now.index, *address, *prefix_len)
            .map_err(|e| failed("add an address to", e))?;
    }
    Ok(())
}

/// Makes a bridge in the current network namespace, up, without IPv6 of its own. It stays until
/// [`remove_bridge`] or the end of the namespace.
///
/// # Errors
/// If CAP_NET_ADMIN is missing, the name is taken, or the kernel has no bridges.
pub fn create_bridge(name: &str) -> Result<(), Error> {
    let failed = |operation: &'static str, e| {
        let object = format!("the bridge {name:?}");
        Error::privileged(operation, object, Capability::NetAdmin, e)
    };
    let netlink = Netlink::open().map_err(|e| Error::system("open", "a netlink socket", e))?;
    netlink.add_bridge(name).map_err(|e| failed("create", e))?;
    let index = sys::interface_index(name).ok_or_else(|| Error::NoInterface(name.to_owned()))?;
    quieten(&netlink, index, name, &[]);
    netlink
        .set_up(index, None)
        .map_err(|e| failed("bring up", e))
}

/// Removes a bridge. Its ports stay.
///
/// # Errors
/// If there is none of this name, or CAP_NET_ADMIN is missing.
pub fn remove_bridge(name: &str) -> Result<(), Error> {
    let index = sys::interface_index(name).ok_or_else(|| Error::NoInterface(name.to_owned()))?;
    Netlink::open()
        .and_then(|netlink| netlink.remove_link(index))
        .map_err(|e| Error::privileged("remove", name, Capability::NetAdmin, e))
}

/// Keeps the kernel from speaking, or believing, IPv6 on an interface that has no address of it.
///
/// Neither step can always be taken (kernels without IPv6, containers whose /proc/sys cannot be
/// written), and where both fail, router solicitations and the like are on the wire: a nuisance.
fn quieten(netlink: &Netlink, index: u32, name: &str, addresses: &[(IpAddr, u8)]) {
    let _ = netlink.generate_no_addresses(index);
    let (variable, value) = if addresses.iter().any(|(address, _)| address.is_ipv6()) {
        ("accept_ra", "0")
    } else {
        ("disable_ipv6", "1")
    };
    let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/{variable}"), value);
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wire.as_fd()
    }
}

/// Carries whole Ethernet frames, without check sequence. The device must have no virtio header.
impl Port for Tap {
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
