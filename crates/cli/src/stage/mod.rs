//! Stages of a packet pipeline: what stands between a network function and the streams beside it.

mod capture;
mod counters;
mod play;

pub(crate) use play::{Played, play};
