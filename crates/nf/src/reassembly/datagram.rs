//! The pieces of one datagram.

use alloc::collections::BTreeMap;

use plumb_wire::frame::Offload;
use plumb_wire::{checksum, ipv4, ipv6};

use crate::dissect::{Dissected, Fragment, Ip};
use crate::offload::put;
use crate::{Frame, Output};

use super::{Datagram, cost};

/// Pieces by where they belong.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    pieces: BTreeMap<u16, Piece>,
    /// Where the datagram ends, once its last piece has come.
    end: Option<u16>,
    /// Bytes that are there.
    len: usize,
    cost: usize,
    /// Which of the four ECN codepoints were seen, as bits.
    ecn: u8,
}

#[derive(Debug)]
struct Piece {
    frame: Frame,
    /// Where the IP header is.
    network: usize,
    /// Its bytes in the frame.
    start: usize,
    end: usize,
}

/// What became of a piece.
#[derive(Debug)]
pub(super) enum Added {
    /// It is one more.
    Piece,
    /// It was there already.
    Duplicate(Frame),
    /// It cannot belong to the same datagram as the others.
    Contradiction(Frame),
}

impl Piece {
    fn len(&self) -> usize {
        self.end - self.start
    }
}

impl Pieces {
    pub(super) fn add(
        &mut self,
        packet: &Dissected,
        ip: &Ip,
        fragment: Fragment,
        frame: Frame,
    ) -> Added {
        let piece = Piece {
            network: packet.network,
            start: fragment.start,
            end: ip.end,
            frame,
        };
        let len = piece.end.saturating_sub(piece.start);
        let end = usize::from(fragment.offset) + len;
        let Ok(end) = u16::try_from(end) else {
            return Added::Contradiction(piece.frame);
        };
        let is_odd = fragment.more && !len.is_multiple_of(8);
        if len == 0 || is_odd {
            return Added::Contradiction(piece.frame);
        }
        let ends_elsewhere = match self.end {
            Some(known) => end > known || !fragment.more && end != known,
            None => !fragment.more && self.last_byte() > end,
        };
        if ends_elsewhere {
            return Added::Contradiction(piece.frame);
        }
        let before = self.pieces.range(..=fragment.offset).next_back();
        if let Some((offset, before)) = before {
            let before_end = usize::from(*offset) + before.len();
            if *offset == fragment.offset && before.len() == len {
                return Added::Duplicate(piece.frame);
            }
            if before_end > fragment.offset.into() {
                return Added::Contradiction(piece.frame);
            }
        }
        let behind = self.pieces.range(fragment.offset..).next();
        if behind.is_some_and(|(offset, _)| *offset < end) {
            return Added::Contradiction(piece.frame);
        }
        // The codepoints "not ECN-capable" and "congestion experienced".
        const INCAPABLE: u8 = 1;
        const CONGESTED: u8 = 1 << 3;
        self.ecn |= 1 << ip.ecn();
        if self.ecn & (INCAPABLE | CONGESTED) == INCAPABLE | CONGESTED {
            return Added::Contradiction(piece.frame);
        }
        if !fragment.more {
            self.end = Some(end);
        }
        self.len += len;
        self.cost += cost(&piece.frame);
        self.pieces.insert(fragment.offset, piece);
        Added::Piece
    }

    /// Says whether nothing is missing. Pieces do not overlap, so counting is enough.
    pub(super) fn is_whole(&self) -> bool {
        self.end.is_some_and(|end| usize::from(end) == self.len)
    }

    pub(super) fn frames(&self) -> usize {
        self.pieces.len()
    }

    pub(super) const fn cost(&self) -> usize {
        self.cost
    }

    /// Makes one datagram of all pieces; none if it would be longer than one can be.
    pub(super) fn join(self, out: &mut Output) -> Option<Datagram> {
        let mut whole = out.empty();
        let Some(first) = self.pieces.get(&0) else {
            out.recycle(whole);
            self.recycle(out);
            return None;
        };
        let network = first.network;
        let is_v4 = first.frame.bytes.get(network).is_some_and(|b| b >> 4 == 4);
        // Without the fragment header of IPv6, which is in front of the bytes.
        let header_end = if is_v4 { first.start } else { first.start - 8 };
        let next_header = first.frame.bytes[header_end];
        whole.offload = Offload::NONE;
        whole
            .bytes
            .extend_from_slice(&first.frame.bytes[..header_end]);
        for piece in self.pieces.values() {
            let bytes = &piece.frame.bytes[piece.start..piece.end];
            whole.bytes.extend_from_slice(bytes);
        }
        let counted = if is_v4 { 0 } else { ipv6::HEADER_LEN };
        let Ok(len) = u16::try_from(whole.bytes.len() - network - counted) else {
            out.recycle(whole);
            self.recycle(out);
            return None;
        };
        if is_v4 {
            put(&mut whole.bytes, network + 2, len);
            // "Don't fragment" stays, as Linux keeps it.
            let flags = u16::from(whole.bytes[network + 6]) << 8 & ipv4::DONT_FRAGMENT;
            put(&mut whole.bytes, network + 6, flags);
            put(&mut whole.bytes, network + 10, 0);
            let sum = checksum(&whole.bytes[network..header_end]);
            put(&mut whole.bytes, network + 10, sum);
        } else {
            put(&mut whole.bytes, network + 4, len);
            let field = next_header_field(&whole.bytes[..header_end], network);
            whole.bytes[field] = next_header;
        }
        Some(Datagram {
            whole,
            fragments: self.pieces.into_values().map(|piece| piece.frame).collect(),
        })
    }

    pub(super) fn recycle(self, out: &mut Output) {
        for piece in self.pieces.into_values() {
            out.recycle(piece.frame);
        }
    }

    fn last_byte(&self) -> u16 {
        self.pieces.last_key_value().map_or(0, |(offset, piece)| {
            u16::try_from(usize::from(*offset) + piece.len()).unwrap_or(u16::MAX)
        })
    }
}

/// Where the header in front of the fragment header, which `bytes` end before, says what follows
/// it.
fn next_header_field(bytes: &[u8], network: usize) -> usize {
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    let mut field = network + 6;
    let mut at = network + ipv6::HEADER_LEN;
    while bytes[field] != FRAGMENT
        && let Some(header) = bytes.get(at..at + 2)
    {
        let len = usize::from(header[1]);
        // RFC 4302 §2.2 counts in words of four bytes.
        let len = match bytes[field] {
            AUTHENTICATION => (len + 2) * 4,
            _ => (len + 1) * 8,
        };
        field = at;
        at += len;
    }
    field
}
