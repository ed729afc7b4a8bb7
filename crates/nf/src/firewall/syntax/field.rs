//! What rules can look at: fields of headers, and what is known of a packet besides.

use super::ast::{Family, Kind};

/// Where a field's header begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    /// The Ethernet header.
    Link,
    /// What is behind the Ethernet header and any VLAN tags.
    Network,
    /// The transport header.
    Transport,
}

/// What a packet must be for a field to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    EtherType(u16),
    /// IP with this protocol.
    Protocol(u8),
    Transport,
}

/// What a rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// Bits of a header, counted from its most significant one.
    Payload {
        base: Base,
        needs: Needs,
        at: u16,
        bits: u8,
        of: Type,
        /// How it is written: protocol and field; empty for raw bits.
        name: (&'static str, &'static str),
    },
    VlanTag {
        shift: u8,
        bits: u8,
        name: &'static str,
    },
    Meta(Meta),
    Ct(Ct),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meta {
    IifName,
    OifName,
    L4Proto,
    NfProto,
    Protocol,
    Length,
    Mark,
    PktType,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ct {
    State,
    Status,
    Direction,
    Mark,
    Zone,
}

pub(crate) const META: [(&str, Meta); 8] = [
    ("iifname", Meta::IifName),
    ("oifname", Meta::OifName),
    ("l4proto", Meta::L4Proto),
    ("nfproto", Meta::NfProto),
    ("protocol", Meta::Protocol),
    ("length", Meta::Length),
    ("mark", Meta::Mark),
    ("pkttype", Meta::PktType),
];

pub(crate) const CT: [(&str, Ct); 5] = [
    ("state", Ct::State),
    ("status", Ct::Status),
    ("direction", Ct::Direction),
    ("mark", Ct::Mark),
    ("zone", Ct::Zone),
];

/// How values of a field are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::enum_variant_names,
    reason = "Ethernet, IP and ICMP have types of their own"
)]
pub(crate) enum Type {
    Integer,
    Ipv4,
    Ipv6,
    Mac,
    EtherType,
    Protocol,
    Service,
    IcmpType,
    IcmpCode,
    Icmpv6Type,
    Icmpv6Code,
    TcpFlags,
    Dscp,
    Ecn,
    Mark,
    ArpOperation,
    Interface,
    NfProto,
    PktType,
    CtState,
    CtStatus,
    CtDirection,
}

impl Type {
    /// Those that named sets can have, with their names in nftables and their bits.
    pub(crate) const NAMED: [(&'static str, Self, u8); 18] = [
        ("ipv4_addr", Self::Ipv4, 32),
        ("ipv6_addr", Self::Ipv6, 128),
        ("ether_addr", Self::Mac, 48),
        ("inet_proto", Self::Protocol, 8),
        ("inet_service", Self::Service, 16),
        ("mark", Self::Mark, 32),
        ("ether_type", Self::EtherType, 16),
        ("ifname", Self::Interface, 8),
        ("icmp_type", Self::IcmpType, 8),
        ("icmp_code", Self::IcmpCode, 8),
        ("icmpv6_type", Self::Icmpv6Type, 8),
        ("icmpv6_code", Self::Icmpv6Code, 8),
        ("tcp_flag", Self::TcpFlags, 8),
        ("dscp", Self::Dscp, 6),
        ("ct_state", Self::CtState, 32),
        ("ct_status", Self::CtStatus, 32),
        ("ct_dir", Self::CtDirection, 8),
        ("pkt_type", Self::PktType, 8),
    ];

    /// Its name in words.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Integer => "a number",
            Self::Ipv4 => "an IPv4 address",
            Self::Ipv6 => "an IPv6 address",
            Self::Mac => "a MAC address",
            Self::EtherType => "an EtherType",
            Self::Protocol => "a protocol",
            Self::Service => "a port",
            Self::IcmpType => "an ICMP type",
            Self::IcmpCode => "an ICMP code",
            Self::Icmpv6Type => "an ICMPv6 type",
            Self::Icmpv6Code => "an ICMPv6 code",
            Self::TcpFlags => "TCP flags",
            Self::Dscp => "a DSCP",
            Self::Ecn => "an ECN codepoint",
            Self::Mark => "a mark",
            Self::ArpOperation => "an ARP operation",
            Self::Interface => "an interface",
            Self::NfProto => "ipv4 or ipv6",
            Self::PktType => "a packet type",
            Self::CtState => "a connection state",
            Self::CtStatus => "a connection status",
            Self::CtDirection => "a direction",
        }
    }

    /// Values are sets of bits: what is written without an operator asks for any of them.
    pub(crate) const fn is_flags(self) -> bool {
        matches!(self, Self::TcpFlags | Self::CtState | Self::CtStatus)
    }

    /// Same in the tables of sets: a set of numbers takes any number.
    pub(crate) fn fits(self, other: Self) -> bool {
        self == other || self == Self::Integer || other == Self::Integer
    }
}

/// Protocols whose fields have names: the word, what they need, and where they begin.
pub(crate) const PROTOCOLS: [(&str, Needs, Base, &[Named]); 14] = [
    ("ether", Needs::Nothing, Base::Link, ETHER),
    ("ip", Needs::EtherType(0x0800), Base::Network, IP),
    ("ip6", Needs::EtherType(0x86dd), Base::Network, IP6),
    ("arp", Needs::EtherType(0x0806), Base::Network, ARP),
    ("tcp", Needs::Protocol(6), Base::Transport, TCP),
    ("udp", Needs::Protocol(17), Base::Transport, UDP),
    ("udplite", Needs::Protocol(136), Base::Transport, PORTS),
    ("sctp", Needs::Protocol(132), Base::Transport, SCTP),
    ("dccp", Needs::Protocol(33), Base::Transport, PORTS),
    ("th", Needs::Transport, Base::Transport, PORTS),
    ("icmp", Needs::Protocol(1), Base::Transport, ICMP),
    ("icmpv6", Needs::Protocol(58), Base::Transport, ICMPV6),
    ("esp", Needs::Protocol(50), Base::Transport, ESP),
    ("comp", Needs::Protocol(108), Base::Transport, COMP),
];

/// Name, first bit, bits, type.
type Named = (&'static str, u16, u8, Type);

const ETHER: &[Named] = &[
    ("daddr", 0, 48, Type::Mac),
    ("saddr", 48, 48, Type::Mac),
    ("type", 96, 16, Type::EtherType),
];
const IP: &[Named] = &[
    ("version", 0, 4, Type::Integer),
    ("hdrlength", 4, 4, Type::Integer),
    ("dscp", 8, 6, Type::Dscp),
    ("ecn", 14, 2, Type::Ecn),
    ("length", 16, 16, Type::Integer),
    ("id", 32, 16, Type::Integer),
    ("frag-off", 48, 16, Type::Integer),
    ("ttl", 64, 8, Type::Integer),
    ("protocol", 72, 8, Type::Protocol),
    ("checksum", 80, 16, Type::Integer),
    ("saddr", 96, 32, Type::Ipv4),
    ("daddr", 128, 32, Type::Ipv4),
];
const IP6: &[Named] = &[
    ("version", 0, 4, Type::Integer),
    ("dscp", 4, 6, Type::Dscp),
    ("ecn", 10, 2, Type::Ecn),
    ("flowlabel", 12, 20, Type::Integer),
    ("length", 32, 16, Type::Integer),
    ("nexthdr", 48, 8, Type::Protocol),
    ("hoplimit", 56, 8, Type::Integer),
    ("saddr", 64, 128, Type::Ipv6),
    ("daddr", 192, 128, Type::Ipv6),
];
const ARP: &[Named] = &[
    ("htype", 0, 16, Type::Integer),
    ("ptype", 16, 16, Type::EtherType),
    ("hlen", 32, 8, Type::Integer),
    ("plen", 40, 8, Type::Integer),
    ("operation", 48, 16, Type::ArpOperation),
];
/// Behind `arp`, with two words: these are for Ethernet and IPv4.
pub(crate) const ARP_ADDRESSES: [(&str, &str, u16, u8, Type); 4] = [
    ("saddr", "ether", 64, 48, Type::Mac),
    ("saddr", "ip", 112, 32, Type::Ipv4),
    ("daddr", "ether", 144, 48, Type::Mac),
    ("daddr", "ip", 192, 32, Type::Ipv4),
];
const PORTS: &[Named] = &[
    ("sport", 0, 16, Type::Service),
    ("dport", 16, 16, Type::Service),
];
const TCP: &[Named] = &[
    ("sport", 0, 16, Type::Service),
    ("dport", 16, 16, Type::Service),
    ("sequence", 32, 32, Type::Integer),
    ("ackseq", 64, 32, Type::Integer),
    ("doff", 96, 4, Type::Integer),
    ("flags", 104, 8, Type::TcpFlags),
    ("window", 112, 16, Type::Integer),
    ("checksum", 128, 16, Type::Integer),
    ("urgptr", 144, 16, Type::Integer),
];
const UDP: &[Named] = &[
    ("sport", 0, 16, Type::Service),
    ("dport", 16, 16, Type::Service),
    ("length", 32, 16, Type::Integer),
    ("checksum", 48, 16, Type::Integer),
];
const SCTP: &[Named] = &[
    ("sport", 0, 16, Type::Service),
    ("dport", 16, 16, Type::Service),
    ("vtag", 32, 32, Type::Integer),
    ("checksum", 64, 32, Type::Integer),
];
const ICMP: &[Named] = &[
    ("type", 0, 8, Type::IcmpType),
    ("code", 8, 8, Type::IcmpCode),
    ("checksum", 16, 16, Type::Integer),
    ("id", 32, 16, Type::Integer),
    ("sequence", 48, 16, Type::Integer),
    ("mtu", 48, 16, Type::Integer),
    ("gateway", 32, 32, Type::Ipv4),
];
const ICMPV6: &[Named] = &[
    ("type", 0, 8, Type::Icmpv6Type),
    ("code", 8, 8, Type::Icmpv6Code),
    ("checksum", 16, 16, Type::Integer),
    ("packet-too-big", 32, 32, Type::Integer),
    ("mtu", 32, 32, Type::Integer),
    ("id", 32, 16, Type::Integer),
    ("sequence", 48, 16, Type::Integer),
    ("max-delay", 32, 16, Type::Integer),
];
const ESP: &[Named] = &[
    ("spi", 0, 32, Type::Integer),
    ("sequence", 32, 32, Type::Integer),
];
const COMP: &[Named] = &[
    ("nexthdr", 0, 8, Type::Protocol),
    ("flags", 8, 8, Type::Integer),
    ("cpi", 16, 16, Type::Integer),
];

/// Fields of the VLAN tag: name, lowest bit, bits.
pub(crate) const VLAN: [(&str, u8, u8); 3] = [("id", 0, 12), ("dei", 12, 1), ("pcp", 13, 3)];

impl Field {
    /// How many bytes from the beginning of its header its last one is.
    pub(crate) fn reach(&self) -> usize {
        match self {
            Self::Payload { at, bits, .. } => (usize::from(*at) + usize::from(*bits)).div_ceil(8),
            Self::VlanTag { .. } | Self::Meta(_) | Self::Ct(_) => 0,
        }
    }

    /// Type and bits of its values.
    pub(crate) const fn kind(&self) -> Kind {
        let (of, bits) = match self {
            Self::Payload { of, bits, .. } => (*of, *bits),
            Self::VlanTag { bits, .. } => (Type::Integer, *bits),
            Self::Meta(meta) => match meta {
                Meta::IifName | Meta::OifName => (Type::Interface, 8),
                Meta::L4Proto => (Type::Protocol, 8),
                Meta::NfProto => (Type::NfProto, 8),
                Meta::Protocol => (Type::EtherType, 16),
                Meta::Length => (Type::Integer, 32),
                Meta::Mark => (Type::Mark, 32),
                Meta::PktType => (Type::PktType, 8),
            },
            Self::Ct(ct) => match ct {
                Ct::State => (Type::CtState, 32),
                Ct::Status => (Type::CtStatus, 32),
                Ct::Direction => (Type::CtDirection, 8),
                Ct::Mark => (Type::Mark, 32),
                Ct::Zone => (Type::Integer, 16),
            },
        };
        Kind { of, bits }
    }

    /// The family whose packets have it, if only one has.
    pub(crate) const fn family(&self) -> Option<Family> {
        match self {
            Self::Payload {
                needs: Needs::EtherType(0x0800) | Needs::Protocol(1),
                ..
            } => Some(Family::Ip),
            Self::Payload {
                needs: Needs::EtherType(0x86dd) | Needs::Protocol(58),
                ..
            } => Some(Family::Ip6),
            Self::Payload { .. } | Self::VlanTag { .. } | Self::Meta(_) | Self::Ct(_) => None,
        }
    }
}

impl core::fmt::Display for Field {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Payload {
                base,
                at,
                bits,
                name: ("", _),
                ..
            } => {
                let base = match base {
                    Base::Link => "ll",
                    Base::Network => "nh",
                    Base::Transport => "th",
                };
                write!(f, "@{base},{at},{bits}")
            }
            Self::Payload { name, .. } => write!(f, "{} {}", name.0, name.1),
            Self::VlanTag { name, .. } => write!(f, "vlan {name}"),
            Self::Meta(meta) => {
                let name = META.iter().find(|(_, m)| m == meta).map_or("", |m| m.0);
                write!(f, "meta {name}")
            }
            Self::Ct(ct) => {
                let name = CT.iter().find(|(_, c)| c == ct).map_or("", |c| c.0);
                write!(f, "ct {name}")
            }
        }
    }
}
