//! Superframes made of frames of any kind.

use plumb_nf::{Coalesce, Frame, Function, Output, Port, segment};
use plumb_wire::{Checksum, Instant, checksum};

use crate::bytes::Bytes;

/// Makes superframes, and cuts them again.
///
/// The bytes are frames, each behind two bytes: what it is (the frame before, moved on by its payload,
/// with some bytes changed; checksums are made right) and length.
///
/// # Panics
/// If the frames are not those that they were.
pub fn coalesce(data: &[u8]) {
    let mut bytes = Bytes(data);
    let mut frames: Vec<Vec<u8>> = Vec::new();
    while !bytes.0.is_empty() && frames.len() < 64 {
        let (kind, len) = (bytes.next(), bytes.next());
        let given = bytes.take(len.into());
        let mut frame = match frames.last() {
            Some(last) if kind & 1 != 0 => moved_on(last, given),
            _ => given.to_vec(),
        };
        if kind & 2 != 0 {
            mend(&mut frame);
        }
        frames.push(frame);
    }
    let mut batch = frames
        .iter()
        .map(|f| Frame::new(Instant::ZERO, f))
        .collect();
    let (mut out, mut pieces) = (Output::default(), Vec::new());
    let mut function = Coalesce::towards(Port::Right);
    function.handle_frames(Port::Left, &mut batch, Instant::ZERO, &mut out);
    for (to, frame) in core::mem::take(out.sent()) {
        assert_eq!(to, Port::Right);
        assert!(segment(frame, &mut out, &mut pieces) > 0);
    }
    let pieces: Vec<&[u8]> = pieces.iter().map(|piece| &piece.bytes[..]).collect();
    assert!(pieces == frames, "{pieces:02x?}\n{frames:02x?}");
}

/// Where the transport header is, if the frame has one of the usual length.
fn transport(frame: &[u8]) -> Option<(bool, usize)> {
    match frame.get(12..15)? {
        [0x08, 0x00, 0x45] => Some((false, 34)),
        [0x86, 0xdd, _] => Some((true, 54)),
        _ => None,
    }
    .filter(|(_, at)| frame.len() >= at + 20)
}

/// The segment behind another one. `changes` are pairs of a place and a byte that is flipped there.
fn moved_on(last: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut frame = last.to_vec();
    if let Some((is_v6, at)) = transport(last) {
        let header = usize::from(last[at + 12] >> 4) * 4;
        let payload = u32::try_from(last.len().saturating_sub(at + header)).unwrap_or(0);
        if let Some(seq) = frame[at + 4..].first_chunk_mut() {
            *seq = u32::from_be_bytes(*seq).wrapping_add(payload).to_be_bytes();
        }
        if !is_v6 && let Some(ident) = frame[18..].first_chunk_mut() {
            *ident = u16::from_be_bytes(*ident).wrapping_add(1).to_be_bytes();
        }
    }
    for change in changes.chunks_exact(2) {
        if let Some(byte) = frame.get_mut(usize::from(change[0])) {
            *byte ^= change[1];
        }
    }
    frame
}

/// Makes lengths and checksums right.
fn mend(frame: &mut [u8]) {
    let Some((is_v6, at)) = transport(frame) else {
        return;
    };
    let len = frame.len();
    let word = |value: usize| u16::try_from(value).unwrap_or(0).to_be_bytes();
    let addresses = if is_v6 { 22..54 } else { 26..34 };
    if is_v6 {
        frame[18..20].copy_from_slice(&word(len - at));
    } else {
        frame[16..18].copy_from_slice(&word(len - 14));
        frame[24..26].copy_from_slice(&[0, 0]);
        let sum = checksum(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    frame[at + 16..at + 18].copy_from_slice(&[0, 0]);
    let sum = Checksum::new()
        .bytes(&frame[addresses])
        .word(6)
        .word(u16::from_be_bytes(word(len - at)))
        .bytes(&frame[at..])
        .finish();
    frame[at + 16..at + 18].copy_from_slice(&sum.to_be_bytes());
}
