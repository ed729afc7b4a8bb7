//! From the file to the resolved network.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

use plumb_wire::is_reserved;

use super::address::{Blocks, block, parse_prefix, parse_prefix_of};
use super::error::TopologyError;
use super::file::{self, File};
use super::profile::{Ending, LabelDistribution, NatPorts, NatQuote, Profile, Vendor};
use super::{Interface, Kind, Membership, Nat, Node, Plan, settings};
use crate::domain::Domain;
use crate::lookup::{Lookup, Owner, Range, Scope};
use crate::routing::Routes;

const MAX_TEXT: usize = 1 << 20;
const MAX_NODES: usize = 512;
const MAX_LINKS: usize = 2048;
const MAX_PREFIXES: usize = 4096;
const MAX_TARGETS: usize = 4096;

/// Reads and resolves a topology.
pub(crate) fn build(text: &str) -> Result<Plan, TopologyError> {
    if text.len() > MAX_TEXT {
        return Err(TopologyError::too_many("bytes in the file", MAX_TEXT));
    }
    let file: File = toml::from_str(text).map_err(|e| syntax_error(text, &e))?;
    let mut builder = Builder::default();
    builder.add_nodes(&file)?;
    builder.add_links(&file)?;
    builder.add_loopbacks(&file)?;
    let domains = builder.add_domains(&file)?;
    builder.add_nat(&file)?;
    builder.finish(&file, domains)
}

#[derive(Default)]
struct Builder {
    nodes: Vec<Node>,
    names: BTreeMap<String, u16>,
    vantage: u16,
    prefixes: Vec<(Range, Owner)>,
}

impl Builder {
    fn add_nodes(&mut self, file: &File) -> Result<(), TopologyError> {
        let vantage = file
            .vantage
            .as_ref()
            .map_or("VP", |vantage| vantage.name.as_str());
        self.vantage = self.add_node(
            vantage,
            Kind::Vantage,
            Profile::of(Vendor::Linux),
            true,
            "vantage",
        )?;
        let d = &file.defaults;
        let of_one = [&d.names, &d.loopback_v4, &d.loopback_v6, &d.nat_outside];
        if of_one.iter().any(|o| o.is_some()) {
            return Err(TopologyError::Contradiction {
                place: "defaults".to_owned(),
                problem: "names, loopbacks and nat_outside are of one router, not of all",
            });
        }
        let v6 = file.addresses.ipv6.unwrap_or(false);
        for router in &file.router {
            let names = router.names.as_deref().unwrap_or_default();
            check_names("router", names)?;
            let profile = settings::router(router, &file.defaults)?;
            let v6 = v6 && router.ipv6.or(file.defaults.ipv6).unwrap_or(true);
            for name in names.split_whitespace() {
                self.add_node(name, Kind::Router, profile.clone(), v6, "router")?;
            }
        }
        for host in &file.host {
            check_names("host", &host.names)?;
            let profile = settings::host(host)?;
            for name in host.names.split_whitespace() {
                let v6 = v6 && host.ipv6.unwrap_or(true);
                let node = self.add_node(name, Kind::Host, profile.clone(), v6, "host")?;
                self.nodes[usize::from(node)]
                    .open_tcp
                    .clone_from(&host.open_tcp);
                for prefix in &host.prefixes {
                    let range = parse_prefix(prefix, &|| format!("host {name:?}"))?;
                    self.add_prefix(range, node, Scope::Prefix)?;
                }
            }
        }
        for refused in &file.prefix {
            let place = || "prefix".to_owned();
            let node = self.find(&refused.at, &place, "router")?;
            let range = parse_prefix(&refused.prefix, &place)?;
            self.add_prefix(range, node, Scope::Refused(refused.answer))?;
        }
        Ok(())
    }

    fn add_node(
        &mut self,
        name: &str,
        kind: Kind,
        profile: Profile,
        ipv6: bool,
        what: &str,
    ) -> Result<u16, TopologyError> {
        if name.is_empty() || name.len() > 64 || !name.chars().all(|c| c.is_ascii_graphic()) {
            return Err(TopologyError::bad(
                what.to_owned(),
                name,
                "a name of 1 to 64 visible ASCII characters",
            ));
        }
        let index = u16::try_from(self.nodes.len()).unwrap_or(u16::MAX);
        if self.nodes.len() >= MAX_NODES {
            return Err(TopologyError::too_many("routers and hosts", MAX_NODES));
        }
        if self.names.insert(name.to_owned(), index).is_some() {
            return Err(TopologyError::Duplicate {
                name: name.to_owned(),
            });
        }
        self.nodes.push(Node {
            name: name.to_owned(),
            kind,
            ipv6,
            profile,
            interfaces: Vec::new(),
            loopback_v4: None,
            loopback_v6: None,
            open_tcp: Vec::new(),
            nat: None,
            mpls: None,
        });
        Ok(index)
    }

    fn add_links(&mut self, file: &File) -> Result<(), TopologyError> {
        let blocks = Blocks::new(&file.addresses)?;
        let mut number = 0;
        for link in &file.link {
            let place = || format!("link {:?}", link.path);
            let path: Vec<u16> = link
                .path
                .split_whitespace()
                .take(MAX_LINKS + 2)
                .map(|name| self.find(name, &place, "vantage, router or host"))
                .collect::<Result<_, _>>()?;
            if path.len() < 2 {
                return Err(TopologyError::bad(
                    place(),
                    &link.path,
                    "a path of at least two nodes",
                ));
            }
            if path.len() > 2 && (link.v4.is_some() || link.v6.is_some()) {
                return Err(TopologyError::Contradiction {
                    place: place(),
                    problem: "v4 and v6 are the prefix of a single link, but the path has several",
                });
            }
            for pair in path.windows(2) {
                number += 1;
                if number > MAX_LINKS {
                    return Err(TopologyError::too_many("links", MAX_LINKS));
                }
                self.add_link(link, (pair[0], pair[1]), number, &blocks)?;
            }
        }
        let links = self.nodes[usize::from(self.vantage)].interfaces.len();
        if links != 1 {
            return Err(TopologyError::Contradiction {
                place: format!("vantage {:?}", self.nodes[usize::from(self.vantage)].name),
                problem: "it must have exactly one link",
            });
        }
        Ok(())
    }

    fn add_link(
        &mut self,
        link: &file::Link,
        (a, b): (u16, u16),
        number: usize,
        blocks: &Blocks,
    ) -> Result<(), TopologyError> {
        let place = || format!("link {:?}", link.path);
        if a == b {
            return Err(TopologyError::Contradiction {
                place: place(),
                problem: "it leads from a node to itself",
            });
        }
        let mtu = link.mtu.unwrap_or(1500);
        if !(68..=1500).contains(&mtu) {
            return Err(TopologyError::bad(
                place(),
                &mtu.to_string(),
                "an MTU from 68 to 1500",
            ));
        }
        let cost = link.cost.unwrap_or(1);
        let back = link.cost_back.unwrap_or(cost);
        for c in [cost, back] {
            if !(1..=1_000_000).contains(&c) {
                return Err(TopologyError::bad(
                    place(),
                    &c.to_string(),
                    "a cost from 1 to 1000000",
                ));
            }
        }
        let v4 = match &link.v4 {
            Some(text) => Some(parse_prefix_of(false, text, &place)?),
            None => blocks.v4(number)?,
        };
        let v6 = match &link.v6 {
            Some(text) => Some(parse_prefix_of(true, text, &place)?),
            None => blocks.v6(number)?,
        };
        let mut ends = [(a, b, cost), (b, a, back)].map(|(node, peer, cost)| {
            let peer_interface = self.nodes[usize::from(peer)].interfaces.len();
            (
                node,
                Interface {
                    peer,
                    peer_interface: u16::try_from(peer_interface).unwrap_or(u16::MAX),
                    v4: None,
                    v4_len: 0,
                    v6: None,
                    v6_len: 0,
                    delay: 0,
                    jitter: 0,
                    loss: 0,
                    mtu,
                    cost,
                },
            )
        });
        for (first, (node, interface)) in [0, 1].into_iter().zip(&mut ends) {
            interface.delay = settings::millis(link.delay_ms, place)?;
            interface.jitter = settings::millis(link.jitter_ms, place)?;
            interface.loss = settings::probability(link.loss, place)?;
            let index = self.nodes[usize::from(*node)].interfaces.len();
            let scope = Scope::Interface(u16::try_from(index).unwrap_or(u16::MAX));
            for range in [v4, v6].into_iter().flatten() {
                if range.v6 && !self.nodes[usize::from(*node)].ipv6 {
                    continue;
                }
                let room = range.last - range.first;
                let address = range.nth(first + u128::from(room > 1));
                match address.filter(|_| room > 0) {
                    Some(IpAddr::V4(address)) if !range.v6 => {
                        (interface.v4, interface.v4_len) = (Some(address), range.prefix_len());
                    }
                    Some(IpAddr::V6(address)) if range.v6 => {
                        (interface.v6, interface.v6_len) = (Some(address), range.prefix_len());
                    }
                    _ => {
                        return Err(TopologyError::Contradiction {
                            place: place(),
                            problem: "its prefix has no room for two addresses",
                        });
                    }
                }
                if let Some(address) = address {
                    self.add_address(address, *node, scope)?;
                }
            }
        }
        for range in [v4, v6].into_iter().flatten() {
            let index = self.nodes[usize::from(a)].interfaces.len();
            let scope = Scope::Unassigned(u16::try_from(index).unwrap_or(u16::MAX));
            self.add_prefix(range, a, scope)?;
        }
        for (node, interface) in ends {
            self.nodes[usize::from(node)].interfaces.push(interface);
        }
        Ok(())
    }

    fn add_loopbacks(&mut self, file: &File) -> Result<(), TopologyError> {
        let a = &file.addresses;
        let v4 = block(a.loopbacks_v4.as_deref(), "5.255.0.0/16", false)?;
        let v6 = block(a.loopbacks_v6.as_deref(), "2a0b:5000:ffff::/64", true)?;
        let (has_v4, has_v6) = (a.ipv4.unwrap_or(true), a.ipv6.unwrap_or(false));
        let mut explicit = BTreeMap::new();
        for router in &file.router {
            let names = router.names.as_deref().unwrap_or_default();
            for (text, v6) in [(&router.loopback_v4, false), (&router.loopback_v6, true)] {
                let Some(text) = text else { continue };
                let place = || format!("router {names:?}");
                let node = self.find(names, &place, "single router")?;
                let address: Option<IpAddr> = text.parse().ok();
                let address = address.filter(|a| a.is_ipv6() == v6).ok_or_else(|| {
                    let expected = if v6 {
                        "an IPv6 address"
                    } else {
                        "an IPv4 address"
                    };
                    TopologyError::bad(place(), text, expected)
                })?;
                explicit.insert((node, v6), address);
            }
        }
        let mut number = 0;
        for node in (0u16..).take(self.nodes.len()) {
            if self.nodes[usize::from(node)].kind != Kind::Router {
                continue;
            }
            number += 1;
            for (family_block, v6, on) in [(v4, false, has_v4), (v6, true, has_v6)] {
                if !on || (v6 && !self.nodes[usize::from(node)].ipv6) {
                    continue;
                }
                let address =
                    match explicit.get(&(node, v6)) {
                        Some(&address) => address,
                        None => family_block.nth(number).ok_or_else(|| {
                            TopologyError::BlockTooSmall {
                                block: family_block.to_text(),
                                what: "loopbacks",
                            }
                        })?,
                    };
                let target = &mut self.nodes[usize::from(node)];
                match address {
                    IpAddr::V4(address) => target.loopback_v4 = Some(address),
                    IpAddr::V6(address) => target.loopback_v6 = Some(address),
                }
                self.add_address(address, node, Scope::Loopback)?;
            }
        }
        Ok(())
    }

    fn add_domains(&mut self, file: &File) -> Result<Vec<Domain>, TopologyError> {
        let mut domains = Vec::new();
        for domain in &file.domain {
            let place = || format!("domain {:?}", domain.name);
            let own = u16::try_from(domains.len()).unwrap_or(u16::MAX);
            let mut members = Vec::new();
            for name in domain.routers.split_whitespace() {
                let node = self.find(name, &place, "router")?;
                let overrides = file.router.iter().find(|r| {
                    let names = r.names.as_deref().unwrap_or_default();
                    names.split_whitespace().any(|n| n == name)
                });
                let target = &mut self.nodes[usize::from(node)];
                if target.kind != Kind::Router {
                    return Err(TopologyError::unknown(place(), name, "router"));
                }
                if target.mpls.is_some() {
                    return Err(TopologyError::Contradiction {
                        place: format!("domain {:?}, router {name:?}", domain.name),
                        problem: "a router can be listed once, in one domain",
                    });
                }
                target.mpls = Some(Membership {
                    domain: own,
                    member: u16::try_from(members.len()).unwrap_or(u16::MAX),
                    ttl_propagate: overrides
                        .and_then(|r| r.ttl_propagate)
                        .or(domain.ttl_propagate)
                        .or(file.defaults.ttl_propagate)
                        .unwrap_or(true),
                    ending: overrides
                        .and_then(|r| r.ending)
                        .or(domain.ending)
                        .or(file.defaults.ending)
                        .unwrap_or(Ending::Php),
                });
                members.push(node);
            }
            if members.len() < 2 {
                return Err(TopologyError::Contradiction {
                    place: place(),
                    problem: "it needs at least two routers",
                });
            }
            let mut links = Vec::new();
            for &a in &members {
                for interface in &self.nodes[usize::from(a)].interfaces {
                    if a < interface.peer && members.contains(&interface.peer) {
                        links.push((a, interface.peer));
                    }
                }
            }
            domains.push(Domain::new(
                members,
                links,
                domain
                    .label_distribution
                    .unwrap_or(LabelDistribution::AllPrefixes),
                domain.six_pe.unwrap_or(false),
            ));
        }
        Ok(domains)
    }

    fn add_nat(&mut self, file: &File) -> Result<(), TopologyError> {
        for router in &file.router {
            let names = router.names.as_deref().unwrap_or_default();
            let place = || format!("router {names:?}");
            let Some(outside) = &router.nat_outside else {
                continue;
            };
            let node = self.find(names, &place, "single router")?;
            let peer = self.find(outside, &place, "node")?;
            let interfaces = &self.nodes[usize::from(node)].interfaces;
            let Some(index) = interfaces.iter().position(|i| i.peer == peer) else {
                return Err(TopologyError::unknown(place(), outside, "neighbor of it"));
            };
            if interfaces[index].v4.is_none() {
                return Err(TopologyError::Contradiction {
                    place: place(),
                    problem: "NAT is for IPv4, which the topology does not have",
                });
            }
            self.nodes[usize::from(node)].nat = Some(Nat {
                outside: u16::try_from(index).unwrap_or(u16::MAX),
                ports: router.nat_ports.unwrap_or(NatPorts::Keep),
                quote: router.nat_quote.unwrap_or(NatQuote::Addresses),
            });
        }
        Ok(())
    }

    fn finish(self, file: &File, mut domains: Vec<Domain>) -> Result<Plan, TopologyError> {
        let mut by_hand = Vec::new();
        for route in &file.route {
            let place = || format!("route at {:?}", route.at);
            let at = self.find(&route.at, &place, "router")?;
            let to = self.find(&route.to, &place, "node")?;
            let via = self.find(&route.via, &place, "node")?;
            let index = self.nodes[usize::from(at)]
                .interfaces
                .iter()
                .position(|i| i.peer == via)
                .ok_or_else(|| TopologyError::unknown(place(), &route.via, "neighbor of it"))?;
            by_hand.push((at, to, u16::try_from(index).unwrap_or(u16::MAX)));
        }
        let routes = Routes::new(&self.nodes, &by_hand);
        for (own, domain) in (0u16..).zip(&mut domains) {
            domain.find_exits(own, &self.nodes, &routes);
        }
        if file.targets.len() > MAX_TARGETS {
            return Err(TopologyError::too_many("targets", MAX_TARGETS));
        }
        let mut targets = Vec::new();
        for target in &file.targets {
            match target.parse::<IpAddr>() {
                Ok(address) => targets.push(address),
                Err(_) => {
                    let node = self.find(target, &|| "targets".to_owned(), "node or address")?;
                    let node = &self.nodes[usize::from(node)];
                    let first = node.interfaces.first();
                    targets.extend(
                        first
                            .and_then(|i| i.v4)
                            .map(IpAddr::V4)
                            .or_else(|| first.and_then(|i| i.v6).map(IpAddr::V6)),
                    );
                }
            }
        }
        let nodes = self.nodes;
        let lookup =
            Lookup::new(self.prefixes).map_err(|(range, a, b)| TopologyError::AddressTaken {
                address: range.to_text(),
                first: nodes[usize::from(a)].name.clone(),
                second: nodes[usize::from(b)].name.clone(),
            })?;
        Ok(Plan {
            summary: file.summary.clone().unwrap_or_default(),
            targets,
            vantage: self.vantage,
            nodes,
            domains,
            lookup,
            routes,
        })
    }

    fn find(
        &self,
        name: &str,
        place: &dyn Fn() -> String,
        expected: &'static str,
    ) -> Result<u16, TopologyError> {
        self.names
            .get(name)
            .copied()
            .ok_or_else(|| TopologyError::unknown(place(), name, expected))
    }

    fn add_address(
        &mut self,
        address: IpAddr,
        node: u16,
        scope: Scope,
    ) -> Result<(), TopologyError> {
        let len = if address.is_ipv4() { 32 } else { 128 };
        self.add_prefix(Range::new(address, len), node, scope)
    }

    fn add_prefix(&mut self, range: Range, node: u16, scope: Scope) -> Result<(), TopologyError> {
        for at in [range.nth(0), range.nth(range.last - range.first)] {
            if let Some(address) = at.filter(|&a| is_reserved(a)) {
                return Err(TopologyError::Reserved {
                    place: format!("node {:?}", self.nodes[usize::from(node)].name),
                    address,
                });
            }
        }
        if self.prefixes.len() >= MAX_PREFIXES + 8 * MAX_LINKS {
            return Err(TopologyError::too_many("prefixes", MAX_PREFIXES));
        }
        self.prefixes.push((range, Owner { node, scope }));
        Ok(())
    }
}

/// Refuses a table that declares nobody.
fn check_names(what: &str, names: &str) -> Result<(), TopologyError> {
    if names.trim().is_empty() {
        return Err(TopologyError::Contradiction {
            place: what.to_owned(),
            problem: "it has no names",
        });
    }
    Ok(())
}

/// The parser's complaint in one line.
fn syntax_error(text: &str, error: &toml::de::Error) -> TopologyError {
    let message = error.message().replace(['\n', '\r'], " ");
    TopologyError::Syntax(match error.span() {
        Some(span) => {
            let before = &text.as_bytes()[..span.start.min(text.len())];
            let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
            format!("line {line}: {message}")
        }
        None => message,
    })
}
