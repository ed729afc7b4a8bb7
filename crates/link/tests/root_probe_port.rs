//! The port with raw sockets: what is sent, what is received, what goes wrong.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

#[path = "private/packets.rs"]
mod packets;
mod private;

use core::net::IpAddr;
use core::time::Duration;

use packets::Probe;
use plumb_link::{Clock, Mode, Port, ProbePort, ProbePortOptions, Receive, Tun, TunOptions};
use plumb_probe::{Config, TraceOptions};
use plumb_record::{StopReason, TunnelType};
use plumb_wire::packet::Packet;
use plumb_wire::{SendError, protocol};
use private::{Lab, alone, receive, send};

fn raw(receive: Receive) -> ProbePort {
    ProbePort::open(&ProbePortOptions {
        mode: Mode::Raw,
        receive,
        ..ProbePortOptions::default()
    })
    .unwrap()
}

const RINGS: Receive = Receive::Rings { bytes: 1 << 20 };

fn loopback(v6: bool) -> Probe {
    let host: IpAddr = if v6 {
        [0, 0, 0, 0, 0, 0, 0, 1].into()
    } else {
        [127, 0, 0, 1].into()
    };
    Probe {
        src: host,
        dst: host,
        flow: 0x9001,
        seq: 7,
        ttl: 64,
    }
}

#[test]
fn root_an_echo_request_of_either_version_comes_back_as_a_whole_packet() {
    alone(|| {
        for how in [RINGS, Receive::Sockets] {
            for v6 in [false, true] {
                let mut port = raw(how);
                let clock = Clock::new();
                let before = clock.now();
                let sent = send(&mut port, &[loopback(v6).echo()])[0].unwrap();
                let replies = receive(&mut port, 1, Duration::from_secs(5));
                let [(at, bytes)] = replies.as_slice() else {
                    panic!("{how:?}, v6 {v6}: {} replies", replies.len());
                };
                assert!(before <= sent && sent <= *at && *at <= clock.now());
                let reply = Packet::parse(bytes).unwrap();
                assert_eq!((reply.src, reply.ttl), (loopback(v6).dst, 64));
                assert_eq!(reply.transport[0], if v6 { 129 } else { 0 });
                assert_eq!(reply.transport[4..8], [0x90, 1, 0, 7]);
                assert_eq!(port.dropped(), 0);
            }
        }
    });
}

#[test]
fn root_an_engine_and_a_network_meet_over_tun() {
    alone(|| {
        let lab = Lab::start("explicit");
        for how in [RINGS, Receive::Sockets] {
            let mut port = raw(how);
            assert_eq!((port.mode(), port.flows()), (Mode::Raw, None));
            let trace = lab.trace(&mut port, Config::default(), TraceOptions::default());
            assert_eq!(trace.stop_reason, StopReason::Completed);
            let labels: Vec<usize> = trace.hops.iter().map(|hop| hop.mpls.len()).collect();
            assert_eq!(labels, [0, 0, 1, 1, 1, 0, 0, 0]);
            assert_eq!(trace.tunnels.len(), 1);
            assert_eq!(trace.tunnels[0].kind, TunnelType::Explicit);
            // The router after three others inside quotes what is left of the IP TTL.
            let quoted: Vec<_> = trace.hops.iter().map(|hop| hop.quoted_ttl).collect();
            assert_eq!(quoted[3], Some(2));
        }
    });
}

#[test]
fn root_a_packet_that_cannot_leave_says_why_and_keeps_no_other() {
    alone(|| {
        let options = TunOptions {
            v4: Some(([192, 0, 2, 1].into(), 24)),
            v6: Some(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(), 64)),
            mtu: 1300,
            default_route: false,
            ..TunOptions::default()
        };
        let mut tun = Tun::create(&options).unwrap();
        let mut port = raw(Receive::Sockets);
        let good = |last: u8, v6: bool| Probe {
            src: if v6 {
                [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()
            } else {
                [192, 0, 2, 1].into()
            },
            dst: if v6 {
                [0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()].into()
            } else {
                [192, 0, 2, last].into()
            },
            ..loopback(v6)
        };
        let elsewhere = Probe {
            dst: [198, 51, 100, 1].into(),
            ..good(2, false)
        };
        let elsewhere_v6 = Probe {
            dst: [0x2001, 0xdb9, 0, 0, 0, 0, 0, 1].into(),
            ..good(2, true)
        };
        let long = |v6| good(3, v6).packet(protocol::UDP, &[0; 1400]);
        let packets = [
            good(10, false).echo(),
            elsewhere.echo(),
            good(11, false).echo(),
            long(false),
            good(12, false).echo(),
            vec![0x10; 60],
            good(13, true).echo(),
            elsewhere_v6.echo(),
            good(14, true).echo(),
            long(true),
            good(15, true).echo(),
        ];
        let results: Vec<_> = send(&mut port, &packets)
            .into_iter()
            .map(|result| result.err())
            .collect();
        use SendError::{NoRoute, Other, TooBig};
        let expected = [None, Some(NoRoute), None, Some(TooBig), None, Some(Other)];
        assert_eq!(results[..6], expected);
        assert_eq!(results[6..], expected[..5]);
        // The kernel itself sends router solicitations and such.
        let arrived: Vec<Vec<u8>> = receive(&mut tun, 20, Duration::from_millis(200))
            .into_iter()
            .map(|(_, packet)| packet)
            .filter(|packet| packet[packet.len() - 24..][4..8] == [0x90, 1, 0, 7])
            .collect();
        let good = [0, 2, 4, 6, 8, 10].map(|at: usize| packets[at].clone());
        assert_eq!(arrived, good, "unchanged and in order");
    });
}

#[test]
fn root_transmit_times_keep_their_packets_after_one_was_refused() {
    alone(|| {
        let options = TunOptions {
            v4: Some(([192, 0, 2, 1].into(), 24)),
            default_route: false,
            ..TunOptions::default()
        };
        let _tun = Tun::create(&options).unwrap();
        let mut port = raw(Receive::Sockets);
        let clock = Clock::new();
        let to = |dst: [u8; 4]| Probe {
            src: [192, 0, 2, 1].into(),
            dst: dst.into(),
            ..loopback(false)
        };
        for _ in 0..20 {
            let packets = [
                [192, 0, 2, 9],
                [198, 51, 100, 1],
                [192, 0, 2, 9],
                [192, 0, 2, 9],
            ]
            .map(|dst| to(dst).echo());
            let before = clock.now();
            let results = send(&mut port, &packets);
            let after = clock.now();
            assert_eq!(results[1], Err(SendError::NoRoute));
            let times = [0, 2, 3].map(|at: usize| results[at].unwrap());
            assert!(before <= times[0] && times.is_sorted() && times[2] <= after);
            assert_ne!(times[1], times[2], "each packet of a call has its own");
        }
    });
}

#[test]
fn root_an_interface_that_is_down_or_gone_is_no_way() {
    alone(|| {
        let options = TunOptions {
            name: "way".to_owned(),
            v4: Some(([192, 0, 2, 1].into(), 24)),
            ..TunOptions::default()
        };
        let tun = Tun::create(&options).unwrap();
        let mut port = ProbePort::open(&ProbePortOptions {
            interface: Some("way".to_owned()),
            ipv6: false,
            ..ProbePortOptions::default()
        })
        .unwrap();
        let probe = Probe {
            src: [192, 0, 2, 1].into(),
            dst: [198, 51, 100, 1].into(),
            ..loopback(false)
        };
        let mut sent = || send(&mut port, &[probe.echo()])[0].map(drop);
        assert_eq!(sent(), Ok(()));
        drop(tun);
        let refused = sent().unwrap_err();
        assert!(
            matches!(refused, SendError::NoRoute | SendError::InterfaceDown),
            "{refused:?}"
        );
        let gone = ProbePort::open(&ProbePortOptions {
            interface: Some("way".to_owned()),
            ..ProbePortOptions::default()
        });
        assert_eq!(
            gone.unwrap_err().to_string(),
            "there is no network interface \"way\""
        );
    });
}

#[test]
fn root_what_finds_a_full_ring_is_counted() {
    alone(|| {
        // 32 frames of 2048 bytes.
        let mut port = raw(Receive::Rings { bytes: 1 });
        let probes: Vec<_> = (1..=100)
            .map(|seq| {
                Probe {
                    seq,
                    ..loopback(false)
                }
                .echo()
            })
            .collect();
        assert!(send(&mut port, &probes).iter().all(Result::is_ok));
        std::thread::sleep(Duration::from_millis(100));
        let got = receive(&mut port, 100, Duration::from_millis(500)).len();
        assert_eq!(got, 32);
        assert_eq!(port.dropped(), 68);
        assert_eq!(port.dropped(), 68, "the counter does not start over");
    });
}
