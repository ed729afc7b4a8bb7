//! Streams in pieces of every size.

use plumb_wire::frame::{Offload, PartialChecksum};
use plumb_wire::pcapng::{Direction, Interface, Packet, SECTION_LEN, emit_section};
use proptest::prelude::*;

use super::long::BODY_LEN;
use super::*;
use crate::stage::pipe::Moved;

fn push(stream: &mut Vec<u8>, len: usize, emit: impl FnOnce(&mut [u8]) -> usize) {
    let at = stream.len();
    stream.resize(at + len, 0);
    assert_eq!(emit(&mut stream[at..]), len);
}

const HEAD_LEN: usize = 2048;

fn packet<'a>(data: &'a [u8], at_ns: u64, comment: &'a str) -> Packet<'a> {
    Packet {
        at_ns,
        direction: Direction::Inbound,
        original_len: u32::try_from(data.len()).unwrap() + 7,
        data,
        comment: (!comment.is_empty()).then_some(comment),
        ..Packet::default()
    }
}

/// The same of which something is left to do, as of most that the kernel sends.
fn partial<'a>(data: &'a [u8], at_ns: u64, comment: &'a str) -> Packet<'a> {
    let checksum = PartialChecksum {
        start: 34,
        offset: 16,
    };
    Packet {
        original_len: 0,
        offload: Offload {
            checksum: Some(checksum),
            ..Offload::NONE
        },
        ..packet(data, at_ns, comment)
    }
}

/// A section with frames of these lengths.
fn stream(lens: &[usize], comment: &str) -> (Vec<u8>, Vec<Vec<u8>>) {
    stream_of(packet, lens, comment)
}

fn stream_of(
    make: for<'a> fn(&'a [u8], u64, &'a str) -> Packet<'a>,
    lens: &[usize],
    comment: &str,
) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut stream = Vec::new();
    push(&mut stream, SECTION_LEN, emit_section);
    let (link_type, name) = (LinkType::ETHERNET, "eth0");
    let interface = Interface { link_type, name };
    push(&mut stream, interface.block_len(), |into| {
        interface.emit(into)
    });
    let frames: Vec<Vec<u8>> = (0..)
        .zip(lens)
        .map(|(at, len)| (0..=u8::MAX).map(|n| n ^ at).cycle().take(*len).collect())
        .collect();
    for (at, frame) in (1..).zip(&frames) {
        let packet = make(frame, at, comment);
        push(&mut stream, packet.block_len(), |into| packet.emit(into));
    }
    (stream, frames)
}

/// What an input makes of a stream that comes in pieces of these sizes, and how it ended.
fn read(stream: &[u8], pieces: &[usize]) -> (Vec<LinkFrame>, u64, Option<&'static str>) {
    let (frames, _, len, unsound) = read_leaving(stream, pieces, None);
    (frames, len, unsound)
}

/// The same with bodies left in the kernel if `head_len` says so, and how many were.
fn read_leaving(
    stream: &[u8],
    pieces: &[usize],
    head_len: Option<usize>,
) -> (Vec<LinkFrame>, usize, u64, Option<&'static str>) {
    let (from, to) = rustix::pipe::pipe().unwrap();
    let (mut input, to) = (Input::new(Pipe::new(from).unwrap()), Pipe::new(to).unwrap());
    input.leave_bodies(head_len);
    let mut left = 0;
    let (mut to, mut rest, mut pieces) = (Some(to), stream, pieces.iter().cycle());
    let (mut frame, mut found) = (LinkFrame::default(), Vec::new());
    loop {
        match input.next(&mut frame).unwrap() {
            Next::Frame => {
                if let Some(body) = input.take_body() {
                    assert!(frame.bytes.len() >= HEAD_LEN && body.len() >= BODY_LEN);
                    body.append_to(&mut frame.bytes).unwrap();
                    left += 1;
                }
                found.push(frame.clone());
            }
            Next::Wait => {
                let len = rest.len().min(*pieces.next().unwrap());
                let moved = to.as_ref().unwrap().write(&rest[..len]).unwrap();
                if let Moved::Bytes(len) = moved {
                    rest = &rest[len..];
                }
                if rest.is_empty() {
                    to = None;
                }
            }
            Next::End => break,
            Next::Section(_) | Next::Switch(_) => {}
        }
    }
    (found, left, input.section_len(), input.unsound_end())
}

/// Bodies that nobody takes are gone, and are not taken for those of others.
#[test]
fn a_body_is_left_where_the_kernel_is_not_done_and_nobody_wants_more() {
    let lens = [60_000, 20_000, 100, 65_000, 64_999, 5000, 40_000];
    let (stream, frames) = stream_of(partial, &lens, "");
    let (found, left, len, unsound) = read_leaving(&stream, &[200_000], Some(HEAD_LEN));
    let found: Vec<_> = found.into_iter().map(|frame| frame.bytes).collect();
    assert_eq!((&found, left), (&frames, 5));
    assert_eq!((len, unsound), (stream.len() as u64, None));
    assert_eq!(read_leaving(&stream, &[200_000], None).1, 0);
    let (stream, _) = stream_of(packet, &lens, "");
    assert_eq!(read_leaving(&stream, &[200_000], Some(HEAD_LEN)).1, 0);

    let (from, to) = rustix::pipe::pipe().unwrap();
    let mut input = Input::new(Pipe::new(from).unwrap());
    input.leave_bodies(Some(HEAD_LEN));
    let to = Pipe::new(to).unwrap();
    to.grow();
    let (stream, frames) = stream_of(partial, &[60_000; 6], "");
    assert_eq!(to.write(&stream).unwrap(), Moved::Bytes(stream.len()));
    let mut frame = LinkFrame::default();
    let mut bodies = Vec::new();
    for frames in frames.chunks(3) {
        for (at, expected) in frames.iter().enumerate() {
            while input.next(&mut frame).unwrap() != Next::Frame {}
            if at == 1 {
                continue;
            }
            assert!(input.body_len() > 0);
            assert!(expected.starts_with(&frame.bytes));
            bodies.push((input.take_body().unwrap(), frame.bytes.len(), expected));
        }
        for (body, at, frame) in bodies.drain(..) {
            let mut rest = Vec::new();
            body.append_to(&mut rest).unwrap();
            assert_eq!(rest, frame[at..]);
        }
    }
}

/// Where no pipe can take it in so many pieces, it is read.
#[test]
fn a_body_in_small_pieces_is_read_as_a_whole() {
    let (stream, frames) = stream_of(partial, &[65_000, 65_000], "");
    let (from, to) = rustix::pipe::pipe().unwrap();
    let to = Pipe::new(to).unwrap();
    to.grow();
    let mut input = Input::new(Pipe::new(from).unwrap());
    input.leave_bodies(Some(HEAD_LEN));
    let mut frame = LinkFrame::default();
    let mut pieces = stream.chunks(900);
    let mut found = Vec::new();
    loop {
        match input.next(&mut frame).unwrap() {
            Next::Frame => {
                assert!(input.take_body().is_none());
                found.push(frame.bytes.clone());
            }
            Next::Wait => match pieces.next() {
                Some(first) => {
                    // What is moved in is not put together.
                    for piece in core::iter::once(first).chain(pieces.by_ref().take(60)) {
                        let moved = Piped::of(piece).give(&to).unwrap();
                        assert_eq!(moved, Moved::Bytes(piece.len()));
                    }
                }
                None => break,
            },
            Next::End | Next::Section(_) | Next::Switch(_) => {}
        }
    }
    assert_eq!(found, frames);
}

proptest! {
    #[test]
    fn frames_of_all_lengths_come_whole_and_in_order(
        lens in proptest::collection::vec(prop_oneof![0..2000usize, 0..70_000usize], 1..12),
        pieces in proptest::collection::vec(prop_oneof![1..300usize, 1..90_000usize], 1..12),
        comment in prop_oneof![Just(0usize), 1..6000usize],
    ) {
        let comment = "c".repeat(comment);
        let (stream, frames) = stream(&lens, &comment);
        let (found, len, unsound) = read(&stream, &pieces);
        prop_assert_eq!(found.len(), frames.len());
        for ((at, frame), found) in (1..).zip(&frames).zip(&found) {
            prop_assert_eq!(&found.bytes, frame);
            prop_assert_eq!(found.meta.at_ns, at);
            prop_assert_eq!(found.meta.direction, Direction::Inbound);
            prop_assert_eq!(found.original_len as usize, frame.len() + 7);
            prop_assert_eq!(&found.comment, &comment);
        }
        prop_assert_eq!(len, stream.len() as u64);
        prop_assert_eq!(unsound, None);
    }

    #[test]
    fn frames_whose_bodies_are_left_come_whole_and_in_order(
        lens in proptest::collection::vec(prop_oneof![0..2000usize, 0..70_000usize], 1..12),
        pieces in proptest::collection::vec(prop_oneof![1..300usize, 1..90_000usize], 1..12),
        comment in prop_oneof![Just(0usize), 1..6000usize],
    ) {
        let comment = "c".repeat(comment);
        let (stream, frames) = stream_of(partial, &lens, &comment);
        let (found, _, len, unsound) = read_leaving(&stream, &pieces, Some(HEAD_LEN));
        prop_assert_eq!(found.len(), frames.len());
        for ((at, frame), found) in (1..).zip(&frames).zip(&found) {
            prop_assert_eq!(&found.bytes, frame);
            prop_assert_eq!(found.meta.at_ns, at);
            prop_assert!(found.meta.offload.checksum.is_some());
            prop_assert_eq!(found.original_len, 0);
            prop_assert_eq!(&found.comment, &comment);
        }
        prop_assert_eq!(len, stream.len() as u64);
        prop_assert_eq!(unsound, None);
    }

    #[test]
    fn a_stream_that_is_cut_gives_the_frames_before_and_says_so(
        lens in proptest::collection::vec(0..70_000usize, 1..4),
        pieces in proptest::collection::vec(1..90_000usize, 1..4),
        cut in 1..60_000usize,
    ) {
        let (stream, frames) = stream(&lens, "");
        // At least what comes before the packets, and a byte of one.
        let last = packet(frames.last().unwrap(), 1, "").block_len();
        let cut = cut.min(last - 1);
        let (found, _, unsound) = read(&stream[..stream.len() - cut], &pieces);
        prop_assert_eq!(found.len(), frames.len() - 1);
        prop_assert!(unsound.unwrap().starts_with("ends within a packet"));
        let (stream, _) = stream_of(partial, &lens, "");
        let cut = &stream[..stream.len() - cut];
        let (found, _, _, unsound) = read_leaving(cut, &pieces, Some(HEAD_LEN));
        prop_assert_eq!(found.len(), frames.len() - 1);
        prop_assert!(unsound.unwrap().starts_with("ends within a packet"));
    }
}
