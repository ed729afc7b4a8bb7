//! A flow that a tap has counted, one of `plumb.tap/1`.

use alloc::string::String;
use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{TapSchema, WallTime};

/// The value of `type` in the record of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum TapFlowType {
    /// `flow`.
    #[default]
    Flow,
}

/// Which way packets go, as the machine behind the interface sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum TapFlowDirection {
    /// The machine receives them.
    #[default]
    In,
    /// The machine sends them.
    Out,
}

/// Why a record of a flow was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum TapFlowEnd {
    /// Nothing came for a while.
    #[default]
    Idle,
    /// The flow goes on, and was last told long ago.
    Active,
    /// The TCP connection has ended.
    Ended,
    /// The session has ended.
    Stopped,
    /// There was no room for it any more.
    Evicted,
}

/// Packets of a tap with the same addresses, ports, protocol and VLAN, which went the same way through
/// the same interface; all of them, or those since the flow's last record. Counts are of the packets
/// that the tap took: with sampling, `sample` says how many each stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TapFlow {
    /// Schema of this record.
    pub schema: TapSchema,
    /// Always `flow`.
    #[serde(rename = "type")]
    pub kind: TapFlowType,
    /// Name of the interface.
    pub interface: String,
    /// Number of the interface in its network namespace.
    pub interface_index: u32,
    /// Which way the packets went, as the machine behind the interface sees it.
    pub direction: TapFlowDirection,
    /// The interface received them; otherwise it sent them.
    pub received: bool,
    /// Identifier of the outermost VLAN tag; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Protocol behind the IP header, as its number (6 is TCP, 17 is UDP).
    pub protocol: u8,
    /// Source address.
    pub src_addr: IpAddr,
    /// Source port; absent where the protocol has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub src_port: Option<u16>,
    /// Destination address.
    pub dst_addr: IpAddr,
    /// Destination port; absent where the protocol has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dst_port: Option<u16>,
    /// Type and code of ICMP, 256 x type + code; absent for other protocols.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_type_code: Option<u16>,
    /// Time of the first packet.
    pub start: WallTime,
    /// Time of the last packet.
    pub end: WallTime,
    /// Packets; each segment of a large frame (GSO) is one.
    pub packets: u64,
    /// Bytes of the packets from their IP headers on.
    pub bytes: u64,
    /// Flags of all TCP headers together, FIN being bit 0; absent for other protocols.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_flags: Option<u8>,
    /// Why the record was made.
    pub end_reason: TapFlowEnd,
    /// One packet in so many was taken, by chance; absent if all were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<u32>,
}

/// What a session has done with flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TapFlows {
    /// Flows that are not over.
    pub open: u64,
    /// Packets that are in a flow.
    pub packets: u64,
    /// Packets that are not IP, or whose IP header is damaged; in no flow.
    pub not_ip: u64,
    /// Records made.
    pub records: u64,
    /// Records of flows that had to make room for others.
    pub evicted: u64,
}

impl TapFlows {
    /// Names and values, in order.
    pub fn rows(&self) -> [(&'static str, u64); 5] {
        [
            ("flows_open", self.open),
            ("packets_in_flows", self.packets),
            ("not_ip", self.not_ip),
            ("flow_records", self.records),
            ("flows_evicted", self.evicted),
        ]
    }
}
