//! What there is to know of a network interface.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::io;

use crate::netlink::{IFLA_INFO_KIND, Netlink, attributes, u32_at};
use crate::{Capability, Error};

/// A network interface of the current network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its number in its namespace.
    pub index: u32,
    /// What the kernel calls its kind: "tun" (TUN and TAP), "bridge", "veth"; empty for hardware.
    pub kind: String,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Packets that may wait to be sent.
    pub queue_len: u32,
    /// It is administratively up.
    pub is_up: bool,
    /// Number of the bridge that it is a port of.
    pub bridge: Option<u32>,
    /// Its Ethernet address, if it has one.
    pub mac: Option<[u8; 6]>,
}

impl Interface {
    /// The interface of this name; `None` if there is none.
    ///
    /// # Errors
    /// If the kernel does not list its interfaces.
    pub fn find(name: &str) -> Result<Option<Self>, Error> {
        let all = Self::list()?;
        Ok(all.into_iter().find(|interface| interface.name == name))
    }

    /// All interfaces of the current network namespace.
    ///
    /// # Errors
    /// If the kernel does not list them.
    pub fn list() -> Result<Vec<Self>, Error> {
        let failed = |e: io::Error| Error::system("list", "the network interfaces", e);
        let netlink = Netlink::open().map_err(failed)?;
        let mut found = Vec::new();
        netlink
            .dump(libc::RTM_GETLINK, HEADER_LEN, 0, |message| {
                found.extend(Self::parse(message));
            })
            .map_err(failed)?;
        Ok(found)
    }

    /// Its addresses with their prefix lengths, IPv6 ones that it made itself left out.
    ///
    /// # Errors
    /// If the kernel does not list them.
    pub fn addresses(&self) -> Result<Vec<(IpAddr, u8)>, Error> {
        let failed = |e: io::Error| Error::system("list the addresses of", self.name.clone(), e);
        let netlink = Netlink::open().map_err(failed)?;
        let mut found = Vec::new();
        netlink
            .dump(libc::RTM_GETADDR, ADDRESS_HEADER_LEN, 0, |message| {
                if u32_at(message, 4) == Some(self.index) {
                    found.extend(address(message));
                }
            })
            .map_err(failed)?;
        Ok(found)
    }

    /// Gives it an address, usable at once.
    ///
    /// # Errors
    /// If CAP_NET_ADMIN is missing, or the address is there already.
    pub fn add_address(&self, address: IpAddr, prefix_len: u8) -> Result<(), Error> {
        Netlink::open()
            .and_then(|netlink| netlink.add_address(self.index, address, prefix_len))
            .map_err(|e| {
                Error::privileged(
                    "add an address to",
                    self.name.clone(),
                    Capability::NetAdmin,
                    e,
                )
            })
    }

    /// Reads an entry of the kernel's list (rtnetlink(7)).
    fn parse(message: &[u8]) -> Option<Self> {
        let mut interface = Self {
            name: String::new(),
            index: u32_at(message, 4)?,
            kind: String::new(),
            mtu: 0,
            queue_len: 0,
            is_up: u32_at(message, 8)? & libc::IFF_UP.cast_unsigned() != 0,
            bridge: None,
            mac: None,
        };
        for (kind, payload) in attributes(message.get(HEADER_LEN..)?) {
            match kind {
                libc::IFLA_IFNAME => interface.name = text(payload),
                libc::IFLA_MTU => interface.mtu = u32_at(payload, 0)?,
                libc::IFLA_TXQLEN => interface.queue_len = u32_at(payload, 0)?,
                libc::IFLA_ADDRESS => interface.mac = payload.try_into().ok(),
                libc::IFLA_MASTER => interface.bridge = u32_at(payload, 0),
                libc::IFLA_LINKINFO => {
                    let found = attributes(payload).find(|(kind, _)| *kind == IFLA_INFO_KIND);
                    interface.kind = found.map(|(_, name)| text(name)).unwrap_or_default();
                }
                _ => {}
            }
        }
        Some(interface)
    }
}

/// An Ethernet address that a bridge has learned, or was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearnedAddress {
    /// The address.
    pub mac: [u8; 6],
    /// Number of the port behind which it is.
    pub port: u32,
}

impl LearnedAddress {
    /// All that the bridges of the current network namespace know, the ports' own left out.
    ///
    /// # Errors
    /// If the kernel does not list them.
    pub fn list() -> Result<Vec<Self>, Error> {
        let failed = |e: io::Error| Error::system("list", "what bridges have learned", e);
        let netlink = Netlink::open().map_err(failed)?;
        let mut found = Vec::new();
        let sink = |message: &[u8]| found.extend(Self::parse(message));
        netlink
            .dump(libc::RTM_GETNEIGH, NEIGHBOUR_HEADER_LEN, AF_BRIDGE, sink)
            .map_err(failed)?;
        Ok(found)
    }

    /// Reads an entry of the kernel's list (`struct ndmsg`, rtnetlink(7)).
    fn parse(message: &[u8]) -> Option<Self> {
        let state = u16::from_ne_bytes(*message.get(8..)?.first_chunk()?);
        if *message.first()? != AF_BRIDGE || state & NUD_PERMANENT != 0 {
            return None;
        }
        let mut all = attributes(message.get(NEIGHBOUR_HEADER_LEN..)?);
        let (_, mac) = all.find(|(kind, _)| *kind == NDA_LLADDR)?;
        Some(Self {
            mac: mac.try_into().ok()?,
            port: u32_at(message, 4)?,
        })
    }
}

const AF_BRIDGE: u8 = 7;
const NUD_PERMANENT: u16 = 0x80;
const NDA_LLADDR: u16 = 2;
/// Length of `struct ndmsg`.
const NEIGHBOUR_HEADER_LEN: usize = 12;
/// Length of `struct ifinfomsg`.
const HEADER_LEN: usize = 16;
/// Length of `struct ifaddrmsg`.
const ADDRESS_HEADER_LEN: usize = 8;
/// Scope of an address that is valid on its link only.
const SCOPE_LINK: u8 = 253;

/// A string that ends at its terminating zero.
fn text(payload: &[u8]) -> String {
    let bytes = payload.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

/// Reads an entry of the kernel's list of addresses.
fn address(message: &[u8]) -> Option<(IpAddr, u8)> {
    let (prefix_len, scope) = (*message.get(1)?, *message.get(3)?);
    // On a point-to-point link the own address is IFA_LOCAL, and IFA_ADDRESS is the peer's.
    let of = |wanted: u16| {
        attributes(message.get(ADDRESS_HEADER_LEN..)?).find(|(kind, _)| *kind == wanted)
    };
    let (_, bytes) = of(libc::IFA_LOCAL).or_else(|| of(libc::IFA_ADDRESS))?;
    let address = match bytes.len() {
        4 => Ipv4Addr::from_octets(*bytes.first_chunk()?).into(),
        16 if scope != SCOPE_LINK => Ipv6Addr::from_octets(*bytes.first_chunk()?).into(),
        _ => return None,
    };
    Some((address, prefix_len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_found_with_its_mtu_and_nothing_of_another_name() {
        let loopback = Interface::find("lo").unwrap().unwrap();
        assert_eq!((loopback.name.as_str(), loopback.kind.as_str()), ("lo", ""));
        assert!(loopback.mtu > 1500 && loopback.bridge.is_none());
        assert_eq!(Interface::find("no such").unwrap(), None);
    }

    #[test]
    fn entries_that_are_cut_off_are_no_entries_or_poor_ones() {
        let bytes: Vec<u8> = (0..64).map(|n| n % 7).collect();
        for len in 0..bytes.len() {
            let _ = Interface::parse(&bytes[..len]);
            let _ = address(&bytes[..len]);
            let _ = LearnedAddress::parse(&bytes[..len]);
        }
        assert_eq!(Interface::parse(&bytes[..11]), None);
    }
}
