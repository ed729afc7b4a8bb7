//! Making superframes of the TCP segments that come one behind the other, as a network card does
//! for its host (generic receive offload): whoever takes them has the work of one frame instead of
//! dozens.
//!
//! Nothing is lost by it: cut again ([`segment`](crate::segment)), a superframe is the frames that it
//! was made of, to the byte. What could not be had back stays as it is, and so does what comes again.

use alloc::vec::Vec;

use plumb_wire::frame::{Gso, Offload, PartialChecksum, Port, Segmentation};
use plumb_wire::{Instant, checksum, ethernet, ipv4, ipv6, protocol, tcp};

use crate::headers::Headers;
use crate::offload::{get, network_header, put, word};
use crate::{Counter, Frame, Function, Output};

/// Bytes of the longest IP packet.
const MOST: usize = 65_535;
/// Where TCP has its checksum.
const TCP_CHECKSUM: u16 = 16;

/// A function that passes everything on, and makes superframes of what leaves by one port.
#[derive(Clone, Copy, Debug)]
pub struct Coalesce {
    to: Port,
    /// The connection of the last segment, and where its data goes on.
    last: Option<(Flow, u32)>,
    made: u64,
    taken: u64,
}

/// Addresses and ports of one direction of a connection.
type Flow = ([u8; 32], [u8; 4]);

impl Coalesce {
    /// For a port to which superframes may go.
    pub const fn towards(to: Port) -> Self {
        Self {
            to,
            last: None,
            made: 0,
            taken: 0,
        }
    }

    /// Whether a segment comes again: together with new data it would not be seen to be a duplicate.
    /// Takes note of the others.
    fn is_old(&mut self, segment: &Segment, bytes: &[u8]) -> bool {
        let (flow, seq) = (segment.flow(bytes), segment.headers.seq(bytes));
        if let Some((last, next)) = self.last
            && last == flow
            && seq.wrapping_sub(next).cast_signed() < 0
        {
            return true;
        }
        let len = u32::try_from(bytes.len() - segment.payload).unwrap_or(0);
        self.last = Some((flow, seq.wrapping_add(len)));
        false
    }

    fn send(&mut self, run: Option<Run>, out: &mut Output) {
        let Some(run) = run else {
            return;
        };
        if run.count > 1 {
            self.made += 1;
            self.taken += u64::from(run.count);
        }
        out.send(self.to, run.finish());
    }
}

impl Function for Coalesce {
    fn handle_frames(&mut self, from: Port, batch: &mut Vec<Frame>, _: Instant, out: &mut Output) {
        if from == self.to {
            for frame in batch.drain(..) {
                out.send(from.opposite(), frame);
            }
            return;
        }
        let mut run: Option<Run> = None;
        for frame in batch.drain(..) {
            let segment = Segment::of(&frame).filter(|s| !self.is_old(s, &frame.bytes));
            if let (Some(run), Some(segment)) = (&mut run, &segment)
                && run.take(&frame, segment)
            {
                out.recycle(frame);
                continue;
            }
            self.send(run.take(), out);
            match segment {
                Some(segment) => run = Some(Run::new(frame, segment)),
                None => out.send(self.to, frame),
            }
        }
        self.send(run, out);
    }

    fn handle_timeout(&mut self, _: Instant, _: &mut Output) {}

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn passes(&self, from: Port) -> bool {
        from == self.to
    }

    fn heads_suffice(&self) -> bool {
        // Superframes are passed on as they are.
        true
    }

    fn counters(&self) -> Vec<Counter> {
        [
            ("coalesced_segments", self.taken),
            ("superframes", self.made),
        ]
        .map(|(name, value)| Counter { name, value })
        .into()
    }
}

/// A TCP segment that could be a piece of a superframe. Its checksum is not looked at yet.
#[derive(Clone, Copy, Debug)]
struct Segment {
    headers: Headers,
    payload: usize,
}

impl Segment {
    fn of(frame: &Frame) -> Option<Self> {
        let bytes = &frame.bytes[..];
        let is_plain = frame.offload.is_complete()
            && frame.original_len == 0
            && frame.comment.is_empty()
            && bytes.len() <= MOST;
        if !is_plain {
            return None;
        }
        let (ethertype, ip) = network_header(bytes)?;
        let packet = bytes.get(ip..)?;
        // Without options and extension headers, whole, and with nothing behind it.
        let (is_v6, transport) = match ethertype {
            ethernet::ethertype::IPV4 => {
                let (header, _) = ipv4::Header::parse(packet).ok()?;
                let is_whole = header.flags_fragment & !ipv4::DONT_FRAGMENT == 0
                    && usize::from(header.total_len) == packet.len()
                    && packet[0] & 0x0f == 5;
                let is_tcp = header.protocol == protocol::TCP;
                (is_whole && is_tcp).then_some((false, ip + ipv4::HEADER_LEN))?
            }
            ethernet::ethertype::IPV6 => {
                let (header, rest) = ipv6::Header::parse(packet).ok()?;
                let is_whole = usize::from(header.payload_len) == rest.len();
                let is_tcp = header.next_header == protocol::TCP;
                (is_whole && is_tcp).then_some((true, ip + ipv6::HEADER_LEN))?
            }
            _ => return None,
        };
        let rest = bytes.get(transport..)?;
        let (header, data) = tcp::Header::parse(rest).ok()?;
        let carries_data = header.flags & !tcp::PSH == tcp::ACK && !data.is_empty();
        carries_data.then_some(Self {
            headers: Headers {
                ip,
                is_v6,
                transport,
            },
            payload: bytes.len() - data.len(),
        })
    }

    fn flow(&self, bytes: &[u8]) -> Flow {
        let mut flow = Flow::default();
        let addresses = self.headers.addresses(bytes);
        let ports = &bytes[self.headers.transport..self.headers.transport + 4];
        flow.0[..addresses.len()].copy_from_slice(addresses);
        flow.1.copy_from_slice(ports);
        flow
    }

    /// Whether its checksums are right, and as they would be written again.
    fn is_sound(&self, bytes: &[u8]) -> bool {
        let Headers {
            ip,
            is_v6,
            transport,
        } = self.headers;
        let field = transport + usize::from(TCP_CHECKSUM);
        let pseudo_header = self.headers.pseudo_header(bytes, protocol::TCP);
        let sum = pseudo_header.bytes(&bytes[transport..]);
        let header = &bytes[ip..transport];
        sum.finish() == 0
            && get(bytes, field) != 0
            && (is_v6 || checksum(header) == 0 && get(header, 10) != 0xffff)
    }
}

/// Segments that follow each other, of which the first has taken in the others.
#[derive(Debug)]
struct Run {
    whole: Frame,
    first: Segment,
    /// Payload bytes of each segment but the last.
    size: usize,
    count: u16,
    /// Nothing may follow: the last one was shorter, or is to be handed on at once.
    is_closed: bool,
    /// Whether the first has been looked at; it is only if there is a second.
    is_sound: bool,
}

impl Run {
    fn new(whole: Frame, first: Segment) -> Self {
        let size = whole.bytes.len() - first.payload;
        Self {
            is_closed: whole.bytes[first.headers.transport + 13] & tcp::PSH != 0,
            whole,
            first,
            size,
            count: 1,
            is_sound: false,
        }
    }

    /// Takes a segment in, if it is the next one.
    fn take(&mut self, frame: &Frame, segment: &Segment) -> bool {
        if self.is_closed || !self.is_followed_by(&frame.bytes, segment) {
            return false;
        }
        if !self.is_sound {
            if !self.first.is_sound(&self.whole.bytes) {
                self.is_closed = true;
                return false;
            }
            self.is_sound = true;
        }
        if !segment.is_sound(&frame.bytes) {
            return false;
        }
        let data = &frame.bytes[segment.payload..];
        let flags = frame.bytes[segment.headers.transport + 13];
        self.whole.bytes.extend_from_slice(data);
        self.whole.bytes[self.first.headers.transport + 13] |= flags;
        self.count += 1;
        self.is_closed = data.len() < self.size || flags & tcp::PSH != 0;
        true
    }

    /// Whether a segment's headers say that it is the next one.
    fn is_followed_by(&self, next: &[u8], segment: &Segment) -> bool {
        let (whole, first) = (&self.whole.bytes[..], &self.first);
        let Segment { headers, payload } = *first;
        let Headers {
            ip,
            is_v6,
            transport,
        } = headers;
        let data_len = next.len() - segment.payload;
        let fits = segment.payload == payload
            && segment.headers == headers
            && data_len <= self.size
            && whole.len() - ip + data_len <= MOST;
        if !fits {
            return false;
        }
        let same = |from: usize, to: usize| whole[from..to] == next[from..to];
        let same_network = if is_v6 {
            same(0, ip + 4) && same(ip + 6, transport)
        } else {
            let ident = get(whole, ip + 4).wrapping_add(self.count);
            same(0, ip + 2)
                && get(next, ip + 4) == ident
                && same(ip + 6, ip + 10)
                && same(ip + 12, transport)
        };
        let taken = u32::try_from(whole.len() - payload).unwrap_or(u32::MAX);
        same_network
            && same(transport, transport + 4)
            && headers.seq(next) == headers.seq(whole).wrapping_add(taken)
            // Acknowledgement, length; the flags are known; window.
            && same(transport + 8, transport + 13)
            && same(transport + 14, transport + 16)
            // Urgent pointer and options.
            && same(transport + 18, payload)
    }

    fn finish(self) -> Frame {
        let Self {
            mut whole, first, ..
        } = self;
        if self.count == 1 {
            return whole;
        }
        let Headers {
            is_v6, transport, ..
        } = first.headers;
        first.headers.put_len(&mut whole.bytes);
        let pseudo_header = first.headers.pseudo_header(&whole.bytes, protocol::TCP);
        let sum = pseudo_header.fold();
        put(&mut whole.bytes, transport + usize::from(TCP_CHECKSUM), sum);
        whole.offload = Offload {
            checksum: Some(PartialChecksum {
                start: word(transport),
                offset: TCP_CHECKSUM,
            }),
            gso: Some(Gso {
                kind: if is_v6 {
                    Segmentation::TcpV6
                } else {
                    Segmentation::TcpV4
                },
                size: word(self.size),
                header_len: word(first.payload),
                ecn: false,
            }),
            checksum_verified: false,
        };
        whole
    }
}

#[cfg(test)]
mod tests;
