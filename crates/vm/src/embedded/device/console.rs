//! The console that carries the job channel (Virtual I/O Device 1.2 §5.3): port 0 only.

use std::io;

use virtio_queue::{Error, QueueOwnedT, QueueT};

use super::{Access, Memory, TURN, Transport, Wants, fill, gather, next, room};

const DEVICE_ID: u32 = 3;
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
/// Bytes that are moved at once.
const CHUNK: usize = 16 * 1024;

/// The other end of the stream; nothing here blocks.
pub trait Peer {
    /// Reads bytes; 0 if the other end has closed.
    ///
    /// # Errors
    /// `WouldBlock` if there are none.
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize>;

    /// Writes bytes and returns how many were taken.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room.
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;
}

/// The console. It holds no bytes of either direction back: what the other side does not take
/// stays in the guest's buffers, and what the guest has no buffer for stays with the other side.
#[derive(Debug)]
pub struct Console {
    transport: Transport,
    buffer: Vec<u8>,
    /// Bytes of the first chain of the transmit queue that were sent already.
    sent: usize,
}

impl Default for Console {
    fn default() -> Self {
        Self {
            transport: Transport::new(DEVICE_ID, 0, [0; 8]),
            buffer: vec![0; CHUNK],
            sent: 0,
        }
    }
}

impl Console {
    /// Reads registers.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        self.transport.read(offset, data);
    }

    /// Writes a register.
    pub fn write(&mut self, offset: u64, data: &[u8], memory: &Memory) -> Access {
        let access = self.transport.write(offset, data, memory);
        if access == Access::Reset {
            self.sent = 0;
        }
        access
    }

    /// Moves bytes both ways until nothing is left to move or others should have their turn.
    pub fn work(&mut self, memory: &Memory, peer: &mut impl Peer) -> Wants {
        let mut wants = Wants::default();
        let done = self
            .transmit(memory, peer, &mut wants)
            .and_then(|()| self.receive(memory, peer, &mut wants));
        // Who has closed makes no room any more.
        wants.room &= !wants.closed;
        self.transport.settle(done, wants)
    }

    fn transmit(
        &mut self,
        memory: &Memory,
        peer: &mut impl Peer,
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
            // A buffer that cannot be read ends there.
            let have = gather(memory, chain, self.sent, &mut self.buffer).unwrap_or(0);
            if have == 0 {
                queue.add_used(memory, head, 0)?;
                self.sent = 0;
                used = true;
                continue;
            }
            match peer.send(&self.buffer[..have]) {
                Ok(taken) => self.sent = self.sent.saturating_add(taken.min(have)),
                Err(error) => {
                    queue.go_to_previous_position();
                    wants.room = error.kind() == io::ErrorKind::WouldBlock;
                    wants.closed |= !wants.room;
                    break;
                }
            }
            // The chain is looked at again, and given back when nothing is left of it.
            queue.go_to_previous_position();
        }
        if used {
            wants.interrupt |= self.transport.announce(TRANSMIT, memory)?;
        }
        Ok(())
    }

    fn receive(
        &mut self,
        memory: &Memory,
        peer: &mut impl Peer,
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
            let head = chain.head_index();
            let most = room(chain.clone(), self.buffer.len());
            let len = match most {
                0 => 0,
                most => match peer.receive(&mut self.buffer[..most]) {
                    Ok(len) if len > 0 => len.min(most),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        queue.go_to_previous_position();
                        break;
                    }
                    Ok(_) | Err(_) => {
                        queue.go_to_previous_position();
                        wants.closed = true;
                        break;
                    }
                },
            };
            let len = match fill(memory, chain, &self.buffer[..len]) {
                Ok(()) => u32::try_from(len).unwrap_or(0),
                // The bytes are lost; a driver that hands out such buffers gets what it asks for.
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
