//! Packet captures: pcapng (IETF draft-ietf-opsawg-pcapng).
//!
//! Written are little-endian sections with nanosecond timestamps and directions. Read is what any
//! tool writes: both byte orders, every timestamp resolution, several sections and interfaces;
//! blocks and options of other kinds are skipped. A packet of which segmentation or its checksum is
//! left to do says so in a custom option ([`OFFLOAD_TAG`]) that other tools skip.
//!
//! A capture is one section ([`emit_section`]), its interfaces ([`Interface::emit`], numbered from
//! 0 in the order written), then packets ([`Packet::emit`]). [`Reader`] takes it back from a
//! stream in pieces of any size.

mod apart;
mod control;
mod reader;
#[cfg(test)]
mod tests;

pub use apart::Apart;
pub use control::{Control, MAX_PATH_LEN, Rendezvous, TOKEN_LEN, emit_switch, switch_len};
pub use reader::{Read, Reader};

use crate::frame::{Offload, VNET_HEADER_LEN};

/// Bytes of a packet that a capture keeps at most; a longer one is cut, as its original length
/// shows.
pub const MAX_PACKET_LEN: usize = 262_144;
/// Length of the longest block that [`Reader`] wants to see as a whole, in bytes.
pub const MAX_BLOCK_LEN: usize = 1 << 20;
/// Interfaces that a section may have for [`Reader`], which does not allocate.
pub const MAX_INTERFACES: usize = 64;
/// Bytes that [`emit_section`] writes.
pub const SECTION_LEN: usize = 28;

/// Private enterprise number of plumb's custom options: that of examples (RFC 5612), as plumb has
/// none. [`OFFLOAD_TAG`] behind it tells them from other examples.
pub const ENTERPRISE: u32 = 32473;
/// What the custom option begins with that holds a packet's `struct virtio_net_hdr`.
pub const OFFLOAD_TAG: [u8; 4] = *b"vnet";
/// Bytes of an interface's name that [`Reader`] keeps, which does not allocate.
pub const MAX_NAME_LEN: usize = 32;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// Type, length, and length again at the end.
const BLOCK_OVERHEAD: usize = 12;
const OPTION_HEADER_LEN: usize = 4;

const END_OF_OPTIONS: u16 = 0;
const COMMENT: u16 = 1;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const IF_TSOFFSET: u16 = 14;
const EPB_FLAGS: u16 = 2;
/// A custom option with binary data that may be copied.
const CUSTOM: u16 = 2989;
/// Enterprise number, tag and header.
const OFFLOAD_LEN: usize = 4 + OFFLOAD_TAG.len() + VNET_HEADER_LEN;

/// What a packet of an interface begins with, as a number of the tcpdump link-type registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkType(pub u16);

impl LinkType {
    /// An Ethernet header.
    pub const ETHERNET: Self = Self(1);
    /// An IP header of either version.
    pub const RAW: Self = Self(101);
}

/// Which way a packet went through its interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Not recorded.
    #[default]
    Unknown = 0,
    /// Received.
    Inbound = 1,
    /// Sent.
    Outbound = 2,
}

/// An interface that packets were captured on, to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface<'a> {
    /// What its packets begin with.
    pub link_type: LinkType,
    /// Its name for people.
    pub name: &'a str,
}

impl Interface<'_> {
    /// Bytes that [`emit`](Self::emit) writes.
    pub fn block_len(&self) -> usize {
        let options = option_len(1) + option_len(option_text(self.name).len()) + OPTION_HEADER_LEN;
        BLOCK_OVERHEAD + 8 + options
    }

    /// Writes an interface description block with nanosecond resolution and returns its length.
    ///
    /// # Panics
    /// If `into` is shorter than [`block_len`](Self::block_len).
    pub fn emit(&self, into: &mut [u8]) -> usize {
        let mut out = Output::block(INTERFACE_DESCRIPTION, &mut into[..self.block_len()]);
        out.bytes(&self.link_type.0.to_le_bytes());
        out.bytes(&[0, 0]);
        out.word(MAX_PACKET_LEN);
        out.option(IF_NAME, option_text(self.name).as_bytes());
        out.option(IF_TSRESOL, &[9]);
        out.option(END_OF_OPTIONS, &[]);
        out.finish()
    }
}

/// A captured packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Number of its interface within the section.
    pub interface: u32,
    /// Wall time in nanoseconds since 1970-01-01 UTC; 0 where the capture does not say.
    pub at_ns: u64,
    /// Which way it went.
    pub direction: Direction,
    /// Length that it had on the wire in bytes, at least that of `data`.
    pub original_len: u32,
    /// Its bytes, up to [`MAX_PACKET_LEN`].
    pub data: &'a [u8],
    /// A note for people, the first if there are several.
    pub comment: Option<&'a str>,
    /// What is left to do before the packet could go onto a real wire.
    pub offload: Offload,
}

impl<'a> Packet<'a> {
    /// Bytes that [`emit`](Self::emit) writes.
    pub fn block_len(&self) -> usize {
        self.block_len_of(self.captured().len())
    }

    /// The same if the packet has so many bytes.
    fn block_len_of(&self, len: usize) -> usize {
        let comment = self.comment.map_or(0, |c| option_len(option_text(c).len()));
        BLOCK_OVERHEAD
            + 20
            + padded(len)
            + option_len(4)
            + self.offload_len()
            + comment
            + OPTION_HEADER_LEN
    }

    /// Writes an enhanced packet block and returns its length.
    ///
    /// # Panics
    /// If `into` is shorter than [`block_len`](Self::block_len).
    pub fn emit(&self, into: &mut [u8]) -> usize {
        let data = self.captured();
        self.emit_with(data, data.len(), into)
    }

    /// Writes the block without the packet's own bytes, which belong behind the first
    /// [`BEFORE_DATA`](Self::BEFORE_DATA), and returns how many it wrote. Behind those of
    /// [`data`](Self::data), the packet has `rest` more.
    ///
    /// # Panics
    /// If `into` is shorter than [`around_len`](Self::around_len).
    pub fn emit_around(&self, rest: usize, into: &mut [u8]) -> usize {
        self.emit_with(&[], self.captured().len() + rest, into)
    }

    /// Bytes that [`emit_around`](Self::emit_around) writes.
    pub fn around_len(&self, rest: usize) -> usize {
        let len = self.captured().len() + rest;
        self.block_len_of(len) - len
    }

    /// Bytes of a block before those of its packet.
    pub const BEFORE_DATA: usize = 28;

    /// The block of a packet of `len` bytes with `data` of them: all or none.
    fn emit_with(&self, data: &[u8], len: usize, into: &mut [u8]) -> usize {
        let whole = self.block_len_of(len);
        let part = &mut into[..whole - len + data.len()];
        let mut out = Output::part(ENHANCED_PACKET, part, whole);
        out.bytes(&self.interface.to_le_bytes());
        let [.., a, b, c, d] = self.at_ns.to_le_bytes();
        out.bytes(&[a, b, c, d]);
        out.bytes(&self.at_ns.to_le_bytes()[..4]);
        out.word(len);
        out.word(len.max(self.data.len()).max(to_usize(self.original_len)));
        out.bytes(data);
        out.bytes(&[0; 3][..padded(len) - len]);
        out.option(EPB_FLAGS, &[self.direction as u8, 0, 0, 0]);
        if self.offload_len() > 0 {
            let mut value = [0; OFFLOAD_LEN];
            value[..4].copy_from_slice(&ENTERPRISE.to_le_bytes());
            value[4..8].copy_from_slice(&OFFLOAD_TAG);
            self.offload.emit(&mut value[8..]);
            out.option(CUSTOM, &value);
        }
        if let Some(comment) = self.comment {
            out.option(COMMENT, option_text(comment).as_bytes());
        }
        out.option(END_OF_OPTIONS, &[]);
        out.finish()
    }

    /// Bytes of the option that says what is left to do; most packets need none.
    fn offload_len(&self) -> usize {
        if self.offload == Offload::NONE {
            0
        } else {
            option_len(OFFLOAD_LEN)
        }
    }

    fn captured(&self) -> &'a [u8] {
        &self.data[..self.data.len().min(MAX_PACKET_LEN)]
    }
}

/// Writes a section header block: what a capture begins with.
///
/// # Panics
/// If `into` is shorter than [`SECTION_LEN`].
pub fn emit_section(into: &mut [u8]) -> usize {
    let mut out = Output::block(SECTION_HEADER, &mut into[..SECTION_LEN]);
    out.bytes(&BYTE_ORDER_MAGIC.to_le_bytes());
    out.bytes(&[1, 0, 0, 0]);
    out.bytes(&u64::MAX.to_le_bytes());
    out.finish()
}

/// A block that is being written.
#[derive(Debug)]
struct Output<'a> {
    into: &'a mut [u8],
    at: usize,
    /// Length of the whole block.
    len: usize,
}

impl<'a> Output<'a> {
    /// Begins a block of type `kind` that takes all of `into`.
    fn block(kind: u32, into: &'a mut [u8]) -> Self {
        let len = into.len();
        Self::part(kind, into, len)
    }

    /// Begins a block of `len` bytes of which `into` takes a part.
    fn part(kind: u32, into: &'a mut [u8], len: usize) -> Self {
        let mut out = Self { into, at: 0, len };
        out.bytes(&kind.to_le_bytes());
        out.word(len);
        out
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.into[self.at..][..bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn word(&mut self, value: usize) {
        let value = u32::try_from(value).unwrap_or(u32::MAX);
        self.bytes(&value.to_le_bytes());
    }

    fn padded(&mut self, bytes: &[u8]) {
        self.bytes(bytes);
        self.bytes(&[0; 3][..padded(bytes.len()) - bytes.len()]);
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
        self.bytes(&code.to_le_bytes());
        self.bytes(&len.to_le_bytes());
        self.padded(value);
    }

    /// Ends the block, and returns how many bytes were written.
    fn finish(mut self) -> usize {
        self.word(self.len);
        let len = self.into.len();
        debug_assert_eq!(self.at, len, "a block's length is what its parts take");
        len
    }
}

/// The part of `text` that an option can hold.
fn option_text(text: &str) -> &str {
    &text[..text.floor_char_boundary(usize::from(u16::MAX))]
}

/// Bytes that an option takes whose value has `len` bytes.
const fn option_len(len: usize) -> usize {
    OPTION_HEADER_LEN + padded(len)
}

/// The next multiple of four.
const fn padded(len: usize) -> usize {
    len.next_multiple_of(4)
}

fn to_usize(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
