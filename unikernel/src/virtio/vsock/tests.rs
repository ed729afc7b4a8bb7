use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

use super::*;
use crate::virtio::fake::{FakeDevice, Kind};
use crate::virtio::mmio::Mmio;
use crate::virtio::transport::DeviceKind;

const PORT: u32 = 52;

/// The host's end of the connection.
struct Host {
    device: FakeDevice,
    sent: u32,
    received: Vec<u8>,
    /// What was received and counts as taken.
    taken: u32,
    room: u32,
    /// What the machine says of itself.
    peer_room: u32,
    peer_taken: u32,
    operations: Vec<Operation>,
}

fn open() -> (Host, Vsock) {
    let device = FakeDevice::new(Kind {
        version: 2,
        id: 19,
        features: u32::MAX,
        queue_sizes: vec![256, 256, 256],
        config: vec![3, 0, 0, 0, 0, 0, 0, 0],
        strict: true,
    });
    let (kind, transport) = Mmio::probe(device.clone()).unwrap();
    assert_eq!(kind, DeviceKind::Vsock);
    let vsock = Vsock::new(Box::new(transport), PORT).unwrap();
    let host = Host {
        device,
        sent: 0,
        received: Vec::new(),
        taken: 0,
        room: 10_000,
        peer_room: 0,
        peer_taken: 0,
        operations: Vec::new(),
    };
    (host, vsock)
}

fn connected() -> (Host, Vsock) {
    let (mut host, mut vsock) = open();
    host.listen();
    assert_eq!(host.operations, [Operation::Request]);
    assert!(host.say(Operation::Response, 0, &[]));
    assert_eq!(vsock.receive(&mut [0; 10]), 0);
    host.operations.clear();
    (host, vsock)
}

impl Host {
    fn header(&self, operation: Operation, flags: u32, len: usize) -> Header {
        Header {
            src: End { cid: 2, port: PORT },
            dst: End { cid: 3, port: 1024 },
            len: u32::try_from(len).unwrap(),
            operation,
            flags,
            buffer: self.room,
            forwarded: self.taken,
        }
    }

    fn say(&mut self, operation: Operation, flags: u32, bytes: &[u8]) -> bool {
        let mut packet = vec![0; header::LEN];
        self.header(operation, flags, bytes.len()).emit(&mut packet);
        packet.extend(bytes);
        self.device.fill(RECEIVE, &packet)
    }

    /// Takes what the machine sent.
    fn listen(&mut self) {
        for packet in self.device.drain(TRANSMIT) {
            let (header, data) = Header::parse(&packet).unwrap();
            assert_eq!(header.src, End { cid: 3, port: 1024 });
            assert_eq!(header.dst, End { cid: 2, port: PORT });
            assert_eq!(header.len as usize, data.len());
            (self.peer_room, self.peer_taken) = (header.buffer, header.forwarded);
            self.received.extend(data);
            self.operations.push(header.operation);
        }
        let under_way = u32::try_from(self.received.len()).unwrap() - self.taken;
        assert!(under_way <= self.room, "more than there is room for");
    }

    /// Sends data, as much as the machine has room for.
    fn send(&mut self, bytes: &[u8]) -> usize {
        let room = self.peer_room - self.sent.wrapping_sub(self.peer_taken);
        let len = bytes.len().min(room as usize).min(4000);
        if len == 0 || !self.say(Operation::Data, 0, &bytes[..len]) {
            return 0;
        }
        self.sent += u32::try_from(len).unwrap();
        len
    }
}

fn bytes(from: usize, len: usize) -> Vec<u8> {
    let byte = |i: usize| ((from + i) * 7 % 251).to_le_bytes()[0];
    (0..len).map(byte).collect()
}

#[test]
fn nothing_is_sent_before_the_host_has_accepted() {
    let (mut host, mut vsock) = open();
    assert!(host.device.state().refused.is_empty());
    assert_eq!(
        host.device.state().queues.len(),
        3,
        "Firecracker wants them all"
    );
    assert_eq!(vsock.send(b"too soon"), 0);
    host.listen();
    assert_eq!(host.operations, [Operation::Request]);
    assert!(!vsock.is_closed());
    assert!(host.say(Operation::Response, 0, &[]));
    assert_eq!(vsock.send(b"now"), 3);
    vsock.flush();
    host.listen();
    assert_eq!(host.received, b"now");
}

#[test]
fn a_host_that_does_not_listen_closes_the_stream() {
    let (mut host, mut vsock) = open();
    assert!(host.say(Operation::Reset, 0, &[]));
    assert_eq!(vsock.receive(&mut [0; 10]), 0);
    assert!(vsock.is_closed());
    assert_eq!(vsock.send(b"anyone?"), 0);
}

#[test]
fn what_came_before_the_end_can_be_read() {
    let (mut host, mut vsock) = connected();
    assert_eq!(host.send(b"last words"), 10);
    assert!(host.say(Operation::Shutdown, 3, &[]));
    assert_eq!(vsock.send(b"hello?"), 6, "not yet known");
    let mut into = [0; 4];
    assert_eq!(vsock.receive(&mut into), 4);
    assert!(!vsock.is_closed());
    let mut into = [0; 40];
    assert_eq!(vsock.receive(&mut into), 6);
    assert_eq!(vsock.receive(&mut into), 0);
    assert!(vsock.is_closed());
    assert_eq!(vsock.send(b"hello?"), 0);
    host.listen();
    assert_eq!(
        host.operations.last(),
        Some(&Operation::Reset),
        "the host may let go"
    );
}

#[test]
fn no_more_is_sent_than_the_host_has_room_for() {
    let (mut host, mut vsock) = connected();
    let all = bytes(0, 30_000);
    let mut sent = vsock.send(&all);
    assert_eq!(sent, 10_000);
    assert_eq!(vsock.send(&all[sent..]), 0);
    assert_eq!(vsock.send(&all[sent..]), 0);
    vsock.flush();
    host.listen();
    let asked = host
        .operations
        .iter()
        .filter(|o| **o == Operation::CreditRequest);
    assert_eq!(asked.count(), 1, "asked once, not all the time");
    while sent < all.len() {
        host.taken = u32::try_from(host.received.len()).unwrap();
        assert!(host.say(Operation::CreditUpdate, 0, &[]));
        sent += vsock.send(&all[sent..]);
        vsock.flush();
        host.listen();
    }
    assert!(host.received == all);
}

#[test]
fn the_host_is_told_when_much_was_read_and_when_it_asks() {
    let (mut host, mut vsock) = connected();
    let mut into = vec![0; 9000];
    for round in 0..3 {
        let mut given = 0;
        while given < 8192 {
            given += host.send(&bytes(given, 8192 - given));
        }
        assert_eq!(vsock.receive(&mut into), 8192);
        assert!(into[..8192] == bytes(0, 8192));
        host.listen();
        assert_eq!(host.operations.len(), round + 1);
        assert_eq!(host.peer_taken, host.sent);
    }
    host.send(b"x");
    vsock.receive(&mut into);
    host.listen();
    assert_ne!(host.peer_taken, host.sent, "not for each byte");
    host.say(Operation::CreditRequest, 0, &[]);
    vsock.receive(&mut into);
    host.listen();
    assert_eq!(host.peer_taken, host.sent);
    assert!(
        host.operations
            .iter()
            .all(|o| *o == Operation::CreditUpdate)
    );
}

#[test]
fn other_connections_are_refused_and_do_not_disturb() {
    let (host, mut vsock) = connected();
    let stranger = Header {
        src: End { cid: 2, port: 77 },
        dst: End { cid: 3, port: 22 },
        ..host.header(Operation::Request, 0, 0)
    };
    let mut packet = vec![0; header::LEN];
    stranger.emit(&mut packet);
    assert!(host.device.fill(RECEIVE, &packet));
    let reset = Header {
        operation: Operation::Reset,
        ..stranger
    };
    reset.emit(&mut packet);
    assert!(host.device.fill(RECEIVE, &packet));
    assert_eq!(vsock.receive(&mut [0; 10]), 0);
    let sent = host.device.drain(TRANSMIT).concat();
    let refusal = Header::parse(&sent).unwrap().0;
    assert_eq!((refusal.src, refusal.dst), (stranger.dst, stranger.src));
    assert_eq!(refusal.operation, Operation::Reset);
    assert!(!vsock.is_closed());
}

#[test]
fn a_host_that_says_it_took_more_than_it_got_gets_nothing() {
    let (mut host, mut vsock) = connected();
    host.taken = 5;
    host.say(Operation::CreditUpdate, 0, &[]);
    assert_eq!(vsock.send(&[0; 20_000]), 0);
    host.taken = 0;
    host.say(Operation::CreditUpdate, 0, &[]);
    assert_eq!(vsock.send(&[0; 20_000]), 10_000);
}

proptest! {
    #[test]
    fn a_written_header_reads_back(words: [u64; 2], ports: [u32; 2], rest: [u32; 4], operation in 1..8u16) {
        let header = Header {
            src: End { cid: words[0], port: ports[0] },
            dst: End { cid: words[1], port: ports[1] },
            len: rest[0],
            operation: Operation::from_number(operation).unwrap(),
            flags: rest[1],
            buffer: rest[2],
            forwarded: rest[3],
        };
        let mut bytes = [0xaa; header::LEN + 2];
        header.emit(&mut bytes);
        prop_assert_eq!(Header::parse(&bytes), Some((header, &[0xaa; 2][..])));
    }

    #[test]
    fn both_streams_arrive_whole_and_in_order(
        steps in prop::collection::vec((0..6u8, 1..6000usize), 0..200), room in 1..100_000u32,
    ) {
        let (mut host, mut vsock) = connected();
        host.room = room;
        host.say(Operation::CreditUpdate, 0, &[]);
        vsock.receive(&mut [0; 1]);
        let (mut sent, mut given) = (0, 0);
        let mut read = Vec::<u8>::new();
        let mut into = vec![0; 6000];
        for (step, len) in steps {
            match step {
                0 => sent += vsock.send(&bytes(sent, len)),
                1 => vsock.flush(),
                2 => host.listen(),
                3 => given += host.send(&bytes(given, len)),
                4 => {
                    let len = vsock.receive(&mut into[..len]);
                    read.extend(&into[..len]);
                }
                _ => {
                    host.taken = u32::try_from(host.received.len()).unwrap();
                    host.say(Operation::CreditUpdate, 0, &[]);
                }
            }
        }
        // Everything can be finished from wherever it stands.
        let want = sent + 3000;
        for _ in 0..20_000 {
            if sent == want && host.received.len() == sent && read.len() == given {
                break;
            }
            sent += vsock.send(&bytes(sent, want - sent));
            vsock.flush();
            host.listen();
            host.taken = u32::try_from(host.received.len()).unwrap();
            host.say(Operation::CreditUpdate, 0, &[]);
            let len = vsock.receive(&mut into);
            read.extend(&into[..len]);
        }
        prop_assert!(host.received == bytes(0, want));
        prop_assert!(read == bytes(0, given));
        prop_assert!(!vsock.is_closed());
    }

    #[test]
    fn no_packet_of_the_host_makes_it_panic(
        packets in prop::collection::vec((0..9u16, any::<bool>(), any::<[u32; 3]>(), 0..5000u32, 0..5000usize), 0..100),
    ) {
        let (host, mut vsock) = connected();
        let mut into = [0; 100];
        for (operation, known, rest, announced, len) in packets {
            let mut header = host.header(Operation::Data, rest[0], 0);
            header.len = announced;
            (header.buffer, header.forwarded) = (rest[1], rest[2]);
            header.dst.port ^= u32::from(!known);
            let mut packet = vec![0; header::LEN];
            header.emit(&mut packet);
            packet[30..32].copy_from_slice(&operation.to_le_bytes());
            packet.resize(len, 7);
            host.device.fill(RECEIVE, &packet);
            vsock.send(&packet);
            vsock.flush();
            vsock.receive(&mut into);
            let _ = vsock.is_closed();
            host.device.drain(TRANSMIT);
        }
    }
}
