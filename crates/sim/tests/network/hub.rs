//! Many hosts on one Ethernet segment, each with the network to itself.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use plumb_sim::{Hub, Topology, labs};
use plumb_wire::ethernet::{BROADCAST, HEADER_LEN, Header, ethertype};
use plumb_wire::{Engine as _, Instant, arp, ipv6, ndp};
use proptest::prelude::*;

use crate::prober::{Method, Prober, read};

fn hub(lab: &str) -> Hub {
    let lab = labs().iter().find(|l| l.name == lab).unwrap();
    Hub::new(Topology::from_toml(lab.toml).unwrap(), 1)
}

const fn host(n: u16) -> [u8; 6] {
    let [high, low] = n.to_be_bytes();
    [2, 0, 0, 0, high, low]
}

fn frame(src: [u8; 6], dst: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; HEADER_LEN];
    let header = Header {
        dst,
        src,
        ethertype,
    };
    header.emit(&mut frame);
    frame.extend(payload);
    // Ethernet has no shorter ones.
    frame.resize(frame.len().max(60), 0);
    frame
}

fn packet(src: [u8; 6], packet: &[u8]) -> Vec<u8> {
    let ethertype = match packet[0] >> 4 {
        6 => ethertype::IPV6,
        _ => ethertype::IPV4,
    };
    frame(src, Hub::MAC, ethertype, packet)
}

/// What comes out within a minute, and when.
fn drain(hub: &mut Hub, mut now: Instant) -> Vec<(Instant, Header, Vec<u8>)> {
    let end = now + Duration::from_secs(60);
    let mut frames = Vec::new();
    let mut buffer = [0; 1536];
    while let Some(due) = hub.poll_timeout()
        && due <= end
    {
        now = now.max(due);
        hub.handle_timeout(now);
        while let Some(sent) = hub.poll_transmit(now, &mut buffer) {
            let (header, payload) = Header::parse(&buffer[..sent.len]).unwrap();
            assert_eq!(header.src, Hub::MAC);
            frames.push((now, header, payload.to_vec()));
        }
    }
    frames
}

#[test]
fn a_host_sees_what_it_would_see_alone_whatever_others_send() {
    let mut alone = Prober::lab("php");
    let mut hub = hub("php");
    let target: IpAddr = "5.0.9.9".parse().unwrap();
    let mut now = alone.now;
    let mut answered = 0;
    for seq in 1..=12u16 {
        let ttl = u8::try_from(seq).unwrap();
        let probe = alone.packet(target, ttl, Method::Icmp, seq);
        hub.handle_packet(now, &packet(host(1), &probe));
        for other in 2..20 {
            hub.handle_packet(now, &packet(host(other), &probe));
        }
        let all = drain(&mut hub, now);
        alone.now = now;
        let expected: Vec<_> = alone
            .send(&probe)
            .into_iter()
            .map(|r| (r.at, r.packet))
            .collect();
        for n in 1..20 {
            let own = all.iter().filter(|(_, header, _)| header.dst == host(n));
            let own: Vec<_> = own.map(|(at, _, packet)| (*at, packet.clone())).collect();
            assert_eq!(own, expected, "host {n}, TTL {ttl}");
        }
        answered += expected.len();
        now = now + Duration::from_secs(60);
    }
    assert!(answered > 5, "{answered}");
    assert_eq!(hub.hosts(), 19);
}

#[test]
fn padding_of_short_frames_is_no_part_of_a_packet() {
    let prober = Prober::lab("plain");
    let target: IpAddr = "5.0.2.2".parse().unwrap();
    let ping = prober.packet(target, 64, Method::Icmp, 1);
    assert!(ping.len() < 46);
    let mut hub = hub("plain");
    hub.handle_packet(prober.now, &packet(host(1), &ping));
    let frames = drain(&mut hub, prober.now);
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].1.ethertype, ethertype::IPV4);
    assert_eq!(read(&frames[0].2, frames[0].0).src, target);
}

#[test]
fn every_address_but_the_askers_own_is_resolved() {
    let me = Ipv4Addr::new(5, 0, 0, 2);
    for (sender, target, answered) in [
        (me, Ipv4Addr::new(5, 0, 0, 1), true),
        (me, Ipv4Addr::new(9, 9, 9, 9), true),
        (me, me, false),
        (Ipv4Addr::UNSPECIFIED, me, false),
        (me, Ipv4Addr::BROADCAST, false),
        (me, Ipv4Addr::new(224, 0, 0, 1), false),
    ] {
        let mut hub = hub("plain");
        let request = arp::Packet {
            operation: arp::Operation::Request,
            sender_mac: host(1),
            sender,
            target_mac: [0; 6],
            target,
        };
        let mut bytes = [0; arp::LEN];
        request.emit(&mut bytes);
        hub.handle_packet(
            Instant::ZERO,
            &frame(host(1), BROADCAST, ethertype::ARP, &bytes),
        );
        let frames = drain(&mut hub, Instant::ZERO);
        assert_eq!(
            frames.len(),
            usize::from(answered),
            "{sender} asks for {target}"
        );
        for (_, header, payload) in frames {
            assert_eq!((header.dst, header.ethertype), (host(1), ethertype::ARP));
            let reply = arp::Packet::parse(&payload).unwrap();
            assert_eq!(reply, request.reply(Hub::MAC));
        }
        assert_eq!(hub.hosts(), 0, "who only asks takes no room");
    }
}

#[test]
fn neighbors_are_advertised_and_probes_for_duplicates_are_not_answered() {
    let me: Ipv6Addr = "2a0b:5000::2".parse().unwrap();
    let gateway: Ipv6Addr = "2a0b:5000::1".parse().unwrap();
    for (src, target, answered) in [
        (me, gateway, true),
        (me, "fe80::1".parse().unwrap(), true),
        (me, me, false),
        (Ipv6Addr::UNSPECIFIED, me, false),
    ] {
        let mut hub = hub("ipv6");
        let ask = ndp::Message::Solicitation(ndp::Solicitation {
            target,
            source_mac: (!src.is_unspecified()).then_some(host(1)),
        });
        let mut bytes = [0; ndp::MAX_PACKET_LEN];
        let len = ask.emit_packet(src, ndp::solicited_node(target), &mut bytes);
        let group = [0x33, 0x33, 0xff, 0, 0, 1];
        let solicitation = frame(host(1), group, ethertype::IPV6, &bytes[..len]);
        hub.handle_packet(Instant::ZERO, &solicitation);
        let frames = drain(&mut hub, Instant::ZERO);
        assert_eq!(
            frames.len(),
            usize::from(answered),
            "{src} asks for {target}"
        );
        for (_, header, payload) in frames {
            assert_eq!((header.dst, header.ethertype), (host(1), ethertype::IPV6));
            let (ip, message) = ipv6::Header::parse(&payload).unwrap();
            assert_eq!((ip.src, ip.dst), (target, me));
            let ndp::Message::Advertisement(said) = ndp::Message::parse(&ip, message).unwrap()
            else {
                panic!("no advertisement");
            };
            assert_eq!((said.target, said.solicited), (target, true));
            assert_eq!(said.target_mac, Some(Hub::MAC));
        }
    }
}

#[test]
fn frames_for_others_are_left_alone() {
    let prober = Prober::lab("plain");
    let ping = prober.packet("5.0.2.2".parse().unwrap(), 64, Method::Icmp, 1);
    for (src, dst, ethertype) in [
        (host(1), host(2), ethertype::IPV4),
        (host(1), BROADCAST, ethertype::IPV4),
        (BROADCAST, Hub::MAC, ethertype::IPV4),
        (host(1), Hub::MAC, 0x88b5),
    ] {
        let mut hub = hub("plain");
        hub.handle_packet(prober.now, &frame(src, dst, ethertype, &ping));
        assert_eq!(drain(&mut hub, prober.now).len(), 0);
        assert_eq!((hub.stats().ignored, hub.hosts()), (1, 0));
    }
}

#[test]
fn room_is_made_by_forgetting_the_silent_and_never_the_busy() {
    let prober = Prober::lab("plain");
    let ping = prober.packet("5.0.2.2".parse().unwrap(), 64, Method::Icmp, 1);
    let mut hub = hub("plain");
    let most = u16::try_from(Hub::MAX_HOSTS).unwrap();
    let start = Instant::from_millis(1000);
    for n in 0..most {
        hub.handle_packet(start, &packet(host(n), &ping));
    }
    assert_eq!(drain(&mut hub, start).len(), Hub::MAX_HOSTS);
    let soon = start + Duration::from_secs(5);
    hub.handle_packet(soon, &packet(host(0), &ping));
    hub.handle_packet(soon, &packet(host(most), &ping));
    assert_eq!(hub.stats().refused, 1);
    assert_eq!(drain(&mut hub, soon).len(), 1);
    let later = start + Hub::IDLE;
    hub.handle_packet(later, &packet(host(most), &ping));
    assert_eq!((hub.hosts(), hub.stats().forgotten), (Hub::MAX_HOSTS, 1));
    let frames = drain(&mut hub, later);
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].1.dst, host(most));
}

proptest! {
    #[test]
    fn no_frames_break_a_hub(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 1..40),
        kinds in prop::collection::vec(0..4usize, 40),
    ) {
        let mut hub = hub("ipv6");
        for (bytes, kind) in frames.iter().zip(kinds) {
            let ethertype = [ethertype::IPV4, ethertype::ARP, ethertype::IPV6, 0][kind];
            hub.handle_packet(Instant::ZERO, &frame(host(1), Hub::MAC, ethertype, bytes));
            hub.handle_packet(Instant::ZERO, bytes);
        }
        let stats = hub.stats();
        prop_assert_eq!(stats.received, 2 * frames.len() as u64);
        drain(&mut hub, Instant::ZERO);
        prop_assert_eq!(hub.poll_timeout(), None);
    }
}
