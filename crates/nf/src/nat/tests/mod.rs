//! The requirements of the RFCs, one test each, and the laws of translation.

mod laws;
mod neighbours;
mod rfc4787;
mod rfc5382;
mod rfc5508;
mod rfc6888;
mod rfc7857;

use alloc::vec;
use core::time::Duration;

use plumb_wire::frame::Offload;
use plumb_wire::packet::Packet;
use plumb_wire::{Checksum, checksum, ipv4, protocol, tcp, udp};

use super::*;
use crate::offload::{get, put};

pub(super) const X: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub(super) const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub(super) const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
pub(super) const R: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
pub(super) const S: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);

pub(super) fn end(address: Ipv4Addr, port: u16) -> Endpoint {
    Endpoint::new(address, port)
}

/// An inside host's MAC address; those outside all have another.
pub(super) fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    if a == 10 {
        [2, 0, a, b, c, d]
    } else {
        [2, 9, 9, 9, 9, 9]
    }
}

/// An Ethernet frame with an IPv4 packet.
pub(super) fn ip(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, payload: &[u8]) -> Frame {
    let mut bytes = vec![0; 34];
    bytes[..6].copy_from_slice(&[2, 8, 8, 8, 8, 8]);
    bytes[6..12].copy_from_slice(&mac_of(src));
    bytes[12] = 8;
    let header = ipv4::Header {
        tos: 0,
        total_len: u16::try_from(20 + payload.len()).unwrap(),
        ident: 77,
        flags_fragment: 0,
        ttl: 64,
        protocol,
        src,
        dst,
    };
    header.emit(&mut bytes[14..]);
    bytes.extend(payload);
    Frame::new(Instant::ZERO, &bytes)
}

fn with_sum(src: Ipv4Addr, dst: Ipv4Addr, number: u8, mut payload: Vec<u8>, at: usize) -> Frame {
    let sum = Checksum::new()
        .pseudo_header(src.into(), dst.into(), number, payload.len())
        .bytes(&payload)
        .finish();
    put(&mut payload, at, if sum == 0 { 0xffff } else { sum });
    ip(src, dst, number, &payload)
}

pub(super) fn udp(src: Endpoint, dst: Endpoint, data: &[u8]) -> Frame {
    let mut payload = vec![0; 8];
    put(&mut payload, 0, src.port);
    put(&mut payload, 2, dst.port);
    put(&mut payload, 4, u16::try_from(8 + data.len()).unwrap());
    payload.extend(data);
    with_sum(src.address, dst.address, protocol::UDP, payload, 6)
}

pub(super) fn tcp(src: Endpoint, dst: Endpoint, flags: u8) -> Frame {
    let header = tcp::Header {
        src_port: src.port,
        dst_port: dst.port,
        seq: 1,
        ack: 2,
        flags,
        window: 3,
        checksum: 0,
    };
    let mut payload = vec![0; 20];
    header.emit(&mut payload);
    payload.extend(b"data");
    with_sum(src.address, dst.address, protocol::TCP, payload, 16)
}

pub(super) fn echo(src: Ipv4Addr, dst: Ipv4Addr, kind: u8, ident: u16) -> Frame {
    let mut payload = vec![kind, 0, 0, 0, 0, 0, 0, 1, b'h', b'i'];
    put(&mut payload, 4, ident);
    let sum = checksum(&payload);
    put(&mut payload, 2, sum);
    ip(src, dst, protocol::ICMP, &payload)
}

/// An ICMP error from `src` that quotes `len` bytes of the packet in `about`.
pub(super) fn error(
    src: Ipv4Addr,
    dst: Ipv4Addr,
    what: [u8; 2],
    about: &Frame,
    len: usize,
) -> Frame {
    let packet = &about.bytes[14..];
    let mut payload = vec![what[0], what[1], 0, 0, 0, 0, 5, 0];
    payload.extend(&packet[..len.min(packet.len())]);
    let sum = checksum(&payload);
    put(&mut payload, 2, sum);
    ip(src, dst, protocol::ICMP, &payload)
}

/// The packet in a frame, as addresses, ports (or twice the identifier) and flags.
pub(super) fn flow(frame: &Frame) -> (Endpoint, Endpoint) {
    quote_flow(&frame.bytes[14..])
}

/// The same of the start of a packet.
pub(super) fn quote_flow(packet: &[u8]) -> (Endpoint, Endpoint) {
    let (header, rest) = ipv4::Header::parse(packet).unwrap();
    let (src, dst) = if header.is_later_fragment() {
        (0, 0)
    } else if header.protocol == protocol::ICMP {
        (get(rest, 4), get(rest, 4))
    } else {
        (get(rest, 0), get(rest, 2))
    };
    (end(header.src, src), end(header.dst, dst))
}

/// What an ICMP error in a frame quotes.
pub(super) fn quote(frame: &Frame) -> &[u8] {
    &frame.bytes[14 + 20 + 8..]
}

/// Every checksum of a packet that is no fragment is right.
pub(super) fn assert_checksums(frame: &Frame) {
    let bytes = &frame.bytes[14..];
    assert_eq!(checksum(&bytes[..usize::from(bytes[0] & 15) * 4]), 0);
    let packet = Packet::parse(bytes).unwrap();
    if get(bytes, 6) & 0x3fff != 0 || !frame.offload.is_complete() {
        return;
    }
    let pseudo = Checksum::new()
        .pseudo_header(
            packet.src,
            packet.dst,
            packet.protocol,
            packet.transport.len(),
        )
        .bytes(packet.transport);
    match packet.protocol {
        protocol::ICMP => assert_eq!(checksum(packet.transport), 0),
        protocol::UDP if udp::Header::parse(packet.transport).unwrap().0.checksum == 0 => {}
        protocol::TCP | protocol::UDP => assert_eq!(pseudo.finish(), 0),
        _ => {}
    }
}

/// A NAT with a clock that tests set.
#[derive(Debug)]
pub(super) struct World {
    pub(super) nat: Nat,
    pub(super) now: Instant,
    out: Output,
}

impl World {
    /// With the outside address [`X`], changed as `change` says.
    pub(super) fn new(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            outside: vec![X],
            ..Config::default()
        };
        change(&mut config);
        Self {
            nat: Nat::new(config).unwrap(),
            now: Instant::from_millis(1),
            out: Output::default(),
        }
    }

    /// Hands in a frame and returns what leaves at once.
    pub(super) fn put(&mut self, from: Port, frame: Frame) -> Vec<(Port, Frame)> {
        let mut batch = vec![frame];
        self.nat
            .handle_frames(from, &mut batch, self.now, &mut self.out);
        self.take()
    }

    /// What an inside packet becomes, if it leaves on the right.
    pub(super) fn outwards(&mut self, frame: Frame) -> Option<Frame> {
        Self::one(self.put(Port::Left, frame), Port::Right)
    }

    /// What an outside packet becomes, if it leaves on the left.
    pub(super) fn inwards(&mut self, frame: Frame) -> Option<Frame> {
        Self::one(self.put(Port::Right, frame), Port::Left)
    }

    /// What an inside packet becomes, if it comes back in.
    pub(super) fn hairpin(&mut self, frame: Frame) -> Option<Frame> {
        Self::one(self.put(Port::Left, frame), Port::Left)
    }

    /// The outside endpoint with which a UDP packet leaves.
    pub(super) fn map_udp(&mut self, inside: Endpoint, remote: Endpoint) -> Endpoint {
        flow(&self.outwards(udp(inside, remote, b"x")).unwrap()).0
    }

    /// The outside endpoint with which a TCP packet leaves.
    pub(super) fn map_tcp(&mut self, inside: Endpoint, remote: Endpoint, flags: u8) -> Endpoint {
        flow(&self.outwards(tcp(inside, remote, flags)).unwrap()).0
    }

    /// Lets time pass, with every timeout at its time.
    pub(super) fn wait(&mut self, secs: u64) -> Vec<(Port, Frame)> {
        let until = self.now + Duration::from_secs(secs);
        while let Some(due) = self.nat.poll_timeout().filter(|due| *due <= until) {
            self.now = due.max(self.now);
            self.nat.handle_timeout(self.now, &mut self.out);
        }
        self.now = until;
        self.take()
    }

    pub(super) fn counter(&self, name: &str) -> u64 {
        let counters = self.nat.counters();
        counters.iter().find(|c| c.name == name).unwrap().value
    }

    fn take(&mut self) -> Vec<(Port, Frame)> {
        let sent = core::mem::take(self.out.sent());
        for (_, frame) in &sent {
            if frame.bytes[12..14] == [8, 0] {
                assert_checksums(frame);
            }
        }
        sent
    }

    fn one(mut sent: Vec<(Port, Frame)>, to: Port) -> Option<Frame> {
        assert!(sent.len() <= 1, "{sent:?}");
        let (port, frame) = sent.pop()?;
        (port == to).then_some(frame)
    }
}

#[test]
fn a_configuration_that_contradicts_itself_is_refused() {
    let refused = |change: &dyn Fn(&mut Config)| {
        let mut config = Config {
            outside: vec![X],
            ..Config::default()
        };
        change(&mut config);
        Nat::new(config).unwrap_err()
    };
    let forward = |port, inside_port| Forward {
        protocol: Protocol::Tcp,
        outside: X,
        ports: port..=port + 1,
        inside: A,
        inside_port,
    };
    assert_eq!(refused(&|c| c.outside.clear()), Refused::NoOutside);
    assert_eq!(refused(&|c| c.statics.push((X, A))), Refused::Twice(X));
    let target = Refused::StaticTarget(A);
    assert_eq!(refused(&|c| c.statics.extend([(R, A), (S, A)])), target);
    let twice = Refused::ForwardedTwice(Protocol::Tcp, end(X, 81));
    assert_eq!(
        refused(&|c| c.forwards = vec![forward(80, 80), forward(81, 90)]),
        twice
    );
    let shared = Refused::SharedTarget(Protocol::Tcp, end(A, 81));
    assert_eq!(
        refused(&|c| c.forwards = vec![forward(80, 80), forward(90, 81)]),
        shared
    );
    assert_eq!(
        refused(&|c| c.forwards = vec![forward(80, 65_535)]),
        Refused::PortsEnd
    );
    let elsewhere = Forward {
        outside: R,
        ..forward(80, 80)
    };
    assert_eq!(
        refused(&|c| c.forwards = vec![elsewhere.clone()]),
        Refused::NotInPool(R)
    );
}

#[test]
fn a_forwarded_port_leads_inside_and_back_under_the_same_endpoint() {
    let mut world = World::new(|c| {
        c.forwards.push(Forward {
            protocol: Protocol::Tcp,
            outside: X,
            ports: 8000..=8010,
            inside: A,
            inside_port: 80,
        });
    });
    let came = world
        .inwards(tcp(end(R, 999), end(X, 8005), tcp::SYN))
        .unwrap();
    assert_eq!(flow(&came), (end(R, 999), end(A, 85)));
    assert_eq!(
        world.map_tcp(end(A, 85), end(R, 999), tcp::SYN | tcp::ACK),
        end(X, 8005)
    );
    world.wait(100_000);
    assert!(
        world
            .inwards(tcp(end(S, 1), end(X, 8010), tcp::SYN))
            .is_some()
    );
    assert!(world.inwards(udp(end(S, 1), end(X, 8010), b"")).is_none());
    assert!(
        world
            .inwards(tcp(end(S, 1), end(X, 8011), tcp::SYN))
            .is_none()
    );
}

#[test]
fn a_static_address_stands_for_one_host_whatever_the_protocol() {
    let own = Ipv4Addr::new(198, 51, 100, 200);
    let mut world = World::new(|c| c.statics.push((own, A)));
    for frame in [
        udp(end(R, 5), end(own, 7), b"x"),
        tcp(end(R, 5), end(own, 7), tcp::SYN),
        echo(R, own, 8, 9),
        ip(R, own, 47, b"GRE!"),
        ip(R, own, 132, b"SCTP has no pseudo-header"),
    ] {
        let before = flow(&frame);
        let (src, dst) = flow(&world.inwards(frame).unwrap());
        assert_eq!((src, dst), (before.0, end(A, before.1.port)));
    }
    let left = world.outwards(ip(A, R, 47, b"GRE!")).unwrap();
    assert_eq!(flow(&left).0.address, own);
    assert_eq!(world.map_udp(end(A, 1234), end(R, 1)), end(own, 1234));
    // Others share the pool.
    assert_eq!(world.map_udp(end(B, 1234), end(R, 1)).address, X);
    assert!(world.outwards(ip(B, R, 47, b"GRE!")).is_none());
    // An error about what the host sent finds it.
    let about = udp(end(own, 1234), end(R, 1), b"x");
    let came = world.inwards(error(S, own, [3, 3], &about, 28)).unwrap();
    assert_eq!(flow(&came).1.address, A);
    assert_eq!(quote_flow(quote(&came)).0, end(A, 1234));
}

#[test]
fn what_no_router_passes_on_is_dropped_and_counted() {
    let mut world = World::new(|c| c.inside.push((Ipv4Addr::new(10, 0, 0, 0), 8)));
    let to = |dst: [u8; 4]| udp(end(A, 1), end(dst.into(), 2), b"");
    for dst in [
        [224, 0, 0, 1],
        [255, 255, 255, 255],
        [127, 0, 0, 1],
        [169, 254, 1, 1],
        [0, 0, 0, 0],
    ] {
        assert!(world.put(Port::Left, to(dst)).is_empty(), "{dst:?}");
    }
    for src in [[192, 168, 0, 1], [0, 0, 0, 0], [224, 1, 1, 1], X.octets()] {
        let frame = udp(end(src.into(), 1), end(R, 2), b"");
        assert!(world.put(Port::Left, frame).is_empty(), "{src:?}");
    }
    assert_eq!(world.counter("dropped_foreign_source_frames"), 4);
    assert!(
        world
            .put(Port::Right, udp(end(R, 1), end(A, 2), b""))
            .is_empty()
    );
    assert!(
        world
            .put(Port::Right, udp(end(X, 1), end(X, 2), b""))
            .is_empty()
    );
    let mut damaged = udp(end(A, 1), end(R, 2), b"");
    damaged.bytes[25] ^= 1;
    assert!(world.put(Port::Left, damaged).is_empty());
    assert_eq!(world.counter("dropped_malformed_frames"), 1);
    assert_eq!(world.counter("mappings"), 0);
}

#[test]
fn as_a_hop_it_counts_ttl_down_and_says_when_it_is_over() {
    let mut world = World::new(|c| c.decrement_ttl = true);
    let left = world.outwards(udp(end(A, 1), end(R, 2), b"")).unwrap();
    assert_eq!(left.bytes[22], 63);
    let mut last = udp(end(A, 1), end(R, 2), b"");
    last.bytes[22] = 1;
    last.bytes[24..26].fill(0);
    let sum = checksum(&last.bytes[14..34]);
    put(&mut last.bytes, 24, sum);
    let answer = world.hairpin(last.clone()).unwrap();
    assert_eq!(answer.bytes[34..36], [11, 0]);
    assert_eq!(flow(&answer).1.address, A);
    assert_eq!(quote(&answer), &last.bytes[14..]);
    assert_eq!(answer.bytes[..6], mac_of(A));
}

#[test]
fn other_protocols_than_ip_pass_and_vlan_tags_stay() {
    let mut world = World::new(|_| {});
    let mut v6 = Frame::new(Instant::ZERO, &[9; 60]);
    v6.bytes[12..14].copy_from_slice(&[0x86, 0xdd]);
    assert_eq!(world.put(Port::Left, v6.clone()), [(Port::Right, v6)]);
    let mut tagged = udp(end(A, 1), end(R, 2), b"");
    tagged.bytes.splice(12..12, [0x81, 0, 0, 5]);
    let mut batch = vec![tagged];
    let mut out = Output::default();
    world
        .nat
        .handle_frames(Port::Left, &mut batch, world.now, &mut out);
    let (_, left) = out.sent().pop().unwrap();
    assert_eq!(left.bytes[12..18], [0x81, 0, 0, 5, 8, 0]);
    assert_eq!(left.bytes[30..34], X.octets());
}

#[test]
fn a_partial_checksum_follows_the_addresses_and_not_the_ports() {
    let mut world = World::new(|_| {});
    let mut frame = tcp(end(A, 1), end(R, 2), tcp::SYN);
    let pseudo = |src: Ipv4Addr| {
        let sum = Checksum::new().pseudo_header(src.into(), R.into(), protocol::TCP, 24);
        sum.fold()
    };
    put(&mut frame.bytes, 50, pseudo(A));
    frame.offload = Offload {
        checksum: Some(plumb_wire::frame::PartialChecksum {
            start: 34,
            offset: 16,
        }),
        ..Offload::NONE
    };
    let left = world.outwards(frame).unwrap();
    assert_eq!(get(&left.bytes, 50), pseudo(X));
    let mut done = left;
    assert!(crate::complete_checksum(&mut done));
    assert_checksums(&done);
}
