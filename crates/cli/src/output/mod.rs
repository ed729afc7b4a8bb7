//! What is printed, one format a module.

pub mod schema;

pub(crate) mod flow_record;
pub(crate) mod flow_sink;
pub(crate) mod line;
pub(crate) mod ndjson;
pub(crate) mod pcapng;
pub(crate) mod ping_sink;
pub(crate) mod scamper_json;
pub(crate) mod style;
pub(crate) mod table;
pub(crate) mod text;
pub(crate) mod trace_sink;

pub(crate) mod path;
mod tnt;

#[cfg(test)]
pub(crate) mod fixtures;
