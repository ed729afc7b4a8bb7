//! Bytes that wait to be sent.

use alloc::vec::Vec;

use crate::codec::{Writer, count};
use crate::frame::LENGTH;

/// Frames on their way out.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    /// How many of them have left.
    sent: usize,
}

impl Outbox {
    /// Writes a frame. Returns false, and leaves nothing behind, if it comes out longer than `most`.
    pub(crate) fn frame(
        &mut self,
        kind: u8,
        most: usize,
        write: impl FnOnce(&mut Writer<'_>),
    ) -> bool {
        self.compact();
        let at = self.bytes.len();
        let mut writer = Writer(&mut self.bytes);
        writer.u32(0);
        writer.u8(kind);
        write(&mut writer);
        let len = self.bytes.len() - at - LENGTH;
        if len > most {
            self.bytes.truncate(at);
            return false;
        }
        self.bytes[at..at + LENGTH].copy_from_slice(&count(len).to_le_bytes());
        true
    }

    /// Adds a frame that is whole, its length field included.
    pub(crate) fn whole(&mut self, frame: &[u8]) {
        self.compact();
        self.bytes.extend_from_slice(frame);
    }

    /// What has left takes room only until it is worth the copy.
    fn compact(&mut self) {
        if self.sent > self.bytes.len() / 2 {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// What has not left.
    pub(crate) fn waiting(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Takes note that some of it has left.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.sent = (self.sent + bytes).min(self.bytes.len());
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
        }
    }
}
