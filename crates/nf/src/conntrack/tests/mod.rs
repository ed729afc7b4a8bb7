//! The rules of connection tracking, one test each, and what holds for all packets.

mod bounds;
mod datagrams;
mod errors;
mod laws;
mod model;
mod tcp_closing;
mod tcp_opening;
mod tcp_window;

use alloc::vec;
use core::net::SocketAddr;
use core::time::Duration;

use super::*;
use crate::testing::{self, Segment};

pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;
pub(super) const URG: u8 = 0x20;

/// Window scale 7 and SACK-permitted.
pub(super) const OPTIONS: [u8; 8] = [1, 3, 3, 7, 1, 1, 4, 2];

/// A tracker behind rules that let everything through but what is invalid.
pub(super) struct Wire {
    pub(super) conntrack: Conntrack,
    pub(super) now: Instant,
}

impl Wire {
    pub(super) fn new(config: Config) -> Self {
        Self {
            conntrack: Conntrack::new(config, 1),
            now: Instant::from_millis(1000),
        }
    }

    pub(super) fn look(&mut self, frame: &Frame) -> Tracked {
        let mut tracked = Tracked::untracked();
        let packet = Dissected::new(frame);
        self.conntrack.track(&packet, frame, self.now, &mut tracked);
        tracked
    }

    pub(super) fn send(&mut self, frame: &Frame) -> Tracked {
        let mut tracked = self.look(frame);
        self.conntrack.confirm(&mut tracked, self.now).unwrap();
        tracked
    }

    /// The connection of a packet that was just sent.
    pub(super) fn connection(&self, tracked: &Tracked) -> Connection {
        self.conntrack.get(tracked.id.unwrap()).unwrap()
    }

    /// Seconds until the connection of a packet ends.
    pub(super) fn left(&self, tracked: &Tracked) -> u64 {
        self.connection(tracked).expires.since(self.now).as_secs()
    }

    pub(super) fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.conntrack.poll_timeout().filter(|due| *due <= until) {
            self.conntrack.handle_timeout(due);
        }
        self.now = until;
    }
}

pub(super) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(super) fn end(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Client,
    Server,
}

pub(super) use Who::{Client, Server};

/// A client and a server whose TCP segments are written by hand.
pub(super) struct Pair {
    pub(super) wire: Wire,
    client: SocketAddr,
    server: SocketAddr,
    /// Options of the next segments.
    pub(super) options: Vec<u8>,
    pub(super) window: u16,
}

impl Pair {
    pub(super) fn new(config: Config) -> Self {
        Self {
            wire: Wire::new(config),
            client: end("10.0.0.2:40000"),
            server: end("192.0.2.1:80"),
            options: Vec::new(),
            window: 1000,
        }
    }

    pub(super) fn v6(config: Config) -> Self {
        Self {
            client: end("[2001:db8::2]:40000"),
            server: end("[2001:db8:1::1]:80"),
            ..Self::new(config)
        }
    }

    pub(super) fn frame(&self, who: Who, flags: u8, seq: u32, ack: u32, payload: usize) -> Frame {
        let (src, dst) = match who {
            Client => (self.client, self.server),
            Server => (self.server, self.client),
        };
        let segment = Segment {
            seq,
            ack,
            flags,
            window: self.window,
            options: self.options.clone(),
            payload,
        };
        testing::tcp(src, dst, &segment)
    }

    pub(super) fn send(
        &mut self,
        who: Who,
        flags: u8,
        seq: u32,
        ack: u32,
        payload: usize,
    ) -> Tracked {
        let frame = self.frame(who, flags, seq, ack, payload);
        self.wire.send(&frame)
    }

    pub(super) fn state(&mut self, who: Who, flags: u8, seq: u32, ack: u32, len: usize) -> State {
        self.send(who, flags, seq, ack, len).state
    }

    /// Why a segment is invalid, if it is.
    pub(super) fn fault(
        &mut self,
        who: Who,
        flags: u8,
        seq: u32,
        ack: u32,
        len: usize,
    ) -> Option<Invalid> {
        self.send(who, flags, seq, ack, len).invalid
    }

    /// How far the only connection is.
    pub(super) fn tcp(&self) -> Option<TcpState> {
        self.wire.conntrack.iter().next()?.tcp
    }

    /// Seconds until the only connection ends.
    pub(super) fn left(&self) -> u64 {
        let connection = self.wire.conntrack.iter().next().unwrap();
        connection.expires.since(self.wire.now).as_secs()
    }

    /// Opens a connection: the client is at 101 then, the server at 501.
    pub(super) fn open(config: Config) -> Self {
        let mut pair = Self::new(config);
        pair.shake();
        pair
    }

    pub(super) fn shake(&mut self) {
        assert_eq!(self.state(Client, SYN, 100, 0, 0), State::New);
        assert_eq!(
            self.state(Server, SYN | ACK, 500, 101, 0),
            State::Established
        );
        let open = self.send(Client, ACK, 101, 501, 0);
        assert_eq!(open.state, State::Established);
        let connection = self.wire.connection(&open);
        assert_eq!(connection.tcp, Some(TcpState::Established));
    }
}
