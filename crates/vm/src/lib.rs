//! MicroVMs for the probing engine: one image and the runners that can boot it.
//!
//! A [`Runner`] turns a [`Launch`] into a [`Vm`]: a process that holds the machine, the stream to
//! the engine in it, and its serial console. What travels on the stream is not this crate's
//! business.

mod choice;
#[cfg_attr(not(target_arch = "x86_64"), path = "embedded_elsewhere.rs")]
pub mod embedded;
mod error;
mod firecracker;
pub mod image;
mod kvm;
mod placed;
mod process;
mod qemu;
mod runner;

pub use choice::{Choice, auto, runners};
pub use error::{Error, Unavailable};
pub use firecracker::Firecracker;
pub use placed::IMAGE;
pub use qemu::{Accelerator, Machine, Qemu};
pub use runner::{Launch, Runner, RunnerName, Vm};
