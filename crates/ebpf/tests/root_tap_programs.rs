//! The tap's programs in this kernel, on packets of no interface (BPF_PROG_TEST_RUN).

#![forbid(unsafe_code)]

mod skipping;

use core::net::{IpAddr, Ipv4Addr};

use plumb_ebpf::tap::{
    Choice, Counters, Error, Hook, Limits, MARK, MAX_PREFIXES, OPTION_CLASS, Options, Output, Path,
    Prefix, Rule, Session, Tunnel, filter,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use skipping::skipped;

/// What the programs return: the packet is left to whoever comes next.
const NEXT: u32 = u32::MAX;
const ID: u32 = 77;

fn options() -> Options {
    Options {
        id: ID,
        ring_len: Some(1 << 20),
        limits: Limits::default(),
        choice: Choice::default(),
        prefixes: Vec::new(),
        outputs: Vec::new(),
        balance: false,
        way: None,
        wall_offset_ns: 0,
    }
}

/// A session; nothing where this kernel or user cannot have one.
fn session(options: &Options) -> Option<Session> {
    match Session::new(options) {
        Ok(session) => Some(session),
        Err(error) if error.is_permission() => {
            skipped(&error.to_string());
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn packet(v4: bool, protocol: u8, flow: u8, payload: usize) -> Vec<u8> {
    let mut p = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    let header = if protocol == 6 { 20 } else { 8 };
    let len = u16::try_from(header + payload).expect("a short packet");
    if v4 {
        p.extend([8, 0, 0x45, 0]);
        p.extend((len + 20).to_be_bytes());
        p.extend([0, 1, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 1, flow]);
    } else {
        p.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        p.extend(len.to_be_bytes());
        p.extend([protocol, 64]);
        for last in [1, flow] {
            p.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        }
    }
    p.extend([200, flow, 0, 80]);
    if protocol == 6 {
        p.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x10, 0, 0, 0, 0, 0, 0]);
    } else {
        p.extend(len.to_be_bytes());
        p.extend([0, 0]);
    }
    p.extend((0..payload).map(|n| u8::try_from(n % 251).expect("a byte")));
    p
}

#[track_caller]
fn show(session: &Session, hook: Hook, packet: &[u8]) {
    let ran = session.try_packet(hook, packet, &[], 1).expect("a run");
    assert_eq!(ran.value, NEXT);
    assert!(ran.packet == packet, "the watched packet was changed");
}

fn slices(session: &Session) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    session.consume(usize::MAX, |packet| {
        found.push(packet.bytes.to_vec());
        true
    });
    found
}

fn counters(session: &Session) -> Counters {
    session.counters().expect("counters")
}

#[test]
fn root_slices_of_every_length_are_the_packets_beginning() {
    let Some(mut session) = session(&options()) else {
        return;
    };
    let lengths = [1, 22, 86, 87, 150, 214, 470, 471, 982, 1494, 3000, 3500];
    for payload in lengths {
        for snaplen in [0, 1, 64, 65, 128, 1000, 65_535] {
            session
                .set_limits(Limits {
                    snaplen,
                    ..Limits::default()
                })
                .expect("limits");
            let packet = packet(true, 17, 1, payload);
            show(&session, Hook::Ingress, &packet);
            let cut = if snaplen == 0 {
                packet.len()
            } else {
                packet.len().min(snaplen as usize)
            };
            assert_eq!(
                slices(&session),
                [packet[..cut].to_vec()],
                "{payload} {snaplen}"
            );
        }
    }
    let limits = Limits {
        headers_only: true,
        ..Limits::default()
    };
    session.set_limits(limits).expect("limits");
    for (v4, protocol, headers) in [
        (true, 6, 54),
        (true, 17, 42),
        (false, 6, 74),
        (false, 17, 62),
    ] {
        let packet = packet(v4, protocol, 1, 100);
        show(&session, Hook::Egress, &packet);
        assert_eq!(
            slices(&session),
            [packet[..headers].to_vec()],
            "{v4} {protocol}"
        );
    }
}

/// Whether whoever waits for packets is woken.
fn is_woken(session: &Session) -> bool {
    let fd = session.ring_fd().expect("a ring");
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(
        &mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)],
        Some(&now),
    )
    .expect("poll")
        > 0
}

#[test]
fn root_a_reader_is_woken_where_it_is_asked_for_and_where_much_waits_and_not_by_each_packet() {
    let mut options = options();
    options.ring_len = Some(65_536);
    let Some(mut session) = session(&options) else {
        return;
    };
    let packet = packet(true, 17, 1, 900);
    show(&session, Hook::Ingress, &packet);
    assert!(!is_woken(&session), "by a packet");
    assert_eq!(slices(&session).len(), 1);
    session.wake_at_next(true).expect("a flag");
    assert!(!is_woken(&session), "by nothing");
    show(&session, Hook::Ingress, &packet);
    assert!(is_woken(&session), "not by the next one");
    assert_eq!(slices(&session).len(), 1);
    assert!(!is_woken(&session), "by what it has read");
    session.wake_at_next(false).expect("a flag");
    // A quarter of the ring.
    for _ in 0..14 {
        show(&session, Hook::Ingress, &packet);
    }
    assert!(!is_woken(&session), "too early");
    for _ in 0..2 {
        show(&session, Hook::Ingress, &packet);
    }
    assert!(is_woken(&session), "not by what waits");
    assert_eq!(slices(&session).len(), 16);
}

#[test]
fn root_what_a_tap_has_put_out_is_not_taken_again() {
    let Some(session) = session(&options()) else {
        return;
    };
    let packet = packet(true, 17, 1, 10);
    let mut context = [0; 17];
    context[2] = MARK;
    let ran = session
        .try_packet(Hook::Egress, &packet, &context, 1)
        .expect("a run");
    assert_eq!(ran.value, NEXT);
    assert_eq!((counters(&session).own, counters(&session).seen), (1, 0));
    assert!(session.is_drained());
}

#[test]
fn root_a_cap_lets_a_burst_pass_and_then_its_rate() {
    let Some(mut session) = session(&options()) else {
        return;
    };
    let limits = Limits {
        packets_per_s: 1000,
        ..Limits::default()
    };
    session.set_limits(limits).expect("limits");
    let packet = packet(true, 17, 1, 10);
    let started = std::time::Instant::now();
    for _ in 0..3000 {
        show(&session, Hook::Ingress, &packet);
    }
    let elapsed = started.elapsed().as_secs_f64();
    let c = counters(&session);
    assert_eq!(c.delivered + c.rate_limited, 3000, "{c:?}");
    let most = 100.0 + elapsed * 1000.0 + 2.0;
    #[expect(clippy::cast_precision_loss, reason = "3000 at most")]
    let delivered = c.delivered as f64;
    assert!(
        (100.0..=most).contains(&delivered) || c.delivered == 3000,
        "{c:?} in {elapsed} s"
    );
}

#[test]
fn root_a_copy_that_another_interface_had_is_left_out() {
    let Some(mut session) = session(&options()) else {
        return;
    };
    let limits = Limits {
        dedup_ns: 10_000_000_000,
        ..Limits::default()
    };
    session.set_limits(limits).expect("limits");
    for flow in 1..50 {
        let packet = packet(flow % 2 == 0, 17, flow, 60);
        show(&session, Hook::Ingress, &packet);
        // The same at the same place is a packet of its own.
        show(&session, Hook::Ingress, &packet);
        show(&session, Hook::Egress, &packet);
    }
    let c = counters(&session);
    assert_eq!((c.delivered, c.duplicates), (98, 49), "{c:?}");
}

#[test]
fn root_thousands_of_prefixes_choose_by_the_longest_one() {
    let prefix = |address: [u8; 4], len, include| Prefix {
        address: IpAddr::from(address),
        len,
        include,
    };
    let mut prefixes = vec![
        prefix([10, 0, 1, 0], 24, true),
        prefix([10, 0, 1, 128], 25, false),
    ];
    for n in 0..5000u16 {
        let [a, b] = n.to_be_bytes();
        prefixes.push(prefix([172, a, b, 0], 24, true));
    }
    prefixes.push(Prefix {
        address: "2001:db8::7".parse().expect("an address"),
        len: 128,
        include: true,
    });
    let udp = filter::compile("udp").expect("a filter");
    let Some(session) = session(&Options {
        prefixes,
        choice: udp.into(),
        ..options()
    }) else {
        return;
    };
    let chosen = |packet: &[u8]| {
        show(&session, Hook::Ingress, packet);
        slices(&session).len() == 1
    };
    assert!(chosen(&packet(true, 17, 5, 10)));
    assert!(
        !chosen(&packet(true, 6, 5, 10)),
        "it is not what the filter wants"
    );
    assert!(
        !chosen(&packet(true, 17, 200, 10)),
        "a longer prefix excludes it"
    );
    assert!(chosen(&packet(false, 17, 7, 10)));
    assert!(!chosen(&packet(false, 17, 8, 10)));
    let mut far = packet(true, 17, 5, 10);
    far[30..34].copy_from_slice(&[172, 0x13, 0x87, 9]);
    assert!(chosen(&far));
    far[30..34].copy_from_slice(&[172, 0x13, 0x88, 9]);
    assert!(!chosen(&far));
    let only_without = Options {
        prefixes: vec![prefix([10, 0, 1, 0], 24, false)],
        ..options()
    };
    let session = self::session(&only_without).expect("a second one");
    show(&session, Hook::Ingress, &packet(true, 17, 5, 10));
    show(&session, Hook::Ingress, &packet(false, 17, 5, 10));
    assert_eq!(slices(&session).len(), 1, "what is not excluded is chosen");
}

#[test]
fn root_a_set_has_room_for_as_many_prefixes_as_it_is_given_and_not_for_more() {
    let many = |count: usize| -> Vec<Prefix> {
        (0..count)
            .map(|n| {
                let [_, a, b, c] = u32::try_from(n).expect("a small number").to_be_bytes();
                // Each other one over IPv6; all below 11.0.0.0/8 and 2001:db8:b00::/40.
                let (address, len) = match n % 2 {
                    0 => (IpAddr::from([11, a, b, c]), 32),
                    _ => {
                        let v6 = [0x20, 1, 0xd, 0xb8, 11, a, b, c, 0, 0, 0, 0, 0, 0, 0, 0];
                        (IpAddr::from(v6), 64)
                    }
                };
                Prefix {
                    address,
                    len,
                    include: true,
                }
            })
            .collect()
    };
    let Some(session) = session(&Options {
        prefixes: many(100_000),
        ..options()
    }) else {
        return;
    };
    let chosen = |address: &[u8]| {
        let mut packet = packet(address.len() == 4, 17, 1, 10);
        let at = if address.len() == 4 { 30 } else { 38 };
        packet[at..at + address.len()].copy_from_slice(address);
        show(&session, Hook::Ingress, &packet);
        slices(&session).len() == 1
    };
    for n in [0, 2, 50_000, 99_998, 99_999, 100_000, 1 << 23] {
        let [_, a, b, c] = u32::try_from(n).expect("a small number").to_be_bytes();
        let v6 = [0x20, 1, 0xd, 0xb8, 11, a, b, c, 0, 0, 0, 0, 0, 0, 0, 9];
        let within = n < 100_000;
        assert_eq!(chosen(&[11, a, b, c]), within && n % 2 == 0, "{n}");
        assert_eq!(chosen(&v6), within && n % 2 == 1, "{n}");
    }
    let builder = session.builder().expect("a builder");
    let refused = builder.prefixes(&many(MAX_PREFIXES + 1));
    assert!(
        matches!(refused, Err(Error::TooManyPrefixes(1_048_577))),
        "{refused:?}"
    );
}

fn output(tunnel: Tunnel, v4: bool, mtu: u32) -> Output {
    let address = |last: u8| match v4 {
        true => IpAddr::from(Ipv4Addr::new(192, 0, 2, last)),
        false => IpAddr::from([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]),
    };
    Output {
        interface: 1,
        mtu,
        path: Some(Path {
            tunnel,
            port: 4789,
            source: address(1),
            destination: address(9),
            source_mac: [2, 0, 0, 0, 0, 0xa],
            next_mac: [2, 0, 0, 0, 0, 0xb],
        }),
    }
}

#[test]
fn root_every_tunnel_header_goes_before_every_kind_of_packet() {
    let mut arp = vec![0xff; 6];
    arp.extend([2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    arp.resize(42, 7);
    let mut tagged = packet(true, 17, 1, 50);
    tagged.splice(12..12, [0x81, 0, 0, 100]);
    let packets = [
        packet(true, 6, 1, 300),
        packet(false, 17, 1, 0),
        arp,
        tagged,
    ];
    let tunnels = [
        (Tunnel::Vxlan { vni: 0x0a0b0c }, 17, 8 + 8),
        (Tunnel::Geneve { vni: 5 }, 17, 8 + 8 + 32),
        (Tunnel::Gre { key: Some(6) }, 47, 8),
        (Tunnel::Gre { key: None }, 47, 4),
        (Tunnel::Erspan2 { session: 7 }, 47, 8 + 8),
        (Tunnel::Erspan3 { session: 7 }, 47, 8 + 12),
    ];
    for v4 in [true, false] {
        for (tunnel, protocol, len) in tunnels {
            let outputs = vec![output(tunnel, v4, 1500)];
            let Some(session) = session(&Options {
                outputs,
                ..options()
            }) else {
                return;
            };
            for packet in &packets {
                let mut context = [0; 17];
                (context[2], context[12], context[13], context[14]) =
                    (MARK, ID, 1 << 8, 0x1234_5678);
                context[15] = 9;
                let ran = session.try_output(packet, &context).expect("a run");
                assert_eq!(ran.value, NEXT, "{tunnel:?} {packet:02x?}");
                check(&ran.packet, packet, v4, protocol, len, tunnel);
            }
            let c = counters(&session);
            assert_eq!((c.output_failed, c.truncated), (0, 0));
            // Clones of other sessions, and all other packets, pass as they are.
            for (mark, id) in [(0, ID), (MARK, ID + 1)] {
                let mut context = [0; 17];
                (context[2], context[12]) = (mark, id);
                let ran = session.try_output(&packets[0], &context).expect("a run");
                assert_eq!((ran.value, &ran.packet), (NEXT, &packets[0]));
            }
        }
    }
}

#[test]
fn root_geneve_tells_what_was_lost_on_all_processors_together() {
    // A clone for no interface fails.
    let outputs = vec![Output {
        interface: 0,
        ..output(Tunnel::Geneve { vni: 5 }, true, 1500)
    }];
    let Some(session) = session(&Options {
        outputs,
        ..options()
    }) else {
        return;
    };
    let packet = packet(true, 17, 1, 10);
    let processors = sched_getaffinity(None).expect("the processors");
    let mut lost = 0;
    for number in (0..CpuSet::MAX_CPU)
        .filter(|&n| processors.is_set(n))
        .take(2)
    {
        let mut one = CpuSet::new();
        one.set(number);
        sched_setaffinity(None, &one).expect("a processor");
        for _ in 0..3 {
            show(&session, Hook::Ingress, &packet);
            lost += 1;
        }
        let mut context = [0; 17];
        (context[2], context[12], context[13]) = (MARK, ID, 1 << 8);
        let ran = session.try_output(&packet, &context).expect("a run");
        // Behind Ethernet, IPv4, UDP, GENEVE and the other two options with a header each, and its own.
        let told = ran.packet[14 + 20 + 8 + 8 + 12 + 12 + 4..].first_chunk();
        assert_eq!(told.map(|b| u32::from_be_bytes(*b)), Some(lost));
    }
    assert_eq!(counters(&session).output_failed, u64::from(lost));
}

fn check(found: &[u8], packet: &[u8], v4: bool, protocol: u8, len: usize, tunnel: Tunnel) {
    let ip = if v4 { 20 } else { 40 };
    assert_eq!(found.len(), 14 + ip + len + packet.len(), "{tunnel:?}");
    assert_eq!(found[..12], [2, 0, 0, 0, 0, 0xb, 2, 0, 0, 0, 0, 0xa]);
    let be16 = |at: usize| usize::from(u16::from_be_bytes([found[at], found[at + 1]]));
    let be32 =
        |at: usize| u32::from_be_bytes([found[at], found[at + 1], found[at + 2], found[at + 3]]);
    if v4 {
        assert_eq!(
            (be16(12), be16(16), found[23]),
            (0x800, found.len() - 14, protocol)
        );
        assert_eq!(plumb_wire::checksum(&found[14..34]), 0, "{tunnel:?}");
    } else {
        assert_eq!(
            (be16(12), be16(18), found[20]),
            (0x86dd, found.len() - 54, protocol)
        );
    }
    let at = 14 + ip;
    if protocol == 17 {
        assert!(be16(at) >= 0xc000, "a port of hosts that speak first");
        assert_eq!(
            (be16(at + 2), be16(at + 4), be16(at + 6)),
            (4789, found.len() - at, 0)
        );
    }
    match tunnel {
        Tunnel::Vxlan { vni } => assert_eq!((be32(at + 8), be32(at + 12)), (0x0800_0000, vni << 8)),
        Tunnel::Geneve { .. } => {
            assert_eq!(be16(at + 16), usize::from(OPTION_CLASS));
            assert!(be32(at + 20) != 0 || be32(at + 24) != 0, "the time");
            assert_eq!(
                (be32(at + 32), found[at + 36]),
                (9, 1),
                "interface and direction"
            );
        }
        Tunnel::Erspan3 { .. } => assert_eq!(found[at + 19] & 8, 8, "the direction"),
        Tunnel::Gre { .. } | Tunnel::Erspan2 { .. } => {}
    }
    assert!(
        found[at + len..] == *packet,
        "{tunnel:?}\n{found:02x?}\n{packet:02x?}"
    );
}

#[test]
fn root_what_does_not_fit_the_link_is_cut_and_not_lost() {
    let outputs = vec![output(Tunnel::Vxlan { vni: 1 }, true, 1500)];
    let Some(session) = session(&Options {
        outputs,
        ..options()
    }) else {
        return;
    };
    let packet = packet(true, 17, 1, 1472);
    assert_eq!(packet.len(), 1514);
    let mut context = [0; 17];
    (context[2], context[12]) = (MARK, ID);
    let ran = session.try_output(&packet, &context).expect("a run");
    assert_eq!(ran.packet.len(), 1514);
    assert!(ran.packet[50..] == packet[..1464]);
    assert_eq!(counters(&session).truncated, 1);
}

/// Rules that no jump of a program in the kernel reaches across, and `last` behind them.
fn too_long_for_the_kernel(last: &str) -> Choice {
    let terms: Vec<String> = (30_000..31_500).map(|n| format!("len = {n}")).collect();
    let compiled = |text: &str| filter::compile(text).expect("a filter");
    let long = Rule {
        include: false,
        program: compiled(&terms.join(" or ")),
    };
    let mut rules = vec![long; 8];
    rules.push(Rule {
        include: true,
        program: compiled(last),
    });
    Choice {
        filter: None,
        rules,
    }
}

#[test]
fn root_what_the_kernel_does_not_load_is_chosen_where_packets_are_read() {
    let choice = too_long_for_the_kernel("udp and ether[1499] = 0xff");
    let all = Options {
        choice: choice.clone(),
        limits: Limits {
            snaplen: 60,
            ..Limits::default()
        },
        ..options()
    };
    let Some(mut here) = session(&all) else {
        return;
    };
    assert!(
        here.in_user_space()
            .is_some_and(|why| why.contains("too long"))
    );
    let mut wanted = packet(true, 17, 1, 1500);
    wanted[1499] = 0xff;
    let packets = [
        packet(true, 17, 1, 1500),
        packet(true, 6, 1, 1500),
        wanted.clone(),
        packet(false, 17, 2, 10),
    ];
    for packet in &packets {
        show(&here, Hook::Ingress, packet);
    }
    assert_eq!(slices(&here), [&wanted[..60]]);
    let counted = counters(&here);
    assert_eq!(
        (counted.seen, counted.matched, counted.delivered),
        (4, 1, 1)
    );
    assert_eq!((counted.delivered_bytes, counted.truncated), (60, 1));
    // Another filter, and headers only.
    let next = here.builder().expect("a builder");
    let next = next.build(
        &Choice::from(filter::compile("tcp").expect("a filter")),
        None,
    );
    here.choose(next.expect("a chooser")).expect("another one");
    let headers_only = Limits {
        headers_only: true,
        ..Limits::default()
    };
    here.set_limits(headers_only).expect("limits");
    for packet in &packets {
        show(&here, Hook::Egress, packet);
    }
    assert_eq!(slices(&here), [&packets[1][..54]]);
    // What only the kernel could do.
    let capped = Limits {
        packets_per_s: 5,
        ..Limits::default()
    };
    let refused = here.set_limits(capped);
    assert!(
        matches!(refused, Err(Error::InUserSpace { .. })),
        "{refused:?}"
    );
    assert_eq!(here.limits(), headers_only);
    for ring_len in [None, options().ring_len] {
        let cannot = Options {
            ring_len,
            limits: capped,
            choice: choice.clone(),
            ..options()
        };
        let refused = Session::new(&cannot).map(drop);
        assert!(matches!(refused, Err(Error::TooLong(_))), "{refused:?}");
    }
}
