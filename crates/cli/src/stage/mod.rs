//! Stages of a packet pipeline: what stands between a network function and the streams beside it.

mod capture;
mod counters;
mod filter;
mod links;
mod live;
mod play;

pub(crate) use filter::{filter, is_live};
pub(crate) use links::{Streams, side};
pub(crate) use live::{Guest, Live, Pass, run as run_live};
pub(crate) use play::Played;
