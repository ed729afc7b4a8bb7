//! The records of a ping, `plumb.ping/1`.

use alloc::string::String;
use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::WallTime;

/// Name and version of the schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum PingSchema {
    /// `plumb.ping/1`.
    #[default]
    #[serde(rename = "plumb.ping/1")]
    V1,
}

/// The value of `type` in the summary of a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum PingType {
    /// `ping`.
    #[default]
    Ping,
}

/// The value of `type` in a single reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ReplyType {
    /// `reply`.
    #[default]
    Reply,
}

/// One echo request and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PingReply {
    /// Schema of this record.
    pub schema: PingSchema,
    /// Always `reply`.
    #[serde(rename = "type")]
    pub kind: ReplyType,
    /// Target.
    pub dst: IpAddr,
    /// Number of the request, from 1.
    pub seq: u32,
    /// Address that answered; null if none did in time.
    pub addr: Option<IpAddr>,
    /// Round-trip time in nanoseconds.
    pub rtt_ns: Option<u64>,
    /// TTL of the reply as received.
    pub reply_ttl: Option<u8>,
    /// Length of the reply in bytes, IP header included.
    pub reply_size: Option<u16>,
    /// ICMP type of the reply: an echo reply, or an error.
    pub icmp_type: Option<u8>,
    /// ICMP code of the reply.
    pub icmp_code: Option<u8>,
}

/// Summary of the pings to one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Ping {
    /// Schema of this record.
    pub schema: PingSchema,
    /// Always `ping`.
    #[serde(rename = "type")]
    pub kind: PingType,
    /// Source address of the requests.
    pub src: IpAddr,
    /// Target.
    pub dst: IpAddr,
    /// The name that the user gave for the target, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dst_name: Option<String>,
    /// When the first request left.
    pub start: WallTime,
    /// Echo requests sent.
    pub sent: u32,
    /// Echo replies received in time, duplicates not counted.
    pub received: u32,
    /// Replies to a request that had been answered.
    pub duplicates: u32,
    /// Replies that came after the wait.
    pub late: u32,
    /// Least round-trip time in nanoseconds; null without a reply, as the others.
    pub rtt_min_ns: Option<u64>,
    /// Mean round-trip time in nanoseconds.
    pub rtt_mean_ns: Option<u64>,
    /// Greatest round-trip time in nanoseconds.
    pub rtt_max_ns: Option<u64>,
    /// Standard deviation of the round-trip times in nanoseconds.
    pub rtt_stddev_ns: Option<u64>,
    /// Most nanoseconds by which the round-trip times may be too long, because packets had to pass
    /// a virtual machine monitor; absent where they did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_error_ns: Option<u64>,
}
