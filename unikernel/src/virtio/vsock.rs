//! One stream to the host over a socket device (virtio 1.2 §5.10).

mod header;

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use header::{End, Header, Operation};

use super::queue::{Direction, Queue};
use super::transport::{Device, Error, Transport, feature};
use crate::platform::Stream;

const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
/// Nothing that comes there matters to a machine that is never moved, but Firecracker does not
/// begin before all queues are there.
const EVENT: u16 = 2;

const RECEIVE_BUFFERS: u16 = 16;
const TRANSMIT_BUFFERS: u16 = 16;
const EVENT_BUFFERS: u16 = 2;
const BUFFER: usize = 4096;
const EVENT_BUFFER: usize = 64;

/// The host's number.
const HOST: u64 = 2;
/// Our port. There is one connection in a machine's life.
const OWN_PORT: u32 = 1024;
/// Bytes that may be under way to us: less than the buffers hold, for those that are not full.
const ROOM: u32 = 32 << 10;
/// Bytes that are read before the host is told, if nothing else is to be said to it.
const UPDATE_EVERY: u32 = ROOM / 4;

/// In a shutdown: the sender takes nothing more.
const TAKES_NO_MORE: u32 = 1;

/// Where the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Asked for.
    Connecting,
    Open,
    /// The host refused it, ended it, or takes nothing more. What came before can be read.
    Closed,
}

/// A buffer of which a part was filled or read.
#[derive(Clone, Copy, Debug)]
struct Part {
    buffer: u16,
    from: usize,
    to: usize,
}

/// A stream to a port of the host.
#[derive(Debug)]
pub struct Vsock {
    // Dropped, and thereby reset, before its queues are.
    device: Device,
    receive: Queue,
    transmit: Queue,
    _event: Queue,
    own: End,
    peer: End,
    state: State,
    /// Bytes that were sent, modulo 2³², as the next three.
    sent: u32,
    /// Bytes that the host has taken of them.
    taken: u32,
    /// Bytes that the host has room for.
    room: u32,
    /// Bytes that were read here.
    read: u32,
    /// Of those, what the host was told.
    told: u32,
    /// The host was asked for room.
    asked: bool,
    /// The host asked for room.
    wants_update: bool,
    /// Someone else is to be refused.
    refuse: Option<(End, End)>,
    /// What is to be read.
    unread: VecDeque<Part>,
    /// What is being filled.
    filling: Option<Part>,
}

impl Vsock {
    /// Sets the device up and asks for a connection to `port` of the host.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn new(transport: Box<dyn Transport>, port: u32) -> Result<Self, Error> {
        let mut device = Device::negotiate(transport, feature::EVENT_IDX)?;
        // The upper half is reserved.
        let cid = device.config(0).into();
        let mut queue =
            |direction, index, size, len| device.make_queue(direction, index, size, |_| len);
        let receive = queue(Direction::Receive, RECEIVE, RECEIVE_BUFFERS, BUFFER)?;
        let transmit = queue(Direction::Transmit, TRANSMIT, TRANSMIT_BUFFERS, BUFFER)?;
        let mut event = queue(Direction::Receive, EVENT, EVENT_BUFFERS, EVENT_BUFFER)?;
        event.disarm();
        device.start();
        let mut vsock = Self {
            device,
            receive,
            transmit,
            _event: event,
            own: End {
                cid,
                port: OWN_PORT,
            },
            peer: End { cid: HOST, port },
            state: State::Connecting,
            sent: 0,
            taken: 0,
            room: 0,
            read: 0,
            told: 0,
            asked: false,
            wants_update: false,
            refuse: None,
            unread: VecDeque::with_capacity(RECEIVE_BUFFERS.into()),
            filling: None,
        };
        vsock.say(Operation::Request);
        vsock.device.publish(TRANSMIT, &mut vsock.transmit);
        Ok(vsock)
    }

    /// Says whether the device is to interrupt; it is at first. Without, only asking tells whether
    /// something came.
    pub fn set_interrupts(&mut self, on: bool) {
        self.device.set_interrupts(on);
        if !on {
            self.receive.disarm();
            self.transmit.disarm();
        }
    }

    /// Bytes that the host has room for. A host that says it took more than it got gets nothing.
    fn credit(&self) -> usize {
        let under_way = self.sent.wrapping_sub(self.taken);
        self.room.saturating_sub(under_way) as usize
    }

    fn header(&mut self, operation: Operation, len: usize) -> Header {
        self.told = self.read;
        Header {
            src: self.own,
            dst: self.peer,
            len: u32::try_from(len).unwrap_or(u32::MAX),
            operation,
            flags: 0,
            buffer: ROOM,
            forwarded: self.read,
        }
    }

    /// Queues a packet without bytes. Returns false if there is no room.
    fn say(&mut self, operation: Operation) -> bool {
        let buffer = self.device.free(TRANSMIT, &mut self.transmit);
        let Some(buffer) = buffer else {
            return false;
        };
        let header = self.header(operation, 0);
        header.emit(self.transmit.buffer_mut(buffer));
        self.transmit.give(buffer, header::LEN);
        true
    }

    /// Queues what was filled.
    fn close_packet(&mut self) {
        if let Some(part) = self.filling.take() {
            let header = self.header(Operation::Data, part.to - header::LEN);
            header.emit(self.transmit.buffer_mut(part.buffer));
            self.transmit.give(part.buffer, part.to);
        }
    }

    /// Takes what the host sent. What there is to read stays in its buffers, so that there can never
    /// be more than those hold.
    fn take_packets(&mut self) {
        while let Some(completion) = self.receive.take() {
            let buffer = completion.buffer;
            let packet = self.receive.buffer(buffer).get(..completion.len);
            let parsed = packet.and_then(Header::parse);
            let data = parsed.and_then(|(header, rest)| {
                // Less than announced is damaged; more is padding.
                let len = header.len as usize;
                (rest.len() >= len).then_some((header, len))
            });
            let keep = data.is_some_and(|(header, len)| {
                self.handle(&header);
                let mine = header.src == self.peer && header.dst == self.own;
                mine && header.operation == Operation::Data
                    && len > 0
                    && self.state != State::Connecting
            });
            match data {
                Some((_, len)) if keep => self.unread.push_back(Part {
                    buffer,
                    from: header::LEN,
                    to: header::LEN + len,
                }),
                _ => self.device.give_back(RECEIVE, &mut self.receive, buffer),
            }
        }
    }

    fn handle(&mut self, header: &Header) {
        if header.src != self.peer || header.dst != self.own {
            if header.operation == Operation::Request {
                self.refuse = Some((header.dst, header.src));
            }
            return;
        }
        self.room = header.buffer;
        self.taken = header.forwarded;
        match header.operation {
            Operation::Response if self.state == State::Connecting => self.state = State::Open,
            Operation::Reset => self.state = State::Closed,
            Operation::Shutdown if header.flags & TAKES_NO_MORE != 0 => {
                if self.state == State::Open {
                    // Both ends are done: the host waits for this before it lets go.
                    self.say(Operation::Reset);
                }
                self.state = State::Closed;
            }
            Operation::CreditRequest => self.wants_update = true,
            Operation::CreditUpdate | Operation::Data => self.asked = false,
            Operation::Request | Operation::Response | Operation::Shutdown => {}
        }
    }

    /// Says what has to be said without bytes: how much was read, that there is no room, that
    /// somebody else is not wanted.
    fn say_rest(&mut self) {
        let much_read = self.read.wrapping_sub(self.told) >= UPDATE_EVERY;
        if self.state == State::Open && (self.wants_update || much_read) {
            self.wants_update = !self.say(Operation::CreditUpdate);
        }
        if let Some((src, dst)) = self.refuse
            && let Some(buffer) = self.device.free(TRANSMIT, &mut self.transmit)
        {
            let header = Header {
                src,
                dst,
                ..self.header(Operation::Reset, 0)
            };
            header.emit(self.transmit.buffer_mut(buffer));
            self.transmit.give(buffer, header::LEN);
            self.refuse = None;
        }
        self.device.publish(TRANSMIT, &mut self.transmit);
    }
}

impl Stream for Vsock {
    fn send(&mut self, mut bytes: &[u8]) -> usize {
        let all = bytes.len();
        // The host's room is only known from what it sent last.
        if self.credit() < all {
            self.take_packets();
        }
        while self.state == State::Open && !bytes.is_empty() {
            let credit = self.credit();
            if credit == 0 {
                if !self.asked {
                    self.asked = self.say(Operation::CreditRequest);
                    self.device.publish(TRANSMIT, &mut self.transmit);
                }
                break;
            }
            if self.filling.is_none() {
                let buffer = self.device.free(TRANSMIT, &mut self.transmit);
                self.filling = buffer.map(|buffer| Part {
                    buffer,
                    from: 0,
                    to: header::LEN,
                });
            }
            let Some(part) = &mut self.filling else {
                break;
            };
            let room = &mut self.transmit.buffer_mut(part.buffer)[part.to..];
            let len = room.len().min(bytes.len()).min(credit);
            let (now, later) = bytes.split_at(len);
            room[..len].copy_from_slice(now);
            bytes = later;
            part.to += len;
            #[expect(clippy::cast_possible_truncation, reason = "a buffer at most")]
            {
                self.sent = self.sent.wrapping_add(len as u32);
            }
            if part.to == self.transmit.buffer_len() {
                self.close_packet();
            }
        }
        all - bytes.len()
    }

    fn flush(&mut self) {
        self.close_packet();
        self.device.publish(TRANSMIT, &mut self.transmit);
        self.device.reap(&mut self.transmit);
    }

    fn receive(&mut self, into: &mut [u8]) -> usize {
        let mut copied = 0;
        while copied < into.len() {
            if self.unread.is_empty() {
                self.take_packets();
                self.say_rest();
            }
            let Some(part) = self.unread.front_mut() else {
                self.device.reap(&mut self.transmit);
                if self.device.arm(&mut self.receive) {
                    break;
                }
                continue;
            };
            let there = &self.receive.buffer(part.buffer)[part.from..part.to];
            let len = there.len().min(into.len() - copied);
            into[copied..copied + len].copy_from_slice(&there[..len]);
            copied += len;
            part.from += len;
            #[expect(clippy::cast_possible_truncation, reason = "a buffer at most")]
            {
                self.read = self.read.wrapping_add(len as u32);
            }
            if part.from == part.to {
                let buffer = part.buffer;
                self.unread.pop_front();
                self.device.give_back(RECEIVE, &mut self.receive, buffer);
            }
        }
        copied
    }

    fn is_closed(&self) -> bool {
        self.receive.is_broken()
            || self.transmit.is_broken()
            || self.state == State::Closed && self.unread.is_empty()
    }
}

#[cfg(test)]
mod tests;
