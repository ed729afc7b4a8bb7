//! Copies of what passes.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use plumb_wire::Instant;
use plumb_wire::frame::{Offload, Port};

use crate::offload::segment;
use crate::{Counter, Frame, Function, Output};

/// Which copies a [`Mirror`] makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MirrorOptions {
    /// Only frames that leave by this port are copied; `None` for all.
    pub direction: Option<Port>,
    /// Bytes of each frame that are copied at most.
    pub snap_len: usize,
    /// Superframes are copied whole and unfinished, instead of as the packets that a wire would carry.
    pub whole: bool,
    /// Copies that may wait to be taken; what finds no room is not copied.
    pub most_waiting: usize,
    /// Bytes of copies that may wait to be taken.
    pub most_waiting_bytes: usize,
}

impl Default for MirrorOptions {
    fn default() -> Self {
        Self {
            direction: None,
            snap_len: usize::MAX,
            whole: false,
            most_waiting: 4096,
            most_waiting_bytes: 8 << 20,
        }
    }
}

/// Passes everything on, unchanged and at once, and keeps copies until its owner takes them.
#[derive(Debug)]
pub struct Mirror {
    options: MirrorOptions,
    waiting: VecDeque<(Port, Frame)>,
    waiting_bytes: usize,
    /// Buffers of copies that were taken.
    spare: Output,
    cut: Vec<Frame>,
    passed: u64,
    copied: u64,
    copied_bytes: u64,
    dropped: u64,
    unfit: u64,
}

impl Mirror {
    /// A mirror that has seen nothing.
    pub fn new(options: MirrorOptions) -> Self {
        Self {
            options,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            spare: Output::default(),
            cut: Vec::new(),
            passed: 0,
            copied: 0,
            copied_bytes: 0,
            dropped: 0,
            unfit: 0,
        }
    }

    /// The oldest copy that waits, with the port by which the frame left.
    pub fn copy(&self) -> Option<(Port, &Frame)> {
        self.waiting.front().map(|(port, frame)| (*port, frame))
    }

    /// Forgets the oldest copy: it was taken.
    pub fn taken(&mut self) {
        if let Some(len) = self.forget() {
            self.copied += 1;
            self.copied_bytes += u64::try_from(len).unwrap_or(u64::MAX);
        }
    }

    /// Forgets the oldest copy: nobody will take it.
    pub fn refused(&mut self) {
        self.dropped += u64::from(self.forget().is_some());
    }

    fn forget(&mut self) -> Option<usize> {
        let (_, frame) = self.waiting.pop_front()?;
        let len = frame.bytes.len();
        self.waiting_bytes -= len;
        self.spare.recycle(frame);
        Some(len)
    }

    fn make_copy(&mut self, to: Port, frame: &Frame) {
        if self.options.whole || frame.offload.is_complete() {
            let mut copy = self.spare.empty();
            let len = frame.bytes.len().min(self.options.snap_len);
            copy.at = frame.at;
            copy.offload = frame.offload;
            copy.original_len = frame.original_len;
            copy.comment.push_str(&frame.comment);
            copy.bytes.extend_from_slice(&frame.bytes[..len]);
            if len < frame.bytes.len() {
                copy.original_len = copy.original_len.max(original(frame));
                copy.offload = Offload::NONE;
            }
            self.wait(to, copy);
            return;
        }
        let copy = self.spare.copy(frame);
        let mut cut = core::mem::take(&mut self.cut);
        if segment(copy, &mut self.spare, &mut cut) == 0 {
            self.unfit += 1;
        }
        for mut piece in cut.drain(..) {
            if piece.bytes.len() > self.options.snap_len {
                piece.original_len = original(&piece);
                piece.bytes.truncate(self.options.snap_len);
            }
            self.wait(to, piece);
        }
        self.cut = cut;
    }

    fn wait(&mut self, to: Port, copy: Frame) {
        let bytes = self.waiting_bytes + copy.bytes.len();
        if self.waiting.len() >= self.options.most_waiting
            || bytes > self.options.most_waiting_bytes
        {
            self.dropped += 1;
            self.spare.recycle(copy);
            return;
        }
        self.waiting_bytes = bytes;
        self.waiting.push_back((to, copy));
    }
}

impl Function for Mirror {
    fn handle_frames(&mut self, from: Port, batch: &mut Vec<Frame>, _: Instant, out: &mut Output) {
        let to = from.opposite();
        let wanted = self.options.direction.is_none_or(|only| only == to);
        for frame in batch.drain(..) {
            self.passed += 1;
            if wanted {
                self.make_copy(to, &frame);
            }
            out.send(to, frame);
        }
    }

    fn handle_timeout(&mut self, _: Instant, _: &mut Output) {}

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn counters(&self) -> Vec<Counter> {
        let waiting = u64::try_from(self.waiting.len()).unwrap_or(u64::MAX);
        [
            ("passed_frames", self.passed),
            ("copied_frames", self.copied),
            ("copied_bytes", self.copied_bytes),
            ("copy_no_room_frames", self.dropped),
            ("copy_unfit_frames", self.unfit),
            ("copy_waiting_frames", waiting),
        ]
        .map(|(name, value)| Counter { name, value })
        .into()
    }
}

fn original(frame: &Frame) -> u32 {
    u32::try_from(frame.bytes.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use plumb_wire::frame::{Gso, PartialChecksum, Segmentation};
    use proptest::prelude::*;

    fn pass(mirror: &mut Mirror, from: Port, frames: &[Frame]) -> Vec<(Port, Frame)> {
        let mut out = Output::default();
        let mut batch = frames.to_vec();
        mirror.handle_frames(from, &mut batch, Instant::ZERO, &mut out);
        assert!(batch.is_empty());
        core::mem::take(out.sent())
    }

    fn count(mirror: &Mirror, name: &str) -> u64 {
        let counters = mirror.counters();
        counters.iter().find(|c| c.name == name).unwrap().value
    }

    proptest! {
        #[test]
        fn everything_passes_unchanged_and_each_frame_is_copied_or_counted(
            lens in proptest::collection::vec((0..3000usize, any::<bool>()), 0..60),
            snap_len in 1..2000usize, most in 0..20usize, most_bytes in 0..20_000usize, takes in 0..4usize,
        ) {
            let mut mirror = Mirror::new(MirrorOptions {
                snap_len,
                most_waiting: most,
                most_waiting_bytes: most_bytes,
                ..MirrorOptions::default()
            });
            for (n, (len, left)) in lens.iter().enumerate() {
                let from = if *left { Port::Left } else { Port::Right };
                let frame = Frame::new(Instant::from_nanos(n as u64), &alloc::vec![7; *len]);
                let passed = pass(&mut mirror, from, core::slice::from_ref(&frame));
                prop_assert_eq!(&passed[..], &[(from.opposite(), frame)][..]);
                for _ in 0..takes {
                    if let Some((_, copy)) = mirror.copy() {
                        prop_assert!(copy.bytes.len() <= snap_len);
                        let cut = copy.bytes.len() == snap_len && copy.original_len != 0;
                        prop_assert!(cut || copy.original_len == 0);
                    }
                    mirror.taken();
                }
                prop_assert!(mirror.waiting.len() <= most && mirror.waiting_bytes <= most_bytes);
            }
            let all = ["copied_frames", "copy_no_room_frames", "copy_waiting_frames"];
            let sum: u64 = all.iter().map(|name| count(&mirror, name)).sum();
            prop_assert_eq!(sum, lens.len() as u64);
        }
    }

    #[test]
    fn only_the_chosen_direction_is_copied_and_a_cut_copy_says_how_long_it_was() {
        let mut mirror = Mirror::new(MirrorOptions {
            direction: Some(Port::Right),
            snap_len: 40,
            ..MirrorOptions::default()
        });
        let frame = Frame::new(Instant::from_nanos(5), &[1; 100]);
        pass(&mut mirror, Port::Right, core::slice::from_ref(&frame));
        assert_eq!(mirror.copy(), None);
        pass(&mut mirror, Port::Left, core::slice::from_ref(&frame));
        let mut expected = Frame::new(frame.at, &[1; 40]);
        expected.original_len = 100;
        assert_eq!(mirror.copy(), Some((Port::Right, &expected)));
    }

    #[test]
    fn a_superframe_passes_whole_and_is_copied_as_a_wire_would_carry_it() {
        // An IPv4 UDP superframe of 2500 bytes in pieces of 1000.
        let mut frame = Frame::new(Instant::ZERO, &[0; 14 + 20 + 8 + 2500]);
        frame.bytes[12] = 8;
        frame.bytes[14] = 0x45;
        frame.bytes[23] = 17;
        let len = u16::try_from(frame.bytes.len() - 14).unwrap();
        frame.bytes[16..18].copy_from_slice(&len.to_be_bytes());
        frame.offload.checksum = Some(PartialChecksum {
            start: 34,
            offset: 6,
        });
        frame.offload.gso = Some(Gso {
            kind: Segmentation::Udp,
            size: 1000,
            header_len: 42,
            ecn: false,
        });
        for (whole, copies) in [(false, 3), (true, 1)] {
            let mut mirror = Mirror::new(MirrorOptions {
                whole,
                ..MirrorOptions::default()
            });
            let passed = pass(&mut mirror, Port::Left, core::slice::from_ref(&frame));
            assert_eq!(passed, [(Port::Right, frame.clone())]);
            assert_eq!(mirror.waiting.len(), copies);
            let (_, first) = mirror.copy().unwrap();
            assert_eq!(first.offload.is_complete(), !whole);
        }
    }
}
