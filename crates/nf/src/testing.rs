//! Frames for tests.

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use plumb_wire::{Checksum, Instant, checksum, ipv4, ipv6, protocol, tcp};

use crate::Frame;
use crate::offload::put;

/// What of a TCP segment matters to a test.
#[derive(Clone, Debug, Default)]
pub(crate) struct Segment {
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    /// A multiple of four bytes.
    pub(crate) options: Vec<u8>,
    pub(crate) payload: usize,
}

/// A packet with right checksums, in a frame.
pub(crate) fn packet(src: IpAddr, dst: IpAddr, number: u8, transport: &[u8]) -> Frame {
    let mut bytes = Vec::from(*b"\x02\0\0\0\0\x0b\x02\0\0\0\0\x0a");
    bytes.extend(if src.is_ipv4() { [8, 0] } else { [0x86, 0xdd] });
    let len = u16::try_from(transport.len()).unwrap();
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let header = ipv4::Header {
                tos: 0,
                total_len: 20 + len,
                ident: 7,
                flags_fragment: 0,
                ttl: 64,
                protocol: number,
                src,
                dst,
            };
            bytes.resize(34, 0);
            header.emit(&mut bytes[14..]);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let header = ipv6::Header {
                traffic_class: 0,
                flow_label: 0,
                payload_len: len,
                next_header: number,
                hop_limit: 64,
                src,
                dst,
            };
            bytes.resize(54, 0);
            header.emit(&mut bytes[14..]);
        }
        _ => panic!("addresses of one family"),
    }
    let at = bytes.len();
    bytes.extend_from_slice(transport);
    let field = match number {
        protocol::TCP => Some(16),
        protocol::UDP => Some(6),
        protocol::ICMP | protocol::ICMPV6 => Some(2),
        _ => None,
    };
    if let Some(field) = field {
        put(&mut bytes, at + field, 0);
        let mut sum = Checksum::new();
        if number != protocol::ICMP {
            sum = sum.pseudo_header(src, dst, number, transport.len());
        }
        let sum = sum.bytes(&bytes[at..]).finish();
        put(&mut bytes, at + field, sum);
    }
    Frame::new(Instant::ZERO, &bytes)
}

pub(crate) fn tcp(src: SocketAddr, dst: SocketAddr, segment: &Segment) -> Frame {
    let mut bytes = alloc::vec![0; tcp::HEADER_LEN];
    let header = tcp::Header {
        src_port: src.port(),
        dst_port: dst.port(),
        seq: segment.seq,
        ack: segment.ack,
        flags: segment.flags,
        window: segment.window,
        checksum: 0,
    };
    header.emit(&mut bytes);
    bytes.extend(&segment.options);
    bytes[12] = u8::try_from(bytes.len() / 4).unwrap() << 4;
    bytes.resize(bytes.len() + segment.payload, 0x55);
    packet(src.ip(), dst.ip(), protocol::TCP, &bytes)
}

pub(crate) fn udp(src: SocketAddr, dst: SocketAddr, payload: &[u8]) -> Frame {
    let len = u16::try_from(8 + payload.len()).unwrap();
    let mut bytes = Vec::new();
    for word in [src.port(), dst.port(), len, 0] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend(payload);
    packet(src.ip(), dst.ip(), protocol::UDP, &bytes)
}

/// An ICMP message of the addresses' family.
pub(crate) fn icmp(
    src: IpAddr,
    dst: IpAddr,
    (kind, code): (u8, u8),
    rest: u32,
    body: &[u8],
) -> Frame {
    let mut bytes = alloc::vec![kind, code, 0, 0];
    bytes.extend(rest.to_be_bytes());
    bytes.extend(body);
    let number = if src.is_ipv4() {
        protocol::ICMP
    } else {
        protocol::ICMPV6
    };
    packet(src, dst, number, &bytes)
}

/// An error that `from` sends about a packet, quoting its IP header and `len` bytes behind it.
pub(crate) fn error(from: IpAddr, about: &Frame, (kind, code): (u8, u8), len: usize) -> Frame {
    let packet = crate::dissect::Dissected::new(about);
    let ip = packet.ip.unwrap();
    let quote = &about.bytes[packet.network..(ip.payload + len).min(ip.end)];
    icmp(from, ip.src, (kind, code), 0, quote)
}

/// Gives an IPv4 header its checksum anew.
pub(crate) fn mend(frame: &mut Frame) {
    let end = 14 + usize::from(frame.bytes[14] & 15) * 4;
    put(&mut frame.bytes, 24, 0);
    let sum = checksum(&frame.bytes[14..end]);
    put(&mut frame.bytes, 24, sum);
}

/// Cuts a packet without IPv4 options or extension headers at multiples of 8 bytes.
pub(crate) fn cut(frame: &Frame, ident: u32, at: &[usize]) -> Vec<Frame> {
    let is_v4 = frame.bytes[12] == 8;
    let header = if is_v4 { 34 } else { 54 };
    let payload = &frame.bytes[header..];
    let mut edges = Vec::from([0]);
    edges.extend(at);
    edges.push(payload.len());
    edges
        .windows(2)
        .map(|edge| {
            piece(
                frame,
                ident,
                edge[0],
                &payload[edge[0]..edge[1]],
                edge[1] < payload.len(),
            )
        })
        .collect()
}

/// A fragment of the packet in `frame` that says of itself what it is told.
pub(crate) fn piece(frame: &Frame, ident: u32, offset: usize, data: &[u8], more: bool) -> Frame {
    let is_v4 = frame.bytes[12] == 8;
    let field = u16::try_from(offset).unwrap();
    let mut bytes = frame.bytes[..if is_v4 { 34 } else { 54 }].to_vec();
    if is_v4 {
        put(&mut bytes, 16, u16::try_from(20 + data.len()).unwrap());
        put(&mut bytes, 18, u16::try_from(ident).unwrap());
        put(&mut bytes, 20, field >> 3 | u16::from(more) << 13);
    } else {
        put(&mut bytes, 18, u16::try_from(8 + data.len()).unwrap());
        let next = core::mem::replace(&mut bytes[20], 44);
        bytes.extend([next, 0]);
        bytes.extend((field | u16::from(more)).to_be_bytes());
        bytes.extend(ident.to_be_bytes());
    }
    bytes.extend(data);
    let mut fragment = Frame::new(frame.at, &bytes);
    if is_v4 {
        mend(&mut fragment);
    }
    fragment
}
