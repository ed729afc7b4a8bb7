//! Which of this host's addresses the kernel would use towards a destination.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use plumb_wire::Instant;
use plumb_wire::icmp::Family;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::fib::Routes;
use crate::netlink::Netlink;
use crate::{Clock, sys};

/// Why there is no source address for a destination.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// No route leads there.
    #[error("no route to {0}")]
    NoRoute(IpAddr),
    /// This host has no address of the destination's family that it could use.
    #[error("this host has no {family} address to reach {0} from", family = family_name(*.0))]
    NoAddress(IpAddr),
    /// The kernel does not have the destination's family, or it is switched off.
    #[error("this host has no {family}", family = family_name(*.0))]
    NoFamily(IpAddr),
    /// There is no interface of this name.
    #[error("there is no network interface {0:?}")]
    NoInterface(String),
    /// The interface is down.
    #[error("the network interface {0:?} is down")]
    InterfaceDown(String),
    /// Something else.
    #[error("cannot find a source address for {destination}: {source}")]
    System {
        /// The destination.
        destination: IpAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The source address that the kernel chooses for packets to `destination`, through `interface`
/// if one is given. Sends nothing.
///
/// # Errors
/// If there is none; the error says why.
pub fn source_for(destination: IpAddr, interface: Option<&str>) -> Result<IpAddr, RouteError> {
    Sources::new(interface)?.source_for(destination)
}

/// Answers [`source_for`] for many destinations with one socket per family.
#[derive(Debug)]
pub struct Sources {
    interface: Option<(String, u32)>,
    known: Known,
    v4: Option<OwnedFd>,
    v6: Option<OwnedFd>,
}

impl Sources {
    /// Asks about routes through `interface`, or through any.
    ///
    /// # Errors
    /// If there is no such interface.
    pub fn new(interface: Option<&str>) -> Result<Self, RouteError> {
        let interface = match interface {
            Some(name) => {
                let index = sys::interface_index(name);
                let index = index.ok_or_else(|| RouteError::NoInterface(name.to_owned()))?;
                Some((name.to_owned(), index))
            }
            None => None,
        };
        Ok(Self {
            interface,
            known: Known::default(),
            v4: None,
            v6: None,
        })
    }

    /// The source address for `destination`.
    ///
    /// # Errors
    /// If there is none; the error says why.
    pub fn source_for(&mut self, destination: IpAddr) -> Result<IpAddr, RouteError> {
        let route = match (&self.interface, destination) {
            (None, IpAddr::V4(_)) => self.known.route_to(destination),
            _ => None,
        };
        if let Some(source) = route.and_then(|route| self.known.sources.get(&route)) {
            return Ok(*source);
        }
        let source = self.ask(destination)?;
        if let Some(route) = route {
            self.known.sources.insert(route, source);
        }
        Ok(source)
    }

    /// Asks the kernel.
    fn ask(&mut self, destination: IpAddr) -> Result<IpAddr, RouteError> {
        let failed = |error| self.explain(destination, error);
        let (slot, family) = match destination {
            IpAddr::V4(_) => (&self.v4, AddressFamily::INET),
            IpAddr::V6(_) => (&self.v6, AddressFamily::INET6),
        };
        let opened = match slot {
            Some(_) => None,
            None => Some(open(family).map_err(failed)?),
        };
        let socket = opened.as_ref().or(slot.as_ref());
        let found = socket.map(|socket| self.local_address(socket, destination));
        let found = found.unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()));
        let answer = found.map_err(failed);
        if let Some(socket) = opened {
            match destination {
                IpAddr::V4(_) => self.v4 = Some(socket),
                IpAddr::V6(_) => self.v6 = Some(socket),
            }
        }
        match answer? {
            unspecified if unspecified.is_unspecified() => Err(RouteError::NoAddress(destination)),
            source => Ok(source),
        }
    }

    /// Connects a UDP socket, which only looks up the route, and reads the address it got.
    fn local_address(&self, socket: &OwnedFd, destination: IpAddr) -> io::Result<IpAddr> {
        // A connected socket keeps its source address; dissolving the association frees it, and
        // from its interface as well.
        rustix::net::connect_unspec(socket)?;
        if let Some((name, _)) = &self.interface {
            sys::bind_to_interface(socket.as_fd(), name)?;
        }
        // Any port but 0, which some kernels refuse.
        const DISCARD: u16 = 9;
        match destination {
            IpAddr::V4(v4) => rustix::net::connect(socket, &SocketAddr::from((v4, DISCARD)))?,
            IpAddr::V6(v6) => {
                let scope = self.scope(destination);
                let address = core::net::SocketAddrV6::new(v6, DISCARD, 0, scope);
                rustix::net::connect(socket, &address)?;
            }
        }
        let name = rustix::net::getsockname(socket)?;
        match SocketAddr::try_from(name) {
            Ok(address) => Ok(address.ip()),
            Err(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// The scope of a link-local address.
    fn scope(&self, destination: IpAddr) -> u32 {
        match (destination, &self.interface) {
            (IpAddr::V6(v6), Some((_, index))) if v6.is_unicast_link_local() => *index,
            _ => 0,
        }
    }

    fn explain(&self, destination: IpAddr, source: io::Error) -> RouteError {
        match source.raw_os_error() {
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENODEV | libc::ENETDOWN) => {
                match &self.interface {
                    Some((name, _)) if sys::interface_index(name).is_none() => {
                        RouteError::NoInterface(name.clone())
                    }
                    Some((name, _)) if !sys::interface_is_up(name) => {
                        RouteError::InterfaceDown(name.clone())
                    }
                    _ => RouteError::NoRoute(destination),
                }
            }
            Some(libc::EADDRNOTAVAIL) => RouteError::NoAddress(destination),
            Some(libc::EAFNOSUPPORT) => RouteError::NoFamily(destination),
            _ => RouteError::System {
                destination,
                source,
            },
        }
    }
}

/// The source addresses of IPv4 routes. The kernel chooses one per route, whatever the destination
/// behind it; with IPv6 the choice depends on the destination.
#[derive(Debug, Default)]
struct Known {
    asked: u32,
    read_at: Option<Instant>,
    routes: Option<Routes>,
    /// By the length and the bits of the route's prefix.
    sources: BTreeMap<(u8, u128), IpAddr>,
}

impl Known {
    /// Which route leads to a destination. `None` if that cannot be told, or does not pay.
    fn route_to(&mut self, destination: IpAddr) -> Option<(u8, u128)> {
        self.asked = self.asked.saturating_add(1);
        if self.asked < MANY {
            return None;
        }
        let now = Clock::new().now();
        if self.read_at.is_none_or(|at| now.since(at) >= LIFETIME) {
            self.read_at = Some(now);
            self.sources.clear();
            let netlink = Netlink::open();
            let routes = netlink.and_then(|netlink| Routes::read(&netlink, Family::V4));
            self.routes = routes.ok().flatten();
        }
        let found = self.routes.as_ref()?.find(destination)?;
        Some(found.prefix)
    }
}

/// Destinations from which on reading the routing tables costs less than asking about each.
const MANY: u32 = 100;
/// How long what was read counts.
const LIFETIME: Duration = Duration::from_secs(1);

fn open(family: AddressFamily) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    Ok(socket)
}

fn family_name(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_reached_from_loopback() {
        let lo = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(source_for(lo, None).unwrap(), lo);
        let mut sources = Sources::new(None).unwrap();
        for _ in 0..2 * MANY {
            assert_eq!(sources.source_for(lo).unwrap(), lo);
        }
    }

    #[test]
    fn an_interface_that_does_not_exist_is_named() {
        let error = source_for(IpAddr::from([127, 0, 0, 1]), Some("no-such-if0")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no network interface \"no-such-if0\""
        );
    }
}
