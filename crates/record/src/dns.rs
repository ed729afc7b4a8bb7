//! The record of a name lookup, one of `plumb.flow/1`.

use alloc::string::String;
use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{FlowSchema, WallTime};

/// The value of `type` in the record of a name lookup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum DnsType {
    /// `dns`.
    #[default]
    Dns,
}

/// What carried a DNS message.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum DnsTransport {
    /// UDP.
    #[default]
    Udp,
    /// TCP.
    Tcp,
}

/// One question to a name server, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DnsProfile {
    /// Schema of this record.
    pub schema: FlowSchema,
    /// Always `dns`.
    #[serde(rename = "type")]
    pub kind: DnsType,
    /// Identifier of the socket that asked, its socket cookie; absent where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<u64>,
    /// What carried the question.
    pub transport: DnsTransport,
    /// Address of this host.
    pub local_addr: IpAddr,
    /// Port of this host.
    pub local_port: u16,
    /// Address of the name server.
    pub remote_addr: IpAddr,
    /// Port of the name server.
    pub remote_port: u16,
    /// Identifier of the process that asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Name of that process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// Identifier of the control group of the socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_id: Option<u64>,
    /// Path of the control group, from the root of its hierarchy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Inode number of the network namespace, as in `/proc/PID/ns/net`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<u32>,
    /// When the question was first asked.
    pub start: WallTime,
    /// When the answer came, or was given up.
    pub end: WallTime,
    /// Name asked for, without the last dot; bytes that are not printable ASCII as `\DDD`
    /// (RFC 1035 §5.1).
    pub name: String,
    /// Type asked for, as its number (1 is A, 28 is AAAA).
    pub query_type: u16,
    /// Times that the question was sent.
    pub queries: u32,
    /// Nanoseconds from the first question to the answer; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution_ns: Option<u64>,
    /// Response code of the answer (RFC 1035 §4.1.1); absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_code: Option<u16>,
    /// Records in the answer section.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<u16>,
    /// Whether the answer was cut (TC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncated: Option<bool>,
}
