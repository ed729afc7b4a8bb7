//! The tap's filters mean what libpcap means: its own compiler, ours, and the kernel running ours
//! agree on packets of every kind.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::process::Command;

use plumb_ebpf::tap::cbpf::Program;
use plumb_ebpf::tap::{Choice, Hook, Limits, Options, Rule, Session, filter};
use plumb_tests::{require, run};
use plumb_wire::SplitMix64;

/// Expressions of every kind that are understood.
const EXPRESSIONS: &[&str] = &[
    "ip",
    "ip6",
    "arp",
    "rarp",
    "tcp",
    "udp",
    "sctp",
    "icmp",
    "icmp6",
    "igmp",
    "esp",
    "ah",
    "pim",
    "vrrp",
    "not ip",
    "ip and not tcp",
    "tcp or udp and not icmp",
    "not (tcp or udp)",
    "! tcp && ! udp",
    "host 10.0.0.1",
    "src host 10.0.0.1",
    "dst host 10.0.0.2",
    "src 10.0.0.1",
    "src and dst 10.0.0.1",
    "src or dst host 10.0.0.2",
    "host 10.0.0.1 or 10.0.0.2",
    "host 10.0.0.1 and not 10.0.0.2",
    "ip host 10.0.0.1",
    "arp host 10.0.0.1",
    "rarp src host 10.0.0.1",
    "net 10.0.0.0/8",
    "net 10",
    "net 10.0",
    "src net 10.1.0.0/16",
    "dst net 10.0.0.0 mask 255.255.0.0",
    "ip net 192.168.0.0/16",
    "net 0.0.0.0/0",
    "host 2001:db8::1",
    "ip6 host 2001:db8::2",
    "src host 2001:db8::1",
    "net 2001:db8::/32",
    "dst net fe80::/10",
    "net ::/0",
    "ether host 02:00:00:00:00:01",
    "ether src 02:00:00:00:00:01",
    "ether dst 02:00:00:00:00:02",
    "ether broadcast",
    "broadcast",
    "multicast",
    "ether multicast",
    "ip multicast",
    "ip6 multicast",
    "ether proto 0x0800",
    "ether proto \\ip6",
    "ether proto \\arp",
    "ether proto 0x42",
    "ip proto 6",
    "ip proto \\udp",
    "ip6 proto 17",
    "proto 58",
    "ip6 proto \\tcp",
    "port 80",
    "port 443 or 53",
    "port (80 or 443)",
    "tcp port 443",
    "udp port 53",
    "sctp port 80",
    "src port 80",
    "tcp dst port 443",
    "src and dst port 53",
    "dst port http or https",
    "udp dst port domain",
    "not port 53",
    "portrange 50-80",
    "tcp portrange 80-443",
    "udp src portrange 1-60",
    "tcp port 443 and net 10.0.0.0/8",
    "tcp and (port 80 or port 443) and not host 10.0.0.2",
    "less 60",
    "greater 80",
    "len > 70",
    "len >= 60 and len <= 90",
    "length != 64",
    "vlan",
    "vlan 100",
    "vlan and ip",
    "vlan 100 and tcp port 443",
    "vlan 100 and vlan 200",
    "vlan and vlan and ip",
    "ip or vlan and ip",
    "not vlan",
    "mpls",
    "mpls 16",
    "mpls and ip",
    "mpls 16 and mpls 17",
    "mpls and mpls and ip6",
    "tcp[13] & 2 != 0",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "tcp[tcpflags] == tcp-syn|tcp-ack",
    "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn",
    "ip[0] & 0xf != 5",
    "ip[8] < 5",
    "ip[6:2] & 0x1fff = 0",
    "ip[2:2] > 60",
    "ip6[6] = 6",
    "ip6[7] >= 64",
    "ether[0] & 1 = 1",
    "ether[12:2] = 0x800",
    "udp[4:2] > 20",
    "udp[0:2] = udp[2:2]",
    "icmp[icmptype] = icmp-echo",
    "icmp[0] = 8 or icmp[0] = 0",
    "icmp6[icmp6type] = icmp6-neighborsolicit",
    "icmp6[0] = 135",
    "tcp[0:2] + tcp[2:2] > 1000",
    "tcp[0:2] - 80 = 0",
    "tcp[((tcp[12] & 0xf0) >> 2)] = 0x47",
    "tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420",
    "ip[0] * 2 > 100",
    "ip[8] / 2 = 32",
    "ip[8] % 7 = 1",
    "ip[8] ^ 1 = 65",
    "len - 14 > ip[2:2]",
    "ip[9] << 4 = 96",
    "0 - 1 = 0xffffffff",
    "1 < 2",
    "ip[ip[8]] = 0",
    "arp[6:2] = 1",
    "ip and ip[1] = 0 or ip6",
    "(ip or ip6) and (tcp or udp)",
    "((ip))",
    "tcp port 80 or udp port 53 or icmp or arp",
    "host 10.0.0.1 and (tcp port 80 or udp port 53)",
    "ip src 10.0.0.1 and ip dst 10.0.0.2",
    "stop",
];

/// Packets whose fields are taken from the few values that expressions ask for.
fn packets(count: usize) -> Vec<Vec<u8>> {
    let mut random = SplitMix64::new(7);
    (0..count).map(|_| packet(&mut random)).collect()
}

fn packet(random: &mut SplitMix64) -> Vec<u8> {
    let mut any = |choices: &[u64]| {
        let at = usize::try_from(random.next() % u64::try_from(choices.len()).unwrap()).unwrap();
        choices[at]
    };
    let byte = |number: u64| u8::try_from(number & 0xff).unwrap();
    let mut p = vec![0u8; 12];
    for at in [0, 6] {
        match any(&[0, 1, 2, 3, 4]) {
            0 => p[at..at + 6].fill(0xff),
            1 => p[at..at + 6].copy_from_slice(&[1, 0, 0x5e, 0, 0, 1]),
            n => p[at..at + 6].copy_from_slice(&[2, 0, 0, 0, 0, byte(n - 1)]),
        }
    }
    for _ in 0..any(&[0, 0, 0, 1, 1, 2]) {
        let tag = u16::try_from(any(&[100, 200, 0x2064])).unwrap();
        p.extend(
            u16::try_from(any(&[0x8100, 0x88a8, 0x9100]))
                .unwrap()
                .to_be_bytes(),
        );
        p.extend(tag.to_be_bytes());
    }
    let labels = any(&[0, 0, 0, 0, 1, 2]);
    let kind = any(&[4, 4, 4, 4, 6, 6, 6, 0x806, 0x8035, 0x88cc, 70]);
    if labels > 0 {
        p.extend([0x88, 0x47]);
        for label in 0..labels {
            let bottom = u32::from(label + 1 == labels);
            let number = u32::try_from(any(&[16, 17])).unwrap();
            p.extend((number << 12 | bottom << 8 | 64).to_be_bytes());
        }
    } else {
        let kind = match kind {
            4 => 0x800,
            6 => 0x86dd,
            other => other,
        };
        p.extend(u16::try_from(kind).unwrap().to_be_bytes());
    }
    let v4 = |n: u64| match n {
        0 => [10, 0, 0, 1],
        1 => [10, 0, 0, 2],
        2 => [10, 1, 0, 9],
        3 => [224, 0, 0, 5],
        _ => [192, 168, 1, 1],
    };
    let v6 = |n: u64| -> [u8; 16] {
        let text =
            ["2001:db8::1", "2001:db8::2", "fe80::1", "ff02::1"][usize::try_from(n).unwrap()];
        text.parse::<core::net::Ipv6Addr>().unwrap().octets()
    };
    let addresses = [0, 1, 2, 3, 4];
    let protocol = byte(any(&[
        1, 2, 6, 6, 6, 17, 17, 17, 50, 51, 58, 103, 112, 132, 44,
    ]));
    match kind {
        4 => {
            let options = any(&[0, 0, 0, 1]);
            p.extend([
                0x45 + byte(options),
                byte(any(&[0, 1])),
                0,
                byte(any(&[40, 60, 90])),
                0,
                1,
            ]);
            p.extend([byte(any(&[0, 0x40, 0x20])), byte(any(&[0, 0, 0, 7]))]);
            p.extend([byte(any(&[1, 4, 64, 255])), protocol, 0, 0]);
            p.extend(v4(any(&addresses)));
            p.extend(v4(any(&addresses)));
            for _ in 0..options {
                p.extend([1, 1, 1, 0]);
            }
        }
        6 => {
            p.extend([0x60, 0, 0, 0, 0, 40, protocol, byte(any(&[1, 64, 255]))]);
            p.extend(v6(any(&[0, 1, 2])));
            p.extend(v6(any(&[0, 1, 2, 3])));
            if protocol == 44 {
                p.extend([byte(any(&[6, 17])), 0, 0, 0, 0, 0, 0, 1]);
            }
        }
        0x806 | 0x8035 => {
            p.extend([0, 1, 8, 0, 6, 4, 0, byte(any(&[1, 2]))]);
            p.extend([2, 0, 0, 0, 0, 1]);
            p.extend(v4(any(&addresses)));
            p.extend([2, 0, 0, 0, 0, 2]);
            p.extend(v4(any(&addresses)));
        }
        _ => p.extend([0x42, 0x42, 3]),
    }
    let ports = [53, 80, 443, 60, 40_000];
    for _ in 0..2 {
        p.extend(u16::try_from(any(&ports)).unwrap().to_be_bytes());
    }
    match any(&[0, 1]) {
        0 => p.extend([0, 30, 0, 0, 0, 0, 0, 0]),
        _ => p.extend([8, 0, 0, 0, 0, 0, 0, 0]),
    }
    p.extend([0x50, byte(any(&[2, 0x12, 0x10, 0x11, 4])), 0, 0, 0, 0, 0, 0]);
    p.extend(b"GET / HTTP/1.1");
    let most = p.len();
    match any(&[0, 0, 0, 1, 2]) {
        0 => {}
        1 => p.truncate(
            usize::try_from(any(&[14, 20, 33, 34, 38, 53, 60]))
                .unwrap()
                .min(most),
        ),
        _ => p.resize(most + 30, 0),
    }
    p
}

/// What libpcap makes of an expression; nothing if it does not understand it.
fn of_libpcap(expression: &str) -> Option<Program> {
    let done = run(Command::new("tcpdump").args(["-y", "EN10MB", "-ddd", expression]));
    done.stdout.parse().ok()
}

fn session() -> Session {
    Session::new(&Options {
        id: 16,
        ring_len: None,
        limits: Limits::default(),
        choice: Choice::default(),
        prefixes: Vec::new(),
        outputs: Vec::new(),
        balance: false,
        way: None,
        wall_offset_ns: 0,
    })
    .expect("a session")
}

#[test]
fn root_every_expression_chooses_what_libpcap_chooses_and_the_kernel_runs_it_alike() {
    require!("tcpdump");
    let packets = packets(3000);
    let mut session = session();
    let builder = session.builder().expect("a builder");
    let mut wrong = Vec::new();
    let (mut most_chosen, mut ran_packets) = (0, 0);
    for expression in EXPRESSIONS {
        let theirs = of_libpcap(expression);
        let ours = filter::compile(expression);
        let (Some(theirs), Ok(Some(ours))) = (&theirs, &ours) else {
            if theirs.is_some() || ours.is_ok() {
                wrong.push(format!("{expression}: {} {ours:?}", theirs.is_some()));
            }
            continue;
        };
        let (mut chosen, mut cut) = (0u64, 0);
        let chooser = builder.build(&Some(ours.clone()).into(), None);
        chooser
            .and_then(|chooser| session.choose(chooser))
            .unwrap_or_else(|e| panic!("{expression}: {e}"))
            .retire();
        let before = session.counters().expect("counters").matched;
        for (n, packet) in packets.iter().enumerate() {
            let len = u32::try_from(packet.len()).unwrap();
            let expected = theirs.run(packet, len) != 0;
            let found = ours.run(packet, len) != 0;
            // libpcap leaves out loads that decide nothing, and a load from behind the end decides.
            let within_header = packet.len() < 62 && expected != found;
            cut += usize::from(within_header);
            if expected != found && !within_header {
                wrong.push(format!("{expression}: packet {n} {expected} {packet:02x?}"));
                break;
            }
            // The kernel does not run programs on packets that end within what it parses itself.
            let ran = session.try_packet(Hook::Ingress, packet, &[], 1);
            chosen += u64::from(found && ran.is_ok());
            ran_packets += u64::from(ran.is_ok());
        }
        if cut > packets.len() / 200 {
            wrong.push(format!(
                "{expression}: {cut} packets that end within a header"
            ));
        }
        let matched = session.counters().expect("counters").matched - before;
        if matched != chosen && wrong.is_empty() {
            wrong.push(format!(
                "{expression}: the kernel chose {matched}, not {chosen}"
            ));
        }
        most_chosen = most_chosen.max(chosen);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(ran_packets > 200_000, "the kernel ran only {ran_packets}");
    assert!(most_chosen > 1000, "packets are too poor: {most_chosen}");
}

#[test]
fn root_rules_decide_in_the_kernel_as_they_do_here() {
    let packets = packets(400);
    let mut session = session();
    let builder = session.builder().expect("a builder");
    let mut random = SplitMix64::new(5);
    let mut any = |below: usize| {
        usize::try_from(random.below(u64::try_from(below).unwrap())).expect("a small number")
    };
    let (mut most_chosen, mut most_left_out) = (0, 0);
    for round in 0..60 {
        let mut program = || {
            // Some choose all or nothing, so what follows them is never reached.
            let text = match any(8) {
                0 => "",
                1 => "1 > 2",
                _ => EXPRESSIONS[any(EXPRESSIONS.len())],
            };
            filter::compile(text).ok().flatten()
        };
        let filter = if round % 3 == 0 { program() } else { None };
        let rules = (0..round % 7)
            .map(|n| Rule {
                include: (n * 5 + round) % 3 != 0,
                program: program(),
            })
            .collect();
        let choice = Choice { filter, rules };
        let chooser = builder.build(&choice, None);
        chooser
            .and_then(|chooser| session.choose(chooser))
            .unwrap_or_else(|e| panic!("{choice:?}: {e}"))
            .retire();
        let (mut chosen, mut left_out) = (0u64, 0u64);
        let before = session.counters().expect("counters");
        for packet in &packets {
            // The kernel does not run programs on packets that end within what it parses itself.
            if session.try_packet(Hook::Ingress, packet, &[], 1).is_err() {
                continue;
            }
            let len = u32::try_from(packet.len()).unwrap();
            let is_chosen = choice.chooses(packet, len);
            chosen += u64::from(is_chosen);
            left_out += u64::from(!is_chosen);
        }
        let after = session.counters().expect("counters");
        let found = (after.matched - before.matched, after.seen - before.seen);
        assert_eq!(found, (chosen, chosen + left_out), "{choice:?}");
        most_chosen = most_chosen.max(chosen);
        most_left_out = most_left_out.max(left_out);
    }
    assert!(
        most_chosen > 300 && most_left_out > 300,
        "rules are too poor: {most_chosen} {most_left_out}"
    );
}
