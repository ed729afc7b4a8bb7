//! Headers that go before a clone on its way to a collector.

use core::net::{IpAddr, Ipv4Addr};

use plumb_wire::Checksum;
use plumb_wire::ethernet::ethertype;

use super::layout::{MAX_HEADER, RawOutput};

/// A tunnel protocol, with what tells one tunnel from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnel {
    /// VXLAN (RFC 7348), with its network identifier of 24 bits.
    Vxlan {
        /// VXLAN network identifier.
        vni: u32,
    },
    /// GENEVE (RFC 8926) with options that say when and where a packet was seen.
    Geneve {
        /// Virtual network identifier.
        vni: u32,
    },
    /// GRE with Ethernet in it (RFC 2784, RFC 2890).
    Gre {
        /// The key, if there is to be one.
        key: Option<u32>,
    },
    /// ERSPAN type II (draft-foschiano-erspan §4.2).
    Erspan2 {
        /// Session, of 10 bits.
        session: u16,
    },
    /// ERSPAN type III with time and direction (draft-foschiano-erspan §4.3).
    Erspan3 {
        /// Session, of 10 bits.
        session: u16,
    },
}

/// The way to a collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The protocol.
    pub tunnel: Tunnel,
    /// UDP port of the collector; unused without UDP.
    pub port: u16,
    /// Address of this machine.
    pub source: IpAddr,
    /// Address of the collector.
    pub destination: IpAddr,
    /// Ethernet address of the interface that packets leave by.
    pub source_mac: [u8; 6],
    /// Ethernet address of the next hop.
    pub next_mac: [u8; 6],
}

/// An output of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// Number of the interface that clones leave by.
    pub interface: u32,
    /// Its largest packet, in bytes.
    pub mtu: u32,
    /// What goes before them; nothing for an interface of this machine.
    pub path: Option<Path>,
}

/// Port of VXLAN (IANA).
pub const VXLAN_PORT: u16 = 4789;
/// Port of GENEVE (IANA).
pub const GENEVE_PORT: u16 = 6081;

/// Class of plumb's GENEVE options: one of those for experiments (RFC 8926 §7).
pub const OPTION_CLASS: u16 = 0xff70;

const PLAIN: u8 = 0;
const VXLAN: u8 = 1;
const GENEVE: u8 = 2;
const GRE: u8 = 3;
const ERSPAN2: u8 = 4;
const ERSPAN3: u8 = 5;

const UDP: u8 = 17;
const GRE_PROTOCOL: u8 = 47;
/// Ethernet in GRE and GENEVE.
const ETHERNET_BRIDGING: u16 = 0x6558;
const HOPS: u8 = 64;

impl Tunnel {
    const fn kind(self) -> u8 {
        match self {
            Self::Vxlan { .. } => VXLAN,
            Self::Geneve { .. } => GENEVE,
            Self::Gre { .. } => GRE,
            Self::Erspan2 { .. } => ERSPAN2,
            Self::Erspan3 { .. } => ERSPAN3,
        }
    }

    const fn protocol(self) -> u8 {
        match self {
            Self::Vxlan { .. } | Self::Geneve { .. } => UDP,
            Self::Gre { .. } | Self::Erspan2 { .. } | Self::Erspan3 { .. } => GRE_PROTOCOL,
        }
    }

    /// What lies between the IP header, or the UDP header, and the Ethernet frame. The programs put
    /// in what differs from packet to packet.
    fn header(self) -> Vec<u8> {
        match self {
            Self::Vxlan { vni } => {
                let mut header = vec![0x08, 0, 0, 0];
                header.extend((vni << 8).to_be_bytes());
                header
            }
            Self::Geneve { vni } => {
                // Four-byte words of options; nobody has to understand them.
                let mut header = vec![8, 0];
                header.extend(ETHERNET_BRIDGING.to_be_bytes());
                header.extend((vni << 8).to_be_bytes());
                for (kind, words) in [(1, 2), (2, 2), (3, 1)] {
                    header.extend(OPTION_CLASS.to_be_bytes());
                    header.extend([kind, words]);
                    header.resize(header.len() + usize::from(words) * 4, 0);
                }
                header
            }
            Self::Gre { key } => {
                let mut header = vec![if key.is_some() { 0x20 } else { 0 }, 0];
                header.extend(ETHERNET_BRIDGING.to_be_bytes());
                header.extend(key.map(u32::to_be_bytes).into_iter().flatten());
                header
            }
            Self::Erspan2 { session } => {
                // With a sequence number, which is mandatory.
                let mut header = vec![0x10, 0, 0x88, 0xbe, 0, 0, 0, 0];
                header.extend([0x10, 0]);
                header.extend((session & 0x3ff).to_be_bytes());
                header.extend([0; 4]);
                header
            }
            Self::Erspan3 { session } => {
                let mut header = vec![0x10, 0, 0x22, 0xeb, 0, 0, 0, 0];
                header.extend([0x20, 0]);
                header.extend((session & 0x3ff).to_be_bytes());
                // Time, group; then frame type 0 (Ethernet) with a granularity of 100 ns.
                header.extend([0; 6]);
                header.extend([0, 0b010]);
                header
            }
        }
    }
}

impl Path {
    /// The whole header, with zeros for what the programs put in.
    pub(crate) fn header(&self) -> Vec<u8> {
        let mut header = Vec::with_capacity(MAX_HEADER);
        header.extend(self.next_mac);
        header.extend(self.source_mac);
        match (self.source, self.destination) {
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                header.extend(ethertype::IPV6.to_be_bytes());
                header.extend([0x60, 0, 0, 0, 0, 0, self.tunnel.protocol(), HOPS]);
                header.extend(source.octets());
                header.extend(destination.octets());
            }
            (source, destination) => {
                let v4 = |address| match address {
                    IpAddr::V4(address) => address,
                    IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
                };
                header.extend(ethertype::IPV4.to_be_bytes());
                // Not to be fragmented, so it needs no identification (RFC 6864).
                header.extend([0x45, 0, 0, 0, 0, 0, 0x40, 0, HOPS, self.tunnel.protocol()]);
                header.extend([0, 0]);
                header.extend(v4(source).octets());
                header.extend(v4(destination).octets());
            }
        }
        if self.tunnel.protocol() == UDP {
            header.extend([0, 0]);
            header.extend(self.port.to_be_bytes());
            // Without a checksum (RFC 6935 for IPv6).
            header.extend([0; 4]);
        }
        header.extend(self.tunnel.header());
        header
    }
}

impl Output {
    /// As the programs have it.
    pub(crate) fn raw(&self) -> RawOutput {
        let mut raw = RawOutput {
            ifindex: self.interface,
            mtu: self.mtu,
            ip_sum: 0,
            len: 0,
            kind: PLAIN,
            ip: 0,
            header: [0; MAX_HEADER],
        };
        if let Some(path) = &self.path {
            let header = path.header();
            raw.header[..header.len()].copy_from_slice(&header);
            raw.len = u16::try_from(header.len()).unwrap_or(0);
            raw.kind = path.tunnel.kind();
            raw.ip = if path.destination.is_ipv4() { 4 } else { 6 };
            if raw.ip == 4 {
                let sum = Checksum::new().bytes(&header[14..34]).finish();
                // The programs add in the order in which this machine has two bytes.
                raw.ip_sum = (!u16::from_ne_bytes(sum.to_be_bytes())).into();
            }
        }
        raw
    }
}

/// The checksum that a program computes for an IPv4 header of this total length.
#[cfg(test)]
fn finished(raw: &RawOutput, len: u16) -> u16 {
    let mut sum = raw.ip_sum + u32::from(u16::from_ne_bytes(len.to_be_bytes()));
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::from_be_bytes((!u16::try_from(sum).unwrap_or(0)).to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use plumb_wire::checksum;

    fn path(tunnel: Tunnel, v4: bool) -> Path {
        let address = |v4_last: u8| -> IpAddr {
            if v4 {
                Ipv4Addr::new(192, 0, 2, v4_last).into()
            } else {
                core::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, v4_last.into()).into()
            }
        };
        Path {
            tunnel,
            port: VXLAN_PORT,
            source: address(1),
            destination: address(9),
            source_mac: [2, 0, 0, 0, 0, 1],
            next_mac: [2, 0, 0, 0, 0, 9],
        }
    }

    #[test]
    fn a_vxlan_header_is_laid_out_as_rfc_7348_has_it() {
        let header = path(Tunnel::Vxlan { vni: 0x0001_0203 }, true).header();
        assert_eq!(header.len(), 50);
        assert_eq!(header[..14], [2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 8, 0]);
        assert_eq!(header[23], 17);
        assert_eq!(header[26..34], [192, 0, 2, 1, 192, 0, 2, 9]);
        assert_eq!(header[36..38], [0x12, 0xb5]);
        assert_eq!(header[42..], [8, 0, 0, 0, 1, 2, 3, 0]);
    }

    #[test]
    fn every_header_fits_and_geneve_says_how_long_its_options_are() {
        let tunnels = [
            Tunnel::Vxlan { vni: 1 },
            Tunnel::Geneve { vni: 1 },
            Tunnel::Gre { key: None },
            Tunnel::Gre { key: Some(7) },
            Tunnel::Erspan2 { session: 1023 },
            Tunnel::Erspan3 { session: 1023 },
        ];
        for tunnel in tunnels {
            for v4 in [true, false] {
                assert!(path(tunnel, v4).header().len() <= MAX_HEADER, "{tunnel:?}");
            }
        }
        let geneve = path(Tunnel::Geneve { vni: 1 }, true).header();
        assert_eq!(
            geneve.len(),
            14 + 20 + 8 + 8 + usize::from(geneve[42] & 0x3f) * 4
        );
    }

    #[test]
    fn the_checksum_that_the_programs_finish_is_that_of_the_header() {
        let output = Output {
            interface: 1,
            mtu: 1500,
            path: Some(path(Tunnel::Vxlan { vni: 1 }, true)),
        };
        let raw = output.raw();
        for len in [0u16, 1, 86, 1500, 0xffff] {
            let mut header = raw.header[14..34].to_vec();
            header[2..4].copy_from_slice(&len.to_be_bytes());
            let sum = finished(&raw, len);
            assert_eq!(sum, checksum(&header), "{len}");
        }
    }
}
