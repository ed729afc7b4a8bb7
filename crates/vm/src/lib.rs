//! MicroVMs for the probing engine: one image and the runners that can boot it.
//!
//! A [`Runner`] turns a [`Launch`] into a [`Vm`]: a process that holds the machine, the stream to
//! the engine in it, and its serial console. What travels on the stream is not this crate's
//! business.

mod error;
mod runner;

pub use error::{Error, Unavailable};
pub use runner::{Launch, Runner, RunnerName, Vm};
