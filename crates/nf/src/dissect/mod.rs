//! What a frame is, read in one pass: everything that rules match on and connection tracking
//! needs.

mod ip;
mod transport;

#[cfg(test)]
mod tests;

use core::net::IpAddr;

use plumb_wire::icmp::Family;
use plumb_wire::{ethernet, protocol};

use crate::Frame;
use crate::offload::{SERVICE_VLAN, VLAN};

pub use transport::{Icmp, Ports, Tcp, Transport, Udp};

/// Protocol numbers (IANA) of transports with ports that plumb does not read further.
const DCCP: u8 = 33;
const SCTP: u8 = 132;
pub(crate) const UDP_LITE: u8 = 136;

/// What is in an Ethernet frame. Offsets are in bytes from the start of the frame, and lie within
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dissected {
    /// Destination MAC address.
    pub dst_mac: [u8; 6],
    /// Source MAC address.
    pub src_mac: [u8; 6],
    /// VLAN tags, the outermost first: priority, drop eligibility and identifier as they stand
    /// (IEEE 802.1Q).
    pub vlan: [Option<u16>; 2],
    /// What is behind the Ethernet header and any VLAN tags.
    pub ethertype: u16,
    /// Where that begins.
    pub network: usize,
    /// The IP header; none for other protocols, and where it cannot be read.
    pub ip: Option<Ip>,
    /// The header behind it.
    pub transport: Transport,
    /// What is wrong with the frame, the first fault that was found. What was read before it is
    /// there.
    pub fault: Option<Fault>,
}

/// An IP header of either version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// TOS byte or traffic class: DSCP in the upper six bits, ECN in the lower two.
    pub tos: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Bytes of the packet from its IP header on, as that says. In a superframe that is the length
    /// of all that is to be cut.
    pub len: u32,
    /// Flow label of IPv6, 20 bits; 0 for IPv4.
    pub flow_label: u32,
    /// Identification of IPv4; 0 for IPv6, whose fragments have theirs in [`Fragment::ident`].
    pub ident: u16,
    /// IPv4's "don't fragment".
    pub dont_fragment: bool,
    /// Where the packet belongs in the datagram that it is a piece of; none if it is whole.
    pub fragment: Option<Fragment>,
    /// Which extension headers IPv6 has.
    pub extensions: Extensions,
    /// Protocol of the payload, behind any extension headers.
    pub protocol: u8,
    /// Where the payload begins. In later fragments there is no transport header.
    pub payload: usize,
    /// Bytes of the payload as the IP header says: transport header and what that carries.
    pub payload_len: u32,
    /// Where the packet ends, or what was captured of it: padding of short frames is behind.
    pub end: usize,
}

/// A piece of a datagram (RFC 791 §3.2, RFC 8200 §4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// What all pieces have in common, beside addresses and protocol. 16 bits for IPv4.
    pub ident: u32,
    /// Where its first byte belongs, a multiple of 8.
    pub offset: u16,
    /// There are bytes behind its last one.
    pub more: bool,
    /// Where its bytes begin in the frame: behind the fragment header of IPv6.
    pub start: usize,
}

/// A set of IPv6 extension headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions(u8);

/// What can be wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The Ethernet header or a VLAN tag is cut off.
    EthernetCutOff,
    /// The IP header is cut off or of another version than the EtherType says.
    IpHeader,
    /// The checksum of the IPv4 header is wrong.
    IpChecksum,
    /// The IP header announces more bytes than there are, or fewer than itself.
    IpLength,
    /// An IPv6 extension header is cut off, or there are more than 16.
    Extension,
    /// A fragment is no multiple of 8 long though there are more behind it, or ends above 65535.
    FragmentLength,
    /// The transport header is cut off: a way around filters (RFC 1858).
    TransportCutOff,
    /// TCP's data offset is below 5, or points behind the packet.
    TcpOffset,
    /// UDP's length is below 8, or above what there is.
    UdpLength,
}

impl Fault {
    /// The fault in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::EthernetCutOff => "Ethernet header cut off",
            Self::IpHeader => "IP header cut off or of the wrong version",
            Self::IpChecksum => "wrong IPv4 header checksum",
            Self::IpLength => "IP length does not fit the frame",
            Self::Extension => "IPv6 extension headers cut off or too many",
            Self::FragmentLength => "impossible fragment length",
            Self::TransportCutOff => "transport header cut off",
            Self::TcpOffset => "wrong TCP data offset",
            Self::UdpLength => "UDP length does not fit the packet",
        }
    }
}

impl Dissected {
    /// Reads a frame. Its transport checksum is not looked at; see
    /// [`checksum_is_right`](Self::checksum_is_right).
    pub fn new(frame: &Frame) -> Self {
        let mut dissected = Self {
            dst_mac: [0; 6],
            src_mac: [0; 6],
            vlan: [None; 2],
            ethertype: 0,
            network: 0,
            ip: None,
            transport: Transport::None,
            fault: None,
        };
        dissected.fault = dissected.fill(frame).err();
        dissected
    }

    #[inline(always)]
    fn fill(&mut self, frame: &Frame) -> Result<(), Fault> {
        self.link(&frame.bytes)?;
        self.read(frame)
    }

    /// Source and destination port, for the transports that have them.
    pub const fn ports(&self) -> Option<(u16, u16)> {
        self.transport.ports()
    }

    /// Where the transport header is; none in later fragments and what is not IP.
    pub const fn transport_offset(&self) -> Option<usize> {
        match (&self.transport, &self.ip) {
            (Transport::None, _) | (_, None) => None,
            (_, Some(ip)) => Some(ip.payload),
        }
    }

    fn link(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let (header, _) = ethernet::Header::parse(bytes).map_err(|_| Fault::EthernetCutOff)?;
        (self.dst_mac, self.src_mac) = (header.dst, header.src);
        self.ethertype = header.ethertype;
        self.network = ethernet::HEADER_LEN;
        for tag in &mut self.vlan {
            if !matches!(self.ethertype, VLAN | SERVICE_VLAN) {
                break;
            }
            let at = self.network;
            let read = bytes.get(at..at + 4).ok_or(Fault::EthernetCutOff)?;
            *tag = Some(u16::from_be_bytes([read[0], read[1]]));
            self.ethertype = u16::from_be_bytes([read[2], read[3]]);
            self.network = at + 4;
        }
        Ok(())
    }

    fn read(&mut self, frame: &Frame) -> Result<(), Fault> {
        let whole = frame.whole_len();
        let (ip, fault) = match self.ethertype {
            ethernet::ethertype::IPV4 => ip::v4(&frame.bytes, self.network, whole, &mut self.ip)?,
            ethernet::ethertype::IPV6 => ip::v6(&frame.bytes, self.network, whole, &mut self.ip)?,
            _ => return Ok(()),
        };
        if let Some(fault) = fault {
            return Err(fault);
        }
        if ip.is_later() {
            return Ok(());
        }
        let transport = match ip.protocol {
            protocol::TCP => Transport::Tcp(transport::tcp(&frame.bytes, ip)?),
            protocol::UDP => Transport::Udp(transport::udp(&frame.bytes, ip, frame.offload.gso)?),
            protocol::ICMP if ip.src.is_ipv4() => {
                Transport::Icmp(transport::icmp(&frame.bytes, ip)?)
            }
            protocol::ICMPV6 if ip.src.is_ipv6() => {
                Transport::Icmp(transport::icmp(&frame.bytes, ip)?)
            }
            DCCP | SCTP | UDP_LITE => Transport::Ports(transport::ports(&frame.bytes, ip)?),
            _ => Transport::Other,
        };
        self.transport = transport;
        Ok(())
    }

    /// Says whether the transport checksum is right, or cannot be known to be wrong: it is left to
    /// do or was verified before, the frame was captured in part, the packet is a fragment, or the
    /// protocol has none that is understood.
    pub fn checksum_is_right(&self, frame: &Frame) -> bool {
        let Some(ip) = &self.ip else {
            return true;
        };
        let skipped = frame.offload.checksum.is_some()
            || frame.offload.gso.is_some()
            || frame.offload.checksum_verified
            || frame.original_len != 0
            || ip.is_piece();
        skipped || transport::checksum_is_right(&frame.bytes, ip, &self.transport)
    }
}

/// Reads the packet that an ICMP error quotes at `at`, or the start of it: as much as says between
/// which ports it went. Its length and checksums are not looked at.
pub(crate) fn quoted(bytes: &[u8], at: usize, family: Family) -> Option<(Ip, Transport)> {
    let mut place = None;
    let (&ip, _) = match family {
        Family::V4 => ip::v4(bytes, at, usize::MAX, &mut place),
        Family::V6 => ip::v6(bytes, at, usize::MAX, &mut place),
    }
    .ok()?;
    if ip.is_later() {
        return None;
    }
    let transport = match ip.protocol {
        protocol::TCP | protocol::UDP | DCCP | SCTP | UDP_LITE => {
            Transport::Ports(transport::ports(bytes, &ip).ok()?)
        }
        protocol::ICMP if family == Family::V4 => {
            Transport::Icmp(transport::icmp(bytes, &ip).ok()?)
        }
        protocol::ICMPV6 if family == Family::V6 => {
            Transport::Icmp(transport::icmp(bytes, &ip).ok()?)
        }
        _ => Transport::Other,
    };
    Some((ip, transport))
}

impl Ip {
    /// Its version.
    pub const fn family(&self) -> Family {
        Family::of(self.src)
    }

    /// Differentiated services code point, 6 bits (RFC 2474).
    pub const fn dscp(&self) -> u8 {
        self.tos >> 2
    }

    /// Explicit congestion notification, 2 bits (RFC 3168).
    pub const fn ecn(&self) -> u8 {
        self.tos & 3
    }

    /// Says whether it is a piece of a datagram, and not all of it. A packet with a fragment header
    /// may be whole all the same (RFC 6946).
    pub const fn is_piece(&self) -> bool {
        match self.fragment {
            Some(Fragment { offset, more, .. }) => offset != 0 || more,
            None => false,
        }
    }

    /// Says whether it is a fragment other than the first, which holds no transport header.
    pub const fn is_later(&self) -> bool {
        matches!(self.fragment, Some(Fragment { offset: 1.., .. }))
    }
}

impl Extensions {
    /// Says whether there is one of this protocol number: 0 hop-by-hop, 43 routing, 44 fragment,
    /// 51 authentication, 60 destination options.
    pub const fn contains(self, number: u8) -> bool {
        self.0 & Self::bit(number) != 0
    }

    const fn with(self, number: u8) -> Self {
        Self(self.0 | Self::bit(number))
    }

    const fn bit(number: u8) -> u8 {
        match number {
            ip::HOP_BY_HOP => 1,
            ip::ROUTING => 2,
            ip::FRAGMENT => 4,
            ip::AUTHENTICATION => 8,
            ip::DESTINATION => 16,
            _ => 0,
        }
    }
}
