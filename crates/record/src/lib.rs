//! The records that leave an engine.
//!
//! One typed schema with units, written as NDJSON here and as other encodings elsewhere. Field
//! names are a contract: fields are added, never renamed. Integers carry their unit in the name
//! (`rtt_ns`). Wall time is [`WallTime`], which the edge fills in; engines leave it at its default.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod dns;
mod firewall;
mod flow;
mod nat;
mod ping;
mod run;
mod tap;
mod tap_flow;
mod trace;
mod wall_time;

pub use dns::{DnsProfile, DnsTransport, DnsType};
pub use firewall::{FirewallEntry, FirewallSchema, FirewallType};
pub use flow::{
    FlowEnd, FlowEvent, FlowMptcp, FlowOpen, FlowPhase, FlowProfile, FlowProtocol, FlowSchema,
    FlowState, FlowType,
};
pub use nat::{NatEntry, NatProtocol, NatSchema, NatType};
pub use ping::{Ping, PingReply, PingSchema, PingType, ReplyType};
pub use run::{End, EndReason, EndType, Progress, ProgressType, Start, StartType};
pub use tap::{
    TapAction, TapCounters, TapInterface, TapLimits, TapOutput, TapRule, TapSchema, TapStatus,
};
pub use tap_flow::{TapFlow, TapFlowDirection, TapFlowEnd, TapFlowType, TapFlows};
pub use trace::{
    Hop, HopTunnel, LabelStackEntry, Lsr, LsrMethod, Method, Revelation, Role, StopReason, Trace,
    TraceSchema, TraceType, Trigger, Tunnel, TunnelType, Variant,
};
pub use wall_time::WallTime;
