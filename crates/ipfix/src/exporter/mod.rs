//! The exporting process: records and time in, messages out.

mod announce;
mod builder;
mod connection;
mod layout;
#[cfg(test)]
mod tests;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use plumb_record::{DnsProfile, FlowProfile, TapFlow, WallTime};
use plumb_wire::Instant;

use crate::table::{DNS, DOCUMENTATION_ENTERPRISE, ExporterFields, FLOW, TAP};
use crate::{HEADER_LEN, SET_HEADER_LEN};
use announce::Announcements;
use builder::Builder;
use connection::Connection;
use layout::{Encoded, Kind, Layouts};

/// What carries messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams, which may be lost: templates are sent again from time to time, and message
    /// numbers go on whatever happens (RFC 7011 §10.3).
    Datagrams,
    /// A stream, or a file: a session ends with its connection, and the next one begins with
    /// templates and message number 0 (RFC 7011 §10.4).
    Stream,
}

/// How an [`Exporter`] works.
#[derive(Clone, Debug)]
pub struct ExporterConfig {
    /// Private enterprise number of plumb's own elements.
    pub enterprise: u32,
    /// Observation domain of the flow records, from 1.
    pub domain: u32,
    /// Identifier of the exporting process, for its statistics.
    pub process: u32,
    /// What carries the messages.
    pub transport: Transport,
    /// Longest time that a record waits for others to fill its message.
    pub flush_after: Duration,
    /// Longest time between two announcements of the templates; the first ones come faster.
    /// Datagrams only.
    pub refresh_after: Duration,
    /// Most messages between two announcements of the templates. Datagrams only.
    pub refresh_after_messages: u32,
    /// Time between two records of the exporter's statistics.
    pub statistics_every: Duration,
    /// Most bytes of records that wait; the oldest are dropped and counted.
    pub queue_bytes: usize,
}

/// The least length that messages may be bounded to: what IPv6 carries everywhere. A template takes
/// up to half of it.
pub const MIN_MESSAGE_LEN: usize = 1232;

impl Default for ExporterConfig {
    fn default() -> Self {
        Self {
            enterprise: DOCUMENTATION_ENTERPRISE,
            domain: 1,
            process: 1,
            transport: Transport::Datagrams,
            flush_after: Duration::from_secs(1),
            refresh_after: Duration::from_secs(60),
            refresh_after_messages: 4096,
            statistics_every: Duration::from_secs(60),
            queue_bytes: 8 << 20,
        }
    }
}

/// What became of the records of an [`Exporter`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExporterStatistics {
    /// Messages sent.
    pub messages: u64,
    /// Flow records sent.
    pub records: u64,
    /// Bytes of messages sent.
    pub bytes: u64,
    /// Flow records that wait.
    pub queued: u64,
    /// Flow records dropped because the queue was full.
    pub queue_full: u64,
    /// Flow records dropped because no message can hold them.
    pub too_long: u64,
    /// Flow records lost before they came here.
    pub not_recorded: u64,
    /// Times that the transport was up.
    pub sessions: u64,
}

/// An exporting process without I/O.
///
/// The driver opens a transport when [`poll_connect`](Self::poll_connect) says so, and reports
/// [`connected`](Self::connected) or [`failed`](Self::failed). It sends what
/// [`poll_transmit`](Self::poll_transmit) returns and reports [`transmitted`](Self::transmitted);
/// until then the records of the message are not gone.
#[derive(Debug)]
pub struct Exporter {
    config: ExporterConfig,
    max_message_len: usize,
    connection: Connection,
    announcements: Announcements,
    layouts: Layouts,
    queue: VecDeque<Encoded>,
    queued_bytes: usize,
    flight: Option<Flight>,
    refresh_at: Instant,
    refresh_wait: Duration,
    messages_since_refresh: u32,
    statistics_at: Instant,
    sequence: u32,
    options_sequence: u32,
    finishing: bool,
    statistics: ExporterStatistics,
    not_sent_packets: u64,
    not_sent_octets: u64,
}

/// A message that was handed to the driver.
#[derive(Debug)]
struct Flight {
    message: Vec<u8>,
    records: Vec<Encoded>,
    /// Whether it is about the exporter, in a domain of its own.
    is_options: bool,
    data_records: u32,
}

/// The domain of what is about the exporter rather than about flows (RFC 7011 §3.1). Some collectors
/// do not count such records, and would find flow records missing if they were in one domain.
const OPTIONS_DOMAIN: u32 = 0;

/// Memory of a record in the queue beside its bytes.
const QUEUE_OVERHEAD: usize = size_of::<Encoded>() + 16;

/// Wait from the first announcement of the templates to the second; it doubles from there on.
const FIRST_REFRESH: Duration = Duration::from_secs(1);

impl Exporter {
    /// An exporter without records, whose transport is to be opened at once.
    pub fn new(mut config: ExporterConfig) -> Self {
        config.domain = config.domain.max(1);
        Self {
            max_message_len: MIN_MESSAGE_LEN,
            connection: Connection::new(),
            announcements: Announcements::new(config.enterprise),
            layouts: Layouts::new(config.enterprise, announce::FIRST_DATA),
            config,
            queue: VecDeque::new(),
            queued_bytes: 0,
            flight: None,
            refresh_at: Instant::FAR_FUTURE,
            refresh_wait: FIRST_REFRESH,
            messages_since_refresh: 0,
            statistics_at: Instant::FAR_FUTURE,
            sequence: 0,
            options_sequence: 0,
            finishing: false,
            statistics: ExporterStatistics::default(),
            not_sent_packets: 0,
            not_sent_octets: 0,
        }
    }

    /// Takes the profile of a connection.
    pub fn take(&mut self, profile: &FlowProfile, now: Instant) {
        let count = |a: Option<u64>, b: Option<u64>| a.unwrap_or(0).saturating_add(b.unwrap_or(0));
        let encoded = self.layouts.encode(Kind::Flow, FLOW, profile, self.room());
        self.enqueue(
            encoded,
            count(profile.packets_sent, profile.packets_received),
            profile.bytes_sent.saturating_add(profile.bytes_received),
            now,
        );
    }

    /// Takes the record of a name lookup.
    pub fn take_lookup(&mut self, lookup: &DnsProfile, now: Instant) {
        let encoded = self.layouts.encode(Kind::Lookup, DNS, lookup, self.room());
        self.enqueue(encoded, u64::from(lookup.queries), 0, now);
    }

    /// Takes a flow that a tap has counted.
    pub fn take_tapped(&mut self, flow: &TapFlow, now: Instant) {
        let encoded = self.layouts.encode(Kind::Tapped, TAP, flow, self.room());
        self.enqueue(encoded, flow.packets, flow.bytes, now);
    }

    /// Counts records that were lost before they came here.
    pub const fn not_recorded(&mut self, records: u64) {
        self.statistics.not_recorded = self.statistics.not_recorded.saturating_add(records);
    }

    /// Whether the driver shall open the transport now; says so once for each attempt.
    pub fn poll_connect(&mut self, now: Instant) -> bool {
        self.connection.poll(now)
    }

    /// The transport is up, and a session begins, whose messages have at most `max_message_len`
    /// bytes, from [`MIN_MESSAGE_LEN`] to 65535.
    pub fn connected(&mut self, now: Instant, max_message_len: usize) {
        self.max_message_len = max_message_len.clamp(MIN_MESSAGE_LEN, usize::from(u16::MAX));
        self.connection.up();
        self.statistics.sessions += 1;
        self.land();
        if self.config.transport == Transport::Stream {
            self.sequence = 0;
            self.options_sequence = 0;
        }
        self.announce_again();
        self.refresh_wait = FIRST_REFRESH;
        self.schedule_refresh(now);
        self.statistics_at = now + self.config.statistics_every;
    }

    /// The transport could not be opened, or is no more. What it had not taken is sent again.
    pub fn failed(&mut self, now: Instant) {
        self.connection.down(now);
        self.land();
    }

    /// The message to send now, the same until [`transmitted`](Self::transmitted). `wall` is the
    /// time of the day.
    pub fn poll_transmit(&mut self, now: Instant, wall: WallTime) -> Option<&[u8]> {
        if self.flight.is_none() && self.connection.is_up() {
            self.flight = self.fill(now, wall);
        }
        self.flight.as_ref().map(|flight| &flight.message[..])
    }

    /// The transport took the whole message.
    pub fn transmitted(&mut self) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        self.connection.works();
        let sequence = if flight.is_options {
            &mut self.options_sequence
        } else {
            &mut self.sequence
        };
        *sequence = sequence.wrapping_add(flight.data_records);
        self.messages_since_refresh = self.messages_since_refresh.saturating_add(1);
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        self.statistics.messages += 1;
        self.statistics.bytes += count(flight.message.len());
        self.statistics.records += count(flight.records.len());
    }

    /// All that waits shall be sent now, and statistics behind it: nothing more will come.
    pub const fn finish(&mut self) {
        self.finishing = true;
        self.announcements.statistics_are_due();
    }

    /// Memory of the records that wait, in bytes.
    pub const fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Whether records wait that fill a message.
    pub fn is_full(&self) -> bool {
        self.queued_bytes >= self.room() + self.queue.len() * QUEUE_OVERHEAD
    }

    /// Whether everything was sent.
    pub fn is_drained(&self) -> bool {
        self.queue.is_empty() && self.flight.is_none() && !self.announcements.pending()
    }

    /// When the driver shall ask again; `None` while an attempt to connect is under way.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.connection.is_up() {
            return self.connection.poll_timeout();
        }
        Some(self.flush_at().min(self.refresh_at).min(self.statistics_at))
    }

    /// What became of the records so far.
    pub fn statistics(&self) -> ExporterStatistics {
        let flying = self
            .flight
            .as_ref()
            .map_or(0, |flight| flight.records.len());
        ExporterStatistics {
            queued: u64::try_from(self.queue.len() + flying).unwrap_or(u64::MAX),
            ..self.statistics
        }
    }

    /// When the oldest record will have waited long enough.
    fn flush_at(&self) -> Instant {
        self.queue.front().map_or(Instant::FAR_FUTURE, |oldest| {
            oldest.since + self.config.flush_after
        })
    }

    /// Bytes that a record may have.
    const fn room(&self) -> usize {
        self.max_message_len - HEADER_LEN - SET_HEADER_LEN
    }

    fn enqueue(
        &mut self,
        encoded: Option<(usize, alloc::boxed::Box<[u8]>)>,
        packets: u64,
        octets: u64,
        now: Instant,
    ) {
        let Some((layout, bytes)) = encoded else {
            self.statistics.too_long += 1;
            self.count_not_sent(packets, octets);
            return;
        };
        self.queued_bytes += bytes.len() + QUEUE_OVERHEAD;
        self.queue.push_back(Encoded {
            layout,
            bytes,
            since: now,
            packets,
            octets,
        });
        self.keep_bounds();
    }

    fn keep_bounds(&mut self) {
        while self.queued_bytes > self.config.queue_bytes
            && let Some(oldest) = self.dequeue()
        {
            self.statistics.queue_full += 1;
            self.count_not_sent(oldest.packets, oldest.octets);
        }
    }

    fn dequeue(&mut self) -> Option<Encoded> {
        let record = self.queue.pop_front()?;
        self.queued_bytes -= record.bytes.len() + QUEUE_OVERHEAD;
        Some(record)
    }

    const fn count_not_sent(&mut self, packets: u64, octets: u64) {
        self.not_sent_packets = self.not_sent_packets.saturating_add(packets);
        self.not_sent_octets = self.not_sent_octets.saturating_add(octets);
    }

    /// Puts the records of a message that was not sent back to where they came from.
    fn land(&mut self) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        for record in flight.records.into_iter().rev() {
            self.queued_bytes += record.bytes.len() + QUEUE_OVERHEAD;
            self.queue.push_front(record);
        }
        // What it told was not heard.
        self.announce_again();
        self.keep_bounds();
    }

    fn announce_again(&mut self) {
        self.announcements.again();
        self.messages_since_refresh = 0;
    }

    fn schedule_refresh(&mut self, now: Instant) {
        self.refresh_at = match self.config.transport {
            Transport::Datagrams => now + self.refresh_wait,
            Transport::Stream => Instant::FAR_FUTURE,
        };
        self.refresh_wait = (self.refresh_wait * 2).min(self.config.refresh_after);
    }

    /// Fills a message, if it is time for one.
    fn fill(&mut self, now: Instant, wall: WallTime) -> Option<Flight> {
        let datagrams = self.config.transport == Transport::Datagrams;
        let many = datagrams && self.messages_since_refresh >= self.config.refresh_after_messages;
        if self.refresh_at <= now || many {
            self.announce_again();
            self.schedule_refresh(now);
        }
        if self.statistics_at <= now {
            self.announcements.statistics_are_due();
            self.statistics_at = now + self.config.statistics_every;
        }
        let full = self.is_full();
        let flush = self.finishing || self.flush_at() <= now || full;
        if self.announcements.pending() {
            return Some(self.fill_options(wall));
        }
        if !flush || self.queue.is_empty() {
            return None;
        }
        let mut builder = Builder::new(self.max_message_len);
        let told = self
            .announcements
            .tell_templates(&self.layouts, &mut builder);
        let mut records = Vec::new();
        while told && let Some(next) = self.queue.front() {
            let set = self.layouts.template(next.layout).id;
            let has_room = builder.has_room(set, next.bytes.len());
            // A record that came when messages could be longer has room nowhere.
            let too_long = !has_room && builder.is_empty();
            if !has_room && !too_long {
                break;
            }
            let Some(record) = self.dequeue() else {
                break;
            };
            if too_long {
                self.statistics.too_long += 1;
                self.count_not_sent(record.packets, record.octets);
                continue;
            }
            builder.append(set, |bytes| bytes.extend_from_slice(&record.bytes));
            records.push(record);
        }
        if builder.is_empty() {
            return None;
        }
        Some(self.fly(builder, false, records, wall))
    }

    /// Fills a message about the exporter and its elements.
    fn fill_options(&mut self, wall: WallTime) -> Flight {
        let mut builder = Builder::new(self.max_message_len);
        let fields = self.fields(wall);
        self.announcements
            .tell_options(self.config.process, &fields, &mut builder);
        self.fly(builder, true, Vec::new(), wall)
    }

    fn fly(
        &self,
        builder: Builder,
        is_options: bool,
        records: Vec<Encoded>,
        wall: WallTime,
    ) -> Flight {
        let (sequence, domain) = if is_options {
            (self.options_sequence, OPTIONS_DOMAIN)
        } else {
            (self.sequence, self.config.domain)
        };
        let export_time = u32::try_from(wall.0 / 1_000_000_000).unwrap_or(u32::MAX);
        let (message, data_records) = builder.finish(export_time, sequence, domain);
        Flight {
            message,
            records,
            is_options,
            data_records,
        }
    }

    fn fields(&self, wall: WallTime) -> ExporterFields {
        let statistics = &self.statistics;
        ExporterFields {
            time_nanos: wall.0,
            messages: statistics.messages,
            flows: statistics.records,
            octets: statistics.bytes,
            not_sent_flows: statistics
                .queue_full
                .saturating_add(statistics.too_long)
                .saturating_add(statistics.not_recorded),
            not_sent_packets: self.not_sent_packets,
            not_sent_octets: self.not_sent_octets,
        }
    }
}
