//! Captures of either format, told apart by their first bytes.

use crate::pcapng::{LinkType, Read};
use crate::{Malformed, pcap, pcapng};

/// Takes packets out of a stream that is pcapng or classic pcap.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    kind: Kind,
    for_stage: bool,
}

#[derive(Clone, Debug, Default)]
#[expect(
    clippy::large_enum_variant,
    reason = "a stream has one of them, and it does not move"
)]
enum Kind {
    /// Too little has come.
    #[default]
    Unknown,
    Pcapng(pcapng::Reader),
    Pcap(pcap::Reader),
}

impl Reader {
    /// A reader at the start of a stream.
    pub const fn new() -> Self {
        Self {
            kind: Kind::Unknown,
            for_stage: false,
        }
    }

    /// A reader that tells of [`pcapng::Control`] messages too.
    pub const fn for_stage() -> Self {
        Self {
            kind: Kind::Unknown,
            for_stage: true,
        }
    }

    /// Reads up to the next packet, and moves the start of `input` over all that was consumed.
    ///
    /// # Errors
    /// If the stream is of neither format, or is damaged.
    pub fn read<'a>(&mut self, input: &mut &'a [u8]) -> Result<Read<'a>, Malformed> {
        if let Kind::Unknown = self.kind {
            let Some(first) = input.first_chunk() else {
                return Ok(Read::NeedBytes(4));
            };
            self.kind = if pcap::is_magic(*first) {
                Kind::Pcap(pcap::Reader::new())
            } else if self.for_stage {
                Kind::Pcapng(pcapng::Reader::for_stage())
            } else {
                Kind::Pcapng(pcapng::Reader::new())
            };
        }
        match &mut self.kind {
            Kind::Pcapng(reader) => reader.read(input),
            Kind::Pcap(reader) => reader.read(input),
            Kind::Unknown => Ok(Read::NeedBytes(4)),
        }
    }

    /// As [`pcapng::Reader::apart`]; classic captures have no such blocks.
    pub fn apart(&self, input: &[u8]) -> Option<pcapng::Apart> {
        match &self.kind {
            Kind::Pcapng(reader) => reader.apart(input),
            Kind::Unknown | Kind::Pcap(_) => None,
        }
    }

    /// Checks that the stream may end with `rest` unread.
    ///
    /// # Errors
    /// If it ends within a packet, or before the first header.
    pub fn finish(&self, rest: &[u8]) -> Result<(), Malformed> {
        match &self.kind {
            Kind::Unknown => Err(Malformed {
                what: "capture",
                need: 4,
                have: rest.len(),
            }),
            Kind::Pcapng(reader) => reader.finish(rest),
            Kind::Pcap(reader) => reader.finish(rest),
        }
    }

    /// What packets of an interface begin with.
    pub fn link_type(&self, interface: u32) -> Option<LinkType> {
        match &self.kind {
            Kind::Unknown => None,
            Kind::Pcapng(reader) => reader.link_type(interface),
            Kind::Pcap(reader) => reader.link_type(),
        }
    }

    /// Name of an interface; empty where the capture gives none.
    pub fn name(&self, interface: u32) -> &str {
        match &self.kind {
            Kind::Pcapng(reader) => reader.name(interface).unwrap_or_default(),
            Kind::Unknown | Kind::Pcap(_) => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_the_formats_apart() {
        let mut ng = [0; pcapng::SECTION_LEN];
        pcapng::emit_section(&mut ng);
        let mut reader = Reader::new();
        assert_eq!(reader.read(&mut &ng[..3]), Ok(Read::NeedBytes(4)));
        reader.read(&mut &ng[..]).unwrap();
        assert!(reader.finish(&[]).is_ok());

        let mut classic = [0; pcap::HEADER_LEN];
        classic[..4].copy_from_slice(&[0xa1, 0xb2, 0x3c, 0x4d]);
        classic[23] = 1;
        let mut reader = Reader::new();
        reader.read(&mut &classic[..]).unwrap();
        assert_eq!(reader.link_type(5), Some(LinkType::ETHERNET));

        assert!(Reader::new().read(&mut &b"GET / HTTP/1.1"[..]).is_err());
    }
}
