//! A message while it is filled.

use alloc::vec::Vec;

use crate::{HEADER_LEN, Header, SET_HEADER_LEN};

/// A message that grows set by set, up to a length.
#[derive(Debug)]
pub(super) struct Builder {
    bytes: Vec<u8>,
    max: usize,
    /// Identifier of the set that is open, and where it begins.
    open: Option<(u16, usize)>,
    data_records: u32,
}

impl Builder {
    pub(super) fn new(max: usize) -> Self {
        let mut bytes = Vec::with_capacity(max.min(2048));
        bytes.resize(HEADER_LEN, 0);
        Self {
            bytes,
            max,
            open: None,
            data_records: 0,
        }
    }

    /// Whether a record of this length fits into a set of this identifier.
    pub(super) fn has_room(&self, set: u16, len: usize) -> bool {
        let head = match self.open {
            Some((open, _)) if open == set => 0,
            _ => SET_HEADER_LEN,
        };
        self.bytes.len() + head + len <= self.max
    }

    /// Appends a record to a set of this identifier, which is opened if it is not open.
    pub(super) fn append(&mut self, set: u16, record: impl FnOnce(&mut Vec<u8>)) {
        if self.open.is_none_or(|(open, _)| open != set) {
            self.close();
            self.open = Some((set, self.bytes.len()));
            self.bytes.extend_from_slice(&set.to_be_bytes());
            self.bytes.extend_from_slice(&[0; 2]);
        }
        record(&mut self.bytes);
        if set >= crate::FIRST_TEMPLATE {
            self.data_records += 1;
        }
    }

    /// Whether nothing was appended.
    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.len() == HEADER_LEN
    }

    /// The message, and the number of data records in it.
    pub(super) fn finish(mut self, export_time: u32, sequence: u32, domain: u32) -> (Vec<u8>, u32) {
        self.close();
        let header = Header {
            len: u16::try_from(self.bytes.len()).unwrap_or(u16::MAX),
            export_time,
            sequence,
            domain,
        };
        self.bytes[..HEADER_LEN].copy_from_slice(&header.to_bytes());
        (self.bytes, self.data_records)
    }

    /// Ends the set that is open; the next record begins another.
    pub(super) fn close(&mut self) {
        if let Some((_, start)) = self.open.take() {
            let len = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
            self.bytes[start + 2..start + 4].copy_from_slice(&len.to_be_bytes());
        }
    }
}
