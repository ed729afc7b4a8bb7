//! The console (virtio 1.2 §5.3) as a stream: port 0 alone, whose two queues carry nothing but
//! bytes.

use alloc::boxed::Box;

use super::queue::{Direction, Queue};
use super::transport::{Device, Error, Transport, feature};
use crate::platform::Stream;

const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;

const RECEIVE_BUFFERS: u16 = 8;
const TRANSMIT_BUFFERS: u16 = 16;
const BUFFER: usize = 4096;

/// A buffer of which a part was filled or read.
#[derive(Clone, Copy, Debug)]
struct Part {
    buffer: u16,
    from: usize,
    to: usize,
}

/// A console. Its other end does not tell whether someone is there.
#[derive(Debug)]
pub struct Console {
    // Dropped, and thereby reset, before its queues are.
    device: Device,
    receive: Queue,
    transmit: Queue,
    /// What is being read.
    reading: Option<Part>,
    /// What is being filled.
    filling: Option<Part>,
}

impl Console {
    /// Sets the device up.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn new(transport: Box<dyn Transport>) -> Result<Self, Error> {
        let mut device = Device::negotiate(transport, feature::EVENT_IDX)?;
        let mut queue =
            |direction, index, size| device.make_queue(direction, index, size, |_| BUFFER);
        let receive = queue(Direction::Receive, RECEIVE, RECEIVE_BUFFERS)?;
        let transmit = queue(Direction::Transmit, TRANSMIT, TRANSMIT_BUFFERS)?;
        device.start();
        Ok(Self {
            device,
            receive,
            transmit,
            reading: None,
            filling: None,
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

    /// Puts what was filled into the queue.
    fn close(&mut self) {
        if let Some(part) = self.filling.take() {
            self.transmit.give(part.buffer, part.to);
        }
    }

    /// The next buffer with something in it.
    fn next(&mut self) -> Option<Part> {
        loop {
            while let Some(completion) = self.receive.take() {
                // What the device says beyond the buffer is not there.
                let to = completion.len.min(self.receive.buffer_len());
                let buffer = completion.buffer;
                if to > 0 {
                    return Some(Part {
                        buffer,
                        from: 0,
                        to,
                    });
                }
                self.device.give_back(RECEIVE, &mut self.receive, buffer);
            }
            // Its interrupt, if there was one, is over too.
            self.device.reap(&mut self.transmit);
            if self.device.arm(&mut self.receive) {
                return None;
            }
        }
    }
}

impl Stream for Console {
    fn send(&mut self, mut bytes: &[u8]) -> usize {
        let all = bytes.len();
        while !bytes.is_empty() {
            if self.filling.is_none() {
                let buffer = self.device.free(TRANSMIT, &mut self.transmit);
                self.filling = buffer.map(|buffer| Part {
                    buffer,
                    from: 0,
                    to: 0,
                });
            }
            let Some(part) = &mut self.filling else {
                break;
            };
            let room = &mut self.transmit.buffer_mut(part.buffer)[part.to..];
            let len = room.len().min(bytes.len());
            let (now, later) = bytes.split_at(len);
            room[..len].copy_from_slice(now);
            bytes = later;
            part.to += len;
            if part.to == self.transmit.buffer_len() {
                self.close();
            }
        }
        all - bytes.len()
    }

    fn flush(&mut self) {
        self.close();
        self.device.publish(TRANSMIT, &mut self.transmit);
        self.device.reap(&mut self.transmit);
    }

    fn receive(&mut self, into: &mut [u8]) -> usize {
        let mut copied = 0;
        while copied < into.len() {
            let Some(part) = self.reading.take().or_else(|| self.next()) else {
                break;
            };
            let there = &self.receive.buffer(part.buffer)[part.from..part.to];
            let len = there.len().min(into.len() - copied);
            into[copied..copied + len].copy_from_slice(&there[..len]);
            copied += len;
            let from = part.from + len;
            if from < part.to {
                self.reading = Some(Part { from, ..part });
            } else {
                self.device
                    .give_back(RECEIVE, &mut self.receive, part.buffer);
            }
        }
        copied
    }

    fn is_closed(&self) -> bool {
        self.receive.is_broken() || self.transmit.is_broken()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::fake::{FakeDevice, Kind};
    use crate::virtio::mmio::Mmio;
    use crate::virtio::transport::DeviceKind;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    fn open(version: u32) -> (FakeDevice, Console) {
        let device = FakeDevice::new(Kind {
            version,
            id: 3,
            features: u32::MAX,
            queue_sizes: vec![128, 128],
            config: vec![],
            strict: version == 2,
        });
        let (kind, transport) = Mmio::probe(device.clone()).unwrap();
        assert_eq!(kind, DeviceKind::Console);
        (device, Console::new(Box::new(transport)).unwrap())
    }

    fn bytes(from: usize, len: usize) -> Vec<u8> {
        let byte = |i: usize| ((from + i) * 7 % 251).to_le_bytes()[0];
        (0..len).map(byte).collect()
    }

    #[test]
    fn several_ports_are_not_agreed_upon() {
        let (device, _console) = open(2);
        assert_eq!(device.state().driver_features, feature::EVENT_IDX);
        assert!(device.state().refused.is_empty());
        assert!(device.state().accesses.len() <= 2 + 32);
    }

    #[test]
    fn a_full_queue_takes_a_part_and_interrupts_when_there_is_room() {
        let (device, mut console) = open(2);
        let all = bytes(0, 100_000);
        let taken = console.send(&all);
        assert_eq!(taken, usize::from(TRANSMIT_BUFFERS) * BUFFER);
        assert_eq!(console.send(&all[taken..]), 0);
        assert!(!device.state().interrupt);
        let mut sent = device.drain(TRANSMIT).concat();
        assert!(device.state().interrupt);
        assert_eq!(console.send(&all[taken..]), all.len() - taken);
        console.flush();
        sent.extend(device.drain(TRANSMIT).concat());
        assert!(sent == all);
        assert!(!console.is_closed());
    }

    #[test]
    fn what_a_device_says_beyond_the_buffer_is_not_there() {
        let (device, mut console) = open(2);
        for len in [0, BUFFER + 1, usize::MAX] {
            device.queue(RECEIVE, |q| {
                let buffer = q.take().unwrap();
                q.complete(buffer.id.into(), len)
            });
        }
        let mut into = vec![0; 5 * BUFFER];
        assert_eq!(console.receive(&mut into), 2 * BUFFER);
        device.queue(RECEIVE, |q| q.set_used(9999));
        assert_eq!(console.receive(&mut into), 0);
        assert!(console.is_closed());
    }

    proptest! {
        /// Pieces of any size, read and written in pieces of any other, in both versions.
        #[test]
        fn both_streams_arrive_whole_and_in_order(
            steps in prop::collection::vec((0..5u8, 1..6000usize), 0..200), version in 1..3u32,
        ) {
            let (device, mut console) = open(version);
            let (mut sent, mut arrived) = (0, Vec::new());
            let (mut given, mut read) = (0, Vec::<u8>::new());
            let mut into = vec![0; 6000];
            for (step, len) in steps {
                match step {
                    0 => sent += console.send(&bytes(sent, len)),
                    1 => console.flush(),
                    2 => arrived.extend(device.drain(TRANSMIT).concat()),
                    3 => {
                        let len = len.min(BUFFER);
                        if device.fill(RECEIVE, &bytes(given, len)) {
                            given += len;
                        }
                    }
                    _ => {
                        let len = console.receive(&mut into[..len]);
                        read.extend(&into[..len]);
                    }
                }
            }
            console.flush();
            arrived.extend(device.drain(TRANSMIT).concat());
            loop {
                let len = console.receive(&mut into);
                if len == 0 {
                    break;
                }
                read.extend(&into[..len]);
            }
            prop_assert!(arrived == bytes(0, sent));
            prop_assert!(read == bytes(0, given));
            prop_assert!(!console.is_closed());
        }
    }
}
