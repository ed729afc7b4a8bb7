//! Counting: passes everything on.

use alloc::vec::Vec;

use plumb_wire::frame::Port;
use plumb_wire::{Instant, ethernet};

use crate::{Counter, Frame, Function, Output};

/// Counts frames and bytes by direction and by kind of payload; changes nothing.
#[derive(Clone, Debug, Default)]
pub struct Count {
    from_left: Tally,
    from_right: Tally,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    frames: u64,
    bytes: u64,
    ipv4: u64,
    ipv6: u64,
    arp: u64,
}

impl Count {
    /// All counters at zero.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Function for Count {
    fn handle_frames(&mut self, from: Port, batch: &mut Vec<Frame>, _: Instant, out: &mut Output) {
        let tally = match from {
            Port::Left => &mut self.from_left,
            Port::Right => &mut self.from_right,
        };
        for frame in batch.drain(..) {
            tally.add(&frame);
            out.send(from.opposite(), frame);
        }
    }

    fn handle_timeout(&mut self, _: Instant, _: &mut Output) {}

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn heads_suffice(&self) -> bool {
        true
    }

    fn counters(&self) -> Vec<Counter> {
        let (left, right) = (self.from_left, self.from_right);
        [
            ("left_frames", left.frames),
            ("left_bytes", left.bytes),
            ("left_ipv4_frames", left.ipv4),
            ("left_ipv6_frames", left.ipv6),
            ("left_arp_frames", left.arp),
            ("right_frames", right.frames),
            ("right_bytes", right.bytes),
            ("right_ipv4_frames", right.ipv4),
            ("right_ipv6_frames", right.ipv6),
            ("right_arp_frames", right.arp),
        ]
        .map(|(name, value)| Counter { name, value })
        .into()
    }
}

impl Tally {
    fn add(&mut self, frame: &Frame) {
        let len = u32::try_from(frame.bytes.len()).unwrap_or(u32::MAX);
        self.frames += 1;
        self.bytes += u64::from(len.max(frame.original_len));
        let ethertype = ethernet::Header::parse(&frame.bytes).map(|(header, _)| header.ethertype);
        match ethertype {
            Ok(ethernet::ethertype::IPV4) => self.ipv4 += 1,
            Ok(ethernet::ethertype::IPV6) => self.ipv6 += 1,
            Ok(ethernet::ethertype::ARP) => self.arp += 1,
            _ => {}
        }
    }
}
