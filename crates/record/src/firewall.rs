//! The log of a firewall, `plumb.firewall/1`.

use alloc::string::String;
use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::WallTime;

/// Name and version of the schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum FirewallSchema {
    /// `plumb.firewall/1`.
    #[default]
    #[serde(rename = "plumb.firewall/1")]
    V1,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum FirewallType {
    /// A packet met a `log` statement.
    Log,
}

/// An entry of a firewall's log: a packet that met a `log` statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FirewallEntry {
    /// Schema of this record.
    pub schema: FirewallSchema,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: FirewallType,
    /// When the packet came.
    pub time: WallTime,
    /// The rule's prefix; empty without.
    pub prefix: String,
    /// The rule's level, one of syslog's names.
    pub level: String,
    /// File and line of the rule.
    pub rule: String,
    /// Name of the interface that the packet came in by.
    pub in_interface: String,
    /// Name of the interface that it would leave by; null in prerouting.
    pub out_interface: Option<String>,
    /// Source MAC address.
    pub src_mac: String,
    /// Destination MAC address.
    pub dst_mac: String,
    /// EtherType behind any VLAN tags.
    pub ethertype: u16,
    /// Source address; null if the packet is not IP.
    pub src_addr: Option<IpAddr>,
    /// Destination address; null if the packet is not IP.
    pub dst_addr: Option<IpAddr>,
    /// Protocol number behind extension headers; null if the packet is not IP.
    pub protocol: Option<u8>,
    /// TTL or hop limit; null if the packet is not IP.
    pub ttl: Option<u8>,
    /// Source port; null for protocols without.
    pub src_port: Option<u16>,
    /// Destination port; null for protocols without.
    pub dst_port: Option<u16>,
    /// TCP flags, FIN in the lowest bit; null if it is not TCP.
    pub tcp_flags: Option<u8>,
    /// ICMP type; null if it is not ICMP.
    pub icmp_type: Option<u8>,
    /// ICMP code; null if it is not ICMP.
    pub icmp_code: Option<u8>,
    /// Length from the network header on.
    pub length_bytes: u32,
    /// Packet mark.
    pub mark: u32,
}
