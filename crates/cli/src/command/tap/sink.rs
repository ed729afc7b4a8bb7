//! Where slices of packets go: to the next stage, or into files.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use plumb_ebpf::tap::{Hook, Packet};
use plumb_link::Clock;
use plumb_link::stage::{Link, LinkFrame, PipeLink, Sent};
use plumb_nf::{Frame, Output, complete_checksum, segment};
use plumb_wire::frame::Offload;
use plumb_wire::pcapng::{self, Direction, LinkType, MAX_INTERFACES, SECTION_LEN, emit_section};

/// Somebody who takes frames.
#[derive(Debug)]
pub(super) enum Taker {
    /// The next stage, or whoever reads the pipe.
    Pipe(Box<PipeLink>),
    /// Files.
    Files(Files),
}

/// What a session has of an interface.
#[derive(Clone, Debug)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) is_port: bool,
    /// Its number in the capture.
    number: Option<u32>,
}

/// Makes frames of what the kernel has copied.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) taker: Taker,
    ports: BTreeMap<u32, Port>,
    clock: Clock,
    snaplen: u32,
    keep_offload: bool,
    drop: bool,
    /// What the pipe did not take.
    waiting: VecDeque<LinkFrame>,
    spare: Vec<LinkFrame>,
    scratch: Output,
    pieces: Vec<Frame>,
    pub(super) written: u64,
    pub(super) dropped: u64,
}

impl Sink {
    pub(super) fn new(taker: Taker, clock: Clock, keep_offload: bool, drop: bool) -> Self {
        Self {
            taker,
            ports: BTreeMap::new(),
            clock,
            snaplen: 0,
            keep_offload,
            drop,
            waiting: VecDeque::new(),
            spare: Vec::new(),
            scratch: Output::default(),
            pieces: Vec::new(),
            written: 0,
            dropped: 0,
        }
    }

    /// Wall time is that of another reading from now on.
    pub(super) const fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
    }

    pub(super) const fn set_snaplen(&mut self, snaplen: u32) {
        self.snaplen = snaplen;
    }

    /// Tells of an interface.
    pub(super) fn port(&mut self, index: u32, name: &str, is_port: bool) {
        let number = self
            .ports
            .get(&index)
            .filter(|port| port.name == name)
            .and_then(|port| port.number);
        let port = Port {
            name: name.to_owned(),
            is_port,
            number,
        };
        self.ports.insert(index, port);
    }

    /// Whether a frame would be taken.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes a packet; says whether another would find room.
    pub(super) fn packet(&mut self, packet: &Packet<'_>) -> io::Result<bool> {
        let mut frame = self.spare.pop().unwrap_or_default();
        frame.clear();
        let (len, offload) = packet.frame(self.snaplen, &mut frame.bytes);
        let receives = packet.hook == Hook::Ingress;
        let mut direction = receives;
        if let Some(port) = self.ports.get_mut(&packet.interface) {
            direction = receives != port.is_port;
            frame.interface = match port.number {
                Some(number) => number,
                None => {
                    let number = match &mut self.taker {
                        Taker::Pipe(pipe) => pipe.add_interface(&port.name),
                        Taker::Files(files) => files.add_interface(&port.name)?,
                    };
                    port.number = Some(number);
                    number
                }
            };
        }
        frame.meta.direction = if direction {
            Direction::Inbound
        } else {
            Direction::Outbound
        };
        frame.meta.at_ns = self.clock.wall_ns(packet.at);
        let is_cut = len as usize > frame.bytes.len();
        if is_cut {
            frame.original_len = len;
        }
        let takes_offload = self.keep_offload
            || match &self.taker {
                Taker::Pipe(pipe) => pipe.takes_offload(),
                Taker::Files(_) => false,
            };
        if is_cut && !self.keep_offload {
            self.describe(packet, &mut frame);
        } else {
            frame.meta.offload = offload;
        }
        if takes_offload || frame.meta.offload.is_complete() {
            self.send(frame)?;
        } else {
            self.finish(frame)?;
        }
        Ok(self.waiting.is_empty())
    }

    /// What is left to do with a slice cannot be done any more; so it is said.
    fn describe(&self, packet: &Packet<'_>, frame: &mut LinkFrame) {
        use core::fmt::Write as _;
        if packet.segments > 1 {
            let size = packet.offload.gso.map_or(0, |gso| gso.size);
            let _ = write!(
                frame.comment,
                "{} packets of {size} bytes of payload",
                packet.segments
            );
        }
        frame.meta.offload = Offload::NONE;
    }

    /// Cuts a large frame and completes checksums.
    fn finish(&mut self, mut frame: LinkFrame) -> io::Result<()> {
        let mut whole = self.scratch.empty();
        core::mem::swap(&mut whole.bytes, &mut frame.bytes);
        whole.offload = frame.meta.offload;
        let mut pieces = core::mem::take(&mut self.pieces);
        if whole.offload.gso.is_some() {
            segment(whole, &mut self.scratch, &mut pieces);
        } else if complete_checksum(&mut whole) {
            pieces.push(whole);
        }
        if pieces.is_empty() {
            self.dropped += 1;
        }
        for piece in pieces.drain(..) {
            let mut next = self.spare.pop().unwrap_or_default();
            next.clear();
            next.meta = frame.meta;
            next.meta.offload = Offload::NONE;
            next.interface = frame.interface;
            next.bytes.extend_from_slice(&piece.bytes);
            self.scratch.recycle(piece);
            self.send(next)?;
        }
        self.pieces = pieces;
        self.recycle(frame);
        Ok(())
    }

    fn recycle(&mut self, frame: LinkFrame) {
        if self.spare.len() < 1024 {
            self.spare.push(frame);
        }
    }

    fn send(&mut self, frame: LinkFrame) -> io::Result<()> {
        if !self.waiting.is_empty() {
            self.waiting.push_back(frame);
            return Ok(());
        }
        match self.offer(&frame)? {
            Sent::Full if self.drop => self.dropped += 1,
            Sent::Full => {
                self.waiting.push_back(frame);
                return Ok(());
            }
            Sent::Taken => self.written += 1,
            Sent::NoWay | Sent::Refused | Sent::Closed => self.dropped += 1,
        }
        self.recycle(frame);
        Ok(())
    }

    fn offer(&mut self, frame: &LinkFrame) -> io::Result<Sent> {
        match &mut self.taker {
            Taker::Pipe(pipe) => pipe.send(frame.into()).map_err(io::Error::other),
            Taker::Files(files) => files.write(frame).map(|()| Sent::Taken),
        }
    }

    /// Sends what waited.
    pub(super) fn retry(&mut self) -> io::Result<()> {
        while let Some(frame) = self.waiting.pop_front() {
            match self.offer(&frame)? {
                Sent::Full => {
                    self.waiting.push_front(frame);
                    return Ok(());
                }
                Sent::Taken => self.written += 1,
                Sent::NoWay | Sent::Refused | Sent::Closed => self.dropped += 1,
            }
            self.recycle(frame);
        }
        Ok(())
    }

    /// Lets the reader have what was written.
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        match &mut self.taker {
            Taker::Pipe(pipe) => pipe.flush()?,
            Taker::Files(files) => files.out.flush()?,
        }
        Ok(())
    }

    pub(super) fn is_flushed(&self) -> bool {
        self.waiting.is_empty()
            && match &self.taker {
                Taker::Pipe(pipe) => pipe.is_flushed(),
                Taker::Files(_) => true,
            }
    }

    pub(super) fn is_closed(&self) -> bool {
        match &self.taker {
            Taker::Pipe(pipe) => pipe.is_closed(),
            Taker::Files(_) => false,
        }
    }
}

/// Captures that follow each other.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    most_bytes: Option<u64>,
    keep: Option<u64>,
    number: u64,
    bytes: u64,
    interfaces: Vec<String>,
    out: BufWriter<File>,
    block: Vec<u8>,
}

impl Files {
    /// Begins the first.
    pub(super) fn create(
        path: &Path,
        most_bytes: Option<u64>,
        keep: Option<u64>,
    ) -> anyhow::Result<Self> {
        let file = File::create(path)
            .with_context(|| format!("cannot write packets to {}", path.display()))?;
        let mut files = Self {
            path: path.to_owned(),
            most_bytes,
            keep,
            number: 0,
            bytes: 0,
            interfaces: Vec::new(),
            out: BufWriter::with_capacity(1 << 18, file),
            block: Vec::new(),
        };
        files.begin()?;
        Ok(files)
    }

    /// The file of this number: the first has the name that was given.
    fn path_of(&self, number: u64) -> PathBuf {
        if number == 0 {
            return self.path.clone();
        }
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    fn begin(&mut self) -> io::Result<()> {
        self.bytes = 0;
        self.emit(SECTION_LEN, emit_section)?;
        for name in core::mem::take(&mut self.interfaces) {
            self.add_interface(&name)?;
        }
        Ok(())
    }

    fn emit(&mut self, len: usize, emit: impl FnOnce(&mut [u8]) -> usize) -> io::Result<()> {
        self.block.resize(len, 0);
        let written = emit(&mut self.block);
        self.bytes += written as u64;
        self.out.write_all(&self.block[..written])
    }

    fn add_interface(&mut self, name: &str) -> io::Result<u32> {
        if self.interfaces.len() < MAX_INTERFACES {
            let interface = pcapng::Interface {
                link_type: LinkType::ETHERNET,
                name,
            };
            self.emit(interface.block_len(), |into| interface.emit(into))?;
            self.interfaces.push(name.to_owned());
        }
        Ok(u32::try_from(self.interfaces.len() - 1).unwrap_or(0))
    }

    fn write(&mut self, frame: &LinkFrame) -> io::Result<()> {
        if self.most_bytes.is_some_and(|most| self.bytes >= most) {
            self.rotate()?;
        }
        let packet = pcapng::Packet {
            interface: frame.interface,
            at_ns: frame.meta.at_ns,
            direction: frame.meta.direction,
            original_len: frame.original_len,
            data: &frame.bytes,
            comment: (!frame.comment.is_empty()).then_some(&frame.comment),
            offload: frame.meta.offload,
        };
        self.emit(packet.block_len(), |into| packet.emit(into))
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.out.flush()?;
        self.number += 1;
        let file = File::create(self.path_of(self.number))?;
        self.out = BufWriter::with_capacity(1 << 18, file);
        if let Some(keep) = self.keep
            && self.number >= keep
        {
            // Somebody may have taken it away already.
            let _ = fs::remove_file(self.path_of(self.number - keep));
        }
        self.begin()
    }
}
