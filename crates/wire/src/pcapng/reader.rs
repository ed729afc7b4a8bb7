//! Reading captures from a stream.

use crate::frame::Offload;
use crate::{Malformed, head};

use super::apart::Apart;
use super::control::{
    CUSTOM_NOT_COPIED, Control, LOCAL_BLOCK, MAX_PATH_LEN, RENDEZVOUS_FIXED_LEN, RENDEZVOUS_TAG,
    Rendezvous, SWITCH_TAG,
};
use super::{
    BLOCK_OVERHEAD, BYTE_ORDER_MAGIC, COMMENT, CUSTOM, Direction, END_OF_OPTIONS, ENHANCED_PACKET,
    ENTERPRISE, EPB_FLAGS, IF_NAME, IF_TSOFFSET, IF_TSRESOL, INTERFACE_DESCRIPTION, LinkType,
    MAX_BLOCK_LEN, MAX_INTERFACES, MAX_NAME_LEN, OFFLOAD_LEN, OFFLOAD_TAG, OPTION_HEADER_LEN,
    Packet, SECTION_HEADER, SIMPLE_PACKET, option_len, padded, to_usize,
};

/// What [`Reader::read`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read<'a> {
    /// A packet.
    Packet(Packet<'a>),
    /// No further packet yet: call again with at least this many bytes that follow on what was
    /// consumed, never more than [`MAX_BLOCK_LEN`].
    NeedBytes(usize),
    /// A message for the next stage; only a reader [`for_stage`](Reader::for_stage) gives it.
    Control(Control<'a>),
}

/// Takes packets out of a stream of blocks; holds what the section has said so far.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    section: Option<Section>,
    /// Bytes that are still to come of a block that nobody needs.
    skip: usize,
    /// Whoever reads wants to know of more than packets.
    for_stage: bool,
}

impl Reader {
    /// A reader at the start of a capture.
    pub const fn new() -> Self {
        Self {
            section: None,
            skip: 0,
            for_stage: false,
        }
    }

    /// A reader at the start of a stream from another stage: it tells of sections and of
    /// [`Control`] messages too.
    pub const fn for_stage() -> Self {
        Self {
            for_stage: true,
            ..Self::new()
        }
    }

    /// Reads up to the next packet, and moves the start of `input` over all that was consumed.
    ///
    /// # Errors
    /// If the stream is not a capture or is damaged. Nothing behind the damage can be read: each
    /// further call on the same input gives the same error.
    pub fn read<'a>(&mut self, input: &mut &'a [u8]) -> Result<Read<'a>, Malformed> {
        loop {
            let skipped = self.skip.min(input.len());
            *input = &input[skipped..];
            self.skip -= skipped;
            if self.skip > 0 {
                return Ok(Read::NeedBytes(1));
            }

            let Some((order, kind, len)) = self.block_header(input)? else {
                let known = if is_section(input) { BLOCK_OVERHEAD } else { 8 };
                return Ok(Read::NeedBytes(known));
            };
            let is_wanted = matches!(
                kind,
                SECTION_HEADER | INTERFACE_DESCRIPTION | SIMPLE_PACKET | ENHANCED_PACKET
            );
            let may_be_control =
                self.for_stage && kind == LOCAL_BLOCK && len == super::switch_len();
            if !is_wanted && !may_be_control {
                self.skip = len;
                continue;
            }
            if len > MAX_BLOCK_LEN {
                return Err(damaged("pcapng block length"));
            }
            let Some(block) = input.get(..len) else {
                return Ok(Read::NeedBytes(len));
            };
            if to_usize(order.u32(block, len - 4)) != len {
                return Err(damaged("pcapng block (its two lengths differ)"));
            }
            let body = Body {
                order,
                bytes: &block[8..len - 4],
            };
            let packet = match (kind, &mut self.section) {
                (SECTION_HEADER, section) => {
                    *section = Some(Section::parse(&body)?);
                    if self.for_stage {
                        *input = &input[len..];
                        return Ok(Read::Control(Control::Section(rendezvous(&body))));
                    }
                    None
                }
                (LOCAL_BLOCK, Some(section)) => {
                    if let Some(token) = switch(section.order, body.bytes) {
                        *input = &input[len..];
                        return Ok(Read::Control(Control::Switch(token)));
                    }
                    None
                }
                (INTERFACE_DESCRIPTION, Some(section)) => {
                    section.add_interface(&body)?;
                    None
                }
                (SIMPLE_PACKET, Some(section)) => Some(section.simple_packet(&body)?),
                (ENHANCED_PACKET, Some(section)) => Some(section.enhanced_packet(&body)?),
                _ => None,
            };
            *input = &input[len..];
            if let Some(packet) = packet {
                return Ok(Read::Packet(packet));
            }
        }
    }

    /// The block that `input` begins with, where [`read`](Self::read) wants more of it, and whose data
    /// may be taken from the stream apart from it: that of a packet.
    pub fn apart(&self, input: &[u8]) -> Option<Apart> {
        let section = self.section.as_ref().filter(|_| self.skip == 0)?;
        Apart::of(section.order, input)
    }

    /// Checks that the stream may end with `rest` unread.
    ///
    /// # Errors
    /// If it ends within a block, or before the first.
    pub fn finish(&self, rest: &[u8]) -> Result<(), Malformed> {
        if self.section.is_some() && self.skip == 0 && rest.is_empty() {
            return Ok(());
        }
        Err(Malformed {
            what: "end of a pcapng capture",
            need: 0,
            have: rest.len(),
        })
    }

    /// What packets of an interface of the present section begin with.
    pub fn link_type(&self, interface: u32) -> Option<LinkType> {
        Some(self.section.as_ref()?.interface(interface)?.link_type)
    }

    /// Name of an interface of the present section, its first [`MAX_NAME_LEN`] bytes; empty where
    /// the capture gives none.
    pub fn name(&self, interface: u32) -> Option<&str> {
        let described = self.section.as_ref()?.interface(interface)?;
        let name = &described.name[..usize::from(described.name_len)];
        Some(name.utf8_chunks().next().map_or("", |chunk| chunk.valid()))
    }

    /// Byte order, type and length of the block at the start of `input`, if that much is there.
    fn block_header(&self, input: &[u8]) -> Result<Option<(Order, u32, usize)>, Malformed> {
        let order = if is_section(input) {
            match input.get(8..12).map(|magic| Order::Little.u32(magic, 0)) {
                None => return Ok(None),
                Some(BYTE_ORDER_MAGIC) => Order::Little,
                Some(magic) if magic.swap_bytes() == BYTE_ORDER_MAGIC => Order::Big,
                Some(_) => return Err(damaged("pcapng byte-order magic")),
            }
        } else {
            match &self.section {
                Some(section) => section.order,
                None if SECTION_HEADER.to_le_bytes().starts_with(input) => return Ok(None),
                None => return Err(damaged("pcapng capture (no section header)")),
            }
        };
        if input.len() < 8 {
            return Ok(None);
        }
        let len = to_usize(order.u32(input, 4));
        if len < BLOCK_OVERHEAD || !len.is_multiple_of(4) {
            return Err(damaged("pcapng block length"));
        }
        Ok(Some((order, order.u32(input, 0), len)))
    }
}

/// The section header's type reads the same in both byte orders.
fn is_section(input: &[u8]) -> bool {
    input.starts_with(&SECTION_HEADER.to_le_bytes())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    /// Reads a word. Panics where the caller has not checked the length.
    pub(super) fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let word = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        match self {
            Self::Little => u32::from_le_bytes(word),
            Self::Big => u32::from_be_bytes(word),
        }
    }

    /// A word as it is written.
    pub(super) const fn bytes(self, word: u32) -> [u8; 4] {
        match self {
            Self::Little => word.to_le_bytes(),
            Self::Big => word.to_be_bytes(),
        }
    }

    fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let word = [bytes[at], bytes[at + 1]];
        match self {
            Self::Little => u16::from_le_bytes(word),
            Self::Big => u16::from_be_bytes(word),
        }
    }
}

/// What the blocks of a section need to know of those before them.
#[derive(Clone, Debug)]
struct Section {
    order: Order,
    interfaces: [Described; MAX_INTERFACES],
    count: usize,
}

/// An interface as its description block says.
#[derive(Clone, Copy, Debug)]
struct Described {
    link_type: LinkType,
    snap_len: usize,
    resolution: u8,
    offset_secs: i64,
    name: [u8; MAX_NAME_LEN],
    name_len: u8,
}

impl Section {
    fn parse(body: &Body<'_>) -> Result<Self, Malformed> {
        let fixed = head("pcapng section header", body.bytes, 16)?;
        if body.order.u16(fixed, 4) != 1 {
            return Err(damaged("pcapng version (1 is known)"));
        }
        let nothing = Described {
            link_type: LinkType(0),
            snap_len: 0,
            resolution: 0,
            offset_secs: 0,
            name: [0; MAX_NAME_LEN],
            name_len: 0,
        };
        Ok(Self {
            order: body.order,
            interfaces: [nothing; MAX_INTERFACES],
            count: 0,
        })
    }

    fn interface(&self, id: u32) -> Option<&Described> {
        self.interfaces[..self.count].get(to_usize(id))
    }

    fn add_interface(&mut self, body: &Body<'_>) -> Result<(), Malformed> {
        let fixed = head("pcapng interface description", body.bytes, 8)?;
        let Some(place) = self.interfaces.get_mut(self.count) else {
            return Err(damaged("pcapng section (more than 64 interfaces)"));
        };
        *place = Described {
            link_type: LinkType(body.order.u16(fixed, 0)),
            snap_len: match to_usize(body.order.u32(fixed, 4)) {
                0 => usize::MAX,
                len => len,
            },
            // Microseconds unless the options say otherwise.
            resolution: 6,
            offset_secs: 0,
            name: [0; MAX_NAME_LEN],
            name_len: 0,
        };
        for (code, value) in body.options(8) {
            match (code, value) {
                (IF_TSRESOL, [resolution, ..]) => place.resolution = *resolution,
                (IF_NAME, name) => {
                    let len = name.len().min(MAX_NAME_LEN);
                    place.name[..len].copy_from_slice(&name[..len]);
                    place.name_len = u8::try_from(len).unwrap_or(0);
                }
                (IF_TSOFFSET, &[a, b, c, d, e, f, g, h, ..]) => {
                    let bytes = [a, b, c, d, e, f, g, h];
                    place.offset_secs = match body.order {
                        Order::Little => i64::from_le_bytes(bytes),
                        Order::Big => i64::from_be_bytes(bytes),
                    };
                }
                _ => {}
            }
        }
        self.count += 1;
        Ok(())
    }

    fn enhanced_packet<'a>(&self, body: &Body<'a>) -> Result<Packet<'a>, Malformed> {
        const WHAT: &str = "pcapng enhanced packet";
        let fixed = head(WHAT, body.bytes, 20)?;
        let [interface, high, low, captured, original] =
            [0, 4, 8, 12, 16].map(|at| body.order.u32(fixed, at));
        let described = self
            .interface(interface)
            .ok_or(damaged("pcapng packet (its interface is not described)"))?;
        let data = head(WHAT, &body.bytes[20..], to_usize(captured))?;
        let mut packet = Packet {
            interface,
            at_ns: described.nanos(u64::from(high) << 32 | u64::from(low)),
            direction: Direction::Unknown,
            original_len: original.max(captured),
            data,
            comment: None,
            offload: Offload::NONE,
        };
        for (code, value) in body.options(20 + padded(data.len())) {
            match code {
                EPB_FLAGS if value.len() == 4 => {
                    packet.direction = match body.order.u32(value, 0) & 3 {
                        1 => Direction::Inbound,
                        2 => Direction::Outbound,
                        _ => Direction::Unknown,
                    };
                }
                CUSTOM
                    if value.len() == OFFLOAD_LEN
                        && body.order.u32(value, 0) == ENTERPRISE
                        && value[4..8] == OFFLOAD_TAG =>
                {
                    packet.offload = Offload::parse(&value[8..])?;
                }
                COMMENT if packet.comment.is_none() => {
                    packet.comment = core::str::from_utf8(value).ok();
                }
                _ => {}
            }
        }
        Ok(packet)
    }

    /// A simple packet block belongs to interface 0 and says neither time nor direction.
    fn simple_packet<'a>(&self, body: &Body<'a>) -> Result<Packet<'a>, Malformed> {
        const WHAT: &str = "pcapng simple packet";
        let original_len = body.order.u32(head(WHAT, body.bytes, 4)?, 0);
        let described = self
            .interface(0)
            .ok_or(damaged("pcapng packet (its interface is not described)"))?;
        let captured = to_usize(original_len).min(described.snap_len);
        Ok(Packet {
            original_len,
            data: head(WHAT, &body.bytes[4..], captured)?,
            ..Packet::default()
        })
    }
}

impl Described {
    /// A timestamp of this interface as wall time in nanoseconds, held to the range of `u64`.
    fn nanos(&self, ticks: u64) -> u64 {
        const SECOND: u128 = 1_000_000_000;
        let ticks = u128::from(ticks);
        let exponent = u32::from(self.resolution & 0x7f);
        let nanos = match (self.resolution & 0x80 != 0, exponent) {
            (true, _) => (ticks * SECOND) >> exponent,
            (false, ..=9) => ticks * 10u128.pow(9 - exponent),
            // Ticks are fewer than 10^20.
            (false, 10..=29) => ticks / 10u128.pow(exponent - 9),
            (false, _) => 0,
        };
        let nanos = i128::try_from(nanos).unwrap_or(i128::MAX);
        let offset = i128::from(self.offset_secs) * 1_000_000_000;
        let nanos = nanos.saturating_add(offset).max(0);
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

/// The rendezvous that a section header names.
fn rendezvous<'a>(body: &Body<'a>) -> Option<Rendezvous<'a>> {
    let mut values = body.options(16).filter(|(code, value)| {
        *code == CUSTOM_NOT_COPIED
            && (RENDEZVOUS_FIXED_LEN..=RENDEZVOUS_FIXED_LEN + MAX_PATH_LEN).contains(&value.len())
            && is_ours(body.order, value, RENDEZVOUS_TAG)
    });
    let (token, path) = values.next()?.1[8..].split_first_chunk()?;
    Some(Rendezvous { token, path })
}

/// The token in a block that says that what follows comes by another way.
fn switch(order: Order, body: &[u8]) -> Option<&[u8; super::TOKEN_LEN]> {
    if !is_ours(order, body.get(..8)?, SWITCH_TAG) {
        return None;
    }
    body[8..].first_chunk()
}

/// Whether the first eight bytes are plumb's enterprise number and `tag`.
fn is_ours(order: Order, value: &[u8], tag: [u8; 4]) -> bool {
    order.u32(value, 0) == ENTERPRISE && value[4..8] == tag
}

/// What stands between the two lengths of a block.
#[derive(Clone, Copy, Debug)]
struct Body<'a> {
    order: Order,
    bytes: &'a [u8],
}

impl<'a> Body<'a> {
    /// Codes and values of the options from byte `at` on, up to the first that does not fit.
    fn options(&self, at: usize) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        let order = self.order;
        let mut rest = self.bytes.get(at..).unwrap_or_default();
        core::iter::from_fn(move || {
            let header = rest.get(..OPTION_HEADER_LEN)?;
            let (code, len) = (order.u16(header, 0), usize::from(order.u16(header, 2)));
            let value = rest.get(OPTION_HEADER_LEN..OPTION_HEADER_LEN + len)?;
            rest = rest.get(option_len(len)..).unwrap_or_default();
            (code != END_OF_OPTIONS).then_some((code, value))
        })
    }
}

pub(super) const fn damaged(what: &'static str) -> Malformed {
    Malformed {
        what,
        need: 0,
        have: 0,
    }
}
