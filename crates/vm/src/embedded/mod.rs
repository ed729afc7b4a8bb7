//! plumb's own virtual machine monitor: small, on /dev/kvm, and the default.
//!
//! [`Embedded`] starts it as a process of its own, which is the same program again: its `main` has
//! to begin with
//!
//! ```no_run
//! if plumb_vm::embedded::is_monitor() {
//!     plumb_vm::embedded::main();
//! }
//! ```
//!
//! The process has one virtual CPU, a virtio network interface on the TAP device, a virtio console
//! that is the job channel, a serial port for last words, and two ports that end the machine. It
//! gives up every privilege before the first instruction of the image, and can only make the
//! system calls that moving packets takes. That is a second wall behind KVM, not a jail like
//! Firecracker's: there is no file system of its own and no namespace.

mod arguments;
mod boot;
mod cpu;
pub mod device;
mod elf;
mod launch;
mod machine;
mod memory;
mod monitor;
mod part;
mod sandbox;
mod seccomp;

pub use arguments::machine_name;
pub use elf::{Elf, Segment};
pub use launch::Embedded;
pub use monitor::{is_monitor, main};
