//! The end that has an engine.

use alloc::vec::Vec;

use plumb_probe::{Event, Stats};
use plumb_wire::Instant;
use serde::Serialize;

use crate::frame::{Frames, MOST_ORDER, MOST_REPORT};
use crate::order::Order;
use crate::outbox::Outbox;
use crate::report::{Counters, Ready, Refusal, Report, Way};
use crate::{Fault, INBOX, WINDOW};

/// The guest's end, for all sessions of a machine.
#[derive(Debug)]
pub struct Guest {
    frames: Frames,
    outbox: Outbox,
    /// Frames of the session so far.
    said: u64,
    acknowledged: u64,
    /// Bytes of the session that have left; below 0 while those of another one are leaving.
    sent: i64,
    /// Bytes of the session that the host has.
    received: i64,
    /// Jobs that have left the inbox, and how many of them the host knows of.
    taken: u64,
    told: u64,
}

impl Default for Guest {
    fn default() -> Self {
        Self {
            frames: Frames::new(MOST_ORDER),
            outbox: Outbox::default(),
            said: 0,
            acknowledged: 0,
            sent: 0,
            received: 0,
            taken: 0,
            told: 0,
        }
    }
}

impl Guest {
    /// Most bytes to hand to [`handle_bytes`](Self::handle_bytes) at once, when
    /// [`poll_order`](Self::poll_order) has no more: what bounds the memory that orders take.
    pub const CHUNK: usize = MOST_ORDER;

    /// Takes bytes from the host.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        self.frames.push(bytes);
    }

    /// The next order. Acknowledgements are dealt with here and are not returned.
    ///
    /// # Errors
    /// If the host says what is not an order. Where the next one begins is not known then.
    pub fn poll_order(&mut self) -> Result<Option<Order>, Fault> {
        while let Some((kind, payload)) = self.frames.next_parts()? {
            let order = Order::read(kind, payload)?;
            match order {
                Order::Ack { frames } => {
                    if frames > self.said {
                        return Err(Fault::Malformed {
                            frame: "Ack",
                            field: "frames",
                        });
                    }
                    self.acknowledged = self.acknowledged.max(frames);
                }
                Order::Received { bytes } => {
                    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
                    self.received = self.received.max(bytes);
                }
                Order::Configure(_) | Order::Reset => {
                    // Who begins a session may never see what is left of the last one.
                    self.sent = -i64::try_from(self.backlog()).unwrap_or(0);
                    self.received = 0;
                    self.said = 0;
                    self.acknowledged = 0;
                    self.taken = 0;
                    self.told = 0;
                    return Ok(Some(order));
                }
                Order::Options { .. }
                | Order::Start { .. }
                | Order::Stop { .. }
                | Order::StopAll
                | Order::Finish
                | Order::Shutdown => return Ok(Some(order)),
            }
        }
        Ok(None)
    }

    /// Answers `Configure`.
    pub fn ready(&mut self, ready: Ready) {
        self.say(&Report::Ready(ready));
    }

    /// Takes note that a job has left the inbox, whatever becomes of it.
    pub fn took(&mut self) {
        self.taken += 1;
        // Rarely enough to cost nothing, and early enough that the host never waits for it.
        if self.taken - self.told >= INBOX as u64 / 4 {
            self.told = self.taken;
            let jobs = self.taken;
            self.say(&Report::Taken { jobs });
        }
    }

    /// Reports that a job has no record.
    pub fn refused(&mut self, token: u64, why: Refusal) {
        self.say(&Report::Refused { token, why });
    }

    /// Reports an event of the job that the host calls `token`.
    pub fn event(&mut self, token: u64, event: &Event, time: Instant) {
        match event {
            Event::Hop { hop, .. } => {
                let record = &json(hop);
                self.say(&Report::Hop { token, record });
            }
            Event::PingReply { reply, .. } => {
                let record = &json(reply);
                self.say(&Report::PingReply { token, record });
            }
            Event::Trace { started, trace, .. } => {
                let report = Report::Trace {
                    token,
                    time,
                    started: *started,
                    record: &json(trace),
                };
                self.say_or_refuse(token, &report);
            }
            Event::Ping { started, ping, .. } => {
                let report = Report::Ping {
                    token,
                    time,
                    started: *started,
                    record: &json(ping),
                };
                self.say_or_refuse(token, &report);
            }
        }
    }

    /// Reports the counters: those of the engine, packets `dropped` between network and engine, and
    /// packets `unreported` though all should be.
    pub fn stats(&mut self, time: Instant, engine: Stats, dropped: u64, unreported: u64) {
        self.say(&Report::Stats(Counters {
            time,
            engine,
            dropped,
            unreported,
        }));
    }

    /// Reports a packet that was sent.
    pub fn sent_packet(&mut self, at: Instant, bytes: &[u8]) {
        let way = Way::Sent;
        self.say(&Report::Packet { at, way, bytes });
    }

    /// Reports a packet that was received.
    pub fn received_packet(&mut self, at: Instant, bytes: &[u8]) {
        let way = Way::Received;
        self.say(&Report::Packet { at, way, bytes });
    }

    /// Says something to people.
    pub fn text(&mut self, line: &str) {
        self.say(&Report::Text(line.as_bytes()));
    }

    /// Reports that all jobs are done.
    pub fn finished(&mut self) {
        let frames = self.said + 1;
        self.say(&Report::Finished { frames });
    }

    /// Bytes for the host: no more than it has room for. Between the two there may be something that
    /// drops what does not fit instead of waiting, as QEMU's console does.
    pub fn transmit(&self) -> &[u8] {
        let under_way = self.sent.saturating_sub(self.received).max(0);
        let room = usize::try_from(under_way).map_or(0, |sent| WINDOW.saturating_sub(sent));
        let waiting = self.outbox.waiting();
        &waiting[..room.min(waiting.len())]
    }

    /// How many bytes wait to be sent, whether there is room for them or not.
    pub fn backlog(&self) -> usize {
        self.outbox.waiting().len()
    }

    /// Takes note that this many bytes have left.
    pub fn handle_sent(&mut self, bytes: usize) {
        let bytes = bytes.min(self.backlog());
        self.sent = self.sent.saturating_add_unsigned(bytes as u64);
        self.outbox.advance(bytes);
    }

    /// Whether the host has taken all that it was told in this session.
    pub fn is_acknowledged(&self) -> bool {
        self.outbox.waiting().is_empty() && self.acknowledged == self.said
    }

    fn say(&mut self, report: &Report<'_>) -> bool {
        let said = self
            .outbox
            .frame(report.kind().0, MOST_REPORT, |w| report.write(w));
        self.said += u64::from(said);
        said
    }

    fn say_or_refuse(&mut self, token: u64, report: &Report<'_>) {
        if !self.say(report) {
            self.refused(token, Refusal::TooLong);
        }
    }
}

/// A record as JSON. Records have nothing that JSON cannot express.
fn json<T: Serialize>(record: &T) -> Vec<u8> {
    serde_json::to_vec(record).unwrap_or_default()
}
