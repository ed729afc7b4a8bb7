//! Packets into a stream of bytes.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};

use plumb_wire::pcapng::{
    Direction, Interface, LinkType, MAX_INTERFACES, MAX_PACKET_LEN, Packet, Rendezvous,
    SECTION_LEN, TOKEN_LEN, emit_section, emit_switch, switch_len,
};

use super::body::{Holds, Piped};
use super::pipe::{Identity, Moved, Opening, Pipe};
use super::{LinkError, Outgoing};

/// Bytes that are collected for a call; more at once is slower, as it does not fit a core's cache.
const WRITE_LEN: usize = 64 * 1024;
/// Frames from this length on go from where they are into the pipe: to copy them first would cost more
/// than a call of their own.
const LONG_LEN: usize = 16 * 1024;
/// A pipe that is full after so many bytes is there to stay, and is made larger: the neighbours take
/// turns less often.
const GROW_AFTER: u64 = 256 * 1024;

/// The end of a pipe where packets go in.
#[derive(Debug)]
pub(super) struct Output {
    end: End,
    /// Names of the interfaces of a section.
    interfaces: Vec<String>,
    /// Frames keep the direction that they had where they were captured.
    keeps_direction: bool,
    /// All of it is initialised; it grows, but does not shrink.
    buffer: Vec<u8>,
    /// What of the buffer is in use, and what of that is written.
    filled: usize,
    written: usize,
    /// What lies around a long frame.
    around: Vec<u8>,
    /// A block that comes behind what the buffer has.
    body: Option<Piped>,
    /// What comes behind that block.
    behind: Vec<u8>,
    holds: Holds,
    /// The kernel does not move bytes into this pipe.
    refused: bool,
    /// Bytes since the section began.
    section_len: u64,
    closed: bool,
    grown: bool,
}

#[derive(Debug)]
enum End {
    Open(Pipe),
    /// Nobody reads the named pipe yet.
    Opening(Opening),
}

impl Output {
    /// A stream whose interface has this name; without, it has those that are added, and frames keep
    /// their direction. It must be begun.
    pub(super) fn new(pipe: Pipe, name: Option<&str>) -> Self {
        Self::with(End::Open(pipe), name)
    }

    /// The same into a named pipe as soon as somebody reads it.
    pub(super) fn opening(opening: Opening, name: Option<&str>) -> Self {
        Self::with(End::Opening(opening), name)
    }

    fn with(end: End, name: Option<&str>) -> Self {
        Self {
            end,
            interfaces: name.into_iter().map(str::to_owned).collect(),
            keeps_direction: name.is_none(),
            buffer: Vec::new(),
            filled: 0,
            written: 0,
            around: Vec::new(),
            body: None,
            behind: Vec::new(),
            holds: Holds::default(),
            refused: false,
            section_len: 0,
            closed: false,
            grown: false,
        }
    }

    pub(super) fn identity(&self) -> Option<Identity> {
        match &self.end {
            End::Open(pipe) => pipe.identity(),
            End::Opening(_) => None,
        }
    }

    /// Begins a section, whose writer may be met.
    pub(super) fn begin(&mut self, rendezvous: Option<Rendezvous<'_>>) {
        self.section_len = 0;
        match rendezvous {
            None => self.append(SECTION_LEN, emit_section),
            Some(met) => self.append(met.section_len(), |into| met.emit_section(into)),
        }
        let interfaces = core::mem::take(&mut self.interfaces);
        for name in &interfaces {
            self.describe(name);
        }
        self.interfaces = interfaces;
    }

    /// Adds an interface, in this section too if `here`, and returns its number. Those that no reader
    /// would take any more have the number of the last.
    pub(super) fn add_interface(&mut self, name: &str, here: bool) -> u32 {
        if self.interfaces.len() < MAX_INTERFACES {
            if here {
                self.describe(name);
            }
            self.interfaces.push(name.to_owned());
        }
        u32::try_from(self.interfaces.len() - 1).unwrap_or(0)
    }

    fn describe(&mut self, name: &str) {
        let interface = Interface {
            link_type: LinkType::ETHERNET,
            name,
        };
        self.append(interface.block_len(), |into| interface.emit(into));
    }

    /// Says that what follows goes by the ring that was agreed on. Returns how many bytes of the
    /// section come before.
    pub(super) fn switch(&mut self, token: &[u8; TOKEN_LEN]) -> u64 {
        let before = self.section_len;
        self.append(switch_len(), |into| emit_switch(token, into));
        before
    }

    /// Adds a frame, if there is room for it, and says whether there was.
    pub(super) fn push(&mut self, frame: Outgoing<'_>) -> Result<bool, LinkError> {
        if !self.has_room() {
            self.drain()?;
            if !self.has_room() {
                return Ok(false);
            }
        }
        if frame.bytes.len() < LONG_LEN || !self.write_through(frame)? {
            self.force(frame);
        }
        Ok(true)
    }

    /// Whether frames can leave with bodies that are elsewhere.
    pub(super) fn takes_bodies(&self) -> bool {
        let is_pipe = matches!(&self.end, End::Open(pipe) if pipe.can_splice());
        is_pipe && !self.refused && !self.closed
    }

    /// Adds a frame of which the rest is elsewhere, if there is room for it, and takes that. The frame's
    /// own `original_len` says nothing.
    pub(super) fn push_with_body(
        &mut self,
        frame: Outgoing<'_>,
        body: &mut Option<Piped>,
    ) -> Result<bool, LinkError> {
        self.drain()?;
        if self.backlog() > 0 && !self.closed {
            return Ok(false);
        }
        let Some(body) = body.take() else {
            return Ok(false);
        };
        let original_len = 0;
        let packet = self.packet(Outgoing {
            original_len,
            ..frame
        });
        let around = around(core::mem::take(&mut self.around), &packet, body.len());
        let (before, behind) = around.split_at(Packet::BEFORE_DATA);
        let len = packet.data.len() + body.len() + around.len();
        self.body = self.whole([before, packet.data, behind], body)?;
        if self.body.is_some() {
            self.section_len += len as u64;
        }
        self.around = around;
        self.drain()?;
        Ok(true)
    }

    /// Puts a block together in a pipe of its own, so that its reader is woken once and finds all of it.
    /// Where that is not possible, it is collected like any other.
    fn whole(&mut self, pieces: [&[u8]; 3], mut body: Piped) -> Result<Option<Piped>, LinkError> {
        let [before, data, behind] = pieces;
        let until_behind = before.len() + data.len() + body.len();
        let mut whole = self.holds.begin();
        let mut put_together = || -> io::Result<bool> {
            let Some(block) = &mut whole else {
                return Ok(false);
            };
            Ok(block.write(before)?
                && block.write(data)?
                && block.join(&mut body)?
                && block.write(behind)?)
        };
        if put_together().map_err(|e| LinkError::io("write", "packets", e))? {
            return Ok(whole);
        }
        self.refused |= whole.is_none();
        let mut block = Vec::new();
        match whole {
            Some(whole) => whole.append_to(&mut block)?,
            None => block.extend_from_slice(&[before, data].concat()),
        }
        let of_behind = block.len().saturating_sub(until_behind);
        body.append_to(&mut block)?;
        block.extend_from_slice(&behind[of_behind..]);
        self.append_bytes(&block);
        Ok(None)
    }

    /// Writes a frame behind what was collected, and collects what the pipe does not take of both.
    /// False if this end cannot be written like that.
    fn write_through(&mut self, frame: Outgoing<'_>) -> Result<bool, LinkError> {
        let End::Open(pipe) = &self.end else {
            return Ok(false);
        };
        if self.closed {
            return Ok(false);
        }
        let packet = self.packet(frame);
        let around = around(core::mem::take(&mut self.around), &packet, 0);
        let (before, behind) = around.split_at(Packet::BEFORE_DATA);
        let collected = &self.buffer[self.written..self.filled];
        let pieces = [collected, before, packet.data, behind];
        let moved = pipe
            .write_pieces(&pieces.map(IoSlice::new))
            .map_err(|e| LinkError::io("write", "packets", e))?;
        let mut taken = match moved {
            None => {
                self.around = around;
                return Ok(false);
            }
            Some(Moved::Bytes(len)) => len,
            Some(Moved::Wait) => 0,
            Some(Moved::End) => {
                self.closed = true;
                0
            }
        };
        let of_collected = taken.min(collected.len());
        taken -= of_collected;
        self.written += of_collected;
        self.compact();
        // What follows of the frame is counted where it is collected.
        self.section_len += taken as u64;
        for piece in [before, packet.data, behind] {
            let rest = &piece[taken.min(piece.len())..];
            taken -= piece.len() - rest.len();
            self.append_bytes(rest);
        }
        self.around = around;
        Ok(true)
    }

    /// Adds a frame, room or not.
    pub(super) fn force(&mut self, frame: Outgoing<'_>) {
        let packet = self.packet(frame);
        self.append(packet.block_len(), |into| packet.emit(into));
    }

    /// A frame as the stream has it.
    fn packet<'a>(&self, frame: Outgoing<'a>) -> Packet<'a> {
        let data = &frame.bytes[..frame.bytes.len().min(MAX_PACKET_LEN)];
        Packet {
            interface: frame.interface,
            at_ns: frame.meta.at_ns,
            direction: if self.keeps_direction {
                frame.meta.direction
            } else {
                // Whatever it was where it came from, here it goes out.
                Direction::Outbound
            },
            original_len: frame.original_len,
            data,
            comment: (!frame.comment.is_empty()).then_some(frame.comment),
            offload: frame.meta.offload,
        }
    }

    /// Writes what is there, as far as that goes without waiting.
    pub(super) fn drain(&mut self) -> Result<(), LinkError> {
        let failed = |e| LinkError::io("write", "packets", e);
        if let End::Opening(opening) = &self.end {
            match opening.try_open().map_err(failed)? {
                Some(pipe) => self.end = End::Open(pipe),
                None => return Ok(()),
            }
        }
        let End::Open(pipe) = &self.end else {
            return Ok(());
        };
        while !self.closed {
            let collected = &self.buffer[self.written..self.filled];
            let moved = match &mut self.body {
                _ if !collected.is_empty() => {
                    let moved = pipe.write(&collected[..collected.len().min(WRITE_LEN)]);
                    if let Ok(Moved::Bytes(len)) = moved {
                        self.written += len;
                    }
                    moved
                }
                Some(body) => {
                    let moved = body.give(pipe);
                    if moved.is_err() {
                        // It is copied, as those will be that come later.
                        self.refused = true;
                        (self.written, self.filled) = (0, body.len());
                        self.buffer.resize(self.filled.max(self.buffer.len()), 0);
                        body.read(&mut self.buffer[..self.filled]).map_err(failed)?;
                    } else if body.is_empty() {
                        self.body = None;
                        (self.written, self.filled) = (0, self.behind.len());
                        self.buffer.resize(self.filled.max(self.buffer.len()), 0);
                        self.buffer[..self.filled].copy_from_slice(&self.behind);
                        self.behind.clear();
                    }
                    moved.or(Ok(Moved::Bytes(0)))
                }
                None => break,
            };
            match moved.map_err(failed)? {
                Moved::Bytes(_) => {}
                Moved::Wait if self.section_len >= GROW_AFTER && !self.grown => {
                    pipe.grow();
                    self.grown = true;
                }
                Moved::Wait => break,
                Moved::End => self.closed = true,
            }
        }
        self.compact();
        Ok(())
    }

    /// Makes room where enough was written.
    fn compact(&mut self) {
        if self.written == self.filled || self.written >= WRITE_LEN {
            self.buffer.copy_within(self.written..self.filled, 0);
            (self.filled, self.written) = (self.filled - self.written, 0);
        }
    }

    /// Whether a frame would be taken.
    pub(super) fn has_room(&self) -> bool {
        self.backlog() < WRITE_LEN && self.body.is_none() || self.closed
    }

    /// Bytes that are not yet written.
    pub(super) fn backlog(&self) -> usize {
        let body_len = self.body.as_ref().map_or(0, Piped::len);
        self.filled - self.written + body_len + self.behind.len()
    }

    /// Nobody reads any more.
    pub(super) const fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) const fn close(&mut self) {
        self.closed = true;
    }

    /// The descriptor, once it is open.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.end {
            End::Open(pipe) => Some(pipe.as_fd()),
            End::Opening(_) => None,
        }
    }

    /// Adds bytes behind all that is to be written.
    fn append(&mut self, len: usize, emit: impl FnOnce(&mut [u8]) -> usize) {
        let written = if self.body.is_some() {
            let at = self.behind.len();
            self.behind.resize(at + len, 0);
            let written = emit(&mut self.behind[at..]);
            self.behind.truncate(at + written);
            written
        } else {
            let at = self.filled;
            if self.buffer.len() < at + len {
                let len = (at + len).max(2 * WRITE_LEN);
                if at == 0 {
                    // Pages that the kernel has cleared and nothing has touched: with a ring, few
                    // ever are.
                    self.buffer = vec![0; len];
                } else {
                    self.buffer.resize(len, 0);
                }
            }
            let written = emit(&mut self.buffer[at..at + len]);
            self.filled = at + written;
            written
        };
        self.section_len += written as u64;
    }

    fn append_bytes(&mut self, bytes: &[u8]) {
        self.append(bytes.len(), |into| {
            into.copy_from_slice(bytes);
            bytes.len()
        });
    }
}

/// What lies around a packet that has `rest` bytes more than are here, in place of what is in the buffer.
fn around(mut buffer: Vec<u8>, packet: &Packet<'_>, rest: usize) -> Vec<u8> {
    buffer.clear();
    buffer.resize(packet.around_len(rest), 0);
    packet.emit_around(rest, &mut buffer);
    buffer
}

#[cfg(test)]
mod tests {
    use plumb_wire::capture::Reader;
    use plumb_wire::pcapng::Read;
    use proptest::prelude::*;

    use super::super::Meta;
    use super::*;

    fn outgoing(bytes: &[u8], at_ns: u64) -> Outgoing<'_> {
        Outgoing {
            meta: Meta {
                at_ns,
                ..Meta::default()
            },
            interface: 0,
            original_len: 0,
            comment: "",
            bytes,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Long frames, short ones and what is left over of both keep their order, whatever the pipe
        /// has room for when they come.
        #[test]
        fn frames_of_all_lengths_leave_whole_and_in_order(
            frames in proptest::collection::vec((0..70_000usize, 0..90_000usize, 0..70_000usize), 1..40),
        ) {
            let (from, to) = rustix::pipe::pipe().unwrap();
            let from = Pipe::new(from).unwrap();
            let mut output = Output::new(Pipe::new(to).unwrap(), Some("eth0"));
            output.begin(None);
            let (mut stream, mut piece) = (Vec::new(), vec![0; 1 << 17]);
            let mut read = |most: usize| {
                let moved = from.read(&mut piece[..most]).unwrap();
                if let Moved::Bytes(len) = moved {
                    stream.extend_from_slice(&piece[..len]);
                }
            };
            let made: Vec<Vec<u8>> = (0..)
                .zip(&frames)
                .map(|(at, (len, ..))| (0..=u8::MAX).map(|n| n ^ at).cycle().take(*len).collect())
                .collect();
            for (at, (frame, (_, most, first))) in (1..).zip(made.iter().zip(&frames)) {
                // The half of them have most of it elsewhere.
                if at % 2 == 0 && frame.len() > *first {
                    let (head, rest) = frame.split_at(*first);
                    let mut body = Some(Piped::of(rest));
                    while !output.push_with_body(outgoing(head, at), &mut body).unwrap() {
                        read((*most).max(1));
                    }
                    prop_assert!(body.is_none());
                    continue;
                }
                while !output.push(outgoing(frame, at)).unwrap() {
                    read((*most).max(1));
                }
            }
            while output.backlog() > 0 {
                read(1 << 17);
                output.drain().unwrap();
            }
            for _ in 0..32 {
                read(1 << 17);
            }
            prop_assert_eq!(stream.len() as u64, output.section_len);
            let (mut reader, mut rest) = (Reader::for_stage(), &stream[..]);
            let mut found = Vec::new();
            loop {
                match reader.read(&mut rest).unwrap() {
                    Read::Packet(packet) => found.push((packet.at_ns, packet.data.to_vec())),
                    Read::Control(_) => {}
                    Read::NeedBytes(_) => break,
                }
            }
            prop_assert!(rest.is_empty());
            prop_assert_eq!(found, (1..).zip(made).collect::<Vec<_>>());
        }
    }

    /// With the block around it, a body may be in more pieces than a pipe has room for.
    #[test]
    fn a_body_in_any_number_of_pieces_leaves_whole() {
        for count in 1..=32 {
            let (from, to) = rustix::pipe::pipe().unwrap();
            let mut output = Output::new(Pipe::new(to).unwrap(), Some("eth0"));
            let mut body = Holds::default().begin().unwrap();
            for _ in 0..count {
                assert!(body.join(&mut Piped::of(&[7; 1000])).unwrap());
            }
            let mut body = Some(body);
            let taken = output.push_with_body(outgoing(&[6; 2048], 1), &mut body);
            assert!(taken.unwrap() && body.is_none());
            let mut stream = vec![0; 1 << 17];
            let mut len = 0;
            while output.backlog() > 0 || len == 0 {
                output.drain().unwrap();
                len += rustix::io::read(&from, &mut stream[len..]).unwrap();
            }
            let (before, frame) = stream[..len].split_at(Packet::BEFORE_DATA);
            assert_eq!(before[..4], [6, 0, 0, 0]);
            assert_eq!(frame[..2048], [6; 2048]);
            assert_eq!(frame[2048..][..count * 1000], vec![7; count * 1000]);
            assert_eq!(frame[frame.len() - 4..], before[4..8]);
        }
    }

    #[test]
    fn a_long_frame_that_nobody_reads_ends_the_stream() {
        let (from, to) = rustix::pipe::pipe().unwrap();
        let mut output = Output::new(Pipe::new(to).unwrap(), Some("eth0"));
        output.begin(None);
        drop(from);
        assert!(output.push(outgoing(&[1; 20_000], 1)).unwrap());
        assert!(output.is_closed());
        assert!(output.push(outgoing(&[1; 20_000], 2)).unwrap());
    }
}
