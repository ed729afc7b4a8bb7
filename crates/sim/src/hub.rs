//! One simulated network for many hosts: an Ethernet segment behind which each of them finds its own.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::convert::Infallible;
use core::net::IpAddr;
use core::time::Duration;

use plumb_wire::ethernet::{self, HEADER_LEN, ethertype, is_multicast, is_unicast};
use plumb_wire::{Engine, Instant, ProbeId, SendError, Transmit, arp, ipv4, ipv6, ndp};

use crate::{Network, Topology, Vantage};

/// Networks of one [`Topology`], one for each host on an Ethernet segment. What an engine's verbs
/// call packets are whole Ethernet frames here.
///
/// Each host is the vantage host of a network of its own, so all may use the vantage address, and
/// none sees, or slows down, what another does. They are told apart by MAC address. All
/// addresses but the asker's own are here: requests by ARP and Neighbor Discovery are answered
/// with [`Hub::MAC`], so that any address, or the target itself, may be a host's gateway.
#[derive(Debug)]
pub struct Hub {
    topology: Topology,
    seed: u64,
    hosts: BTreeMap<Mac, Host>,
    /// When each network wants to be called again.
    due: BTreeSet<(Instant, Mac)>,
    /// Answers to ARP requests and solicitations.
    answers: VecDeque<Vec<u8>>,
    next_frame: u64,
    stats: HubStats,
}

/// What has become of the frames so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HubStats {
    /// Frames that came.
    pub received: u64,
    /// Of those, neither for a network nor answered: for others, of other protocols, malformed.
    pub ignored: u64,
    /// Of those, lost because there were too many hosts, or too many questions at once.
    pub refused: u64,
    /// Requests for an address that were answered.
    pub resolved: u64,
    /// Frames given to hosts.
    pub delivered: u64,
    /// Hosts that were forgotten to make room.
    pub forgotten: u64,
}

type Mac = [u8; 6];

/// What is kept of a host.
#[derive(Debug)]
struct Host {
    network: Network,
    /// Its entry in `due`.
    due: Option<Instant>,
    last_frame: Instant,
}

impl Hub {
    /// MAC address of everything that is not a host: a locally administered one.
    pub const MAC: [u8; 6] = [0x02, 0x70, 0x6c, 0x75, 0x6d, 0x62];
    /// Most hosts at once.
    pub const MAX_HOSTS: usize = 1024;
    /// A host that was silent for this long may be forgotten, where there are too many. What its
    /// network remembered (rate limits, address translations) is gone then.
    pub const IDLE: Duration = Duration::from_secs(10);
    /// Most answers to requests for addresses that wait to be sent.
    const MAX_ANSWERS: usize = 4096;

    /// A segment without hosts. All networks have the same seed, so that hosts which send the same
    /// at the same times see the same.
    pub const fn new(topology: Topology, seed: u64) -> Self {
        Self {
            topology,
            seed,
            hosts: BTreeMap::new(),
            due: BTreeSet::new(),
            answers: VecDeque::new(),
            next_frame: 0,
            stats: HubStats {
                received: 0,
                ignored: 0,
                refused: 0,
                resolved: 0,
                delivered: 0,
                forgotten: 0,
            },
        }
    }

    /// The addresses that every host has.
    pub fn vantage(&self) -> Vantage {
        self.topology.vantage()
    }

    /// What has become of the frames so far.
    pub const fn stats(&self) -> HubStats {
        self.stats
    }

    /// Hosts that are known now.
    pub fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// Takes an IP packet that `host` sends.
    fn forward(&mut self, at: Instant, host: Mac, packet: &[u8]) {
        if !self.hosts.contains_key(&host) && !self.make_room(at) {
            self.stats.refused += 1;
            return;
        }
        let known = self.hosts.entry(host).or_insert_with(|| Host {
            network: Network::new(&self.topology, self.seed),
            due: None,
            last_frame: at,
        });
        known.last_frame = known.last_frame.max(at);
        known.network.handle_packet(at, packet);
        schedule(&mut self.due, host, known);
    }

    /// Makes room for one more host, if there can be any.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.hosts.len() < Self::MAX_HOSTS {
            return true;
        }
        let idle = self.hosts.iter().min_by_key(|(_, host)| host.last_frame);
        let Some(mac) = idle
            .filter(|(_, host)| now.since(host.last_frame) >= Self::IDLE)
            .map(|(mac, _)| *mac)
        else {
            return false;
        };
        if let Some(due) = self.hosts.remove(&mac).and_then(|host| host.due) {
            self.due.remove(&(due, mac));
        }
        self.stats.forgotten += 1;
        true
    }

    /// Queues the answer to a request for an address, if it is one that is to be answered.
    fn resolve(&mut self, asker: Mac, ethertype: u16, answer: Option<Vec<u8>>) {
        match answer {
            None => self.stats.ignored += 1,
            Some(_) if self.answers.len() >= Self::MAX_ANSWERS => self.stats.refused += 1,
            Some(mut frame) => {
                let header = ethernet::Header {
                    dst: asker,
                    src: Self::MAC,
                    ethertype,
                };
                header.emit(&mut frame);
                self.stats.resolved += 1;
                self.answers.push_back(frame);
            }
        }
    }

    /// Writes what the networks have for their hosts by now.
    fn deliver(&mut self, now: Instant, into: &mut [u8]) -> Option<usize> {
        while let Some(&(due, mac)) = self.due.first()
            && due <= now
        {
            let host = self.hosts.get_mut(&mac)?;
            let packet = into.get_mut(HEADER_LEN..)?;
            let sent = host.network.poll_transmit(now, packet);
            schedule(&mut self.due, mac, host);
            let Some(Transmit { len, .. }) = sent else {
                continue;
            };
            let header = ethernet::Header {
                dst: mac,
                src: Self::MAC,
                ethertype: match packet.first().map(|byte| byte >> 4) {
                    Some(6) => ethertype::IPV6,
                    _ => ethertype::IPV4,
                },
            };
            header.emit(into);
            return Some(HEADER_LEN + len);
        }
        None
    }
}

impl Engine for Hub {
    type Event = Infallible;

    /// Takes a frame that a host sends.
    fn handle_packet(&mut self, at: Instant, frame: &[u8]) {
        self.stats.received += 1;
        let Ok((header, payload)) = ethernet::Header::parse(frame) else {
            self.stats.ignored += 1;
            return;
        };
        let ours = header.dst == Self::MAC;
        if !is_unicast(header.src) || !(ours || is_multicast(header.dst)) {
            self.stats.ignored += 1;
            return;
        }
        match header.ethertype {
            ethertype::ARP => {
                self.resolve(header.src, ethertype::ARP, arp_reply(payload));
            }
            ethertype::IPV6 if is_neighbor_discovery(payload) => {
                self.resolve(header.src, ethertype::IPV6, advertisement(payload));
            }
            ethertype::IPV4 | ethertype::IPV6 if ours => {
                self.forward(at, header.src, without_padding(payload));
            }
            _ => self.stats.ignored += 1,
        }
    }

    fn handle_sent(&mut self, _: ProbeId, _: Instant) {}

    fn handle_send_error(&mut self, _: ProbeId, _: Instant, _: SendError) {}

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(due, mac)) = self.due.first()
            && due <= now
        {
            let Some(host) = self.hosts.get_mut(&mac) else {
                return;
            };
            host.network.handle_timeout(now);
            schedule(&mut self.due, mac, host);
            if host.due.is_some_and(|next| next <= now) {
                // It has packets to deliver, and so may others: `poll_transmit` sees to them.
                return;
            }
        }
    }

    /// Gives a frame for a host. `into` must have room for the Ethernet header beside a packet.
    fn poll_transmit(&mut self, now: Instant, into: &mut [u8]) -> Option<Transmit> {
        let len = loop {
            let Some(answer) = self.answers.pop_front() else {
                break self.deliver(now, into)?;
            };
            if let Some(to) = into.get_mut(..answer.len()) {
                to.copy_from_slice(&answer);
                break answer.len();
            }
        };
        self.stats.delivered += 1;
        self.next_frame += 1;
        Some(Transmit {
            len,
            probe: ProbeId(self.next_frame),
        })
    }

    fn poll_event(&mut self) -> Option<Infallible> {
        None
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.answers.is_empty() {
            self.due.first().map(|(at, _)| *at)
        } else {
            Some(Instant::ZERO)
        }
    }
}

/// Notes when a host's network wants to be called again.
fn schedule(due: &mut BTreeSet<(Instant, Mac)>, mac: Mac, host: &mut Host) {
    let next = host.network.poll_timeout();
    if next == host.due {
        return;
    }
    if let Some(before) = host.due {
        due.remove(&(before, mac));
    }
    if let Some(at) = next {
        due.insert((at, mac));
    }
    host.due = next;
}

/// The reply to an ARP request for an address that is not the asker's, behind room for a header.
/// One from nobody is a probe: the asker wants to have the address (RFC 5227).
fn arp_reply(payload: &[u8]) -> Option<Vec<u8>> {
    let request = arp::Packet::parse(payload).ok()?;
    let (asker, target) = (request.sender, request.target);
    if request.operation != arp::Operation::Request
        || asker.is_unspecified()
        || asker == target
        || !is_host(target.into())
    {
        return None;
    }
    let mut frame = alloc::vec![0; HEADER_LEN + arp::LEN];
    request.reply(Hub::MAC).emit(&mut frame[HEADER_LEN..]);
    Some(frame)
}

/// The advertisement that answers a solicitation for an address that is not the asker's, behind
/// room for a header. One from nobody is a probe: the asker wants to have the address (RFC 4862).
fn advertisement(packet: &[u8]) -> Option<Vec<u8>> {
    let (header, payload) = ipv6::Header::parse(packet).ok()?;
    let ndp::Message::Solicitation(request) = ndp::Message::parse(&header, payload).ok()? else {
        return None;
    };
    let asker = header.src;
    if asker.is_unspecified() || asker == request.target || !is_host(request.target.into()) {
        return None;
    }
    let answer = ndp::Message::Advertisement(ndp::Advertisement {
        target: request.target,
        router: true,
        solicited: true,
        overrides: true,
        target_mac: Some(Hub::MAC),
    });
    let mut frame = alloc::vec![0; HEADER_LEN + ndp::MAX_PACKET_LEN];
    let len = answer.emit_packet(request.target, asker, &mut frame[HEADER_LEN..]);
    frame.truncate(HEADER_LEN + len);
    Some(frame)
}

/// Says whether a packet is one of Neighbor Discovery's, whatever it holds.
fn is_neighbor_discovery(packet: &[u8]) -> bool {
    ipv6::Header::parse(packet).is_ok_and(|(header, payload)| {
        header.next_header == plumb_wire::protocol::ICMPV6
            && (133..=137).contains(payload.first().unwrap_or(&0))
    })
}

/// Says whether an address can be one host's.
const fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_multicast() && !v4.is_broadcast() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_multicast() && !v6.is_unspecified(),
    }
}

/// A packet without what made its frame long enough for Ethernet.
fn without_padding(payload: &[u8]) -> &[u8] {
    let len = match payload.first().map(|byte| byte >> 4) {
        Some(4) => ipv4::Header::parse(payload).map(|(h, _)| usize::from(h.total_len)),
        Some(6) => {
            ipv6::Header::parse(payload).map(|(h, _)| ipv6::HEADER_LEN + usize::from(h.payload_len))
        }
        _ => return payload,
    };
    // What is not an IP packet is the network's to refuse.
    len.ok()
        .and_then(|len| payload.get(..len))
        .unwrap_or(payload)
}
