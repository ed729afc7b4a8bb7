//! What rules want to be written.

use alloc::string::String;

use plumb_wire::Instant;
use plumb_wire::frame::Port;

use crate::dissect::Dissected;

/// A packet that met a `log` statement.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub at: Instant,
    /// The text of the rule's `prefix`; empty without.
    pub prefix: String,
    /// The level, one of syslog's names.
    pub level: &'static str,
    /// File and line of the rule.
    pub place: String,
    /// Where the packet came from.
    pub from: Port,
    /// Where it goes; none in prerouting, where that is not decided.
    pub to: Option<Port>,
    /// Bytes from the IP header on, or behind the Ethernet header.
    pub len: u32,
    /// Its packet mark.
    pub mark: u32,
    /// What the packet is.
    pub packet: Dissected,
}
