//! Probing as a user without any capability: what is on the wire, and what is seen.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

#[path = "private/packets.rs"]
mod packets;
mod private;

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeSet;
use std::net::UdpSocket;

use packets::Probe;
use plumb_link::{Capability, Error, Mode, Port, ProbePort, ProbePortOptions, Tun, TunOptions};
use plumb_probe::{Config, Headers, TraceOptions};
use plumb_record::{Method, StopReason, Trace};
use plumb_wire::SendError;
use plumb_wire::packet::Packet;
use private::{Lab, NOBODY, alone, become_user, receive, send};

fn open(mode: Mode) -> Result<ProbePort, Error> {
    ProbePort::open(&ProbePortOptions {
        mode,
        tcp: false,
        ..ProbePortOptions::default()
    })
}

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

/// A TUN device of which nobody knows what is behind, and a probe into it.
fn wire(v6: bool) -> (Tun, Probe) {
    let v6_host: [u16; 8] = [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1];
    let tun = Tun::create(&TunOptions {
        v4: Some(([192, 0, 2, 1].into(), 24)),
        v6: Some((v6_host.into(), 64)),
        ..TunOptions::default()
    })
    .unwrap();
    let (src, dst): (IpAddr, IpAddr) = if v6 {
        (v6_host.into(), [0x2001, 0xdb9, 0, 0, 0, 0, 0, 9].into())
    } else {
        ([192, 0, 2, 1].into(), [198, 51, 100, 9].into())
    };
    let probe = Probe {
        src,
        dst,
        ttl: 3,
        ..loopback(v6)
    };
    // An address of IPv6 may be used when it is known that no other host has it.
    while v6 && UdpSocket::bind(SocketAddr::new(src, 0)).is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }
    (tun, probe)
}

/// The packets to `dst` that a TUN device receives.
fn arriving(tun: &mut Tun, dst: IpAddr) -> Vec<Vec<u8>> {
    receive(tun, 100, Duration::from_millis(200))
        .into_iter()
        .map(|(_, packet)| packet)
        .filter(|packet| Packet::parse(packet).is_ok_and(|p| p.dst == dst))
        .collect()
}

#[test]
fn root_probes_are_on_the_wire_as_the_engine_wrote_them() {
    for v6 in [false, true] {
        alone(|| {
            let (mut tun, probe) = wire(v6);
            become_user(NOBODY);
            let mut port = open(Mode::Unprivileged).unwrap();
            let probes = [1, 2, 300].map(|seq| Probe { seq, ..probe });
            let packets: Vec<_> = probes.iter().flat_map(|p| [p.echo(), p.udp()]).collect();
            for result in send(&mut port, &packets) {
                result.unwrap();
            }
            let arrived = arriving(&mut tun, probe.dst);
            assert_eq!(arrived.len(), packets.len());
            for (arrived, written) in arrived.iter().zip(&packets) {
                let [arrived, written] = [arrived, written].map(|p| Packet::parse(p).unwrap());
                assert_eq!(arrived.transport, written.transport, "checksums included");
                let header = |p: Packet<'_>| (p.src, p.dst, p.ttl, p.tos, p.len, p.protocol);
                assert_eq!(header(arrived), header(written));
            }
            if v6 {
                for at in [0, 1] {
                    let same = arrived.iter().skip(at).step_by(2).map(|p| &p[..4]);
                    assert_eq!(same.collect::<BTreeSet<_>>().len(), 1, "one flow label");
                }
            }
        });
    }
}

#[test]
fn root_an_identifier_or_port_in_use_is_replaced_and_the_checksum_stays() {
    alone(|| {
        let (mut tun, probe) = wire(false);
        let port_taken = UdpSocket::bind(SocketAddr::new(probe.src, probe.flow)).unwrap();
        become_user(NOBODY);
        let mut first = open(Mode::Unprivileged).unwrap();
        let mut second = open(Mode::Unprivileged).unwrap();
        send(&mut first, &[probe.echo()])[0].unwrap();
        let probes = [1, 2].map(|seq| Probe { seq, ..probe });
        let packets: Vec<_> = probes.iter().flat_map(|p| [p.echo(), p.udp()]).collect();
        for result in send(&mut second, &packets) {
            result.unwrap();
        }
        let arrived = arriving(&mut tun, probe.dst);
        assert_eq!(arrived.len(), 5);
        let word = |packet: &[u8], at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        for (echo, seq) in [(&arrived[1], 1), (&arrived[3], 2)] {
            assert_ne!(word(echo, 24), probe.flow);
            assert_eq!(word(echo, 24), word(&arrived[1], 24));
            assert_eq!((word(echo, 22), word(echo, 26)), (probe.flow, seq));
        }
        for (udp, seq) in [(&arrived[2], 1), (&arrived[4], 2)] {
            assert_ne!(word(udp, 20), probe.flow);
            assert_eq!(word(udp, 20), word(&arrived[2], 20));
            assert_eq!(word(udp, 26), seq, "the checksum names the probe");
        }
        drop(port_taken);
        // The reply to the other identifier is one to the flow.
        let local = loopback(false);
        send(&mut first, &[local.echo()])[0].unwrap();
        send(&mut second, &[local.echo()])[0].unwrap();
        let replies = receive(&mut second, 1, Duration::from_secs(5));
        assert_eq!(word(&replies[0].1, 24), local.flow);
    });
}

fn walk(lab: &Lab, port: &mut ProbePort, method: Method) -> Trace {
    let headers = match port.mode() {
        Mode::Unprivileged => Headers::Rebuilt,
        Mode::Auto | Mode::Raw | Mode::Packet => Headers::Received,
    };
    let config = Config {
        headers,
        ..Config::default()
    };
    let options = TraceOptions {
        method,
        parallel: 4,
        attempts: 1,
        ..TraceOptions::default()
    };
    lab.trace(port, config, options)
}

#[test]
fn root_labels_reply_ttls_and_tunnels_are_those_that_raw_sockets_see() {
    /// Routers at `nameless` quote another sequence number than the probe's.
    fn compare(name: &str, nameless: &[u8]) {
        let lab = Lab::start(name);
        let methods = [Method::IcmpParis, Method::UdpParis];
        let mut raw = open(Mode::Raw).unwrap();
        let with: Vec<Trace> = methods.iter().map(|m| walk(&lab, &mut raw, *m)).collect();
        drop(raw);
        become_user(NOBODY);
        let mut port = open(Mode::Auto).unwrap();
        assert_eq!(port.mode(), Mode::Unprivileged);
        for (method, with) in methods.into_iter().zip(with) {
            let without = walk(&lab, &mut port, method);
            assert_eq!(without.stop_reason, StopReason::Completed, "{name}");
            let tunnels = |trace: &Trace| -> Vec<_> {
                let of = trace.tunnels.iter();
                of.map(|t| (t.kind, t.ingress, t.egress, t.lsrs.len()))
                    .collect()
            };
            assert_eq!(tunnels(&without), tunnels(&with), "{name} {method:?}");
            assert_eq!(without.hops.len(), with.hops.len());
            for (without, with) in without.hops.iter().zip(&with.hops) {
                if method == Method::IcmpParis && nameless.contains(&without.ttl) {
                    assert_eq!(without.addr, None);
                    continue;
                }
                assert_eq!(without.addr, with.addr, "{name} {method:?}");
                assert_eq!(without.reply_ttl, with.reply_ttl, "{name} {method:?}");
                assert_eq!(without.reply_tos, with.reply_tos);
                assert_eq!(without.reply_size, with.reply_size, "{name} {method:?}");
                assert_eq!(without.mpls, with.mpls);
                let icmp = |hop: &plumb_record::Hop| (hop.icmp_type, hop.icmp_code);
                assert_eq!(icmp(without), icmp(with));
                assert_eq!((without.quoted_ttl, without.reply_ip_id), (None, None));
            }
        }
        assert_eq!(port.dropped(), 0);
    }
    alone(|| compare("explicit", &[]));
    alone(|| compare("ipv6", &[]));
    alone(|| compare("rfc4884", &[8]));
}

#[test]
fn root_a_refusal_names_the_setting_and_the_capability() {
    alone(|| {
        std::fs::write("/proc/sys/net/ipv4/ping_group_range", "1 0").unwrap();
        become_user(NOBODY);
        assert!(matches!(open(Mode::Unprivileged), Err(Error::PingGroup)));
        let error = open(Mode::Auto).unwrap_err();
        assert!(matches!(error, Error::NoSockets { .. }));
        assert_eq!(error.capability(), Some(Capability::NetRaw));
        let line = error.to_string();
        assert!(
            line.contains("CAP_NET_RAW") && line.contains("ping_group_range"),
            "{line}"
        );
    });
}

#[test]
fn root_tcp_probes_take_the_capability() {
    alone(|| {
        become_user(NOBODY);
        for mode in [Mode::Unprivileged, Mode::Auto] {
            let refused = ProbePort::open(&ProbePortOptions {
                mode,
                ..ProbePortOptions::default()
            });
            assert_eq!(refused.unwrap_err().capability(), Some(Capability::NetRaw));
        }
        let mut port = open(Mode::Unprivileged).unwrap();
        let segment = loopback(false).packet(6, &[0; 20]);
        assert_eq!(send(&mut port, &[segment]), [Err(SendError::Forbidden)]);
    });
}

#[test]
fn root_more_flows_than_sockets_wait_for_their_turn() {
    alone(|| {
        let limit = rustix::process::Rlimit {
            current: Some(60),
            maximum: Some(60),
        };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
        become_user(NOBODY);
        let mut port = open(Mode::Unprivileged).unwrap();
        assert_eq!(port.flows(), Some(30));
        let probes: Vec<_> = (0..80)
            .map(|n| Probe {
                flow: 0x9000 + n,
                ..loopback(n % 2 == 1)
            })
            .collect();
        let packets: Vec<_> = probes.iter().map(Probe::echo).collect();
        let mut answered = BTreeSet::new();
        for packets in packets.chunks(20) {
            for result in send(&mut port, packets) {
                result.unwrap();
            }
            for (_, reply) in receive(&mut port, packets.len(), Duration::from_secs(5)) {
                let reply = Packet::parse(&reply).unwrap();
                let flow = [reply.transport[4], reply.transport[5]];
                answered.insert(u16::from_be_bytes(flow));
            }
        }
        let asked: BTreeSet<u16> = probes.iter().map(|probe| probe.flow).collect();
        assert_eq!(answered, asked);
    });
}

#[test]
fn root_an_icmp_error_does_not_keep_the_next_probe_from_leaving() {
    alone(|| {
        become_user(NOBODY);
        let mut port = open(Mode::Unprivileged).unwrap();
        // Nobody listens there: each probe is answered by port unreachable before the next leaves,
        // and the error waits in the socket.
        for v6 in [false, true] {
            let packets: Vec<_> = (1..=50)
                .map(|seq| {
                    Probe {
                        seq,
                        ..loopback(v6)
                    }
                    .udp()
                })
                .collect();
            for result in send(&mut port, &packets) {
                result.unwrap();
            }
            let replies = receive(&mut port, 50, Duration::from_secs(5));
            let mut names = BTreeSet::new();
            for (_, reply) in &replies {
                let reply = Packet::parse(reply).unwrap();
                let (kind, quote) = reply.transport.split_at(8);
                assert_eq!(kind[..2], if v6 { [1, 4] } else { [3, 3] });
                let quote = plumb_wire::quote::Quote::parse(quote).unwrap();
                assert_eq!(quote.ttl, 0, "unknown");
                names.insert(quote.transport_word(6).unwrap());
            }
            // Linux limits how many errors it sends in a burst, over IPv6 more than over IPv4.
            assert!(names.len() >= 6, "{} errors", names.len());
            assert_eq!(names.len(), replies.len(), "each names another probe");
        }
    });
}
