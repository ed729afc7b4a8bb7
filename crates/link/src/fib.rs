//! The kernel's routing tables, as far as they say the same for every packet to a destination.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::BTreeMap;
use std::io;

use plumb_wire::icmp::Family;

use crate::netlink::{Netlink, attributes, u32_at};

/// The routes of one family: the longest prefixes first.
#[derive(Debug, Default)]
pub(crate) struct Routes(Vec<(u8, BTreeMap<u128, Route>)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Route {
    /// The lowest wins among routes to one prefix.
    priority: u32,
    target: Target,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// A host on the link of this interface, through this gateway or itself.
    Link(u32, Option<IpAddr>),
    /// Anything else, for example this host, a blackhole, or several ways.
    Other,
}

/// A plain unicast route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Which one it is: the length and the bits of its prefix.
    pub(crate) prefix: (u8, u128),
    /// The interface that it leads through.
    pub(crate) interface: u32,
    /// Who takes the packets there; the destination itself if there is none.
    pub(crate) gateway: Option<IpAddr>,
}

/// Most routes that are read; with more, reading them would take longer than it saves.
const MOST_ROUTES: usize = 10_000;

impl Routes {
    /// Reads the routes of a family. `None` if they do not say where a packet goes: because there
    /// are rules of the administrator's, routes by source address or service, or too many.
    pub(crate) fn read(netlink: &Netlink, family: Family) -> io::Result<Option<Self>> {
        let mut ordinary = true;
        netlink.dump(RTM_GETRULE, RULE_LEN, number(family), |rule| {
            ordinary &= is_ordinary(rule);
        })?;
        let mut routes = Self::default();
        let mut count = 0;
        if ordinary {
            netlink.dump(libc::RTM_GETROUTE, ROUTE_LEN, number(family), |route| {
                count += 1;
                ordinary = ordinary && count <= MOST_ROUTES && routes.add(family, route);
            })?;
        }
        Ok(ordinary.then_some(routes))
    }

    /// The route to a destination, `None` if it is not a plain one.
    pub(crate) fn find(&self, destination: IpAddr) -> Option<Found> {
        let destination = bits(destination);
        let (prefix, route) = self.0.iter().find_map(|(len, routes)| {
            let prefix = destination & mask(*len);
            Some(((*len, prefix), routes.get(&prefix)?))
        })?;
        match route.target {
            Target::Link(interface, gateway) => Some(Found {
                prefix,
                interface,
                gateway,
            }),
            Target::Other => None,
        }
    }

    /// Adds a route, and says whether it can be told what all routes together mean.
    fn add(&mut self, family: Family, message: &[u8]) -> bool {
        let Some(&[_, prefix_len, source_len, tos, _, _, _, kind]) = message.first_chunk() else {
            return false;
        };
        if source_len != 0 || tos != 0 {
            return false;
        }
        let mut table = u32::from(message[4]);
        let (mut prefix, mut priority) = (Some(0), 0);
        let (mut interface, mut gateway) = (None, None);
        let mut plain = kind == libc::RTN_UNICAST;
        for (kind, value) in attributes(message.get(ROUTE_LEN..).unwrap_or_default()) {
            match kind {
                libc::RTA_DST => prefix = address(family, value).map(bits),
                libc::RTA_PRIORITY => priority = u32_at(value, 0).unwrap_or(0),
                libc::RTA_OIF => interface = u32_at(value, 0),
                libc::RTA_GATEWAY => gateway = address(family, value),
                libc::RTA_TABLE => table = u32_at(value, 0).unwrap_or(table),
                RTA_VIA | RTA_ENCAP | libc::RTA_MULTIPATH => plain = false,
                _ => {}
            }
        }
        // The local table comes before the main one, and is nothing but exceptions to it. Others
        // are not asked, as there is no rule that names them, but for one after the main table.
        match table {
            RT_TABLE_LOCAL => plain = false,
            RT_TABLE_MAIN => {}
            RT_TABLE_DEFAULT => return false,
            _ => return true,
        }
        let flags = u32_at(message, 8).unwrap_or(0);
        if flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN) != 0 {
            return true;
        }
        let target = match interface {
            Some(index) if plain => Target::Link(index, gateway),
            _ => Target::Other,
        };
        let Some(prefix) = prefix else { return false };
        let route = Route { priority, target };
        self.insert(prefix_len, prefix, route);
        true
    }

    fn insert(&mut self, prefix_len: u8, prefix: u128, route: Route) {
        let at = match self.0.binary_search_by(|(len, _)| prefix_len.cmp(len)) {
            Ok(at) => at,
            Err(at) => {
                self.0.insert(at, (prefix_len, BTreeMap::new()));
                at
            }
        };
        let prefix = prefix & mask(prefix_len);
        let best = self.0[at].1.entry(prefix).or_insert(route);
        // Two that are equally good are for the kernel to choose from.
        match route.priority.cmp(&best.priority) {
            core::cmp::Ordering::Less => *best = route,
            core::cmp::Ordering::Equal if *best != route => best.target = Target::Other,
            core::cmp::Ordering::Equal | core::cmp::Ordering::Greater => {}
        }
    }
}

const ROUTE_LEN: usize = 12;
const RULE_LEN: usize = 12;
const RTM_GETRULE: u16 = 34;
const RTA_VIA: u16 = 18;
const RTA_ENCAP: u16 = 22;
const RTNH_F_DEAD: u32 = 1;
const RTNH_F_LINKDOWN: u32 = 16;
const RT_TABLE_DEFAULT: u32 = 253;
const RT_TABLE_MAIN: u32 = 254;
const RT_TABLE_LOCAL: u32 = 255;
const FRA_PRIORITY: u16 = 6;

/// Says whether a rule is one of the three that every system has: all packets look into the
/// local, the main and the default table.
fn is_ordinary(rule: &[u8]) -> bool {
    let Some(&[_, destination_len, source_len, tos, table, _, _, action]) = rule.first_chunk()
    else {
        return false;
    };
    const FR_ACT_TO_TBL: u8 = 1;
    let mut priority = 0;
    for (kind, value) in attributes(rule.get(RULE_LEN..).unwrap_or_default()) {
        if kind == FRA_PRIORITY {
            priority = u32_at(value, 0).unwrap_or(u32::MAX);
        }
    }
    let expected = match priority {
        0 => RT_TABLE_LOCAL,
        32_766 => RT_TABLE_MAIN,
        32_767 => RT_TABLE_DEFAULT,
        _ => return false,
    };
    [destination_len, source_len, tos] == [0; 3]
        && action == FR_ACT_TO_TBL
        && u32::from(table) == expected
}

/// An address of this family at the start of `bytes`.
pub(crate) fn address(family: Family, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        Family::V4 => Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into()),
        Family::V6 => Some(Ipv6Addr::from(*bytes.first_chunk::<16>()?).into()),
    }
}

/// An address from the highest bit on.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn mask(prefix_len: u8) -> u128 {
    u128::MAX
        .checked_shl(128u32.saturating_sub(prefix_len.into()))
        .unwrap_or(0)
}

/// The number of a family in the kernel's messages.
pub(crate) const fn number(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETH: u32 = 7;

    fn message(fixed: [u8; 8], parts: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = fixed.to_vec();
        bytes.extend([0; 4]);
        for (kind, value) in parts {
            let len = u16::try_from(4 + value.len()).unwrap();
            bytes.extend(len.to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(*value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    /// A route of the main table: prefix, gateway, interface, priority.
    fn route(prefix: [u8; 4], len: u8, via: Option<[u8; 4]>, out: u32, priority: u32) -> Vec<u8> {
        let (out, priority) = (out.to_ne_bytes(), priority.to_ne_bytes());
        let mut parts: Vec<(u16, &[u8])> = vec![
            (libc::RTA_DST, &prefix),
            (libc::RTA_OIF, &out),
            (libc::RTA_PRIORITY, &priority),
        ];
        if let Some(via) = &via {
            parts.push((libc::RTA_GATEWAY, via));
        }
        message([2, len, 0, 0, 254, 0, 0, libc::RTN_UNICAST], &parts)
    }

    fn table(messages: &[Vec<u8>]) -> Routes {
        let mut routes = Routes::default();
        for message in messages {
            assert!(routes.add(Family::V4, message));
        }
        routes
    }

    fn find(routes: &Routes, destination: [u8; 4]) -> Option<(u8, Option<IpAddr>)> {
        let found = routes.find(IpAddr::from(destination))?;
        assert_eq!(found.interface, ETH);
        Some((found.prefix.0, found.gateway))
    }

    #[test]
    fn the_longest_prefix_wins_and_then_the_lowest_priority() {
        let gateway = |last| Some(IpAddr::from([10, 0, 0, last]));
        let routes = table(&[
            route([0, 0, 0, 0], 0, Some([10, 0, 0, 1]), ETH, 100),
            route([0, 0, 0, 0], 0, Some([10, 0, 0, 2]), ETH, 50),
            route([10, 0, 0, 0], 24, None, ETH, 0),
            route([20, 0, 0, 0], 8, Some([10, 0, 0, 3]), ETH, 0),
        ]);
        assert_eq!(find(&routes, [9, 9, 9, 9]), Some((0, gateway(2))));
        assert_eq!(find(&routes, [20, 1, 2, 3]), Some((8, gateway(3))));
        assert_eq!(find(&routes, [10, 0, 0, 9]), Some((24, None)));
    }

    #[test]
    fn what_is_not_a_plain_route_is_not_found() {
        let mut blackhole = route([30, 0, 0, 0], 8, None, ETH, 0);
        blackhole[7] = 6;
        let mut local = route([10, 0, 0, 5], 32, None, ETH, 0);
        local[4] = 255;
        let several = message(
            [2, 8, 0, 0, 254, 0, 0, libc::RTN_UNICAST],
            &[
                (libc::RTA_DST, &[40, 0, 0, 0]),
                (libc::RTA_MULTIPATH, &[0; 16]),
            ],
        );
        let routes = table(&[
            route([10, 0, 0, 0], 24, None, ETH, 0),
            route([50, 0, 0, 0], 8, Some([10, 0, 0, 1]), ETH, 0),
            route([50, 0, 0, 0], 8, Some([10, 0, 0, 2]), ETH, 0),
            blackhole,
            local,
            several,
        ]);
        for destination in [[30, 0, 0, 1], [10, 0, 0, 5], [40, 0, 0, 1], [50, 1, 1, 1]] {
            assert_eq!(find(&routes, destination), None);
        }
    }

    #[test]
    fn routes_by_source_or_service_and_rules_of_the_administrator_switch_the_shortcut_off() {
        for at in [2, 3] {
            let mut special = route([20, 0, 0, 0], 8, None, ETH, 0);
            special[at] = 8;
            assert!(!Routes::default().add(Family::V4, &special));
        }
        let rule = |source_len, table, priority: u32| {
            message(
                [2, 0, source_len, 0, table, 0, 0, 1],
                &[(FRA_PRIORITY, &priority.to_ne_bytes())],
            )
        };
        assert!(is_ordinary(&rule(0, 255, 0)));
        assert!(is_ordinary(&rule(0, 254, 32_766)));
        assert!(is_ordinary(&rule(0, 253, 32_767)));
        assert!(!is_ordinary(&rule(0, 100, 1000)));
        assert!(!is_ordinary(&rule(24, 254, 32_766)));
    }

    #[test]
    fn the_tables_of_this_system_can_be_read() {
        let netlink = Netlink::open().unwrap();
        if let Some(routes) = Routes::read(&netlink, Family::V4).unwrap() {
            assert_eq!(routes.find(IpAddr::from([127, 0, 0, 1])), None);
        }
    }
}
