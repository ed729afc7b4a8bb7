//! Drivers of virtio devices: own code, since the usual library takes steps that Firecracker
//! refuses and asks each register more often than a start in milliseconds allows.
//!
//! A driver is made of three layers: a [`Transport`] (how registers are reached), a [`Queue`]
//! (memory that is shared with the device), and what the kind of device means by the bytes. None of
//! them blocks, and none needs to be told of interrupts: when a driver is asked and has nothing, it
//! has asked its device for an interrupt.

mod channel;
mod console;
mod dma;
mod mmio;
mod net;
mod pci;
mod queue;
mod transport;
mod vsock;

#[cfg(any(test, feature = "fake-device"))]
pub mod fake;

pub use channel::Channel;
pub use console::Console;
pub use mmio::{Memory, Mmio, Registers, register};
pub use net::{Net, Statistics};
pub use pci::{ConfigSpace, Pci, Width, Window};
pub use queue::{Completion, Direction, Queue, Rings, crosses};
pub use transport::{Device, DeviceKind, Error, Transport, feature, status};
pub use vsock::Vsock;
