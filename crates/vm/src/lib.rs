//! MicroVMs for the probing engine: one image and the runners that can boot it.
//!
//! A [`Runner`] turns a [`Launch`] into a [`Vm`]: a process that holds the machine, the stream to
//! the engine in it, and its serial console. What travels on the stream is not this crate's
//! business.

mod choice;
pub mod embedded;
mod error;
mod firecracker;
pub mod image;
mod process;
mod qemu;
mod runner;

pub use choice::{Choice, auto, runners};
pub use error::{Error, Unavailable};
pub use firecracker::Firecracker;
pub use qemu::{Accelerator, Machine, Qemu};
pub use runner::{Launch, Runner, RunnerName, Vm};

/// The unikernel's image: an ELF file for x86-64 with PVH and 64-bit Linux entry, built by this
/// crate's build script. Empty where plumb is built for another processor.
pub static IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/image"));
