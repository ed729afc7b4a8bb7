//! TCP flow probes: how the connections of this host fare, from what its kernel knows.
//!
//! Programs in the kernel ([`Recorder`] loads them) tell [`Event`]s; a pure machine, [`Profiler`],
//! makes performance profiles of them.

mod capability;
mod close;
mod counters;
mod error;
mod event;
mod inbox;
mod loading;
mod object;
mod order;
mod passes;
mod profile;
mod programs;
mod recorder;
mod segments;
mod skeleton;

pub use capability::Capability;
pub use error::Error;
pub use event::{Event, EventKind};
pub use profile::{Config, Live, Profiler};
pub use programs::optional_programs;
pub use recorder::{Counts, Filter, Options, Recorder};
