//! Every built-in topology shows what it says.

use core::net::IpAddr;

use plumb_sim::{Topology, labs};

use crate::prober::{Method, Prober};

#[test]
fn every_lab_loads_and_its_targets_answer() {
    for lab in labs() {
        let topology =
            Topology::from_toml(lab.toml).unwrap_or_else(|e| panic!("{}: {e}", lab.name));
        assert_eq!(topology.summary(), lab.summary, "{}", lab.name);
        let targets: Vec<IpAddr> = lab.targets.iter().map(|t| t.parse().unwrap()).collect();
        assert_eq!(topology.targets(), targets, "{}", lab.name);
        let mut p = Prober::lab(lab.name);
        for target in targets {
            assert!(p.ping(target).is_some(), "{}: {target}", lab.name);
        }
    }
}

#[test]
fn plain_answers_every_method_at_every_hop() {
    let mut p = Prober::lab("plain");
    let dst = p.on_link("D", "R3");
    for method in [Method::Icmp, Method::Udp, Method::Syn(80), Method::Syn(81)] {
        let hops = p.trace(dst, method);
        let sources: Vec<IpAddr> = hops.iter().map(|h| h.as_ref().unwrap().src).collect();
        let expected = [
            p.on_link("R1", "VP"),
            p.on_link("R2", "R1"),
            p.on_link("R3", "R2"),
            dst,
        ];
        assert_eq!(sources, expected, "{method:?}");
    }
}
