//! The network interface (virtio 1.2 §5.1), without offloads.

use alloc::boxed::Box;

use plumb_wire::ethernet;

use super::queue::{Direction, Queue};
use super::transport::{Device, Error, Transport, feature};
use crate::platform::Nic;

const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;

/// The device says what its MTU is.
const MTU: u32 = 1 << 3;
/// The device says what its MAC address is.
const MAC: u32 = 1 << 5;

const CONFIG_MAC: usize = 0;
/// The MTU is in the upper half of the word there.
const CONFIG_MTU: usize = 8;

/// Header of each frame; a legacy device's lacks the last field.
const HEADER: usize = 12;
const LEGACY_HEADER: usize = 10;

/// Buffers for received frames. What comes at once and does not fit waits in the host's queue, where
/// there is more room.
const RECEIVE_BUFFERS: u16 = 64;
const TRANSMIT_BUFFERS: u16 = 64;
/// Firecracker hands over nothing while there is less room than for the largest frame that an
/// offload could make, though there are none.
const FIRECRACKER_ROOM: usize = 65_562;
/// Largest MTU that there are buffers for.
const JUMBO: usize = 9216;
/// Smallest MTU that a device may offer.
const LEAST_MTU: usize = 68;
/// Buffers grow in such steps.
const BUFFER_STEP: usize = 2048;

/// What the driver counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Frames that were queued for the device.
    pub transmitted: u64,
    /// Frames that came.
    pub received: u64,
    /// Frames that came damaged: shorter than their headers or longer than their buffer.
    pub dropped: u64,
    /// Frames that were not taken, because the queue was full or they were too long.
    pub refused: u64,
}

/// A network interface.
#[derive(Debug)]
pub struct Net {
    // Dropped, and thereby reset, before its queues are.
    device: Device,
    receive: Queue,
    transmit: Queue,
    header: usize,
    mac: [u8; 6],
    mtu: usize,
    statistics: Statistics,
}

impl Net {
    /// Sets the device up. `mac` is the address if the device has none to offer; `mtu` the most
    /// that is wanted, of which the device may allow less.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn new(transport: Box<dyn Transport>, mac: [u8; 6], mtu: usize) -> Result<Self, Error> {
        let mut device = Device::negotiate(transport, MAC | MTU | feature::EVENT_IDX)?;
        let header = if device.is_legacy() {
            LEGACY_HEADER
        } else {
            HEADER
        };
        let mtu = mtu.min(JUMBO);
        let mtu = if device.has(MTU) {
            device_mtu(&mut device).map_or(mtu, |most| mtu.min(most))
        } else {
            mtu
        };
        let mac = if device.has(MAC) {
            read_mac(&mut device).unwrap_or(mac)
        } else {
            mac
        };
        let frame = header + ethernet::HEADER_LEN + mtu;
        // A quarter of the buffers may be in the driver's hands.
        let room = |size: u16| (FIRECRACKER_ROOM * 4).div_ceil(usize::from(size) * 3);
        let received = |size| frame.max(room(size)).next_multiple_of(BUFFER_STEP);
        let receive = device.make_queue(Direction::Receive, RECEIVE, RECEIVE_BUFFERS, received)?;
        let sent = |_| frame.next_multiple_of(BUFFER_STEP);
        let transmit = device.make_queue(Direction::Transmit, TRANSMIT, TRANSMIT_BUFFERS, sent)?;
        device.start();
        Ok(Self {
            device,
            receive,
            transmit,
            header,
            mac,
            mtu,
            statistics: Statistics::default(),
        })
    }

    /// Says whether the device is to interrupt; it is at first. Without, only asking tells whether
    /// something came.
    pub fn set_interrupts(&mut self, on: bool) {
        self.device.set_interrupts(on);
        if !on {
            self.receive.disarm();
            self.transmit.disarm();
        }
    }

    /// What was counted.
    pub const fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Says whether the device broke the rules of its queues. It is not used any more then.
    pub const fn is_broken(&self) -> bool {
        self.receive.is_broken() || self.transmit.is_broken()
    }
}

impl Nic for Net {
    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn mtu(&self) -> usize {
        self.mtu
    }

    fn transmit(&mut self, frame: &[u8]) -> bool {
        let fits = frame.len() <= ethernet::HEADER_LEN + self.mtu;
        let Some(buffer) = fits
            .then(|| self.device.free(TRANSMIT, &mut self.transmit))
            .flatten()
        else {
            self.statistics.refused += 1;
            return false;
        };
        let end = self.header + frame.len();
        let into = self.transmit.buffer_mut(buffer);
        into[..self.header].fill(0);
        into[self.header..end].copy_from_slice(frame);
        self.transmit.give(buffer, end);
        self.statistics.transmitted += 1;
        true
    }

    fn flush(&mut self) {
        self.device.publish(TRANSMIT, &mut self.transmit);
        self.device.reap(&mut self.transmit);
    }

    fn receive(&mut self, take: &mut dyn FnMut(&[u8])) -> bool {
        loop {
            while let Some(completion) = self.receive.take() {
                let buffer = self.receive.buffer(completion.buffer);
                let frame = buffer.get(self.header..completion.len);
                let frame = frame.filter(|frame| frame.len() >= ethernet::HEADER_LEN);
                let whole = frame.is_some();
                if let Some(frame) = frame {
                    self.statistics.received += 1;
                    take(frame);
                } else {
                    self.statistics.dropped += 1;
                }
                self.device
                    .give_back(RECEIVE, &mut self.receive, completion.buffer);
                if whole {
                    return true;
                }
            }
            // Its interrupt, if there was one, is over too.
            self.device.reap(&mut self.transmit);
            if self.device.arm(&mut self.receive) {
                return false;
            }
        }
    }

    fn dropped(&self) -> u64 {
        self.statistics.dropped
    }
}

/// The device's address, unless it is none: Firecracker's is all zero if it was not given one.
fn read_mac(device: &mut Device) -> Option<[u8; 6]> {
    let low = device.config(CONFIG_MAC).to_le_bytes();
    let high = device.config(CONFIG_MAC + 4).to_le_bytes();
    let mac = [low[0], low[1], low[2], low[3], high[0], high[1]];
    ethernet::is_unicast(mac).then_some(mac)
}

/// The device's MTU, unless it is none.
fn device_mtu(device: &mut Device) -> Option<usize> {
    let mtu = (device.config(CONFIG_MTU) >> 16) as usize;
    (mtu >= LEAST_MTU).then_some(mtu)
}

#[cfg(test)]
mod tests;
