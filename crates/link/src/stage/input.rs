//! Packets out of a stream of bytes.

use std::os::fd::{AsFd, BorrowedFd};

use plumb_wire::capture::Reader;
use plumb_wire::pcapng::{Apart, Control, LinkType, MAX_BLOCK_LEN, Read, TOKEN_LEN};

use super::body::{Body, Holds};
use super::pipe::{Identity, Moved, Pipe};
use super::{LinkError, LinkFrame, Meta};

/// Bytes that are read at once. Whoever reads keeps the pipe from its writer meanwhile: with 64 KiB the
/// two take turns where with this they work side by side.
const READ_LEN: usize = 32 * 1024;
/// Blocks of at least so many bytes are read to where their packet is to stay.
const LONG_LEN: usize = 16 * 1024;
/// Bytes that are read with the last of such a packet: what follows it, and the next one's beginning.
const BEHIND_LEN: usize = 4096;
/// A body is left in the kernel from this length on: for less, copying is cheaper.
const BODY_LEN: usize = 8 * 1024;

/// The end of a pipe where packets come out.
#[derive(Debug)]
pub(super) struct Input {
    pipe: Pipe,
    reader: Reader,
    buffer: Vec<u8>,
    /// What of the buffer is not yet read.
    start: usize,
    end: usize,
    ended: bool,
    /// Something has come.
    any: bool,
    /// Bytes that were read since the section began.
    section_len: u64,
    /// The long packet that is under way.
    long: Long,
    leaving: Leaving,
}

/// How bodies are left in the kernel.
#[derive(Debug, Default)]
struct Leaving {
    /// Bytes of the beginning that are wanted; none if all are.
    head_len: Option<usize>,
    /// The last long packet was one whose body may be left.
    worthwhile: bool,
    /// No short packet has come since.
    expected: bool,
    /// The kernel does not move bytes out of this pipe.
    refused: bool,
    holds: Holds,
    /// What was left of the packet that was given last.
    body: Option<Body>,
}

/// A packet whose data do not go through the buffer, which has only the rest of its block.
#[derive(Debug, Default)]
struct Long {
    block: Option<Apart>,
    /// Its data; more than that while it is under way. Without those of the body, if there is one.
    data: Vec<u8>,
    /// Bytes of it that have come.
    len: usize,
    body: Option<Body>,
}

/// What comes next in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Frame,
    Wait,
    End,
    /// A section begins; its writer can be met at this path, with this token.
    Section(Option<([u8; TOKEN_LEN], Vec<u8>)>),
    /// What follows comes by the ring that was agreed on with this token.
    Switch([u8; TOKEN_LEN]),
}

impl Input {
    pub(super) fn new(pipe: Pipe) -> Self {
        Self {
            pipe,
            reader: Reader::for_stage(),
            buffer: vec![0; READ_LEN],
            start: 0,
            end: 0,
            ended: false,
            any: false,
            section_len: 0,
            long: Long::default(),
            leaving: Leaving::default(),
        }
    }

    /// Has no more than `head_len` bytes of long packets be given where that is cheaper, or all of all.
    /// Only those are left something of whose checksums are not finished: the kernel's own.
    pub(super) fn leave_bodies(&mut self, head_len: Option<usize>) {
        if self.leaving.head_len.is_none() {
            self.leaving.worthwhile = true;
        }
        self.leaving.head_len = head_len.filter(|_| self.pipe.can_splice());
    }

    /// What was left of the packet that [`next`](Self::next) gave last.
    pub(super) fn take_body(&mut self) -> Option<Body> {
        self.leaving.body.take()
    }

    /// Bytes of that.
    pub(super) fn body_len(&self) -> usize {
        self.leaving.body.as_ref().map_or(0, Body::len)
    }

    pub(super) fn identity(&self) -> Option<Identity> {
        self.pipe.identity()
    }

    pub(super) fn next(&mut self, frame: &mut LinkFrame) -> Result<Next, LinkError> {
        self.leaving.body = None;
        loop {
            if let Some(block) = self.long.block {
                match self.collect(&block)? {
                    Moved::Bytes(_) => {}
                    Moved::Wait => return Ok(Next::Wait),
                    Moved::End => return Ok(Next::End),
                }
            }
            let mut rest = &self.buffer[self.start..self.end];
            let read = self.reader.read(&mut rest).map_err(LinkError::Capture)?;
            let (next, need) = match read {
                Read::Packet(packet) => {
                    let link_type = self.reader.link_type(packet.interface);
                    if let Some(other) = link_type.filter(|t| *t != LinkType::ETHERNET) {
                        return Err(LinkError::LinkType(other.0));
                    }
                    frame.meta = Meta {
                        at_ns: packet.at_ns,
                        direction: packet.direction,
                        mark: 0,
                        offload: packet.offload,
                    };
                    frame.comment.clear();
                    frame.comment.push_str(packet.comment.unwrap_or_default());
                    let mut len = packet.data.len();
                    if let Some(block) = self.long.block.take() {
                        core::mem::swap(&mut frame.bytes, &mut self.long.data);
                        frame.bytes.truncate(block.data_len());
                        self.section_len += block.padded_len() as u64;
                        len = block.data_len();
                    } else {
                        frame.bytes.clear();
                        frame.bytes.extend_from_slice(packet.data);
                    }
                    frame.original_len = match usize::try_from(packet.original_len) {
                        Ok(original_len) if original_len > len => packet.original_len,
                        _ => 0,
                    };
                    let may_leave = frame.original_len == 0 && !packet.offload.is_complete();
                    self.leaving.expected = len >= LONG_LEN;
                    if self.leaving.expected {
                        self.leaving.worthwhile = may_leave;
                    }
                    self.leaving.body = self.long.body.take();
                    if !may_leave && let Some(body) = self.leaving.body.take() {
                        body.append_to(&mut frame.bytes)?;
                    }
                    (Some(Next::Frame), 0)
                }
                Read::Control(Control::Section(rendezvous)) => {
                    let met = rendezvous.map(|r| (*r.token, r.path.to_vec()));
                    (Some(Next::Section(met)), 0)
                }
                Read::Control(Control::Switch(token)) => (Some(Next::Switch(*token)), 0),
                Read::NeedBytes(need) => (None, need),
            };
            let consumed = self.end - rest.len() - self.start;
            if matches!(next, Some(Next::Section(_))) {
                self.section_len = 0;
            }
            self.section_len += consumed as u64;
            self.start += consumed;
            if let Some(next) = next {
                return Ok(next);
            }
            if need >= LONG_LEN && self.begin_long() {
                continue;
            }
            let (need, piece) = match self.leaving.head_len() {
                // No more of a long packet than is wanted, if it is one.
                Some(head_len) if self.leaving.expected => {
                    (need.min(Apart::HEAD_LEN + head_len), BEHIND_LEN)
                }
                _ => (need, READ_LEN),
            };
            match self.fill(need, piece)? {
                Moved::Bytes(_) => {}
                Moved::Wait => return Ok(Next::Wait),
                Moved::End => return Ok(Next::End),
            }
        }
    }

    /// Takes the data of the packet that the buffer begins with out of it, as far as they have come.
    /// False if it is none.
    fn begin_long(&mut self) -> bool {
        let rest = &self.buffer[self.start..self.end];
        let Some(block) = self.reader.apart(rest) else {
            return false;
        };
        let (head, behind) = rest.split_at(Apart::HEAD_LEN);
        let (data, behind) = behind.split_at(behind.len().min(block.padded_len()));
        if let Some(head_len) = self.leaving.head_len()
            && block.data_len() >= head_len.max(data.len()) + BODY_LEN
        {
            if data.len() < head_len {
                return false;
            }
            self.long.body = self.leaving.holds.begin();
        }
        if self.long.body.is_some() {
            self.long.data.clear();
            self.long.data.extend_from_slice(data);
        } else {
            // Mostly it has been as long before: what is there need not be cleared.
            self.long.data.resize(block.padded_len(), 0);
            self.long.data[..data.len()].copy_from_slice(data);
        }
        self.long.len = data.len();
        self.long.block = Some(block);
        let behind = self.end - behind.len()..self.end;
        let len = head.len() + behind.len();
        self.buffer
            .copy_within(self.start..self.start + Apart::HEAD_LEN, 0);
        self.buffer.copy_within(behind, Apart::HEAD_LEN);
        (self.start, self.end) = (0, len);
        true
    }

    /// Reads what is missing of a long packet, and closes the rest of its block.
    fn collect(&mut self, block: &Apart) -> Result<Moved, LinkError> {
        if self.long.body.is_some() {
            let moved = self.collect_body(block)?;
            if !matches!(moved, Moved::Bytes(_)) {
                return Ok(moved);
            }
        }
        while self.long.len < block.padded_len() {
            let data = &mut self.long.data[self.long.len..];
            let most = data.len().min(READ_LEN);
            let behind = if most == data.len() { BEHIND_LEN } else { 0 };
            let behind = &mut self.buffer[self.end..self.end + behind];
            let moved = match self.ended {
                true => Moved::End,
                false => self
                    .pipe
                    .read_pieces(&mut data[..most], behind)
                    .map_err(|e| LinkError::io("read", "packets", e))?,
            };
            match moved {
                Moved::Bytes(len) => {
                    self.long.len += len.min(most);
                    self.end += len.saturating_sub(most);
                }
                Moved::End => self.ended = true,
                Moved::Wait => {}
            }
            if !matches!(moved, Moved::Bytes(_)) {
                return Ok(moved);
            }
        }
        let len = Apart::HEAD_LEN + block.tail_len();
        let piece = match self.long.body {
            Some(_) => len + BEHIND_LEN,
            None => READ_LEN,
        };
        while self.end - self.start < len {
            let moved = self.fill(len, piece)?;
            if !matches!(moved, Moved::Bytes(_)) {
                return Ok(moved);
            }
        }
        block
            .close(&mut self.buffer[self.start..self.start + len])
            .map_err(LinkError::Capture)?;
        Ok(Moved::Bytes(len))
    }

    /// Moves what is missing of a long packet to where it waits, and reads what fills the last word.
    fn collect_body(&mut self, block: &Apart) -> Result<Moved, LinkError> {
        let failed = |e| LinkError::io("read", "packets", e);
        while let Some(body) = &mut self.long.body
            && self.long.len < block.data_len()
        {
            if self.ended {
                return Ok(Moved::End);
            }
            let most = block.data_len() - self.long.len;
            let mut moved = body.take(&self.pipe, most);
            if matches!(moved, Ok(Moved::Wait)) && self.pipe.is_readable().map_err(failed)? {
                moved = body.take(&self.pipe, most);
                if matches!(moved, Ok(Moved::Wait)) {
                    // There is no room for so many pieces.
                    return self.give_up_body(block);
                }
            }
            match moved {
                Ok(Moved::Bytes(len)) => self.long.len += len,
                Ok(Moved::End) => self.ended = true,
                Ok(Moved::Wait) => return Ok(Moved::Wait),
                Err(_) => {
                    self.leaving.refused = true;
                    return self.give_up_body(block);
                }
            }
        }
        let padding = block.padded_len() - block.data_len();
        let len = Apart::HEAD_LEN + padding + block.tail_len();
        while self.long.len < block.padded_len() && self.end - self.start < len {
            let moved = self.fill(len, len + BEHIND_LEN)?;
            if !matches!(moved, Moved::Bytes(_)) {
                return Ok(moved);
            }
        }
        if self.long.len < block.padded_len() {
            let head = self.start..self.start + Apart::HEAD_LEN;
            self.start += padding;
            self.buffer.copy_within(head, self.start);
            self.long.len = block.padded_len();
        }
        Ok(Moved::Bytes(0))
    }

    /// Goes on with a packet as one that is read as a whole.
    fn give_up_body(&mut self, block: &Apart) -> Result<Moved, LinkError> {
        if let Some(body) = self.long.body.take() {
            body.append_to(&mut self.long.data)?;
        }
        self.long.data.resize(block.padded_len(), 0);
        Ok(Moved::Bytes(0))
    }

    /// Bytes that were read since the section began, its header included.
    pub(super) const fn section_len(&self) -> u64 {
        self.section_len
    }

    /// What was wrong with the end of the stream: its writer failed or was killed, or a file is cut.
    pub(super) fn unsound_end(&self) -> Option<&'static str> {
        let rest = &self.buffer[self.start..self.end];
        if !self.ended || self.reader.finish(rest).is_ok() {
            None
        } else if self.any {
            Some("ends within a packet: whoever wrote it was cut off")
        } else {
            Some("is empty: whoever should have written it has failed")
        }
    }

    /// Reads so that there may be `need` bytes in the buffer, `piece` at once.
    fn fill(&mut self, need: usize, piece: usize) -> Result<Moved, LinkError> {
        if self.ended {
            return Ok(Moved::End);
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.start + need > self.buffer.len() || self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if need > self.buffer.len() {
                // As much again behind a long block, for the next one's beginning.
                self.buffer.resize(need.min(MAX_BLOCK_LEN) + READ_LEN, 0);
            }
        }
        let most = self.buffer.len().min(self.end + piece);
        let moved = self
            .pipe
            .read(&mut self.buffer[self.end..most])
            .map_err(|e| LinkError::io("read", "packets", e))?;
        match moved {
            Moved::Bytes(len) => {
                self.end += len;
                self.any = true;
            }
            Moved::End => self.ended = true,
            Moved::Wait => {}
        }
        Ok(moved)
    }
}

impl Leaving {
    /// Bytes of the beginning of a long packet that are wanted; none if all are.
    fn head_len(&self) -> Option<usize> {
        self.head_len.filter(|_| self.worthwhile && !self.refused)
    }
}

impl AsFd for Input {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use plumb_wire::frame::{Offload, PartialChecksum};
    use plumb_wire::pcapng::{Direction, Interface, Packet, SECTION_LEN, emit_section};
    use proptest::prelude::*;

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
                            let moved = Body::of(piece).give(&to).unwrap();
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
}
