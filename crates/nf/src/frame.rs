//! A frame on its way through a function.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::num::NonZeroU32;
use core::ops::{Deref, DerefMut};

use plumb_wire::Instant;
use plumb_wire::frame::Offload;

/// An Ethernet frame with what is known about it. Its buffers are used again for other frames, so
/// that passing frames on allocates nothing.
///
/// What is moved from queue to queue is one pointer: to move the whole so soon after its parts were
/// written would make a processor wait until they have reached its cache.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Frame(Box<Parts>);

/// The parts of a [`Frame`].
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// When it arrived. A function that holds a frame back sets it to when the frame left.
    pub at: Instant,
    /// What is left to do before it could go onto a real wire.
    pub offload: Offload,
    /// Length that it had where it was captured, or has with its [`body`](Self::body), if that is more
    /// than `bytes`; else 0.
    pub original_len: u32,
    /// The driver's name for the rest of the frame, where only its beginning is in `bytes`. It goes
    /// with the frame, but not with copies, which are cut off.
    pub body: Option<NonZeroU32>,
    /// A note for people, for example the verdict of a firewall; empty for none.
    pub comment: String,
    /// The frame from the destination MAC address on, without its check sequence.
    pub bytes: Vec<u8>,
}

impl Frame {
    /// A frame that arrived at `at`, of which nothing is left to do.
    pub fn new(at: Instant, bytes: &[u8]) -> Self {
        Self::from(Parts {
            at,
            bytes: bytes.to_vec(),
            ..Parts::default()
        })
    }

    /// Becomes an empty frame that keeps its buffers.
    pub fn clear(&mut self) {
        self.at = Instant::ZERO;
        self.offload = Offload::NONE;
        self.original_len = 0;
        self.body = None;
        self.comment.clear();
        self.bytes.clear();
    }
}

impl Parts {
    /// Bytes of the whole frame.
    pub fn whole_len(&self) -> usize {
        let original_len = usize::try_from(self.original_len).unwrap_or(usize::MAX);
        self.bytes.len().max(original_len)
    }
}

impl From<Parts> for Frame {
    fn from(parts: Parts) -> Self {
        Self(Box::new(parts))
    }
}

impl Deref for Frame {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl DerefMut for Frame {
    fn deref_mut(&mut self) -> &mut Parts {
        &mut self.0
    }
}

impl Clone for Frame {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }

    /// Keeps its own buffers.
    fn clone_from(&mut self, from: &Self) {
        self.0.clone_from(&from.0);
    }
}

impl Clone for Parts {
    fn clone(&self) -> Self {
        Self {
            at: self.at,
            offload: self.offload,
            original_len: self.original_len,
            body: None,
            comment: self.comment.clone(),
            bytes: self.bytes.clone(),
        }
    }

    /// Keeps its own buffers.
    fn clone_from(&mut self, from: &Self) {
        (self.at, self.offload) = (from.at, from.offload);
        self.original_len = from.original_len;
        self.body = None;
        self.comment.clone_from(&from.comment);
        self.bytes.clone_from(&from.bytes);
    }
}
