//! From what was said to what holds.
//!
//! [`Layers`] collects what the environment and the files say; it becomes arguments in front of
//! the user's own, so that one parser checks all of them and the command line wins.
//! [`TraceSettings`] and [`PingSettings`] are the outcome, in the types of the engines.

mod layers;
mod nearest;
pub(crate) use nearest::nearest;
mod ping;
mod trace;

pub use layers::{Layers, Origin, SECTIONS, Setting, Sources};
pub use ping::PingSettings;
pub use trace::{Family, Input, LiveSettings, TraceSettings};
