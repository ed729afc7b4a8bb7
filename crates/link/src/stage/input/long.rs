//! Long packets: their data do not go through the buffer, and what nobody wants of them stays in the
//! kernel.

use plumb_wire::pcapng::Apart;

use super::super::LinkError;
use super::super::body::{Holds, Piped};
use super::super::pipe::Moved;
use super::{Input, READ_LEN};

/// Bytes that are read with the last of such a packet: what follows it, and the next one's beginning.
pub(super) const BEHIND_LEN: usize = 4096;
/// A body is left in the kernel from this length on: for less, copying is cheaper.
pub(super) const BODY_LEN: usize = 8 * 1024;

/// How bodies are left in the kernel.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// Bytes of the beginning that are wanted; none if all are.
    pub(super) head_len: Option<usize>,
    /// The last long packet was one whose body may be left.
    pub(super) worthwhile: bool,
    /// No short packet has come since.
    pub(super) expected: bool,
    /// The kernel does not move bytes out of this pipe.
    refused: bool,
    holds: Holds,
    /// What was left of the packet that was given last.
    pub(super) body: Option<Piped>,
}

/// A packet whose data do not go through the buffer, which has only the rest of its block.
#[derive(Debug, Default)]
pub(super) struct Long {
    pub(super) block: Option<Apart>,
    /// Its data; more than that while it is under way. Without those of the body, if there is one.
    pub(super) data: Vec<u8>,
    /// Bytes of it that have come.
    len: usize,
    pub(super) body: Option<Piped>,
}

impl Leaving {
    /// Bytes of the beginning of a long packet that are wanted; none if all are.
    pub(super) fn head_len(&self) -> Option<usize> {
        self.head_len.filter(|_| self.worthwhile && !self.refused)
    }
}

impl Input {
    /// Takes the data of the packet that the buffer begins with out of it, as far as they have come.
    /// False if it is none.
    pub(super) fn begin_long(&mut self) -> bool {
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
    pub(super) fn collect(&mut self, block: &Apart) -> Result<Moved, LinkError> {
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
}
