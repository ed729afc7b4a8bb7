//! Captures as streams: frames from standard input, frames to standard output.

use std::io::{self, Write};

use plumb_nf::{Frame, Port};
use plumb_wire::capture::Reader;
use plumb_wire::pcapng::{
    Direction, Interface, LinkType, MAX_BLOCK_LEN, Packet, Read, SECTION_LEN, emit_section,
};
use plumb_wire::{Instant, Malformed};

use crate::exit::Failure;

/// Bytes that are read at once.
const PIECE: usize = 1 << 18;

/// Takes frames out of a capture of either format.
#[derive(Debug)]
pub(super) struct Source<R> {
    from: R,
    reader: Reader,
    buffer: Vec<u8>,
    /// The unread part of `buffer`.
    start: usize,
    end: usize,
    /// Frames so far; errors name the one behind them.
    frames: u64,
}

/// What [`Source::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A frame that arrived at a port, in the frame that was given.
    Frame(Port),
    /// Nothing until more is read, which may take time.
    Starved,
}

impl<R: io::Read> Source<R> {
    pub(super) fn new(from: R) -> Self {
        Self {
            from,
            reader: Reader::new(),
            buffer: vec![0; PIECE],
            start: 0,
            end: 0,
            frames: 0,
        }
    }

    /// Takes the next frame of what has been read into `into`.
    pub(super) fn next(&mut self, into: &mut Frame) -> anyhow::Result<Next> {
        loop {
            let mut input = &self.buffer[self.start..self.end];
            let found = self.reader.read(&mut input);
            let rest = input.len();
            let packet = match found.map_err(|error| damaged(&error, self.frames))? {
                Read::Packet(packet) => packet,
                // Nobody is beside us with whom anything could have been agreed on.
                Read::Control(_) => {
                    self.start = self.end - rest;
                    continue;
                }
                Read::NeedBytes(need) => {
                    self.start = self.end - rest;
                    self.make_room(need);
                    return Ok(Next::Starved);
                }
            };
            self.frames += 1;
            let link_type = self.reader.link_type(packet.interface);
            if link_type != Some(LinkType::ETHERNET) {
                return Err(not_ethernet(link_type, self.reader.name(packet.interface)));
            }
            let port = arrival(self.reader.name(packet.interface), packet.direction);
            if port.is_some() {
                take(&packet, into);
            }
            self.start = self.end - rest;
            if let Some(port) = port {
                return Ok(Next::Frame(port));
            }
        }
    }

    /// Reads what there is, at least one byte; false at the end of input.
    pub(super) fn fill(&mut self) -> anyhow::Result<bool> {
        let read = loop {
            match self.from.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.end += read;
        if read == 0 {
            let rest = &self.buffer[self.start..self.end];
            if self.reader.finish(rest).is_err() {
                return Err(cut_off(rest.is_empty(), self.frames));
            }
        }
        Ok(read > 0)
    }

    fn make_room(&mut self, need: usize) {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        // The reader never needs more than a block; room for a piece behind it keeps reads large.
        let len = need.clamp(self.end, MAX_BLOCK_LEN).max(self.end) + PIECE;
        if self.buffer.len() < len {
            self.buffer.resize(len, 0);
        }
    }
}

/// The port at which a captured frame arrived.
///
/// A stream on standard input comes from the left, whatever its interfaces are called: "right" and
/// outbound is what the stage before has sent this way. Only a frame that *arrived* at an
/// interface "right" came from the right, as in a capture of both sides of a stage. What a stage
/// sent out on its left is nothing to whoever stands on its right.
fn arrival(name: &str, direction: Direction) -> Option<Port> {
    match (name, direction) {
        ("right", Direction::Inbound | Direction::Unknown) => Some(Port::Right),
        ("left", Direction::Outbound) => None,
        _ => Some(Port::Left),
    }
}

fn take(packet: &Packet<'_>, into: &mut Frame) {
    into.clear();
    into.at = Instant::from_nanos(packet.at_ns);
    into.offload = packet.offload;
    let len = u32::try_from(packet.data.len()).unwrap_or(u32::MAX);
    if packet.original_len > len {
        into.original_len = packet.original_len;
    }
    into.comment.push_str(packet.comment.unwrap_or_default());
    into.bytes.extend_from_slice(packet.data);
}

fn damaged(error: &Malformed, frames: u64) -> anyhow::Error {
    let message = if frames == 0 {
        format!("standard input: {error}; expected is pcapng or pcap, as `tcpdump -w -` writes")
    } else {
        format!("standard input, behind packet {frames}: {error}")
    };
    Failure::usage(message).into()
}

fn cut_off(empty: bool, frames: u64) -> anyhow::Error {
    let message = if empty && frames == 0 {
        "standard input is empty: not even the header of a capture came".to_owned()
    } else {
        format!("standard input ends within a block, behind packet {frames}; it was cut off")
    };
    Failure::usage(message).into()
}

fn not_ethernet(link_type: Option<LinkType>, name: &str) -> anyhow::Error {
    let number = link_type.map_or(0, |link_type| link_type.0);
    let known = match number {
        0 => " (BSD loopback)",
        101 | 12 | 14 => " (raw IP)",
        105 | 127 => " (802.11)",
        113 | 276 => " (Linux \"any\" capture)",
        _ => "",
    };
    let of = if name.is_empty() {
        String::new()
    } else {
        format!(" of interface {name:?}")
    };
    Failure::usage(format!(
        "standard input: link type {number}{known}{of}, but a stage takes Ethernet (1); \
         capture on an Ethernet interface"
    ))
    .into()
}

/// Writes frames as a pcapng capture with an interface for each port.
#[derive(Debug)]
pub(super) struct Sink<W> {
    into: W,
    /// What is not written yet: whole blocks.
    buffer: Vec<u8>,
    /// Bytes that are written.
    written: u64,
    failed: bool,
}

impl<W: Write> Sink<W> {
    /// Bytes that are written at once: a pipe takes no more.
    const PIECE: usize = 1 << 16;

    pub(super) fn new(into: W) -> Self {
        let interfaces = [Port::Left, Port::Right].map(|port| Interface {
            link_type: LinkType::ETHERNET,
            name: port.name(),
        });
        let mut buffer = vec![0; SECTION_LEN];
        emit_section(&mut buffer);
        for interface in &interfaces {
            let at = buffer.len();
            buffer.resize(at + interface.block_len(), 0);
            interface.emit(&mut buffer[at..]);
        }
        Self {
            into,
            buffer,
            written: 0,
            failed: false,
        }
    }

    /// Bytes that there will be with one more frame.
    pub(super) fn len_with(&self, port: Port, frame: &Frame) -> u64 {
        self.written + (self.buffer.len() + block(port, frame).block_len()) as u64
    }

    /// Writes a frame that leaves by `port`.
    pub(super) fn frame(&mut self, port: Port, frame: &Frame) -> io::Result<()> {
        let packet = block(port, frame);
        let (at, len) = (self.buffer.len(), packet.block_len());
        if at > 0 && at + len > Self::PIECE {
            self.flush()?;
        }
        let at = self.buffer.len();
        self.buffer.resize(at + len, 0);
        packet.emit(&mut self.buffer[at..]);
        Ok(())
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        if !self.failed && !self.buffer.is_empty() {
            self.failed = true;
            self.into.write_all(&self.buffer)?;
            self.into.flush()?;
            self.failed = false;
            self.written += self.buffer.len() as u64;
        }
        self.buffer.clear();
        Ok(())
    }
}

fn block(port: Port, frame: &Frame) -> Packet<'_> {
    Packet {
        interface: match port {
            Port::Left => 0,
            Port::Right => 1,
        },
        at_ns: frame.at.as_nanos(),
        direction: Direction::Outbound,
        original_len: frame.original_len,
        data: &frame.bytes,
        comment: (!frame.comment.is_empty()).then_some(&frame.comment[..]),
        offload: frame.offload,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> anyhow::Result<Vec<(Port, Frame)>> {
        let mut source = Source::new(bytes);
        let mut found = Vec::new();
        let mut frame = Frame::default();
        loop {
            match source.next(&mut frame)? {
                Next::Frame(port) => found.push((port, frame.clone())),
                Next::Starved => {
                    if !source.fill()? {
                        return Ok(found);
                    }
                }
            }
        }
    }

    #[test]
    fn what_a_stage_sends_right_comes_from_the_left_of_the_next() {
        let mut bytes = Vec::new();
        let mut sink = Sink::new(&mut bytes);
        let mut frame = Frame::new(Instant::from_nanos(7), &[1; 60]);
        frame.original_len = 1500;
        frame.comment.push_str("seen");
        frame.offload.checksum_verified = true;
        sink.frame(Port::Right, &frame).unwrap();
        sink.frame(Port::Left, &Frame::new(Instant::ZERO, &[2; 60]))
            .unwrap();
        for _ in 0..2000 {
            sink.frame(Port::Right, &Frame::new(Instant::ZERO, &[3; 300]))
                .unwrap();
        }
        sink.flush().unwrap();
        let found = all(&bytes).unwrap();
        assert_eq!(found.len(), 2001);
        assert_eq!(found[0], (Port::Left, frame));
    }

    #[test]
    fn only_what_arrived_at_an_interface_right_is_from_the_right() {
        use Direction::{Inbound, Outbound, Unknown};
        for (name, direction, port) in [
            ("right", Inbound, Some(Port::Right)),
            ("right", Unknown, Some(Port::Right)),
            ("right", Outbound, Some(Port::Left)),
            ("left", Inbound, Some(Port::Left)),
            ("left", Outbound, None),
            ("eth0", Outbound, Some(Port::Left)),
            ("", Unknown, Some(Port::Left)),
        ] {
            assert_eq!(arrival(name, direction), port, "{name} {direction:?}");
        }
    }

    #[test]
    fn a_wrong_link_type_and_a_cut_stream_are_refused() {
        let mut head = vec![0; SECTION_LEN];
        emit_section(&mut head);
        let raw = Interface {
            link_type: LinkType::RAW,
            name: "tun0",
        };
        let packet = Packet {
            data: &[0x45; 40],
            ..Packet::default()
        };
        for (len, emit) in [
            (
                raw.block_len(),
                &(|into: &mut [u8]| raw.emit(into)) as &dyn Fn(&mut [u8]) -> usize,
            ),
            (packet.block_len(), &|into: &mut [u8]| packet.emit(into)),
        ] {
            let at = head.len();
            head.resize(at + len, 0);
            emit(&mut head[at..]);
        }
        let error = all(&head).unwrap_err().to_string();
        assert!(
            error.contains("link type 101 (raw IP) of interface \"tun0\""),
            "{error}"
        );

        let mut bytes = Vec::new();
        let mut sink = Sink::new(&mut bytes);
        sink.frame(Port::Right, &Frame::new(Instant::ZERO, &[1; 60]))
            .unwrap();
        sink.flush().unwrap();
        let error = all(&bytes[..bytes.len() - 5]).unwrap_err().to_string();
        assert!(error.contains("behind packet 0; it was cut off"), "{error}");
        assert!(all(b"").is_err());
        assert!(all(b"GET / HTTP/1.1\r\n").is_err());
    }
}
