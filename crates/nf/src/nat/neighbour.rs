//! Who has which MAC address: a NAT stage is on two Ethernet segments, but no router that hosts
//! know of, so it answers and rewrites ARP.
//!
//! - A host on the left asks for an address on the right: the question goes out under the outside
//!   address, and the answer comes back to who asked.
//! - Whoever is on the right and asks for an outside address gets the NAT's own MAC address.
//! - What comes in gets the MAC address of the inside host, which the NAT has seen before.

use alloc::collections::{BTreeMap, VecDeque};
use core::net::Ipv4Addr;

use plumb_wire::{arp, ethernet};

use crate::Frame;

/// Hosts that are remembered at most; the one seen first goes first.
const MOST_HOSTS: usize = 65_536;
/// Questions that may be under way.
const MOST_QUESTIONS: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Neighbours {
    hosts: BTreeMap<Ipv4Addr, [u8; 6]>,
    order: VecDeque<Ipv4Addr>,
    /// Who asked for whom: asker's address, its MAC address, wanted address.
    questions: VecDeque<(Ipv4Addr, [u8; 6], Ipv4Addr)>,
}

impl Neighbours {
    /// Takes note of an inside host's MAC address.
    pub(super) fn learn(&mut self, address: Ipv4Addr, mac: [u8; 6]) {
        if !ethernet::is_unicast(mac) || address.is_unspecified() {
            return;
        }
        if let Some(known) = self.hosts.get_mut(&address) {
            *known = mac;
            return;
        }
        if self.hosts.len() >= MOST_HOSTS
            && let Some(first) = self.order.pop_front()
        {
            self.hosts.remove(&first);
        }
        self.hosts.insert(address, mac);
        self.order.push_back(address);
    }

    /// The MAC address of an inside host.
    pub(super) fn mac(&self, address: Ipv4Addr) -> Option<[u8; 6]> {
        self.hosts.get(&address).copied()
    }

    /// Remembers that an inside host has asked for an address.
    pub(super) fn asked(&mut self, asker: Ipv4Addr, mac: [u8; 6], wanted: Ipv4Addr) {
        self.questions.retain(|q| *q != (asker, mac, wanted));
        if self.questions.len() >= MOST_QUESTIONS {
            self.questions.pop_front();
        }
        self.questions.push_back((asker, mac, wanted));
    }

    /// The inside host that the answer about `wanted` to `mac` is for.
    pub(super) fn asker(&self, mac: [u8; 6], wanted: Ipv4Addr) -> Option<Ipv4Addr> {
        let mut questions = self.questions.iter().rev();
        let found = questions.find(|q| q.1 == mac && q.2 == wanted)?;
        Some(found.0)
    }
}

/// Makes an ARP frame of the answer to the question that is in it: `mac` has the address.
pub(super) fn answer(frame: &mut Frame, ip: usize, question: &arp::Packet, mac: [u8; 6]) {
    question.reply(mac).emit(&mut frame.bytes[ip..]);
    frame.bytes[..6].copy_from_slice(&question.sender_mac);
    frame.bytes[6..12].copy_from_slice(&mac);
}
