//! What a sender is told.

use alloc::format;
use core::time::Duration;

use plumb_wire::frame::Port;

use crate::Frame;
use crate::dissect::{Dissected, Transport};
use crate::testing;

use super::{Bench, HOST, SERVER, inet, syn, tcp, udp};

/// The answer that comes back to where a frame came from, read.
fn answer(bench: &mut Bench, frame: &Frame) -> Option<Dissected> {
    let out = bench.send(Port::Left, frame);
    let (to, sent) = out.first()?;
    assert_eq!((out.len(), *to), (1, Port::Left));
    let read = Dissected::new(sent);
    let asked = Dissected::new(frame);
    assert_eq!(
        (read.fault, read.dst_mac, read.src_mac),
        (None, asked.src_mac, asked.dst_mac)
    );
    assert!(read.checksum_is_right(sent));
    let (ip, of) = (read.ip.unwrap(), asked.ip.unwrap());
    assert_eq!((ip.src, ip.dst), (of.dst, of.src));
    Some(read)
}

#[test]
fn a_reset_acknowledges_what_came_and_answers_no_reset() {
    let mut bench = Bench::new(&inet("accept", "meta l4proto tcp reject with tcp reset"));
    let Transport::Tcp(reset) = answer(&mut bench, &syn(HOST, SERVER)).unwrap().transport else {
        panic!("no TCP");
    };
    assert_eq!((reset.flags, reset.seq, reset.ack), (0x14, 0, 101));
    assert_eq!((reset.src, reset.dst), (80, 5000));
    let Transport::Tcp(reset) = answer(&mut bench, &tcp(HOST, SERVER, 16, 100, 700))
        .unwrap()
        .transport
    else {
        panic!("no TCP");
    };
    assert_eq!((reset.flags, reset.seq, reset.ack), (4, 700, 0));
    assert!(answer(&mut bench, &tcp(HOST, SERVER, 4, 100, 0)).is_none());
}

#[test]
fn each_refusal_has_the_code_of_its_name_in_either_family() {
    let v4 = udp(HOST, SERVER);
    let v6 = udp("[fd00::2]:5", "[fd00::3]:6");
    for (with, four, six) in [
        ("", (3, 3), (1, 4)),
        (" with icmpx type no-route", (3, 0), (1, 0)),
        (" with icmpx type admin-prohibited", (3, 13), (1, 1)),
        (" with icmpx host-unreachable", (3, 1), (1, 3)),
    ] {
        let mut bench = Bench::new(&inet("accept", &format!("reject{with}")));
        for (frame, expected) in [(&v4, four), (&v6, six)] {
            let Transport::Icmp(icmp) = answer(&mut bench, frame).unwrap().transport else {
                panic!("no ICMP");
            };
            assert_eq!((icmp.kind, icmp.code), expected, "{with}");
        }
    }
    // What does not fit is no match, and passes by the policy.
    let mut bench = Bench::new(&inet("accept", "reject with icmp type net-prohibited"));
    assert!(bench.passes(Port::Left, &v6));
    assert!(answer(&mut bench, &v4).is_some());
}

#[test]
fn errors_groups_and_damaged_packets_are_not_answered() {
    let mut bench = Bench::new(&inet("accept", "reject"));
    let error = testing::error("10.0.0.2".parse().unwrap(), &udp(SERVER, HOST), (3, 3), 8);
    assert!(bench.send(Port::Left, &error).is_empty());
    assert!(bench.send(Port::Left, &udp(HOST, "224.0.0.9:5")).is_empty());
    let mut broadcast = udp(HOST, SERVER);
    broadcast.bytes[..6].fill(0xff);
    assert!(bench.send(Port::Left, &broadcast).is_empty());
    let mut damaged = udp(HOST, SERVER);
    *damaged.bytes.last_mut().unwrap() ^= 1;
    assert!(bench.send(Port::Left, &damaged).is_empty());
}

#[test]
fn refusals_by_icmp_are_paced_as_by_linux() {
    let mut bench = Bench::new(&inet("accept", "reject"));
    let frame = udp(HOST, SERVER);
    let answers = |bench: &mut Bench| {
        (0..20)
            .filter(|_| !bench.send(Port::Left, &frame).is_empty())
            .count()
    };
    assert_eq!(answers(&mut bench), 6);
    bench.pass(Duration::from_secs(2));
    assert_eq!(answers(&mut bench), 2);
    // Many targets share the rate of all.
    let told: usize = (0..4000_u32)
        .filter(|n| {
            let [.., a, b] = n.to_be_bytes();
            let frame = udp(&format!("10.1.{a}.{b}:9"), SERVER);
            let mut batch = alloc::vec![frame];
            let (now, firewall) = (bench.now, &mut bench.firewall);
            crate::Function::handle_frames(firewall, Port::Left, &mut batch, now, &mut bench.out);
            let sent = bench.out.sent().len();
            bench.out.clear();
            sent > 0
        })
        .count();
    assert!((40..=60).contains(&told), "{told}");
}
