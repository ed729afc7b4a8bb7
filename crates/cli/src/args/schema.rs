//! `plumb schema`.

use clap::{Args, ValueEnum};

/// Arguments of `plumb schema`.
#[derive(Clone, Copy, Debug, Args)]
#[command(after_help = "Examples:\n  plumb schema trace > trace.schema.json")]
pub struct Schema {
    /// The command whose records are described.
    #[arg(value_enum, default_value = "trace")]
    pub name: SchemaName,
}

/// Names of the schemas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemaName {
    /// `plumb.trace/1`.
    Trace,
    /// `plumb.ping/1`.
    Ping,
    /// `plumb.firewall/1`: the log of `plumb firewall --log`.
    Firewall,
    /// `plumb.nat/1`: the log of `plumb nat --log`.
    Nat,
    /// `plumb.flow/1`: profiles of connections and name lookups.
    Flow,
    /// The fields of flow records as a page of Markdown: unit, kernel source, IPFIX element.
    Kpis,
    /// `plumb.tap/1`: `plumb tap status --json`.
    Tap,
    /// `plumb.live/1`: `plumb trace --report --json`.
    Live,
}
