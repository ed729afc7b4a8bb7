//! What two stages say to each other in the stream between them, beside packets. Other readers skip
//! it: an option of the section header, and a block of a local type.

use super::{
    BLOCK_OVERHEAD, BYTE_ORDER_MAGIC, END_OF_OPTIONS, ENTERPRISE, OPTION_HEADER_LEN, Output,
    SECTION_HEADER, SECTION_LEN, option_len,
};

/// Bytes of a token.
pub const TOKEN_LEN: usize = 16;
/// Longest path of a socket (unix(7)), in bytes.
pub const MAX_PATH_LEN: usize = 107;

/// What the custom option begins with that holds a [`Rendezvous`].
pub(super) const RENDEZVOUS_TAG: [u8; 4] = *b"meet";
/// What the block begins with that holds a [`Control::Switch`].
pub(super) const SWITCH_TAG: [u8; 4] = *b"swch";
/// A custom option with binary data that is not to be copied: it makes sense in this stream only.
pub(super) const CUSTOM_NOT_COPIED: u16 = 19373;
/// The first block type that anybody may use locally.
pub(super) const LOCAL_BLOCK: u32 = 0x8000_0001;

/// Bytes before the path: enterprise number, tag, token.
pub(super) const RENDEZVOUS_FIXED_LEN: usize = 8 + TOKEN_LEN;
const SWITCH_LEN: usize = BLOCK_OVERHEAD + 8 + TOKEN_LEN;

/// Where the writer of a section can be met, to agree on something faster than the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rendezvous<'a> {
    /// A secret that proves that the caller has read this section.
    pub token: &'a [u8; TOKEN_LEN],
    /// Path of a Unix socket on the writer's machine.
    pub path: &'a [u8],
}

/// A message to the next stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control<'a> {
    /// A section begins.
    Section(Option<Rendezvous<'a>>),
    /// What follows comes by the way that was agreed on at the rendezvous with this token.
    Switch(&'a [u8; TOKEN_LEN]),
}

impl Rendezvous<'_> {
    /// Bytes that [`emit_section`](Self::emit_section) writes.
    pub fn section_len(&self) -> usize {
        SECTION_LEN + option_len(RENDEZVOUS_FIXED_LEN + self.path.len()) + OPTION_HEADER_LEN
    }

    /// Writes a section header block that names the rendezvous.
    ///
    /// # Panics
    /// If `into` is shorter than [`section_len`](Self::section_len), or the path is longer than
    /// [`MAX_PATH_LEN`].
    pub fn emit_section(&self, into: &mut [u8]) -> usize {
        let mut value = [0; RENDEZVOUS_FIXED_LEN + MAX_PATH_LEN];
        value[..4].copy_from_slice(&ENTERPRISE.to_le_bytes());
        value[4..8].copy_from_slice(&RENDEZVOUS_TAG);
        value[8..RENDEZVOUS_FIXED_LEN].copy_from_slice(self.token);
        let len = RENDEZVOUS_FIXED_LEN + self.path.len();
        value[RENDEZVOUS_FIXED_LEN..len].copy_from_slice(self.path);
        let mut out = Output::block(SECTION_HEADER, &mut into[..self.section_len()]);
        out.bytes(&BYTE_ORDER_MAGIC.to_le_bytes());
        out.bytes(&[1, 0, 0, 0]);
        out.bytes(&u64::MAX.to_le_bytes());
        out.option(CUSTOM_NOT_COPIED, &value[..len]);
        out.option(END_OF_OPTIONS, &[]);
        out.finish()
    }
}

/// Writes the block that says that what follows comes by another way, and returns its length.
///
/// # Panics
/// If `into` is shorter than [`switch_len`].
pub fn emit_switch(token: &[u8; TOKEN_LEN], into: &mut [u8]) -> usize {
    let mut out = Output::block(LOCAL_BLOCK, &mut into[..SWITCH_LEN]);
    out.bytes(&ENTERPRISE.to_le_bytes());
    out.bytes(&SWITCH_TAG);
    out.bytes(token);
    out.finish()
}

/// Bytes that [`emit_switch`] writes.
pub const fn switch_len() -> usize {
    SWITCH_LEN
}

#[cfg(test)]
mod tests {
    use super::super::{Interface, LinkType, Packet, Read, Reader};
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    /// A stream with a rendezvous, a packet and a switch; what follows the switch is not a capture.
    fn stream(token: &[u8; TOKEN_LEN], path: &[u8]) -> Vec<u8> {
        let mut stream = vec![0; 1024];
        let mut len = Rendezvous { token, path }.emit_section(&mut stream);
        let interface = Interface {
            link_type: LinkType::ETHERNET,
            name: "right",
        };
        len += interface.emit(&mut stream[len..]);
        let packet = Packet {
            data: b"frame",
            original_len: 5,
            ..Packet::default()
        };
        len += packet.emit(&mut stream[len..]);
        len += emit_switch(token, &mut stream[len..]);
        stream.truncate(len);
        stream
    }

    proptest! {
        #[test]
        fn a_stage_is_told_of_rendezvous_and_switch_and_stops_there(
            token in any::<[u8; TOKEN_LEN]>(),
            path in proptest::collection::vec(any::<u8>(), 0..=MAX_PATH_LEN),
        ) {
            let mut stream = stream(&token, &path);
            stream.extend(b"rest");
            let mut input = &stream[..];
            let mut reader = Reader::for_stage();
            let met = Rendezvous { token: &token, path: &path };
            prop_assert_eq!(reader.read(&mut input), Ok(Read::Control(Control::Section(Some(met)))));
            prop_assert!(matches!(reader.read(&mut input), Ok(Read::Packet(p)) if p.data == b"frame"));
            prop_assert_eq!(reader.read(&mut input), Ok(Read::Control(Control::Switch(&token))));
            prop_assert_eq!(input, b"rest");
        }
    }

    #[test]
    fn another_reader_sees_packets_only() {
        let stream = stream(&[7; TOKEN_LEN], b"/run/somewhere");
        let mut input = &stream[..];
        let mut reader = Reader::new();
        assert!(matches!(reader.read(&mut input), Ok(Read::Packet(_))));
        assert!(matches!(reader.read(&mut input), Ok(Read::NeedBytes(_))));
        assert!(reader.finish(input).is_ok());
    }

    #[test]
    fn a_section_of_another_writer_names_no_rendezvous() {
        let mut plain = [0; SECTION_LEN];
        super::super::emit_section(&mut plain);
        let mut foreign = stream(&[7; TOKEN_LEN], b"/run/somewhere");
        // Another enterprise.
        foreign[SECTION_LEN] ^= 1;
        for stream in [&plain[..], &foreign] {
            let read = Reader::for_stage().read(&mut &stream[..]);
            assert_eq!(read, Ok(Read::Control(Control::Section(None))));
        }
    }
}
