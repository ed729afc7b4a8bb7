use std::collections::VecDeque;
use std::vec;
use std::vec::Vec;

use plumb_sim::{Hub, Topology};
use plumb_wire::icmp::{Family, Message};
use plumb_wire::packet::Packet;
use plumb_wire::{Engine as _, icmp, protocol};
use proptest::prelude::*;

use super::super::Prefix;
use super::super::neighbors::{MOST_NEIGHBORS, MOST_WAITING};
use super::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const GATEWAY: [u8; 6] = [2, 0, 0, 0, 0, 1];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// A device without a network.
#[derive(Debug, Default)]
struct Wire {
    queue: Vec<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    arrived: VecDeque<Vec<u8>>,
    full: bool,
}

impl Nic for Wire {
    fn mac(&self) -> [u8; 6] {
        MAC
    }

    fn mtu(&self) -> usize {
        1500
    }

    fn transmit(&mut self, frame: &[u8]) -> bool {
        if !self.full {
            self.queue.push(frame.to_vec());
        }
        !self.full
    }

    fn flush(&mut self) {
        self.sent.append(&mut self.queue);
    }

    fn receive(&mut self, take: &mut dyn FnMut(&[u8])) -> bool {
        let frame = self.arrived.pop_front();
        frame.iter().for_each(|frame| take(frame));
        frame.is_some()
    }

    fn dropped(&self) -> u64 {
        0
    }
}

fn config() -> Config {
    Config {
        v4: Some(Prefix {
            address: Ipv4Addr::new(10, 0, 0, 2),
            len: 16,
        }),
        gateway_v4: Some(Ipv4Addr::new(10, 0, 0, 1)),
        v6: Some(Prefix {
            address: v6("fd00::2"),
            len: 64,
        }),
        gateway_v6: Some(v6("fe80::1")),
    }
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn ms(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn interface() -> Interface<Wire> {
    Interface::new(Wire::default(), config())
}

/// An echo message in a packet.
fn echo(src: IpAddr, dst: IpAddr, kind: icmp::Kind) -> Vec<u8> {
    let family = Family::of(dst);
    let mut message = vec![kind.number(family), 0, 0, 0, 1, 2, 3, 4, 5];
    let (IpAddr::V4(src), IpAddr::V4(dst)) = (src, dst) else {
        let (IpAddr::V6(src), IpAddr::V6(dst)) = (src, dst) else {
            panic!("two families");
        };
        icmp::fill_checksum_v6(src, dst, &mut message);
        let mut packet = vec![0; 40];
        let header = ipv6::Header {
            traffic_class: 0,
            flow_label: 0,
            payload_len: 9,
            next_header: protocol::ICMPV6,
            hop_limit: 9,
            src,
            dst,
        };
        header.emit(&mut packet);
        packet.extend(message);
        return packet;
    };
    icmp::fill_checksum_v4(&mut message);
    let mut packet = vec![0; 20];
    let header = ipv4::Header {
        tos: 0,
        total_len: 29,
        ident: 0,
        flags_fragment: 0,
        ttl: 9,
        protocol: protocol::ICMP,
        src,
        dst,
    };
    header.emit(&mut packet);
    packet.extend(message);
    packet
}

fn probe(dst: &str) -> Vec<u8> {
    let dst: IpAddr = dst.parse().unwrap();
    let src = if dst.is_ipv4() { "10.0.0.2" } else { "fd00::2" };
    echo(src.parse().unwrap(), dst, icmp::Kind::EchoRequest)
}

fn framed(src: [u8; 6], dst: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; HEADER_LEN];
    let header = ethernet::Header {
        dst,
        src,
        ethertype,
    };
    header.emit(&mut frame);
    frame.extend(payload);
    frame
}

fn arp_frame(operation: arp::Operation, sender: &str, mac: [u8; 6], target: &str) -> Vec<u8> {
    let mut payload = vec![0; 46];
    let packet = arp::Packet {
        operation,
        sender_mac: mac,
        sender: sender.parse().unwrap(),
        target_mac: MAC,
        target: target.parse().unwrap(),
    };
    packet.emit(&mut payload);
    framed(mac, MAC, ethertype::ARP, &payload)
}

fn arp_reply(sender: &str, mac: [u8; 6]) -> Vec<u8> {
    arp_frame(arp::Operation::Reply, sender, mac, "10.0.0.2")
}

fn ndp_frame(message: ndp::Message, src: &str, dst: &str) -> Vec<u8> {
    let mut packet = vec![0; ndp::MAX_PACKET_LEN];
    let len = message.emit_packet(v6(src), v6(dst), &mut packet);
    framed(OTHER, MAC, ethertype::IPV6, &packet[..len])
}

impl Interface<Wire> {
    /// What leaves with a flush.
    fn leaves(&mut self) -> Vec<Vec<u8>> {
        self.flush();
        core::mem::take(&mut self.nic.sent)
    }

    /// Lets frames arrive; what the engine is given of them.
    fn arrives(&mut self, now: Instant, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        self.nic.arrived.extend(frames.iter().cloned());
        while self.receive(now, &mut |packet| packets.push(packet.to_vec())) {}
        packets
    }

    fn fates(&mut self) -> Vec<(u64, Fate)> {
        let fates = core::iter::from_fn(|| self.poll_fate());
        fates.map(|(probe, fate)| (probe.0, fate)).collect()
    }

    /// Sends the probe with this number.
    fn sends(&mut self, number: u64, dst: &str, now: Instant) -> Fate {
        self.transmit(ProbeId(number), &probe(dst), now)
    }

    /// With a gateway that is known, and nothing under way.
    fn settled() -> Self {
        let mut link = interface();
        assert_eq!(link.sends(0, "5.0.0.1", ms(0)), Fate::Waiting);
        for round in 0..5 {
            link.arrives(ms(round), &[arp_reply("10.0.0.1", GATEWAY)]);
        }
        assert_eq!(link.fates(), [(0, Fate::Queued)]);
        link.leaves();
        assert_eq!(link.poll_timeout(), None);
        link
    }
}

fn arp_of(frame: &[u8]) -> (ethernet::Header, arp::Packet) {
    let (header, payload) = ethernet::Header::parse(frame).unwrap();
    assert_eq!(header.ethertype, ethertype::ARP);
    assert_eq!(header.src, MAC);
    (header, arp::Packet::parse(payload).unwrap())
}

fn ndp_of(frame: &[u8]) -> (ethernet::Header, ipv6::Header, ndp::Message) {
    let (header, payload) = ethernet::Header::parse(frame).unwrap();
    let (ip, rest) = ipv6::Header::parse(payload).unwrap();
    (header, ip, ndp::Message::parse(&ip, rest).unwrap())
}

#[test]
fn a_probe_waits_for_the_gateways_address_and_leaves_with_it() {
    let mut link = interface();
    assert_eq!(link.sends(1, "5.0.0.1", ms(0)), Fate::Waiting);
    assert_eq!(link.sends(2, "5.0.0.2", ms(0)), Fate::Waiting);
    let asked = link.leaves();
    assert_eq!(asked.len(), 1, "one question for all");
    let (header, request) = arp_of(&asked[0]);
    assert_eq!(header.dst, ethernet::BROADCAST);
    assert_eq!(request.operation, arp::Operation::Request);
    assert_eq!(request.target, Ipv4Addr::new(10, 0, 0, 1));
    assert_eq!(request.sender, Ipv4Addr::new(10, 0, 0, 2));
    assert_eq!(link.fates(), []);
    link.arrives(ms(1), &[arp_reply("10.0.0.1", GATEWAY)]);
    assert_eq!(link.fates(), [(1, Fate::Queued), (2, Fate::Queued)]);
    assert_eq!(link.sends(3, "5.0.0.3", ms(1)), Fate::Queued);
    let frames = link.leaves();
    for number in 1..4 {
        let packet = probe(&std::format!("5.0.0.{number}"));
        let frame = framed(MAC, GATEWAY, ethertype::IPV4, &packet);
        assert!(frames.contains(&frame), "{number}");
    }
}

#[test]
fn the_gateways_are_asked_before_the_first_probe() {
    let mut link = interface();
    link.start(ms(0));
    let asked = core::mem::take(&mut link.nic.sent);
    assert_eq!(arp_of(&asked[0]).1.target, Ipv4Addr::new(10, 0, 0, 1));
    let (header, ip, message) = ndp_of(&asked[1]);
    assert_eq!(header.dst, [0x33, 0x33, 0xff, 0, 0, 1]);
    assert_eq!(
        ip.src,
        ndp::link_local(MAC),
        "one link-local address to the other"
    );
    assert_eq!(ip.dst, v6("ff02::1:ff00:1"));
    let expected = ndp::Solicitation {
        target: v6("fe80::1"),
        source_mac: Some(MAC),
    };
    assert_eq!(message, ndp::Message::Solicitation(expected));
    assert_eq!(asked.len(), 2);
    // A family that is not spoken is not asked about.
    let v4_only = Config {
        v6: None,
        ..config()
    };
    let mut link = Interface::new(Wire::default(), v4_only);
    link.start(ms(0));
    assert_eq!(link.nic.sent.len(), 1);
}

#[test]
fn ipv6_goes_through_its_gateway() {
    let mut link = interface();
    assert_eq!(link.sends(1, "2a00::1", ms(0)), Fate::Waiting);
    link.leaves();
    let say = |target_mac| {
        ndp::Message::Advertisement(ndp::Advertisement {
            target: v6("fe80::1"),
            router: true,
            solicited: true,
            overrides: true,
            target_mac,
        })
    };
    // One without an address, or with that of a group, says nothing.
    for mac in [None, Some([0x33; 6])] {
        link.arrives(ms(1), &[ndp_frame(say(mac), "fe80::1", "fd00::2")]);
        assert_eq!(link.fates(), []);
    }
    link.arrives(
        ms(1),
        &[ndp_frame(say(Some(GATEWAY)), "fe80::1", "fd00::2")],
    );
    assert_eq!(link.fates(), [(1, Fate::Queued)]);
    let frame = framed(MAC, GATEWAY, ethertype::IPV6, &probe("2a00::1"));
    assert!(link.leaves().contains(&frame));
}

#[test]
fn four_round_trips_to_the_gateway_are_measured_beside_the_probes() {
    let mut link = interface();
    link.start(ms(0));
    assert_eq!(link.rtt_error(), None);
    let mut questions = 0;
    let mut now = 0;
    for round_trip in [50, 5, 3, 9, 4, 20, 20] {
        let arps = link.leaves().iter().filter(|f| f[12..14] == [8, 6]).count();
        questions += arps;
        now += round_trip;
        link.arrives(ms(now), &[arp_reply("10.0.0.1", GATEWAY)]);
        // The first probe does not wait for the rest.
        assert_eq!(link.sends(1, "5.0.0.1", ms(now)), Fate::Queued);
    }
    assert_eq!(questions, 1 + 4, "the first does not count");
    let (least, most) = link.calibration().round_trips().unwrap();
    assert_eq!((least.as_millis(), most.as_millis()), (3, 9));
    assert_eq!(link.rtt_error(), Some(most));
}

#[test]
fn a_round_trip_of_a_repeated_question_is_none() {
    let mut link = interface();
    link.start(ms(0));
    let reply = [arp_reply("10.0.0.1", GATEWAY)];
    link.arrives(ms(1), &reply);
    link.handle_timeout(ms(101));
    link.arrives(ms(102), &reply);
    assert_eq!(
        link.rtt_error(),
        None,
        "it may be the first that was answered"
    );
    link.arrives(ms(105), &reply);
    assert_eq!(link.rtt_error(), Some(Duration::from_millis(3)));
}

#[test]
fn a_neighbour_that_does_not_answer_is_asked_five_times_and_given_up() {
    let mut link = interface();
    assert_eq!(link.sends(1, "5.0.0.1", ms(0)), Fate::Waiting);
    let mut asked = vec![(ms(0), link.leaves().len())];
    let mut given_up = Instant::ZERO;
    while let Some(due) = link.poll_timeout() {
        link.handle_timeout(due);
        asked.push((due, link.leaves().len()));
        given_up = due;
    }
    let times = [0, 100, 400, 1000, 2000].map(|t| (ms(t), 1));
    assert_eq!(asked[..5], times);
    assert_eq!(asked[5], (ms(3000), 0));
    let no_route = Fate::Failed(SendError::NoRoute);
    assert_eq!(link.fates(), [(1, no_route)]);
    // For a while nobody waits for it, then it is asked again.
    assert_eq!(given_up, ms(3000));
    assert_eq!(link.sends(2, "5.0.0.1", ms(3500)), no_route);
    assert_eq!(link.sends(3, "5.0.0.1", ms(4000)), Fate::Waiting);
    assert_eq!(link.leaves().len(), 1);
}

#[test]
fn no_more_packets_wait_than_may_and_none_is_lost_to_a_full_queue() {
    let mut link = interface();
    for number in 0..MOST_WAITING as u64 {
        assert_eq!(link.sends(number, "5.0.0.1", ms(0)), Fate::Waiting);
    }
    assert_eq!(link.sends(999, "5.0.0.1", ms(0)), Fate::NoRoom);
    link.leaves();
    link.arrives(ms(1), &[arp_reply("10.0.0.1", GATEWAY)]);
    link.nic.full = true;
    assert_eq!(link.fates(), []);
    assert_eq!(link.sends(999, "5.0.0.1", ms(1)), Fate::NoRoom);
    link.nic.full = false;
    let fates = link.fates();
    let numbers = fates.iter().map(|(number, _)| *number);
    assert!(
        numbers.eq(0..MOST_WAITING as u64),
        "in the order in which they came"
    );
}

#[test]
fn a_walk_over_the_whole_link_is_remembered_in_bounds() {
    let mut link = Interface::settled();
    let mut waits = 0;
    for host in 0..1000u64 {
        let dst = std::format!("10.0.{}.{}", 1 + host / 250, host % 250);
        let fate = link.sends(host, &dst, ms(10));
        assert!(matches!(fate, Fate::Waiting | Fate::NoRoom));
        waits += usize::from(fate == Fate::Waiting);
        let (entries, waiting) = link.state.neighbors.len();
        assert!(entries <= MOST_NEIGHBORS && waiting <= MOST_WAITING);
    }
    assert_eq!(waits, MOST_NEIGHBORS);
    // Those that were asked the longest ago make room when they have failed.
    while let Some(due) = link.poll_timeout() {
        link.handle_timeout(due);
    }
    assert_eq!(link.sends(1, "10.0.9.9", ms(5000)), Fate::Waiting);
}

#[test]
fn a_neighbour_in_use_is_asked_again_every_minute() {
    let mut link = Interface::settled();
    assert_eq!(link.sends(1, "5.0.0.1", ms(59_000)), Fate::Queued);
    assert_eq!(link.leaves().len(), 1);
    assert_eq!(
        link.sends(1, "5.0.0.1", ms(61_000)),
        Fate::Queued,
        "without delay"
    );
    let frames = link.leaves();
    assert_eq!(
        arp_of(&frames[1]).0.dst,
        GATEWAY,
        "only the neighbour is asked"
    );
    // Its successor answers for the address.
    link.handle_timeout(ms(61_100));
    link.handle_timeout(ms(61_400));
    let frames = link.leaves();
    assert_eq!(arp_of(&frames[0]).0.dst, GATEWAY);
    assert_eq!(arp_of(&frames[1]).0.dst, ethernet::BROADCAST);
    link.arrives(ms(61_401), &[arp_reply("10.0.0.1", OTHER)]);
    assert_eq!(link.poll_timeout(), None);
    link.sends(2, "5.0.0.1", ms(61_402));
    assert_eq!(link.leaves()[0][..6], OTHER);
    // Nobody answers any more.
    link.sends(3, "5.0.0.1", ms(200_000));
    while let Some(due) = link.poll_timeout() {
        link.handle_timeout(due);
    }
    assert_eq!(link.sends(4, "5.0.0.1", ms(203_001)), Fate::Waiting);
}

#[test]
fn what_cannot_be_sent_is_refused_with_the_reason() {
    let mut link = interface();
    for (packet, error) in [
        (vec![0x45; 1501], SendError::TooBig),
        (vec![0x45; 19], SendError::Other),
        (vec![], SendError::Other),
        (vec![0x20; 60], SendError::Other),
        (probe("10.0.0.2"), SendError::NoRoute),
        (probe("10.0.255.255"), SendError::Forbidden),
    ] {
        assert_eq!(
            link.transmit(ProbeId(1), &packet, ms(0)),
            Fate::Failed(error)
        );
    }
    assert_eq!(link.sends(1, "224.0.0.1", ms(0)), Fate::Queued);
    assert_eq!(link.leaves()[0][..6], [1, 0, 0x5e, 0, 0, 1]);
}

#[test]
fn requests_for_the_own_address_are_answered_and_no_others() {
    let mut link = Interface::settled();
    let ask = |sender, mac, target| arp_frame(arp::Operation::Request, sender, mac, target);
    link.arrives(ms(10), &[ask("10.0.0.9", OTHER, "10.0.0.2")]);
    let (header, reply) = arp_of(&link.leaves()[0]);
    assert_eq!(header.dst, OTHER);
    assert_eq!(reply.operation, arp::Operation::Reply);
    assert_eq!(
        (reply.sender_mac, reply.sender),
        (MAC, Ipv4Addr::new(10, 0, 0, 2))
    );
    assert_eq!(
        (reply.target_mac, reply.target),
        (OTHER, Ipv4Addr::new(10, 0, 0, 9))
    );
    // Who looks for duplicates (RFC 5227) gets an answer, too.
    link.arrives(ms(10), &[ask("0.0.0.0", OTHER, "10.0.0.2")]);
    assert_eq!(link.leaves().len(), 1);
    let silent = [
        ask("10.0.0.9", OTHER, "10.0.0.3"),
        ask("10.0.0.2", OTHER, "10.0.0.2"),
        ask("10.0.0.9", MAC, "10.0.0.2"),
        ask("10.0.0.9", ethernet::BROADCAST, "10.0.0.2"),
        arp_reply("10.0.0.9", OTHER),
    ];
    link.arrives(ms(10), &silent);
    assert_eq!(link.leaves(), Vec::<Vec<u8>>::new());
    assert_eq!(
        link.state.neighbors.len().0,
        1,
        "nobody is remembered who was not written to"
    );
}

#[test]
fn solicitations_for_the_own_addresses_are_answered() {
    let mut link = Interface::settled();
    let ask =
        |target, source_mac| ndp::Message::Solicitation(ndp::Solicitation { target, source_mac });
    for own in [v6("fd00::2"), ndp::link_local(MAC)] {
        let group = std::format!("{}", ndp::solicited_node(own));
        link.arrives(
            ms(10),
            &[ndp_frame(ask(own, Some(OTHER)), "fd00::9", &group)],
        );
        let (header, ip, message) = ndp_of(&link.leaves()[0]);
        assert_eq!((header.dst, ip.src, ip.dst), (OTHER, own, v6("fd00::9")));
        let mut expected = ndp::Advertisement {
            target: own,
            router: false,
            solicited: true,
            overrides: true,
            target_mac: Some(MAC),
        };
        assert_eq!(message, ndp::Message::Advertisement(expected));
        // A probe for duplicates is answered to all.
        link.arrives(ms(10), &[ndp_frame(ask(own, None), "::", &group)]);
        let (header, ip, message) = ndp_of(&link.leaves()[0]);
        assert_eq!(
            (header.dst, ip.dst),
            ([0x33, 0x33, 0, 0, 0, 1], v6("ff02::1"))
        );
        expected.solicited = false;
        assert_eq!(message, ndp::Message::Advertisement(expected));
    }
    link.arrives(
        ms(10),
        &[ndp_frame(
            ask(v6("fd00::3"), Some(OTHER)),
            "fd00::9",
            "fd00::2",
        )],
    );
    assert!(link.leaves().is_empty());
}

#[test]
fn echo_requests_are_answered_but_not_endlessly() {
    for (from, to, ethertype) in [
        ("10.0.0.9", "10.0.0.2", ethertype::IPV4),
        ("fd00::9", "fd00::2", ethertype::IPV6),
    ] {
        let mut link = Interface::settled();
        let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let packet = echo(from, to, icmp::Kind::EchoRequest);
        let mut frame = framed(OTHER, MAC, ethertype, &packet);
        assert!(link.arrives(ms(1000), &[frame.clone()]).is_empty());
        let answer = link.leaves().remove(0);
        assert_eq!((&answer[..6], &answer[6..12]), (&OTHER[..], &MAC[..]));
        let reply = Packet::parse(&answer[14..]).unwrap();
        assert_eq!((reply.src, reply.dst, reply.ttl), (to, from, 64));
        let message = Message::parse(Family::of(to), reply.transport).unwrap();
        assert_eq!(
            (message.kind, message.body()),
            (icmp::Kind::EchoReply, &[5][..])
        );
        assert!(message.checksum_is_right(to, from));
        // Damaged ones are not.
        *frame.last_mut().unwrap() ^= 1;
        link.arrives(ms(1000), &[frame.clone()]);
        assert!(link.leaves().is_empty());
        *frame.last_mut().unwrap() ^= 1;
        let flood = vec![frame; 2000];
        link.arrives(ms(1000), &flood);
        assert!(link.leaves().len() <= 50);
        link.arrives(ms(2000), &flood);
        assert!((40..=50).contains(&link.leaves().len()));
    }
}

#[test]
fn a_target_that_accepts_a_connection_is_told_that_there_is_none() {
    use plumb_wire::{Checksum, tcp};
    for (from, to, kind) in [
        ("5.0.0.1", "10.0.0.2", ethertype::IPV4),
        ("2a00::1", "fd00::2", ethertype::IPV6),
    ] {
        let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
        for (flags, answers) in [
            (tcp::SYN | tcp::ACK, 1),
            (tcp::SYN, 0),
            (tcp::RST | tcp::ACK, 0),
            (tcp::RST | tcp::SYN | tcp::ACK, 0),
        ] {
            let mut link = Interface::settled();
            let mut packet = echo(from, to, icmp::Kind::EchoReply);
            let at = packet.len() - 9;
            packet.truncate(at);
            packet.resize(at + 20, 0);
            let accept = tcp::Header {
                src_port: 80,
                dst_port: 4000,
                seq: 7,
                ack: 99,
                flags,
                window: 1,
                checksum: 0,
            };
            accept.emit(&mut packet[at..]);
            if at == 20 {
                packet[3] = 40;
                packet[9] = protocol::TCP;
            } else {
                packet[5] = 20;
                packet[6] = protocol::TCP;
            }
            let frame = framed(GATEWAY, MAC, kind, &packet);
            assert_eq!(
                link.arrives(ms(10), &[frame]),
                [packet],
                "the engine has it"
            );
            let sent = link.leaves();
            assert_eq!(sent.len(), answers, "{flags}");
            for frame in sent {
                assert_eq!(frame[..6], GATEWAY);
                let ip = Packet::parse(&frame[14..]).unwrap();
                assert_eq!((ip.src, ip.dst, ip.ttl), (to, from, 64));
                let (reset, _) = tcp::Header::parse(ip.transport).unwrap();
                assert_eq!((reset.src_port, reset.dst_port), (4000, 80));
                assert_eq!((reset.seq, reset.flags), (99, tcp::RST));
                let sum = Checksum::new().pseudo_header(to, from, protocol::TCP, 20);
                assert_eq!(sum.bytes(ip.transport).finish(), 0);
            }
        }
    }
}

#[test]
fn the_engine_is_given_what_is_for_this_machine_alone() {
    let mut link = Interface::settled();
    let own: IpAddr = "10.0.0.2".parse().unwrap();
    let from: IpAddr = "5.0.0.1".parse().unwrap();
    let reply = echo(from, own, icmp::Kind::EchoReply);
    let good = framed(GATEWAY, MAC, ethertype::IPV4, &reply);
    assert_eq!(link.arrives(ms(10), &[good]), core::slice::from_ref(&reply));
    let elsewhere = echo(from, "10.0.0.3".parse().unwrap(), icmp::Kind::EchoReply);
    let not_ours = [
        framed(GATEWAY, OTHER, ethertype::IPV4, &reply),
        framed(GATEWAY, ethernet::BROADCAST, ethertype::IPV4, &reply),
        framed(MAC, MAC, ethertype::IPV4, &reply),
        framed(GATEWAY, MAC, ethertype::IPV4, &elsewhere),
        framed(GATEWAY, MAC, ethertype::IPV6, &reply),
        framed(GATEWAY, MAC, 0x8100, &reply),
        vec![0; 13],
    ];
    assert_eq!(link.arrives(ms(10), &not_ours), Vec::<Vec<u8>>::new());
}

#[test]
fn pings_through_a_simulated_segment_come_back() {
    let lab = plumb_sim::labs().iter().find(|lab| lab.name == "plain");
    let topology = Topology::from_toml(lab.unwrap().toml).unwrap();
    let target = topology.targets()[0];
    let mut hub = Hub::new(topology, 1);
    let (own, len) = hub.vantage().v4.unwrap();
    let config = Config {
        v4: Some(Prefix { address: own, len }),
        gateway_v4: Some(Ipv4Addr::from_bits(own.to_bits() ^ 3)),
        ..Config::default()
    };
    let mut link = Interface::new(Wire::default(), config);
    let mut packet = echo(own.into(), target, icmp::Kind::EchoRequest);
    packet[8] = 64;
    let header = ipv4::Header::parse(&packet).unwrap().0;
    header.emit(&mut packet);
    let mut now = ms(1);
    assert_eq!(link.transmit(ProbeId(1), &packet, now), Fate::Waiting);
    let mut received = Vec::new();
    let mut buffer = vec![0; 2048];
    for _ in 0..200 {
        link.fates();
        link.leaves()
            .iter()
            .for_each(|frame| hub.handle_packet(now, frame));
        hub.handle_timeout(now);
        while let Some(t) = hub.poll_transmit(now, &mut buffer) {
            received.extend(link.arrives(now, &[buffer[..t.len].to_vec()]));
        }
        now = now + Duration::from_millis(1);
    }
    let reply = Packet::parse(&received[0]).unwrap();
    assert_eq!((received.len(), reply.src), (1, target));
}

fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let solicit = ndp::Message::Solicitation(ndp::Solicitation {
        target: v6("fd00::2"),
        source_mac: Some(OTHER),
    });
    let own: IpAddr = "10.0.0.2".parse().unwrap();
    let own6: IpAddr = "fd00::2".parse().unwrap();
    let echo4 = echo("5.0.0.1".parse().unwrap(), own, icmp::Kind::EchoRequest);
    let echo6 = echo("2a00::1".parse().unwrap(), own6, icmp::Kind::EchoRequest);
    let frames = [
        arp_reply("10.0.0.1", GATEWAY),
        arp_frame(arp::Operation::Request, "10.0.0.9", OTHER, "10.0.0.2"),
        ndp_frame(solicit, "fd00::9", "fd00::2"),
        framed(OTHER, MAC, ethertype::IPV4, &echo4),
        framed(OTHER, MAC, ethertype::IPV6, &echo6),
        framed(OTHER, MAC, ethertype::IPV4, &[]),
    ];
    let harm = prop::collection::vec((any::<u16>(), any::<u8>()), 0..6);
    let cut = prop_oneof![Just(usize::MAX), 0..100usize];
    (
        prop::sample::select(frames.to_vec()),
        harm,
        cut,
        any::<bool>(),
    )
        .prop_map(|(mut frame, harm, cut, long)| {
            if long {
                frame.resize(1600, 7);
            }
            frame.truncate(cut);
            for (at, by) in harm {
                let len = frame.len().max(1);
                if let Some(byte) = frame.get_mut(usize::from(at) % len) {
                    *byte = by;
                }
            }
            frame
        })
}

proptest! {
    #[test]
    fn no_frame_makes_it_panic_or_grow_or_speak_for_another(
        frames in prop::collection::vec(hostile(), 0..60), targets in prop::collection::vec(any::<u8>(), 0..20), pass in 0..2000u64,
    ) {
        let mut link = interface();
        let mut now = ms(1);
        let mut frames = frames.chunks(4);
        for (number, at) in (0..20).zip(0..) {
            if let Some(last) = targets.get::<usize>(at) {
                let _ = link.sends(number, &std::format!("10.0.0.{last}"), now);
            }
            let own: [IpAddr; 3] = ["10.0.0.2".parse().unwrap(), v6("fd00::2").into(), ndp::link_local(MAC).into()];
            for packet in link.arrives(now, frames.next().unwrap_or_default()) {
                let dst = destination(&packet);
                prop_assert!(dst.is_some_and(|dst| own.contains(&dst)));
            }
            for (_, fate) in link.fates() {
                prop_assert!(!matches!(fate, Fate::Waiting | Fate::NoRoom));
            }
            for frame in link.leaves() {
                let (header, _) = ethernet::Header::parse(&frame).unwrap();
                prop_assert_eq!(header.src, MAC);
                prop_assert_ne!(header.dst, MAC);
                prop_assert!(frame.len() <= 1514);
            }
            now = now + Duration::from_millis(pass);
            link.handle_timeout(now);
            prop_assert!(link.poll_timeout().is_none_or(|due| due > now));
        }
    }
}
