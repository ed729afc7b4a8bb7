//! Packets out of a stream of bytes.

use std::os::fd::{AsFd, BorrowedFd};

use plumb_wire::capture::Reader;
use plumb_wire::pcapng::{Control, LinkType, MAX_BLOCK_LEN, Read, TOKEN_LEN};

use super::pipe::{Identity, Moved, Pipe};
use super::{LinkError, LinkFrame, Meta};

/// Bytes that are read at once. Whoever reads keeps the pipe from its writer meanwhile: with 64 KiB the
/// two take turns where with this they work side by side.
const READ_LEN: usize = 32 * 1024;

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
        }
    }

    pub(super) fn identity(&self) -> Option<Identity> {
        self.pipe.identity()
    }

    pub(super) fn next(&mut self, frame: &mut LinkFrame) -> Result<Next, LinkError> {
        loop {
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
                    frame.original_len = match usize::try_from(packet.original_len) {
                        Ok(len) if len > packet.data.len() => packet.original_len,
                        _ => 0,
                    };
                    frame.comment.clear();
                    frame.comment.push_str(packet.comment.unwrap_or_default());
                    frame.bytes.clear();
                    frame.bytes.extend_from_slice(packet.data);
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
            match self.fill(need)? {
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
