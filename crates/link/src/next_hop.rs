//! Where the kernel would send a packet, as far as that can be known without asking it each time.
//!
//! The routing tables and the neighbour table are read once a second. What is not plain unicast
//! through an Ethernet interface to a neighbour whose address is known has no next hop here: the
//! kernel's own way is the one to take then.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::io;

use plumb_wire::Instant;
use plumb_wire::icmp::Family;

use crate::Error;
use crate::fib::{Routes, address, number};
use crate::netlink::{Netlink, attributes, u32_at};

/// An interface and the Ethernet address of the neighbour that takes the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NextHop {
    pub(crate) interface: u32,
    pub(crate) mac: [u8; 6],
}

/// The next hops of both families.
#[derive(Debug)]
pub(crate) struct NextHops {
    netlink: Netlink,
    /// The only interface that may be used; 0 for all.
    only: u32,
    tables: Tables,
    refresh_at: Instant,
}

/// How long what was read counts.
const LIFETIME: Duration = Duration::from_secs(1);
/// How soon a neighbour that is not known is looked for again.
const PATIENCE: Duration = Duration::from_millis(10);

impl NextHops {
    pub(crate) fn open(only: u32) -> io::Result<Self> {
        Ok(Self {
            netlink: Netlink::open()?,
            only,
            tables: Tables::default(),
            refresh_at: Instant::ZERO,
        })
    }

    /// Reads the tables again if it is time.
    pub(crate) fn refresh(&mut self, now: Instant) {
        if now >= self.refresh_at {
            self.refresh_at = now + LIFETIME;
            self.tables = Tables::read(&self.netlink, self.only).unwrap_or_default();
        }
    }

    /// The next hop of packets to `destination`.
    ///
    /// The first answer for a neighbour after a refresh is `None`: a packet that the kernel sends
    /// makes it check that the neighbour is still there, which it would not do for ours.
    pub(crate) fn find(&mut self, destination: IpAddr, now: Instant) -> Option<NextHop> {
        let (interface, neighbour) = self.tables.route(destination)?;
        let Some(known) = self.tables.neighbours.get_mut(&(interface, neighbour)) else {
            self.refresh_at = self.refresh_at.min(now + PATIENCE);
            return None;
        };
        if !core::mem::replace(&mut known.checked, true) {
            return None;
        }
        Some(NextHop {
            interface,
            mac: known.mac,
        })
    }
}

/// The way of packets to an address, through an Ethernet interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathTo {
    /// Number of the interface that they leave by.
    pub interface: u32,
    /// Whom they are handed to there.
    pub neighbour: IpAddr,
    /// Its Ethernet address, if the kernel knows it.
    pub mac: Option<[u8; 6]>,
}

/// The way that the kernel's tables have to an address; `None` if there is none, or none through
/// Ethernet.
///
/// # Errors
/// If the tables cannot be read.
pub fn path_to(destination: IpAddr) -> Result<Option<PathTo>, Error> {
    let read = || -> io::Result<Tables> { Tables::read(&Netlink::open()?, 0) };
    let tables = read().map_err(|e| Error::system("read", "the routes", e))?;
    Ok(tables.route(destination).map(|(interface, neighbour)| {
        let known = tables.neighbours.get(&(interface, neighbour));
        PathTo {
            interface,
            neighbour,
            mac: known.map(|known| known.mac),
        }
    }))
}

/// What the kernel's tables say.
#[derive(Debug, Default)]
struct Tables {
    v4: Option<Routes>,
    v6: Option<Routes>,
    /// Ethernet interfaces that are up.
    usable: Vec<u32>,
    neighbours: BTreeMap<(u32, IpAddr), Neighbour>,
}

#[derive(Clone, Copy, Debug)]
struct Neighbour {
    mac: [u8; 6],
    /// Whether the kernel has had a packet for it since the last refresh.
    checked: bool,
}

impl Tables {
    fn read(netlink: &Netlink, only: u32) -> io::Result<Self> {
        let mut usable = Vec::new();
        netlink.dump(libc::RTM_GETLINK, LINK_LEN, 0, |link| {
            usable.extend(ethernet(link).filter(|index| only == 0 || *index == only));
        })?;
        let mut tables = Self {
            v4: Routes::read(netlink, Family::V4)?,
            v6: Routes::read(netlink, Family::V6)?,
            usable,
            ..Self::default()
        };
        netlink.dump(libc::RTM_GETNEIGH, NEIGHBOUR_LEN, 0, |entry| {
            if let Some((key, mac)) = neighbour(entry) {
                let checked = false;
                tables.neighbours.insert(key, Neighbour { mac, checked });
            }
        })?;
        Ok(tables)
    }

    /// The interface and the neighbour that packets to `destination` go to.
    fn route(&self, destination: IpAddr) -> Option<(u32, IpAddr)> {
        let routes = match destination {
            IpAddr::V4(_) => self.v4.as_ref(),
            IpAddr::V6(_) => self.v6.as_ref(),
        };
        let found = routes?.find(destination)?;
        let neighbour = found.gateway.unwrap_or(destination);
        self.usable
            .contains(&found.interface)
            .then_some((found.interface, neighbour))
    }
}

const NEIGHBOUR_LEN: usize = 12;
const LINK_LEN: usize = 16;
/// Neighbour states in which the address may be used: reachable, stale, delay, probe, noarp,
/// permanent.
const USABLE_STATES: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80;

/// The index of a link that is up and has Ethernet addresses.
fn ethernet(link: &[u8]) -> Option<u32> {
    const ARPHRD_ETHER: u16 = 1;
    let kind = u16::from_ne_bytes(*link.get(2..)?.first_chunk()?);
    let flags = u32_at(link, 8)?.cast_signed();
    let index = u32_at(link, 4)?;
    link.get(LINK_LEN..)?;
    let up = flags & libc::IFF_UP != 0 && flags & (libc::IFF_NOARP | libc::IFF_LOOPBACK) == 0;
    (kind == ARPHRD_ETHER && up).then_some(index)
}

/// The interface, the address and the Ethernet address of a neighbour that may be used.
fn neighbour(entry: &[u8]) -> Option<((u32, IpAddr), [u8; 6])> {
    let family = match *entry.first()? {
        4.. if entry[0] == number(Family::V6) => Family::V6,
        n if n == number(Family::V4) => Family::V4,
        _ => return None,
    };
    let interface = u32_at(entry, 4)?;
    let state = u16::from_ne_bytes(*entry.get(8..)?.first_chunk()?);
    if state & USABLE_STATES == 0 {
        return None;
    }
    let (mut host, mut mac) = (None, None);
    for (kind, value) in attributes(entry.get(NEIGHBOUR_LEN..)?) {
        match kind {
            libc::NDA_DST => host = address(family, value),
            libc::NDA_LLADDR => mac = <[u8; 6]>::try_from(value).ok(),
            _ => {}
        }
    }
    Some(((interface, host?), mac?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETH: u32 = 7;

    fn message(fixed: [u8; 8], parts: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = fixed.to_vec();
        bytes.extend([0; 4]);
        for (kind, value) in parts {
            let len = u16::try_from(4 + value.len()).unwrap();
            bytes.extend(len.to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(*value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn a_neighbour_is_used_in_states_in_which_its_address_is_known() {
        let entry = |state: u8| {
            let [a, b, c, d] = ETH.to_ne_bytes();
            let mut bytes = message(
                [2, 0, 0, 0, a, b, c, d],
                &[
                    (libc::NDA_DST, &[10, 0, 0, 1]),
                    (libc::NDA_LLADDR, &[1, 2, 3, 4, 5, 6]),
                ],
            );
            bytes[8] = state;
            bytes
        };
        let expected = ((ETH, IpAddr::from([10, 0, 0, 1])), [1, 2, 3, 4, 5, 6]);
        for state in [0x02, 0x04, 0x08, 0x10, 0x40, 0x80] {
            assert_eq!(neighbour(&entry(state)), Some(expected), "{state:#x}");
        }
        for state in [0, 0x01, 0x20] {
            assert_eq!(neighbour(&entry(state)), None, "{state:#x}");
        }
        let padding = 2;
        for len in 0..entry(2).len() - padding {
            assert_eq!(neighbour(&entry(2)[..len]), None);
        }
    }

    #[test]
    fn loopback_has_no_next_hop() {
        let tables = Tables::read(&Netlink::open().unwrap(), 0).unwrap();
        assert_eq!(tables.route(IpAddr::from([127, 0, 0, 1])), None);
    }
}
