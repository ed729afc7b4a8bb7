//! What is sent and received through raw and packet sockets, in a network of real hosts.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod router;

use core::net::{IpAddr, Ipv6Addr};
use core::time::Duration;

use plumb_link::{Batch, Clock, Mode, Port, ProbePort, ProbePortOptions, Receive, Turn, run};
use plumb_wire::icmp::Kind;
use plumb_wire::packet::Packet;
use plumb_wire::{ProbeId, SendError, Transmit, protocol, tcp};

use router::script::{RINGS, Script, echo_request, exchange, open, packet, said, syn};
use router::{
    ROUTER, ROUTER6, SOURCE, SOURCE6, TARGET, TARGET6, behind_router, in_private_network, ip,
};

#[test]
fn root_every_way_to_send_and_receive_carries_each_packet_once_with_its_time() {
    behind_router(|| {
        for (mode, receive) in [
            (Mode::Raw, Receive::Sockets),
            (Mode::Raw, RINGS),
            (Mode::Packet, Receive::Sockets),
            (Mode::Packet, RINGS),
        ] {
            let mut port = open(mode, receive);
            for round in 0..3 {
                let packets = vec![
                    echo_request(SOURCE, TARGET, 1, round),
                    echo_request(SOURCE6, TARGET6, 1, round),
                    echo_request(SOURCE, TARGET, 9, round),
                    echo_request(SOURCE6, TARGET6, 9, round),
                ];
                let before = Clock::new().now();
                let script = exchange(&mut port, packets, 4);
                let mut heard: Vec<_> = script.received.iter().map(|(_, p)| said(p)).collect();
                heard.sort_by_key(|(from, ..)| *from);
                let expected = [
                    (ROUTER, Kind::TimeExceeded, 64),
                    (TARGET, Kind::EchoReply, 63),
                    (ROUTER6, Kind::TimeExceeded, 64),
                    (TARGET6, Kind::EchoReply, 63),
                ];
                assert_eq!(heard, expected, "{mode:?} {receive:?} {round}");
                assert_eq!(script.sent.len(), 4);
                let after = Clock::new().now();
                let times = script.sent.iter().map(|(_, at)| *at);
                let times: Vec<_> = times
                    .chain(script.received.iter().map(|(at, _)| *at))
                    .collect();
                assert!(
                    times.iter().all(|at| (before..=after).contains(at)),
                    "{times:?}"
                );
                let first_sent = script.sent.iter().map(|(_, at)| *at).min();
                let first_heard = script.received.iter().map(|(at, _)| *at).min();
                assert!(first_sent < first_heard, "an answer before its question");
            }
            assert_eq!(port.dropped(), 0);
        }
    });
}

#[test]
fn root_loopback_delivers_each_reply_once() {
    in_private_network(|| {
        ip(&["link set lo up"]);
        let lo = IpAddr::from([127, 0, 0, 1]);
        let lo6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
        for receive in [Receive::Sockets, RINGS] {
            let mut port = open(Mode::Packet, receive);
            let packets = vec![echo_request(lo, lo, 9, 1), echo_request(lo6, lo6, 9, 1)];
            let script = exchange(&mut port, packets, 2);
            let mut heard: Vec<_> = script.received.iter().map(|(_, p)| said(p)).collect();
            heard.sort_by_key(|(from, ..)| *from);
            assert_eq!(
                heard,
                [(lo, Kind::EchoReply, 64), (lo6, Kind::EchoReply, 64)]
            );
        }
    });
}

#[test]
fn root_resets_to_a_probes_port_are_received() {
    behind_router(|| {
        for receive in [Receive::Sockets, RINGS] {
            let mut port = open(Mode::Raw, receive);
            let packets = vec![
                syn(SOURCE, TARGET, 0x8001),
                syn(SOURCE6, TARGET6, 0x8002),
                syn(SOURCE, TARGET, 0x7fff),
            ];
            let script = exchange(&mut port, packets, 2);
            let mut heard: Vec<_> = script
                .received
                .iter()
                .map(|(_, bytes)| {
                    let packet = Packet::parse(bytes).unwrap();
                    let segment = tcp::Header::parse(packet.transport).unwrap().0;
                    (packet.src, segment.dst_port, segment.flags & tcp::RST)
                })
                .collect();
            heard.sort_unstable();
            let expected = [(TARGET, 0x8001, tcp::RST), (TARGET6, 0x8002, tcp::RST)];
            assert_eq!(heard, expected, "{receive:?}");
        }
    });
}

#[test]
fn root_a_packet_that_cannot_be_sent_is_named_and_does_not_keep_the_others() {
    behind_router(|| {
        ip(&[
            "link set near mtu 1400",
            "route add blackhole 10.9.0.0/16",
            "route add unreachable 10.8.0.0/16",
        ]);
        for mode in [Mode::Raw, Mode::Packet] {
            let mut port = open(mode, Receive::Sockets);
            // The neighbour is known and checked, so that the packet socket is what sends.
            exchange(&mut port, vec![echo_request(SOURCE, TARGET, 9, 0)], 1);
            let good = |seq| echo_request(SOURCE, TARGET, 9, seq);
            let unreachable = echo_request(SOURCE, [10, 8, 0, 1].into(), 9, 0);
            let too_big = packet(SOURCE, TARGET, 9, protocol::UDP, &[0; 1400]);
            let packets = vec![
                good(1),
                unreachable,
                good(2),
                too_big,
                vec![0x45; 3],
                good(3),
            ];
            let script = exchange(&mut port, packets, 3);
            let expected = [
                (1, SendError::NoRoute),
                (3, SendError::TooBig),
                (4, SendError::Other),
            ];
            assert_eq!(script.failed, expected, "{mode:?}");
            let sent: Vec<_> = script.sent.iter().map(|(probe, _)| *probe).collect();
            assert_eq!(sent, [0, 2, 5], "{mode:?}");
            assert_eq!(script.received.len(), 3, "{mode:?}");
        }
    });
}

#[test]
fn root_a_ring_that_is_full_counts_what_it_lost() {
    in_private_network(|| {
        ip(&["link set lo up"]);
        let lo = IpAddr::from([127, 0, 0, 1]);
        // 32 packets.
        let mut port = open(Mode::Raw, Receive::Rings { bytes: 64 * 1024 });
        let mut batch = Batch::new();
        let request = echo_request(lo, lo, 9, 1);
        while batch.push(|into| {
            into[..request.len()].copy_from_slice(&request);
            let (len, probe) = (request.len(), ProbeId(0));
            Some(Transmit { len, probe })
        }) {}
        let mut sent = 0;
        port.send(&batch, &mut |_, result| sent += u64::from(result.is_ok()))
            .unwrap();
        let mut received = 0;
        while port.receive(64, &mut |_, _| received += 1).unwrap() > 0 {}
        assert_eq!((sent, received, port.dropped()), (64, 32, 32));
    });
}

#[test]
fn root_a_port_on_an_interface_that_goes_down_neither_spins_nor_breaks() {
    behind_router(|| {
        for receive in [Receive::Sockets, RINGS] {
            let mut port = ProbePort::open(&ProbePortOptions {
                interface: Some("near".to_owned()),
                mode: Mode::Raw,
                receive,
                ..ProbePortOptions::default()
            })
            .unwrap();
            let script = exchange(&mut port, vec![echo_request(SOURCE, TARGET, 9, 0)], 1);
            assert_eq!(script.received.len(), 1);
            ip(&["link set near down"]);
            let clock = Clock::new();
            let end = clock.now() + Duration::from_millis(300);
            let mut rounds = 0;
            let mut idle = Script::default();
            run(&mut idle, &mut port, &clock, &[], &mut (), |_, now| {
                rounds += 1;
                if now >= end {
                    Turn::Stop
                } else {
                    Turn::Continue { wake_at: Some(end) }
                }
            })
            .unwrap();
            // The last 50 us are spent spinning.
            assert!(rounds < 5000, "{rounds} rounds in 300 ms");
            ip(&["link set near up", "route add default via 10.0.1.2"]);
            let script = exchange(&mut port, vec![echo_request(SOURCE, TARGET, 9, 1)], 1);
            assert_eq!(script.received.len(), 1, "{receive:?}");
        }
    });
}

#[test]
fn root_a_flood_leaves_completely() {
    behind_router(|| {
        const COUNT: usize = 20_000;
        let counters = || {
            let all = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
            let line = all.lines().find(|line| line.contains("near:")).unwrap();
            let sent: u64 = line.split_whitespace().nth(10).unwrap().parse().unwrap();
            sent
        };
        for mode in [Mode::Raw, Mode::Packet] {
            let mut port = open(mode, RINGS);
            exchange(&mut port, vec![echo_request(SOURCE, TARGET, 9, 0)], 1);
            let before = counters();
            let packets = vec![echo_request(SOURCE, TARGET, 1, 0); COUNT];
            let script = exchange(&mut port, packets, usize::MAX);
            assert_eq!((script.sent.len(), &script.failed[..]), (COUNT, &[][..]));
            let left = counters() - before;
            assert!(left >= COUNT as u64, "{mode:?}: {left}");
            let times = |i: usize| script.sent[i].1;
            let took = times(COUNT - 1).since(times(0));
            println!("{mode:?}: {COUNT} packets in {took:?}");
        }
    });
}
