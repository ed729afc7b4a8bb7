use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::RefCell;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

use super::*;
use crate::platform::Nic;
use crate::virtio::fake::{FakeDevice, Kind};
use crate::virtio::mmio::{Registers, register as r};
use crate::virtio::net::Net;

const BASE: u64 = 0xfe00_0000;
const VECTOR: u8 = 0x21;

/// A configuration space, with what was written to it.
#[derive(Debug)]
struct Space {
    device: u8,
    bytes: Vec<u8>,
}

impl ConfigSpace for Space {
    fn read(&mut self, device: u8, offset: u8) -> u32 {
        if device != self.device {
            return u32::MAX;
        }
        let at = usize::from(offset);
        u32::from_le_bytes(self.bytes[at..at + 4].try_into().unwrap())
    }

    fn write(&mut self, device: u8, offset: u8, value: u32) {
        assert_eq!(device, self.device);
        let at = usize::from(offset);
        let value = match offset {
            // Of a base address, bits below the size cannot be set.
            0x14 => value & !0xfff,
            0x20 => value & !0x3fff | 0xc,
            _ => value,
        };
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
}

impl Space {
    /// As QEMU's: virtio-net in slot 3, registers in BAR 4 (64 bits), MSI-X in BAR 1.
    fn new(id: u16) -> Self {
        let mut space = Self {
            device: 3,
            bytes: vec![0; 256],
        };
        let mut put = |at: usize, bytes: &[u8]| {
            space.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(0, &0x1af4u16.to_le_bytes());
        put(2, &id.to_le_bytes());
        put(6, &[0x10]);
        put(0x2e, &1u16.to_le_bytes());
        put(0x34, &[0x98]);
        put(0x14, &0xfeb0_0000u32.to_le_bytes());
        put(0x20, &0xfe00_000cu32.to_le_bytes());
        put(0x98, &[0x11, 0x84, 2, 0, 1, 0, 0, 0]);
        // An access through the configuration space, which is not used.
        put(0x84, &[9, 0x70, 20, 5]);
        let mut at = 0x40;
        for (what, offset, next) in [(1, 0u32, 0x50), (3, 0x1000, 0x60), (4, 0x2000, 0)] {
            put(at, &[9, next, 16, what, 4]);
            put(at + 8, &offset.to_le_bytes());
            put(at + 12, &0x1000u32.to_le_bytes());
            at += 16;
        }
        put(0x70, &[9, 0x40, 20, 2, 4]);
        put(0x78, &0x3000u32.to_le_bytes());
        put(0x7c, &0x1000u32.to_le_bytes());
        put(0x80, &4u32.to_le_bytes());
        space
    }
}

/// Memory of the device: the common configuration leads to the registers of the other fake.
#[derive(Clone, Debug)]
struct Bar {
    base: u64,
    device: FakeDevice,
    writes: Rc<RefCell<Vec<(u64, u32)>>>,
    selected: Rc<RefCell<u32>>,
}

impl Window for Bar {
    fn read(&mut self, offset: u64, _width: Width) -> u32 {
        match self.base + offset - BASE {
            0x04 => self.device.read(r::DEVICE_FEATURES),
            0x14 => self.device.read(r::STATUS),
            0x18 => self.device.read(r::QUEUE_NUM_MAX),
            // Queues notify in the opposite order.
            0x1e => 1 - *self.selected.borrow(),
            0x1000 => self.device.read(r::INTERRUPT_STATUS),
            at @ 0x2000..0x3000 => {
                let at = usize::try_from(at - 0x2000).unwrap();
                self.device.read(r::CONFIG + at)
            }
            at => panic!("read at {at:x}"),
        }
    }

    fn write(&mut self, offset: u64, _width: Width, value: u32) {
        let at = self.base + offset;
        self.writes.borrow_mut().push((at, value));
        if !(BASE..0xfeb0_0000).contains(&at) {
            return;
        }
        match at - BASE {
            0x08 => self.device.write(r::DRIVER_FEATURES_SEL, value),
            0x0c => self.device.write(r::DRIVER_FEATURES, value),
            0x14 => self.device.write(r::STATUS, value),
            0x16 => {
                *self.selected.borrow_mut() = value;
                self.device.write(r::QUEUE_SEL, value);
            }
            0x18 => self.device.write(r::QUEUE_NUM, value),
            0x1a => {}
            0x1c => self.device.write(r::QUEUE_READY, value),
            at @ 0x20..0x38 => {
                let registers = [r::QUEUE_DESC, r::QUEUE_DRIVER, r::QUEUE_DEVICE];
                let at = usize::try_from(at - 0x20).unwrap();
                self.device.write(registers[at / 8] + at % 8, value);
            }
            0x3000 => self.device.write(r::QUEUE_NOTIFY, value + 100),
            0x3004 if value == 0 => self.device.write(r::QUEUE_NOTIFY, value),
            at => panic!("write at {at:x}"),
        }
    }
}

/// Memory that takes everything: where harm has led to may be anywhere.
#[derive(Debug)]
struct Nothing;

impl Window for Nothing {
    fn read(&mut self, _offset: u64, _width: Width) -> u32 {
        0
    }

    fn write(&mut self, _offset: u64, _width: Width, _value: u32) {}
}

fn bar() -> Bar {
    Bar {
        base: 0,
        device: FakeDevice::new(Kind {
            version: 2,
            id: 1,
            features: 1 << 5,
            queue_sizes: vec![256, 256],
            config: vec![2, 0, 0, 0, 0, 7],
            strict: true,
        }),
        writes: Rc::default(),
        selected: Rc::default(),
    }
}

type Found = Vec<(DeviceKind, Pci<Bar>, bool)>;

fn probe(space: &mut Space, bar: &Bar) -> Found {
    let mut all = Vec::new();
    let mut map = |base, _len| {
        Some(Bar {
            base,
            ..bar.clone()
        })
    };
    Pci::probe(space, &mut map, VECTOR, &mut |kind, pci, interrupts| {
        all.push((kind, pci, interrupts));
    });
    all
}

#[test]
fn a_device_is_found_and_driven_and_interrupts_by_messages() {
    for id in [0x1000, 0x1041] {
        let (bar, mut space) = (bar(), Space::new(id));
        let (kind, pci, interrupts) = probe(&mut space, &bar).remove(0);
        assert_eq!((kind, interrupts), (DeviceKind::Net, true));
        assert_eq!(space.bytes[4] & 6, 6, "answers, and may master the bus");
        assert_eq!(space.bytes[0x9b] & 0xc0, 0x80, "MSI-X is on");
        let entry = [(0, 0xfee0_0000), (4, 0), (8, 0x21), (12, 0)];
        let entry = entry.map(|(at, value)| (0xfeb0_0000 + at, value));
        assert_eq!(bar.writes.borrow()[..], entry);

        let mut net = Net::new(Box::new(pci), [0; 6], 1500).unwrap();
        assert!(bar.device.state().refused.is_empty());
        assert_eq!(net.mac(), [2, 0, 0, 0, 0, 7]);
        let writes = bar.writes.borrow().clone();
        let vectors = writes.iter().filter(|w| w.0 == BASE + 0x1a);
        assert!(vectors.map(|w| w.1).eq([0, 0]));
        assert!(net.transmit(&[7; 60]));
        net.flush();
        assert_eq!(bar.device.drain(1)[0].len(), 72);
        let last = bar.writes.borrow().last().copied();
        assert_eq!(last, Some((BASE + 0x3000, 1)), "the place that queue 1 has");
    }
}

#[test]
fn without_messages_the_reason_of_an_interrupt_is_read() {
    let (bar, mut space) = (bar(), Space::new(0x1041));
    space.bytes[0x98] = 1;
    let (_, pci, interrupts) = probe(&mut space, &bar).remove(0);
    assert!(!interrupts);
    let mut net = Net::new(Box::new(pci), [0; 6], 1500).unwrap();
    assert!(!net.receive(&mut |_| {}));
    assert!(bar.device.fill(0, &[7; 72]));
    assert!(net.receive(&mut |frame| assert_eq!(frame.len(), 60)));
    let reads = |device: &FakeDevice| {
        let reason = crate::virtio::fake::Access::Read(r::INTERRUPT_STATUS);
        let state = device.state();
        state.accesses.iter().filter(|a| **a == reason).count()
    };
    assert_eq!(reads(&bar.device), 0);
    assert!(!net.receive(&mut |_| {}));
    assert_eq!(reads(&bar.device), 1);
}

#[test]
fn what_firmware_has_given_no_address_gets_one_of_its_own() {
    let mut space = Space::new(0x1041);
    space.bytes[0x14..0x18].fill(0);
    space.bytes[0x20..0x28].copy_from_slice(&[0xc, 0, 0, 0, 0, 0, 0, 0]);
    let mut ranges = Vec::new();
    let mut map = |base, len| {
        ranges.push((base, base + len));
        Some(Nothing)
    };
    let mut found = 0;
    Pci::probe(&mut space, &mut map, VECTOR, &mut |_, _, interrupts| {
        found += usize::from(interrupts);
    });
    assert_eq!(found, 1);
    // Common configuration, notifications and the device's own in one, the table in the other.
    ranges.sort_unstable();
    assert_eq!(ranges[0], (BASE, BASE + 0x1000));
    assert!(ranges.is_sorted_by(|a, b| a.1 <= b.0), "{ranges:x?}");
    assert_eq!(ranges.last(), Some(&(BASE + 0x4000, BASE + 0x4010)));
    assert_eq!(space.bytes[4] & 6, 6, "answers, and may master the bus");
    assert_eq!(space.read(3, 0x20), 0xfe00_000c);
    assert_eq!(space.read(3, 0x14), 0xfe00_4000);
}

#[test]
fn other_devices_and_such_without_memory_are_left_alone() {
    for (at, byte) in [
        (0, 0x86),
        // No capabilities; ports instead of memory; the kind of no device.
        (6, 0),
        (0x20, 1),
        (0x44, 6),
    ] {
        let (bar, mut space) = (bar(), Space::new(0x1041));
        space.bytes[at] = byte;
        assert!(probe(&mut space, &bar).is_empty(), "{at:x}");
    }
    let (bar, mut space) = (bar(), Space::new(0x1040));
    assert!(probe(&mut space, &bar).is_empty());
}

proptest! {
    #[test]
    fn no_configuration_space_makes_it_panic_or_loop(
        bytes in prop::collection::vec(any::<u8>(), 256), harm in prop::collection::vec((0..256usize, any::<u8>()), 0..20), random: bool,
    ) {
        let mut space = Space::new(0x1041);
        if random {
            space.bytes[0x40..].copy_from_slice(&bytes[0x40..]);
        }
        for (at, by) in harm {
            if at > 3 {
                space.bytes[at] = by;
            }
        }
        Pci::probe(&mut space, &mut |_, _| Some(Nothing), VECTOR, &mut |_, _, _| {});
    }
}
