use alloc::boxed::Box;
use alloc::vec::Vec;
use std::vec;

use super::*;
use crate::virtio::fake::{Access, FakeDevice, Kind};
use crate::virtio::mmio::{Mmio, Registers, register as r};
use crate::virtio::transport::DeviceKind;

const FALLBACK: [u8; 6] = [2, 0, 0, 0, 0, 9];
const OFFERED: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn kind(version: u32) -> Kind {
    let mut config = vec![0; 12];
    config[..6].copy_from_slice(&OFFERED);
    config[10..].copy_from_slice(&1400u16.to_le_bytes());
    Kind {
        version,
        id: 1,
        // Offloads and whatever else there is are offered, and must not be taken.
        features: !MTU,
        queue_sizes: vec![256, 256],
        config,
        strict: version == 2,
    }
}

fn open(kind: Kind) -> (FakeDevice, Net) {
    let device = FakeDevice::new(kind);
    let (found, transport) = Mmio::probe(device.clone()).unwrap();
    assert_eq!(found, DeviceKind::Net);
    let net = Net::new(Box::new(transport), FALLBACK, 1500).unwrap();
    (device, net)
}

fn frame(len: usize, fill: u8) -> Vec<u8> {
    vec![fill; len]
}

fn receive(net: &mut Net) -> Option<Vec<u8>> {
    let mut frame = None;
    net.receive(&mut |bytes| frame = Some(bytes.to_vec()))
        .then(|| frame.unwrap())
}

/// A frame as a device hands it over.
fn with_header(version: u32, frame: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; if version == 1 { 10 } else { 12 }];
    bytes.extend(frame);
    bytes
}

#[test]
fn a_start_costs_no_more_accesses_than_it_must() {
    let (device, _net) = open(kind(2));
    let accesses = device.state().accesses.clone();
    let reads = |a: &&Access| matches!(a, Access::Read(_));
    // Who are you (2), features, is FEATURES_OK still set, two queue sizes, MAC (2).
    assert_eq!(accesses.iter().filter(reads).count(), 8, "{accesses:x?}");
    // Status (5), features (3), one queue selection, five for each queue, upper address halves,
    // which the real machine does not have.
    let upper = [0x84, 0x94, 0xa4];
    let writes = accesses.iter().filter(|a| match a {
        Access::Read(_) => false,
        Access::Write(offset, _) => !upper.contains(offset),
    });
    assert_eq!(writes.count(), 19, "{accesses:x?}");

    let (device, _net) = open(kind(1));
    let accesses = device.state().accesses.len();
    assert_eq!(accesses, 7 + 5 + 1 + 2 * 4, "legacy");
}

#[test]
fn firecracker_has_nothing_to_refuse() {
    let (device, net) = open(kind(2));
    assert!(device.state().refused.is_empty());
    assert_eq!(device.state().status, 15);
    assert_eq!(device.state().driver_features_high, 1);
    assert_eq!(device.state().driver_features, MAC | feature::EVENT_IDX);
    assert_eq!(net.mac(), OFFERED);
    drop(net);
    assert_eq!(device.state().status, 0, "reset before its memory is freed");

    // The fake is as strict as it should be: this is what virtio-drivers does.
    let mut device = FakeDevice::new(kind(2));
    device.write(r::STATUS, 3);
    assert_eq!(device.state().status, 0);
    assert_eq!(device.state().refused.len(), 1);
}

#[test]
fn a_mac_address_of_zero_is_not_used() {
    let mut none = kind(2);
    none.config[..6].fill(0);
    assert_eq!(open(none).1.mac(), FALLBACK);
    let mut not_offered = kind(2);
    not_offered.features &= !MAC;
    assert_eq!(open(not_offered).1.mac(), FALLBACK);
}

#[test]
fn the_device_may_lower_the_mtu_but_not_make_it_nonsense() {
    for (offered, mtu) in [(1400u16, 1400), (9000, 1500), (67, 1500), (0, 1500)] {
        let mut kind = kind(2);
        kind.features |= MTU;
        kind.config[10..].copy_from_slice(&offered.to_le_bytes());
        let (_device, mut net) = open(kind);
        assert_eq!(net.mtu(), mtu);
        assert!(net.transmit(&frame(14 + mtu, 1)));
        assert!(!net.transmit(&frame(15 + mtu, 1)));
    }
}

#[test]
fn a_device_that_keeps_no_features_or_has_no_queues_is_refused() {
    let mut kind = kind(2);
    kind.queue_sizes = vec![256];
    let device = FakeDevice::new(kind.clone());
    let transport = Box::new(Mmio::probe(device).unwrap().1);
    assert_eq!(
        Net::new(transport, FALLBACK, 1500).err(),
        Some(Error::Queue(1))
    );
    kind.id = 0;
    assert!(Mmio::probe(FakeDevice::new(kind.clone())).is_none());
    kind.id = 1;
    kind.version = 3;
    assert!(Mmio::probe(FakeDevice::new(kind)).is_none());
}

#[test]
fn frames_travel_both_ways_with_the_header_of_the_version() {
    for version in [1, 2] {
        let (device, mut net) = open(kind(version));
        let out = frame(60, 7);
        assert!(net.transmit(&out));
        assert!(device.drain(TRANSMIT).is_empty(), "not before the flush");
        net.flush();
        assert_eq!(device.drain(TRANSMIT), [with_header(version, &out)]);
        assert_eq!(receive(&mut net), None);
        for fill in [1, 2] {
            assert!(device.fill(RECEIVE, &with_header(version, &frame(70, fill))));
        }
        assert_eq!(receive(&mut net), Some(frame(70, 1)));
        assert_eq!(receive(&mut net), Some(frame(70, 2)));
        assert_eq!(receive(&mut net), None);
    }
}

#[test]
fn a_burst_is_one_notification() {
    let (device, mut net) = open(kind(2));
    for _ in 0..10 {
        assert!(net.transmit(&frame(60, 7)));
    }
    net.flush();
    net.flush();
    assert_eq!(device.queue(TRANSMIT, |q| q.notifications), Some(1));
    // While the device is at work (it has not asked for the next), it needs to be told nothing.
    assert!(net.transmit(&frame(60, 7)));
    net.flush();
    assert_eq!(device.queue(TRANSMIT, |q| q.notifications), Some(1));
    assert_eq!(device.drain(TRANSMIT).len(), 11);
}

#[test]
fn a_full_queue_refuses_and_goes_on_when_the_device_does() {
    let (device, mut net) = open(kind(2));
    let mut sent = 0;
    while net.transmit(&frame(60, 7)) {
        sent += 1;
    }
    assert_eq!(sent, TRANSMIT_BUFFERS);
    // It is told of them though nobody flushed, and interrupts when one has left.
    assert_eq!(device.queue(TRANSMIT, |q| q.notifications), Some(1));
    let edges = device.state().edges;
    assert_eq!(device.drain(TRANSMIT).len(), usize::from(sent));
    assert_eq!(device.state().edges, edges + 1);
    assert!(net.transmit(&frame(60, 7)));
    assert_eq!(net.statistics().refused, 1);
}

#[test]
fn firecracker_always_sees_room_for_its_largest_frame() {
    for size in [64, 256, 32, 8] {
        let mut kind = kind(2);
        kind.queue_sizes = vec![size, size];
        let (device, mut net) = open(kind);
        for _ in 0..500 {
            let room = device.queue(RECEIVE, |q| usize::from(q.available()));
            let room = room.unwrap() * net.receive.buffer_len();
            assert!(room >= FIRECRACKER_ROOM, "{room} bytes of {size} buffers");
            assert!(device.fill(RECEIVE, &with_header(2, &frame(60, 1))));
            assert!(receive(&mut net).is_some());
        }
    }
}

#[test]
fn buffers_go_back_many_at_a_time() {
    let (device, mut net) = open(kind(2));
    let mut taken = std::collections::VecDeque::new();
    for _ in 0..640 {
        // A device that takes all buffers at once, and wants to know of each new one.
        device.queue(RECEIVE, |q| {
            taken.extend(core::iter::from_fn(|| q.take()));
            let buffer: crate::virtio::fake::Buffer = taken.pop_front().unwrap();
            q.complete(buffer.id.into(), 60)
        });
        assert!(receive(&mut net).is_some());
    }
    let notifications = device.queue(RECEIVE, |q| q.notifications);
    assert_eq!(notifications, Some(640 / 16));
}

#[test]
fn the_interrupt_line_is_low_before_a_sleep_and_not_touched_while_there_is_work() {
    for event_index in [true, false] {
        let mut kind = kind(2);
        if !event_index {
            kind.features &= !feature::EVENT_IDX;
        }
        let (device, mut net) = open(kind);
        assert_eq!(receive(&mut net), None);
        let before = device.state().accesses.len();
        for sleep in 1..=5 {
            for _ in 0..10 {
                assert!(device.fill(RECEIVE, &with_header(2, &frame(60, 1))));
            }
            assert_eq!(
                device.state().edges,
                sleep,
                "one wakes, the rest are silent"
            );
            (0..10).for_each(|_| assert!(receive(&mut net).is_some()));
            assert!(device.state().interrupt);
            assert_eq!(receive(&mut net), None);
            assert_eq!(receive(&mut net), None);
            assert!(!device.state().interrupt);
        }
        let accesses = &device.state().accesses[before..];
        let acks = accesses
            .iter()
            .filter(|a| **a == Access::Write(r::INTERRUPT_ACK, 3));
        let publishing = |a: &&Access| **a == Access::Write(r::QUEUE_NOTIFY, 0);
        assert_eq!(acks.count(), 5);
        let rest = accesses.len() - 5 - accesses.iter().filter(publishing).count();
        assert_eq!(rest, 0, "{accesses:x?}");
    }
}

#[test]
fn an_interrupt_of_the_transmit_queue_does_not_hide_the_next_one() {
    let (device, mut net) = open(kind(2));
    assert_eq!(receive(&mut net), None);
    while net.transmit(&frame(60, 7)) {}
    assert_eq!(device.drain(TRANSMIT).len(), usize::from(TRANSMIT_BUFFERS));
    assert!(device.state().interrupt);
    assert_eq!(receive(&mut net), None);
    assert!(!device.state().interrupt);
    let edges = device.state().edges;
    assert!(device.fill(RECEIVE, &with_header(2, &frame(60, 1))));
    assert_eq!(device.state().edges, edges + 1);
}

#[test]
fn without_interrupts_the_device_is_never_asked_for_one() {
    let (device, mut net) = open(kind(2));
    net.set_interrupts(false);
    for _ in 0..100 {
        assert!(device.fill(RECEIVE, &with_header(2, &frame(60, 1))));
        assert!(receive(&mut net).is_some());
        assert_eq!(receive(&mut net), None);
    }
    assert_eq!(device.state().edges, 0);
}

#[test]
fn more_frames_than_indices_have_numbers() {
    for event_index in [true, false] {
        let mut kind = kind(2);
        if !event_index {
            kind.features &= !feature::EVENT_IDX;
        }
        let (device, mut net) = open(kind);
        for i in 0..70_000u32 {
            let sent = frame(60, i.to_le_bytes()[0]);
            assert!(net.transmit(&sent));
            let told = device.queue(TRANSMIT, |q| q.notifications);
            net.flush();
            let now = device.queue(TRANSMIT, |q| q.notifications);
            assert_ne!(told, now, "a device that waits is told, frame {i}");
            assert_eq!(device.drain(TRANSMIT), [with_header(2, &sent)]);
            assert_eq!(receive(&mut net), None);
            let edges = device.state().edges;
            assert!(device.fill(RECEIVE, &with_header(2, &sent)));
            assert_eq!(
                device.state().edges,
                edges + 1,
                "a sleeper is woken, frame {i}"
            );
            assert_eq!(receive(&mut net), Some(sent));
        }
        assert!(!net.is_broken());
        assert_eq!(net.statistics().transmitted, 70_000);
    }
}

#[test]
fn frames_without_headers_or_longer_than_their_buffers_are_dropped() {
    let (device, mut net) = open(kind(2));
    for len in [0, 11, 12, 25, 2049, 1 << 31] {
        device.queue(RECEIVE, |q| {
            let buffer = q.take().unwrap();
            q.complete(buffer.id.into(), len)
        });
    }
    assert!(device.fill(RECEIVE, &with_header(2, &frame(14, 1))));
    assert!(receive(&mut net) == Some(frame(14, 1)));
    assert_eq!(net.dropped(), 6);
    assert!(!net.is_broken());
}

#[test]
fn a_device_that_returns_what_it_does_not_have_is_given_up() {
    // A descriptor that there is not, two more, one twice, the index back, the index too far.
    type Attack = fn(&mut crate::virtio::fake::FakeQueue);
    let attacks: [Attack; 5] = [
        |q| _ = q.complete(64, 60),
        |q| _ = q.complete(u32::MAX, 60),
        |q| {
            q.put(0, 3, 60);
            q.put(1, 3, 60);
            q.set_used(2);
        },
        |q| _ = q.set_used(u16::MAX),
        |q| _ = q.set_used(65),
    ];
    for (attack, i) in attacks.iter().zip(0..) {
        let (device, mut net) = open(kind(2));
        device.queue(RECEIVE, attack);
        for _ in 0..3 {
            receive(&mut net);
        }
        assert!(net.is_broken(), "attack {i}");
        assert_eq!(receive(&mut net), None);

        let (device, mut net) = open(kind(2));
        assert!(net.transmit(&frame(60, 1)));
        net.flush();
        device.queue(TRANSMIT, attack);
        net.flush();
        assert!(net.is_broken(), "attack {i} on the transmit queue");
    }
}
