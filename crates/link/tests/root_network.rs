//! Real sockets in network namespaces of their own: a prober, a router, and a target behind it.
//!
//! Every namespace belongs to the thread of its test and vanishes with it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a test that is skipped says why")]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;

use plumb_link::route::{RouteError, Sources, source_for};
use plumb_link::{
    Batch, Clock, Mode, Observer, Port, ProbePort, ProbePortOptions, Receive, Tun, TunOptions,
    Turn, run,
};
use plumb_wire::icmp::{self, Kind, Message};
use plumb_wire::packet::Packet;
use plumb_wire::{
    Checksum, Engine, Instant, ProbeId, SendError, Transmit, ipv4, ipv6, protocol, tcp,
};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1));
const ROUTER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 2));
const TARGET: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 2));
const SOURCE6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1));
const ROUTER6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 2));
const TARGET6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 2));
const RINGS: Receive = Receive::Rings { bytes: 1 << 20 };

/// Runs `test` in a thread whose network is a prober's behind a router, or says why it cannot.
fn behind_router(test: impl FnOnce() + Send + 'static) {
    in_private_network(move || {
        // The target's namespace is made first, then the router's, then the prober's; what links
        // them is made in the router's.
        let target = network();
        fresh_network();
        let router = network();
        ip(&[
            "link set lo up",
            "link add left address 02:00:00:00:01:02 type veth peer name near address 02:00:00:00:01:01",
            "link add right address 02:00:00:00:02:01 type veth peer name far address 02:00:00:00:02:02",
            "link set left up",
            "link set right up",
            "addr add 10.0.1.2/24 dev left",
            "addr add 10.0.2.1/24 dev right",
            "addr add fd00:1::2/64 dev left nodad",
            "addr add fd00:2::1/64 dev right nodad",
            &format!("link set far netns {}", path(&target)),
        ]);
        for setting in [
            "net.ipv4.ip_forward=1",
            "net.ipv6.conf.all.forwarding=1",
            "net.ipv4.icmp_ratelimit=0",
            "net.ipv4.icmp_msgs_per_sec=1000000",
            "net.ipv4.icmp_msgs_burst=1000000",
            "net.ipv6.icmp.ratelimit=0",
        ] {
            command("sysctl", &["-q", "-w", setting]);
        }
        enter(&target);
        ip(&[
            "link set lo up",
            "link set far up",
            "addr add 10.0.2.2/24 dev far",
            "addr add fd00:2::2/64 dev far nodad",
            "route add default via 10.0.2.1",
            "-6 route add default via fd00:2::1",
        ]);
        fresh_network();
        let prober = network();
        enter(&router);
        ip(&[&format!("link set near netns {}", path(&prober))]);
        enter(&prober);
        ip(&[
            "link set lo up",
            "link set near up",
            "addr add 10.0.1.1/24 dev near",
            "addr add fd00:1::1/64 dev near nodad",
            "route add default via 10.0.1.2",
            "-6 route add default via fd00:1::2",
        ]);
        test();
    });
}

/// Runs `test` in a thread with a network of its own in which nothing is up.
fn in_private_network(test: impl FnOnce() + Send + 'static) {
    if !plumb_link::capability::has(plumb_link::Capability::SysAdmin) {
        return skip("network namespaces need CAP_SYS_ADMIN");
    }
    let thread = std::thread::spawn(|| {
        fresh_network();
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Says why a test cannot run, which is a failure where all of them should.
fn skip(reason: &str) {
    assert!(std::env::var_os("TESTS_NO_SKIP").is_none(), "{reason}");
    println!("skipped: {reason}");
}

fn fresh_network() {
    // SAFETY: a network namespace is no memory, and no other thread is concerned.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
    // For a second, an address that is being checked for duplicates can't be used.
    command(
        "sysctl",
        &["-q", "-w", "net.ipv6.conf.default.accept_dad=0"],
    );
}

/// The network namespace of this thread.
fn network() -> File {
    File::open("/proc/thread-self/ns/net").unwrap()
}

fn enter(network: &File) {
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

fn path(network: &File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), network.as_raw_fd())
}

fn ip(lines: &[&str]) {
    for line in lines {
        command("ip", &line.split(' ').collect::<Vec<_>>());
    }
}

fn command(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}

/// Sends what it is given and keeps what comes back.
#[derive(Default)]
struct Script {
    packets: Vec<Vec<u8>>,
    next: usize,
    sent: Vec<(u64, Instant)>,
    failed: Vec<(u64, SendError)>,
    received: Vec<(Instant, Vec<u8>)>,
}

impl Engine for Script {
    type Event = ();

    fn handle_packet(&mut self, at: Instant, packet: &[u8]) {
        self.received.push((at, packet.to_vec()));
    }

    fn handle_sent(&mut self, probe: ProbeId, at: Instant) {
        self.sent.push((probe.0, at));
    }

    fn handle_send_error(&mut self, probe: ProbeId, _at: Instant, error: SendError) {
        self.failed.push((probe.0, error));
    }

    fn handle_timeout(&mut self, _now: Instant) {}

    fn poll_transmit(&mut self, _now: Instant, into: &mut [u8]) -> Option<Transmit> {
        let packet = self.packets.get(self.next)?;
        into[..packet.len()].copy_from_slice(packet);
        self.next += 1;
        Some(Transmit {
            len: packet.len(),
            probe: ProbeId(self.next as u64 - 1),
        })
    }

    fn poll_event(&mut self) -> Option<()> {
        None
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

/// Sends packets and waits until `expected` have come, or no more do.
fn exchange(port: &mut impl Port, packets: Vec<Vec<u8>>, expected: usize) -> Script {
    let mut script = Script {
        packets,
        ..Script::default()
    };
    let clock = Clock::new();
    let limit = clock.now() + Duration::from_secs(60);
    let mut all_sent = None;
    run(&mut script, port, &clock, &[], &mut (), |script, now| {
        if script.sent.len() + script.failed.len() == script.packets.len() {
            all_sent.get_or_insert(now);
        }
        let done = all_sent.is_some() && script.received.len() >= expected;
        let end = all_sent.map_or(limit, |at| at + Duration::from_secs(2));
        if done || now >= end {
            Turn::Stop
        } else {
            Turn::Continue { wake_at: Some(end) }
        }
    })
    .unwrap();
    // Whatever would come twice.
    std::thread::sleep(Duration::from_millis(20));
    port.receive(100, &mut |at, packet| {
        script.received.push((at, packet.to_vec()))
    })
    .unwrap();
    script
}

fn echo_request(src: IpAddr, dst: IpAddr, ttl: u8, seq: u16) -> Vec<u8> {
    let mut message = vec![0; 16];
    message[4..6].copy_from_slice(&0x1234u16.to_be_bytes());
    message[6..8].copy_from_slice(&seq.to_be_bytes());
    match (src, dst) {
        (IpAddr::V4(_), IpAddr::V4(_)) => {
            message[0] = 8;
            icmp::fill_checksum_v4(&mut message);
            packet(src, dst, ttl, protocol::ICMP, &message)
        }
        (IpAddr::V6(src6), IpAddr::V6(dst6)) => {
            message[0] = 128;
            icmp::fill_checksum_v6(src6, dst6, &mut message);
            packet(src, dst, ttl, protocol::ICMPV6, &message)
        }
        _ => panic!("two families"),
    }
}

fn syn(src: IpAddr, dst: IpAddr, src_port: u16) -> Vec<u8> {
    let mut header = tcp::Header {
        src_port,
        dst_port: 81,
        seq: 7,
        ack: 0,
        flags: tcp::SYN,
        window: 1000,
        checksum: 0,
    };
    let mut segment = [0; tcp::HEADER_LEN];
    header.emit(&mut segment);
    let sum = Checksum::new().pseudo_header(src, dst, protocol::TCP, segment.len());
    header.checksum = sum.bytes(&segment).finish();
    header.emit(&mut segment);
    packet(src, dst, 64, protocol::TCP, &segment)
}

fn packet(src: IpAddr, dst: IpAddr, ttl: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let payload_len = u16::try_from(payload.len()).unwrap();
    let mut bytes = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut bytes = vec![0; ipv4::HEADER_LEN];
            let header = ipv4::Header {
                tos: 0,
                total_len: 20 + payload_len,
                ident: 1,
                flags_fragment: ipv4::DONT_FRAGMENT,
                ttl,
                protocol,
                src,
                dst,
            };
            header.emit(&mut bytes);
            bytes
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut bytes = vec![0; ipv6::HEADER_LEN];
            let header = ipv6::Header {
                traffic_class: 0,
                flow_label: 0x12345,
                payload_len,
                next_header: protocol,
                hop_limit: ttl,
                src,
                dst,
            };
            header.emit(&mut bytes);
            bytes
        }
        _ => panic!("two families"),
    };
    bytes.extend(payload);
    bytes
}

/// Who says what, with which TTL left.
fn said(packet: &[u8]) -> (IpAddr, Kind, u8) {
    let packet = Packet::parse(packet).unwrap();
    let message = Message::parse(packet.family(), packet.transport).unwrap();
    assert!(message.checksum_is_right(packet.src, packet.dst));
    (packet.src, message.kind, packet.ttl)
}

fn open(mode: Mode, receive: Receive) -> ProbePort {
    let options = ProbePortOptions {
        mode,
        receive,
        ..ProbePortOptions::default()
    };
    ProbePort::open(&options).unwrap()
}

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

#[test]
fn root_the_source_address_of_many_destinations_is_that_of_each_alone() {
    behind_router(|| {
        ip(&[
            "addr add 10.0.1.9/32 dev near",
            "route add 20.0.0.0/8 via 10.0.1.2 src 10.0.1.9",
            "route add blackhole 20.9.0.0/16",
        ]);
        let destinations: [[u8; 4]; 8] = [
            [20, 1, 2, 3],
            [20, 9, 1, 1],
            [30, 1, 1, 1],
            [10, 0, 1, 2],
            [10, 0, 1, 1],
            [10, 0, 1, 9],
            [10, 0, 1, 255],
            [127, 0, 0, 5],
        ];
        let mut sources = Sources::new(None).unwrap();
        let plain = |answer: Result<IpAddr, RouteError>| answer.map_err(|e| e.to_string());
        for round in 0..100 {
            for destination in destinations.map(IpAddr::from) {
                let alone = plain(source_for(destination, None));
                assert_eq!(plain(sources.source_for(destination)), alone, "{round}");
            }
        }
        let chosen = source_for([20, 1, 2, 3].into(), None).unwrap();
        assert_eq!(chosen, IpAddr::from([10, 0, 1, 9]));
        ip(&["route del 20.0.0.0/8"]);
        std::thread::sleep(Duration::from_millis(1000));
        assert_eq!(sources.source_for([20, 1, 2, 3].into()).unwrap(), SOURCE);
    });
}

#[test]
fn root_a_packet_socket_sends_past_routing_but_follows_it_within_a_second() {
    behind_router(|| {
        let request = |seq| vec![echo_request(SOURCE, TARGET, 9, seq)];
        let mut port = open(Mode::Packet, Receive::Sockets);
        for seq in 0..2 {
            // The kernel learns of the neighbour, then sends the first to it itself.
            assert_eq!(exchange(&mut port, request(seq), 1).received.len(), 1);
            std::thread::sleep(Duration::from_millis(20));
        }
        exchange(&mut port, request(2), 1);
        ip(&["route del default"]);
        let past_routing = exchange(&mut port, request(3), 1);
        assert_eq!(past_routing.received.len(), 1);
        std::thread::sleep(Duration::from_millis(1000));
        let later = exchange(&mut port, request(4), 0);
        assert_eq!(later.failed, [(0, SendError::NoRoute)]);
    });
}

/// Answers every echo request, as a host behind a TUN device would.
#[derive(Default)]
struct Responder {
    replies: Vec<Vec<u8>>,
    answered: usize,
}

impl Engine for Responder {
    type Event = ();

    fn handle_packet(&mut self, _at: Instant, bytes: &[u8]) {
        let Ok(request) = Packet::parse(bytes) else {
            return;
        };
        let Ok(message) = Message::parse(request.family(), request.transport) else {
            return;
        };
        if message.kind != Kind::EchoRequest {
            return;
        }
        let mut reply = request.transport.to_vec();
        reply[0] = Kind::EchoReply.number(request.family());
        match (request.dst, request.src) {
            (IpAddr::V6(src), IpAddr::V6(dst)) => icmp::fill_checksum_v6(src, dst, &mut reply),
            _ => icmp::fill_checksum_v4(&mut reply),
        }
        let reply = packet(request.dst, request.src, 61, request.protocol, &reply);
        self.replies.push(reply);
    }

    fn handle_sent(&mut self, _probe: ProbeId, _at: Instant) {
        self.answered += 1;
    }

    fn handle_send_error(&mut self, _probe: ProbeId, _at: Instant, _error: SendError) {}

    fn handle_timeout(&mut self, _now: Instant) {}

    fn poll_transmit(&mut self, _now: Instant, into: &mut [u8]) -> Option<Transmit> {
        let reply = self.replies.pop()?;
        into[..reply.len()].copy_from_slice(&reply);
        Some(Transmit {
            len: reply.len(),
            probe: ProbeId(0),
        })
    }

    fn poll_event(&mut self) -> Option<()> {
        None
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

/// Counts packets in each direction.
#[derive(Default)]
struct Counter {
    sent: usize,
    received: usize,
}

impl Observer for Counter {
    fn sent(&mut self, _at: Instant, _packet: &[u8]) {
        self.sent += 1;
    }

    fn received(&mut self, _at: Instant, _packet: &[u8]) {
        self.received += 1;
    }
}

#[test]
fn root_programs_reach_an_engine_behind_a_tun_device() {
    in_private_network(|| {
        let options = TunOptions {
            name: "uplink".to_owned(),
            v4: Some(([5, 0, 0, 1].into(), 24)),
            v6: Some(("2a0b:5000::1".parse().unwrap(), 64)),
            ..TunOptions::default()
        };
        let mut tun = match Tun::create(&options) {
            Ok(tun) => tun,
            Err(error) => return skip(&error.to_string()),
        };
        assert_eq!(tun.name(), "uplink");
        let clock = Clock::new();
        for target in ["9.9.9.9", "2620:fe::fe"] {
            let mut ping = Command::new("ping")
                .args(["-q", "-c", "5", "-i", "0.01", "-W", "2", target])
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap();
            let mut responder = Responder::default();
            let mut counter = Counter::default();
            let mut status = None;
            run(
                &mut responder,
                &mut tun,
                &clock,
                &[],
                &mut counter,
                |_, now| {
                    status = ping.try_wait().unwrap();
                    match status {
                        Some(_) => Turn::Stop,
                        None => Turn::Continue {
                            wake_at: Some(now + Duration::from_millis(5)),
                        },
                    }
                },
            )
            .unwrap();
            assert!(status.unwrap().success(), "{target} did not answer");
            assert_eq!(responder.answered, 5, "{target}");
            assert_eq!(counter.sent, 5);
            assert!(counter.received >= 5);
        }
    });
}
