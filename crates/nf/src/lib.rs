//! Network functions: what a stage of a packet pipeline does to the frames that pass it.
//!
//! A [`Function`] is a pure state machine between two [`Port`]s. It has no clock, no link and no
//! randomness of its own: batches of frames and time go in, frames come out, and the same input
//! gives the same bytes. So one function runs on live links and on files: [`Player`] runs it in
//! the time that the frames' own stamps say.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod chain;
mod coalesce;
mod count;
mod frame;
mod function;
mod headers;
mod mirror;
mod offload;
mod player;
mod probability;
mod slab;
#[cfg(test)]
mod testing;

pub mod antispoof;
pub mod conntrack;
pub mod dissect;
pub mod firewall;
pub mod impair;
pub mod meter;
pub mod nat;
pub mod reassembly;

pub use chain::{Chain, FunctionId};
pub use coalesce::Coalesce;
pub use count::Count;
pub use frame::{Frame, Parts};
pub use function::{Counter, Detail, Function, HEAD_LEN, Output};
pub use mirror::{Mirror, MirrorOptions};
pub use offload::{complete_checksum, segment};
pub use player::Player;
pub use plumb_wire::frame::Port;
pub use probability::Probability;
