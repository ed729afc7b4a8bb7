//! Receiving through raw sockets: ready at once and gone at once.
//!
//! The kernel strips the header of IPv6 packets and tells what was in it beside them; it is put
//! together again here, so that engines see whole packets of both versions. Extension headers and
//! the flow label are lost, which no engine reads in a reply. Fragments come reassembled.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use plumb_wire::icmp::Family;
use plumb_wire::{ipv6, protocol};

use crate::{Capability, Error, filter, sys};

/// A raw socket of one family and protocol, with what it received and nobody took yet.
#[derive(Debug)]
pub(crate) struct RawReceiver {
    socket: OwnedFd,
    protocol: u8,
    inbox: sys::Inbox,
}

/// Bytes that may wait in a socket, as the kernel counts them: some thousand packets.
const RECEIVE_BUFFER: libc::c_int = 4 << 20;

impl RawReceiver {
    /// Opens a socket for what answers probes in `protocol`: ICMP errors and echo replies, or TCP
    /// segments to `first_port` and above.
    pub(crate) fn open(
        family: Family,
        tcp: bool,
        first_port: u16,
        interface: Option<&str>,
    ) -> Result<Self, Error> {
        let (domain, object) = match family {
            Family::V4 => (libc::AF_INET, "a raw IPv4 socket"),
            Family::V6 => (libc::AF_INET6, "a raw IPv6 socket"),
        };
        let (protocol, program) = match (family, tcp) {
            (Family::V4, false) => (protocol::ICMP, filter::ipv4(first_port)),
            (Family::V4, true) => (protocol::TCP, filter::ipv4(first_port)),
            (Family::V6, false) => (protocol::ICMPV6, filter::icmpv6_messages()),
            (Family::V6, true) => (protocol::TCP, filter::tcp_segments(first_port)),
        };
        let socket = sys::socket(domain, libc::SOCK_RAW, protocol.into())
            .map_err(|e| Error::privileged("open", object, Capability::NetRaw, e))?;
        let receiver = Self {
            socket,
            protocol,
            inbox: sys::Inbox::new(),
        };
        let fd = receiver.fd();
        let failed = |e| Error::system("set up", object, e);
        sys::attach_filter(fd, &program).map_err(failed)?;
        sys::set_option(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &1).map_err(failed)?;
        // The first needs CAP_NET_ADMIN, the second is bounded by net.core.rmem_max.
        if sys::set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &RECEIVE_BUFFER).is_err() {
            sys::set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, &RECEIVE_BUFFER)
                .map_err(failed)?;
        }
        if family == Family::V6 {
            for option in [
                libc::IPV6_RECVHOPLIMIT,
                libc::IPV6_RECVPKTINFO,
                libc::IPV6_RECVTCLASS,
            ] {
                sys::set_option(fd, libc::IPPROTO_IPV6, option, &1).map_err(failed)?;
            }
        }
        if let Some(name) = interface {
            sys::bind_to_interface(fd, name)
                .map_err(|e| Error::privileged("bind to", name, Capability::NetRaw, e))?;
        }
        // What came between the opening and the filter is not what was asked for.
        while let Ok(1..) = receiver.discard() {}
        Ok(receiver)
    }

    /// Gives `sink` up to `budget` packets, oldest first, each with the wall time in nanoseconds
    /// at which the kernel received it, if it says. Returns how many.
    pub(crate) fn receive(
        &mut self,
        budget: usize,
        mut sink: impl FnMut(Option<u64>, &[u8]),
    ) -> io::Result<usize> {
        let mut taken = 0;
        while taken < budget {
            let asked = (budget - taken).min(sys::Inbox::CAPACITY);
            let count = match self.inbox.receive(self.socket.as_fd(), asked) {
                Ok(count) => count,
                Err(e) if is_transient(&e) => return Ok(taken),
                Err(e) => return Err(e),
            };
            for index in 0..count {
                let (arrival, bytes) = self.inbox.packet(index);
                match arrival.v6 {
                    None => sink(arrival.wall_ns, &bytes[sys::HEADROOM..]),
                    Some(envelope) => {
                        let payload_len = bytes.len() - sys::HEADROOM;
                        let header = ipv6::Header {
                            traffic_class: envelope.traffic_class,
                            flow_label: 0,
                            payload_len: u16::try_from(payload_len).unwrap_or(u16::MAX),
                            next_header: self.protocol,
                            hop_limit: envelope.hop_limit,
                            src: envelope.source,
                            dst: envelope.destination,
                        };
                        header.emit(&mut bytes[sys::HEADROOM - ipv6::HEADER_LEN..]);
                        sink(arrival.wall_ns, &bytes[sys::HEADROOM - ipv6::HEADER_LEN..]);
                    }
                }
            }
            taken += count;
            if count < asked {
                break;
            }
        }
        Ok(taken)
    }

    /// Packets that found the socket's buffer full, since it was opened.
    pub(crate) fn dropped(&self) -> u64 {
        /// Where the drops stand among the values of SO_MEMINFO.
        const DROPS: usize = 8;
        let counters: io::Result<[u32; 9]> =
            sys::option(self.fd(), libc::SOL_SOCKET, libc::SO_MEMINFO);
        counters.map_or(0, |values| values[DROPS].into())
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn discard(&self) -> io::Result<usize> {
        let mut byte = [0u8; 1];
        let (_, len) = rustix::net::recv(
            &self.socket,
            &mut byte[..],
            rustix::net::RecvFlags::DONTWAIT | rustix::net::RecvFlags::TRUNC,
        )?;
        Ok(len)
    }
}

/// Says whether an error of a receive call concerns neither the socket nor a packet: nothing is
/// there, a signal came, or the interface went down and may come back.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAGAIN | libc::EINTR | libc::ENETDOWN | libc::ENOBUFS | libc::ENOMEM)
    )
}
