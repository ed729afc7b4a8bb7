//! The link layer between Ethernet frames and the engine's IP packets.
//!
//! There is no kernel below the engine here: what it would do for a raw socket is done here, and no
//! more. [`Interface`] is a state machine around a [`Nic`](crate::platform::Nic); it has no clock.

mod answer;
mod calibration;
mod config;
mod interface;
mod neighbors;

pub use calibration::Calibration;
pub use config::{Config, Prefix, Route};
pub use interface::Interface;
