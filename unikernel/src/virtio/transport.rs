//! How a driver and its device find out about each other (virtio 1.2 §3.1).

use alloc::boxed::Box;
use core::fmt;

use super::queue::{Direction, Queue, Rings};

/// The kinds of device that plumb drives (virtio 1.2 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// Network interface.
    Net,
    /// Console.
    Console,
    /// Socket to the host.
    Vsock,
    /// Anything else, by its number.
    Other(u32),
}

impl DeviceKind {
    /// The kind that a virtio device ID means; `None` for 0, an empty slot.
    pub const fn from_id(id: u32) -> Option<Self> {
        match id {
            0 => None,
            1 => Some(Self::Net),
            3 => Some(Self::Console),
            19 => Some(Self::Vsock),
            other => Some(Self::Other(other)),
        }
    }
}

/// Why a device cannot be driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It does not accept the features that were chosen.
    Features,
    /// It does not have this queue, or one that is too small.
    Queue(u16),
    /// It does not come out of its reset.
    Reset,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Features => f.write_str("the device refuses the features"),
            Self::Queue(queue) => write!(f, "the device has no usable queue {queue}"),
            Self::Reset => f.write_str("the device does not come out of its reset"),
        }
    }
}

impl core::error::Error for Error {}

/// Bits of the device status field (virtio 1.2 §2.1).
pub mod status {
    /// The device was found.
    pub const ACKNOWLEDGE: u8 = 1;
    /// There is a driver for it.
    pub const DRIVER: u8 = 2;
    /// The driver is ready.
    pub const DRIVER_OK: u8 = 4;
    /// The features are agreed upon.
    pub const FEATURES_OK: u8 = 8;
}

/// Feature bits that do not depend on the kind of device (virtio 1.2 §6).
pub mod feature {
    /// Legacy devices: descriptors may divide a message anywhere.
    pub const ANY_LAYOUT: u32 = 1 << 27;
    /// Interrupts and notifications by index.
    pub const EVENT_IDX: u32 = 1 << 29;
    /// The first bit of the upper half: not a legacy device.
    pub const VERSION_1: u32 = 1;
}

/// The registers of a device, however they are reached.
///
/// Under some hypervisors each access costs as much as a packet takes through a network, so there
/// is no method that would invite to more of them than are needed.
pub trait Transport: fmt::Debug {
    /// Says whether it is a device of before virtio 1.0.
    fn is_legacy(&self) -> bool;

    /// Resets the device.
    ///
    /// # Errors
    /// If it does not come out of it.
    fn reset(&mut self) -> Result<(), Error>;

    /// Reads the device status.
    fn status(&mut self) -> u8;

    /// Writes the device status.
    fn set_status(&mut self, status: u8);

    /// Reads the lower half of the offered features.
    fn features(&mut self) -> u32;

    /// Writes the lower half of the accepted features; the upper half is
    /// [`VERSION_1`](feature::VERSION_1) unless the device is legacy.
    fn set_features(&mut self, features: u32);

    /// Reads the largest size of a queue, 0 if there is none.
    fn queue_size(&mut self, queue: u16) -> u16;

    /// Alignment that the device's ring of a queue needs.
    fn ring_align(&self) -> usize;

    /// Tells the device where a queue is and enables it.
    fn enable_queue(&mut self, queue: u16, rings: &Rings);

    /// Tells the device to look into a queue.
    fn notify(&mut self, queue: u16);

    /// Acknowledges an interrupt, after which the device can raise the next.
    fn acknowledge(&mut self);

    /// Reads the four bytes at `offset` of the device's configuration, little-endian.
    fn config(&mut self, offset: usize) -> u32;
}

/// A device under way to its `DRIVER_OK`, and then in use. It is reset before its queues are freed:
/// drivers hold it before them.
#[derive(Debug)]
pub struct Device {
    transport: Box<dyn Transport>,
    features: u32,
    interrupts: bool,
    /// The interrupt line may be high.
    interrupted: bool,
}

impl Device {
    /// Resets the device and agrees with it upon those of the `wanted` features that it offers.
    ///
    /// The status is written one bit after the other: Firecracker ignores a step over one.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn negotiate(mut transport: Box<dyn Transport>, wanted: u32) -> Result<Self, Error> {
        use status::{ACKNOWLEDGE, DRIVER, FEATURES_OK};
        transport.reset()?;
        transport.set_status(ACKNOWLEDGE);
        transport.set_status(ACKNOWLEDGE | DRIVER);
        let legacy = transport.is_legacy();
        let wanted = wanted | if legacy { feature::ANY_LAYOUT } else { 0 };
        let features = transport.features() & wanted;
        transport.set_features(features);
        if !legacy {
            transport.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK);
            if transport.status() & FEATURES_OK == 0 {
                return Err(Error::Features);
            }
        }
        Ok(Self {
            transport,
            features,
            interrupts: true,
            interrupted: false,
        })
    }

    /// Says whether all of `features` were agreed upon.
    pub const fn has(&self, features: u32) -> bool {
        self.features & features == features
    }

    /// Says whether it is a device of before virtio 1.0.
    pub fn is_legacy(&self) -> bool {
        self.transport.is_legacy()
    }

    /// Makes a queue with buffers of `len` bytes, of `wanted` buffers if the device permits so many,
    /// and tells the device where it is. `len` is given the number of buffers.
    ///
    /// # Errors
    /// If the device has no such queue.
    pub fn make_queue(
        &mut self,
        direction: Direction,
        index: u16,
        wanted: u16,
        len: impl FnOnce(u16) -> usize,
    ) -> Result<Queue, Error> {
        let size = self.queue_size(index, wanted)?;
        let align = self.transport.ring_align();
        let event_index = self.has(feature::EVENT_IDX);
        let queue = Queue::new(direction, size, len(size), align, event_index);
        self.transport.enable_queue(index, &queue.rings());
        Ok(queue)
    }

    /// Lets the device begin.
    pub fn start(&mut self) {
        use status::{ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK};
        let features_ok = if self.is_legacy() { 0 } else { FEATURES_OK };
        self.transport
            .set_status(ACKNOWLEDGE | DRIVER | features_ok | DRIVER_OK);
    }

    /// Reads the four bytes at `offset` of the device's configuration, little-endian.
    pub fn config(&mut self, offset: usize) -> u32 {
        self.transport.config(offset)
    }

    /// Says whether the device is to interrupt; it is at first. Without, only asking tells whether
    /// something came. Queues that are armed stay so: see [`Queue::disarm`].
    pub const fn set_interrupts(&mut self, on: bool) {
        self.interrupts = on;
    }

    /// Publishes what was given to a queue, and notifies the device if it wants to be.
    pub fn publish(&mut self, index: u16, queue: &mut Queue) {
        if queue.publish() {
            self.transport.notify(index);
        }
    }

    /// A buffer to be sent, if need be one whose content has left. If there is none, the device
    /// will interrupt when there is.
    pub fn free(&mut self, index: u16, queue: &mut Queue) -> Option<u16> {
        loop {
            if let Some(buffer) = queue.free() {
                return Some(buffer);
            }
            // The device may not know of any of them yet.
            self.publish(index, queue);
            self.reap(queue);
            if let Some(buffer) = queue.free() {
                return Some(buffer);
            }
            if self.arm(queue) {
                return None;
            }
        }
    }

    /// Makes a buffer that was read the device's again. It learns of it when a quarter of all are
    /// back: one notification for many.
    pub fn give_back(&mut self, index: u16, queue: &mut Queue, buffer: u16) {
        queue.give(buffer, queue.buffer_len());
        if queue.unpublished() >= queue.rings().size / 4 {
            self.publish(index, queue);
        }
    }

    /// Frees all buffers that the device has sent.
    pub fn reap(&mut self, queue: &mut Queue) {
        queue.reap();
        self.interrupted |= queue.take_interrupted();
    }

    /// Makes ready for sleep: the device will interrupt at the queue's next completion. Returns
    /// false if there is one already.
    ///
    /// Interrupt lines are level-triggered at the device (QEMU) and edge-triggered at the interrupt
    /// controller, so the line has to be low before a sleep, or there is no next edge. It is
    /// lowered here, once for all interrupts since the last sleep, and before the ring is looked
    /// at: what comes later raises it again.
    pub fn arm(&mut self, queue: &mut Queue) -> bool {
        if !self.interrupts {
            return true;
        }
        self.interrupted |= queue.take_interrupted();
        if core::mem::take(&mut self.interrupted) {
            self.transport.acknowledge();
        }
        queue.arm()
    }

    /// Largest power of two that `queue` can have as its size, `wanted` at most.
    fn queue_size(&mut self, queue: u16, wanted: u16) -> Result<u16, Error> {
        let most = self.transport.queue_size(queue).min(wanted);
        match most.checked_ilog2() {
            Some(log @ 1..) => Ok(1 << log),
            _ => Err(Error::Queue(queue)),
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // Its queues are about to be freed. What a device that hangs does is beyond help.
        let _ = self.transport.reset();
    }
}
