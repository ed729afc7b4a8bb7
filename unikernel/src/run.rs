//! The loop: sessions, the engine and the devices, until the host has had enough.

use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use plumb_channel::{Fault, Guest};
use plumb_wire::{Engine as _, Instant, ProbeId};

use crate::link::{Fate, Link};
use crate::platform::{Platform, Stream};
use crate::session::{Machine, Sessions};

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The host said so, and has everything.
    Shutdown,
    /// The host is gone.
    Closed,
    /// The host said something that cannot be understood.
    Fault(Fault),
}

/// Packets that leave with one flush.
const MOST_BATCH: usize = 64;
/// Packets received in one round.
const MOST_RECEIVED: usize = 256;
/// The most that an engine writes.
const PACKET_LEN: usize = 1536;
/// How long a full transmit queue is left alone.
const FULL_QUEUE: Duration = Duration::from_micros(200);
/// How long a host that cannot be understood has to take what is left.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs sessions until the host shuts the machine down or is gone. `module` is what the host said
/// first, as far as it fits there; the stream has the rest. `memory` is how many bytes jobs may
/// take.
pub fn run<P, L, S>(
    platform: &mut P,
    link: &mut L,
    stream: &mut S,
    module: &[u8],
    memory: usize,
) -> End
where
    P: Platform,
    L: Link,
    S: Stream,
{
    let mut run = Loop {
        sessions: Sessions::new(Machine {
            mac: link.mac(),
            mtu: u16::try_from(link.mtu()).unwrap_or(u16::MAX),
            addresses: link.addresses(),
            memory,
        }),
        platform,
        link,
        stream,
        module,
        chunk: vec![0; Guest::CHUNK],
        packet: vec![0; PACKET_LEN],
        held: None,
        session: 0,
        batch: Vec::with_capacity(MOST_BATCH),
        sent_at: None,
        copies: Vec::new(),
    };
    loop {
        match run.round() {
            Ok(None) => {}
            Ok(Some(end)) => return end,
            Err(fault) => {
                run.last_words();
                return End::Fault(fault);
            }
        }
    }
}

struct Loop<'a, P, L, S> {
    sessions: Sessions,
    platform: &'a mut P,
    link: &'a mut L,
    stream: &'a mut S,
    module: &'a [u8],
    chunk: Vec<u8>,
    /// The packet that the engine wrote last.
    packet: Vec<u8>,
    /// Its name and length, if there was no room for it.
    held: Option<(ProbeId, usize)>,
    /// [`Sessions::changes`] when the engine wrote it.
    session: u64,
    /// Packets that leave with the next flush.
    batch: Vec<ProbeId>,
    /// When packets left last.
    sent_at: Option<Instant>,
    /// Their bytes, if they are to be reported.
    copies: Vec<Vec<u8>>,
}

impl<P: Platform, L: Link, S: Stream> Loop<'_, P, L, S> {
    fn round(&mut self) -> Result<Option<End>, Fault> {
        let orders = self.receive_orders()?;
        let sent = self.transmit();
        let received = self.receive();
        let now = self.platform.now();
        if self.link.poll_timeout().is_some_and(|due| due <= now) {
            self.link.handle_timeout(now);
            self.link.flush();
        }
        if let Some(engine) = self.sessions.engine_always()
            && engine.poll_timeout().is_some_and(|due| due <= now)
        {
            engine.handle_timeout(now);
        }
        let (dropped, error) = (self.link.dropped(), self.link.rtt_error());
        self.sessions.turn(now, dropped, error)?;
        let reported = self.send_reports();
        if self.sessions.is_over() {
            return Ok(Some(End::Shutdown));
        }
        if self.stream.is_closed() {
            return Ok(Some(End::Closed));
        }
        // Sleeping is only for those who have looked everywhere and found nothing.
        if !(orders || sent || received || reported || self.sessions.is_behind()) {
            let until = [self.sessions.poll_timeout(), self.link.poll_timeout()];
            let mut until = until.into_iter().flatten().min();
            if self.held.is_some() {
                // The engine is due, but the queue is full.
                until = Some(now + FULL_QUEUE);
            }
            let now = self.platform.now();
            // What answers at once is seen at once, and the next packet leaves when it may.
            let wake_time = self.platform.wake_time();
            let just_sent = self.sent_at.is_some_and(|at| now.since(at) < wake_time);
            if !just_sent && until.is_none_or(|until| until > now + wake_time) {
                self.platform.wait(until);
            }
        }
        Ok(None)
    }

    /// Takes what the host says: the module first, then the stream. Returns whether there was
    /// something.
    fn receive_orders(&mut self) -> Result<bool, Fault> {
        let mut any = false;
        while self.sessions.wants_bytes() {
            let now = self.platform.now();
            if !self.module.is_empty() {
                let len = self.module.len().min(Guest::CHUNK);
                let (chunk, rest) = self.module.split_at(len);
                self.module = rest;
                self.sessions.handle_bytes(chunk, now)?;
            } else {
                let len = self.stream.receive(&mut self.chunk);
                if len == 0 {
                    break;
                }
                self.sessions.handle_bytes(&self.chunk[..len], now)?;
            }
            any = true;
        }
        Ok(any)
    }

    /// Sends what may leave, in one batch, and tells the engine when that was. Returns whether
    /// there was something.
    fn transmit(&mut self) -> bool {
        let copy = self.sessions.wants_packets();
        let now = self.platform.now();
        if self.session != self.sessions.changes() {
            self.session = self.sessions.changes();
            self.held = None;
        }
        while self.batch.len() < MOST_BATCH {
            let next = self.held.take().or_else(|| {
                let engine = self.sessions.engine()?;
                let transmit = engine.poll_transmit(now, &mut self.packet)?;
                Some((transmit.probe, transmit.len))
            });
            let Some((probe, len)) = next else {
                break;
            };
            let packet = &self.packet[..len];
            match self.link.transmit(probe, packet, now) {
                Fate::NoRoom => {
                    self.held = Some((probe, len));
                    break;
                }
                Fate::Queued => {
                    self.batch.push(probe);
                    if copy {
                        self.copies.push(packet.to_vec());
                    }
                }
                Fate::Waiting => {
                    if copy {
                        self.sessions.packet(now, true, packet);
                    }
                }
                Fate::Failed(error) => {
                    if let Some(engine) = self.sessions.engine_always() {
                        engine.handle_send_error(probe, now, error);
                    }
                }
            }
        }
        while let Some((probe, fate)) = self.link.poll_fate() {
            match fate {
                Fate::Queued => self.batch.push(probe),
                Fate::Waiting | Fate::NoRoom => {}
                Fate::Failed(error) => {
                    if let Some(engine) = self.sessions.engine_always() {
                        engine.handle_send_error(probe, now, error);
                    }
                }
            }
        }
        let at = self.platform.now();
        self.link.flush();
        let any = !self.batch.is_empty();
        if any {
            self.sent_at = Some(at);
        }
        for probe in self.batch.drain(..) {
            if let Some(engine) = self.sessions.engine_always() {
                engine.handle_sent(probe, at);
            }
        }
        for packet in self.copies.drain(..) {
            self.sessions.packet(at, true, &packet);
        }
        any
    }

    /// Hands in what arrived. Returns whether there was something.
    fn receive(&mut self) -> bool {
        let copy = self.sessions.wants_packets();
        for count in 0..MOST_RECEIVED {
            let now = self.platform.now();
            let sessions = &mut self.sessions;
            let more = self.link.receive(now, &mut |packet| {
                if copy {
                    sessions.packet(now, false, packet);
                }
                if let Some(engine) = sessions.engine_always() {
                    engine.handle_packet(now, packet);
                }
            });
            if !more {
                return count > 0;
            }
        }
        true
    }

    /// Sends what is to be reported, as much as there is room for. Returns whether all of it went.
    fn send_reports(&mut self) -> bool {
        let mut any = false;
        loop {
            let bytes = self.sessions.transmit();
            if bytes.is_empty() {
                break;
            }
            let len = self.stream.send(bytes);
            if len == 0 {
                break;
            }
            self.sessions.handle_sent(len);
            any = true;
        }
        if any {
            self.stream.flush();
        }
        any
    }

    /// Says what is left to say, for as long as that may take.
    fn last_words(&mut self) {
        let until = self.platform.now() + LAST_WORDS;
        while !self.sessions.transmit().is_empty()
            && !self.stream.is_closed()
            && self.platform.now() < until
        {
            if !self.send_reports() {
                self.platform.wait(Some(until));
            }
        }
    }
}
