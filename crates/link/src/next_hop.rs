//! Where the kernel would send a packet, as far as that can be known without asking it each time.
//!
//! The routing tables and the neighbour table are read once a second. What is not plain unicast
//! through an Ethernet interface to a neighbour whose address is known has no next hop here: the
//! kernel's own way is the one to take then.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use std::collections::BTreeMap;
use std::io;

use plumb_wire::Instant;
use plumb_wire::icmp::Family;

use crate::netlink::{Netlink, attributes, u32_at};

/// An interface and the Ethernet address of the neighbour that takes the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NextHop {
    pub(crate) interface: u32,
    pub(crate) mac: [u8; 6],
}

/// The next hops of both families.
#[derive(Debug)]
pub(crate) struct NextHops {
    netlink: Netlink,
    /// The only interface that may be used; 0 for all.
    only: u32,
    tables: Tables,
    refresh_at: Instant,
}

/// How long what was read counts.
const LIFETIME: Duration = Duration::from_secs(1);
/// How soon a neighbour that is not known is looked for again.
const PATIENCE: Duration = Duration::from_millis(10);
/// Most routes that are read; with more, reading them would take longer than it saves.
const MOST_ROUTES: usize = 10_000;

impl NextHops {
    pub(crate) fn open(only: u32) -> io::Result<Self> {
        Ok(Self {
            netlink: Netlink::open()?,
            only,
            tables: Tables::default(),
            refresh_at: Instant::ZERO,
        })
    }

    /// Reads the tables again if it is time.
    pub(crate) fn refresh(&mut self, now: Instant) {
        if now >= self.refresh_at {
            self.refresh_at = now + LIFETIME;
            self.tables = Tables::read(&self.netlink, self.only).unwrap_or_default();
        }
    }

    /// The next hop of packets to `destination`.
    ///
    /// The first answer for a neighbour after a refresh is `None`: a packet that the kernel sends
    /// makes it check that the neighbour is still there, which it would not do for ours.
    pub(crate) fn find(&mut self, destination: IpAddr, now: Instant) -> Option<NextHop> {
        let (interface, neighbour) = self.tables.route(destination)?;
        let Some(known) = self.tables.neighbours.get_mut(&(interface, neighbour)) else {
            self.refresh_at = self.refresh_at.min(now + PATIENCE);
            return None;
        };
        if !core::mem::replace(&mut known.checked, true) {
            return None;
        }
        Some(NextHop {
            interface,
            mac: known.mac,
        })
    }
}

/// What the kernel's tables say.
#[derive(Debug, Default)]
struct Tables {
    v4: Option<Routes>,
    v6: Option<Routes>,
    neighbours: BTreeMap<(u32, IpAddr), Neighbour>,
}

#[derive(Clone, Copy, Debug)]
struct Neighbour {
    mac: [u8; 6],
    /// Whether the kernel has had a packet for it since the last refresh.
    checked: bool,
}

/// The routes of one family: the longest prefixes first.
#[derive(Debug, Default)]
struct Routes(Vec<(u8, BTreeMap<u128, Route>)>);

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
    Kernel,
}

impl Tables {
    fn read(netlink: &Netlink, only: u32) -> io::Result<Self> {
        let mut usable = Vec::new();
        netlink.dump(libc::RTM_GETLINK, LINK_LEN, 0, |link| {
            usable.extend(ethernet(link).filter(|index| only == 0 || *index == only));
        })?;
        let mut tables = Self::default();
        for family in [Family::V4, Family::V6] {
            let mut ordinary = true;
            netlink.dump(RTM_GETRULE, RULE_LEN, number(family), |rule| {
                ordinary &= is_ordinary(rule);
            })?;
            if !ordinary {
                continue;
            }
            let mut routes = Routes::default();
            let mut count = 0;
            netlink.dump(libc::RTM_GETROUTE, ROUTE_LEN, number(family), |route| {
                count += 1;
                ordinary &= count <= MOST_ROUTES && routes.add(family, route, &usable);
            })?;
            if ordinary {
                *tables.of(family) = Some(routes);
            }
        }
        netlink.dump(libc::RTM_GETNEIGH, NEIGHBOUR_LEN, 0, |entry| {
            if let Some((key, mac)) = neighbour(entry) {
                let checked = false;
                tables.neighbours.insert(key, Neighbour { mac, checked });
            }
        })?;
        Ok(tables)
    }

    fn of(&mut self, family: Family) -> &mut Option<Routes> {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    /// The interface and the neighbour that packets to `destination` go to.
    fn route(&self, destination: IpAddr) -> Option<(u32, IpAddr)> {
        let routes = match destination {
            IpAddr::V4(_) => self.v4.as_ref(),
            IpAddr::V6(_) => self.v6.as_ref(),
        };
        match routes?.find(destination)? {
            Target::Link(interface, gateway) => Some((interface, gateway.unwrap_or(destination))),
            Target::Kernel => None,
        }
    }
}

impl Routes {
    /// Adds a route, and says whether it can be told what all routes together mean.
    fn add(&mut self, family: Family, message: &[u8], usable: &[u32]) -> bool {
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
            Some(index) if plain && usable.contains(&index) => Target::Link(index, gateway),
            _ => Target::Kernel,
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
            core::cmp::Ordering::Equal if *best != route => best.target = Target::Kernel,
            core::cmp::Ordering::Equal | core::cmp::Ordering::Greater => {}
        }
    }

    fn find(&self, destination: IpAddr) -> Option<Target> {
        let destination = bits(destination);
        self.0
            .iter()
            .find_map(|(len, routes)| routes.get(&(destination & mask(*len))))
            .map(|route| route.target)
    }
}

const ROUTE_LEN: usize = 12;
const NEIGHBOUR_LEN: usize = 12;
const LINK_LEN: usize = 16;
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
/// Neighbour states in which the address may be used: reachable, stale, delay, probe, noarp,
/// permanent.
const USABLE_STATES: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80;

/// The index of a link that is up and has Ethernet addresses.
fn ethernet(link: &[u8]) -> Option<u32> {
    const ARPHRD_ETHER: u16 = 1;
    let kind = u16::from_ne_bytes(*link.get(2..)?.first_chunk()?);
    let flags = u32_at(link, 8)?.cast_signed();
    let index = u32_at(link, 4)?;
    link.get(LINK_LEN..)?;
    let up = flags & libc::IFF_UP != 0 && flags & (libc::IFF_NOARP | libc::IFF_LOOPBACK) == 0;
    (kind == ARPHRD_ETHER && up).then_some(index)
}

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

/// The interface, the address and the Ethernet address of a neighbour that may be used.
fn neighbour(entry: &[u8]) -> Option<((u32, IpAddr), [u8; 6])> {
    let family = match *entry.first()? {
        4.. if entry[0] == number(Family::V6) => Family::V6,
        n if n == number(Family::V4) => Family::V4,
        _ => return None,
    };
    let interface = u32_at(entry, 4)?;
    let state = u16::from_ne_bytes(*entry.get(8..)?.first_chunk()?);
    if state & USABLE_STATES == 0 {
        return None;
    }
    let (mut host, mut mac) = (None, None);
    for (kind, value) in attributes(entry.get(NEIGHBOUR_LEN..)?) {
        match kind {
            libc::NDA_DST => host = address(family, value),
            libc::NDA_LLADDR => mac = <[u8; 6]>::try_from(value).ok(),
            _ => {}
        }
    }
    Some(((interface, host?), mac?))
}

fn address(family: Family, bytes: &[u8]) -> Option<IpAddr> {
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

const fn number(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETH: u32 = 7;
    const TUN: u32 = 8;

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
            assert!(routes.add(Family::V4, message, &[ETH]));
        }
        routes
    }

    fn find(routes: &Routes, destination: [u8; 4]) -> Option<Target> {
        routes.find(IpAddr::from(destination))
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
        assert_eq!(
            find(&routes, [9, 9, 9, 9]),
            Some(Target::Link(ETH, gateway(2)))
        );
        assert_eq!(
            find(&routes, [20, 1, 2, 3]),
            Some(Target::Link(ETH, gateway(3)))
        );
        assert_eq!(find(&routes, [10, 0, 0, 9]), Some(Target::Link(ETH, None)));
    }

    #[test]
    fn what_is_not_a_plain_route_over_ethernet_is_left_to_the_kernel() {
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
            route([0, 0, 0, 0], 0, Some([10, 0, 0, 1]), TUN, 0),
            route([10, 0, 0, 0], 24, None, ETH, 0),
            route([50, 0, 0, 0], 8, Some([10, 0, 0, 1]), ETH, 0),
            route([50, 0, 0, 0], 8, Some([10, 0, 0, 2]), ETH, 0),
            blackhole,
            local,
            several,
        ]);
        for destination in [
            [30, 0, 0, 1],
            [10, 0, 0, 5],
            [40, 0, 0, 1],
            [50, 1, 1, 1],
            [9; 4],
        ] {
            assert_eq!(find(&routes, destination), Some(Target::Kernel));
        }
    }

    #[test]
    fn routes_by_source_or_service_and_rules_of_the_administrator_switch_the_shortcut_off() {
        for at in [2, 3] {
            let mut special = route([20, 0, 0, 0], 8, None, ETH, 0);
            special[at] = 8;
            assert!(!Routes::default().add(Family::V4, &special, &[ETH]));
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
    fn a_neighbour_is_used_in_states_in_which_its_address_is_known() {
        let entry = |state: u8| {
            let [a, b, c, d] = ETH.to_ne_bytes();
            let mut bytes = message(
                [2, 0, 0, 0, a, b, c, d],
                &[
                    (libc::NDA_DST, &[10, 0, 0, 1]),
                    (libc::NDA_LLADDR, &[1, 2, 3, 4, 5, 6]),
                ],
            );
            bytes[8] = state;
            bytes
        };
        let expected = ((ETH, IpAddr::from([10, 0, 0, 1])), [1, 2, 3, 4, 5, 6]);
        for state in [0x02, 0x04, 0x08, 0x10, 0x40, 0x80] {
            assert_eq!(neighbour(&entry(state)), Some(expected), "{state:#x}");
        }
        for state in [0, 0x01, 0x20] {
            assert_eq!(neighbour(&entry(state)), None, "{state:#x}");
        }
        let padding = 2;
        for len in 0..entry(2).len() - padding {
            assert_eq!(neighbour(&entry(2)[..len]), None);
        }
    }

    #[test]
    fn the_tables_of_this_system_can_be_read() {
        let netlink = Netlink::open().unwrap();
        let tables = Tables::read(&netlink, 0).unwrap();
        assert_eq!(tables.route(IpAddr::from([127, 0, 0, 1])), None);
    }
}
