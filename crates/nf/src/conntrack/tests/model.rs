//! Two ends that speak TCP by the book over a network that does what it likes: nothing that they
//! say is ever invalid.

use alloc::collections::BTreeMap;

use plumb_wire::SplitMix64;
use proptest::prelude::*;

use super::*;
use crate::testing::tcp;

/// How an end is.
#[derive(Clone, Copy, Debug)]
struct Traits {
    isn: u32,
    /// Window scale that it offers, if any.
    scale: Option<u8>,
    sacks: bool,
    /// Bytes that it has room for.
    buffer: u32,
    /// Bytes that it has to say.
    talk: u32,
}

/// One end of a connection (RFC 9293), with selective acknowledgements and scaled windows.
struct Host {
    address: SocketAddr,
    peer: SocketAddr,
    traits: Traits,
    mss: u32,
    /// Both ends offer it.
    scaled: bool,
    sacks: bool,
    is_server: bool,
    opened: bool,
    acked: u32,
    next: u32,
    /// Behind what it has sent ever; `next` goes back to send again.
    highest: u32,
    limit: u32,
    peer_scale: u8,
    received: Option<u32>,
    /// What came before its turn.
    early: BTreeMap<u32, u32>,
    /// Bytes that came and were not read yet.
    unread: u32,
    /// Where the window that it has offered ends: it never goes back.
    offered: u32,
    answers: u32,
}

impl Host {
    fn new(address: SocketAddr, peer: SocketAddr, traits: Traits, is_server: bool) -> Self {
        Self {
            address,
            peer,
            traits,
            mss: 1400,
            scaled: false,
            sacks: false,
            is_server,
            opened: false,
            acked: traits.isn,
            next: traits.isn,
            highest: traits.isn,
            limit: traits.isn.wrapping_add(1),
            peer_scale: 0,
            received: None,
            early: BTreeMap::new(),
            unread: 0,
            offered: 0,
            answers: 0,
        }
    }

    /// Behind the last byte that it has to say.
    fn end(&self) -> u32 {
        self.traits
            .isn
            .wrapping_add(1)
            .wrapping_add(self.traits.talk)
    }

    /// Its window: the field, and where it ends.
    fn window(&mut self, is_syn: bool) -> u16 {
        let scale = match self.traits.scale {
            Some(scale) if self.scaled && !is_syn => scale,
            _ => 0,
        };
        let Some(received) = self.received else {
            return u16::try_from(self.traits.buffer).unwrap_or(u16::MAX);
        };
        let free = self.traits.buffer - self.unread;
        let free = free.max(self.offered.wrapping_sub(received));
        let field = u16::try_from(free >> scale).unwrap_or(u16::MAX);
        let field = if u32::from(field) << scale < self.offered.wrapping_sub(received) {
            field.saturating_add(1)
        } else {
            field
        };
        self.offered = received.wrapping_add(u32::from(field) << scale);
        field
    }

    fn segment(&mut self, flags: u8, seq: u32, payload: u32) -> Frame {
        let is_syn = flags & SYN != 0;
        let mut options = Vec::new();
        // A server offers only what it was offered.
        if is_syn
            && let Some(scale) = self.traits.scale
            && (!self.is_server || self.scaled)
        {
            options.extend([1, 3, 3, scale]);
        }
        if is_syn && self.traits.sacks && (!self.is_server || self.sacks) {
            options.extend([1, 1, 4, 2]);
        }
        if !is_syn && self.sacks && !self.early.is_empty() {
            let blocks: Vec<_> = self.early.iter().take(3).collect();
            options.extend([1, 1, 5, u8::try_from(2 + 8 * blocks.len()).unwrap()]);
            let first = self.received.unwrap();
            for (offset, len) in blocks {
                options.extend(first.wrapping_add(*offset).to_be_bytes());
                options.extend(first.wrapping_add(offset + len).to_be_bytes());
            }
        }
        let segment = Segment {
            seq,
            ack: self.received.unwrap_or(0),
            flags: flags | if self.received.is_some() { ACK } else { 0 },
            window: self.window(is_syn),
            options,
            payload: usize::try_from(payload).unwrap(),
        };
        tcp(self.address, self.peer, &segment)
    }

    /// What it sends next, if anything.
    fn say(&mut self, random: &mut SplitMix64) -> Option<Frame> {
        if self.is_server && self.received.is_none() {
            return None;
        }
        if self.acked == self.traits.isn {
            self.next = self.traits.isn.wrapping_add(1);
            self.highest = self.next;
            return Some(self.segment(SYN, self.traits.isn, 0));
        }
        if self.answers > 0 {
            self.answers -= 1;
            return Some(self.segment(ACK, self.highest, 0));
        }
        // Sending again: from any place that was not acknowledged.
        let outstanding = self.highest.wrapping_sub(self.acked);
        match random.below(12) {
            0 if outstanding > 0 => self.next = self.acked,
            1 if outstanding > 0 => {
                let back = u32::try_from(random.below(u64::from(outstanding))).unwrap();
                self.next = self.acked.wrapping_add(back);
            }
            // A keep-alive.
            2 if self.opened => return Some(self.segment(ACK, self.acked.wrapping_sub(1), 0)),
            _ => {}
        }
        let room = self.limit.wrapping_sub(self.next);
        // Whether the window has opened is tried with one byte (RFC 9293 §3.8.6.1), once all that
        // was sent is acknowledged.
        let is_shut = room == 0 && self.limit == self.acked;
        // Windows are below 2^30: what is more is before.
        let room = if room > 1 << 31 { 0 } else { room };
        let left = self.end().wrapping_sub(self.next);
        if left > self.traits.talk {
            return None;
        }
        let probe = u32::from(is_shut && random.below(4) == 0);
        let most = u32::try_from(1 + random.below(u64::from(self.mss))).unwrap();
        let len = left.min(room.max(probe)).min(most);
        let fin = if len == left && room >= len { FIN } else { 0 };
        if len == 0 && fin == 0 {
            return None;
        }
        let frame = self.segment(ACK | fin, self.next, len);
        self.next = self.next.wrapping_add(len + u32::from(fin != 0));
        if self.next.wrapping_sub(self.highest) < 1 << 31 {
            self.highest = self.next;
        }
        Some(frame)
    }

    fn hear(&mut self, frame: &Frame) {
        let Transport::Tcp(segment) = Dissected::new(frame).transport else {
            panic!("no TCP");
        };
        let is_syn = segment.flags & SYN != 0;
        if is_syn && self.received.is_none() {
            self.received = Some(segment.seq.wrapping_add(1));
            self.offered = segment.seq.wrapping_add(1);
            self.scaled = self.traits.scale.is_some() && segment.scale.is_some();
            self.sacks = self.traits.sacks && segment.sack_permitted;
            self.peer_scale = if self.scaled {
                segment.scale.unwrap()
            } else {
                0
            };
        } else if is_syn {
            self.answers += 1;
        }
        let Some(mut received) = self.received else {
            return;
        };
        if segment.flags & ACK != 0 {
            let advance = segment.ack.wrapping_sub(self.acked);
            if advance <= self.highest.wrapping_sub(self.acked) {
                self.acked = segment.ack;
                self.opened = true;
                if self.next.wrapping_sub(self.acked) > 1 << 31 {
                    self.next = self.acked;
                }
            }
            let scale = if is_syn { 0 } else { self.peer_scale };
            let limit = segment.ack.wrapping_add(u32::from(segment.window) << scale);
            if limit.wrapping_sub(self.limit) < 1 << 31 {
                self.limit = limit;
            }
        }
        let fin = u32::from(segment.flags & FIN != 0);
        // What it has no room for is dropped.
        let room = self.offered.wrapping_sub(segment.seq);
        let room = if room > 1 << 31 { 0 } else { room };
        let len = if segment.payload_len > room {
            room
        } else {
            segment.payload_len + fin
        };
        if is_syn || len == 0 {
            // Keep-alives are below what came.
            let is_old = segment.seq.wrapping_sub(received) > 1 << 31;
            self.answers += u32::from(!is_syn && (is_old || segment.payload_len > 0));
            return;
        }
        let offset = segment.seq.wrapping_sub(received);
        if offset > 1 << 31 {
            let known = received.wrapping_sub(segment.seq);
            if known < len {
                self.early.insert(0, len - known);
            }
        } else {
            let known = self.early.entry(offset).or_insert(0);
            *known = len.max(*known);
        }
        // What overlaps or touches becomes one.
        let mut joined = BTreeMap::new();
        let mut front = 0;
        let (mut start, mut end) = (0, 0);
        for (offset, len) in core::mem::take(&mut self.early) {
            if offset > end {
                joined.insert(start, end - start);
                start = offset;
            }
            end = end.max(offset + len);
            if start == 0 {
                front = end;
            }
        }
        joined.insert(start, end - start);
        joined.remove(&0);
        self.early = joined;
        received = received.wrapping_add(front);
        self.early = self
            .early
            .iter()
            .map(|(offset, len)| (offset - front, *len))
            .collect();
        self.unread = (self.unread + front).min(self.traits.buffer);
        self.received = Some(received);
        self.answers += 1;
    }

    fn is_done(&self) -> bool {
        self.acked == self.end().wrapping_add(1)
    }
}

fn traits() -> impl Strategy<Value = Traits> {
    let isn = prop_oneof![any::<u32>(), u32::MAX - 20_000..=u32::MAX];
    let scale = proptest::option::of(0..=14u8);
    (isn, scale, any::<bool>(), 500..400_000u32, 0..60_000u32).prop_map(
        |(isn, scale, sacks, buffer, talk)| Traits {
            isn,
            scale,
            sacks,
            buffer,
            talk,
        },
    )
}

/// A conversation. Packets wait before the wire and behind it, are lost and overtaken there; only a
/// SYN is not overtaken by what follows it, since it may be of a new connection then, as Linux has
/// it, too. Says whether it came to its end.
fn converse(ends: [Traits; 2], seed: u64, loss: u64, depth: u64) -> Result<bool, TestCaseError> {
    let mut random = SplitMix64::new(seed);
    let (client, server) = (end("10.0.0.2:40000"), end("192.0.2.1:80"));
    let mut hosts = [
        Host::new(client, server, ends[0], false),
        Host::new(server, client, ends[1], true),
    ];
    let mut wire = Wire::new(Config::default());
    let mut before: [Vec<Frame>; 2] = Default::default();
    let mut behind: [Vec<Frame>; 2] = Default::default();
    let (mut answered, mut opened) = (false, [false; 2]);
    for _ in 0..6000 {
        let who = usize::from(random.below(2) == 1);
        let reads = u32::try_from(random.below(50_000)).unwrap();
        hosts[who].unread -= reads.min(hosts[who].unread);
        if let Some(frame) = hosts[who].say(&mut random) {
            before[who].push(frame);
        }
        for _ in 0..2 {
            let way = usize::from(random.below(2) == 1);
            let mut take = |from: &mut Vec<Frame>| {
                let most = u64::try_from(from.len()).unwrap().min(depth);
                let at = usize::try_from(random.below(most)).unwrap();
                let frame = (!from.is_empty()).then(|| from.remove(at));
                frame.filter(|_| random.below(100) >= loss)
            };
            let flags = |frame: &Frame| {
                let Transport::Tcp(segment) = Dissected::new(frame).transport else {
                    panic!("no TCP");
                };
                segment.flags
            };
            let frame = take(&mut before[way]);
            if let Some(frame) = frame.filter(|frame| !opened[way] || flags(frame) & SYN == 0) {
                opened[way] |= flags(&frame) & SYN == 0;
                wire.now = wire.now + Duration::from_millis(1);
                let tracked = wire.send(&frame);
                answered |= way == 1;
                let expected = if answered {
                    State::Established
                } else {
                    State::New
                };
                prop_assert_eq!(
                    tracked.state,
                    expected,
                    "{:?} {:?}",
                    tracked,
                    Dissected::new(&frame).transport
                );
                let direction = if way == 0 {
                    Direction::Original
                } else {
                    Direction::Reply
                };
                prop_assert_eq!(tracked.direction, direction);
                behind[way].push(frame);
            }
            if let Some(frame) = take(&mut behind[way]) {
                hosts[1 - way].hear(&frame);
            }
        }
        if hosts.iter().all(Host::is_done) {
            return Ok(true);
        }
    }
    Ok(false)
}

proptest! {
    #[test]
    fn nothing_that_two_tcps_say_is_invalid(
        client in traits(), server in traits(), seed: u64, loss in 0..20u64, depth in 1..12u64,
    ) {
        converse([client, server], seed, loss, depth)?;
    }
}

/// The property above would prove nothing if its conversations never came to their end.
#[test]
fn conversations_come_to_their_end() {
    let talks = Traits {
        isn: u32::MAX - 3000,
        scale: Some(7),
        sacks: true,
        buffer: 50_000,
        talk: 30_000,
    };
    for seed in 0..20 {
        assert!(converse([talks, talks], seed, 5, 4).unwrap(), "{seed}");
    }
}
