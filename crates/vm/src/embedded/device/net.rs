//! The network interface (Virtual I/O Device 1.2 §5.1): no offloads, one pair of queues.

use std::io;

use virtio_queue::{Error, QueueOwnedT, QueueT};

use super::{Access, Memory, TURN, Transport, Wants, fill, gather, next, room};

const DEVICE_ID: u32 = 1;
const F_MAC: u64 = 1 << 5;
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
/// The header before each frame.
const HEADER: usize = 12;
/// Largest frame with its header. Buffers of this size are made once and touched only as far as
/// frames are long.
const FRAME: usize = HEADER + 18 + 65_535;

/// What carries frames, each behind a header of 12 bytes; nothing here blocks.
pub trait Frames {
    /// Reads the next frame.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; anything else if there will never be one again.
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize>;

    /// Sends a frame, or loses it: that is what networks do.
    fn send(&mut self, frame: &[u8]);
}

/// The network interface.
#[derive(Debug)]
pub struct Net {
    transport: Transport,
    buffer: Vec<u8>,
}

impl Net {
    /// An interface with this MAC address.
    #[must_use]
    pub fn new(mac: [u8; 6]) -> Self {
        let mut config = [0; 8];
        config[..6].copy_from_slice(&mac);
        Self {
            transport: Transport::new(DEVICE_ID, F_MAC, config),
            buffer: vec![0; FRAME],
        }
    }

    /// Reads registers.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        self.transport.read(offset, data);
    }

    /// Writes a register.
    pub fn write(&mut self, offset: u64, data: &[u8], memory: &Memory) -> Access {
        self.transport.write(offset, data, memory)
    }

    /// Moves frames both ways until nothing is left to move or others should have their turn.
    pub fn work(&mut self, memory: &Memory, frames: &mut impl Frames) -> Wants {
        let mut wants = Wants::default();
        let done = self
            .transmit(memory, frames, &mut wants)
            .and_then(|()| self.receive(memory, frames, &mut wants));
        self.transport.settle(done, wants)
    }

    fn transmit(
        &mut self,
        memory: &Memory,
        frames: &mut impl Frames,
        wants: &mut Wants,
    ) -> Result<(), Error> {
        let Some(queue) = self.transport.queue(TRANSMIT) else {
            return Ok(());
        };
        let mut used = false;
        for turn in 1..=TURN {
            wants.again |= turn == TURN;
            let Some(chain) = next(queue, memory)? else {
                break;
            };
            let head = chain.head_index();
            // A frame that cannot be read or has no header is lost.
            if let Ok(len) = gather(memory, chain, 0, &mut self.buffer)
                && len > HEADER
            {
                // What a header asks for was not offered.
                self.buffer[..HEADER].fill(0);
                frames.send(&self.buffer[..len]);
            }
            queue.add_used(memory, head, 0)?;
            used = true;
        }
        if used {
            wants.interrupt |= self.transport.announce(TRANSMIT, memory)?;
        }
        Ok(())
    }

    fn receive(
        &mut self,
        memory: &Memory,
        frames: &mut impl Frames,
        wants: &mut Wants,
    ) -> Result<(), Error> {
        let Some(queue) = self.transport.queue(RECEIVE) else {
            return Ok(());
        };
        wants.input = true;
        let mut used = false;
        for turn in 1..=TURN {
            wants.again |= turn == TURN;
            let Some(chain) = next(queue, memory)? else {
                wants.input = false;
                break;
            };
            let len = match frames.receive(&mut self.buffer) {
                Ok(len) => len.min(self.buffer.len()),
                Err(error) => {
                    queue.go_to_previous_position();
                    wants.closed = error.kind() != io::ErrorKind::WouldBlock;
                    break;
                }
            };
            // A frame that does not fit is lost, its buffer takes the next.
            if len < HEADER || room(chain.clone(), len) < len {
                queue.go_to_previous_position();
                continue;
            }
            self.buffer[..HEADER].fill(0);
            // num_buffers (§5.1.6.4.1).
            self.buffer[HEADER - 2] = 1;
            let head = chain.head_index();
            let len = match fill(memory, chain, &self.buffer[..len]) {
                Ok(()) => u32::try_from(len).unwrap_or(0),
                Err(_) => 0,
            };
            queue.add_used(memory, head, len)?;
            used = true;
        }
        if used {
            wants.interrupt |= self.transport.announce(RECEIVE, memory)?;
        }
        Ok(())
    }
}
