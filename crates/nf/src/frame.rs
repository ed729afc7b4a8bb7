//! A frame on its way through a function.

use alloc::string::String;
use alloc::vec::Vec;

use plumb_wire::Instant;
use plumb_wire::frame::Offload;

/// An Ethernet frame with what is known about it. Its buffers are used again for other frames, so
/// that passing frames on allocates nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// When it arrived. A function that holds a frame back sets it to when the frame left.
    pub at: Instant,
    /// What is left to do before it could go onto a real wire.
    pub offload: Offload,
    /// Length that it had where it was captured, if that is more than `bytes`; 0 for live frames.
    pub original_len: u32,
    /// A note for people, for example the verdict of a firewall; empty for none.
    pub comment: String,
    /// The frame from the destination MAC address on, without its check sequence.
    pub bytes: Vec<u8>,
}

impl Frame {
    /// A frame that arrived at `at`, of which nothing is left to do.
    pub fn new(at: Instant, bytes: &[u8]) -> Self {
        Self {
            at,
            bytes: bytes.to_vec(),
            ..Self::default()
        }
    }

    /// Becomes an empty frame that keeps its buffers.
    pub fn clear(&mut self) {
        self.at = Instant::ZERO;
        self.offload = Offload::NONE;
        self.original_len = 0;
        self.comment.clear();
        self.bytes.clear();
    }
}
