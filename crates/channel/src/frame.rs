//! Frames: a length of four bytes (little-endian, of what follows), a byte that tells the kind, the
//! payload.

use alloc::vec::Vec;

use crate::Fault;

/// Longest frame to the guest, its length field not counted.
pub const MOST_ORDER: usize = 4096;

/// Longest frame to the host, its length field not counted.
pub const MOST_REPORT: usize = 1 << 20;

/// Bytes of the length field.
pub(crate) const LENGTH: usize = 4;

/// Cuts a stream of bytes into frames.
///
/// Holds what was pushed and not taken: one incomplete frame at most, if every
/// [`push`](Self::push) is followed by [`next_frame`](Self::next_frame) until there is none.
#[derive(Debug)]
pub struct Frames {
    bytes: Vec<u8>,
    /// Where the next frame begins.
    start: usize,
    most: usize,
}

impl Frames {
    /// Takes frames of up to `most` bytes: [`MOST_ORDER`] or [`MOST_REPORT`].
    pub const fn new(most: usize) -> Self {
        Self {
            bytes: Vec::new(),
            start: 0,
            most,
        }
    }

    /// Takes bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame, its length field included.
    ///
    /// # Errors
    /// If the length is not that of a frame. It is not known then where the next one begins, so the
    /// error stays.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, Fault> {
        let rest = &self.bytes[self.start..];
        let Some((head, rest)) = rest.split_first_chunk::<LENGTH>() else {
            return Ok(None);
        };
        let len = u32::from_le_bytes(*head);
        let size = usize::try_from(len).unwrap_or(usize::MAX);
        if size == 0 {
            return Err(Fault::Empty);
        }
        if size > self.most {
            return Err(Fault::TooLong { len });
        }
        if rest.len() < size {
            return Ok(None);
        }
        let from = self.start;
        self.start += LENGTH + size;
        Ok(Some(&self.bytes[from..self.start]))
    }

    /// The next whole frame as kind and payload.
    pub(crate) fn next_parts(&mut self) -> Result<Option<(u8, &[u8])>, Fault> {
        let frame = self.next_frame()?;
        Ok(frame.and_then(|frame| {
            let (kind, payload) = frame.get(LENGTH..)?.split_first()?;
            Some((*kind, payload))
        }))
    }

    /// Bytes that were pushed and are not taken.
    pub fn held(&self) -> usize {
        self.bytes.len() - self.start
    }
}
