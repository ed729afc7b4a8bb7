//! Packets on their way from an engine to a port.

use plumb_wire::{ProbeId, Transmit};

/// Packets that an engine wrote and a port has not sent yet, oldest first.
pub struct Batch {
    slots: Box<[[u8; Self::SLOT_LEN]; Self::CAPACITY]>,
    lens: [usize; Self::CAPACITY],
    probes: [ProbeId; Self::CAPACITY],
    sent: usize,
    filled: usize,
}

impl Batch {
    /// Most packets that a batch holds.
    pub const CAPACITY: usize = 64;
    /// Most bytes that a packet of it has.
    pub const SLOT_LEN: usize = 1536;

    /// A batch without packets.
    pub fn new() -> Self {
        Self {
            slots: Box::new([[0; Self::SLOT_LEN]; Self::CAPACITY]),
            lens: [0; Self::CAPACITY],
            probes: [ProbeId(0); Self::CAPACITY],
            sent: 0,
            filled: 0,
        }
    }

    /// Adds what `write` writes, which is told how much room there is by the length of its
    /// buffer. Returns whether it wrote a packet; it is not called when the batch is full.
    pub fn push(&mut self, write: impl FnOnce(&mut [u8]) -> Option<Transmit>) -> bool {
        let Some(slot) = self.slots.get_mut(self.filled) else {
            return false;
        };
        let Some(transmit) = write(slot) else {
            return false;
        };
        self.lens[self.filled] = transmit.len.min(Self::SLOT_LEN);
        self.probes[self.filled] = transmit.probe;
        self.filled += 1;
        true
    }

    /// Says whether all packets were sent.
    pub const fn is_empty(&self) -> bool {
        self.sent == self.filled
    }

    /// Packets that wait to be sent.
    pub const fn len(&self) -> usize {
        self.filled - self.sent
    }

    /// The `index`-th packet that waits. Panics if there are fewer.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    pub fn packet(&self, index: usize) -> &[u8] {
        assert!(index < self.len(), "the batch has fewer packets");
        let at = self.sent + index;
        &self.slots[at][..self.lens[at]]
    }

    /// The name of the `index`-th packet that waits.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    pub fn probe(&self, index: usize) -> ProbeId {
        assert!(index < self.len(), "the batch has fewer packets");
        self.probes[self.sent + index]
    }

    /// Takes the first `count` waiting packets out.
    pub(crate) const fn advance(&mut self, count: usize) {
        self.sent += count;
        if self.sent >= self.filled {
            self.sent = 0;
            self.filled = 0;
        }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for Batch {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Batch").field("len", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(batch: &mut Batch, byte: u8) -> bool {
        batch.push(|into| {
            into[0] = byte;
            Some(Transmit {
                len: 1,
                probe: ProbeId(byte.into()),
            })
        })
    }

    #[test]
    fn a_batch_gives_its_packets_in_order_and_takes_no_more_than_it_holds() {
        let mut batch = Batch::new();
        let taken = (0..=255).take_while(|b| fill(&mut batch, *b)).count();
        assert_eq!(taken, Batch::CAPACITY);
        batch.advance(3);
        assert_eq!((batch.packet(0), batch.probe(0)), (&[3][..], ProbeId(3)));
        assert_eq!(batch.len(), Batch::CAPACITY - 3);
        assert!(!fill(&mut batch, 9), "room comes back when all is sent");
        batch.advance(Batch::CAPACITY - 3);
        assert!(batch.is_empty() && fill(&mut batch, 9));
    }
}
