//! What a device says of where its registers are.

use super::ConfigSpace;

const STATUS: u8 = 0x04;
/// In the upper half there: the device has capabilities.
const HAS_CAPABILITIES: u32 = 1 << 20;
const FIRST: u8 = 0x34;
/// More than fit into the configuration space: a list that bites its tail.
const MOST: u32 = 48;

const VENDOR_SPECIFIC: u8 = 0x09;
const MSI_X: u8 = 0x11;
/// In the first word of MSI-X: on, and none masked.
const MSI_X_ENABLE: u32 = 1 << 31;
const MSI_X_MASK: u32 = 1 << 30;

/// A piece of memory of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Which base address register.
    pub(super) bar: u8,
    pub(super) offset: u32,
    pub(super) len: u32,
}

/// The capabilities that matter (virtio 1.2 §4.1.4, PCI 3.0 §6.8.2).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Capabilities {
    pub(super) common: Option<Place>,
    pub(super) notify: Option<Place>,
    pub(super) isr: Option<Place>,
    pub(super) config: Option<Place>,
    /// What a queue's number for notifications is multiplied with.
    pub(super) multiplier: u32,
    /// The first entry of the table of interrupts.
    pub(super) table: Option<Place>,
    /// Where the configuration space has MSI-X.
    messages: u8,
}

impl Capabilities {
    /// Reads the list. Of several of a kind the first counts, as the device prefers it.
    pub(super) fn read(space: &mut dyn ConfigSpace, device: u8) -> Self {
        let mut found = Self::default();
        if space.read(device, STATUS) & HAS_CAPABILITIES == 0 {
            return found;
        }
        let mut at = space.read(device, FIRST).to_le_bytes()[0];
        for _ in 0..MOST {
            at &= !3;
            if !(0x40..=0xf0).contains(&at) {
                break;
            }
            let first = space.read(device, at);
            let [kind, next, _, what] = first.to_le_bytes();
            match kind {
                VENDOR_SPECIFIC if at <= 0xec => found.take(space, device, at, what),
                MSI_X if found.table.is_none() => {
                    let table = space.read(device, at + 4);
                    found.messages = at;
                    found.table = Some(Place {
                        bar: (table & 7) as u8,
                        offset: table & !7,
                        len: 16,
                    });
                }
                _ => {}
            }
            at = next;
        }
        found
    }

    /// Lets the device interrupt by messages.
    pub(super) fn enable_messages(&self, space: &mut dyn ConfigSpace, device: u8) {
        let first = space.read(device, self.messages);
        let first = (first | MSI_X_ENABLE) & !MSI_X_MASK;
        space.write(device, self.messages, first);
    }

    fn take(&mut self, space: &mut dyn ConfigSpace, device: u8, at: u8, what: u8) {
        let slot = match what {
            1 => &mut self.common,
            2 => &mut self.notify,
            3 => &mut self.isr,
            4 => &mut self.config,
            _ => return,
        };
        if slot.is_some() {
            return;
        }
        let place = Place {
            bar: space.read(device, at + 4).to_le_bytes()[0],
            offset: space.read(device, at + 8),
            len: space.read(device, at + 12),
        };
        *slot = Some(place);
        if what == 2 {
            self.multiplier = space.read(device, at + 16);
        }
    }
}
