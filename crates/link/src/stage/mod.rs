//! The links of a stage: what carries Ethernet frames to it and away from it, one link a side.
//!
//! A [`PipeLink`] is the pipe that the shell has laid to the neighbour, or named pipes; between two
//! stages it upgrades itself to rings in shared memory, which carry frames both ways. An [`Edge`]
//! is a device, with the kernel's network stack behind it. [`wait`] sleeps until one of two links
//! has something to do. Nothing here waits for a neighbour otherwise, and no thread is started.

mod body;
mod edge;
mod ends;
mod input;
mod output;
mod piece_limit;
mod pipe;
mod pipe_link;
mod rendezvous;
mod ring;
mod tenant;
mod wait;

use plumb_wire::Malformed;
use plumb_wire::frame::Offload;
use plumb_wire::pcapng::Direction;

pub use body::{Body, Place};
pub use edge::Edge;
pub use ends::{Ends, PipeOptions, take_standard_input, take_standard_output};
pub use pipe_link::PipeLink;
pub use ring::Room;
pub use tenant::{PassedOn, Tenant};
pub use wait::{Needs, Waiting, wait, wait_alone, wait_for};

/// What is known of a frame beside its bytes and what only captures say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Wall time in nanoseconds since 1970-01-01 UTC; 0 where nobody said.
    pub at_ns: u64,
    /// Which way it went where it was captured.
    pub direction: Direction,
    /// A mark that a stage has given it; 0 for none. It is lost in pipes.
    pub mark: u32,
    /// What is left to do before it could go onto a real wire.
    pub offload: Offload,
}

/// A frame on a link. Its buffers are used again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkFrame {
    /// What is known of it.
    pub meta: Meta,
    /// Length that it had where it was captured, if that is more than `bytes`; else 0. Rings do not
    /// carry it.
    pub original_len: u32,
    /// Number of the interface that it was captured on ([`PipeLink::add_interface`]); 0 on other
    /// links. Rings do not carry it.
    pub interface: u32,
    /// A note for people; empty for none. Rings do not carry it.
    pub comment: String,
    /// The frame from the destination MAC address on, without its check sequence.
    pub bytes: Vec<u8>,
}

impl LinkFrame {
    /// Becomes an empty frame that keeps its buffers.
    pub fn clear(&mut self) {
        self.meta = Meta::default();
        self.original_len = 0;
        self.interface = 0;
        self.comment.clear();
        self.bytes.clear();
    }
}

/// A frame that is handed to a link, which keeps nothing of it.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// What is known of it.
    pub meta: Meta,
    /// As in [`LinkFrame::interface`].
    pub interface: u32,
    /// As in [`LinkFrame::original_len`].
    pub original_len: u32,
    /// As in [`LinkFrame::comment`].
    pub comment: &'a str,
    /// As in [`LinkFrame::bytes`].
    pub bytes: &'a [u8],
}

impl<'a> From<&'a LinkFrame> for Outgoing<'a> {
    fn from(frame: &'a LinkFrame) -> Self {
        Self {
            meta: frame.meta,
            interface: frame.interface,
            original_len: frame.original_len,
            comment: &frame.comment,
            bytes: &frame.bytes,
        }
    }
}

/// What [`Link::receive`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A frame.
    Frame,
    /// Nothing, for now.
    Nothing,
    /// Nothing, for ever.
    End,
}

/// What became of a frame that was handed to [`Link::send`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way, or will be with the next [`Link::flush`].
    Taken,
    /// There is no room: try again when [`wait`] says so, or drop it.
    Full,
    /// Nothing can be sent this way: a pipe goes one way only. It is counted.
    NoWay,
    /// The link does not carry such a frame. It is counted.
    Refused,
    /// Nobody receives any more.
    Closed,
}

/// One side of a stage.
pub trait Link {
    /// Takes the next frame into `frame`, in place of what was there.
    ///
    /// # Errors
    /// If what comes is no stream of Ethernet frames, or the kernel fails.
    fn receive(&mut self, frame: &mut LinkFrame) -> Result<Received, LinkError>;

    /// Hands over a frame.
    ///
    /// # Errors
    /// If the kernel fails.
    fn send(&mut self, frame: Outgoing<'_>) -> Result<Sent, LinkError>;

    /// Has long frames given by their first bytes, so many at least, and what follows left at this place
    /// for [`take_body`](Self::take_body), where the link knows how to and that is cheaper; none: all of
    /// every frame is given.
    fn leave_bodies(&mut self, _head_len: Option<(usize, Place)>) {}

    /// The rest of the frame that [`receive`](Self::receive) gave last, if it was left. It is gone with
    /// the next one.
    fn take_body(&mut self) -> Option<Body> {
        None
    }

    /// Where the rest of a frame may be that is sent at this time; none: frames have to be here as a
    /// whole.
    fn takes_bodies(&self) -> Option<Place> {
        None
    }

    /// Hands over the beginning of a frame and, if it is taken, its body, which is where this link takes
    /// it. The frame's own `original_len` says nothing.
    ///
    /// # Errors
    /// If the kernel fails.
    fn send_with_body(
        &mut self,
        _frame: Outgoing<'_>,
        _body: &mut Option<Body>,
    ) -> Result<Sent, LinkError> {
        Ok(Sent::Full)
    }

    /// Takes the next frame and hands it over to `to` as it is, if that goes without a copy of it here.
    /// None if not, at this time or at all: then it can be received and sent.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    fn pass_on(&mut self, _to: &mut dyn Link) -> Result<Option<Received>, LinkError> {
        Ok(None)
    }

    /// Where the next frame is to be that is sent, of up to `most` bytes, if it can be put there.
    #[doc(hidden)]
    fn room(&mut self, _most: usize) -> Option<Room<'_>> {
        None
    }

    /// Says that a frame of this length was put there, and whether that has to be told at once.
    #[doc(hidden)]
    fn was_put(&mut self, _len: usize, _wake: bool) {}

    /// Lets the neighbour have what was sent so far, and the room of what was received.
    ///
    /// # Errors
    /// If the kernel fails.
    fn flush(&mut self) -> Result<(), LinkError>;

    /// Says whether everything that was sent is out of this process.
    fn is_flushed(&self) -> bool {
        true
    }

    /// Says whether nobody receives any more what is sent.
    fn is_closed(&self) -> bool {
        false
    }

    /// What was wrong with the end of what came in, if anything: "is empty".
    fn unsound_end(&self) -> Option<&'static str> {
        None
    }

    /// Whether the other side can be left work with a frame ([`Meta::offload`]).
    fn takes_offload(&self) -> bool;

    /// What has passed.
    fn counters(&self) -> Counters;

    /// How frames travel now, in a word: "ring", "pipe", the name of a device.
    fn describe(&self) -> String;

    /// Prepares for sleep, after a [`flush`](Self::flush), and says whether there is no reason to.
    #[doc(hidden)]
    fn prepare(&mut self, needs: Needs) -> Result<bool, LinkError>;

    /// Adds what ends the sleep.
    #[doc(hidden)]
    fn watch<'a>(&'a self, needs: Needs, waiting: &mut Waiting<'a>);

    /// Looks after what a descriptor has to say.
    #[doc(hidden)]
    fn attend(&mut self, event: wait::Event) -> Result<(), LinkError>;

    /// Looks after the neighbour when there is no time to sleep.
    ///
    /// # Errors
    /// If the kernel fails.
    fn look_after(&mut self) -> Result<(), LinkError>;
}

/// What has passed a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames that came.
    pub received_frames: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Frames that were handed on.
    pub sent_frames: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Frames that were dropped as there was no way to the neighbour.
    pub no_way_frames: u64,
    /// Frames that were dropped as the neighbour or the device does not take such.
    pub refused_frames: u64,
}

impl Counters {
    const fn receive(&mut self, len: usize) {
        self.received_frames += 1;
        self.received_bytes += len as u64;
    }

    const fn send(&mut self, len: usize) {
        self.sent_frames += 1;
        self.sent_bytes += len as u64;
    }
}

/// Why a link cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// What comes in is not what it should be.
    #[error("the input is no packet stream: {0} (pcapng or pcap is read)")]
    Capture(Malformed),
    /// Packets of another kind come in.
    #[error(
        "the input's packets are of link type {0}, but stages pass on Ethernet frames (link type 1)"
    )]
    LinkType(u16),
    /// The stream refers to a way that was never agreed on.
    #[error("the input switches to a ring that was not agreed on")]
    Switch,
    /// Somebody else reads the same pipe.
    #[error("a part of the input is missing: another program reads the same pipe")]
    Shared,
    /// The kernel said no.
    #[error(transparent)]
    System(#[from] crate::Error),
}

impl LinkError {
    fn io(operation: &'static str, object: &str, source: std::io::Error) -> Self {
        Self::System(crate::Error::system(operation, object, source))
    }
}
