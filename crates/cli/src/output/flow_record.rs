//! The records that frame the profiles of `plumb flow --json`.

use plumb_record::{EndReason, EndType, FlowSchema, WallTime};
use schemars::JsonSchema;
use serde::Serialize;

/// Last record of a run, with what was lost.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct FlowEnd {
    /// Schema of the run's records.
    pub(crate) schema: FlowSchema,
    /// Always `end`.
    #[serde(rename = "type")]
    pub(crate) kind: EndType,
    /// When the run ended.
    pub(crate) time: WallTime,
    /// Why it ended.
    pub(crate) reason: EndReason,
    /// Connections that were watched, those of before included.
    pub(crate) connections: u64,
    /// Profiles written.
    pub(crate) profiles: u64,
    /// Profiles held back by the limit on their rate.
    pub(crate) profiles_over_rate: u64,
    /// Events that the kernel could not hand over, because what is between was full.
    pub(crate) events_dropped: u64,
    /// Events of connections that had been forgotten, or whose beginning was lost.
    pub(crate) events_unknown: u64,
    /// Connections that were forgotten because nobody had told their end.
    pub(crate) ends_lost: u64,
    /// Connections that the kernel had no memory to watch.
    pub(crate) connections_untracked: u64,
}
