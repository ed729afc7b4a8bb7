//! An engine that sends what it is told to and keeps what comes back, and packets for it.

#![allow(dead_code, reason = "no test file needs all of it")]

use core::net::IpAddr;
use core::time::Duration;

use plumb_link::{Clock, Mode, Port, ProbePort, ProbePortOptions, Receive, Turn, run};
use plumb_wire::icmp::{self, Kind, Message};
use plumb_wire::packet::Packet;
use plumb_wire::{
    Checksum, Engine, Instant, ProbeId, SendError, Transmit, ipv4, ipv6, protocol, tcp,
};

pub(crate) const RINGS: Receive = Receive::Rings { bytes: 1 << 20 };

/// Sends what it is given and keeps what comes back.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) packets: Vec<Vec<u8>>,
    pub(crate) next: usize,
    pub(crate) sent: Vec<(u64, Instant)>,
    pub(crate) failed: Vec<(u64, SendError)>,
    pub(crate) received: Vec<(Instant, Vec<u8>)>,
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
pub(crate) fn exchange(port: &mut impl Port, packets: Vec<Vec<u8>>, expected: usize) -> Script {
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

pub(crate) fn echo_request(src: IpAddr, dst: IpAddr, ttl: u8, seq: u16) -> Vec<u8> {
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

pub(crate) fn syn(src: IpAddr, dst: IpAddr, src_port: u16) -> Vec<u8> {
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

pub(crate) fn packet(src: IpAddr, dst: IpAddr, ttl: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
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
pub(crate) fn said(packet: &[u8]) -> (IpAddr, Kind, u8) {
    let packet = Packet::parse(packet).unwrap();
    let message = Message::parse(packet.family(), packet.transport).unwrap();
    assert!(message.checksum_is_right(packet.src, packet.dst));
    (packet.src, message.kind, packet.ttl)
}

pub(crate) fn open(mode: Mode, receive: Receive) -> ProbePort {
    let options = ProbePortOptions {
        mode,
        receive,
        ..ProbePortOptions::default()
    };
    ProbePort::open(&options).unwrap()
}
