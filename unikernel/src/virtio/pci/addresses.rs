//! Where in memory a device's registers are: where firmware has put them, and otherwise where they
//! are put here.

use super::ConfigSpace;

const BASE_ADDRESSES: u8 = 0x10;
/// Of a base address register: it is for ports, not for memory.
const PORTS: u32 = 1;
/// The next one is its upper half.
const WIDE: u32 = 4;
/// Bits that say what it is.
const FLAGS: u32 = 0xf;

/// Memory that no machine has anything in: below the I/O APIC, and above all memory that is used.
const FREE: core::ops::Range<u32> = 0xfe00_0000..0xfe80_0000;
const PAGE: u32 = 4096;

/// Gives out addresses. Some firmware starts what it is given and leaves the bus to it.
#[derive(Debug)]
pub(super) struct Addresses {
    next: u32,
}

impl Default for Addresses {
    fn default() -> Self {
        Self { next: FREE.start }
    }
}

impl Addresses {
    /// The memory address in a base address register, which gets one if it has none; `None` if it
    /// is for ports or there is nothing behind it.
    pub(super) fn of(&mut self, space: &mut dyn ConfigSpace, device: u8, bar: u8) -> Option<u64> {
        if bar > 5 {
            return None;
        }
        let offset = BASE_ADDRESSES + bar * 4;
        let low = space.read(device, offset);
        if low & PORTS != 0 {
            return None;
        }
        let wide = low & WIDE != 0 && bar < 5;
        let high = if wide {
            space.read(device, offset + 4)
        } else {
            0
        };
        let address = u64::from(high) << 32 | u64::from(low & !FLAGS);
        if address != 0 {
            return Some(address);
        }
        // The bits of the address that can be set say how large it is (PCI 3.0 §6.2.5.1).
        space.write(device, offset, u32::MAX);
        let settable = space.read(device, offset) & !FLAGS;
        let place = self.place(settable);
        space.write(device, offset, place.unwrap_or(0));
        place.map(u64::from)
    }

    fn place(&mut self, settable: u32) -> Option<u32> {
        if settable == 0 {
            return None;
        }
        let size = (settable & settable.wrapping_neg()).max(PAGE);
        let place = self.next.checked_next_multiple_of(size)?;
        let end = place.checked_add(size).filter(|end| *end <= FREE.end)?;
        self.next = end;
        Some(place)
    }
}
