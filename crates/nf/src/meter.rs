//! Flows of packets: who sent how much to whom, and when (RFC 7011 §2, the metering process).
//!
//! A flow is one way: packets with the same addresses, ports, protocol and VLAN that went the same
//! way through the same interface. It ends when nothing comes for a while, when it has been reported
//! long enough ago, soon after the last packet of a TCP connection, or to make room for another. Each
//! packet is in one record; the sum of the records is what was seen.

mod list;

use alloc::collections::{BTreeMap, VecDeque};
use core::net::IpAddr;
use core::time::Duration;

use plumb_wire::tcp::{FIN, RST, SYN};
use plumb_wire::{Instant, protocol};

use crate::Frame;
use crate::dissect::{Dissected, Ip};
use crate::slab::Slab;
use list::{Links, List};

/// How long flows may last, and how many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeterOptions {
    /// A flow that goes on is reported this often, with its next packet.
    pub active: Duration,
    /// A flow has ended when nothing has come for so long.
    pub idle: Duration,
    /// Most flows at a time; one more, and the one that has been quiet for the longest is reported.
    pub max_flows: usize,
}

/// Where a packet was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObservationPoint {
    /// Number of the interface.
    pub interface: u32,
    /// The interface sent it; otherwise it received it.
    pub is_sent: bool,
}

/// What the packets of a flow have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowKey {
    /// Where they were seen.
    pub point: ObservationPoint,
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source port; 0 where there is none, as in fragments other than the first.
    pub src_port: u16,
    /// Destination port; 0 where there is none. Of ICMP, type and code: 256 x type + code.
    pub dst_port: u16,
    /// Protocol behind the IP header and its extensions (IANA).
    pub protocol: u8,
    /// Identifier of the outermost VLAN tag.
    pub vlan: Option<u16>,
}

/// Why a record was made, with the numbers of flowEndReason (IANA element 136).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum FlowEndReason {
    /// Nothing came for a while.
    Idle = 1,
    /// The flow goes on.
    Active = 2,
    /// The connection has ended.
    Ended = 3,
    /// Metering ends.
    Forced = 4,
    /// There was no room for it any more.
    Resources = 5,
}

/// A flow, or what it was since its last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeteredFlow {
    /// What its packets have in common.
    pub key: FlowKey,
    /// Time of its first packet.
    pub first: Instant,
    /// Time of its last packet.
    pub last: Instant,
    /// Packets; each segment of a superframe is one.
    pub packets: u64,
    /// Bytes of these packets, from their IP headers on.
    pub octets: u64,
    /// Flags of all its TCP headers together, FIN being bit 0.
    pub tcp_flags: u8,
    /// Why it is told.
    pub end_reason: FlowEndReason,
}

/// What a [`Meter`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeterCounters {
    /// Packets that are in a flow.
    pub packets: u64,
    /// Packets without an IP header that could be read; in no flow.
    pub not_ip: u64,
    /// Records made.
    pub records: u64,
    /// Flows that were reported early to make room.
    pub evicted: u64,
    /// Flows that are not over.
    pub flows: u64,
}

/// Counts packets by flow.
#[derive(Debug)]
pub struct Meter {
    options: MeterOptions,
    flows: Slab<Entry>,
    by_key: BTreeMap<FlowKey, u32>,
    /// Flows that go on, the one that has been quiet for the longest first.
    open: List,
    /// Those of connections that have ended, whose last packets may be on their way.
    closing: List,
    ready: VecDeque<MeteredFlow>,
    counters: MeterCounters,
}

#[derive(Debug)]
struct Entry {
    flow: MeteredFlow,
    is_closing: bool,
    links: Links,
}

/// How long the last packets of a connection may take.
const LINGER: Duration = Duration::from_secs(2);

impl Meter {
    /// A meter that has seen nothing.
    pub fn new(mut options: MeterOptions) -> Self {
        options.max_flows = options.max_flows.max(1);
        Self {
            options,
            flows: Slab::default(),
            by_key: BTreeMap::new(),
            open: List::default(),
            closing: List::default(),
            ready: VecDeque::new(),
            counters: MeterCounters::default(),
        }
    }

    /// Counts a frame, which may have been cut, and which stands for so many packets.
    pub fn observe(&mut self, point: ObservationPoint, frame: &Frame, packets: u32) {
        let dissected = Dissected::new(frame);
        let Some(ip) = dissected.ip else {
            self.counters.not_ip += u64::from(packets);
            return;
        };
        self.counters.packets += u64::from(packets);
        let (key, flags) = key_of(point, &dissected, &ip, &frame.bytes);
        let at = frame.at;
        let id = self.find(&key, flags, at);
        let Some(entry) = self.flows.get_mut(id) else {
            return;
        };
        let flow = &mut entry.flow;
        flow.last = flow.last.max(at);
        flow.packets += u64::from(packets);
        flow.octets = flow
            .octets
            .saturating_add(octets(&dissected, &ip, frame, packets));
        flow.tcp_flags |= flags;
        let (was_closing, is_closing) = (entry.is_closing, flow.tcp_flags & (FIN | RST) != 0);
        entry.is_closing = is_closing;
        let from = if was_closing {
            &mut self.closing
        } else {
            &mut self.open
        };
        from.remove(id, &mut self.flows);
        let to = if is_closing {
            &mut self.closing
        } else {
            &mut self.open
        };
        to.push(id, &mut self.flows);
    }

    /// Ends flows that have been quiet for long enough.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(id) = self.closing.first()
            && self.is_due(id, self.linger(), now)
        {
            self.end(id, FlowEndReason::Ended);
        }
        while let Some(id) = self.open.first()
            && self.is_due(id, self.options.idle, now)
        {
            self.end(id, FlowEndReason::Idle);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due; `None` while there are no flows.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = |list: &List, after: Duration| {
            let entry = self.flows.get(list.first()?)?;
            Some(entry.flow.last + after)
        };
        let (open, closing) = (
            due(&self.open, self.options.idle),
            due(&self.closing, self.linger()),
        );
        open.into_iter().chain(closing).min()
    }

    /// Ends all flows: nothing more will come.
    pub fn finish(&mut self) {
        while let Some(id) = self.closing.first() {
            self.end(id, FlowEndReason::Ended);
        }
        while let Some(id) = self.open.first() {
            self.end(id, FlowEndReason::Forced);
        }
    }

    /// The next record.
    pub fn poll_flow(&mut self) -> Option<MeteredFlow> {
        self.ready.pop_front()
    }

    /// What was done so far.
    pub fn counters(&self) -> MeterCounters {
        MeterCounters {
            flows: u64::try_from(self.flows.len()).unwrap_or(u64::MAX),
            ..self.counters
        }
    }

    fn linger(&self) -> Duration {
        LINGER.min(self.options.idle)
    }

    fn is_due(&self, id: u32, after: Duration, now: Instant) -> bool {
        self.flows
            .get(id)
            .is_some_and(|entry| entry.flow.last + after <= now)
    }

    /// The flow that a packet belongs to, begun anew if it is time for that.
    fn find(&mut self, key: &FlowKey, flags: u8, at: Instant) -> u32 {
        if let Some(&id) = self.by_key.get(key)
            && let Some(entry) = self.flows.get_mut(id)
        {
            if entry.is_closing && flags & SYN != 0 {
                // The same ports again.
                self.end(id, FlowEndReason::Ended);
            } else {
                if at >= entry.flow.first + self.options.active && entry.flow.packets > 0 {
                    let mut told = entry.flow;
                    told.end_reason = FlowEndReason::Active;
                    entry.flow = begun(key, at);
                    // What has ended once goes on to be ending.
                    entry.flow.tcp_flags = told.tcp_flags & (FIN | RST);
                    self.tell(told);
                }
                return id;
            }
        }
        if self.flows.len() >= self.options.max_flows {
            self.make_room();
        }
        let id = self.flows.insert(Entry {
            flow: begun(key, at),
            is_closing: false,
            links: Links::default(),
        });
        self.by_key.insert(*key, id);
        self.open.push(id, &mut self.flows);
        id
    }

    fn make_room(&mut self) {
        if let Some(id) = self.closing.first() {
            self.end(id, FlowEndReason::Ended);
        } else if let Some(id) = self.open.first() {
            self.counters.evicted += 1;
            self.end(id, FlowEndReason::Resources);
        }
    }

    fn end(&mut self, id: u32, reason: FlowEndReason) {
        let is_closing = self.flows.get(id).is_some_and(|entry| entry.is_closing);
        let list = if is_closing {
            &mut self.closing
        } else {
            &mut self.open
        };
        list.remove(id, &mut self.flows);
        if let Some(entry) = self.flows.remove(id) {
            self.by_key.remove(&entry.flow.key);
            let mut flow = entry.flow;
            flow.end_reason = reason;
            self.tell(flow);
        }
    }

    fn tell(&mut self, flow: MeteredFlow) {
        self.counters.records += 1;
        self.ready.push_back(flow);
    }
}

const fn begun(key: &FlowKey, at: Instant) -> MeteredFlow {
    MeteredFlow {
        key: *key,
        first: at,
        last: at,
        packets: 0,
        octets: 0,
        tcp_flags: 0,
        end_reason: FlowEndReason::Forced,
    }
}

/// The flow that a packet belongs to, and its TCP flags. What is wrong with the packet does not
/// matter as long as it says this much.
fn key_of(point: ObservationPoint, dissected: &Dissected, ip: &Ip, bytes: &[u8]) -> (FlowKey, u8) {
    let transport = bytes.get(ip.payload..).filter(|_| !ip.is_later());
    let transport = transport.unwrap_or_default();
    let word = |at: usize| match transport.get(at..at + 2) {
        Some(bytes) => u16::from_be_bytes([bytes[0], bytes[1]]),
        None => 0,
    };
    let is_icmp = match ip.src {
        IpAddr::V4(_) => ip.protocol == protocol::ICMP,
        IpAddr::V6(_) => ip.protocol == protocol::ICMPV6,
    };
    let (src_port, dst_port) = match ip.protocol {
        _ if is_icmp => (0, word(0)),
        number if has_ports(number) => (word(0), word(2)),
        _ => (0, 0),
    };
    let flags = if ip.protocol == protocol::TCP {
        transport.get(13).copied().unwrap_or(0)
    } else {
        0
    };
    let key = FlowKey {
        point,
        src: ip.src,
        dst: ip.dst,
        src_port,
        dst_port,
        protocol: ip.protocol,
        vlan: dissected.vlan[0].map(|tag| tag & 0xfff),
    };
    (key, flags)
}

/// Whether packets of this protocol have ports: TCP, UDP, DCCP, SCTP and UDP-Lite.
pub const fn has_ports(number: u8) -> bool {
    matches!(number, protocol::TCP | protocol::UDP | 33 | 132 | 136)
}

/// Bytes from the IP header on, of all packets that a frame stands for.
fn octets(dissected: &Dissected, ip: &Ip, frame: &Frame, packets: u32) -> u64 {
    let len = match frame.original_len {
        0 => frame.bytes.len() as u64,
        len => len.into(),
    };
    let behind = len.saturating_sub(dissected.network as u64);
    let headers = ip.payload - dissected.network;
    // What is longer than the field can say has 0 there.
    let first = match u64::from(ip.len) {
        len if len > headers as u64 => len,
        _ => behind,
    };
    let transport = match ip.protocol {
        protocol::TCP => {
            let words = frame.bytes.get(ip.payload + 12).map_or(5, |byte| byte >> 4);
            usize::from(words) * 4
        }
        _ => 8,
    };
    first + u64::from(packets.saturating_sub(1)) * (headers + transport) as u64
}

#[cfg(test)]
mod tests;
