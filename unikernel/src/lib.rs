//! The probing engine on bare metal.
//!
//! This library is all of the unikernel that a host can test: drivers of virtio devices, ARP and
//! neighbour discovery, and the loop that runs the engine with them. What needs a real machine
//! (entry, interrupts, clock) is in `image/`, which links this library into one ELF file that boots
//! under every supported hypervisor.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod apic;
pub mod boot;
pub mod clock;
pub mod command_line;
pub mod link;
pub mod net;
pub mod platform;
pub mod run;
pub mod session;
mod under_way;
pub mod virtio;
