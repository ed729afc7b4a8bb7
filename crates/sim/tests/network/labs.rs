//! Every built-in topology shows what it says.

use core::net::IpAddr;
use std::collections::BTreeSet;

use plumb_sim::{Topology, labs};
use plumb_wire::icmp::{Kind, Message};
use plumb_wire::packet::Packet;
use plumb_wire::quote::Quote;
use plumb_wire::{Instant, icmp_ext};

use crate::prober::{Method, Prober, Reply};

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
            let answers = (0..5).any(|_| p.ping(target).is_some());
            assert!(answers, "{}: {target}", lab.name);
        }
    }
}

/// Node, TTLs of time-exceeded and echo reply, quoted TTL where it is not 1, labels with TTLs.
#[test]
fn each_lab_looks_as_its_routers_would() {
    let tables = [
        ("plain", "R1 255/255 | R2 254/254 | R3 253/62 | D 61/61"),
        (
            "implicit",
            "CE1 255/255 | PE1 254/254 | P1 247/253 | P2 248/252 q2 | P3 251/251 | \
             PE2 250/250 | CE2 249/249 | D 248/248",
        ),
        (
            "opaque",
            "CE1 255/255 | PE1 254/254 | PE2 250/250 L16,252 | CE2 250/250 | D 250/250",
        ),
        (
            "php",
            "CE1 255/255 | PE1 254/254 | PE2 250/250 | CE2 250/250 | D 250/250",
        ),
        (
            "uhp",
            "CE1 255/255 | PE1 254/254 | CE2 252/252 | CE2 252/252 | D 251/251",
        ),
        (
            "dpr",
            "CE1 255/64 | PE1 254/63 | PE2 250/62 | CE2 250/61 | D 60/60",
        ),
        (
            "icmp-tunneling",
            "CE1 255/64 | PE1 254/63 | P1 246/62 L299779,1 | P2 247/61 q2 L299778,1 | \
             P3 251/60 L299777,1 | PE2 250/59 | CE2 249/58 | D 57/57",
        ),
        (
            "explicit-null",
            "CE1 255/255 | PE1 254/254 | P1 247/253 L19,1 | P2 248/252 q2 L18,1 | \
             P3 249/251 q3 L17,1 | PE2 250/250 L0,1 | CE2 249/249 | D 248/248",
        ),
        (
            "one-hop",
            "CE1 255/64 | PE1 254/63 | PE2 252/62 | CE2 252/61 | D 60/60",
        ),
        (
            "mixed",
            "CE1 255/255 | A1 254/254 | A5 250/250 | X1 250/250 | B1 250/250 | \
             B2 246/250 L18,1 | B3 249/249 L17,1 | B4 248/248 | X2 247/247 | C1 246/55 | \
             C4 243/54 | CE2 243/53 | D 52/52",
        ),
        (
            "silent",
            "R1 255/255 | * | * | P1 246/252 L19,1 | * | P3 250/250 L17,1 | PE2 249/249 | \
             CE2 248/248 | D 56/56",
        ),
        (
            "nat",
            "GW 64/64 | R2 254/254 | R3 253/253 | R4 252/252 | D 60/60",
        ),
        (
            "rfc4884",
            "CE1 255/255 | PE1 254/254 | P1 239/253 L23,1 | P2 240/252 q2 L22,1 | \
             P3 241/251 q3 L21,1 | P4 242/250 q4 L20,1 | P5 243/249 q5 L19,1 | \
             P6 244/248 q6 L18,1 | P7 247/247 q0 L17,1 | PE2 246/246 | CE2 245/245 | D 53/53",
        ),
        (
            "ipv6",
            "CE1 64/64 | PE1 63/63 | * | * | * | PE2 59/59 L2,1 | CE2 58/58 | D 57/57",
        ),
        (
            "asymmetric",
            "R1 255/255 | R2 254/254 | R3 249/249 | R4 248/248 | D 56/56",
        ),
        (
            "wide",
            "R1 255/255 | R2 254/254 | A1 253/253 | A5 249/249 | AE 249/249 | USERS-A 59/59",
        ),
    ];
    for (name, expected) in tables {
        let lab = labs().iter().find(|l| l.name == name).unwrap();
        let target = lab.targets[0].parse().unwrap();
        assert_eq!(Prober::lab(name).table(target), expected, "{name}");
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
    let flags = |p: &mut Prober, port| {
        let reply = p.probe(dst, 64, Method::Syn(port)).unwrap();
        Packet::parse(&reply.packet).unwrap().transport[13]
    };
    assert_eq!(flags(&mut p, 80), 0x12, "open: SYN and ACK");
    assert_eq!(flags(&mut p, 81), 0x14, "closed: RST and ACK");
}

#[test]
fn plain_takes_a_millisecond_per_link_and_direction() {
    let mut p = Prober::lab("plain");
    let dst = p.on_link("D", "R3");
    for ttl in 1..=4 {
        let sent = p.now;
        let reply = p.probe(dst, ttl, Method::Icmp).unwrap();
        let millis = reply.at.since(sent).as_millis();
        assert_eq!(millis, u128::from(ttl) * 2);
    }
}

#[test]
fn ecmp_keeps_a_flow_on_its_way_and_spreads_flows_over_all() {
    let mut p = Prober::lab("ecmp");
    let dst = p.on_link("D", "R3");
    let one: BTreeSet<String> = (0..20).map(|_| p.path(dst)).collect();
    assert_eq!(one.len(), 1, "the Paris flow stays: {one:?}");
    let mut many = BTreeSet::new();
    for port in 0..200 {
        let reply = p.probe(dst, 2, Method::Syn(port)).unwrap();
        many.insert(p.topology.node_of(reply.src).unwrap().to_string());
    }
    let all = ["A1", "A2", "A3", "A4"].map(String::from);
    assert_eq!(many, BTreeSet::from(all));
}

#[test]
fn ecmp_per_packet_spreads_even_one_flow() {
    let lab = labs().iter().find(|l| l.name == "ecmp").unwrap();
    let toml = lab.toml.replacen(
        "vendor = \"cisco\"",
        "vendor = \"cisco\"\necmp = \"packet\"",
        1,
    );
    let mut p = Prober::new(&toml);
    let dst = p.on_link("D", "R3");
    let seen: BTreeSet<IpAddr> = (0..100)
        .map(|_| p.probe(dst, 2, Method::Icmp).unwrap().src)
        .collect();
    assert_eq!(seen.len(), 4);
}

#[test]
fn rate_limited_routers_answer_a_burst_and_then_their_rate() {
    let mut p = Prober::lab("rate-limited");
    let dst = p.on_link("D", "CE2");
    let mut answered = 0;
    let start = p.now;
    for n in 0..1000 {
        p.now = Instant::from_nanos(start.as_nanos() + n * 10_000_000);
        answered += u32::from(p.probe(dst, 1, Method::Icmp).is_some());
    }
    // Ten seconds at two per second, after a burst of two.
    assert!((20..=22).contains(&answered), "{answered}");
}

#[test]
fn lossy_loses_what_its_links_lose() {
    let mut p = Prober::lab("lossy");
    let dst = p.on_link("PE1", "CE1");
    let sent = 4000;
    let answered = (0..sent).filter(|_| p.ping(dst).is_some()).count();
    // One link with 5 % loss, crossed twice: 90.25 % of 4000 are 3610; the bounds are six standard
    // deviations away.
    assert!((3497..=3723).contains(&answered), "{answered}");
}

#[test]
fn nat_rewrites_the_identifier_and_quotes_another_checksum() {
    let mut p = Prober::lab("nat");
    let dst = p.on_link("D", "R4");
    let quoted = |reply: &Reply| {
        let packet = Packet::parse(&reply.packet).unwrap();
        let message = Message::parse(packet.family(), packet.transport).unwrap();
        let quote = Quote::parse(icmp_ext::split(&message).0).unwrap();
        (quote.src, quote.transport_word(2), quote.transport_word(4))
    };
    let vantage: IpAddr = p.network.vantage().v4.unwrap().0.into();
    // Before the translation the probe is quoted as it was sent, behind it restored but for the
    // checksum.
    let before = p.probe(dst, 1, Method::Icmp).unwrap();
    assert_eq!(quoted(&before), (vantage, Some(0xbeef), Some(0x1234)));
    let behind = p.probe(dst, 2, Method::Icmp).unwrap();
    let (src, checksum, ident) = quoted(&behind);
    assert_eq!((src, ident), (vantage, Some(0x1234)));
    assert_ne!(checksum, Some(0xbeef));
    for method in [Method::Icmp, Method::Udp, Method::Syn(80)] {
        let hops = p.trace(dst, method);
        assert_eq!(hops.len(), 5, "{method:?}");
        assert_eq!(hops[4].as_ref().unwrap().src, dst, "{method:?}");
    }
}

#[test]
fn nat_restores_as_much_of_a_quote_as_it_is_told_to() {
    let lab = labs().iter().find(|l| l.name == "nat").unwrap();
    // (source restored, checksum restored)
    for (how, expected) in [
        ("addresses", (true, false)),
        ("full", (true, true)),
        ("none", (false, false)),
    ] {
        let toml = lab.toml.replace(
            "nat_ports = \"rewrite\"",
            &format!("nat_ports = \"keep\"\nnat_quote = \"{how}\""),
        );
        let mut p = Prober::new(&toml);
        let dst = p.on_link("D", "R4");
        let vantage: IpAddr = p.network.vantage().v4.unwrap().0.into();
        let probe = p.packet(dst, 3, Method::Udp, 7);
        let reply = p.send(&probe).unwrap();
        let packet = Packet::parse(&reply.packet).unwrap();
        let message = Message::parse(packet.family(), packet.transport).unwrap();
        let quote = Quote::parse(message.body()).unwrap();
        assert_eq!(quote.transport_word(0), Some(40_000), "{how}: port kept");
        let sent = Packet::parse(&probe).unwrap().transport[6..8].to_vec();
        let checksum = quote.transport_word(6).unwrap().to_be_bytes();
        let restored = (quote.src == vantage, checksum[..] == sent[..]);
        assert_eq!(restored, expected, "{how}");
        assert_eq!(plumb_wire::checksum(&message.body()[..20]), 0, "{how}");
    }
}

#[test]
fn rfc4884_senders_deviate_each_in_its_own_way() {
    let mut p = Prober::lab("rfc4884");
    let dst = p.on_link("D", "CE2");
    let hops = p.trace(dst, Method::Icmp);
    let message = |n: usize| {
        let reply = hops[n - 1].as_ref().unwrap();
        Packet::parse(&reply.packet).unwrap().transport.to_vec()
    };
    // Bytes: 8 of header, the quote, and 12 of extensions with one label.
    let (p1, p2, p3, p4) = (message(3), message(4), message(5), message(6));
    assert_eq!((p1.len(), p1[5]), (148, 0), "no length");
    assert_eq!((p2.len(), p2[5]), (148, 128), "length in bytes");
    assert_eq!((p3.len(), p3[5]), (48, 7), "not padded");
    assert_eq!((p4.len(), p4[5]), (148, 32), "compliant length");
    assert_eq!(&p4[8 + 128 + 2..8 + 128 + 4], [0, 0], "no checksum");
    let p6 = message(8);
    assert_eq!(p6[8 + 26..8 + 28], [0, 0], "sequence number");
    let p7 = message(9);
    assert_eq!((p7[8 + 2], p7[8 + 3], p7[8 + 8]), (36, 0, 0), "length, TTL");
}

#[test]
fn a_long_quote_moves_the_extensions_behind_it() {
    let mut p = Prober::lab("rfc4884");
    let dst = p.on_link("D", "CE2");
    let probe = p.packet(dst, 7, Method::Icmp, 1);
    let src = Packet::parse(&probe).unwrap().src;
    let mut long = probe[20..].to_vec();
    long.resize(300, 0);
    let probe = crate::prober::ip(src, dst, 7, 1, 1, &long);
    let reply = p.send(&probe).unwrap();
    assert_eq!(reply.labels, [(19, 1)]);
    let message = Packet::parse(&reply.packet).unwrap().transport.to_vec();
    assert_eq!((message.len(), message[5]), (8 + 320 + 12, 80));
}

#[test]
fn the_dead_host_behind_the_silent_routers_never_answers() {
    let mut p = Prober::lab("silent");
    let dst = p.on_link("DEAD", "CE2");
    assert_eq!(dst.to_string(), "5.0.10.2");
    for method in [Method::Icmp, Method::Udp, Method::Syn(80)] {
        assert_eq!(p.probe(dst, 64, method), None);
    }
    let last = p.probe(dst, 8, Method::Icmp).unwrap();
    assert_eq!(last.kind, Some(Kind::TimeExceeded));
}

#[test]
fn every_address_of_the_wide_prefix_answers() {
    let mut p = Prober::lab("wide");
    let first = u32::from(core::net::Ipv4Addr::new(5, 16, 0, 0));
    for n in (0..1 << 20).step_by(4099) {
        let dst = IpAddr::V4((first + n).into());
        assert_eq!(p.ping(dst).unwrap().src, dst);
    }
}
