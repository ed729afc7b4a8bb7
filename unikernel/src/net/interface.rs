//! The interface: frames on one side, the engine's packets on the other.

use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use plumb_wire::ethernet::{self, HEADER_LEN, ethertype};
use plumb_wire::{Instant, ProbeId, SendError, arp, ipv4, ipv6, ndp};

use super::answer::{self, Limiter};
use super::neighbors::{Lookup, Neighbors, Request, Waited};
use super::{Calibration, Config, Route};
use crate::link::{Fate, Link};
use crate::platform::Nic;

/// Time between two answers to echo requests, when there are many.
const ECHO_EVERY: Duration = Duration::from_millis(5);
/// Time between two answers to questions for the addresses, when there are many.
const RESOLVE_EVERY: Duration = Duration::from_millis(1);
/// Time between two ends of connections, when there are many: more often than probes are sent.
const RESET_EVERY: Duration = Duration::from_micros(10);
/// Answers that may be given at once.
const BURST: u32 = 50;

/// An interface with its addresses.
#[derive(Debug)]
pub struct Interface<N> {
    nic: N,
    state: State,
}

/// All but the device, so that it can look at a frame that the device still holds.
#[derive(Debug)]
struct State {
    config: Config,
    mac: [u8; 6],
    link_local: Ipv6Addr,
    neighbors: Neighbors,
    calibration: Calibration,
    echo: Limiter,
    resolve: Limiter,
    reset: Limiter,
    /// A frame that is being written: an answer, or a packet with its header.
    frame: Vec<u8>,
}

impl<N: Nic> Interface<N> {
    /// An interface on a device.
    pub fn new(nic: N, config: Config) -> Self {
        let mac = nic.mac();
        let least = ndp::MAX_PACKET_LEN.max(arp::LEN);
        let state = State {
            config,
            mac,
            link_local: ndp::link_local(mac),
            neighbors: Neighbors::default(),
            calibration: Calibration::default(),
            echo: Limiter::new(ECHO_EVERY, BURST),
            resolve: Limiter::new(RESOLVE_EVERY, BURST),
            reset: Limiter::new(RESET_EVERY, BURST),
            frame: vec![0; HEADER_LEN + nic.mtu().max(least)],
        };
        Self { nic, state }
    }

    /// Asks for the gateways, which the first probe will need, and flushes. What else there is to
    /// prepare can be done while the answers are under way.
    pub fn start(&mut self, now: Instant) {
        let gateways = [
            self.state.config.gateway_v4.map(IpAddr::V4),
            self.state.config.gateway_v6.map(IpAddr::V6),
        ];
        for gateway in gateways.into_iter().flatten() {
            // A gateway that is not on the link, or of a family that is not spoken, is not asked.
            if self.state.config.route(gateway) == Ok(Route::Neighbor(gateway)) {
                self.state.neighbors.lookup(gateway, now);
            }
        }
        self.send_requests(now);
        self.nic.flush();
    }

    /// The device.
    pub const fn nic(&self) -> &N {
        &self.nic
    }

    /// The device.
    pub const fn nic_mut(&mut self) -> &mut N {
        &mut self.nic
    }

    /// Round trips to the nearest neighbour.
    pub const fn calibration(&self) -> &Calibration {
        &self.state.calibration
    }

    /// Sends the requests for addresses that are due. What there is no room for is repeated like
    /// what was lost.
    fn send_requests(&mut self, now: Instant) {
        while let Some(request) = self.state.neighbors.poll_request(now) {
            let len = self.state.write_request(&request);
            self.nic.transmit(&self.state.frame[..len]);
        }
    }

    /// Puts a packet into the transmit queue. Returns false if there is no room.
    fn send(&mut self, packet: &[u8], to: [u8; 6]) -> bool {
        let len = self.state.write_packet(packet, to);
        self.nic.transmit(&self.state.frame[..len])
    }
}

impl<N: Nic> Link for Interface<N> {
    fn mac(&self) -> [u8; 6] {
        self.state.mac
    }

    fn mtu(&self) -> usize {
        self.nic.mtu()
    }

    fn addresses(&self) -> Vec<(IpAddr, u8)> {
        let Config { v4, v6, .. } = self.state.config;
        let v4 = v4.map(|v4| (v4.address.into(), v4.len));
        let v6 = v6.map(|v6| (v6.address.into(), v6.len));
        [v4, v6].into_iter().flatten().collect()
    }

    fn transmit(&mut self, probe: ProbeId, packet: &[u8], now: Instant) -> Fate {
        if packet.len() > self.nic.mtu() {
            return Fate::Failed(SendError::TooBig);
        }
        let Some(dst) = destination(packet) else {
            return Fate::Failed(SendError::Other);
        };
        let neighbor = match self.state.config.route(dst) {
            Ok(Route::Neighbor(neighbor)) => neighbor,
            Ok(Route::Group(mac)) if self.send(packet, mac) => return Fate::Queued,
            Ok(Route::Group(_)) => return Fate::NoRoom,
            Err(error) => return Fate::Failed(error),
        };
        let fate = match self.state.neighbors.lookup(neighbor, now) {
            Lookup::Known(mac) if self.send(packet, mac) => Fate::Queued,
            Lookup::Known(_) | Lookup::Full => Fate::NoRoom,
            Lookup::Asked if self.state.neighbors.wait(neighbor, probe, packet) => Fate::Waiting,
            Lookup::Asked => Fate::NoRoom,
            Lookup::Failed => Fate::Failed(SendError::NoRoute),
        };
        self.send_requests(now);
        fate
    }

    fn poll_fate(&mut self) -> Option<(ProbeId, Fate)> {
        let Waited { probe, packet, to } = self.state.neighbors.poll_waited()?;
        match to {
            Ok(mac) if self.send(&packet, mac) => Some((probe, Fate::Queued)),
            Ok(_) => {
                self.state.neighbors.put_back(Waited { probe, packet, to });
                None
            }
            Err(error) => Some((probe, Fate::Failed(error))),
        }
    }

    fn flush(&mut self) {
        self.nic.flush();
    }

    fn receive(&mut self, now: Instant, take: &mut dyn FnMut(&[u8])) -> bool {
        let mut answer = 0;
        let state = &mut self.state;
        let any = self
            .nic
            .receive(&mut |frame| answer = state.handle_frame(now, frame, take));
        if answer > 0 {
            self.nic.transmit(&self.state.frame[..answer]);
        }
        // An answer may have been the occasion for another question.
        self.send_requests(now);
        any
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.send_requests(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.state.neighbors.poll_timeout()
    }

    fn dropped(&self) -> u64 {
        self.nic.dropped()
    }

    fn rtt_error(&self) -> Option<Duration> {
        let round_trips = self.state.calibration.round_trips();
        round_trips.map(|(_, longest)| longest)
    }
}

impl State {
    /// Takes a frame; gives the packet in it to `take`, or writes an answer and returns its length.
    fn handle_frame(&mut self, now: Instant, frame: &[u8], take: &mut dyn FnMut(&[u8])) -> usize {
        let Ok((header, payload)) = ethernet::Header::parse(frame) else {
            return 0;
        };
        let mine = header.dst == self.mac;
        if !(mine || ethernet::is_multicast(header.dst))
            || !ethernet::is_unicast(header.src)
            || header.src == self.mac
        {
            return 0;
        }
        match header.ethertype {
            ethertype::ARP => self.handle_arp(now, payload),
            ethertype::IPV4 if mine => {
                let Ok((ip, _)) = ipv4::Header::parse(payload) else {
                    return 0;
                };
                if self.config.v4.is_none_or(|own| own.address != ip.dst) {
                    return 0;
                }
                self.handle_packet(now, header.src, frame, payload, take)
            }
            ethertype::IPV6 => {
                let Ok((ip, rest)) = ipv6::Header::parse(payload) else {
                    return 0;
                };
                if let Ok(message) = ndp::Message::parse(&ip, rest) {
                    return self.handle_ndp(now, header.src, &ip, &message);
                }
                if !mine || !self.has_v6(ip.dst) {
                    return 0;
                }
                self.handle_packet(now, header.src, frame, payload, take)
            }
            _ => 0,
        }
    }

    /// Takes a packet for one of the own addresses.
    fn handle_packet(
        &mut self,
        now: Instant,
        src: [u8; 6],
        frame: &[u8],
        packet: &[u8],
        take: &mut dyn FnMut(&[u8]),
    ) -> usize {
        if !answer::is_echo(packet) {
            take(packet);
            let len = answer::reset(self.mac, src, packet, &mut self.frame);
            let permitted = len > 0 && self.reset.permits(now);
            return if permitted { len } else { 0 };
        }
        let Some(into) = self.frame.get_mut(..frame.len()) else {
            return 0;
        };
        into.copy_from_slice(frame);
        let len = answer::echo(self.mac, into);
        if len > 0 && self.echo.permits(now) {
            len
        } else {
            0
        }
    }

    fn handle_arp(&mut self, now: Instant, payload: &[u8]) -> usize {
        let (Ok(packet), Some(own)) = (arp::Packet::parse(payload), self.config.v4) else {
            return 0;
        };
        if !ethernet::is_unicast(packet.sender_mac) || packet.sender_mac == self.mac {
            return 0;
        }
        if packet.sender != own.address {
            let is_reply =
                packet.operation == arp::Operation::Reply && packet.target == own.address;
            self.confirm(packet.sender.into(), packet.sender_mac, is_reply, now);
        }
        let asked = packet.operation == arp::Operation::Request && packet.target == own.address;
        // Somebody who says that he has the address himself is not to be answered to.
        if asked && packet.sender != own.address && self.resolve.permits(now) {
            answer::arp(self.mac, &packet, &mut self.frame)
        } else {
            0
        }
    }

    fn handle_ndp(
        &mut self,
        now: Instant,
        src_mac: [u8; 6],
        ip: &ipv6::Header,
        message: &ndp::Message,
    ) -> usize {
        if self.has_v6(ip.src) {
            return 0;
        }
        let mac = match message {
            ndp::Message::Solicitation(s) => s.source_mac,
            ndp::Message::Advertisement(a) => a.target_mac,
        };
        let unicast = mac.filter(|mac| ethernet::is_unicast(*mac) && *mac != self.mac);
        if mac.is_some() && unicast.is_none() {
            return 0;
        }
        match message {
            ndp::Message::Advertisement(a) => {
                if let Some(mac) = unicast
                    && (a.solicited || a.overrides)
                {
                    self.confirm(a.target.into(), mac, a.solicited, now);
                }
                0
            }
            ndp::Message::Solicitation(s) => {
                let mine = self.has_v6(s.target);
                if let Some(mac) = unicast
                    && mine
                {
                    self.confirm(ip.src.into(), mac, false, now);
                }
                if mine && self.resolve.permits(now) {
                    answer::solicitation(self.mac, src_mac, ip.src, s, &mut self.frame)
                } else {
                    0
                }
            }
        }
    }

    fn confirm(&mut self, address: IpAddr, mac: [u8; 6], is_reply: bool, now: Instant) {
        let round_trip = self.neighbors.confirm(address, mac, now);
        // A question of the neighbour's own says where he is, but not how far.
        if let Some(round_trip) = round_trip.filter(|_| is_reply)
            && self.calibration.take(address, round_trip)
        {
            self.neighbors.ask(address, now);
        }
    }

    fn has_v6(&self, address: Ipv6Addr) -> bool {
        let own = self.config.v6.map(|own| own.address);
        own == Some(address) || own.is_some() && address == self.link_local
    }

    fn write_packet(&mut self, packet: &[u8], to: [u8; 6]) -> usize {
        let header = ethernet::Header {
            dst: to,
            src: self.mac,
            ethertype: match packet.first().map(|byte| byte >> 4) {
                Some(6) => ethertype::IPV6,
                _ => ethertype::IPV4,
            },
        };
        header.emit(&mut self.frame);
        let len = HEADER_LEN + packet.len();
        self.frame[HEADER_LEN..len].copy_from_slice(packet);
        len
    }

    fn write_request(&mut self, request: &Request) -> usize {
        let (dst, ethertype, len) = match request.address {
            IpAddr::V4(target) => {
                let own = self.config.v4.map(|own| own.address);
                let packet = arp::Packet {
                    operation: arp::Operation::Request,
                    sender_mac: self.mac,
                    sender: own.unwrap_or(Ipv4Addr::UNSPECIFIED),
                    target_mac: [0; 6],
                    target,
                };
                packet.emit(&mut self.frame[HEADER_LEN..]);
                (ethernet::BROADCAST, ethertype::ARP, arp::LEN)
            }
            IpAddr::V6(target) => {
                let own = self.config.v6.map(|own| own.address);
                let src = own.filter(|_| !target.is_unicast_link_local());
                let src = src.unwrap_or(self.link_local);
                let group = ndp::solicited_node(target);
                let dst = request.mac.map_or(group, |_| target);
                let message = ndp::Message::Solicitation(ndp::Solicitation {
                    target,
                    source_mac: Some(self.mac),
                });
                let len = message.emit_packet(src, dst, &mut self.frame[HEADER_LEN..]);
                (ethernet::multicast_v6(group), ethertype::IPV6, len)
            }
        };
        let header = ethernet::Header {
            dst: request.mac.unwrap_or(dst),
            src: self.mac,
            ethertype,
        };
        header.emit(&mut self.frame);
        HEADER_LEN + len
    }
}

/// The destination of an IP packet.
fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Some(ipv4::Header::parse(packet).ok()?.0.dst.into()),
        6 => Some(ipv6::Header::parse(packet).ok()?.0.dst.into()),
        _ => None,
    }
}

#[cfg(test)]
#[path = "tests/mod.rs"]
mod tests;
