//! The JSON Schemas of the NDJSON records.

use plumb_record::{
    DnsProfile, End, FlowProfile, FlowSchema, NatEntry, Ping, PingReply, PingSchema, Progress,
    Start, TapFlow, TapStatus, Trace, TraceSchema,
};
use schemars::{JsonSchema, generate::SchemaSettings};

use super::flow_record::FlowEnd;
use crate::live::record::{LiveSchema, Report};

/// The JSON Schema of one line of `plumb trace --json`.
pub fn trace() -> String {
    text::<TraceLine>()
}

/// The JSON Schema of one line of `plumb ping --json`.
pub fn ping() -> String {
    text::<PingLine>()
}

/// The JSON Schema of one line of `plumb trace --report --json`.
pub fn live() -> String {
    text::<LiveLine>()
}

/// The JSON Schema of one line of `plumb firewall --log`.
pub fn firewall() -> String {
    text::<plumb_record::FirewallEntry>()
}

/// The JSON Schema of one line of `plumb nat --log`.
pub fn nat() -> String {
    text::<NatEntry>()
}

/// The JSON Schema of one line of `plumb flow --json`.
pub fn flow() -> String {
    text::<FlowLine>()
}

/// The JSON Schema of what `plumb tap status --json` prints, and of a line of `plumb tap --flows`.
pub fn tap() -> String {
    text::<TapLine>()
}

/// A line of `plumb trace --json`: `start` comes first, `end` last.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only the schema of the type is used")]
enum TraceLine {
    Start(Start<TraceSchema>),
    Trace(Box<Trace>),
    Progress(Progress<TraceSchema>),
    End(End<TraceSchema>),
}

/// A line of `plumb ping --json`: `start` comes first, `end` last.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only the schema of the type is used")]
enum PingLine {
    Start(Start<PingSchema>),
    Reply(PingReply),
    Ping(Ping),
    Progress(Progress<PingSchema>),
    End(End<PingSchema>),
}

/// A line of `plumb trace --report --json`: `start` comes first, `end` last.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only the schema of the type is used")]
enum LiveLine {
    Start(Start<LiveSchema>),
    Report(Box<Report>),
    End(End<LiveSchema>),
}

/// A line of `plumb flow --json`: `start` comes first, `end` last.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only the schema of the type is used")]
enum FlowLine {
    Start(Start<FlowSchema>),
    Flow(Box<FlowProfile>),
    Dns(Box<DnsProfile>),
    End(FlowEnd),
}

/// A line of `plumb tap status --json`, or of `plumb tap --flows`, which has a `type`.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only the schema of the type is used")]
enum TapLine {
    Status(Box<TapStatus>),
    Flow(Box<TapFlow>),
}

fn text<T: JsonSchema>() -> String {
    let schema = SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<T>();
    // Values of strings, numbers and maps with string keys always serialize.
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}
