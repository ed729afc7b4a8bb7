//! Packets out of a stream of bytes.

use std::os::fd::{AsFd, BorrowedFd};

use plumb_wire::capture::Reader;
use plumb_wire::pcapng::{Apart, Control, LinkType, MAX_BLOCK_LEN, Read, TOKEN_LEN};

use super::pipe::{Identity, Moved, Pipe};
use super::{LinkError, LinkFrame, Meta};

/// Bytes that are read at once. Whoever reads keeps the pipe from its writer meanwhile: with 64 KiB the
/// two take turns where with this they work side by side.
const READ_LEN: usize = 32 * 1024;
/// Blocks of at least so many bytes are read to where their packet is to stay.
const LONG_LEN: usize = 16 * 1024;
/// Bytes that are read with the last of such a packet: what follows it, and the next one's beginning.
const BEHIND_LEN: usize = 4096;

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
}

/// A packet whose data do not go through the buffer, which has only the rest of its block.
#[derive(Debug, Default)]
struct Long {
    block: Option<Apart>,
    /// Its data; more than that while it is under way.
    data: Vec<u8>,
    /// Bytes of it that have come.
    len: usize,
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
        }
    }

    pub(super) fn identity(&self) -> Option<Identity> {
        self.pipe.identity()
    }

    pub(super) fn next(&mut self, frame: &mut LinkFrame) -> Result<Next, LinkError> {
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
                    if let Some(block) = self.long.block.take() {
                        core::mem::swap(&mut frame.bytes, &mut self.long.data);
                        frame.bytes.truncate(block.data_len());
                        self.section_len += block.padded_len() as u64;
                    } else {
                        frame.bytes.clear();
                        frame.bytes.extend_from_slice(packet.data);
                    }
                    frame.original_len = match usize::try_from(packet.original_len) {
                        Ok(len) if len > frame.bytes.len() => packet.original_len,
                        _ => 0,
                    };
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
            match self.fill(need)? {
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
        // Mostly it has been as long before: what is there need not be cleared.
        self.long.data.resize(block.padded_len(), 0);
        self.long.data[..data.len()].copy_from_slice(data);
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
        while self.end - self.start < len {
            let moved = self.fill(len)?;
            if !matches!(moved, Moved::Bytes(_)) {
                return Ok(moved);
            }
        }
        block
            .close(&mut self.buffer[self.start..self.start + len])
            .map_err(LinkError::Capture)?;
        Ok(Moved::Bytes(len))
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

    /// Reads so that there may be `need` bytes in the buffer.
    fn fill(&mut self, need: usize) -> Result<Moved, LinkError> {
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
        let most = self.buffer.len().min(self.end + READ_LEN);
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

impl AsFd for Input {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use plumb_wire::pcapng::{Direction, Interface, Packet, SECTION_LEN, emit_section};
    use proptest::prelude::*;

    use super::*;
    use crate::stage::pipe::Moved;

    fn push(stream: &mut Vec<u8>, len: usize, emit: impl FnOnce(&mut [u8]) -> usize) {
        let at = stream.len();
        stream.resize(at + len, 0);
        assert_eq!(emit(&mut stream[at..]), len);
    }

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

    /// A section with frames of these lengths.
    fn stream(lens: &[usize], comment: &str) -> (Vec<u8>, Vec<Vec<u8>>) {
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
            let packet = packet(frame, at, comment);
            push(&mut stream, packet.block_len(), |into| packet.emit(into));
        }
        (stream, frames)
    }

    /// What an input makes of a stream that comes in pieces of these sizes, and how it ended.
    fn read(stream: &[u8], pieces: &[usize]) -> (Vec<LinkFrame>, u64, Option<&'static str>) {
        let (from, to) = rustix::pipe::pipe().unwrap();
        let (mut input, to) = (Input::new(Pipe::new(from).unwrap()), Pipe::new(to).unwrap());
        let (mut to, mut rest, mut pieces) = (Some(to), stream, pieces.iter().cycle());
        let (mut frame, mut found) = (LinkFrame::default(), Vec::new());
        loop {
            match input.next(&mut frame).unwrap() {
                Next::Frame => found.push(frame.clone()),
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
        (found, input.section_len(), input.unsound_end())
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
        }
    }
}
