//! Choosing packets in user space, where the kernel does not load the program of a filter: the kernel
//! then hands on every packet as a whole, and what it would have done with it is done here.

use core::cell::Cell;

use super::choice::Choice;
use super::layout::Counters;
use super::record::Packet;
use super::session::Limits;

/// Chooses packets of the ring, and cuts those that are chosen.
#[derive(Debug)]
pub(crate) struct UserSpace {
    /// Why.
    pub(crate) reason: String,
    counted: Cell<Counted>,
}

/// What the kernel does not know of packets that it has handed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    left_out: u64,
    /// Bytes that were left out, with packets or behind the slices of others.
    left_out_bytes: u64,
    truncated: u64,
}

impl UserSpace {
    pub(crate) fn new(reason: String) -> Self {
        Self {
            reason,
            counted: Cell::default(),
        }
    }

    /// Returns what of a packet is handed on, if it is chosen. `frame` is room to put it together in.
    pub(crate) fn choose<'a>(
        &self,
        choice: &Choice,
        limits: &Limits,
        packet: &Packet<'a>,
        frame: &mut Vec<u8>,
    ) -> Option<Packet<'a>> {
        let mut counted = self.counted.get();
        // A filter sees what is behind the headers even where nobody else shall.
        let seen = Packet {
            payload_at: None,
            ..*packet
        };
        let (len, _) = seen.frame(0, frame);
        let chosen = choice.chooses(frame, len).then(|| {
            let mut kept = packet.bytes.len();
            if limits.snaplen > 0 {
                kept = kept.min(limits.snaplen as usize);
            }
            if let Some(payload) = packet.payload_at.filter(|_| limits.headers_only) {
                kept = kept.min(usize::from(payload));
            }
            Packet {
                bytes: &packet.bytes[..kept],
                payload_at: packet.payload_at.filter(|_| limits.mask),
                ..*packet
            }
        });
        let kept = chosen.map_or(0, |chosen| chosen.bytes.len());
        counted.left_out_bytes += (packet.bytes.len() - kept) as u64;
        match chosen {
            None => counted.left_out += 1,
            Some(_) if kept < packet.bytes.len() => counted.truncated += 1,
            Some(_) => {}
        }
        self.counted.set(counted);
        chosen
    }

    /// Makes of what the kernel has counted what it would have, had it chosen.
    pub(crate) fn correct(&self, counters: &mut Counters) {
        let counted = self.counted.get();
        let less = |count: &mut u64, by| *count = count.saturating_sub(by);
        less(&mut counters.matched, counted.left_out);
        less(&mut counters.delivered, counted.left_out);
        less(&mut counters.delivered_bytes, counted.left_out_bytes);
        counters.truncated += counted.truncated;
    }
}

#[cfg(test)]
mod tests {
    use plumb_wire::Instant;
    use plumb_wire::frame::Offload;

    use super::super::filter::compile;
    use super::super::program::Hook;
    use super::*;

    fn packet(bytes: &[u8]) -> Packet<'_> {
        Packet {
            at: Instant::ZERO,
            interface: 1,
            hook: Hook::Ingress,
            tag: None,
            len: u32::try_from(bytes.len()).expect("a short packet"),
            segments: 1,
            offload: Offload::default(),
            payload_at: Some(50),
            bytes,
        }
    }

    fn chosen(limits: Limits, filter: &str, bytes: &[u8]) -> (Option<Vec<u8>>, Counters) {
        let user_space = UserSpace::new(String::new());
        let choice = Choice::from(compile(filter).expect("a filter"));
        let packet = packet(bytes);
        let chosen = user_space.choose(&choice, &limits, &packet, &mut Vec::new());
        let bytes = chosen.map(|packet| {
            let mut frame = Vec::new();
            packet.frame(0, &mut frame);
            frame
        });
        let mut counters = Counters {
            matched: 1,
            delivered: 1,
            delivered_bytes: packet.bytes.len() as u64,
            ..Counters::default()
        };
        user_space.correct(&mut counters);
        (bytes, counters)
    }

    #[test]
    fn a_filter_sees_what_is_cut_and_masked_behind_it() {
        let bytes = [7; 100];
        let limits = Limits {
            snaplen: 80,
            mask: true,
            ..Limits::default()
        };
        let (kept, counters) = chosen(limits, "ether[90] = 7 and len = 100", &bytes);
        let mut expected = bytes[..80].to_vec();
        expected[50..].fill(0);
        assert_eq!(kept, Some(expected));
        assert_eq!((counters.matched, counters.delivered_bytes), (1, 80));
        assert_eq!(counters.truncated, 1);
    }

    #[test]
    fn headers_are_kept_alone_and_packets_whole() {
        let bytes = [7; 100];
        let headers_only = Limits {
            headers_only: true,
            ..Limits::default()
        };
        assert_eq!(chosen(headers_only, "", &bytes).0, Some(vec![7; 50]));
        let (kept, counters) = chosen(Limits::default(), "", &bytes);
        assert_eq!(kept.as_deref(), Some(&bytes[..]));
        assert_eq!(counters.truncated, 0);
    }

    #[test]
    fn what_is_left_out_is_not_counted_as_matched() {
        let (kept, counters) = chosen(Limits::default(), "ether[0] = 8", &[7; 100]);
        assert_eq!(kept, None);
        let counted = (counters.matched, counters.delivered);
        assert_eq!((counted, counters.delivered_bytes), ((0, 0), 0));
    }
}
