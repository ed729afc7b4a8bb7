//! Packet I/O on Linux, and the one event loop that drives any engine with it.
//!
//! An engine ([`plumb_wire::Engine`]) has neither clock nor socket. [`run`] gives it both: a
//! [`Clock`] for monotonic time, and a [`Port`] that carries whole IP packets. Ports are
//! [`ProbePort`] (raw, packet or unprivileged ICMP sockets towards the real network) and [`Tun`]
//! (a TUN device whose other side is the kernel's own stack, which is how the simulated internet
//! meets real programs); [`Tap`] carries Ethernet frames instead, for engines that take those.
//!
//! Nothing here is asynchronous and nothing starts a thread. This is the only crate of the
//! probing side with unsafe code; each block says why it is sound.

mod batch;
mod clock;
mod error;
mod fib;
mod filter;
mod held_tap;
mod interface;
mod message;
mod netlink;
mod next_hop;
mod packet_sender;
mod port;
mod probe_port;
mod raw;
mod raw_port;
mod raw_receiver;
mod ring;
mod run;
mod segment;
mod spawn;
mod sys;
mod tap;
mod transmit_time;
mod tun;
mod unprivileged;
mod watch;
mod wire_end;

pub mod capability;
pub mod memory;
pub mod namespace;
pub mod route;
pub mod scheduling;
pub mod stage;

pub use batch::Batch;
pub use capability::Capability;
pub use clock::{Clock, KernelTime};
pub use error::Error;
pub use held_tap::HeldTap;
pub use interface::{Interface, LearnedAddress};
pub use next_hop::{PathTo, path_to};
pub use port::{Port, Progress, Then};
pub use probe_port::{Mode, ProbePort, ProbePortOptions, Receive};
pub use run::{Observer, Turn, run};
pub use segment::Segment;
pub use tap::{Handover, Tap, TapOptions, create_bridge, remove_bridge};
pub use tun::{Tun, TunOptions};
pub use watch::{Changes, Watch};
