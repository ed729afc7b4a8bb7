//! What a tap session does, `plumb.tap/1`.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::{TapFlows, WallTime};

/// Name and version of the schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum TapSchema {
    /// `plumb.tap/1`.
    #[default]
    #[serde(rename = "plumb.tap/1")]
    V1,
}

/// A session and what became of its packets so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TapStatus {
    /// Schema of this record.
    pub schema: TapSchema,
    /// Number of the session: its process.
    pub id: u32,
    /// When this was so.
    pub time: WallTime,
    /// When it began.
    pub since: WallTime,
    /// The interfaces that it is on.
    pub interfaces: Vec<TapInterface>,
    /// The expression that chooses packets; empty for all.
    pub filter: String,
    /// Where copies go.
    pub outputs: Vec<TapOutput>,
    /// What is handed on of the chosen packets.
    pub limits: TapLimits,
    /// What became of packets.
    pub counters: TapCounters,
    /// Rules, the one of highest priority first.
    pub rules: Vec<TapRule>,
    /// How many prefixes addresses are looked up in.
    pub prefixes: u64,
    /// Why packets are chosen in user space, where they are: the kernel has refused the filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_user_space: Option<String>,
    /// What became of flows, where records of them are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flows: Option<TapFlows>,
}

/// A rule: what becomes of the packets that an expression matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TapRule {
    /// Whether they are chosen.
    pub action: TapAction,
    /// The expression; empty for all.
    pub filter: String,
}

/// What becomes of packets that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum TapAction {
    /// They are chosen.
    Include,
    /// They are left out.
    Exclude,
}

impl TapAction {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Include => "include",
            Self::Exclude => "exclude",
        }
    }
}

/// An interface that packets are copied from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TapInterface {
    /// Its name.
    pub name: String,
    /// Its number in its network namespace.
    pub index: u32,
    /// Which way packets go that are copied, as the machine behind it sees them: `in`, `out`, `both`.
    pub direction: String,
    /// How the programs are attached: `tcx` or `clsact`.
    pub attached: String,
}

/// Where copies go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TapOutput {
    /// As it was given: a name or an address of a collector.
    pub name: String,
    /// Why nothing goes there at present: no such interface, or no way to the collector.
    pub trouble: Option<String>,
}

/// What is handed on of the chosen packets; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TapLimits {
    /// Bytes of a packet that are kept.
    pub snaplen_bytes: u32,
    /// One packet in so many.
    pub sample: u32,
    /// One flow in so many.
    pub sample_flows: u32,
    /// Only headers are kept.
    pub headers_only: bool,
    /// Packets in a second.
    pub packets_per_s: u64,
    /// Bytes in a second.
    pub bytes_per_s: u64,
    /// Time in which copies from several interfaces are one, in nanoseconds.
    pub dedup_ns: u64,
    /// Transport payloads are overwritten with zeros.
    pub mask: bool,
}

/// What became of packets, and why. A large frame that stands for several segments counts as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TapCounters {
    /// Packets that came by.
    pub seen: u64,
    /// Their bytes.
    pub seen_bytes: u64,
    /// Packets that filter, rules and prefixes chose.
    pub matched: u64,
    /// Copies that were handed on, one for each output.
    pub delivered: u64,
    /// Their bytes, headers of tunnels included.
    pub delivered_bytes: u64,
    /// Packets that sampling left out.
    pub sampled_out: u64,
    /// Packets that the cap left out.
    pub rate_limited: u64,
    /// Packets that another interface had just had.
    pub duplicates: u64,
    /// Packets that were cut.
    pub truncated: u64,
    /// Packets for which the ring had no room.
    pub ring_full: u64,
    /// Copies that an output did not take.
    pub output_failed: u64,
    /// Packets that a tap had put out.
    pub own: u64,
    /// Frames that were written to a file or to the next stage.
    pub written: u64,
    /// Frames that it did not take.
    pub not_taken: u64,
    /// Packets that came by and that filter, rules or prefixes left out.
    pub not_chosen: u64,
}

impl TapStatus {
    /// Names and values of all that was counted, in order.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let flows = self.flows.iter().flat_map(TapFlows::rows);
        self.counters.rows().into_iter().chain(flows)
    }
}

impl TapCounters {
    /// Names and values, in order.
    pub fn rows(&self) -> [(&'static str, u64); 15] {
        [
            ("seen", self.seen),
            ("seen_bytes", self.seen_bytes),
            ("not_chosen", self.not_chosen),
            ("matched", self.matched),
            ("delivered", self.delivered),
            ("delivered_bytes", self.delivered_bytes),
            ("sampled_out", self.sampled_out),
            ("rate_limited", self.rate_limited),
            ("duplicates", self.duplicates),
            ("truncated", self.truncated),
            ("ring_full", self.ring_full),
            ("output_failed", self.output_failed),
            ("own", self.own),
            ("written", self.written),
            ("not_taken", self.not_taken),
        ]
    }
}
