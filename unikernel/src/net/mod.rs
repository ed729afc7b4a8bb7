//! The link layer between Ethernet frames and the engine's IP packets.

mod config;

pub use config::{Config, Prefix};
