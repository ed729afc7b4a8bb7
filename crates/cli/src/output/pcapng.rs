//! All packets of a run as pcapng.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use plumb_link::{Clock, Observer};
use plumb_wire::Instant;
use plumb_wire::pcapng::{Direction, Interface, LinkType, Packet, SECTION_LEN, emit_section};

/// Writes every packet that is sent or received to a file.
#[derive(Debug)]
pub(crate) struct Capture<W: Write = BufWriter<File>> {
    out: W,
    clock: Clock,
    block: Vec<u8>,
    /// The first error; nothing is written after it.
    failed: Option<io::Error>,
}

impl Capture {
    /// Makes the file.
    pub(crate) fn create(path: &Path, clock: Clock) -> anyhow::Result<Self> {
        let cannot = || format!("cannot write packets to {}", path.display());
        let file = File::create(path).with_context(cannot)?;
        Self::new(BufWriter::with_capacity(1 << 18, file), clock).with_context(cannot)
    }
}

impl<W: Write> Capture<W> {
    fn new(mut out: W, clock: Clock) -> io::Result<Self> {
        let interface = Interface {
            link_type: LinkType::RAW,
            name: "plumb",
        };
        let mut head = vec![0; SECTION_LEN + interface.block_len()];
        let len = emit_section(&mut head);
        interface.emit(&mut head[len..]);
        out.write_all(&head)?;
        Ok(Self {
            out,
            clock,
            block: Vec::new(),
            failed: None,
        })
    }

    /// Writes what is buffered, and returns the first error there was.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        match self.failed.take() {
            Some(error) => Err(error),
            None => self.out.flush(),
        }
    }

    fn packet(&mut self, at: Instant, data: &[u8], direction: Direction) {
        if self.failed.is_some() {
            return;
        }
        let packet = Packet {
            at_ns: self.clock.wall_ns(at),
            direction,
            original_len: u32::try_from(data.len()).unwrap_or(u32::MAX),
            data,
            ..Packet::default()
        };
        self.block.resize(packet.block_len(), 0);
        packet.emit(&mut self.block);
        self.failed = self.out.write_all(&self.block).err();
    }
}

impl<W: Write> Observer for Capture<W> {
    fn sent(&mut self, at: Instant, packet: &[u8]) {
        self.packet(at, packet, Direction::Outbound);
    }

    fn received(&mut self, at: Instant, packet: &[u8]) {
        self.packet(at, packet, Direction::Inbound);
    }
}

#[cfg(test)]
mod tests {
    use plumb_wire::pcapng::{Read, Reader};

    use super::*;

    #[test]
    fn what_is_captured_can_be_read_back_with_direction_and_wall_time() {
        let clock = Clock::new();
        let at = clock.now();
        let mut bytes = Vec::new();
        let mut capture = Capture::new(&mut bytes, clock).unwrap();
        capture.sent(at, &[0x45, 1, 2]);
        capture.received(at, &[0x60]);
        capture.finish().unwrap();
        let mut reader = Reader::default();
        let mut input = bytes.as_slice();
        let mut packets = Vec::new();
        while let Read::Packet(packet) = reader.read(&mut input).unwrap() {
            packets.push((packet.direction, packet.at_ns, packet.data.to_vec()));
        }
        let wall = clock.wall_ns(at);
        assert_eq!(
            packets,
            [
                (Direction::Outbound, wall, vec![0x45, 1, 2]),
                (Direction::Inbound, wall, vec![0x60]),
            ]
        );
        assert_eq!(reader.link_type(0), Some(LinkType::RAW));
    }
}
