//! A device for tests, on the same memory as the driver: the registers as Firecracker (strict) or
//! QEMU have them, and the device's side of the queues, honest or not.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{RefCell, RefMut};
use core::sync::atomic::Ordering;

use super::dma::{LAST, PAGE};
use super::mmio::{Registers, register as r};
use super::queue::{Rings, crosses};
use super::transport::{feature, status};

/// What the device is like.
#[derive(Clone, Debug)]
pub struct Kind {
    /// 1 (legacy) or 2.
    pub version: u32,
    /// Virtio device ID.
    pub id: u32,
    /// Lower half of the offered features.
    pub features: u32,
    /// Largest size of each of the queues.
    pub queue_sizes: Vec<u16>,
    /// Configuration of the device.
    pub config: Vec<u8>,
    /// Refuses everything in the wrong status, as Firecracker does.
    pub strict: bool,
}

/// An access to a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Of the register at this offset.
    Read(usize),
    /// To the register at this offset, of this value.
    Write(usize, u32),
}

/// The device. Clones are the same device: one for the driver, one for the test.
#[derive(Clone, Debug)]
pub struct FakeDevice(Rc<RefCell<State>>);

/// What the test can see and change.
#[derive(Debug)]
pub struct State {
    /// What the device is like.
    pub kind: Kind,
    /// All accesses to registers.
    pub accesses: Vec<Access>,
    /// Lower half of the accepted features.
    pub driver_features: u32,
    /// Upper half of them.
    pub driver_features_high: u32,
    /// Device status.
    pub status: u32,
    /// Steps that were refused.
    pub refused: Vec<Access>,
    /// Whether the interrupt line is high.
    pub interrupt: bool,
    /// How often it rose.
    pub edges: u32,
    /// The queues that were enabled.
    pub queues: BTreeMap<u16, FakeQueue>,
    selected: u16,
    features_half: u32,
    building: BTreeMap<u16, Registered>,
}

/// What the registers say of a queue.
#[derive(Clone, Copy, Debug, Default)]
struct Registered {
    size: u16,
    align: u64,
    descriptors: u64,
    driver: u64,
    device: u64,
}

/// The device's side of a queue.
#[derive(Debug)]
pub struct FakeQueue {
    rings: Rings,
    event_index: bool,
    /// Index up to which buffers were taken from the driver's ring.
    pub seen: u16,
    /// Index up to which buffers were put into the device's ring.
    pub used: u16,
    /// How often the driver notified.
    pub notifications: u32,
}

/// A buffer that the device took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Its descriptor.
    pub id: u16,
    address: u64,
    /// Its length in bytes.
    pub len: usize,
    /// Whether the device may write it.
    pub writable: bool,
}

impl FakeDevice {
    /// A device after power-on.
    pub fn new(kind: Kind) -> Self {
        Self(Rc::new(RefCell::new(State {
            kind,
            accesses: Vec::new(),
            driver_features: 0,
            driver_features_high: 0,
            status: 0,
            refused: Vec::new(),
            interrupt: false,
            edges: 0,
            queues: BTreeMap::new(),
            selected: 0,
            features_half: 0,
            building: BTreeMap::new(),
        })))
    }

    /// The state behind the registers.
    ///
    /// # Panics
    /// If it is borrowed already.
    pub fn state(&self) -> RefMut<'_, State> {
        self.0.borrow_mut()
    }

    /// Runs `f` on a queue that was enabled; `None` if it was not.
    pub fn queue<T>(&self, queue: u16, f: impl FnOnce(&mut FakeQueue) -> T) -> Option<T> {
        self.state().queues.get_mut(&queue).map(f)
    }

    /// Writes bytes into the next buffer of a queue, if there is one, as an honest device does.
    pub fn fill(&self, queue: u16, bytes: &[u8]) -> bool {
        let interrupt = self.queue(queue, |q| {
            let buffer = q.take()?;
            q.write(buffer, bytes);
            Some(q.complete(buffer.id.into(), bytes.len()))
        });
        let interrupt = interrupt.flatten();
        if interrupt == Some(true) {
            self.interrupt();
        }
        interrupt.is_some()
    }

    /// Takes what the driver sent through a queue, as an honest device does.
    pub fn drain(&self, queue: u16) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        let mut interrupt = false;
        self.queue(queue, |q| {
            while let Some(buffer) = q.take() {
                all.push(q.read(buffer));
                interrupt |= q.complete(buffer.id.into(), 0);
            }
        });
        if interrupt {
            self.interrupt();
        }
        all
    }

    /// Raises the interrupt line.
    pub fn interrupt(&self) {
        let mut state = self.state();
        state.edges += u32::from(!state.interrupt);
        state.interrupt = true;
    }
}

impl Registers for FakeDevice {
    fn read(&mut self, offset: usize) -> u32 {
        let mut state = self.state();
        state.accesses.push(Access::Read(offset));
        let kind = &state.kind;
        match offset {
            r::VERSION => kind.version,
            r::DEVICE_ID => kind.id,
            r::DEVICE_FEATURES if state.features_half == 0 => kind.features,
            r::DEVICE_FEATURES => feature::VERSION_1,
            r::QUEUE_NUM_MAX => {
                let size = kind.queue_sizes.get(usize::from(state.selected));
                size.copied().unwrap_or(0).into()
            }
            r::INTERRUPT_STATUS => state.interrupt.into(),
            r::STATUS => state.status,
            _ => {
                let byte = |i: usize| {
                    let at = offset.checked_sub(r::CONFIG).map(|at| at + i);
                    at.and_then(|at| kind.config.get(at)).copied().unwrap_or(0)
                };
                u32::from_le_bytes(core::array::from_fn(byte))
            }
        }
    }

    fn write(&mut self, offset: usize, value: u32) {
        let mut state = self.state();
        let state = &mut *state;
        let access = Access::Write(offset, value);
        state.accesses.push(access);
        if state.kind.strict && !state.permits(offset, value) {
            state.refused.push(access);
            return;
        }
        #[expect(clippy::cast_possible_truncation, reason = "16-bit registers")]
        let word = value as u16;
        match offset {
            r::STATUS if value == 0 => state.reset(),
            r::STATUS => state.status = value,
            r::DEVICE_FEATURES_SEL => state.features_half = value,
            r::DRIVER_FEATURES_SEL => state.features_half = value,
            r::DRIVER_FEATURES if state.features_half == 0 => state.driver_features = value,
            r::DRIVER_FEATURES => state.driver_features_high = value,
            r::QUEUE_SEL => state.selected = word,
            r::QUEUE_NOTIFY => {
                if let Some(queue) = state.queues.get_mut(&word) {
                    queue.notifications += 1;
                }
            }
            r::INTERRUPT_ACK => state.interrupt = false,
            _ => state.write_queue(offset, value),
        }
    }
}

impl State {
    /// What Firecracker permits (its `transport/mmio.rs`).
    fn permits(&self, offset: usize, value: u32) -> bool {
        use status::{ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK};
        let steps = [ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK];
        let known = steps
            .iter()
            .take_while(|s| self.status & u32::from(**s) != 0);
        let known = known.count();
        match offset {
            r::STATUS if value == 0 => true,
            r::STATUS => {
                let next = steps.get(known).map(|s| self.status | u32::from(*s));
                next == Some(value)
            }
            r::DRIVER_FEATURES => known == 2,
            r::QUEUE_NUM..=r::QUEUE_READY | r::QUEUE_DESC..r::CONFIG => known == 3,
            _ => true,
        }
    }

    fn reset(&mut self) {
        self.status = 0;
        self.selected = 0;
        self.features_half = 0;
        self.driver_features = 0;
        self.driver_features_high = 0;
        self.queues.clear();
        self.building.clear();
    }

    fn write_queue(&mut self, offset: usize, value: u32) {
        let building = self.building.entry(self.selected).or_default();
        let wide = u64::from(value);
        match offset {
            r::QUEUE_NUM => building.size = u16::try_from(value).unwrap_or(0),
            r::QUEUE_ALIGN => building.align = wide,
            r::QUEUE_DESC => building.descriptors |= wide,
            r::QUEUE_DRIVER => building.driver |= wide,
            r::QUEUE_DEVICE => building.device |= wide,
            // The upper halves: real addresses, since the test and the driver are one process.
            0x84 => building.descriptors |= wide << 32,
            0x94 => building.driver |= wide << 32,
            0xa4 => building.device |= wide << 32,
            r::QUEUE_PFN => {
                let size = u64::from(building.size);
                let above = LAST.load(Ordering::Relaxed) >> 44 << 44;
                building.descriptors = above + wide * u64::from(PAGE);
                building.driver = building.descriptors + size * 16;
                building.device = (building.driver + size * 2 + 6).next_multiple_of(building.align);
                self.enable();
            }
            r::QUEUE_READY => self.enable(),
            _ => {}
        }
    }

    fn enable(&mut self) {
        let building = self.building.get(&self.selected).copied();
        let building = building.unwrap_or_default();
        let queue = FakeQueue {
            rings: Rings {
                descriptors: building.descriptors,
                driver: building.driver,
                device: building.device,
                size: building.size,
            },
            event_index: self.driver_features & feature::EVENT_IDX != 0,
            seen: 0,
            used: 0,
            notifications: 0,
        };
        self.queues.insert(self.selected, queue);
    }
}

impl FakeQueue {
    /// The device's side of a queue whose place is known without registers.
    pub const fn new(rings: Rings, event_index: bool) -> Self {
        Self {
            rings,
            event_index,
            seen: 0,
            used: 0,
            notifications: 0,
        }
    }

    /// Number of descriptors.
    pub const fn size(&self) -> u16 {
        self.rings.size
    }

    /// Number of buffers that the driver has published and the device has not taken.
    pub fn available(&self) -> u16 {
        read_u16(self.rings.driver + 2).wrapping_sub(self.seen)
    }

    /// Takes the next buffer, and asks to be notified of the one behind it if there is none yet.
    ///
    /// # Panics
    /// If the driver published a descriptor that there is not.
    pub fn take(&mut self) -> Option<Buffer> {
        if self.available() == 0 {
            return None;
        }
        let size = u64::from(self.rings.size);
        let slot = u64::from(self.seen) % size;
        let id = read_u16(self.rings.driver + 4 + slot * 2);
        assert!(id < self.rings.size, "a descriptor that there is not");
        self.seen = self.seen.wrapping_add(1);
        write_u16(self.rings.device + 4 + size * 8, self.seen);
        let descriptor = self.rings.descriptors + u64::from(id) * 16;
        Some(Buffer {
            id,
            address: u64::from(read_u32(descriptor)) | u64::from(read_u32(descriptor + 4)) << 32,
            len: read_u32(descriptor + 8) as usize,
            writable: read_u16(descriptor + 12) == 2,
        })
    }

    /// Reads what the driver put into a buffer.
    ///
    /// # Panics
    /// If it is one to write to.
    pub fn read(&self, buffer: Buffer) -> Vec<u8> {
        assert!(!buffer.writable, "a buffer of the other direction");
        (0..buffer.len)
            .map(|i| read_u8(buffer.address + i as u64))
            .collect()
    }

    /// Writes into a buffer, as much as has room.
    ///
    /// # Panics
    /// If it is one to read from.
    pub fn write(&self, buffer: Buffer, bytes: &[u8]) {
        assert!(buffer.writable, "a buffer of the other direction");
        for (byte, i) in bytes.iter().zip(0..buffer.len) {
            write_u8(buffer.address + i as u64, *byte);
        }
    }

    /// Returns a buffer, or says that it does, and whether the driver wants an interrupt.
    pub fn complete(&mut self, id: u32, len: usize) -> bool {
        self.put(self.used, id, u32::try_from(len).unwrap_or(u32::MAX));
        self.set_used(self.used.wrapping_add(1))
    }

    /// Writes an element of the device's ring without moving its index.
    pub fn put(&mut self, index: u16, id: u32, len: u32) {
        let slot = u64::from(index % self.rings.size);
        let element = self.rings.device + 4 + slot * 8;
        write_u32(element, id);
        write_u32(element + 4, len);
    }

    /// Moves the index of the device's ring anywhere, and says whether the driver wants an
    /// interrupt.
    pub fn set_used(&mut self, index: u16) -> bool {
        let old = core::mem::replace(&mut self.used, index);
        write_u16(self.rings.device + 2, index);
        if self.event_index {
            let event = self.rings.driver + 4 + u64::from(self.rings.size) * 2;
            crosses(read_u16(event), index, old)
        } else {
            read_u16(self.rings.driver) & 1 == 0
        }
    }

    /// Asks for no notifications, or for all of them. Means nothing where event indices do.
    pub fn set_no_notify(&mut self, on: bool) {
        write_u16(self.rings.device, on.into());
    }
}

macro_rules! access {
    ($read:ident, $write:ident, $type:ty) => {
        fn $read(address: u64) -> $type {
            let address = usize::try_from(address).expect("an address");
            let pointer = core::ptr::with_exposed_provenance::<$type>(address);
            // SAFETY: the driver in the same process published the address of memory that it holds
            // until it has reset this device, which forgets all addresses then.
            unsafe { pointer.read_volatile() }
        }

        fn $write(address: u64, value: $type) {
            let address = usize::try_from(address).expect("an address");
            let pointer = core::ptr::with_exposed_provenance_mut::<$type>(address);
            // SAFETY: as above.
            unsafe { pointer.write_volatile(value) }
        }
    };
}

access!(read_u8, write_u8, u8);
access!(read_u16, write_u16, u16);
access!(read_u32, write_u32, u32);
