//! Packets out of a stream of bytes.

mod long;

use std::os::fd::{AsFd, BorrowedFd};

use plumb_wire::capture::Reader;
use plumb_wire::pcapng::{Apart, Control, LinkType, MAX_BLOCK_LEN, Read, TOKEN_LEN};

use super::body::Piped;
use super::pipe::{Identity, Moved, Pipe};
use super::{LinkError, LinkFrame, Meta};
use long::{BEHIND_LEN, Leaving, Long};

/// Bytes that are read at once. Whoever reads keeps the pipe from its writer meanwhile: with 64 KiB the
/// two take turns where with this they work side by side.
const READ_LEN: usize = 32 * 1024;
/// Blocks of at least so many bytes are read to where their packet is to stay.
const LONG_LEN: usize = 16 * 1024;

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
    pub(super) fn take_body(&mut self) -> Option<Piped> {
        self.leaving.body.take()
    }

    /// Bytes of that.
    pub(super) fn body_len(&self) -> usize {
        self.leaving.body.as_ref().map_or(0, Piped::len)
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

impl AsFd for Input {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

#[cfg(test)]
mod tests;
