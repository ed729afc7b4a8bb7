//! Virtio over MMIO (virtio 1.2 §4.2), legacy and modern.

use core::fmt;

use super::dma::PAGE;
use super::queue::Rings;
use super::transport::{DeviceKind, Error, Transport, feature};

/// Offsets of the registers (virtio 1.2 §4.2.2 and §4.2.4).
pub mod register {
    /// Device version: 1 is legacy.
    pub const VERSION: usize = 0x04;
    /// Kind of device.
    pub const DEVICE_ID: usize = 0x08;
    /// Offered features, the half that is selected.
    pub const DEVICE_FEATURES: usize = 0x10;
    /// Selects a half of the offered features.
    pub const DEVICE_FEATURES_SEL: usize = 0x14;
    /// Accepted features, the half that is selected.
    pub const DRIVER_FEATURES: usize = 0x20;
    /// Selects a half of the accepted features.
    pub const DRIVER_FEATURES_SEL: usize = 0x24;
    /// Legacy: size of the pages that [`QUEUE_PFN`] counts.
    pub const GUEST_PAGE_SIZE: usize = 0x28;
    /// Selects a queue.
    pub const QUEUE_SEL: usize = 0x30;
    /// Largest size of the selected queue.
    pub const QUEUE_NUM_MAX: usize = 0x34;
    /// Size of the selected queue.
    pub const QUEUE_NUM: usize = 0x38;
    /// Legacy: alignment of the device's ring.
    pub const QUEUE_ALIGN: usize = 0x3c;
    /// Legacy: page number of the selected queue.
    pub const QUEUE_PFN: usize = 0x40;
    /// Enables the selected queue.
    pub const QUEUE_READY: usize = 0x44;
    /// Number of a queue that has something new.
    pub const QUEUE_NOTIFY: usize = 0x50;
    /// Why the device interrupts.
    pub const INTERRUPT_STATUS: usize = 0x60;
    /// Clears bits of [`INTERRUPT_STATUS`].
    pub const INTERRUPT_ACK: usize = 0x64;
    /// Device status.
    pub const STATUS: usize = 0x70;
    /// Lower half of the descriptor table's address; the upper one follows.
    pub const QUEUE_DESC: usize = 0x80;
    /// Lower half of the address of the driver's ring; the upper one follows.
    pub const QUEUE_DRIVER: usize = 0x90;
    /// Lower half of the address of the device's ring; the upper one follows.
    pub const QUEUE_DEVICE: usize = 0xa0;
    /// Configuration of the kind of device.
    pub const CONFIG: usize = 0x100;
}

use register as r;

/// Alignment of the device's ring; what legacy devices are told, and modern ones need less.
const RING_ALIGN: u32 = 64;
/// All reasons for an interrupt.
const ALL_INTERRUPTS: u32 = 3;

/// 32-bit registers, little-endian.
pub trait Registers: fmt::Debug {
    /// Reads the register at `offset`.
    fn read(&mut self, offset: usize) -> u32;
    /// Writes the register at `offset`.
    fn write(&mut self, offset: usize, value: u32);
}

/// Registers in the machine's address space.
#[derive(Debug)]
pub struct Memory {
    base: usize,
}

impl Memory {
    /// The registers at address `base`.
    ///
    /// # Safety
    /// The registers of a virtio device, or nothing that minds being read and written, are there
    /// for as long as this lives, and nobody else uses them.
    pub const unsafe fn new(base: usize) -> Self {
        Self { base }
    }
}

impl Registers for Memory {
    fn read(&mut self, offset: usize) -> u32 {
        let address = self.base + offset;
        #[cfg(target_arch = "x86_64")]
        {
            let value: u32;
            // SAFETY: `new` says that a register is there. A plain `mov`, which every hypervisor
            // can emulate; the compiler would be free to choose another instruction.
            unsafe {
                core::arch::asm!("mov {0:e}, [{1}]", out(reg) value, in(reg) address, options(nostack, preserves_flags));
            }
            value
        }
        #[cfg(not(target_arch = "x86_64"))]
        // SAFETY: `new` says that a register is there.
        unsafe {
            core::ptr::with_exposed_provenance::<u32>(address).read_volatile()
        }
    }

    fn write(&mut self, offset: usize, value: u32) {
        let address = self.base + offset;
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as in `read`.
        unsafe {
            core::arch::asm!("mov [{1}], {0:e}", in(reg) value, in(reg) address, options(nostack, preserves_flags));
        }
        #[cfg(not(target_arch = "x86_64"))]
        // SAFETY: as in `read`.
        unsafe {
            core::ptr::with_exposed_provenance_mut::<u32>(address).write_volatile(value);
        }
    }
}

/// A device behind MMIO registers.
#[derive(Debug)]
pub struct Mmio<R> {
    registers: R,
    legacy: bool,
    /// What the queue selector holds. A reset makes it 0, as it does the two feature selectors; so
    /// do QEMU, Firecracker, crosvm and plumb's own.
    selected: u16,
}

impl<R: Registers> Mmio<R> {
    /// Looks what is behind the registers: two reads. `None` if it is no virtio device.
    pub fn probe(mut registers: R) -> Option<(DeviceKind, Self)> {
        let legacy = match registers.read(r::VERSION) {
            1 => true,
            2 => false,
            _ => return None,
        };
        let kind = DeviceKind::from_id(registers.read(r::DEVICE_ID))?;
        let mmio = Self {
            registers,
            legacy,
            selected: 0,
        };
        Some((kind, mmio))
    }

    fn select(&mut self, queue: u16) {
        if self.selected != queue {
            self.registers.write(r::QUEUE_SEL, queue.into());
            self.selected = queue;
        }
    }

    /// Writes an address. Its upper half is 0 after a reset, and usually stays so.
    fn write_address(&mut self, offset: usize, address: u64) {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
        let (low, high) = (address as u32, (address >> 32) as u32);
        self.registers.write(offset, low);
        if high != 0 {
            self.registers.write(offset + 4, high);
        }
    }
}

impl<R: Registers> Transport for Mmio<R> {
    fn is_legacy(&self) -> bool {
        self.legacy
    }

    fn reset(&mut self) -> Result<(), Error> {
        self.registers.write(r::STATUS, 0);
        self.selected = 0;
        Ok(())
    }

    fn status(&mut self) -> u8 {
        (self.registers.read(r::STATUS) & 0xff) as u8
    }

    fn set_status(&mut self, status: u8) {
        self.registers.write(r::STATUS, status.into());
    }

    fn features(&mut self) -> u32 {
        self.registers.read(r::DEVICE_FEATURES)
    }

    fn set_features(&mut self, features: u32) {
        self.registers.write(r::DRIVER_FEATURES, features);
        if !self.legacy {
            self.registers.write(r::DRIVER_FEATURES_SEL, 1);
            self.registers.write(r::DRIVER_FEATURES, feature::VERSION_1);
        }
    }

    fn queue_size(&mut self, queue: u16) -> u16 {
        self.select(queue);
        let most = self.registers.read(r::QUEUE_NUM_MAX);
        u16::try_from(most).unwrap_or(u16::MAX)
    }

    fn ring_align(&self) -> usize {
        RING_ALIGN as usize
    }

    fn enable_queue(&mut self, queue: u16, rings: &Rings) {
        self.select(queue);
        self.registers.write(r::QUEUE_NUM, rings.size.into());
        if self.legacy {
            // Above 16 TiB a legacy device has no page numbers, and this machine no memory.
            #[expect(clippy::cast_possible_truncation, reason = "see above")]
            let page = (rings.descriptors / u64::from(PAGE)) as u32;
            self.registers.write(r::GUEST_PAGE_SIZE, PAGE);
            self.registers.write(r::QUEUE_ALIGN, RING_ALIGN);
            self.registers.write(r::QUEUE_PFN, page);
        } else {
            self.write_address(r::QUEUE_DESC, rings.descriptors);
            self.write_address(r::QUEUE_DRIVER, rings.driver);
            self.write_address(r::QUEUE_DEVICE, rings.device);
            self.registers.write(r::QUEUE_READY, 1);
        }
    }

    fn notify(&mut self, queue: u16) {
        self.registers.write(r::QUEUE_NOTIFY, queue.into());
    }

    fn acknowledge(&mut self) {
        self.registers.write(r::INTERRUPT_ACK, ALL_INTERRUPTS);
    }

    fn config(&mut self, offset: usize) -> u32 {
        self.registers.read(r::CONFIG + offset)
    }
}
