//! TAP devices and bridges between them, with frames that really cross them.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod private;

use core::time::Duration;
use std::process::Command;
use std::time::Instant;

use plumb_link::{
    Batch, Error, Handover, Interface, Port, Tap, TapOptions, Then, create_bridge, remove_bridge,
};
use plumb_wire::{ProbeId, Transmit};
use private::alone;

fn options(name: &str) -> TapOptions {
    TapOptions {
        name: name.to_owned(),
        virtio_header: false,
        ..TapOptions::default()
    }
}

fn on_bridge(name: &str) -> Tap {
    let on = TapOptions {
        bridge: Some("lab0".to_owned()),
        ..options(name)
    };
    Tap::create(&on).unwrap()
}

/// An Ethernet frame of a protocol for local experiments.
fn frame(dst: [u8; 6], src: [u8; 6], last: u8) -> Vec<u8> {
    let mut frame = [dst, src].concat();
    frame.extend([0x88, 0xb5]);
    frame.resize(59, 0);
    frame.push(last);
    frame
}

fn send(tap: &mut Tap, frame: &[u8]) {
    let mut batch = Batch::new();
    batch.push(|into| {
        into[..frame.len()].copy_from_slice(frame);
        Some(Transmit {
            len: frame.len(),
            probe: ProbeId(7),
        })
    });
    let mut sent = 0;
    let progress = tap
        .send(&batch, &mut |_, result| sent += usize::from(result.is_ok()))
        .unwrap();
    assert_eq!((sent, progress.done, progress.then), (1, 1, Then::Now));
}

/// Frames that arrive until nothing more does; at least `wanted` are waited for.
fn received(tap: &mut Tap, wanted: usize) -> Vec<Vec<u8>> {
    let began = Instant::now();
    let mut frames = Vec::new();
    while frames.len() < wanted && began.elapsed() < Duration::from_secs(20) {
        tap.receive(64, &mut |_, frame| frames.push(frame.to_vec()))
            .unwrap();
        std::thread::yield_now();
    }
    tap.receive(64, &mut |_, frame| frames.push(frame.to_vec()))
        .unwrap();
    frames
}

const A: [u8; 6] = [2, 0, 0, 0, 0, 1];
const B: [u8; 6] = [2, 0, 0, 0, 0, 2];

#[test]
fn root_frames_cross_a_bridge_whole_and_the_kernel_adds_none() {
    alone(|| {
        create_bridge("lab0").unwrap();
        let (mut a, mut b, mut c) = (on_bridge("a"), on_bridge("b"), on_bridge("c"));
        let broadcast = frame([0xff; 6], A, 1);
        send(&mut a, &broadcast);
        assert_eq!(received(&mut b, 1), core::slice::from_ref(&broadcast));
        assert_eq!(received(&mut c, 1), [broadcast]);
        // The bridge has learned where A is, so that C sees nothing of what B sends there.
        let answer = frame(A, B, 2);
        send(&mut b, &answer);
        assert_eq!(received(&mut a, 1), [answer]);
        assert!(received(&mut c, 0).is_empty());
    });
}

#[test]
fn root_a_created_tap_is_what_was_asked_for_and_goes_with_its_descriptor() {
    alone(|| {
        create_bridge("lab0").unwrap();
        let bridge = Interface::find("lab0").unwrap().unwrap();
        assert_eq!((bridge.kind.as_str(), bridge.is_up), ("bridge", true));
        let tap = Tap::create(&TapOptions {
            mtu: 1400,
            queue_len: 77,
            bridge: Some("lab0".into()),
            ..options("vm%d")
        })
        .unwrap();
        assert_eq!(tap.name(), "vm0");
        let found = tap.interface().unwrap();
        assert_eq!((found.kind.as_str(), found.is_up), ("tun", true));
        assert_eq!((found.mtu, found.queue_len), (1400, 77));
        assert_eq!(found.bridge, Some(bridge.index));
        assert_eq!(found.addresses().unwrap(), []);
        let fd = tap.into_fd();
        assert!(Interface::find("vm0").unwrap().is_some());
        drop(fd);
        assert_eq!(Interface::find("vm0").unwrap(), None);
        remove_bridge("lab0").unwrap();
        assert_eq!(Interface::find("lab0").unwrap(), None);
    });
}

#[test]
fn root_a_host_side_gets_its_addresses_and_keeps_quiet_without() {
    alone(|| {
        let address = ("10.9.0.1".parse().unwrap(), 24);
        let mut tap = Tap::create(&TapOptions {
            addresses: vec![address],
            ..options("host")
        })
        .unwrap();
        assert_eq!(tap.interface().unwrap().addresses().unwrap(), [address]);
        let frames = received(&mut tap, 0);
        assert!(frames.is_empty(), "{frames:02x?}");
        // An address that the kernel made would be announced.
        let v6 = std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default();
        assert!(!v6.contains("host"), "{v6}");
    });
}

#[test]
fn root_a_device_that_is_handed_over_is_what_it_was() {
    alone(|| {
        create_bridge("lab0").unwrap();
        let before = Tap::create(&TapOptions {
            mtu: 1300,
            queue_len: 55,
            bridge: Some("lab0".into()),
            addresses: was_addresses(),
            ..options("vm0")
        })
        .unwrap();
        let was = before.interface().unwrap();
        let handover = Handover::of("vm0").unwrap();
        handover.restore().unwrap();
        drop(before);
        assert!(handover.restore().is_err(), "there is none now");
        let again = Tap::create(&options("vm0")).unwrap();
        handover.restore().unwrap();
        let is = again.interface().unwrap();
        assert_ne!(is.index, was.index);
        // Its number and its address are those of another device.
        let (index, mac) = (was.index, was.mac);
        assert_eq!(
            Interface {
                index,
                mac,
                ..is.clone()
            },
            was
        );
        assert_eq!(is.addresses().unwrap(), was_addresses());
    });
}

fn was_addresses() -> Vec<(core::net::IpAddr, u8)> {
    vec![("10.9.0.1".parse().unwrap(), 24)]
}

#[test]
fn root_what_cannot_be_had_is_refused_with_its_reason() {
    alone(|| {
        let taken = Tap::create(&options("taken")).unwrap();
        let said = |result: Result<Tap, Error>| result.map(drop).unwrap_err().to_string();
        assert_eq!(
            said(Tap::create(&options("taken"))),
            "cannot create the TAP device \"taken\": entity already exists"
        );
        assert!(said(Tap::open("taken", false)).contains("busy"));
        assert!(said(Tap::open("lo", false)).starts_with("cannot open the TAP device \"lo\""));
        assert!(said(Tap::open("none", false)).contains("no network interface \"none\""));
        let no_bridge = TapOptions {
            bridge: Some("none".into()),
            ..options("x")
        };
        assert!(said(Tap::create(&no_bridge)).contains("no network interface \"none\""));
        assert_eq!(Interface::find("x").unwrap(), None, "nothing is left");
        drop(taken);
    });
}

#[test]
fn root_a_device_that_somebody_set_up_is_opened_as_it_is_and_stays() {
    alone(|| {
        let ip = |arguments: &str| {
            let done = Command::new("ip").args(arguments.split(' ')).status();
            done.is_ok_and(|status| status.success())
        };
        if !ip("tuntap add dev mine mode tap vnet_hdr") {
            return private::skipped("no ip");
        }
        assert!(ip("link set mine mtu 1300"));
        let tap = Tap::open("mine", true).unwrap();
        let found = tap.interface().unwrap();
        assert_eq!((found.mtu, found.is_up), (1300, true));
        drop(tap);
        assert!(Interface::find("mine").unwrap().is_some());
    });
}
