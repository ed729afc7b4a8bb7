//! The few requests to the kernel's routing tables that plumb makes (rtnetlink(7)).

use core::net::IpAddr;
use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::sys;

/// A connection to the kernel's routing tables in the network namespace it was opened in.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
}

impl Netlink {
    pub(crate) fn open() -> io::Result<Self> {
        let socket = sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
        // Answers come from within the send call, so they are there when it returns.
        Ok(Self { socket })
    }

    /// Brings an interface up, with this MTU if one is given.
    pub(crate) fn set_up(&self, interface: u32, mtu: Option<u32>) -> io::Result<()> {
        let change = LinkChange {
            mtu,
            ..LinkChange::default()
        };
        self.change_link(interface, &change)
    }

    /// Brings an interface up, changed like this.
    pub(crate) fn change_link(&self, interface: u32, change: &LinkChange) -> io::Result<()> {
        if let Some(len) = change.queue_len {
            // In one request with the flags it would come after them, and to change the queue of an
            // interface that is up waits for all processors: most of a millisecond.
            let mut request = attributes_of(interface);
            request.attribute(libc::IFLA_TXQLEN, &len.to_ne_bytes());
            self.change(request)?;
        }
        let mut request = Request::new(libc::RTM_NEWLINK, 0);
        let up = libc::IFF_UP.cast_unsigned();
        request.bytes(&[0; 4]); // family, padding, type
        request.bytes(&interface.to_ne_bytes());
        request.bytes(&up.to_ne_bytes());
        request.bytes(&up.to_ne_bytes()); // which flags change
        if let Some(mtu) = change.mtu {
            request.attribute(libc::IFLA_MTU, &mtu.to_ne_bytes());
        }
        if let Some(bridge) = change.bridge {
            request.attribute(libc::IFLA_MASTER, &bridge.to_ne_bytes());
        }
        self.change(request)
    }

    /// Gives an interface no IPv6 address of its own making from now on (RFC 4862 §5.3), link-local
    /// ones included.
    pub(crate) fn generate_no_addresses(&self, interface: u32) -> io::Result<()> {
        let mut request = attributes_of(interface);
        request.nest(libc::IFLA_AF_SPEC, |request| {
            request.nest(AF_INET6, |request| {
                request.attribute(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]);
            });
        });
        self.change(request)
    }

    /// Makes a bridge without ports that forwards at once and does not look into group memberships.
    pub(crate) fn add_bridge(&self, name: &str) -> io::Result<()> {
        let mut request = Request::new(libc::RTM_NEWLINK, CREATE);
        request.bytes(&[0; 16]); // family, type, index, flags
        request.string(libc::IFLA_IFNAME, name);
        request.nest(libc::IFLA_LINKINFO, |request| {
            request.string(IFLA_INFO_KIND, "bridge");
            request.nest(IFLA_INFO_DATA, |request| {
                request.attribute(IFLA_BR_MCAST_SNOOPING, &[0]);
            });
        });
        self.change(request)
    }

    /// Makes a pair of virtual Ethernet devices.
    pub(crate) fn add_veth(&self, name: &str, peer: &str) -> io::Result<()> {
        let mut request = Request::new(libc::RTM_NEWLINK, CREATE);
        request.bytes(&[0; 16]); // family, type, index, flags
        request.string(libc::IFLA_IFNAME, name);
        request.nest(libc::IFLA_LINKINFO, |request| {
            request.string(IFLA_INFO_KIND, "veth");
            request.nest(IFLA_INFO_DATA, |request| {
                request.nest(VETH_INFO_PEER, |request| {
                    request.bytes(&[0; 16]);
                    request.string(libc::IFLA_IFNAME, peer);
                });
            });
        });
        self.change(request)
    }

    /// Removes an interface.
    pub(crate) fn remove_link(&self, interface: u32) -> io::Result<()> {
        let mut request = Request::new(libc::RTM_DELLINK, 0);
        request.bytes(&[0; 4]); // family, padding, type
        request.bytes(&interface.to_ne_bytes());
        request.bytes(&[0; 8]); // flags
        self.change(request)
    }

    /// Gives an interface an address, usable at once.
    pub(crate) fn add_address(
        &self,
        interface: u32,
        address: IpAddr,
        prefix_len: u8,
    ) -> io::Result<()> {
        let mut request = Request::new(libc::RTM_NEWADDR, CREATE);
        // No duplicate address detection, during which an IPv6 address cannot be used.
        request.bytes(&[family(address), prefix_len, IFA_F_NODAD, 0]);
        request.bytes(&interface.to_ne_bytes());
        request.address(libc::IFA_LOCAL, address);
        request.address(libc::IFA_ADDRESS, address);
        self.change(request)
    }

    /// Adds a route to a prefix; through a gateway, or on the link.
    pub(crate) fn add_route(
        &self,
        interface: u32,
        destination: IpAddr,
        prefix_len: u8,
        gateway: Option<IpAddr>,
    ) -> io::Result<()> {
        let mut request = Request::new(libc::RTM_NEWROUTE, CREATE);
        let scope = match (destination, gateway) {
            (IpAddr::V4(_), None) => libc::RT_SCOPE_LINK,
            _ => libc::RT_SCOPE_UNIVERSE,
        };
        request.bytes(&[
            family(destination),
            prefix_len,
            0,
            0,
            libc::RT_TABLE_MAIN,
            libc::RTPROT_STATIC,
            scope,
            libc::RTN_UNICAST,
        ]);
        request.bytes(&0u32.to_ne_bytes()); // flags
        if prefix_len > 0 {
            request.address(libc::RTA_DST, destination);
        }
        if let Some(gateway) = gateway {
            request.address(libc::RTA_GATEWAY, gateway);
        }
        request.attribute(libc::RTA_OIF, &interface.to_ne_bytes());
        self.change(request)
    }

    /// Gives `sink` the payload of every entry of a table of the kernel, which `kind` asks for
    /// (RTM_GETROUTE, RTM_GETNEIGH, RTM_GETLINK, RTM_GETRULE), for one address family or for all
    /// (0). `header_len` is the length of the fixed header of such a message.
    pub(crate) fn dump(
        &self,
        kind: u16,
        header_len: usize,
        family: u8,
        mut sink: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let mut request = Request::new(kind, NLM_F_DUMP);
        request.bytes(&[family]);
        request.0.resize(HEADER_LEN + header_len, 0);
        send(&self.socket, &request.finish(), SendFlags::empty())?;
        // More than the kernel puts into one datagram.
        let mut answer = vec![0; 64 * 1024];
        loop {
            let (len, _) = recv(&self.socket, &mut answer[..], RecvFlags::empty())?;
            for (kind, payload) in messages(&answer[..len]) {
                match kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => return Err(error_of(payload)),
                    _ => sink(payload),
                }
            }
        }
    }

    /// Sends a request and reads its acknowledgement.
    fn change(&self, request: Request) -> io::Result<()> {
        let message = request.finish();
        send(&self.socket, &message, SendFlags::empty())?;
        let mut answer = [0; 4096];
        let (len, _) = recv(&self.socket, &mut answer[..], RecvFlags::empty())?;
        acknowledgement(&answer[..len])
    }
}

/// The beginning of a request that leaves the flags of an interface as they are.
fn attributes_of(interface: u32) -> Request {
    let mut request = Request::new(libc::RTM_NEWLINK, 0);
    request.bytes(&[0; 4]); // family, padding, type
    request.bytes(&interface.to_ne_bytes());
    request.bytes(&[0; 8]); // flags, and that none of them changes
    request
}

const CREATE: u16 = NLM_F_CREATE | NLM_F_EXCL;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const IFA_F_NODAD: u8 = 2;
const HEADER_LEN: usize = 16;

const AF_INET6: u16 = 10;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
pub(crate) const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;

/// What becomes of an interface that is brought up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LinkChange {
    /// Largest packet in bytes.
    pub(crate) mtu: Option<u32>,
    /// Packets that may wait to be sent.
    pub(crate) queue_len: Option<u32>,
    /// The bridge that it becomes a port of.
    pub(crate) bridge: Option<u32>,
}

/// A message under construction.
struct Request(Vec<u8>);

impl Request {
    fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend(0u32.to_ne_bytes()); // length, filled in at the end
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        bytes.extend([0; 8]); // sequence number, port
        Self(bytes)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }

    fn attribute(&mut self, kind: u16, payload: &[u8]) {
        let len = u16::try_from(4 + payload.len()).unwrap_or(u16::MAX);
        self.0.extend(len.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(payload);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// A string with its terminating zero.
    fn string(&mut self, kind: u16, text: &str) {
        self.attribute(kind, &[text.as_bytes(), &[0]].concat());
    }

    /// An attribute that holds those that `fill` adds.
    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let at = self.0.len();
        self.attribute(kind, &[]);
        fill(self);
        let len = u16::try_from(self.0.len() - at).unwrap_or(u16::MAX);
        self.0[at..at + 2].copy_from_slice(&len.to_ne_bytes());
    }

    fn address(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.attribute(kind, &v4.octets()),
            IpAddr::V6(v6) => self.attribute(kind, &v6.octets()),
        }
    }

    fn finish(mut self) -> Vec<u8> {
        let len = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0
    }
}

/// The attributes of a message, which follow its fixed header: type and payload of each, up to
/// the first whose length is impossible.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    core::iter::from_fn(move || {
        let len = usize::from(u16_at(bytes, 0)?);
        // The upper two bits are flags.
        let kind = u16_at(bytes, 2)? & 0x3fff;
        let payload = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    })
}

/// The messages of a datagram: type and payload of each.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    core::iter::from_fn(move || {
        let len = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let kind = u16_at(bytes, 4)?;
        let payload = bytes.get(HEADER_LEN..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    })
}

/// Reads the answer to a request for change: an error message whose code 0 means done.
fn acknowledgement(answer: &[u8]) -> io::Result<()> {
    match messages(answer).next() {
        Some((NLMSG_ERROR, payload)) if u32_at(payload, 0) == Some(0) => Ok(()),
        Some((NLMSG_ERROR, payload)) => Err(error_of(payload)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The error in the payload of an error message.
fn error_of(payload: &[u8]) -> io::Error {
    match u32_at(payload, 0) {
        Some(code) => io::Error::from_raw_os_error(code.cast_signed().wrapping_neg()),
        None => io::ErrorKind::InvalidData.into(),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The 32-bit word at byte `at`, in the byte order of this machine.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

const fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 2,
        IpAddr::V6(_) => 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_to_four_bytes_and_the_length_is_filled_in() {
        let mut request = Request::new(24, 0);
        request.attribute(7, &[1, 2, 3, 4, 5]);
        let bytes = request.finish();
        assert_eq!(bytes.len(), HEADER_LEN + 12);
        assert_eq!(bytes[..4], u32::to_ne_bytes(28));
        assert_eq!(bytes[16..18], u16::to_ne_bytes(9));
        assert_eq!(bytes[20..], [1, 2, 3, 4, 5, 0, 0, 0]);
    }

    #[test]
    fn a_nested_attribute_is_as_long_as_what_it_holds() {
        let mut request = Request::new(24, 0);
        request.nest(1, |request| {
            request.string(2, "abcd");
            request.attribute(3, &[9]);
        });
        let bytes = request.finish();
        let outer: Vec<_> = attributes(&bytes[HEADER_LEN..]).collect();
        assert_eq!(outer.len(), 1);
        let inner: Vec<_> = attributes(outer[0].1).collect();
        assert_eq!(inner, [(2, &b"abcd\0"[..]), (3, &[9])]);
    }

    #[test]
    fn answers_are_read_whatever_they_are() {
        let mut answer = [0; 36];
        answer[0] = 36;
        answer[4] = 2;
        assert!(acknowledgement(&answer).is_ok());
        answer[16..20].copy_from_slice(&(-libc::EEXIST).to_ne_bytes());
        let error = acknowledgement(&answer).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
        for len in 0..36 {
            assert!(acknowledgement(&answer[..len]).is_err());
        }
    }

    #[test]
    fn attributes_end_at_the_first_impossible_length() {
        let bytes = [5, 0, 1, 0, 9, 0, 0, 0, 4, 0, 2, 0x80, 3, 0, 3, 0];
        let found: Vec<_> = attributes(&bytes).collect();
        assert_eq!(found, [(1, &[9][..]), (2, &[])]);
        for len in 0..bytes.len() {
            assert!(attributes(&bytes[..len]).count() <= 2);
        }
    }

    #[test]
    fn loopback_is_among_the_links() {
        let netlink = Netlink::open().unwrap();
        let mut indices = Vec::new();
        netlink
            .dump(libc::RTM_GETLINK, 16, 0, |link| {
                indices.extend(u32_at(link, 4))
            })
            .unwrap();
        assert!(indices.contains(&sys::interface_index("lo").unwrap()));
    }

    #[test]
    fn the_kernel_answers_a_request_about_no_interface() {
        let netlink = Netlink::open().unwrap();
        let error = netlink.set_up(0x7fff_fff0, None).unwrap_err();
        let errno = error.raw_os_error();
        assert!(
            [Some(libc::ENODEV), Some(libc::EPERM)].contains(&errno),
            "{error}"
        );
    }
}
