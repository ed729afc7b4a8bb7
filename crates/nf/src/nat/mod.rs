//! Network address and port translation between IPv4 networks: the hosts on the left share the
//! outside addresses on the right.
//!
//! Mappings are endpoint-independent: an inside endpoint has the same outside endpoint whoever it
//! writes to, which is what peer-to-peer programs need (RFC 4787, 5382, 5508 and 7857). Who may
//! write back is decided by [`Filtering`].
//!
//! A stage is a wire, not a hop: Ethernet addresses are kept but where they must change
//! (`neighbour.rs`), the TTL too unless [`Config::decrement_ttl`] says otherwise, and what is not
//! IPv4 passes as it is.

mod config;
mod event;
mod flow;
mod fragment;
mod icmp;
mod neighbour;
mod ports;
mod rewrite;
mod shortcut;
mod table;
mod tcp;
#[cfg(test)]
mod tests;
mod unsolicited;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use plumb_wire::frame::Port;
use plumb_wire::{Instant, arp, ethernet};

use crate::offload::network_header;
use crate::{Counter, Frame, Function, Output};

pub use config::{Config, Endpoint, Filtering, Forward, Protocol, Refused, Timeouts};
pub use event::{Event, EventKind};

use fragment::{Fate, Fragments, Key};
use neighbour::Neighbours;
use rewrite::View;
use table::Table;
use unsolicited::Unsolicited;

/// Why a frame was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Malformed,
    ForeignSource,
    NotForwarded,
    NotForUs,
    Unsupported,
    NoMapping,
    Filtered,
    Unsolicited,
    HostLimit,
    NoPort,
    TableFull,
    BadError,
    NoHairpin,
    TtlExpired,
    FirstFragmentDropped,
}

const CAUSES: [(Cause, &str); 15] = [
    (Cause::Malformed, "dropped_malformed_frames"),
    (Cause::ForeignSource, "dropped_foreign_source_frames"),
    (
        Cause::NotForwarded,
        "dropped_link_local_or_multicast_frames",
    ),
    (Cause::NotForUs, "dropped_not_for_outside_address_frames"),
    (Cause::Unsupported, "dropped_unsupported_protocol_frames"),
    (Cause::NoMapping, "dropped_no_mapping_frames"),
    (Cause::Filtered, "dropped_filtered_frames"),
    (Cause::Unsolicited, "dropped_unsolicited_syn_frames"),
    (Cause::HostLimit, "dropped_host_limit_frames"),
    (Cause::NoPort, "dropped_no_port_frames"),
    (Cause::TableFull, "dropped_table_full_frames"),
    (Cause::BadError, "dropped_icmp_error_without_mapping_frames"),
    (Cause::NoHairpin, "dropped_hairpin_frames"),
    (Cause::TtlExpired, "dropped_ttl_expired_frames"),
    (Cause::FirstFragmentDropped, "dropped_fragment_frames"),
];

/// A NAT: inside on the left, outside on the right.
#[derive(Debug)]
pub struct Nat {
    config: Config,
    table: Table,
    outside: BTreeSet<Ipv4Addr>,
    /// Outside addresses and inside hosts that stand for each other.
    static_inside: BTreeMap<Ipv4Addr, Ipv4Addr>,
    static_outside: BTreeMap<Ipv4Addr, Ipv4Addr>,
    fragments: Fragments,
    neighbours: Neighbours,
    unsolicited: Unsolicited,
    dropped: [u64; CAUSES.len()],
    /// From the left, from the right.
    translated: [u64; 2],
    hairpinned: u64,
    passed: u64,
    answered: u64,
}

impl Nat {
    /// A NAT without mappings, but for forwarded ports.
    ///
    /// # Errors
    /// If the configuration contradicts itself.
    pub fn new(config: Config) -> Result<Self, Refused> {
        let mut outside = BTreeSet::new();
        let statics = config.statics.iter().map(|(outside, _)| outside);
        for address in config.outside.iter().chain(statics) {
            if !outside.insert(*address) {
                return Err(Refused::Twice(*address));
            }
        }
        if outside.is_empty() {
            return Err(Refused::NoOutside);
        }
        let static_inside: BTreeMap<_, _> = config.statics.iter().copied().collect();
        let static_outside: BTreeMap<_, _> = config.statics.iter().map(|(o, i)| (*i, *o)).collect();
        for (_, inside) in &config.statics {
            let alone = config.statics.iter().filter(|(_, i)| i == inside).count() == 1;
            if !alone || outside.contains(inside) {
                return Err(Refused::StaticTarget(*inside));
            }
        }
        Ok(Self {
            table: Table::new(&config)?,
            config,
            outside,
            static_inside,
            static_outside,
            fragments: Fragments::default(),
            neighbours: Neighbours::default(),
            unsolicited: Unsolicited::default(),
            dropped: [0; CAUSES.len()],
            translated: [0; 2],
            hairpinned: 0,
            passed: 0,
            answered: 0,
        })
    }

    /// Takes the next entry of the mapping log. What nobody takes is lost after 65 536 entries.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.table.poll_event()
    }

    fn frame(&mut self, from: Port, mut frame: Frame, now: Instant, out: &mut Output) {
        match network_header(&frame.bytes) {
            Some((ethernet::ethertype::IPV4, ip)) => self.ipv4(from, frame, ip, now, out),
            Some((ethernet::ethertype::ARP, ip)) => match self.arp(from, &mut frame, ip) {
                Some(to) => out.send(to, frame),
                None => out.recycle(frame),
            },
            Some(_) => {
                self.passed += 1;
                out.send(from.opposite(), frame);
            }
            None => self.drop(Cause::Malformed, frame, out),
        }
    }

    fn ipv4(&mut self, from: Port, mut frame: Frame, ip: usize, now: Instant, out: &mut Output) {
        // It stays where it is: what was written part by part is slow to move at once.
        let view = View::of_frame(&frame, ip);
        let Some(view) = &view else {
            return self.drop(Cause::Malformed, frame, out);
        };
        let expires = now + self.config.timeouts.fragments;
        if view.is_later {
            let key = Key::of(from, view);
            if let Some(fate) = self.fragments.later(key, &mut frame, expires) {
                self.follow(fate, frame, ip, out);
            }
            return;
        }
        let verdict = match from {
            Port::Left => self.outbound(&mut frame, view, now, out),
            Port::Right => self.inbound(&mut frame, view, Port::Right, now, out),
        };
        let mut fate = Fate::Dropped;
        match verdict {
            Ok(to) => {
                self.translated[usize::from(from == Port::Right)] += 1;
                if view.has_more {
                    fate = fate_of(&frame, view, to);
                }
                out.send(to, frame);
            }
            Err(cause) => self.drop(cause, frame, out),
        }
        if view.has_more {
            let key = Key::of(from, view);
            for waiting in self.fragments.first(key, fate, expires) {
                self.follow(fate, waiting, ip, out);
            }
        }
    }

    /// Lets a later fragment go the way of the first.
    fn follow(&mut self, fate: Fate, mut frame: Frame, ip: usize, out: &mut Output) {
        use rewrite::{Side, decrement_ttl, rewrite};
        let view = View::of_frame(&frame, ip);
        let (Fate::Sent { to, src, dst, mac }, Some(view)) = (fate, view) else {
            return self.drop(Cause::FirstFragmentDropped, frame, out);
        };
        if self.config.decrement_ttl {
            if view.ttl <= 1 {
                return self.drop(Cause::TtlExpired, frame, out);
            }
            decrement_ttl(&mut frame.bytes, &view);
        }
        rewrite(&mut frame.bytes, &view, Side::Source, src, None, None);
        rewrite(&mut frame.bytes, &view, Side::Destination, dst, None, None);
        frame.bytes[..6].copy_from_slice(&mac);
        out.send(to, frame);
    }

    /// Answers or rewrites ARP; none if it ends here.
    fn arp(&mut self, from: Port, frame: &mut Frame, at: usize) -> Option<Port> {
        let mut packet = arp::Packet::parse(frame.bytes.get(at..)?).ok()?;
        let is_request = packet.operation == arp::Operation::Request;
        match from {
            Port::Left => {
                self.neighbours.learn(packet.sender, packet.sender_mac);
                // Probes and announcements are for the hosts on the left.
                if packet.sender.is_unspecified() || packet.sender == packet.target {
                    return None;
                }
                if self.outside.contains(&packet.target) {
                    if !is_request {
                        return None;
                    }
                    neighbour::answer(frame, at, &packet, self.config.mac);
                    self.answered += 1;
                    return Some(Port::Left);
                }
                let outside = match self.static_outside.get(&packet.sender) {
                    Some(outside) => *outside,
                    None => self.table.address_of(packet.sender)?,
                };
                if is_request {
                    self.neighbours
                        .asked(packet.sender, packet.sender_mac, packet.target);
                }
                packet.sender = outside;
                packet.emit(&mut frame.bytes[at..]);
                Some(Port::Right)
            }
            Port::Right if is_request => {
                if !self.outside.contains(&packet.target) {
                    return None;
                }
                neighbour::answer(frame, at, &packet, self.config.mac);
                self.answered += 1;
                Some(Port::Right)
            }
            Port::Right => {
                let asker = self.neighbours.asker(packet.target_mac, packet.sender)?;
                packet.target = asker;
                packet.emit(&mut frame.bytes[at..]);
                Some(Port::Left)
            }
        }
    }

    fn drop(&mut self, cause: Cause, frame: Frame, out: &mut Output) {
        self.dropped[cause as usize] += 1;
        out.recycle(frame);
    }
}

/// The way that a first fragment went.
fn fate_of(frame: &Frame, view: &View, to: Port) -> Fate {
    let address = |at: usize| {
        let mut octets = [0; 4];
        octets.copy_from_slice(&frame.bytes[at..at + 4]);
        Ipv4Addr::from_octets(octets)
    };
    let mut mac = [0; 6];
    mac.copy_from_slice(&frame.bytes[..6]);
    Fate::Sent {
        to,
        src: address(view.ip + 12),
        dst: address(view.ip + 16),
        mac,
    }
}

impl Function for Nat {
    fn handle_frames(
        &mut self,
        from: Port,
        batch: &mut Vec<Frame>,
        now: Instant,
        out: &mut Output,
    ) {
        for frame in batch.drain(..) {
            self.frame(from, frame, now, out);
        }
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Output) {
        self.table.expire(now);
        self.fragments.expire(now);
        while let Some(syn) = self.unsolicited.due(now) {
            self.refuse_syn(syn, now, out);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        [
            self.table.next_timeout(),
            self.fragments.next_timeout(),
            self.unsolicited.next_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn heads_suffice(&self) -> bool {
        true
    }

    fn counters(&self) -> Vec<Counter> {
        let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let (mappings, sessions) = self.table.len();
        let mut counters: Vec<_> = [
            ("left_translated_frames", self.translated[0]),
            ("right_translated_frames", self.translated[1]),
            ("hairpinned_frames", self.hairpinned),
            ("passed_other_frames", self.passed),
            ("answered_arp_requests", self.answered),
            ("mappings", number(mappings)),
            ("sessions", number(sessions)),
            ("evicted_sessions", self.table.evicted),
            ("lost_log_entries", self.table.lost_events),
            ("overflowed_fragment_frames", self.fragments.overflowed),
            ("timed_out_fragment_frames", self.fragments.timed_out),
        ]
        .map(|(name, value)| Counter { name, value })
        .into();
        for (cause, name) in CAUSES {
            counters.push(Counter {
                name,
                value: self.dropped[cause as usize],
            });
        }
        counters
    }
}
