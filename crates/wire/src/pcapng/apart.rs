//! Long packets, whose data whoever reads may take from the stream to where they are to stay.

use crate::Malformed;

use super::reader::{Order, damaged};
use super::{BLOCK_OVERHEAD, ENHANCED_PACKET, MAX_BLOCK_LEN, padded, to_usize};

/// An enhanced packet block whose data are taken from the stream apart from the rest of it: a packet of
/// many bytes need not be copied from the place where blocks are read.
///
/// Its head comes first ([`HEAD_LEN`](Self::HEAD_LEN) bytes), then the data
/// ([`padded_len`](Self::padded_len)), then what follows them ([`tail_len`](Self::tail_len)). Head and
/// tail, one behind the other, [`close`](Self::close) makes a block without data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Apart {
    order: Order,
    len: usize,
    data_len: usize,
}

impl Apart {
    /// Bytes of a block before its data.
    pub const HEAD_LEN: usize = 28;

    /// The block that begins with these bytes, if it is such a one and its lengths agree. None says
    /// nothing: [`Reader::read`](super::Reader::read) tells what is wrong.
    pub(super) fn of(order: Order, input: &[u8]) -> Option<Self> {
        let head = input.get(..Self::HEAD_LEN)?;
        let len = to_usize(order.u32(head, 4));
        let data_len = to_usize(order.u32(head, 20));
        let fits = len.is_multiple_of(4)
            && len <= MAX_BLOCK_LEN
            && data_len <= len
            && Self::HEAD_LEN + padded(data_len) + 4 <= len;
        (order.u32(head, 0) == ENHANCED_PACKET && fits).then_some(Self {
            order,
            len,
            data_len,
        })
    }

    /// Bytes of the packet.
    pub const fn data_len(&self) -> usize {
        self.data_len
    }

    /// The same with what fills the last word.
    pub const fn padded_len(&self) -> usize {
        padded(self.data_len)
    }

    /// Bytes that follow these.
    pub const fn tail_len(&self) -> usize {
        self.len - Self::HEAD_LEN - self.padded_len()
    }

    /// Makes a block of head and tail that is whole without the data: of what
    /// [`Reader::read`](super::Reader::read) gives for it, all but these is that of the packet.
    ///
    /// # Errors
    /// If the block is damaged.
    ///
    /// # Panics
    /// If `block` is not as long as head and tail are.
    pub fn close(&self, block: &mut [u8]) -> Result<(), Malformed> {
        let len = Self::HEAD_LEN + self.tail_len();
        assert_eq!(block.len(), len, "head and tail");
        if to_usize(self.order.u32(block, len - 4)) != self.len {
            return Err(damaged("pcapng block (its two lengths differ)"));
        }
        let original = self.order.u32(block, 24).max(self.order.u32(block, 20));
        // Both are at most as long as a block may be.
        let len_word = u32::try_from(len).unwrap_or(u32::MAX);
        for (at, word) in [(4, len_word), (20, 0), (24, original), (len - 4, len_word)] {
            block[at..at + 4].copy_from_slice(&self.order.bytes(word));
        }
        Ok(())
    }
}

const _: () = assert!(Apart::HEAD_LEN == BLOCK_OVERHEAD - 4 + 20);
