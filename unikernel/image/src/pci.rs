//! How PCI is reached: configuration space by two ports, registers of devices in memory.

use plumb_unikernel::boot::Region;
use plumb_unikernel::virtio::{ConfigSpace, Width, Window};

use crate::io;
use crate::memory::{self, Kind};

/// Configuration mechanism #1 (PCI Local Bus Specification 3.0, 3.2.2.3.2).
pub(crate) struct Ports;

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;

impl Ports {
    /// Says whether there is a bus behind the ports: the address can be read back.
    pub(crate) fn exist() -> bool {
        const ENABLE: u32 = 1 << 31;
        io::write_port32(ADDRESS, ENABLE);
        io::read_port32(ADDRESS) == ENABLE
    }

    fn select(device: u8, offset: u8) {
        let offset = u32::from(offset & !3);
        io::write_port32(ADDRESS, 1 << 31 | u32::from(device) << 11 | offset);
    }
}

impl ConfigSpace for Ports {
    fn read(&mut self, device: u8, offset: u8) -> u32 {
        Self::select(device, offset);
        io::read_port32(DATA)
    }

    fn write(&mut self, device: u8, offset: u8, value: u32) {
        Self::select(device, offset);
        io::write_port32(DATA, value);
    }
}

/// Registers of a device.
#[derive(Debug)]
pub(crate) struct Registers {
    region: Region,
}

impl Registers {
    /// Maps so many bytes at an address.
    ///
    /// # Safety
    /// They must be registers, and nobody else's.
    pub(crate) unsafe fn map(start: u64, len: u64) -> Option<Self> {
        let region = Region::sized(start, len)?;
        memory::map(region, Kind::Device).then_some(Self { region })
    }

    /// The address at an offset, if so many bytes there belong to the registers.
    fn at(&self, offset: u64, len: u64) -> Option<u64> {
        let end = offset.checked_add(len)?;
        (end <= self.region.size()).then_some(self.region.start + offset)
    }
}

impl Window for Registers {
    fn read(&mut self, offset: u64, width: Width) -> u32 {
        let Some(address) = self.at(offset, bytes(width)) else {
            return u32::MAX;
        };
        // SAFETY: within what was mapped, which `map`'s caller says are registers.
        unsafe {
            match width {
                Width::Byte => memory::pointer::<u8>(address).read_volatile().into(),
                Width::Word => memory::pointer::<u16>(address).read_volatile().into(),
                Width::Long => io::read32(address),
            }
        }
    }

    fn write(&mut self, offset: u64, width: Width, value: u32) {
        let Some(address) = self.at(offset, bytes(width)) else {
            return;
        };
        let [low, high, ..] = value.to_le_bytes();
        // SAFETY: as for reading; what devices do to memory is the drivers' business.
        unsafe {
            match width {
                Width::Byte => memory::pointer::<u8>(address).write_volatile(low),
                Width::Word => {
                    let value = u16::from_le_bytes([low, high]);
                    memory::pointer::<u16>(address).write_volatile(value);
                }
                Width::Long => io::write32(address, value),
            }
        }
    }
}

const fn bytes(width: Width) -> u64 {
    match width {
        Width::Byte => 1,
        Width::Word => 2,
        Width::Long => 4,
    }
}
