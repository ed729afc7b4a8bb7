//! Stages of a packet pipeline: what stands between a network function and the streams beside it.

mod asked;
mod attended;
mod bodies;
mod capture;
mod copies;
mod counters;
mod filter;
mod guests;
mod links;
mod live;
mod play;
mod recording;

pub(crate) use attended::Attended;
pub(crate) use copies::{Copies, Target};
pub(crate) use filter::{filter, filter_reloading, is_live};
pub(crate) use guests::{Guest, Guests, Process};
pub(crate) use links::{Streams, side};
pub(crate) use live::{Live, run as run_live};
pub(crate) use play::{Played, play};
pub(crate) use recording::{Recording, Rotation};
