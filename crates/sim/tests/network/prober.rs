//! A plain ping and traceroute that sends its packets through a simulated network.

use core::net::IpAddr;

use plumb_sim::{Network, Topology, labs};
use plumb_wire::icmp::{Family, Kind, Message};
use plumb_wire::mpls::Lse;
use plumb_wire::packet::Packet;
use plumb_wire::quote::Quote;
use plumb_wire::{Checksum, Engine, Instant, icmp_ext, ipv4, ipv6, protocol, tcp, udp};

/// A reply as it came to the vantage host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) src: IpAddr,
    pub(crate) ttl: u8,
    pub(crate) kind: Option<Kind>,
    pub(crate) code: u8,
    pub(crate) quoted_ttl: Option<u8>,
    /// Top first: label and TTL.
    pub(crate) labels: Vec<(u32, u8)>,
    pub(crate) at: Instant,
    pub(crate) packet: Vec<u8>,
}

pub(crate) struct Prober {
    pub(crate) topology: Topology,
    pub(crate) network: Network,
    pub(crate) now: Instant,
    seq: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Icmp,
    Udp,
    Syn(u16),
}

impl Prober {
    pub(crate) fn new(toml: &str) -> Self {
        let topology = Topology::from_toml(toml).unwrap();
        let network = Network::new(&topology, 1);
        Self {
            topology,
            network,
            now: Instant::from_millis(1000),
            seq: 0,
        }
    }

    pub(crate) fn lab(name: &str) -> Self {
        let lab = labs().iter().find(|l| l.name == name).unwrap();
        Self::new(lab.toml)
    }

    /// The address of `name` on its link to `neighbor`.
    pub(crate) fn on_link(&self, name: &str, neighbor: &str) -> IpAddr {
        self.topology
            .link_address(name, neighbor, Family::V4)
            .unwrap()
    }

    /// Sends a packet and gives what comes back within a minute, if anything.
    pub(crate) fn send(&mut self, packet: &[u8]) -> Option<Reply> {
        self.network.handle_packet(self.now, packet);
        let mut buffer = [0; 1500];
        let deadline = Instant::from_nanos(self.now.as_nanos() + 60_000_000_000);
        let mut reply = None;
        while let Some(due) = self.network.poll_timeout()
            && due <= deadline
        {
            self.now = self.now.max(due);
            if let Some(sent) = self.network.poll_transmit(self.now, &mut buffer) {
                assert!(reply.is_none(), "one packet, two replies");
                reply = Some(read(&buffer[..sent.len], self.now));
            }
        }
        reply
    }

    pub(crate) fn probe(&mut self, dst: IpAddr, ttl: u8, method: Method) -> Option<Reply> {
        self.seq += 1;
        let packet = self.packet(dst, ttl, method, self.seq);
        self.send(&packet)
    }

    pub(crate) fn packet(&self, dst: IpAddr, ttl: u8, method: Method, seq: u16) -> Vec<u8> {
        let vantage = self.network.vantage();
        let src: IpAddr = match dst {
            IpAddr::V4(_) => vantage.v4.unwrap().0.into(),
            IpAddr::V6(_) => vantage.v6.unwrap().0.into(),
        };
        let v4 = dst.is_ipv4();
        let (number, transport) = match method {
            Method::Icmp => {
                let mut m = vec![0; 16];
                m[0] = if v4 { 8 } else { 128 };
                m[4..6].copy_from_slice(&0x1234u16.to_be_bytes());
                m[6..8].copy_from_slice(&seq.to_be_bytes());
                // Paris: the checksum stays, the last word pays.
                let number = if v4 { protocol::ICMP } else { protocol::ICMPV6 };
                let mut sum = Checksum::new();
                if !v4 {
                    sum = sum.pseudo_header(src, dst, number, 16);
                }
                let word = sum.bytes(&m).compensate(0xbeef);
                m[14..].copy_from_slice(&word.to_be_bytes());
                m[2..4].copy_from_slice(&0xbeefu16.to_be_bytes());
                (number, m)
            }
            Method::Udp => {
                let mut m = vec![0; 12];
                let header = udp::Header {
                    src_port: 40_000,
                    dst_port: 33_435,
                    len: 12,
                    checksum: 0,
                };
                header.emit(&mut m);
                m[8..10].copy_from_slice(&seq.to_be_bytes());
                let sum = Checksum::new()
                    .pseudo_header(src, dst, protocol::UDP, 12)
                    .bytes(&m);
                m[6..8].copy_from_slice(&sum.finish().to_be_bytes());
                (protocol::UDP, m)
            }
            Method::Syn(port) => {
                let mut m = vec![0; 20];
                let header = tcp::Header {
                    src_port: 40_000,
                    dst_port: port,
                    seq: u32::from(seq),
                    ack: 0,
                    flags: tcp::SYN,
                    window: 1024,
                    checksum: 0,
                };
                header.emit(&mut m);
                let sum = Checksum::new()
                    .pseudo_header(src, dst, protocol::TCP, 20)
                    .bytes(&m);
                m[16..18].copy_from_slice(&sum.finish().to_be_bytes());
                (protocol::TCP, m)
            }
        };
        ip(src, dst, ttl, number, seq, &transport)
    }

    /// The reply of `dst` to a ping.
    pub(crate) fn ping(&mut self, dst: IpAddr) -> Option<Reply> {
        let reply = self.probe(dst, 64, Method::Icmp)?;
        assert_eq!(reply.kind, Some(Kind::EchoReply), "{reply:?}");
        assert_eq!(reply.src, dst);
        Some(reply)
    }

    /// Replies by probe TTL up to that of the destination, which is the last.
    pub(crate) fn trace(&mut self, dst: IpAddr, method: Method) -> Vec<Option<Reply>> {
        let mut hops = Vec::new();
        for ttl in 1..=32 {
            let reply = self.probe(dst, ttl, method);
            let done = reply
                .as_ref()
                .is_some_and(|r| r.kind != Some(Kind::TimeExceeded));
            hops.push(reply);
            if done {
                return hops;
            }
        }
        hops
    }

    /// Names of the nodes that an ICMP trace shows, `*` for silent ones.
    pub(crate) fn path(&mut self, dst: IpAddr) -> String {
        let hops = self.trace(dst, Method::Icmp);
        let names: Vec<&str> = hops
            .iter()
            .map(|h| {
                h.as_ref()
                    .map_or("*", |r| self.topology.node_of(r.src).unwrap())
            })
            .collect();
        names.join(" ")
    }

    /// What the trace to `dst` shows in the notation of the ground truth: per hop the node, the
    /// TTLs <TE/ER>, the quoted TTL if it is not 1, and the labels with their TTLs.
    pub(crate) fn table(&mut self, dst: IpAddr) -> String {
        let hops = self.trace(dst, Method::Icmp);
        let mut rows = Vec::new();
        for hop in hops {
            let Some(hop) = hop else {
                rows.push("*".to_string());
                continue;
            };
            let name = self.topology.node_of(hop.src).unwrap().to_string();
            let echo = self
                .ping(hop.src)
                .map_or("*".to_string(), |r| r.ttl.to_string());
            let mut row = format!("{name} {}/{echo}", hop.ttl);
            if let Some(q) = hop.quoted_ttl.filter(|&q| q != 1) {
                row += &format!(" q{q}");
            }
            for (label, ttl) in &hop.labels {
                row += &format!(" L{label},{ttl}");
            }
            rows.push(row);
        }
        rows.join(" | ")
    }
}

/// Reads a packet that came to the vantage host and checks everything that a receiver can check.
pub(crate) fn read(bytes: &[u8], at: Instant) -> Reply {
    let packet = Packet::parse(bytes).unwrap();
    assert_eq!(packet.len, bytes.len());
    let mut reply = Reply {
        src: packet.src,
        ttl: packet.ttl,
        kind: None,
        code: 0,
        quoted_ttl: None,
        labels: Vec::new(),
        at,
        packet: bytes.to_vec(),
    };
    if packet.src.is_ipv4() {
        let (_, rest) = ipv4::Header::parse(bytes).unwrap();
        assert_eq!(plumb_wire::checksum(&bytes[..bytes.len() - rest.len()]), 0);
    }
    if packet.protocol == protocol::TCP {
        let sum = Checksum::new()
            .pseudo_header(
                packet.src,
                packet.dst,
                protocol::TCP,
                packet.transport.len(),
            )
            .bytes(packet.transport);
        assert_eq!(sum.finish(), 0);
        return reply;
    }
    let message = Message::parse(packet.family(), packet.transport).unwrap();
    assert!(message.checksum_is_right(packet.src, packet.dst));
    reply.kind = Some(message.kind);
    reply.code = message.code;
    if message.kind.is_error() {
        let (quote, extensions) = icmp_ext::split(&message);
        reply.quoted_ttl = Some(Quote::parse(quote).unwrap().ttl);
        if let Some(extensions) = extensions {
            let stack: Vec<Lse> = extensions.mpls_stack().collect();
            assert!(stack.last().is_none_or(|l| l.s));
            reply.labels = stack.iter().map(|l| (l.label, l.ttl)).collect();
        }
    }
    reply
}

/// An IP packet.
pub(crate) fn ip(
    src: IpAddr,
    dst: IpAddr,
    ttl: u8,
    number: u8,
    ident: u16,
    transport: &[u8],
) -> Vec<u8> {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut packet = vec![0; ipv4::HEADER_LEN];
            let header = ipv4::Header {
                tos: 0,
                total_len: u16::try_from(ipv4::HEADER_LEN + transport.len()).unwrap(),
                ident,
                flags_fragment: ipv4::DONT_FRAGMENT,
                ttl,
                protocol: number,
                src,
                dst,
            };
            header.emit(&mut packet);
            packet.extend(transport);
            packet
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut packet = vec![0; ipv6::HEADER_LEN];
            let header = ipv6::Header {
                traffic_class: 0,
                flow_label: 0,
                payload_len: u16::try_from(transport.len()).unwrap(),
                next_header: number,
                hop_limit: ttl,
                src,
                dst,
            };
            header.emit(&mut packet);
            packet.extend(transport);
            packet
        }
        _ => panic!("mixed families"),
    }
}
