//! Sending past the kernel's routing, through a packet socket, at the highest rates.
//!
//! The kernel neither routes these packets nor shows them to local packet filters, nor do they
//! wait in the queueing discipline of the interface. An IPv4 header is sent as it is, its
//! identification of 0 included.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use plumb_wire::{Instant, SendError};

use crate::next_hop::{NextHop, NextHops};
use crate::raw::{Failure, classify, set_send_buffer};
use crate::sys::{self, Address};
use crate::{Batch, Capability, Clock, Error, Progress, Then};

/// A packet socket, and where its packets have to go.
#[derive(Debug)]
pub(crate) struct PacketSender {
    socket: OwnedFd,
    hops: NextHops,
    clock: Clock,
}

/// Which packets of a batch can be sent, and where to.
pub(crate) type Plan = [Option<NextHop>; Batch::CAPACITY];

impl PacketSender {
    /// Opens the socket, for one interface or for all (0).
    pub(crate) fn open(interface: u32) -> Result<Self, Error> {
        const OBJECT: &str = "a packet socket";
        // Of protocol 0, so that nothing is received.
        let socket = sys::socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0)
            .map_err(|e| Error::privileged("open", OBJECT, Capability::NetRaw, e))?;
        let fd = socket.as_fd();
        sys::set_option(fd, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &1)
            .and_then(|()| set_send_buffer(fd))
            .map_err(|e| Error::system("set up", OBJECT, e))?;
        let hops =
            NextHops::open(interface).map_err(|e| Error::system("open", "a netlink socket", e))?;
        Ok(Self {
            socket,
            hops,
            clock: Clock::new(),
        })
    }

    /// Finds the next hops of the packets of a batch.
    pub(crate) fn plan(&mut self, batch: &Batch) -> Plan {
        let now = self.clock.now();
        self.hops.refresh(now);
        let mut plan = [None; Batch::CAPACITY];
        for (index, hop) in plan.iter_mut().enumerate().take(batch.len()) {
            *hop = destination(batch.packet(index)).and_then(|to| self.hops.find(to, now));
        }
        plan
    }

    /// Sends the packets of `range`, which all have a next hop in `plan`.
    pub(crate) fn send(
        &self,
        batch: &Batch,
        range: Range<usize>,
        plan: &Plan,
        report: &mut dyn FnMut(usize, Result<Instant, SendError>),
    ) -> Progress {
        let mut done = range.start;
        while done < range.end {
            let at = self.clock.now();
            let datagrams = (done..range.end).map_while(|index| {
                let packet = batch.packet(index);
                Some((link_address(plan[index]?, packet), packet))
            });
            match sys::send_many(self.socket.as_fd(), datagrams) {
                Ok(count) => {
                    (done..done + count).for_each(|index| report(index, Ok(at)));
                    done += count;
                }
                Err(error) => match classify(&error) {
                    Failure::Retry(then) => return Progress { done, then },
                    Failure::Packet(reason) => {
                        report(done, Err(reason));
                        done += 1;
                    }
                },
            }
        }
        Progress {
            done,
            then: Then::Now,
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn link_address(hop: NextHop, packet: &[u8]) -> Address {
    let ethertype = match packet.first().map(|byte| byte >> 4) {
        Some(6) => 0x86dd,
        _ => 0x0800,
    };
    Address::Link(ethertype, hop.interface, hop.mac)
}

fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Some(Ipv4Addr::from(*packet.get(16..)?.first_chunk::<4>()?).into()),
        6 => Some(Ipv6Addr::from(*packet.get(24..)?.first_chunk::<16>()?).into()),
        _ => None,
    }
}
