use super::*;
use crate::Malformed;
use proptest::prelude::*;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

/// A packet that owns what it refers to.
#[derive(Clone, Debug)]
struct Owned {
    interface: u32,
    at_ns: u64,
    direction: Direction,
    more: u32,
    data: Vec<u8>,
    comment: Option<String>,
    offload: Offload,
}

impl Owned {
    fn packet(&self) -> Packet<'_> {
        Packet {
            interface: self.interface,
            at_ns: self.at_ns,
            direction: self.direction,
            original_len: u32::try_from(self.data.len()).unwrap() + self.more,
            data: &self.data,
            comment: self.comment.as_deref(),
            offload: self.offload,
        }
    }
}

prop_compose! {
    fn owned()(
        interface in 0..3u32,
        at_ns: u64,
        direction in prop_oneof![
            Just(Direction::Unknown), Just(Direction::Inbound), Just(Direction::Outbound)
        ],
        more in 0..2000u32,
        data in proptest::collection::vec(any::<u8>(), 0..90),
        comment: Option<String>,
        mut vnet: [u8; 10],
        kind in 0..8u8,
    ) -> Owned {
        vnet[1] = kind;
        let offload = Offload::parse(&vnet).unwrap_or_default();
        Owned { interface, at_ns, direction, more, data, comment, offload }
    }
}

fn push(capture: &mut Vec<u8>, len: usize, emit: impl FnOnce(&mut [u8]) -> usize) {
    let at = capture.len();
    capture.resize(at + len, 0xee);
    assert_eq!(emit(&mut capture[at..]), len);
}

/// A section with three interfaces and the packets.
fn capture(packets: &[Owned]) -> Vec<u8> {
    let mut out = Vec::new();
    push(&mut out, SECTION_LEN, emit_section);
    for name in ["tun0", "", "a-long-name"] {
        let link_type = LinkType::RAW;
        let interface = Interface { link_type, name };
        push(&mut out, interface.block_len(), |into| interface.emit(into));
    }
    for packet in packets {
        let packet = packet.packet();
        push(&mut out, packet.block_len(), |into| packet.emit(into));
    }
    out
}

/// Reads a whole capture that is at hand.
fn read_all(mut bytes: &[u8]) -> Result<Vec<Packet<'_>>, Malformed> {
    let mut reader = Reader::new();
    let mut packets = Vec::new();
    while let Read::Packet(packet) = reader.read(&mut bytes)? {
        packets.push(packet);
    }
    reader.finish(bytes)?;
    Ok(packets)
}

/// A block in big-endian byte order, whose body is padded.
fn big(kind: u32, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(BLOCK_OVERHEAD + padded(body.len())).unwrap();
    let mut out = Vec::from(kind.to_be_bytes());
    out.extend(len.to_be_bytes());
    out.extend(body);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend(len.to_be_bytes());
    out
}

fn big_section() -> Vec<u8> {
    let mut body = Vec::from(BYTE_ORDER_MAGIC.to_be_bytes());
    body.extend([0, 1, 0, 2]);
    body.extend(u64::MAX.to_be_bytes());
    big(SECTION_HEADER, &body)
}

/// A big-endian Ethernet interface with these options.
fn big_interface(snap_len: u32, options: &[u8]) -> Vec<u8> {
    let mut body = Vec::from([0, 1, 0, 0]);
    body.extend(snap_len.to_be_bytes());
    body.extend(options);
    big(INTERFACE_DESCRIPTION, &body)
}

fn big_packet(ticks: u64, data: &[u8], options: &[u8]) -> Vec<u8> {
    let len = u32::try_from(data.len()).unwrap();
    let mut body = Vec::from(0u32.to_be_bytes());
    body.extend(ticks.to_be_bytes());
    body.extend(len.to_be_bytes());
    body.extend(len.to_be_bytes());
    body.extend(data);
    body.resize(body.len().next_multiple_of(4), 0);
    body.extend(options);
    big(ENHANCED_PACKET, &body)
}

#[test]
fn a_section_is_written_as_the_draft_lays_it_out() {
    let mut bytes = [0; SECTION_LEN];
    emit_section(&mut bytes);
    let expected = [
        0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 28, 0, 0, 0,
    ];
    assert_eq!(bytes, expected);
}

#[test]
fn the_other_byte_order_is_read_with_its_options() {
    let mut bytes = big_section();
    bytes.extend(big_interface(0, &[]));
    let options = [
        0x7f, 0xff, 0, 1, 9, 0, 0, 0, // not known
        0, 2, 0, 4, 0, 0, 0, 0x12, // outbound, broadcast
        0, 1, 0, 5, b'h', b'e', b'l', b'l', b'o', 0, 0, 0, // a comment
        0, 1, 0, 1, b'2', 0, 0, 0, // another
        0, 0, 0, 0,
    ];
    bytes.extend(big_packet(1_000_001, b"abcde", &options));
    let expected = Packet {
        interface: 0,
        at_ns: 1_000_001_000,
        direction: Direction::Outbound,
        original_len: 5,
        data: b"abcde",
        comment: Some("hello"),
        offload: Offload::NONE,
    };
    assert_eq!(read_all(&bytes), Ok(std::vec![expected]));
}

#[test]
fn a_new_section_forgets_the_interfaces_and_the_byte_order_of_the_old() {
    let mut bytes = capture(&[]);
    bytes.extend(big_section());
    bytes.extend(big_interface(3, &[]));
    let simple = [&7u32.to_be_bytes()[..], b"abc"].concat();
    bytes.extend(big(SIMPLE_PACKET, &simple));
    let packets = read_all(&bytes).unwrap();
    assert_eq!(packets.len(), 1);
    assert_eq!((packets[0].data, packets[0].original_len), (&b"abc"[..], 7));

    let mut reader = Reader::new();
    let mut rest = &bytes[..];
    reader.read(&mut rest).unwrap();
    assert_eq!(reader.link_type(0), Some(LinkType::ETHERNET));
    assert_eq!(reader.link_type(1), None);
    assert_eq!((reader.name(0), reader.name(1)), (Some(""), None));

    bytes.extend(big_section());
    bytes.extend(big_packet(0, b"abc", &[]));
    assert!(read_all(&bytes).is_err());
}

#[test]
fn timestamps_of_every_resolution_become_nanoseconds() {
    let nanos = |resolution: u8, offset: i64, ticks: u64| {
        let mut options = Vec::from([0, 9, 0, 1, resolution, 0, 0, 0, 0, 14, 0, 8]);
        options.extend(offset.to_be_bytes());
        let mut bytes = big_section();
        bytes.extend(big_interface(0, &options));
        bytes.extend(big_packet(ticks, &[], &[]));
        read_all(&bytes).unwrap()[0].at_ns
    };
    assert_eq!(nanos(0, 0, 3), 3_000_000_000);
    assert_eq!(nanos(3, 0, 1_500), 1_500_000_000);
    assert_eq!(nanos(6, 1, 7), 1_000_007_000);
    assert_eq!(nanos(9, -1, 1_000_000_007), 7);
    assert_eq!(nanos(12, 0, 5_999), 5);
    assert_eq!(nanos(29, 0, u64::MAX), 0);
    assert_eq!(nanos(0x80, 0, 2), 2_000_000_000);
    assert_eq!(nanos(0x8a, 0, 512), 500_000_000);
    assert_eq!(nanos(0x7f, 0, u64::MAX), 0);
    assert_eq!(nanos(9, i64::MIN, 1), 0);
    assert_eq!(nanos(0, i64::MAX, u64::MAX), u64::MAX);
}

#[test]
fn a_block_of_another_kind_is_skipped_without_being_held() {
    let data = Owned {
        interface: 2,
        at_ns: 1,
        direction: Direction::Inbound,
        more: 0,
        data: std::vec![7; 9],
        comment: None,
        offload: Offload::NONE,
    };
    let len = 3 * MAX_BLOCK_LEN;
    let mut bytes = capture(&[]);
    bytes.extend(0x0000_0bad_u32.to_le_bytes());
    bytes.extend(u32::try_from(len).unwrap().to_le_bytes());
    bytes.resize(bytes.len() + len - 8, 0);
    bytes.extend(&capture(core::slice::from_ref(&data)));

    let mut reader = Reader::new();
    let (mut held, mut most, mut found) = (Vec::new(), 0, 0);
    for piece in bytes.chunks(1000) {
        held.extend(piece);
        let mut input = &held[..];
        while let Read::Packet(packet) = reader.read(&mut input).unwrap() {
            assert_eq!(packet, data.packet());
            found += 1;
        }
        held = input.to_vec();
        most = most.max(held.len());
    }
    assert_eq!(found, 1);
    assert!(most < 1000, "held {most} bytes");
}

#[test]
fn what_is_no_capture_is_refused_with_a_reason() {
    let reason = |bytes: &[u8]| read_all(bytes).unwrap_err();
    let text = |e: Malformed| std::format!("{e}");
    assert!(text(reason(b"")).contains("end of a pcapng"));
    assert!(text(reason(b"GET / HTTP/1.1")).contains("no section header"));
    assert!(text(reason(&[0xd4, 0xc3, 0xb2, 0xa1])).contains("no section header"));

    let mut other_magic = capture(&[]);
    other_magic[8] = 0;
    assert!(text(reason(&other_magic)).contains("byte-order magic"));
    let mut version_2 = capture(&[]);
    version_2[12] = 2;
    assert!(text(reason(&version_2)).contains("version"));
    for len in [0u32, 8, 13, u32::MAX] {
        let mut bytes = capture(&[]);
        bytes[SECTION_LEN + 4..][..4].copy_from_slice(&len.to_le_bytes());
        assert!(text(reason(&bytes)).contains("block length"), "{len}");
    }
    let mut two_lengths = capture(&[]);
    two_lengths[SECTION_LEN - 4] = 32;
    assert!(text(reason(&two_lengths)).contains("two lengths"));

    let mut many = big_section();
    for _ in 0..=MAX_INTERFACES {
        many.extend(big_interface(0, &[]));
    }
    assert!(text(reason(&many)).contains("64 interfaces"));

    let mut longer_than_its_block = big_packet(0, &[1; 8], &[]);
    longer_than_its_block[8 + 15] = 9;
    let bytes = [big_section(), big_interface(0, &[]), longer_than_its_block].concat();
    assert!(text(reason(&bytes)).contains("needs 9 bytes, but there are 8"));
}

#[test]
fn what_no_option_or_packet_can_hold_is_cut() {
    let comment = "é".repeat(40_000);
    let data = std::vec![1; MAX_PACKET_LEN + 5];
    let packet = Packet {
        data: &data,
        comment: Some(&comment),
        ..Packet::default()
    };
    let mut bytes = capture(&[]);
    push(&mut bytes, packet.block_len(), |into| packet.emit(into));
    let read = read_all(&bytes).unwrap()[0];
    assert_eq!(read.data.len(), MAX_PACKET_LEN);
    assert_eq!(read.original_len as usize, MAX_PACKET_LEN + 5);
    assert_eq!(read.comment.map(str::len), Some(65_534));
}

proptest! {
    #[test]
    fn what_lies_around_a_packet_and_the_packet_are_its_block(owned in owned(), first in 0..40usize) {
        let packet = owned.packet();
        let (head, rest) = owned.data.split_at(first.min(owned.data.len()));
        let beginning = Packet { data: head, ..packet };
        let mut around = vec![0xee; beginning.around_len(rest.len())];
        prop_assert_eq!(beginning.emit_around(rest.len(), &mut around), around.len());
        around.splice(Packet::BEFORE_DATA..Packet::BEFORE_DATA, owned.data.iter().copied());
        let mut block = vec![0xee; packet.block_len()];
        packet.emit(&mut block);
        prop_assert_eq!(around, block);
    }

    #[test]
    fn what_is_written_is_read_back_from_pieces_of_any_size(
        packets in proptest::collection::vec(owned(), 0..8),
        sizes in proptest::collection::vec(1..60usize, 1..8),
    ) {
        let bytes = capture(&packets);
        let mut reader = Reader::new();
        let mut expected = packets.iter();
        let (mut held, mut rest, mut sizes) = (Vec::new(), &bytes[..], sizes.iter().cycle());
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            held.extend(piece);
            rest = later;
            let mut input = &held[..];
            let need = loop {
                match reader.read(&mut input).unwrap() {
                    Read::Packet(packet) => {
                        prop_assert_eq!(Some(packet), expected.next().map(Owned::packet));
                    }
                    Read::NeedBytes(need) => break need,
                    Read::Control(_) => unreachable!("this reader is not a stage's"),
                }
            };
            prop_assert!(need > input.len() && need <= MAX_BLOCK_LEN);
            held = input.to_vec();
        }
        prop_assert_eq!(reader.finish(&held), Ok(()));
        prop_assert!(expected.next().is_none());
    }

    #[test]
    fn a_capture_cut_anywhere_but_between_blocks_does_not_end_well(
        packet in owned(), cut in 1..20usize,
    ) {
        let bytes = capture(&[packet]);
        prop_assert!(read_all(&bytes[..bytes.len() - cut]).is_err());
    }

    #[test]
    fn damage_neither_panics_nor_stalls(
        packets in proptest::collection::vec(owned(), 0..4),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut bytes = capture(&packets);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(read) = read_all(&bytes) {
            prop_assert!(read.len() <= bytes.len() / BLOCK_OVERHEAD);
        }
    }
}

#[test]
fn interfaces_keep_their_names() {
    let capture = capture(&[]);
    let mut reader = Reader::new();
    reader.read(&mut &capture[..]).unwrap();
    let names = [0, 1, 2, 3].map(|id| reader.name(id));
    assert_eq!(names, [Some("tun0"), Some(""), Some("a-long-name"), None]);
}

/// What a reader makes of the last block of a capture, with its data apart from it, if that is possible.
fn read_apart(capture: &[u8], block_at: usize) -> Option<Result<(Vec<u8>, String), Malformed>> {
    let mut reader = Reader::new();
    let (mut before, block) = capture.split_at(block_at);
    while let Ok(Read::Packet(_)) = reader.read(&mut before) {}
    let apart = reader.apart(&block[..Apart::HEAD_LEN])?;
    let (head, rest) = block.split_at(Apart::HEAD_LEN);
    let (data, rest) = rest.split_at_checked(apart.padded_len())?;
    let mut closed = [head, rest.get(..apart.tail_len())?].concat();
    Some(
        apart
            .close(&mut closed)
            .and_then(|()| match reader.read(&mut &closed[..])? {
                Read::Packet(packet) => {
                    let data = data[..apart.data_len()].to_vec();
                    let whole = Packet {
                        data: &data,
                        ..packet
                    };
                    let said = format!("{whole:?}");
                    Ok((data, said))
                }
                other @ (Read::NeedBytes(_) | Read::Control(_)) => panic!("{other:?}"),
            }),
    )
}

proptest! {
    #[test]
    fn a_packet_whose_data_are_read_apart_is_the_same(packets in proptest::collection::vec(owned(), 1..4)) {
        let bytes = capture(&packets);
        let last = packets.last().unwrap().packet();
        let (data, said) = read_apart(&bytes, bytes.len() - last.block_len()).unwrap().unwrap();
        prop_assert_eq!(&data, last.data);
        prop_assert_eq!(said, format!("{last:?}"));
    }

    #[test]
    fn what_is_damaged_as_a_whole_is_damaged_or_the_same_apart(
        packet in owned(), big: bool, at in 0..200usize, with: u8, cut in 0..40usize,
    ) {
        let (mut bytes, len) = if big {
            let block = big_packet(packet.at_ns, &packet.data, &[]);
            let before = [big_section(), big_interface(0, &[])].concat();
            ([before, block.clone()].concat(), block.len())
        } else {
            (capture(core::slice::from_ref(&packet)), packet.packet().block_len())
        };
        let block_at = bytes.len() - len;
        if let Some(byte) = bytes.get_mut(block_at + at) {
            *byte = with;
        }
        bytes.truncate(bytes.len() - cut.min(len - Apart::HEAD_LEN));
        let whole = read_all(&bytes).map(|packets| {
            packets.last().map(|packet| format!("{packet:?}"))
        });
        match (read_apart(&bytes, block_at), whole) {
            (Some(Ok((_, said))), whole) => prop_assert_eq!(whole, Ok(Some(said))),
            (Some(Err(_)), whole) => prop_assert!(whole.is_err()),
            (None, _) => {}
        }
    }
}
