//! A simulated internet on a virtual clock.
//!
//! A [`Topology`] is read from TOML: routers with the behaviour of their vendors, MPLS domains,
//! hosts, links with delay and loss. A [`Network`] runs one: it is an [`Engine`] like any other, so
//! the driver that sends a prober's packets to a socket can send them here instead. Packets of both
//! IP versions enter from one vantage host; every router on the way decides what real ones decide
//! (TTL, labels, next hop), and what the vantage host would see comes out at the time at which it
//! would see it. Nothing is looked up from a script: reply TTLs, quoted TTLs and label TTLs are
//! what is left after the way there and back.
//!
//! A [`Hub`] gives every host on an Ethernet segment a network of its own.
//!
//! [`labs()`] are built-in topologies; `docs/topology.md` of the project describes the format.
//!
//! [`Engine`]: plumb_wire::Engine

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod domain;
mod flight;
mod hub;
mod labs;
mod limit;
mod lookup;
mod nat;
mod network;
mod router;
mod routing;
mod topology;

pub use hub::{Hub, HubStats};
pub use labs::{Lab, labs};
pub use network::{Network, Stats};
pub use topology::{Topology, TopologyError, Vantage};
