//! A network as it is built: nodes, links, MPLS domains, addresses and routes, all resolved.

mod address;
mod build;
mod error;
mod file;
mod profile;
mod settings;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use plumb_wire::icmp::Family;

pub use error::TopologyError;
pub(crate) use file::Answer;
pub(crate) use profile::{
    Ecmp, Ending, ExtensionStyle, IpId, LabelDistribution, Limit, LseExpiry, NatPorts, NatQuote,
    PopTtl, Profile, QuoteLen, Silence, UnreachableSource,
};

use crate::domain::Domain;
use crate::lookup::Lookup;
use crate::routing::Routes;

/// A simulated internet, read from TOML and checked: names resolved, addresses given, routes
/// computed. Cheap to clone; any number of [`Network`](crate::Network)s may run on one.
#[derive(Clone, Debug)]
pub struct Topology {
    pub(crate) plan: Arc<Plan>,
}

/// Addresses of the vantage host, from which measurements are made, or of its gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vantage {
    /// IPv4 address and prefix length, if the topology has IPv4.
    pub v4: Option<(Ipv4Addr, u8)>,
    /// IPv6 address and prefix length, if the topology has IPv6.
    pub v6: Option<(Ipv6Addr, u8)>,
}

impl Topology {
    /// Reads a topology; `docs/topology.md` of the project describes the format.
    ///
    /// # Errors
    /// If the text is not TOML, names something that does not exist, or describes a network that
    /// cannot be. At most 512 nodes and 2048 links are taken, so that no file takes long.
    pub fn from_toml(text: &str) -> Result<Self, TopologyError> {
        Ok(Self {
            plan: Arc::new(build::build(text)?),
        })
    }

    /// One line on what the topology shows; empty if the file has none.
    pub fn summary(&self) -> &str {
        &self.plan.summary
    }

    /// Addresses that are worth tracing, in the file's order.
    pub fn targets(&self) -> &[IpAddr] {
        &self.plan.targets
    }

    /// Addresses of the vantage host.
    pub fn vantage(&self) -> Vantage {
        let i = &self.plan.nodes[usize::from(self.plan.vantage)].interfaces[0];
        Vantage {
            v4: i.v4.map(|a| (a, i.v4_len)),
            v6: i.v6.map(|a| (a, i.v6_len)),
        }
    }

    /// Addresses of the vantage host's gateway: the other end of its link.
    pub fn gateway(&self) -> Vantage {
        let i = &self.plan.nodes[usize::from(self.plan.vantage)].interfaces[0];
        let far = &self.plan.nodes[usize::from(i.peer)].interfaces[usize::from(i.peer_interface)];
        Vantage {
            v4: far.v4.map(|a| (a, far.v4_len)),
            v6: far.v6.map(|a| (a, far.v6_len)),
        }
    }

    /// The address of node `name` in a family: a router's loopback, otherwise the address on its
    /// first link. `None` if there is no such node or it has no such address.
    pub fn address(&self, name: &str, family: Family) -> Option<IpAddr> {
        let node = self.plan.nodes.iter().find(|n| n.name == name)?;
        node.loopback(family)
            .or_else(|| node.interfaces.iter().find_map(|i| i.address(family)))
    }

    /// The address of node `name` on its link to node `neighbor`; on the first such link if there
    /// are several.
    pub fn link_address(&self, name: &str, neighbor: &str, family: Family) -> Option<IpAddr> {
        let node = self.plan.nodes.iter().find(|n| n.name == name)?;
        node.interfaces
            .iter()
            .filter(|i| self.plan.nodes[usize::from(i.peer)].name == neighbor)
            .find_map(|i| i.address(family))
    }

    /// The name of the node that has `address`, if one has.
    pub fn node_of(&self, address: IpAddr) -> Option<&str> {
        let owner = self.plan.lookup.find(address)?;
        owner
            .is_answered()
            .then(|| self.plan.nodes[usize::from(owner.node)].name.as_str())
    }
}

/// The resolved network.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) summary: String,
    pub(crate) targets: Vec<IpAddr>,
    pub(crate) vantage: u16,
    pub(crate) nodes: Vec<Node>,
    pub(crate) domains: Vec<Domain>,
    pub(crate) lookup: Lookup,
    pub(crate) routes: Routes,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Vantage,
    Router,
    Host,
}

/// A node with its behaviour.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) ipv6: bool,
    pub(crate) profile: Profile,
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) loopback_v4: Option<Ipv4Addr>,
    pub(crate) loopback_v6: Option<Ipv6Addr>,
    pub(crate) open_tcp: Vec<u16>,
    pub(crate) nat: Option<Nat>,
    pub(crate) mpls: Option<Membership>,
}

/// A router's place in its MPLS domain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Membership {
    pub(crate) domain: u16,
    pub(crate) member: u16,
    pub(crate) ttl_propagate: bool,
    pub(crate) ending: Ending,
}

/// Source NAT toward one interface.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nat {
    pub(crate) outside: u16,
    pub(crate) ports: NatPorts,
    pub(crate) quote: NatQuote,
}

/// One end of a link, with the properties of the direction that leaves here.
#[derive(Clone, Debug)]
pub(crate) struct Interface {
    pub(crate) peer: u16,
    pub(crate) peer_interface: u16,
    pub(crate) v4: Option<Ipv4Addr>,
    pub(crate) v4_len: u8,
    pub(crate) v6: Option<Ipv6Addr>,
    pub(crate) v6_len: u8,
    pub(crate) delay: u64,
    pub(crate) jitter: u64,
    /// In 1/10^9.
    pub(crate) loss: u32,
    pub(crate) mtu: u16,
    pub(crate) cost: u32,
}

impl Node {
    pub(crate) fn loopback(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.loopback_v4.map(IpAddr::V4),
            Family::V6 => self.loopback_v6.map(IpAddr::V6),
        }
    }
}

impl Interface {
    pub(crate) fn address(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.v4.map(IpAddr::V4),
            Family::V6 => self.v6.map(IpAddr::V6),
        }
    }
}
