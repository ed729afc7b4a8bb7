use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::offload::put;
use crate::testing::{Segment, cut, icmp, mend, packet, tcp, udp};
use plumb_wire::Instant;

fn end(text: &str) -> core::net::SocketAddr {
    text.parse().unwrap()
}

const PAIRS: [(&str, &str); 2] = [
    ("10.0.0.2:5000", "192.0.2.53:53"),
    ("[2001:db8::2]:5000", "[2001:db8:1::35]:53"),
];

#[test]
fn a_udp_packet_is_read_whole() {
    for (src, dst) in PAIRS {
        let (src, dst) = (end(src), end(dst));
        let mut frame = udp(src, dst, b"abcde");
        // Padding of a short frame.
        frame.bytes.extend([0; 20]);
        let read = Dissected::new(&frame);
        assert_eq!(read.fault, None);
        assert_eq!(read.src_mac, [2, 0, 0, 0, 0, 10]);
        assert_eq!(read.dst_mac, [2, 0, 0, 0, 0, 11]);
        let ip = read.ip.unwrap();
        assert_eq!((ip.src, ip.dst, ip.ttl), (src.ip(), dst.ip(), 64));
        assert_eq!(ip.payload_len, 13);
        assert_eq!(ip.end, frame.bytes.len() - 20);
        assert_eq!(read.ports(), Some((5000, 53)));
        assert_eq!(read.transport_offset(), Some(ip.payload));
        let Transport::Udp(datagram) = read.transport else {
            panic!("{read:?}");
        };
        assert_eq!((datagram.len, datagram.payload_len), (13, 5));
        assert!(read.checksum_is_right(&frame));
        frame.bytes[ip.payload + 9] ^= 1;
        assert!(!read.checksum_is_right(&frame));
    }
}

#[test]
fn tcp_options_are_read_and_silly_ones_end_them() {
    let read = |options: &[u8]| {
        let segment = Segment {
            seq: 7,
            ack: 9,
            flags: 0x12,
            window: 33,
            options: options.to_vec(),
            payload: 3,
        };
        let frame = tcp(end("10.0.0.1:1"), end("10.0.0.2:2"), &segment);
        let Transport::Tcp(tcp) = Dissected::new(&frame).transport else {
            panic!("no TCP");
        };
        tcp
    };
    let full = read(&[2, 4, 5, 0xb4, 4, 2, 1, 1, 3, 3, 9, 0]);
    assert_eq!(
        (full.seq, full.ack, full.flags, full.window),
        (7, 9, 0x12, 33)
    );
    assert_eq!((full.header_len, full.payload_len), (32, 3));
    assert_eq!(
        (full.mss, full.scale, full.sack_permitted),
        (Some(1460), Some(9), true)
    );
    assert_eq!(read(&[3, 3, 15, 0]).scale, Some(14), "RFC 7323 §2.3");
    let sack = read(&[
        1, 1, 5, 18, 0, 0, 0, 20, 0, 0, 0, 30, 0, 0, 0, 10, 0, 0, 0, 12,
    ]);
    assert_eq!(sack.sack, 30);
    assert_eq!(
        read(&[1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 5]).sack,
        9,
        "older than the ack"
    );
    for silly in [
        [3, 1, 9, 0],
        [3, 0, 9, 0],
        [3, 9, 9, 0],
        [0, 3, 3, 9],
        [1, 1, 1, 3],
    ] {
        assert_eq!(read(&silly).scale, None, "{silly:?}");
    }
}

#[test]
fn vlan_tags_are_read_up_to_two() {
    let plain = udp(end("10.0.0.1:1"), end("10.0.0.2:2"), b"x");
    let tagged = |tags: &[u8]| {
        let mut bytes = plain.bytes[..12].to_vec();
        bytes.extend(tags);
        bytes.extend(&plain.bytes[12..]);
        Dissected::new(&Frame::new(Instant::ZERO, &bytes))
    };
    let one = tagged(&[0x81, 0, 0x60, 5]);
    assert_eq!(
        (one.vlan, one.network, one.ports()),
        ([Some(0x6005), None], 18, Some((1, 2)))
    );
    let two = tagged(&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 5]);
    assert_eq!(
        (two.vlan, two.network, two.ports()),
        ([Some(7), Some(5)], 22, Some((1, 2)))
    );
    let three = tagged(&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 5, 0x81, 0, 0, 6]);
    assert_eq!((three.ethertype, three.ip), (VLAN, None));
}

/// An IPv6 packet with these headers before what `frame` carries.
fn extended(frame: &Frame, first: u8, headers: &[u8]) -> Frame {
    let mut bytes = frame.bytes.clone();
    bytes[20] = first;
    let len = u16::try_from(bytes.len() - 54 + headers.len()).unwrap();
    put(&mut bytes, 18, len);
    bytes.splice(54..54, headers.iter().copied());
    Frame::new(Instant::ZERO, &bytes)
}

#[test]
fn extension_headers_are_skipped_up_to_sixteen() {
    let plain = udp(end("[2001:db8::1]:1"), end("[2001:db8::2]:2"), b"x");
    let mut headers = vec![43, 0, 1, 4, 0, 0, 0, 0];
    headers.extend([51, 0, 1, 4, 0, 0, 0, 0]);
    headers.extend([60, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2]);
    headers.extend([17, 0, 1, 4, 0, 0, 0, 0]);
    let read = Dissected::new(&extended(&plain, 0, &headers));
    assert_eq!((read.fault, read.ports()), (None, Some((1, 2))));
    let ip = read.ip.unwrap();
    assert_eq!((ip.protocol, ip.payload_len, ip.len), (17, 9, 40 + 36 + 9));
    for (number, has) in [(0, true), (43, true), (51, true), (60, true), (44, false)] {
        assert_eq!(ip.extensions.contains(number), has, "{number}");
    }
    for (count, fault) in [(16, None), (17, Some(Fault::Extension))] {
        let mut headers: Vec<u8> = Vec::new();
        for _ in 1..count {
            headers.extend([60, 0, 1, 4, 0, 0, 0, 0]);
        }
        headers.extend([17, 0, 1, 4, 0, 0, 0, 0]);
        assert_eq!(
            Dissected::new(&extended(&plain, 60, &headers)).fault,
            fault,
            "{count}"
        );
    }
    let cut_off = extended(&plain, 0, &[17, 9, 1, 4, 0, 0, 0, 0]);
    assert_eq!(Dissected::new(&cut_off).fault, Some(Fault::Extension));
}

#[test]
fn fragments_say_where_they_belong() {
    for (src, dst) in PAIRS {
        let pieces = cut(&udp(end(src), end(dst), &[1; 92]), 77, &[40]);
        let [first, later] = [0, 1].map(|i| Dissected::new(&pieces[i]));
        assert_eq!((first.fault, later.fault), (None, None));
        assert_eq!(first.ports(), Some((5000, 53)));
        assert_eq!(
            (later.transport, later.transport_offset()),
            (Transport::None, None)
        );
        for (read, offset, more, len) in [(first, 0, true, 40), (later, 40, false, 60)] {
            let ip = read.ip.unwrap();
            let fragment = ip.fragment.unwrap();
            assert_eq!(
                (fragment.ident, fragment.offset, fragment.more),
                (77, offset, more)
            );
            assert_eq!((ip.payload_len, ip.protocol), (len, 17));
            assert!(ip.is_piece());
        }
    }
    // RFC 6946: whole for all that it has a fragment header.
    let atomic = extended(
        &udp(end("[::2]:1"), end("[::3]:2"), b"x"),
        44,
        &[17, 0, 0, 0, 0, 0, 0, 9],
    );
    let read = Dissected::new(&atomic);
    assert_eq!((read.fault, read.ports()), (None, Some((1, 2))));
    assert!(!read.ip.unwrap().is_piece());
    assert!(read.checksum_is_right(&atomic));
}

#[test]
fn each_fault_is_named() {
    let v4 = || udp(end("10.0.0.1:1"), end("10.0.0.2:2"), &[9; 30]);
    let six = || udp(end("[::1]:1"), end("[::2]:2"), &[9; 30]);
    let tcp = || tcp(end("10.0.0.1:1"), end("10.0.0.2:2"), &Segment::default());
    let changed = |mut frame: Frame, at: usize, value: u8| {
        frame.bytes[at] = value;
        if frame.bytes[12] == 8 && at != 24 {
            mend(&mut frame);
        }
        frame
    };
    let short = |mut frame: Frame, len: usize| {
        frame.bytes.truncate(len);
        frame
    };
    // A packet that ends where `len` says.
    let ends = |frame: Frame, len: u8| changed(short(frame, 14 + usize::from(len)), 17, len);
    let cases = [
        (short(v4(), 13), Fault::EthernetCutOff),
        (short(v4(), 20), Fault::IpHeader),
        (changed(v4(), 14, 0x65), Fault::IpHeader),
        (changed(six(), 14, 0x45), Fault::IpHeader),
        (changed(v4(), 24, 0), Fault::IpChecksum),
        (changed(v4(), 17, 19), Fault::IpLength),
        (changed(v4(), 17, 200), Fault::IpLength),
        (changed(six(), 19, 200), Fault::IpLength),
        (ends(v4(), 27), Fault::TransportCutOff),
        (ends(tcp(), 39), Fault::TransportCutOff),
        (changed(tcp(), 46, 0x40), Fault::TcpOffset),
        (changed(tcp(), 46, 0x60), Fault::TcpOffset),
        (changed(v4(), 39, 7), Fault::UdpLength),
        (changed(v4(), 39, 39), Fault::UdpLength),
        // More fragments behind 38 bytes; a datagram of more than 65535.
        (changed(v4(), 20, 0x20), Fault::FragmentLength),
        (
            changed(changed(v4(), 20, 0x1f), 21, 0xff),
            Fault::FragmentLength,
        ),
    ];
    for (i, (frame, fault)) in cases.into_iter().enumerate() {
        assert_eq!(Dissected::new(&frame).fault, Some(fault), "case {i}");
    }
}

#[test]
fn a_packet_that_was_captured_in_part_has_its_true_lengths() {
    let mut frame = udp(end("10.0.0.1:1"), end("10.0.0.2:2"), &[9; 1000]);
    frame.original_len = 1042;
    frame.bytes.truncate(60);
    let read = Dissected::new(&frame);
    assert_eq!(read.fault, None);
    assert!(matches!(read.transport, Transport::Udp(udp) if udp.payload_len == 1000));
    assert!(read.checksum_is_right(&frame));
}

#[test]
fn icmp_of_the_other_family_is_just_a_protocol() {
    let (a, b) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
    let echo = icmp(a, b, (8, 0), 7 << 16 | 3, b"data");
    assert!(matches!(
        Dissected::new(&echo).transport,
        Transport::Icmp(Icmp {
            family: Family::V4,
            kind: 8,
            code: 0,
            ident: 7,
            seq: 3,
            payload_len: 4
        })
    ));
    let strange = packet(a, b, protocol::ICMPV6, &[128, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(Dissected::new(&strange).transport, Transport::Other);
}

proptest! {
    /// Whatever the bytes, offsets lie within the frame and in order.
    #[test]
    fn no_frame_panics_and_offsets_lie_within_it(
        bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..4u8, original_len in 0..2u32, fix: bool,
    ) {
        let mut frame = Frame::new(Instant::ZERO, &bytes);
        frame.original_len = original_len * 1500;
        if frame.bytes.len() > 34 {
            let kinds: [(&[u8], u8); 4] = [(&[8, 0], 0x45), (&[0x86, 0xdd], 0x60), (&[8, 0], 0x4f), (&[0x81, 0], 0)];
            let (ethertype, first) = kinds[usize::from(kind)];
            frame.bytes[12..14].copy_from_slice(ethertype);
            frame.bytes[14] = first;
            let header = 14 + usize::from(first & 15) * 4;
            if fix && ethertype == [8, 0] && frame.bytes.len() >= header {
                let len = u16::try_from(frame.bytes.len() - 14).unwrap();
                put(&mut frame.bytes, 16, len);
                mend(&mut frame);
            }
        }
        let read = Dissected::new(&frame);
        let _ = read.checksum_is_right(&frame);
        prop_assert!(read.network <= frame.bytes.len());
        if let Some(ip) = read.ip {
            prop_assert!(read.network <= ip.payload && ip.payload <= ip.end && ip.end <= frame.bytes.len());
            if let Some(fragment) = ip.fragment {
                prop_assert!(read.network < fragment.start && fragment.start <= ip.payload);
            }
        }
        let _ = quoted(&frame.bytes, 14, Family::V6);
    }
}
