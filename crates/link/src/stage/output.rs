//! Packets into a stream of bytes.

use std::os::fd::{AsFd, BorrowedFd};

use plumb_wire::pcapng::{
    Direction, Interface, LinkType, MAX_INTERFACES, MAX_PACKET_LEN, Packet, Rendezvous,
    SECTION_LEN, TOKEN_LEN, emit_section, emit_switch, switch_len,
};

use super::pipe::{Identity, Moved, Opening, Pipe};
use super::{LinkError, Outgoing};

/// Bytes that are collected for a call; more at once is slower, as it does not fit a core's cache.
const WRITE_LEN: usize = 64 * 1024;
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
        self.force(frame);
        Ok(true)
    }

    /// Adds a frame, room or not.
    pub(super) fn force(&mut self, frame: Outgoing<'_>) {
        let data = &frame.bytes[..frame.bytes.len().min(MAX_PACKET_LEN)];
        let packet = Packet {
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
        };
        self.append(packet.block_len(), |into| packet.emit(into));
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
        while self.written < self.filled && !self.closed {
            let bytes = &self.buffer[self.written..self.filled];
            match pipe
                .write(&bytes[..bytes.len().min(WRITE_LEN)])
                .map_err(failed)?
            {
                Moved::Bytes(len) => self.written += len,
                Moved::Wait if self.section_len >= GROW_AFTER && !self.grown => {
                    pipe.grow();
                    self.grown = true;
                }
                Moved::Wait => break,
                Moved::End => self.closed = true,
            }
        }
        if self.written == self.filled || self.written >= WRITE_LEN {
            self.buffer.copy_within(self.written..self.filled, 0);
            (self.filled, self.written) = (self.filled - self.written, 0);
        }
        Ok(())
    }

    /// Whether a frame would be taken.
    pub(super) fn has_room(&self) -> bool {
        self.backlog() < WRITE_LEN || self.closed
    }

    /// Bytes that are not yet written.
    pub(super) fn backlog(&self) -> usize {
        self.filled - self.written
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

    fn append(&mut self, len: usize, emit: impl FnOnce(&mut [u8]) -> usize) {
        let at = self.filled;
        if self.buffer.len() < at + len {
            self.buffer.resize((at + len).max(2 * WRITE_LEN), 0);
        }
        let written = emit(&mut self.buffer[at..at + len]);
        self.filled = at + written;
        self.section_len += written as u64;
    }
}
