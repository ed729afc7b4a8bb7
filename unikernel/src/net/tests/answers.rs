//! What the machine answers by itself.

use super::*;

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
