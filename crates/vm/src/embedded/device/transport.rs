//! virtio over MMIO: the registers (Virtual I/O Device 1.2 §4.2).

use virtio_queue::{Error, Queue, QueueT};

use super::{Memory, Wants};

/// Queues of a device. Both of ours have two.
const QUEUES: usize = 2;
/// Largest size of a queue.
const QUEUE_SIZE: u16 = 256;

/// Features that belong to the transport (§6).
const F_EVENT_IDX: u64 = 1 << 29;
const F_VERSION_1: u64 = 1 << 32;

/// Bits of the device status (§2.1).
const S_FEATURES_OK: u32 = 8;
const S_DRIVER_OK: u32 = 4;
const S_NEEDS_RESET: u32 = 0x40;
/// What the driver may set.
const S_DRIVER: u32 = 0x8f;

/// Bits of the interrupt status (§4.2.2).
const I_USED: u32 = 1;
const I_CONFIG: u32 = 2;

/// What a write to a register asks of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    None,
    /// The driver has become ready or has put something into a queue: move what there is to move.
    Work,
    /// The device was reset: forget what belongs to the last driver.
    Reset,
}

/// The registers of one device, and its queues.
#[derive(Debug)]
pub struct Transport {
    device_id: u32,
    features: u64,
    config: [u8; 8],
    status: u32,
    interrupt: u32,
    driver_features: u64,
    features_page: u32,
    driver_features_page: u32,
    selected: u32,
    queues: [Queue; QUEUES],
}

impl Transport {
    /// A device as it is after power on. `features` are those of its kind, `config` what its
    /// configuration space begins with; the rest of it is zero.
    #[must_use]
    pub fn new(device_id: u32, features: u64, config: [u8; 8]) -> Self {
        Self {
            device_id,
            features: features | F_EVENT_IDX | F_VERSION_1,
            config,
            status: 0,
            interrupt: 0,
            driver_features: 0,
            features_page: 0,
            driver_features_page: 0,
            selected: 0,
            queues: [new_queue(), new_queue()],
        }
    }

    /// Whether the driver has set the device up and the device has not failed.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.status & (S_DRIVER_OK | S_NEEDS_RESET) == S_DRIVER_OK
    }

    /// A queue, if the driver has set it up.
    pub fn queue(&mut self, index: usize) -> Option<&mut Queue> {
        let live = self.is_live();
        self.queues
            .get_mut(index)
            .filter(|queue| live && queue.ready())
    }

    /// Stops the device until it is reset: what the driver has given it makes no sense (§2.1.2).
    pub fn fail(&mut self) {
        self.status |= S_NEEDS_RESET;
        self.interrupt |= I_CONFIG;
    }

    /// Notes that buffers of a queue were used, if the driver wants to be told, and says whether it
    /// has to be interrupted for that.
    ///
    /// # Errors
    /// If the rings make no sense.
    pub fn announce(&mut self, index: usize, memory: &Memory) -> Result<bool, Error> {
        let wanted = match self.queue(index) {
            Some(queue) => queue.needs_notification(memory)?,
            None => false,
        };
        if wanted {
            self.interrupt |= I_USED;
        }
        Ok(wanted)
    }

    /// What a device wants after a turn. One whose rings made no sense stops, and says only that.
    pub fn settle(&mut self, done: Result<(), Error>, wants: Wants) -> Wants {
        if done.is_ok() {
            return wants;
        }
        self.fail();
        Wants {
            interrupt: true,
            closed: wants.closed,
            ..Wants::default()
        }
    }

    /// Reads registers or configuration space. What does not exist, or is read with a size that
    /// the specification forbids (§4.2.2.2), is zero.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(at) = offset.checked_sub(0x100) {
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            if let Some(config) = self.config.get(at..) {
                let len = config.len().min(data.len());
                data[..len].copy_from_slice(&config[..len]);
            }
            return;
        }
        if let Ok(data) = <&mut [u8; 4]>::try_from(data) {
            *data = self.register(offset).to_le_bytes();
        }
    }

    fn register(&self, offset: u64) -> u32 {
        let queue = self.selected_queue();
        match offset {
            0x000 => u32::from_le_bytes(*b"virt"),
            0x004 => 2,
            0x008 => self.device_id,
            0x00c => u32::from_le_bytes(*b"PLMB"),
            0x010 => page(self.features, self.features_page),
            0x034 => queue.map_or(0, |queue| queue.max_size().into()),
            0x044 => queue.map_or(0, |queue| queue.ready().into()),
            0x060 => self.interrupt,
            0x070 => self.status,
            _ => 0,
        }
    }

    fn selected_queue(&self) -> Option<&Queue> {
        self.queues.get(usize::try_from(self.selected).ok()?)
    }

    /// Writes a register. Configuration space, registers that cannot be written and writes of the
    /// wrong size are ignored.
    pub fn write(&mut self, offset: u64, data: &[u8], memory: &Memory) -> Access {
        let Ok(data) = <[u8; 4]>::try_from(data) else {
            return Access::None;
        };
        let value = u32::from_le_bytes(data);
        match offset {
            0x014 => self.features_page = value,
            0x020 => self.set_driver_features(value),
            0x024 => self.driver_features_page = value,
            0x030 => self.selected = value,
            0x050 if self.is_live() => return Access::Work,
            0x064 => self.interrupt &= !value,
            0x070 => return self.set_status(value, memory),
            _ => self.set_queue(offset, value),
        }
        Access::None
    }

    fn set_driver_features(&mut self, value: u32) {
        if self.status & S_FEATURES_OK != 0 {
            return;
        }
        let shift = match self.driver_features_page {
            0 => 0,
            1 => 32,
            _ => return,
        };
        self.driver_features &= !(u64::from(u32::MAX) << shift);
        self.driver_features |= u64::from(value) << shift;
    }

    fn set_status(&mut self, value: u32, memory: &Memory) -> Access {
        if value == 0 {
            *self = Self::new(self.device_id, self.features, self.config);
            return Access::Reset;
        }
        // Bits are only ever added, but by a reset (§2.1.1).
        let before = self.status;
        self.status |= value & S_DRIVER;
        let acceptable =
            self.driver_features & !self.features == 0 && self.driver_features & F_VERSION_1 != 0;
        if before & S_FEATURES_OK == 0 && !acceptable {
            self.status &= !S_FEATURES_OK;
        }
        if self.status & S_FEATURES_OK == 0 {
            self.status &= !S_DRIVER_OK;
        }
        if self.status & S_DRIVER_OK == 0 || before & S_DRIVER_OK != 0 {
            return Access::None;
        }
        let event_idx = self.driver_features & F_EVENT_IDX != 0;
        for queue in &mut self.queues {
            queue.set_event_idx(event_idx);
        }
        if self.queues.iter().any(|q| q.ready() && !q.is_valid(memory)) {
            self.fail();
        }
        Access::Work
    }

    /// Sets up the selected queue. What is set up already stays as it is.
    fn set_queue(&mut self, offset: u64, value: u32) {
        let selected = usize::try_from(self.selected).unwrap_or(usize::MAX);
        let Some(queue) = self.queues.get_mut(selected) else {
            return;
        };
        if queue.ready() || self.status & S_DRIVER_OK != 0 {
            return;
        }
        match offset {
            0x038 => queue.set_size(u16::try_from(value).unwrap_or(0)),
            0x044 => queue.set_ready(value == 1),
            0x080 => queue.set_desc_table_address(Some(value), None),
            0x084 => queue.set_desc_table_address(None, Some(value)),
            0x090 => queue.set_avail_ring_address(Some(value), None),
            0x094 => queue.set_avail_ring_address(None, Some(value)),
            0x0a0 => queue.set_used_ring_address(Some(value), None),
            0x0a4 => queue.set_used_ring_address(None, Some(value)),
            _ => {}
        }
    }
}

/// A queue that is not set up.
fn new_queue() -> Queue {
    let Ok(queue) = Queue::new(QUEUE_SIZE) else {
        unreachable!("{QUEUE_SIZE} is a power of two");
    };
    queue
}

/// One half of the feature bits.
fn page(features: u64, page: u32) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the half that was asked for"
    )]
    match page {
        0 => features as u32,
        1 => (features >> 32) as u32,
        _ => 0,
    }
}
