//! Virtio over PCI (virtio 1.2 §4.1), modern, with MSI-X.
//!
//! Of PCI no more is here than takes to find these devices: the first bus, a device's capabilities,
//! its base address registers.

mod addresses;
mod capabilities;

use core::fmt;

use addresses::Addresses;
use capabilities::Capabilities;

use super::queue::Rings;
use super::transport::{DeviceKind, Error, Transport, feature};

/// Devices on a bus.
const DEVICES: u8 = 32;
const VENDOR: u32 = 0x1af4;
/// Device IDs from here on are of modern devices: the rest is the kind.
const MODERN: u32 = 0x1040;
/// Device IDs up to here are of virtio devices.
const LAST: u32 = 0x107f;

/// Offsets in the configuration space.
const COMMAND: u8 = 0x04;
const SUBSYSTEM: u8 = 0x2c;

/// Answers to accesses to memory, and makes some of its own, which messages are.
const MEMORY_AND_MASTER: u32 = 6;

/// Where messages go that are interrupts: the local APIC of the first processor (Intel SDM volume
/// 3, 11.11.1).
const MESSAGE_ADDRESS: u32 = 0xfee0_0000;
/// The entry of the table that all queues use.
const ENTRY: u32 = 0;
const NO_VECTOR: u32 = 0xffff;

/// Reads of the status before a device is given up that is to be reset.
const RESET_READS: u32 = 1000;
/// Alignment of the device's ring; four would do.
const RING_ALIGN: usize = 64;

/// Offsets in the common configuration (virtio 1.2 §4.1.4.3).
mod common {
    use super::Width::{self, Byte, Long, Word};
    pub(super) const FEATURES: (u64, Width) = (4, Long);
    pub(super) const DRIVER_FEATURES_SELECT: (u64, Width) = (8, Long);
    pub(super) const DRIVER_FEATURES: (u64, Width) = (12, Long);
    pub(super) const STATUS: (u64, Width) = (20, Byte);
    pub(super) const QUEUE_SELECT: (u64, Width) = (22, Word);
    pub(super) const QUEUE_SIZE: (u64, Width) = (24, Word);
    pub(super) const QUEUE_VECTOR: (u64, Width) = (26, Word);
    pub(super) const QUEUE_ENABLE: (u64, Width) = (28, Word);
    pub(super) const QUEUE_NOTIFY: (u64, Width) = (30, Word);
    pub(super) const QUEUE_DESCRIPTORS: u64 = 32;
    pub(super) const QUEUE_DRIVER: u64 = 40;
    pub(super) const QUEUE_DEVICE: u64 = 48;
}

/// Width of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Word,
    /// 32 bits.
    Long,
}

/// The configuration space of the first bus.
pub trait ConfigSpace {
    /// Reads the four bytes at `offset` of the first function of a device; all ones if there is
    /// none.
    fn read(&mut self, device: u8, offset: u8) -> u32;

    /// Writes them.
    fn write(&mut self, device: u8, offset: u8, value: u32);
}

/// Registers in memory that a device has announced.
pub trait Window: fmt::Debug {
    /// Reads at an offset.
    fn read(&mut self, offset: u64, width: Width) -> u32;

    /// Writes at an offset.
    fn write(&mut self, offset: u64, width: Width, value: u32);
}

/// A device behind PCI.
#[derive(Debug)]
pub struct Pci<W> {
    common: W,
    notify: W,
    /// Only asked where there is no MSI-X.
    isr: Option<W>,
    config: Option<W>,
    /// What a queue's number for notifications is multiplied with.
    multiplier: u32,
    /// Those numbers.
    notify_numbers: [u32; QUEUES],
    selected: Option<u16>,
}

/// Queues of the devices that are driven.
const QUEUES: usize = 3;

impl<W: Window> Pci<W> {
    /// Looks for virtio devices on the first bus, and hands each with its kind to `found`. Those
    /// with MSI-X interrupt with `vector`; the last argument says whether.
    ///
    /// `map` makes a number of bytes at an address accessible, if it can.
    pub fn probe(
        space: &mut dyn ConfigSpace,
        map: &mut dyn FnMut(u64, u64) -> Option<W>,
        vector: u8,
        found: &mut dyn FnMut(DeviceKind, Self, bool),
    ) {
        let mut addresses = Addresses::default();
        for device in 0..DEVICES {
            let id = space.read(device, 0);
            let (vendor, id) = (id & 0xffff, id >> 16);
            if vendor != VENDOR || id > LAST {
                continue;
            }
            // A transitional device has its kind elsewhere.
            let kind = match id.checked_sub(MODERN) {
                Some(kind) => kind,
                None => space.read(device, SUBSYSTEM) >> 16,
            };
            if let Some(kind) = DeviceKind::from_id(kind)
                && let Some((pci, interrupts)) =
                    Self::open(space, &mut addresses, map, device, vector)
            {
                found(kind, pci, interrupts);
            }
        }
    }

    fn open(
        space: &mut dyn ConfigSpace,
        addresses: &mut Addresses,
        map: &mut dyn FnMut(u64, u64) -> Option<W>,
        device: u8,
        vector: u8,
    ) -> Option<(Self, bool)> {
        let capabilities = Capabilities::read(space, device);
        let mut window = |place: capabilities::Place| {
            let base = addresses.of(space, device, place.bar)?;
            map(base.checked_add(place.offset.into())?, place.len.into())
        };
        let common = window(capabilities.common?)?;
        let notify = window(capabilities.notify?)?;
        let mut isr = capabilities.isr.and_then(&mut window);
        let config = capabilities.config.and_then(&mut window);
        let table = capabilities.table.and_then(&mut window);
        // Only now that it has its addresses.
        let command = space.read(device, COMMAND) & 0xffff;
        space.write(device, COMMAND, command | MEMORY_AND_MASTER);
        let interrupts = table.is_some();
        if let Some(mut table) = table {
            table.write(0, Width::Long, MESSAGE_ADDRESS);
            table.write(4, Width::Long, 0);
            table.write(8, Width::Long, vector.into());
            // Not masked.
            table.write(12, Width::Long, 0);
            capabilities.enable_messages(space, device);
            isr = None;
        }
        let pci = Self {
            common,
            notify,
            isr,
            config,
            multiplier: capabilities.multiplier,
            notify_numbers: [0; QUEUES],
            selected: None,
        };
        Some((pci, interrupts))
    }

    fn read(&mut self, (offset, width): (u64, Width)) -> u32 {
        self.common.read(offset, width)
    }

    fn write(&mut self, (offset, width): (u64, Width), value: u32) {
        self.common.write(offset, width, value);
    }

    fn write_address(&mut self, offset: u64, address: u64) {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
        let (low, high) = (address as u32, (address >> 32) as u32);
        self.common.write(offset, Width::Long, low);
        self.common.write(offset + 4, Width::Long, high);
    }

    fn select(&mut self, queue: u16) {
        if self.selected != Some(queue) {
            self.write(common::QUEUE_SELECT, queue.into());
            self.selected = Some(queue);
        }
    }
}

impl<W: Window> Transport for Pci<W> {
    fn is_legacy(&self) -> bool {
        false
    }

    fn reset(&mut self) -> Result<(), Error> {
        self.write(common::STATUS, 0);
        self.selected = None;
        let zero = (0..RESET_READS).any(|_| self.read(common::STATUS) == 0);
        zero.then_some(()).ok_or(Error::Reset)
    }

    fn status(&mut self) -> u8 {
        (self.read(common::STATUS) & 0xff) as u8
    }

    fn set_status(&mut self, status: u8) {
        self.write(common::STATUS, status.into());
    }

    fn features(&mut self) -> u32 {
        // The selector is 0 after the reset.
        self.read(common::FEATURES)
    }

    fn set_features(&mut self, features: u32) {
        self.write(common::DRIVER_FEATURES_SELECT, 0);
        self.write(common::DRIVER_FEATURES, features);
        self.write(common::DRIVER_FEATURES_SELECT, 1);
        self.write(common::DRIVER_FEATURES, feature::VERSION_1);
    }

    fn queue_size(&mut self, queue: u16) -> u16 {
        self.select(queue);
        (self.read(common::QUEUE_SIZE) & 0xffff) as u16
    }

    fn ring_align(&self) -> usize {
        RING_ALIGN
    }

    fn enable_queue(&mut self, queue: u16, rings: &Rings) {
        self.select(queue);
        self.write(common::QUEUE_SIZE, rings.size.into());
        let vector = if self.isr.is_none() { ENTRY } else { NO_VECTOR };
        self.write(common::QUEUE_VECTOR, vector);
        self.write_address(common::QUEUE_DESCRIPTORS, rings.descriptors);
        self.write_address(common::QUEUE_DRIVER, rings.driver);
        self.write_address(common::QUEUE_DEVICE, rings.device);
        let number = self.read(common::QUEUE_NOTIFY) & 0xffff;
        if let Some(slot) = self.notify_numbers.get_mut(usize::from(queue)) {
            *slot = number;
        }
        self.write(common::QUEUE_ENABLE, 1);
    }

    fn notify(&mut self, queue: u16) {
        let number = self.notify_numbers.get(usize::from(queue)).copied();
        let offset = u64::from(number.unwrap_or(0)) * u64::from(self.multiplier);
        self.notify.write(offset, Width::Word, queue.into());
    }

    fn acknowledge(&mut self) {
        // A message is over when it has come; a line falls when its reason was read.
        if let Some(isr) = &mut self.isr {
            isr.read(0, Width::Byte);
        }
    }

    fn config(&mut self, offset: usize) -> u32 {
        let config = self.config.as_mut();
        config.map_or(0, |config| config.read(offset as u64, Width::Long))
    }
}

#[cfg(test)]
mod tests;
