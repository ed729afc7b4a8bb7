//! What holds for every topology and every packet.

use core::fmt::Write as _;

use plumb_sim::{Network, Topology, labs};
use plumb_wire::icmp::{Family, Kind};
use plumb_wire::{Engine, Instant};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::prober::{Method, Prober, ip};

const VENDORS: [&str; 8] = [
    "cisco",
    "huawei",
    "junos",
    "junos-olive",
    "junose",
    "nokia",
    "mikrotik",
    "linux",
];

/// A chain of routers R0, R1, ... to a host D, with one MPLS domain inside it.
#[derive(Clone, Debug)]
struct Chain {
    vendors: Vec<usize>,
    first: usize,
    len: usize,
    ending: &'static str,
    distribution: &'static str,
}

impl Chain {
    fn toml(&self, propagate: bool) -> String {
        let mut toml = String::new();
        let mut path = "VP".to_string();
        let mut members = String::new();
        for (n, &vendor) in self.vendors.iter().enumerate() {
            let vendor = VENDORS[vendor];
            write!(
                toml,
                "[[router]]\nnames = \"R{n}\"\nvendor = \"{vendor}\"\n"
            )
            .unwrap();
            write!(path, " R{n}").unwrap();
            if (self.first..self.first + self.len).contains(&n) {
                write!(members, " R{n}").unwrap();
            }
        }
        let (ending, distribution) = (self.ending, self.distribution);
        write!(
            toml,
            "[[host]]\nnames = \"D\"\n\
             [[domain]]\nname = \"M\"\nrouters = \"{members}\"\nttl_propagate = {propagate}\n\
             ending = \"{ending}\"\nlabel_distribution = \"{distribution}\"\n\
             [[link]]\npath = \"{path} D\"\n"
        )
        .unwrap();
        toml
    }
}

fn chains() -> impl Strategy<Value = Chain> {
    (4usize..12)
        .prop_flat_map(|n| {
            (
                vec(0..VENDORS.len(), n),
                0..n - 2,
                prop::sample::select(vec!["php", "explicit-null", "opaque"]),
                prop::sample::select(vec!["all-prefixes", "host-routes"]),
            )
        })
        .prop_flat_map(|(vendors, first, ending, distribution)| {
            let most = vendors.len() - first;
            (2..=most).prop_map(move |len| Chain {
                vendors: vendors.clone(),
                first,
                len,
                ending,
                distribution,
            })
        })
}

/// Drives a network to rest and gives all that came out, with the times.
fn drain(network: &mut Network) -> Vec<(Instant, Vec<u8>)> {
    let mut out = Vec::new();
    let mut buffer = [0; 1500];
    let mut rounds = 0;
    while let Some(due) = network.poll_timeout() {
        rounds += 1;
        assert!(rounds < 1_000_000, "the network does not come to rest");
        while let Some(t) = network.poll_transmit(due, &mut buffer) {
            out.push((due, buffer[..t.len].to_vec()));
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// With TTLs propagated, every router costs one TTL, labels or not, whoever made it and however
    /// the LSP ends: hop n is the n-th router, and echo replies lose one per router on the way.
    #[test]
    fn uniform_tunnels_conserve_the_ttl(chain in chains()) {
        let mut p = Prober::new(&chain.toml(true));
        let last = chain.vendors.len() - 1;
        let dst = p.on_link("D", &format!("R{last}"));
        for (n, hop) in p.trace(dst, Method::Icmp).into_iter().enumerate() {
            let hop = hop.unwrap();
            let name = p.topology.node_of(hop.src).unwrap();
            if n <= last {
                prop_assert_eq!(name, format!("R{}", n));
            } else {
                prop_assert_eq!(name, "D");
                prop_assert_eq!(usize::from(hop.ttl), 64 - n);
            }
        }
    }

    /// However a tunnel hides its routers, it shows none that are not there, none out of order, and
    /// at most the routers between its ends are missing.
    #[test]
    fn pipe_tunnels_hide_but_invent_nothing(chain in chains()) {
        let mut p = Prober::new(&chain.toml(false));
        let last = chain.vendors.len() - 1;
        let dst = p.on_link("D", &format!("R{last}"));
        let hops = p.trace(dst, Method::Icmp);
        let mut seen = Vec::new();
        for hop in &hops[..hops.len() - 1] {
            let name = p.topology.node_of(hop.as_ref().unwrap().src).unwrap();
            seen.push(name[1..].parse::<usize>().unwrap());
        }
        prop_assert!(seen.windows(2).all(|w| w[0] <= w[1]), "{:?}", seen);
        let hidden = (0..=last).filter(|n| !seen.contains(n));
        let inside = chain.first + 1..chain.first + chain.len;
        for n in hidden {
            prop_assert!(inside.contains(&n), "R{n} is hidden: {:?} {:?}", seen, chain);
        }
    }

    /// The same seed and the same input give the same bytes at the same times.
    #[test]
    fn the_seed_decides_everything(seed: u64, probes in vec((0u64..50, 1u8..12, 0u16..4), 1..40)) {
        for name in ["lossy", "ecmp", "rate-limited"] {
            let lab = labs().iter().find(|l| l.name == name).unwrap();
            let topology = Topology::from_toml(lab.toml).unwrap();
            let dst = topology.targets()[0];
            let run = || {
                let maker = Prober::lab(name);
                let mut network = Network::new(&topology, seed);
                let mut at = 0;
                for (seq, &(wait, ttl, port)) in (0..).zip(&probes) {
                    at += wait;
                    let packet = maker.packet(dst, ttl, Method::Syn(port), seq);
                    network.handle_packet(Instant::from_millis(at), &packet);
                }
                (drain(&mut network), network.stats())
            };
            prop_assert_eq!(run(), run());
        }
    }

    /// Whatever a host sends, nothing panics and everything comes to an end.
    #[test]
    fn arbitrary_bytes_are_survived(packets in vec(vec(any::<u8>(), 0..200), 1..20)) {
        for lab in labs() {
            let topology = Topology::from_toml(lab.toml).unwrap();
            let mut network = Network::new(&topology, 1);
            for bytes in &packets {
                network.handle_packet(Instant::ZERO, bytes);
            }
            drain(&mut network);
        }
    }

    /// The same for packets that get past the first check: a valid IP header with anything behind
    /// it, from and to anyone.
    #[test]
    fn arbitrary_valid_packets_die(
        packets in vec(
            (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(),
             prop::sample::select(vec![0u8, 1, 2, 6, 17, 43, 44, 58, 60]),
             vec(any::<u8>(), 0..120)),
            1..30,
        )
    ) {
        for name in ["ipv6", "nat", "uhp", "mixed", "rfc4884"] {
            let p = Prober::lab(name);
            let mut network = Network::new(&p.topology, 1);
            for (src, dst, ttl, protocol, payload) in &packets {
                for family in [Family::V4, Family::V6] {
                    let mut all = addresses(&p.topology, family);
                    if all.is_empty() {
                        continue;
                    }
                    all.push(match family {
                        Family::V4 => [224, 0, 0, 1].into(),
                        Family::V6 => [0xff02, 0, 0, 0, 0, 0, 0, 1].into(),
                    });
                    let (src, dst) = (*src.get(&all), *dst.get(&all));
                    network.handle_packet(
                        Instant::ZERO,
                        &ip(src, dst, *ttl, *protocol, 1, payload),
                    );
                }
            }
            let out = drain(&mut network);
            prop_assert!(out.len() <= packets.len() * 2);
        }
    }

    /// In a network wired and configured at random, static routes and all, everything ends.
    #[test]
    fn random_networks_come_to_rest(
        routers in 3usize..9,
        links in vec((0usize..9, 0usize..9, 1u32..5, 1u32..5), 2..16),
        options in vec((0..VENDORS.len(), 0usize..6), 9),
        routes in vec((0usize..9, 0usize..9), 0..6),
        propagate: bool,
        six_pe: bool,
        ending in prop::sample::select(vec!["php", "explicit-null", "opaque"]),
        distribution in prop::sample::select(vec!["all-prefixes", "host-routes"]),
    ) {
        const OPTIONS: [&str; 6] = [
            "", "ipv6 = false", "ecmp = \"packet\"", "ttl_propagate = false",
            "ending = \"explicit-null\"", "rfc4950 = false\nquoted_ttl_zero = true",
        ];
        let mut toml = String::from("[addresses]\nipv6 = true\n");
        for (n, &(vendor, option)) in options[..routers].iter().enumerate() {
            let (vendor, option) = (VENDORS[vendor], OPTIONS[option]);
            write!(toml, "[[router]]\nnames = \"R{n}\"\nvendor = \"{vendor}\"\n{option}\n").unwrap();
        }
        toml += "[[host]]\nnames = \"D\"\n";
        let last = routers - 1;
        let members: String = (1..routers).map(|n| format!("R{n} ")).collect();
        write!(
            toml,
            "[[domain]]\nname = \"M\"\nrouters = \"{members}\"\nttl_propagate = {propagate}\n\
             six_pe = {six_pe}\nending = \"{ending}\"\nlabel_distribution = \"{distribution}\"\n\
             [[link]]\npath = \"VP R0\"\n[[link]]\npath = \"R{last} D\"\n"
        ).unwrap();
        let mut pairs = Vec::new();
        for (a, b, cost, back) in links {
            let (a, b) = (a % routers, b % routers);
            if a != b {
                pairs.push((a, b));
                write!(
                    toml,
                    "[[link]]\npath = \"R{a} R{b}\"\ncost = {cost}\ncost_back = {back}\n"
                ).unwrap();
            }
        }
        for (pair, backwards) in routes {
            if let Some(&(a, b)) = pairs.get(pair) {
                let (at, via) = if backwards % 2 == 0 { (a, b) } else { (b, a) };
                let to = if backwards % 3 == 0 { "VP" } else { "D" };
                write!(toml, "[[route]]\nat = \"R{at}\"\nto = \"{to}\"\nvia = \"R{via}\"\n").unwrap();
            }
        }
        let topology = Topology::from_toml(&toml).unwrap();
        let maker = Prober::new(&toml);
        let mut network = Network::new(&topology, 1);
        let mut sent = 0;
        for family in [Family::V4, Family::V6] {
            for n in 0..=routers {
                let name = if n < routers { format!("R{n}") } else { "D".to_string() };
                let Some(dst) = topology.address(&name, family) else { continue };
                for ttl in [1, 2, 3, 5, 8, 64, 255] {
                    for method in [Method::Icmp, Method::Udp, Method::Syn(1)] {
                        network.handle_packet(Instant::ZERO, &maker.packet(dst, ttl, method, 1));
                        sent += 1;
                    }
                }
            }
        }
        let out = drain(&mut network);
        prop_assert!(out.len() <= sent);
        for (at, packet) in out {
            crate::prober::read(&packet, at);
        }
    }

    /// A damaged file is refused or read, but never panics or stalls.
    #[test]
    fn damaged_files_are_survived(
        lab in any::<prop::sample::Index>(),
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = lab.get(labs()).toml.as_bytes().to_vec();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte & 0x7f;
        }
        bytes.truncate(bytes.len().min(cut.index(bytes.len() * 4)));
        if let Ok(text) = core::str::from_utf8(&bytes) {
            let _ = Topology::from_toml(text);
        }
    }
}

/// Addresses of all nodes and a few that nobody has.
fn addresses(topology: &Topology, family: Family) -> Vec<core::net::IpAddr> {
    let names = [
        "VP", "CE1", "PE1", "P1", "P2", "P3", "PE2", "CE2", "D", "GW", "R2", "A1", "C4",
    ];
    let mut all: Vec<_> = names
        .iter()
        .filter_map(|n| topology.address(n, family))
        .collect();
    if family == Family::V4 {
        all.push([5, 0, 3, 0].into());
        all.push([9, 9, 9, 9].into());
    }
    all
}

/// Two routers that send packets for a host to each other.
#[test]
fn a_routing_loop_ends_with_the_ttl() {
    let mut p = Prober::new(
        r#"
        [[router]]
        names = "R1 R2 R3"
        [[host]]
        names = "D"
        [[link]]
        path = "VP R1 R2 R3 D"
        [[route]]
        at = "R3"
        to = "D"
        via = "R2"
        "#,
    );
    let dst = p.on_link("D", "R3");
    let hops: Vec<String> = (1..=8)
        .map(|ttl| {
            let reply = p.probe(dst, ttl, Method::Icmp).unwrap();
            assert_eq!(reply.kind, Some(Kind::TimeExceeded));
            p.topology.node_of(reply.src).unwrap().to_string()
        })
        .collect();
    assert_eq!(hops.join(" "), "R1 R2 R3 R2 R3 R2 R3 R2");
}
