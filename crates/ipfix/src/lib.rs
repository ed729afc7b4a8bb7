//! IPFIX (RFC 7011): how records leave for collectors, and are read back.
//!
//! - The codec: [`Header`], [`Sets`], [`Template`], [`Value`], [`Framer`] for streams and files.
//! - The table of information elements: `elements` with IANA's that plumb uses and its own, and
//!   the fields of records that they carry.
//! - [`Exporter`], an exporting process without I/O: records and time in, messages out.
//! - [`Collector`], a collecting process without I/O: messages in, records out.
//!
//! No `parse` panics on any input.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod collector;
mod exporter;
mod message;
pub mod table;
mod template;
mod types;
mod value;

pub use collector::{Collector, CollectorLimits, CollectorStatistics, Learned, Profiles, Record};
pub use exporter::{Exporter, ExporterConfig, ExporterStatistics, MIN_MESSAGE_LEN, Transport};
pub use message::{Framer, HEADER_LEN, Header, SET_HEADER_LEN, Set, Sets, VERSION};
pub use template::{
    FIRST_TEMPLATE, FieldSpec, OPTIONS_TEMPLATE_SET, TEMPLATE_SET, Template, TemplateRecord,
    VARIABLE,
};
pub use types::{DataType, Semantics, Unit};
pub use value::Value;
