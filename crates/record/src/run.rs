//! What frames the records of one run: `start` first, `progress` between, `end` last.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::WallTime;

/// The value of `type` in the first record of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum StartType {
    /// `start`.
    #[default]
    Start,
}

/// The value of `type` in a progress record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ProgressType {
    /// `progress`.
    #[default]
    Progress,
}

/// The value of `type` in the last record of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum EndType {
    /// `end`.
    #[default]
    End,
}

/// First record of a run. `S` is the schema of the run's records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Start<S> {
    /// Schema of the run's records.
    pub schema: S,
    /// Always `start`.
    #[serde(rename = "type")]
    pub kind: StartType,
    /// When the run began.
    pub time: WallTime,
    /// Version of plumb.
    pub version: String,
    /// Arguments of the run.
    pub arguments: Vec<String>,
}

/// How far a run has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Progress<S> {
    /// Schema of the run's records.
    pub schema: S,
    /// Always `progress`.
    #[serde(rename = "type")]
    pub kind: ProgressType,
    /// When this was true.
    pub time: WallTime,
    /// Targets finished.
    pub finished: u64,
    /// Targets known so far; null while the list is still being read.
    pub targets: Option<u64>,
    /// Probes sent.
    pub probes_sent: u64,
    /// Replies matched to a probe.
    pub replies: u64,
}

/// Why a run ended.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum EndReason {
    /// All that was asked for was done.
    #[default]
    Completed,
    /// The user stopped it.
    Interrupted,
    /// It could not go on; `error` says why.
    Failed,
}

/// Last record of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct End<S> {
    /// Schema of the run's records.
    pub schema: S,
    /// Always `end`.
    #[serde(rename = "type")]
    pub kind: EndType,
    /// When the run ended.
    pub time: WallTime,
    /// Why it ended.
    pub reason: EndReason,
    /// What went wrong, if `reason` is `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Targets finished.
    pub finished: u64,
    /// Targets whose destination answered.
    pub reached: u64,
    /// Tunnels found.
    pub tunnels: u64,
    /// Probes sent.
    pub probes_sent: u64,
    /// Replies matched to a probe.
    pub replies: u64,
    /// Replies to a probe whose wait was over.
    pub late: u64,
    /// Packets that the kernel dropped before plumb read them.
    pub dropped: u64,
}
