//! Superframes are made where that can be undone, and only there.

use alloc::vec;
use alloc::vec::Vec;
use core::net::SocketAddr;

use plumb_wire::tcp::{ACK, PSH};
use proptest::prelude::*;

use super::*;
use crate::segment;
use crate::testing;

/// Segments of one connection, with payloads of these lengths, in order.
fn stream(v6: bool, lengths: &[usize], push: usize) -> Vec<Frame> {
    let (src, dst) = if v6 {
        ("[2001:db8::1]:9", "[2001:db8::2]:80")
    } else {
        ("10.0.0.1:9", "10.0.0.2:80")
    };
    let (src, dst): (SocketAddr, SocketAddr) = (src.parse().unwrap(), dst.parse().unwrap());
    let mut seq = u32::MAX - 100;
    let segments = lengths.iter().enumerate().map(|(number, &payload)| {
        let flags = ACK | if number == push { PSH } else { 0 };
        let segment = testing::Segment {
            seq,
            ack: 7,
            flags,
            window: 500,
            options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
            payload,
        };
        seq = seq.wrapping_add(u32::try_from(payload).unwrap());
        let mut frame = testing::tcp(src, dst, &segment);
        if !v6 {
            let ident = u16::try_from(number).unwrap().wrapping_add(0xfffe);
            put(&mut frame.bytes, 18, ident);
            testing::mend(&mut frame);
        }
        frame
    });
    segments.collect()
}

/// Gives a segment its checksums anew, where its headers are where they were.
fn mend(frame: &mut Frame) {
    let is_v6 = frame.bytes[12] == 0x86;
    let (ip, transport) = (14, if is_v6 { 54 } else { 34 });
    if !is_v6 {
        testing::mend(frame);
    }
    let headers = Headers {
        ip,
        is_v6,
        transport,
    };
    put(&mut frame.bytes, transport + 16, 0);
    let sum = headers.pseudo_header(&frame.bytes, protocol::TCP);
    let sum = sum.bytes(&frame.bytes[transport..]).finish();
    put(&mut frame.bytes, transport + 16, sum);
}

fn coalesced(frames: &[Frame]) -> Vec<Frame> {
    let mut function = Coalesce::towards(Port::Right);
    let (mut batch, mut out) = (frames.to_vec(), Output::default());
    function.handle_frames(Port::Left, &mut batch, Instant::ZERO, &mut out);
    assert!(batch.is_empty());
    let sent = out.sent().drain(..);
    sent.map(|(to, frame)| {
        assert_eq!(to, Port::Right);
        frame
    })
    .collect()
}

/// What goes onto a wire in the end.
fn cut(frames: Vec<Frame>) -> Vec<Vec<u8>> {
    let (mut out, mut pieces) = (Output::default(), Vec::new());
    for frame in frames {
        assert!(segment(frame, &mut out, &mut pieces) > 0);
    }
    pieces
        .into_iter()
        .map(|mut piece| core::mem::take(&mut piece.bytes))
        .collect()
}

fn bytes(frames: &[Frame]) -> Vec<Vec<u8>> {
    frames.iter().map(|frame| frame.bytes.clone()).collect()
}

#[test]
fn segments_in_a_row_become_one_and_are_the_same_when_cut_again() {
    for (v6, tagged) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut frames = stream(v6, &[1000, 1000, 1000, 400], 3);
        for frame in frames.iter_mut().filter(|_| tagged) {
            frame.bytes.splice(12..12, [0x81, 0, 0, 5]);
        }
        let whole = coalesced(&frames);
        assert_eq!(whole.len(), 1, "{v6} {tagged}");
        let offload = whole[0].offload;
        assert_eq!(offload.gso.map(|gso| gso.size), Some(1000));
        assert_eq!(offload.checksum.map(|c| c.offset), Some(16));
        assert_eq!(whole[0].bytes.len(), frames[0].bytes.len() + 2400);
        assert_eq!(cut(whole), bytes(&frames));
    }
}

#[test]
fn a_superframe_ends_with_a_short_segment_a_push_and_the_longest_packet() {
    let count = |lengths: &[usize], push| coalesced(&stream(false, lengths, push)).len();
    assert_eq!(count(&[100, 50, 100, 100], 9), 2);
    assert_eq!(count(&[100, 200, 200], 9), 2);
    assert_eq!(count(&[100, 100, 100, 100], 1), 2);
    let many = coalesced(&stream(true, &[1400; 60], 99));
    assert_eq!(many.len(), 2);
    assert!(many[0].bytes.len() - 14 <= MOST);
}

#[test]
fn what_is_no_next_segment_stays_as_it_is_and_in_its_place() {
    type Change = fn(&mut Frame);
    let changes: [(&str, Change); 10] = [
        ("a wrong checksum", |f| f.bytes[60] ^= 1),
        ("another window", |f| f.bytes[49] ^= 1),
        ("another acknowledgement", |f| f.bytes[45] ^= 1),
        ("a hole", |f| f.bytes[41] ^= 0x40),
        ("another option", |f| f.bytes[61] ^= 1),
        ("an urgent pointer", |f| f.bytes[53] ^= 1),
        ("FIN", |f| f.bytes[47] |= 1),
        ("another TTL", |f| f.bytes[22] ^= 1),
        ("another identification", |f| f.bytes[19] ^= 0x10),
        ("a comment", |f| f.comment.push('x')),
    ];
    for (what, change) in changes {
        let mut frames = stream(false, &[100; 3], 9);
        change(&mut frames[1]);
        if what != "a wrong checksum" {
            mend(&mut frames[1]);
        }
        let after = coalesced(&frames);
        assert_eq!(bytes(&after), bytes(&frames), "{what}");
    }
}

#[test]
fn what_comes_again_is_not_put_together_with_what_is_new() {
    let frames = stream(false, &[100; 4], 9);
    let twice: Vec<_> = frames
        .iter()
        .flat_map(|frame| [frame.clone(), frame.clone()])
        .collect();
    assert_eq!(bytes(&coalesced(&twice)), bytes(&twice));
    // Also where the copy is the first of its batch.
    let mut function = Coalesce::towards(Port::Right);
    let mut sent = Vec::new();
    for batch in twice.chunks(3) {
        let (mut batch, mut out) = (batch.to_vec(), Output::default());
        function.handle_frames(Port::Left, &mut batch, Instant::ZERO, &mut out);
        sent.extend(out.sent().drain(..).map(|(_, frame)| frame));
    }
    assert_eq!(bytes(&sent), bytes(&twice));
    // What is behind a hole is new.
    let mut holed = stream(false, &[100; 5], 9);
    holed.remove(1);
    assert_eq!(coalesced(&holed).len(), 2);
}

#[test]
fn the_other_way_everything_passes_as_it_is() {
    let mut function = Coalesce::towards(Port::Left);
    let frames = stream(false, &[100; 3], 9);
    let (mut batch, mut out) = (frames.clone(), Output::default());
    function.handle_frames(Port::Left, &mut batch, Instant::ZERO, &mut out);
    let sent: Vec<_> = out.sent().drain(..).collect();
    assert!(sent.iter().all(|(to, _)| *to == Port::Right));
    let sent: Vec<_> = sent.into_iter().map(|(_, frame)| frame).collect();
    assert_eq!(bytes(&sent), bytes(&frames));
    assert!(function.counters().iter().all(|counter| counter.value == 0));
}

proptest! {
    #[test]
    fn whatever_comes_is_on_the_wire_as_it_came(
        v6: bool,
        lengths in prop::collection::vec(prop_oneof![Just(100_usize), 1..200_usize], 1..40),
        push in 0..60_usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 0..6),
        swaps in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..3),
    ) {
        let mut frames = stream(v6, &lengths, push);
        for (which, at, flip, mended) in damage {
            let frame = &mut frames[which.index(lengths.len())];
            let at = at.index(frame.bytes.len());
            frame.bytes[at] ^= flip;
            if mended && at != 12 && at != 14 {
                mend(frame);
            }
        }
        for (a, b) in swaps {
            frames.swap(a.index(lengths.len()), b.index(lengths.len()));
        }
        let after = coalesced(&frames);
        prop_assert_eq!(cut(after), bytes(&frames));
    }

    #[test]
    fn no_bytes_make_it_panic(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 1..5),
        starts in prop::collection::vec(0..3_usize, 5),
    ) {
        let heads: [&[u8]; 3] = [
            &[],
            &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45],
            &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60],
        ];
        let frames: Vec<_> = frames
            .iter()
            .zip(&starts)
            .map(|(rest, start)| Frame::new(Instant::ZERO, &[heads[*start], rest].concat()))
            .collect();
        prop_assert_eq!(bytes(&coalesced(&frames)), bytes(&frames));
    }
}
