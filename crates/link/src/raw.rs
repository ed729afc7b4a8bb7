//! Sending whole IP packets through raw sockets.

use core::net::{Ipv4Addr, Ipv6Addr};
use core::ops::Range;
use core::time::Duration;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use plumb_wire::icmp::Family;
use plumb_wire::{Instant, SendError};

use crate::sys::{self, Address};
use crate::transmit_time::{TransmitTimes, discard_errors};
use crate::{Batch, Capability, Clock, Error, Progress, Then};

/// Raw sockets of both families, with the IP header in the hands of the sender.
///
/// The kernel routes the packets, asks for neighbours and applies packet filters as to any other.
/// It still writes two fields of an IPv4 header: the checksum, and an identification of 0 becomes
/// one of its choice.
#[derive(Debug)]
pub(crate) struct RawSender {
    v4: Option<OwnedFd>,
    v6: Option<OwnedFd>,
    v4_times: TransmitTimes,
    v6_times: TransmitTimes,
    interface: u32,
    clock: Clock,
    blocked: Family,
}

/// How long to wait when a queue of the device is full: some hundred packets at 1 Gbit/s.
const CONGESTED: Duration = Duration::from_micros(100);
/// Bytes that may wait in a socket.
const SEND_BUFFER: libc::c_int = 4 << 20;

impl RawSender {
    /// Opens the sockets. A family that the kernel does not have is left out, if there is another.
    pub(crate) fn open(
        ipv4: bool,
        ipv6: bool,
        interface: Option<(&str, u32)>,
    ) -> Result<Self, Error> {
        let v4 = ipv4
            .then(|| open_family(Family::V4, interface))
            .transpose()?;
        let v6 = match ipv6.then(|| open_family(Family::V6, interface)) {
            Some(Err(Error::System { source, .. }))
                if ipv4 && source.raw_os_error() == Some(libc::EAFNOSUPPORT) =>
            {
                None
            }
            other => other.transpose()?,
        };
        Ok(Self {
            v4,
            v6,
            v4_times: TransmitTimes::new(),
            v6_times: TransmitTimes::new(),
            interface: interface.map_or(0, |(_, index)| index),
            clock: Clock::new(),
            blocked: Family::V4,
        })
    }

    /// Says whether there is an IPv6 socket.
    pub(crate) const fn has_ipv6(&self) -> bool {
        self.v6.is_some()
    }

    /// Sends the packets of `range`.
    pub(crate) fn send(
        &mut self,
        batch: &Batch,
        range: Range<usize>,
        report: &mut dyn FnMut(usize, Result<Instant, SendError>),
    ) -> Progress {
        let mut done = range.start;
        while done < range.end {
            let (socket, times, family) = match family(batch.packet(done)) {
                Some(Family::V4) => (&self.v4, &mut self.v4_times, Family::V4),
                Some(Family::V6) => (&self.v6, &mut self.v6_times, Family::V6),
                None => {
                    report(done, Err(SendError::Other));
                    done += 1;
                    continue;
                }
            };
            let Some(socket) = socket else {
                report(done, Err(SendError::NoRoute));
                done += 1;
                continue;
            };
            let fd = socket.as_fd();
            let interface = self.interface;
            let same_family = (done..range.end)
                .map(|index| batch.packet(index))
                .map_while(|packet| Some((address(family, interface, packet)?, packet)));
            let at = self.clock.now();
            let timed = times.before(fd, at, range.end - done);
            match sys::send_many(fd, same_family.clone()) {
                Ok(count) => {
                    let mut left = [at; Batch::CAPACITY];
                    if timed {
                        let asked = same_family.count();
                        times.after(fd, asked, count, |index, at| left[index] = at);
                    }
                    (done..)
                        .zip(&left[..count])
                        .for_each(|(i, at)| report(i, Ok(*at)));
                    done += count;
                }
                Err(error) => {
                    // An error that stays in the queue is announced like room to send.
                    discard_errors(fd);
                    if timed {
                        times.start(fd);
                    }
                    match classify(&error) {
                        Failure::Retry(then) => {
                            self.blocked = family;
                            return Progress { done, then };
                        }
                        Failure::Packet(reason) => {
                            report(done, Err(reason));
                            done += 1;
                        }
                    }
                }
            }
        }
        Progress {
            done,
            then: Then::Now,
        }
    }

    /// The socket that last had no room.
    pub(crate) fn writable(&self) -> Option<BorrowedFd<'_>> {
        let first = match self.blocked {
            Family::V4 => self.v4.as_ref().or(self.v6.as_ref()),
            Family::V6 => self.v6.as_ref().or(self.v4.as_ref()),
        };
        first.map(AsFd::as_fd)
    }
}

/// What to make of an error of a send call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is no room now.
    Retry(Then),
    /// This packet cannot be sent.
    Packet(SendError),
}

/// Reads the error of a send call.
pub(crate) fn classify(error: &io::Error) -> Failure {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => Failure::Retry(Then::Writable),
        Some(libc::ENOBUFS | libc::ENOMEM) => Failure::Retry(Then::After(CONGESTED)),
        Some(libc::EINTR) => Failure::Retry(Then::Now),
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EADDRNOTAVAIL) => {
            Failure::Packet(SendError::NoRoute)
        }
        Some(libc::ENETDOWN | libc::ENODEV | libc::ENXIO) => {
            Failure::Packet(SendError::InterfaceDown)
        }
        Some(libc::EPERM | libc::EACCES) => Failure::Packet(SendError::Forbidden),
        Some(libc::EMSGSIZE) => Failure::Packet(SendError::TooBig),
        _ => Failure::Packet(SendError::Other),
    }
}

/// The destination of a packet of this family, `None` if it is of another.
fn address(wanted: Family, interface: u32, packet: &[u8]) -> Option<Address> {
    if family(packet) != Some(wanted) {
        return None;
    }
    match wanted {
        Family::V4 => {
            let octets: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            Some(Address::V4(Ipv4Addr::from(octets)))
        }
        Family::V6 => {
            let octets: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            let address = Ipv6Addr::from(octets);
            let scope = if address.is_unicast_link_local() {
                interface
            } else {
                0
            };
            Some(Address::V6(address, scope))
        }
    }
}

/// The family of a packet whose fixed header is complete.
fn family(packet: &[u8]) -> Option<Family> {
    match packet.first()? >> 4 {
        4 if packet.len() >= plumb_wire::ipv4::HEADER_LEN => Some(Family::V4),
        6 if packet.len() >= plumb_wire::ipv6::HEADER_LEN => Some(Family::V6),
        _ => None,
    }
}

fn open_family(family: Family, interface: Option<(&str, u32)>) -> Result<OwnedFd, Error> {
    let (domain, object) = match family {
        Family::V4 => (libc::AF_INET, "a raw IPv4 socket"),
        Family::V6 => (libc::AF_INET6, "a raw IPv6 socket"),
    };
    let socket = sys::socket(domain, libc::SOCK_RAW, libc::IPPROTO_RAW)
        .map_err(|e| Error::privileged("open", object, Capability::NetRaw, e))?;
    let fd = socket.as_fd();
    let failed = |e| Error::system("set up", object, e);
    match family {
        Family::V4 => {
            sys::set_option(fd, libc::IPPROTO_IP, libc::IP_HDRINCL, &1).map_err(failed)?;
            // Otherwise a packet that finds the device's queue full is lost without a word.
            sys::set_option(fd, libc::IPPROTO_IP, libc::IP_RECVERR, &1).map_err(failed)?;
        }
        Family::V6 => {
            sys::set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_HDRINCL, &1).map_err(failed)?;
            sys::set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, &1).map_err(failed)?;
        }
    }
    if let Some((name, _)) = interface {
        sys::bind_to_interface(fd, name)
            .map_err(|e| Error::privileged("bind to", name, Capability::NetRaw, e))?;
    }
    set_send_buffer(fd).map_err(failed)?;
    Ok(socket)
}

/// Lets a socket hold as much as it may.
pub(crate) fn set_send_buffer(fd: BorrowedFd<'_>) -> io::Result<()> {
    // The first needs CAP_NET_ADMIN, the second is bounded by net.core.wmem_max.
    sys::set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SEND_BUFFER)
        .or_else(|_| sys::set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, &SEND_BUFFER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_a_send_call_is_a_reason_or_a_retry() {
        let of = |errno| classify(&io::Error::from_raw_os_error(errno));
        assert_eq!(of(libc::EAGAIN), Failure::Retry(Then::Writable));
        assert_eq!(of(libc::ENOBUFS), Failure::Retry(Then::After(CONGESTED)));
        for (errno, reason) in [
            (libc::ENETUNREACH, SendError::NoRoute),
            (libc::EHOSTUNREACH, SendError::NoRoute),
            (libc::ENETDOWN, SendError::InterfaceDown),
            (libc::ENODEV, SendError::InterfaceDown),
            (libc::ENXIO, SendError::InterfaceDown),
            (libc::EPERM, SendError::Forbidden),
            (libc::EACCES, SendError::Forbidden),
            (libc::EMSGSIZE, SendError::TooBig),
            (libc::EINVAL, SendError::Other),
        ] {
            assert_eq!(of(errno), Failure::Packet(reason), "errno {errno}");
        }
    }

    #[test]
    fn only_a_complete_header_has_a_family() {
        assert_eq!(family(&[]), None);
        assert_eq!(family(&[0x45; 19]), None);
        assert_eq!(family(&[0x45; 20]), Some(Family::V4));
        assert_eq!(family(&[0x60; 39]), None);
        assert_eq!(family(&[0x60; 40]), Some(Family::V6));
    }
}
