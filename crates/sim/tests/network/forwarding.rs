//! What routers and hosts do besides answering a traceroute.

use plumb_sim::{Network, Topology};
use plumb_wire::icmp::{Family, Kind, Message};
use plumb_wire::packet::Packet;
use plumb_wire::{Engine, Instant};

use crate::prober::{Method, Prober, Reply, ip};

const NET: &str = r#"
[addresses]
ipv6 = true
[[router]]
names = "R1 R2 R3"
vendor = "cisco"
[[router]]
names = "J"
vendor = "junos"
time_exceeded_hop_limit = 255
[[router]]
names = "L"
vendor = "linux"
[[host]]
names = "D"
prefixes = ["5.16.0.0/16", "2a0b:16::/32"]
[[link]]
path = "VP R1 R2"
[[link]]
path = "R2 R3"
mtu = 600
[[link]]
path = "R3 J L D"
[[link]]
path = "R3 X"
v4 = "6.1.0.0/24"
[[router]]
names = "X"
[[prefix]]
prefix = "5.17.0.0/16"
at = "R3"
answer = "host-unreachable"
[[prefix]]
prefix = "5.18.0.0/16"
at = "J"
answer = "admin-prohibited"
[[prefix]]
prefix = "5.19.0.0/16"
at = "J"
answer = "drop"
[[prefix]]
prefix = "2a0b:17::/32"
at = "R3"
answer = "net-unreachable"
"#;

fn unreachable(p: &mut Prober, dst: &str) -> Option<(String, u8)> {
    let reply = p.probe(dst.parse().unwrap(), 64, Method::Icmp)?;
    assert_eq!(reply.kind, Some(Kind::Unreachable));
    let name = p.topology.node_of(reply.src).unwrap();
    Some((name.to_string(), reply.code))
}

#[test]
fn whoever_knows_no_way_says_so() {
    let mut p = Prober::new(NET);
    let mut said = |dst| unreachable(&mut p, dst);
    assert_eq!(said("99.9.9.9"), Some(("R1".into(), 0)), "no route");
    assert_eq!(said("5.17.0.1"), Some(("R3".into(), 1)), "no host");
    assert_eq!(said("6.1.0.77"), Some(("R3".into(), 1)), "nobody's");
    assert_eq!(said("6.1.0.0"), None, "the link itself");
    assert_eq!(said("6.1.0.255"), None, "its broadcast address");
    assert_eq!(said("5.18.0.1"), Some(("J".into(), 13)), "filtered");
    assert_eq!(said("5.19.0.1"), None, "dropped");
    assert_eq!(said("2a0b:99::1"), Some(("R1".into(), 0)), "no IPv6 route");
    assert_eq!(said("2a0b:17::1"), Some(("R3".into(), 0)), "no IPv6 net");
}

#[test]
fn a_closed_port_is_refused_from_the_interface_or_from_the_probed_address() {
    let mut p = Prober::new(NET);
    let mut refused = |name: &str| {
        let dst = p.topology.address(name, Family::V4).unwrap();
        let reply = p.probe(dst, 64, Method::Udp).unwrap();
        assert_eq!((reply.kind, reply.code), (Some(Kind::Unreachable), 3));
        (dst, reply.src)
    };
    let (_, src) = refused("R3");
    assert_eq!(src.to_string(), "5.0.3.2", "Cisco: the interface");
    let (dst, src) = refused("L");
    assert_eq!(src, dst, "Linux: the probed address");
    let (dst, src) = refused("D");
    assert_eq!(src, dst, "a host: the probed address");
    let dst = "2a0b:16::77".parse().unwrap();
    let reply = p.probe(dst, 64, Method::Udp).unwrap();
    assert_eq!((reply.kind, reply.code), (Some(Kind::Unreachable), 4));
}

#[test]
fn echo_replies_come_from_the_probed_address_whichever_interface_has_it() {
    let mut p = Prober::new(NET);
    for neighbor in ["R2", "J", "X"] {
        let dst = p.on_link("R3", neighbor);
        assert_eq!(p.ping(dst).unwrap().ttl, 253);
    }
}

#[test]
fn every_method_reaches_the_host_over_ipv6() {
    let mut p = Prober::new(NET);
    let dst = "2a0b:16::1".parse().unwrap();
    for (method, kind) in [
        (Method::Icmp, Some(Kind::EchoReply)),
        (Method::Udp, Some(Kind::Unreachable)),
        (Method::Syn(80), None),
    ] {
        let hops = p.trace(dst, method);
        let ttls: Vec<u8> = hops.iter().map(|h| h.as_ref().unwrap().ttl).collect();
        assert_eq!(ttls, [64, 63, 62, 252, 60, 59], "{method:?}");
        assert_eq!(hops[5].as_ref().unwrap().kind, kind, "{method:?}");
    }
}

#[test]
fn a_packet_too_big_names_the_mtu() {
    let mut p = Prober::new(NET);
    for (dst, kind, code, at) in [
        ("5.16.0.1", Kind::Unreachable, 4, 6),
        ("2a0b:16::1", Kind::PacketTooBig, 0, 6),
    ] {
        let dst = dst.parse().unwrap();
        let probe = p.packet(dst, 64, Method::Icmp, 1);
        let parsed = Packet::parse(&probe).unwrap();
        let (src, number) = (parsed.src, parsed.protocol);
        let mut large = parsed.transport.to_vec();
        large.resize(900, 0);
        let reply = p.send(&ip(src, dst, 64, number, 1, &large)).unwrap();
        assert_eq!((reply.kind, reply.code), (Some(kind), code));
        let message = Packet::parse(&reply.packet).unwrap().transport;
        assert_eq!(message[at..at + 2], 600u16.to_be_bytes());
        assert_eq!(p.topology.node_of(reply.src), Some("R2"));
    }
}

#[test]
fn a_wrong_checksum_is_not_answered_and_a_zero_one_of_udp_is() {
    let mut p = Prober::new(NET);
    let dst = "5.16.0.1".parse().unwrap();
    for method in [Method::Icmp, Method::Udp, Method::Syn(80)] {
        let mut probe = p.packet(dst, 64, method, 1);
        let last = probe.len() - 1;
        probe[last] ^= 1;
        assert_eq!(p.send(&probe), None, "{method:?}");
    }
    let mut probe = p.packet(dst, 64, Method::Udp, 1);
    probe[26..28].fill(0);
    assert!(p.send(&probe).is_some());
}

#[test]
fn errors_are_not_answered_with_errors() {
    let mut p = Prober::new(NET);
    let src = p.network.vantage().v4.unwrap().0.into();
    let dst = "5.16.0.1".parse().unwrap();
    let inner = p.packet(dst, 64, Method::Udp, 1);
    let mut error = vec![3, 3, 0, 0, 0, 0, 0, 0];
    error.extend(&inner[..28]);
    plumb_wire::icmp::fill_checksum_v4(&mut error);
    for ttl in [1, 64] {
        assert_eq!(p.send(&ip(src, dst, ttl, 1, 1, &error)), None);
    }
}

#[test]
fn a_node_numbers_its_packets_as_it_is_told_to() {
    let idents = |how: &str| {
        let toml = format!("[defaults]\nip_id = \"{how}\"\n{NET}");
        let mut p = Prober::new(&toml);
        let dst = p.on_link("R1", "VP");
        let ident = |r: &Reply| Packet::parse(&r.packet).unwrap().ident;
        let all: Vec<u16> = (0..8).map(|_| ident(&p.ping(dst).unwrap())).collect();
        all
    };
    assert_eq!(idents("zero"), [0; 8]);
    let steps = |all: Vec<u16>| all.windows(2).all(|w| w[1] == w[0].wrapping_add(1));
    assert!(steps(idents("counter")));
    assert!(!steps(idents("random")));
}

#[test]
fn what_a_silent_node_does_not_answer_is_told_by_its_file() {
    for (how, expired, echo) in [
        ("no", true, true),
        ("time-exceeded", false, true),
        ("echo", true, false),
        ("all", false, false),
    ] {
        let mut p = Prober::new(&format!("[defaults]\nsilent = \"{how}\"\n{NET}"));
        let answered = p.probe([5, 16, 0, 1].into(), 1, Method::Icmp).is_some();
        assert_eq!(answered, expired, "{how}");
        let dst = p.on_link("R1", "VP");
        assert_eq!(p.ping(dst).is_some(), echo, "{how}");
    }
}

#[test]
fn one_counter_numbers_all_that_a_router_sends() {
    let mut p = Prober::new(NET);
    let ident = |r: &Reply| Packet::parse(&r.packet).unwrap().ident;
    let (here, there) = (p.on_link("R3", "R2"), p.on_link("R3", "J"));
    let idents: Vec<u16> = [here, there, here, there]
        .into_iter()
        .map(|dst| ident(&p.ping(dst).unwrap()))
        .collect();
    let steps: Vec<u16> = idents.windows(2).map(|w| w[1].wrapping_sub(w[0])).collect();
    assert_eq!(steps, [1, 1, 1]);
}

#[test]
fn the_quoted_packet_is_the_probe_with_its_last_ttl() {
    let mut p = Prober::new(NET);
    let dst = "5.16.0.1".parse().unwrap();
    let probe = p.packet(dst, 4, Method::Icmp, 9);
    let reply = p.send(&probe).unwrap();
    let message = Packet::parse(&reply.packet).unwrap();
    let message = Message::parse(Family::V4, message.transport).unwrap();
    let quote = message.body();
    assert_eq!(p.topology.node_of(reply.src), Some("J"));
    assert_eq!(quote.len(), probe.len(), "Junos quotes all");
    assert_eq!(quote[8], 1);
    assert_eq!(plumb_wire::checksum(&quote[..20]), 0);
    assert_eq!(quote[20..], probe[20..]);
}

#[test]
fn point_to_point_links_are_30_or_31_and_their_zero_address_tells() {
    for (len, answers) in [(30, false), (31, true)] {
        let toml = NET.replace(
            "ipv6 = true",
            &format!("ipv6 = true\nlink_prefix_len = {len}"),
        );
        let mut p = Prober::new(&toml);
        let zero = "5.0.3.0".parse().unwrap();
        assert_eq!(p.probe(zero, 64, Method::Icmp).is_some(), answers, "/{len}");
    }
}

#[test]
fn packets_leave_in_the_order_of_time() {
    let toml = NET.replace(
        "path = \"R3 J L D\"",
        "path = \"R3 J L D\"\ndelay_ms = 3\njitter_ms = 5",
    );
    let topology = Topology::from_toml(&toml).unwrap();
    let maker = Prober::new(&toml);
    let mut network = Network::new(&topology, 3);
    let dst = "5.16.0.1".parse().unwrap();
    for n in 0..200u16 {
        let ttl = u8::try_from(n % 6 + 1).unwrap();
        network.handle_packet(
            Instant::from_millis(u64::from(n) / 10),
            &maker.packet(dst, ttl, Method::Icmp, n),
        );
    }
    let mut buffer = [0; 1500];
    let (mut last, mut count) = (Instant::ZERO, 0);
    while let Some(due) = network.poll_timeout() {
        assert!(due >= last);
        last = due;
        count += u32::from(network.poll_transmit(due, &mut buffer).is_some());
    }
    assert_eq!(count, 200);
    assert_eq!(network.stats().delivered, 200);
}

#[test]
fn a_second_path_of_equal_cost_keeps_the_tunnel() {
    let mut p = Prober::new(
        r#"
        [defaults]
        vendor = "cisco"
        [[router]]
        names = "CE1 PE1 P1 P2 Q1 Q2 PE2 CE2"
        [[host]]
        names = "D"
        prefixes = ["5.16.0.0/16"]
        [[domain]]
        name = "core"
        routers = "PE1 P1 P2 Q1 Q2 PE2"
        [[link]]
        path = "VP CE1 PE1 P1 P2 PE2 CE2 D"
        [[link]]
        path = "PE1 Q1 Q2 PE2"
        "#,
    );
    let mut seen = std::collections::BTreeSet::new();
    for n in 0..40 {
        seen.insert(p.path([5, 16, 0, n].into()));
    }
    let ways = ["P1 P2", "Q1 Q2"].map(|way| format!("CE1 PE1 {way} PE2 CE2 D"));
    assert_eq!(seen, std::collections::BTreeSet::from(ways));
}

#[test]
fn a_driver_that_hands_in_a_packet_late_does_not_delay_its_reply() {
    let mut p = Prober::lab("plain");
    let dst = p.on_link("D", "R3");
    let sent = Instant::from_nanos(5_000_000_000);
    let late = Instant::from_nanos(5_000_300_000);
    p.network.handle_timeout(late);
    let packet = p.packet(dst, 1, Method::Icmp, 1);
    p.network.handle_packet(sent, &packet);
    let mut last = Instant::ZERO;
    while let Some(due) = p.network.poll_timeout() {
        last = due;
        p.network.poll_transmit(due, &mut [0; 1500]);
    }
    assert_eq!(last.since(sent).as_millis(), 2);
}

#[test]
fn routers_of_a_6pe_core_that_have_ipv6_quote_both_labels() {
    let lab = plumb_sim::labs().iter().find(|l| l.name == "ipv6").unwrap();
    let mut p = Prober::new(&lab.toml.replace("ipv6 = false", "ipv6 = true"));
    let dst = lab.targets[0].parse().unwrap();
    // Time-exceeded messages go on to PE2 first, also from P3, under the lower label alone.
    assert_eq!(
        p.table(dst),
        "CE1 64/64 | PE1 63/63 | P1 56/62 L19,1 L2,1 | P2 57/61 q2 L18,1 L2,2 | \
         P3 58/60 q3 L17,1 L2,3 | PE2 59/59 L2,1 | CE2 58/58 | D 57/57"
    );
}

#[test]
fn a_hidden_6pe_tunnel_makes_its_edges_neighbors() {
    let lab = plumb_sim::labs().iter().find(|l| l.name == "ipv6").unwrap();
    let mut p = Prober::new(
        &lab.toml
            .replace("ttl_propagate = true", "ttl_propagate = false"),
    );
    let dst = lab.targets[0].parse().unwrap();
    assert_eq!(p.path(dst), "CE1 PE1 PE2 CE2 D");
}

#[test]
fn a_router_with_another_mind_than_its_domain_hides_or_shows_the_tunnel_by_itself() {
    let chain = |own: &str| {
        Prober::new(&format!(
            r#"
            [[router]]
            names = "CE1 P1 P2 PE2 CE2"
            [[router]]
            names = "PE1"
            {own}
            [[host]]
            names = "D"
            [[domain]]
            name = "core"
            routers = "PE1 P1 P2 PE2"
            ttl_propagate = true
            [[link]]
            path = "VP CE1 PE1 P1 P2 PE2 CE2 D"
            "#
        ))
    };
    let mut p = chain("");
    let dst = p.on_link("D", "CE2");
    assert_eq!(p.path(dst), "CE1 PE1 P1 P2 PE2 CE2 D");
    let mut p = chain("ttl_propagate = false");
    assert_eq!(p.path(dst), "CE1 PE1 PE2 CE2 D");
}
