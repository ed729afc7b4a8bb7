//! The headers of a packet without IP options, as superframes have them: what is the same to whoever
//! cuts one and to whoever makes one.

use plumb_wire::{Checksum, checksum, ipv6};

use crate::offload::{put, word};

/// Where the headers are in the bytes of a frame, which holds them whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Headers {
    pub(crate) ip: usize,
    pub(crate) is_v6: bool,
    pub(crate) transport: usize,
}

impl Headers {
    /// Source and destination address.
    pub(crate) fn addresses<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        if self.is_v6 {
            &bytes[self.ip + 8..self.ip + 40]
        } else {
            &bytes[self.ip + 12..self.ip + 20]
        }
    }

    /// The sequence number of TCP.
    pub(crate) fn seq(&self, bytes: &[u8]) -> u32 {
        let at = self.transport + 4;
        u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    }

    /// The sum of the pseudo-header of the transport protocol `number`, which reaches to the end.
    pub(crate) fn pseudo_header(&self, bytes: &[u8], number: u8) -> Checksum {
        let len = u32::try_from(bytes.len() - self.transport).unwrap_or(u32::MAX);
        Checksum::new()
            .bytes(self.addresses(bytes))
            .word(u16::from(number))
            .bytes(&len.to_be_bytes())
    }

    /// Writes that the packet reaches to the end, and the checksum of an IPv4 header.
    pub(crate) fn put_len(&self, bytes: &mut [u8]) {
        let len = bytes.len() - self.ip;
        if self.is_v6 {
            put(bytes, self.ip + 4, word(len - ipv6::HEADER_LEN));
        } else {
            put(bytes, self.ip + 2, word(len));
            put(bytes, self.ip + 10, 0);
            let sum = checksum(&bytes[self.ip..self.transport]);
            put(bytes, self.ip + 10, sum);
        }
    }
}
