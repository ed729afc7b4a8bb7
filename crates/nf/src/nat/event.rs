//! What a NAT tells its owner, for the log that operators must keep (RFC 6888 §4).

use core::net::Ipv4Addr;
use core::ops::RangeInclusive;

use plumb_wire::Instant;

use super::{Endpoint, Protocol};

/// Something that decides who an outside endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it happened.
    pub at: Instant,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// An inside endpoint got an outside one.
    MappingCreated {
        /// Its protocol.
        protocol: Protocol,
        /// The inside endpoint.
        inside: Endpoint,
        /// What stands for it outside.
        outside: Endpoint,
    },
    /// A mapping ended.
    MappingDeleted {
        /// Its protocol.
        protocol: Protocol,
        /// The inside endpoint.
        inside: Endpoint,
        /// What stood for it outside.
        outside: Endpoint,
        /// When it was created.
        since: Instant,
    },
    /// A host got a block of ports. Its mappings in there are not told one by one.
    BlockAllocated {
        /// The host.
        inside: Ipv4Addr,
        /// The outside address.
        outside: Ipv4Addr,
        /// The ports.
        ports: RangeInclusive<u16>,
    },
    /// A host gave a block back.
    BlockReleased {
        /// The host.
        inside: Ipv4Addr,
        /// The outside address.
        outside: Ipv4Addr,
        /// The ports.
        ports: RangeInclusive<u16>,
    },
}
