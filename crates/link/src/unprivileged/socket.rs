//! The socket of one flow.

use core::net::{IpAddr, SocketAddr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use plumb_wire::icmp::Family;
use plumb_wire::{Instant, ipv4, ipv6, protocol, udp};

use super::rebuild::{self, Complaint, Outer, Quoted, TRANSPORT_HEADER_LEN};
use super::sent::Recent;
use crate::message::{self, Incoming};
use crate::{Error, sys};

/// Kind of probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Icmp,
    Udp,
}

/// What all probes of a socket have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flow {
    pub(super) kind: Kind,
    /// ICMP identifier or source port.
    pub(super) number: u16,
    pub(super) src: IpAddr,
}

/// An ICMP or UDP socket bound to a flow's source address and number.
#[derive(Debug)]
pub(super) struct Socket {
    socket: OwnedFd,
    /// The identifier or port that it got: the flow's, or another if that is taken.
    pub(super) ident: u16,
    /// UDP probes that may be answered.
    pub(super) sent: Recent,
}

impl Socket {
    pub(super) fn open(flow: Flow, interface: Option<&str>) -> io::Result<Self> {
        let family = Family::of(flow.src);
        let socket = open(family, flow.kind)?;
        if let Some(name) = interface {
            sys::bind_to_interface(socket.as_fd(), name)?;
        }
        message::ask_for_details(socket.as_fd(), family)?;
        // ICMP sockets share identifiers by default, and the first of them gets all replies.
        sys::set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, &0)?;
        let bind = |port| rustix::net::bind(&socket, &SocketAddr::new(flow.src, port));
        match bind(flow.number) {
            Err(rustix::io::Errno::ADDRINUSE) => bind(0)?,
            other => other?,
        }
        let name = rustix::net::getsockname(&socket)?;
        let name = SocketAddr::try_from(name).map_err(|_| io::ErrorKind::InvalidData)?;
        Ok(Self {
            socket,
            ident: name.port(),
            sent: Recent::default(),
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Datagrams that found the socket's buffer full.
    pub(super) fn dropped(&self) -> u64 {
        const SO_MEMINFO: libc::c_int = 55;
        const DROPS: usize = 8;
        let info = sys::option::<[u32; 9]>(self.fd(), libc::SOL_SOCKET, SO_MEMINFO);
        info.map_or(0, |info| u64::from(info[DROPS]))
    }

    /// Writes the packet that was received into `into` and returns its length; `None` if it
    /// answers no probe.
    pub(super) fn rebuild(
        &mut self,
        flow: Flow,
        incoming: &Incoming,
        bytes: &[u8],
        at: Instant,
        into: &mut [u8],
    ) -> Option<usize> {
        let peer = incoming.peer?;
        let outer = |src| Outer {
            src,
            dst: flow.src,
            ttl: incoming.ttl.unwrap_or(0),
            tos: incoming.tos.unwrap_or(0),
        };
        let Some(error) = incoming.error else {
            return match flow.kind {
                Kind::Icmp => rebuild::echo_reply(into, outer(peer.ip()), flow.number, bytes),
                // The target's service answers; probes are answered by ICMP errors.
                Kind::Udp => None,
            };
        };
        let from_icmp = [libc::SO_EE_ORIGIN_ICMP, libc::SO_EE_ORIGIN_ICMP6];
        if !from_icmp.contains(&error.origin) {
            return None;
        }
        let outer = outer(error.offender?);
        if outer.src.is_ipv4() != flow.src.is_ipv4() || peer.is_ipv4() != flow.src.is_ipv4() {
            return None;
        }
        let quoted = self.quoted(flow, peer, bytes, at)?;
        // Where in the quote the transport header ends, and where the delivered bytes begin.
        let header_end = ip_header_len(Family::of(flow.src)) + TRANSPORT_HEADER_LEN;
        let delivered_at = header_end - (bytes.len() - quoted.payload.len());
        let complaint = Complaint {
            kind: error.kind,
            code: error.code,
            info: error.info,
            quote_len: match usize::from(error.extensions_at()) {
                0 => {
                    let found = rebuild::find_extensions(Family::of(flow.src), quoted.payload);
                    found.map_or(0, |at| header_end + at)
                }
                extensions_at => delivered_at + extensions_at,
            },
        };
        rebuild::error(into, outer, complaint, &quoted)
    }

    /// The probe that an ICMP error quotes, of which `bytes` were delivered.
    fn quoted<'a>(
        &mut self,
        flow: Flow,
        peer: SocketAddr,
        bytes: &'a [u8],
        at: Instant,
    ) -> Option<Quoted<'a>> {
        let family = Family::of(flow.src);
        let ip_len = ip_header_len(family);
        let (protocol, header, payload, len) = match flow.kind {
            Kind::Icmp => {
                let (header, payload) = bytes.split_first_chunk()?;
                let mut header: [u8; TRANSPORT_HEADER_LEN] = *header;
                header[4..6].copy_from_slice(&flow.number.to_be_bytes());
                let protocol = match family {
                    Family::V4 => protocol::ICMP,
                    Family::V6 => protocol::ICMPV6,
                };
                (protocol, header, payload, bytes.len())
            }
            Kind::Udp => {
                let probe = self.sent.find(peer, bytes, at);
                let len = probe.map_or(0, |p| p.len);
                let mut header = [0; TRANSPORT_HEADER_LEN];
                // No probe has checksum 0: an error that names none is counted as such.
                udp::Header {
                    src_port: flow.number,
                    dst_port: peer.port(),
                    len,
                    checksum: probe.map_or(0, |p| p.name),
                }
                .emit(&mut header);
                (protocol::UDP, header, bytes, usize::from(len))
            }
        };
        Some(Quoted {
            dst: peer.ip(),
            len: ip_len + len,
            protocol,
            header,
            payload,
        })
    }
}

const fn ip_header_len(family: Family) -> usize {
    match family {
        Family::V4 => ipv4::HEADER_LEN,
        Family::V6 => ipv6::HEADER_LEN,
    }
}

fn open(family: Family, kind: Kind) -> io::Result<OwnedFd> {
    let (domain, protocol) = match (family, kind) {
        (Family::V4, Kind::Icmp) => (libc::AF_INET, libc::IPPROTO_ICMP),
        (Family::V6, Kind::Icmp) => (libc::AF_INET6, libc::IPPROTO_ICMPV6),
        (Family::V4, Kind::Udp) => (libc::AF_INET, libc::IPPROTO_UDP),
        (Family::V6, Kind::Udp) => (libc::AF_INET6, libc::IPPROTO_UDP),
    };
    sys::socket(domain, libc::SOCK_DGRAM, protocol)
}

/// Tries whether this process may have ICMP sockets of `family`.
pub(super) fn try_icmp(family: Family) -> Result<(), Error> {
    match open(family, Kind::Icmp) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(Error::PingGroup),
        Err(e) => Err(Error::system("open", "an ICMP socket", e)),
    }
}
