//! Frames of UDP flows, with numbers.

use core::net::Ipv4Addr;

use plumb_link::stage::LinkFrame;
use plumb_wire::{Checksum, ethernet, ipv4, protocol, udp};

/// Who sends.
const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// The port that the flows go to (discard).
const PORT: u16 = 9;

/// Offset of the number: behind the headers.
const NUMBER: usize = ethernet::HEADER_LEN + ipv4::HEADER_LEN + udp::HEADER_LEN;
const MOST_FLOWS: usize = 64;
/// Bytes of all flows' frames together, so that they stay in a core's cache.
const BYTES: usize = 256 * 1024;

/// Flows whose frames come in turn.
#[derive(Debug)]
pub(super) struct Flows {
    frames: Vec<LinkFrame>,
    number: u32,
    turn: usize,
}

impl Flows {
    /// Flows to an address, with frames of this length, without a check sequence.
    pub(super) fn new(to: Ipv4Addr, frame_len: usize) -> Self {
        let len = frame_len.max(NUMBER + 8);
        let count = (BYTES / len).clamp(4, MOST_FLOWS);
        Self {
            frames: (0..count).map(|index| frame(to, len, index)).collect(),
            number: 0,
            turn: 0,
        }
    }

    /// The next frame.
    pub(super) fn next(&mut self, at_ns: u64) -> &LinkFrame {
        let turn = self.turn;
        self.turn = (turn + 1) % self.frames.len();
        let number = self.number;
        self.number = number.wrapping_add(1);
        let frame = &mut self.frames[turn];
        frame.meta.at_ns = at_ns;
        // With its complement beside it, the number leaves the checksum as it is.
        frame.bytes[NUMBER..NUMBER + 4].copy_from_slice(&number.to_be_bytes());
        frame.bytes[NUMBER + 4..NUMBER + 8].copy_from_slice(&(!number).to_be_bytes());
        frame
    }
}

/// The number of a frame, if it is one of ours.
pub(super) fn number(bytes: &[u8]) -> Option<u32> {
    let field: [u8; 8] = bytes.get(NUMBER..NUMBER + 8)?.try_into().ok()?;
    let [a, b, c, d, e, f, g, h] = field;
    let number = u32::from_be_bytes([a, b, c, d]);
    (number == !u32::from_be_bytes([e, f, g, h])).then_some(number)
}

fn frame(to: Ipv4Addr, len: usize, index: usize) -> LinkFrame {
    let mut bytes = vec![0; len];
    let (link, rest) = bytes.split_at_mut(ethernet::HEADER_LEN);
    ethernet::Header {
        dst: [2, 0, 0, 0, 0, 2],
        src: [2, 0, 0, 0, 0, 1],
        ethertype: ethernet::ethertype::IPV4,
    }
    .emit(link);
    let total = u16::try_from(rest.len()).unwrap_or(u16::MAX);
    let (ip, rest) = rest.split_at_mut(ipv4::HEADER_LEN);
    ipv4::Header {
        total_len: total,
        ident: 0,
        flags_fragment: ipv4::DONT_FRAGMENT,
        ttl: 64,
        protocol: protocol::UDP,
        src: SOURCE,
        dst: to,
        tos: 0,
    }
    .emit(ip);
    let src = 20_000 + u16::try_from(index).unwrap_or(0);
    rest[udp::HEADER_LEN + 4..udp::HEADER_LEN + 8].fill(0xff);
    let udp_len = u16::try_from(rest.len()).unwrap_or(u16::MAX);
    rest[..2].copy_from_slice(&src.to_be_bytes());
    rest[2..4].copy_from_slice(&PORT.to_be_bytes());
    rest[4..6].copy_from_slice(&udp_len.to_be_bytes());
    let sum = Checksum::new()
        .pseudo_header(SOURCE.into(), to.into(), protocol::UDP, rest.len())
        .bytes(rest)
        .finish();
    rest[6..8].copy_from_slice(&if sum == 0 { 0xffff } else { sum }.to_be_bytes());
    LinkFrame {
        bytes,
        ..LinkFrame::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plumb_wire::checksum;

    #[test]
    fn frames_are_numbered_in_turn_and_their_checksums_hold() {
        let to = Ipv4Addr::new(10, 0, 1, 2);
        for len in [64, 65, 1500, 65_500] {
            let mut flows = Flows::new(to, len);
            for expected in 0..200 {
                let frame = flows.next(1).bytes.clone();
                assert_eq!((number(&frame), frame.len()), (Some(expected), len));
                assert_eq!(checksum(&frame[14..34]), 0);
                let udp = &frame[34..];
                let sum = Checksum::new()
                    .pseudo_header(SOURCE.into(), to.into(), protocol::UDP, udp.len())
                    .bytes(udp);
                assert_eq!(sum.finish(), 0);
            }
        }
        assert_eq!(number(&[0; 64]), None);
    }
}
