//! How the routers of each vendor behave where it can be seen from outside.

use serde::Deserialize;

/// Operating systems whose behaviour is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Vendor {
    Cisco,
    Huawei,
    Junos,
    JunosOlive,
    Junose,
    Nokia,
    Mikrotik,
    Linux,
}

/// Where a time-exceeded for a label that expired inside an LSP is sent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LseExpiry {
    /// On to the end of the LSP, and back from there.
    LspEnd,
    /// The same, starting one below the usual TTL (Junos `icmp-tunneling`).
    IcmpTunneling,
    /// Straight back.
    Direct,
}

/// What the router that removes the last label does with the TTL below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PopTtl {
    /// The smaller of both.
    Min,
    /// Assumes that the ingress is configured as itself: takes the label's TTL if it propagates,
    /// leaves the IP TTL alone if not.
    Homogeneous,
}

/// How an LSP ends at the router that advertised it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ending {
    /// Implicit null: the router before pops.
    Php,
    /// Explicit null: the router itself pops.
    ExplicitNull,
    /// An ordinary label for its loopback: the router itself pops, and a Cisco shows it.
    Opaque,
}

/// For which prefixes of the domain there are labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LabelDistribution {
    /// Loopbacks and links (Cisco's default).
    AllPrefixes,
    /// Loopbacks only (Junos' default).
    HostRoutes,
}

/// How much of the offending packet an ICMP error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum QuoteLen {
    /// IP header and 8 bytes (RFC 792); IPv6 always quotes in full (RFC 4443 §2.4).
    Minimal,
    /// As much as fits 576 bytes (RFC 1812 §4.3.2.3), or 1280 for IPv6.
    Full,
}

/// How ICMP extensions are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ExtensionStyle {
    /// RFC 4884.
    Compliant,
    /// At 128 bytes, length field zero.
    NoLength,
    /// At 128 bytes, length field in bytes.
    LengthInBytes,
    /// Right behind a quote shorter than 128 bytes, with its length.
    Unpadded,
    /// As RFC 4884, extension checksum zero.
    NoChecksum,
    /// As RFC 4884, behind a quote longer than 128 bytes where there is one.
    Long,
}

/// From which address a router says that a port of its own is unreachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum UnreachableSource {
    /// That of the interface on which the packet came.
    Interface,
    /// The address that was probed.
    Probed,
}

/// What a node does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Silence {
    /// It answers everything.
    No,
    /// It sends no time-exceeded.
    TimeExceeded,
    /// It answers no echo request.
    Echo,
    /// It sends nothing of its own.
    All,
}

/// How the IPv4 identification of a node's own packets is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum IpId {
    /// One counter for the node.
    Counter,
    /// Always zero.
    Zero,
    /// Pseudo-random.
    Random,
}

/// How a router spreads packets over next hops of equal cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ecmp {
    /// By flow.
    Flow,
    /// Packet by packet.
    Packet,
}

/// What a NAT restores in the packet that an ICMP error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NatQuote {
    /// Addresses, ports and checksum.
    Full,
    /// Addresses and ports; the checksum stays that of the translated packet.
    Addresses,
    /// Nothing.
    None,
}

/// Which port or echo identifier a NAT gives a flow outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NatPorts {
    /// Its own, where that is free.
    Keep,
    /// Another.
    Rewrite,
}

/// A rate limit as a token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// Nanoseconds until one more message may be sent.
    pub(crate) interval: u64,
    /// Messages that may be sent at once.
    pub(crate) burst: u32,
}

/// Everything about one node that the data plane asks for.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) time_exceeded_ttl: u8,
    pub(crate) echo_reply_ttl: u8,
    pub(crate) time_exceeded_hop_limit: u8,
    pub(crate) echo_reply_hop_limit: u8,
    pub(crate) rfc4950: bool,
    pub(crate) extensions: ExtensionStyle,
    pub(crate) quote: QuoteLen,
    pub(crate) quoted_ttl_zero: bool,
    pub(crate) quoted_length_swapped: bool,
    pub(crate) quoted_seq_rewritten: bool,
    pub(crate) unreachable_source: UnreachableSource,
    pub(crate) silent: Silence,
    pub(crate) errors: Option<Limit>,
    pub(crate) echoes: Option<Limit>,
    pub(crate) ip_id: IpId,
    pub(crate) ecmp: Ecmp,
    pub(crate) lse_expiry: LseExpiry,
    /// At a pop of an ordinary label.
    pub(crate) pop_ttl: PopTtl,
    /// At a pop of an explicit null for IPv4.
    pub(crate) null_pop_ttl: PopTtl,
    /// After a pop of an explicit null, a TTL of 1 is forwarded as it is (Cisco IOS).
    pub(crate) forwards_ttl_one: bool,
    /// Where TTLs are not propagated, the ingress leaves the IP TTL alone and the router that pops
    /// decrements it (Junos Olive).
    pub(crate) pop_decrements: bool,
    /// An expired packet whose ordinary label was popped here is quoted with that label.
    pub(crate) shows_popped_label: bool,
    pub(crate) first_label: u32,
}

impl Profile {
    /// What a router of `vendor` does out of the box.
    pub(crate) const fn of(vendor: Vendor) -> Self {
        let base = Self {
            time_exceeded_ttl: 255,
            echo_reply_ttl: 255,
            time_exceeded_hop_limit: 64,
            echo_reply_hop_limit: 64,
            rfc4950: true,
            extensions: ExtensionStyle::Compliant,
            quote: QuoteLen::Minimal,
            quoted_ttl_zero: false,
            quoted_length_swapped: false,
            quoted_seq_rewritten: false,
            unreachable_source: UnreachableSource::Interface,
            silent: Silence::No,
            errors: None,
            echoes: None,
            ip_id: IpId::Counter,
            ecmp: Ecmp::Flow,
            lse_expiry: LseExpiry::LspEnd,
            pop_ttl: PopTtl::Min,
            null_pop_ttl: PopTtl::Min,
            forwards_ttl_one: false,
            pop_decrements: false,
            shows_popped_label: false,
            first_label: 16,
        };
        match vendor {
            Vendor::Cisco => Self {
                null_pop_ttl: PopTtl::Homogeneous,
                forwards_ttl_one: true,
                shows_popped_label: true,
                ..base
            },
            Vendor::Huawei => Self {
                first_label: 1024,
                ..base
            },
            Vendor::Junos => Self {
                echo_reply_ttl: 64,
                lse_expiry: LseExpiry::Direct,
                quote: QuoteLen::Full,
                first_label: 299_776,
                ..base
            },
            Vendor::JunosOlive => Self {
                echo_reply_ttl: 64,
                lse_expiry: LseExpiry::Direct,
                pop_ttl: PopTtl::Homogeneous,
                null_pop_ttl: PopTtl::Homogeneous,
                pop_decrements: true,
                quote: QuoteLen::Full,
                first_label: 299_776,
                ..base
            },
            Vendor::Junose => Self {
                time_exceeded_ttl: 128,
                echo_reply_ttl: 128,
                lse_expiry: LseExpiry::Direct,
                ..base
            },
            Vendor::Nokia => Self {
                time_exceeded_ttl: 64,
                echo_reply_ttl: 64,
                lse_expiry: LseExpiry::Direct,
                first_label: 262_128,
                ..base
            },
            Vendor::Mikrotik | Vendor::Linux => Self {
                time_exceeded_ttl: 64,
                echo_reply_ttl: 64,
                rfc4950: matches!(vendor, Vendor::Mikrotik),
                lse_expiry: LseExpiry::Direct,
                quote: QuoteLen::Full,
                unreachable_source: UnreachableSource::Probed,
                ..base
            },
        }
    }
}
