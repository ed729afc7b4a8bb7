//! The mapping log of a NAT, `plumb.nat/1`.

use core::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::WallTime;

/// Name and version of the schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum NatSchema {
    /// `plumb.nat/1`.
    #[default]
    #[serde(rename = "plumb.nat/1")]
    V1,
}

/// What happened to a mapping or a block of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum NatType {
    /// An inside endpoint got an outside one.
    MappingCreated,
    /// A mapping ended.
    MappingDeleted,
    /// A host got a block of ports.
    BlockAllocated,
    /// A host gave a block of ports back.
    BlockReleased,
}

/// A protocol whose ports, or identifiers, are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum NatProtocol {
    /// Queries of ICMP.
    Icmp,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// An entry of the mapping log: who an outside endpoint is, and from when to when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NatEntry {
    /// Schema of this record.
    pub schema: NatSchema,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: NatType,
    /// When it happened.
    pub time: WallTime,
    /// Protocol of a mapping; null for a block, which serves all.
    pub protocol: Option<NatProtocol>,
    /// Address of the inside host.
    pub inside_addr: Ipv4Addr,
    /// Port or ICMP identifier of the inside endpoint; null for a block.
    pub inside_port: Option<u16>,
    /// Outside address.
    pub outside_addr: Ipv4Addr,
    /// Outside port or ICMP identifier, or the first port of a block.
    pub outside_port: u16,
    /// The last port of a block; that of a mapping is its only one.
    pub outside_port_last: u16,
    /// When a mapping that ended was created.
    pub since: Option<WallTime>,
}
