//! MAC addresses and ARP.

use plumb_wire::arp::{Operation, Packet as Arp};

use super::*;

fn arp(operation: Operation, from: (Ipv4Addr, [u8; 6]), to: (Ipv4Addr, [u8; 6])) -> Frame {
    let packet = Arp {
        operation,
        sender_mac: from.1,
        sender: from.0,
        target_mac: to.1,
        target: to.0,
    };
    let mut bytes = vec![0; 42];
    bytes[..6].copy_from_slice(&to.1);
    bytes[6..12].copy_from_slice(&from.1);
    bytes[12..14].copy_from_slice(&[8, 6]);
    packet.emit(&mut bytes[14..]);
    Frame::new(Instant::ZERO, &bytes)
}

fn parse(frame: &Frame) -> Arp {
    Arp::parse(&frame.bytes[14..]).unwrap()
}

const OTHER: [u8; 6] = [2, 9, 9, 9, 9, 9];
const ALL: [u8; 6] = ethernet::BROADCAST;

#[test]
fn a_question_from_inside_goes_out_under_the_outside_address_and_the_answer_comes_back() {
    let mut world = World::new(|_| {});
    for host in [A, B] {
        let question = arp(Operation::Request, (host, mac_of(host)), (R, ALL));
        let left = world.outwards(question).unwrap();
        assert_eq!((parse(&left).sender, parse(&left).target), (X, R));
    }
    let answer = arp(Operation::Reply, (R, OTHER), (X, mac_of(A)));
    let came = world.inwards(answer).unwrap();
    assert_eq!((parse(&came).sender, parse(&came).target), (R, A));
    // Nobody asked for this one.
    let other = arp(Operation::Reply, (S, OTHER), (X, mac_of(A)));
    assert!(world.inwards(other).is_none());
}

#[test]
fn whoever_asks_for_an_outside_address_gets_the_mac_address_of_the_nat() {
    let mut world = World::new(|_| {});
    for (from, who) in [(Port::Right, R), (Port::Left, A)] {
        let question = arp(Operation::Request, (who, mac_of(who)), (X, ALL));
        let mut sent = world.put(from, question);
        let (to, answer) = sent.pop().unwrap();
        assert_eq!(
            (to, parse(&answer).sender, parse(&answer).target),
            (from, X, who)
        );
        assert_eq!(parse(&answer).sender_mac, *b"\x02plumb");
        assert_eq!(answer.bytes[..6], mac_of(who));
    }
    // Inside addresses are not shown to the outside.
    let question = arp(Operation::Request, (R, OTHER), (A, ALL));
    assert!(world.put(Port::Right, question).is_empty());
}

#[test]
fn probes_and_announcements_stay_inside() {
    let mut world = World::new(|_| {});
    let probe = arp(
        Operation::Request,
        (Ipv4Addr::UNSPECIFIED, mac_of(A)),
        (A, ALL),
    );
    assert!(world.put(Port::Left, probe).is_empty());
    let announcement = arp(Operation::Request, (A, mac_of(A)), (A, ALL));
    assert!(world.put(Port::Left, announcement).is_empty());
}

#[test]
fn what_comes_in_goes_to_the_mac_address_of_the_host() {
    let mut world = World::new(|_| {});
    let a = world.map_udp(end(A, 1), end(R, 1));
    let b = world.map_udp(end(B, 1), end(R, 1));
    for (outside, host) in [(a, A), (b, B)] {
        let came = world.inwards(udp(end(R, 1), outside, b"")).unwrap();
        assert_eq!(came.bytes[..6], mac_of(host));
        assert_eq!(came.bytes[6..12], OTHER);
    }
}
