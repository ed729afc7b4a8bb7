//! The stream to the host, over whichever device there is.

use alloc::boxed::Box;

use super::{Console, DeviceKind, Error, Transport, Vsock};
use crate::platform::Stream;

/// A stream over a console or a socket device.
#[derive(Debug)]
pub enum Channel {
    /// The bytes of a console's first port.
    Console(Box<Console>),
    /// A connection to the host.
    Vsock(Box<Vsock>),
}

impl Channel {
    /// Port of the host that a socket device connects to.
    pub const PORT: u32 = 52;

    /// Sets up a device of this kind; `None` if no stream can be had from it.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn new(kind: DeviceKind, transport: Box<dyn Transport>) -> Result<Option<Self>, Error> {
        Ok(match kind {
            DeviceKind::Console => Some(Self::Console(Box::new(Console::new(transport)?))),
            DeviceKind::Vsock => Some(Self::Vsock(Box::new(Vsock::new(transport, Self::PORT)?))),
            DeviceKind::Net | DeviceKind::Other(_) => None,
        })
    }

    /// Says whether the device is to interrupt; it is at first.
    pub fn set_interrupts(&mut self, on: bool) {
        match self {
            Self::Console(console) => console.set_interrupts(on),
            Self::Vsock(vsock) => vsock.set_interrupts(on),
        }
    }
}

impl Stream for Channel {
    fn send(&mut self, bytes: &[u8]) -> usize {
        match self {
            Self::Console(console) => console.send(bytes),
            Self::Vsock(vsock) => vsock.send(bytes),
        }
    }

    fn flush(&mut self) {
        match self {
            Self::Console(console) => console.flush(),
            Self::Vsock(vsock) => vsock.flush(),
        }
    }

    fn receive(&mut self, into: &mut [u8]) -> usize {
        match self {
            Self::Console(console) => console.receive(into),
            Self::Vsock(vsock) => vsock.receive(into),
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Console(console) => console.is_closed(),
            Self::Vsock(vsock) => vsock.is_closed(),
        }
    }
}
