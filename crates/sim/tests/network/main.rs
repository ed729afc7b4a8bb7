//! What a traceroute sees of simulated networks.

#![expect(clippy::unwrap_used, reason = "a helper that panics fails its test")]

mod files;
mod forwarding;
mod ground_truth;
mod hub;
mod labs;
mod prober;
mod properties;
