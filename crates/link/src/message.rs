//! Datagrams with what the kernel says about them: TTL, TOS, time, and the ICMP errors that they
//! caused (cmsg(3), ip(7), ipv6(7)).

use core::mem;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_int, c_void};
use plumb_wire::icmp::Family;

use crate::sys;

/// A datagram to be sent with a TTL and a TOS byte of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) to: SocketAddr,
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
    pub(crate) payload: &'a [u8],
}

/// What was received.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Incoming {
    /// Bytes at the start of the buffer.
    pub(crate) len: usize,
    /// Where it came from; of an error, where the datagram went that caused it.
    pub(crate) peer: Option<SocketAddr>,
    /// TTL or hop limit of the packet received.
    pub(crate) ttl: Option<u8>,
    /// TOS byte or traffic class of the packet received.
    pub(crate) tos: Option<u8>,
    /// When the kernel received or sent it: nanoseconds since the Unix epoch.
    pub(crate) wall_ns: Option<u64>,
    /// What is in an error queue besides the datagram.
    pub(crate) error: Option<ExtendedError>,
}

/// `struct sock_extended_err` of <linux/errqueue.h>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExtendedError {
    /// Who says it: SO_EE_ORIGIN_*.
    pub(crate) origin: u8,
    /// ICMP type.
    pub(crate) kind: u8,
    /// ICMP code.
    pub(crate) code: u8,
    /// MTU of a packet that was too big, or pointer of a parameter problem.
    pub(crate) info: u32,
    /// `ee_data`: the number of a timestamp.
    pub(crate) data: u32,
    /// Who sent the ICMP error.
    pub(crate) offender: Option<IpAddr>,
}

impl ExtendedError {
    /// Of an ICMP error: where in the datagram its extensions begin, by the length field of the
    /// message (RFC 4884); 0 if it does not say. It shares the place of `data`.
    pub(crate) const fn extensions_at(&self) -> u16 {
        let [first, second, ..] = self.data.to_ne_bytes();
        u16::from_ne_bytes([first, second])
    }
}

/// Sends one datagram.
pub(crate) fn send(fd: BorrowedFd<'_>, datagram: &Outgoing<'_>) -> io::Result<()> {
    let mut control = Control([0; CONTROL_LEN]);
    let (level, ttl, tos) = match datagram.to {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TTL, libc::IP_TOS),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, libc::IPV6_TCLASS),
    };
    let at = put(&mut control.0, 0, level, ttl, c_int::from(datagram.ttl));
    let control_len = put(&mut control.0, at, level, tos, c_int::from(datagram.tos));
    let mut name = Name([0; NAME_LEN]);
    let name_len = write_name(&mut name.0, datagram.to);
    let mut vector = libc::iovec {
        iov_base: datagram.payload.as_ptr().cast_mut().cast::<c_void>(),
        iov_len: datagram.payload.len(),
    };
    // SAFETY: all-zero is a valid `msghdr`: null pointers with zero lengths.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_name = name.0.as_mut_ptr().cast::<c_void>();
    header.msg_namelen = name_len;
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast::<c_void>();
    header.msg_controllen = control_len;
    // SAFETY: the header points to a name, a vector, a payload and control messages that live
    // through the call; the kernel only reads them.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Takes the next datagram, or with MSG_ERRQUEUE in `flags` the next error, into `buffer`.
pub(crate) fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8], flags: c_int) -> io::Result<Incoming> {
    let mut control = Control([0; CONTROL_LEN]);
    let mut name = Name([0; NAME_LEN]);
    let mut vector = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast::<c_void>(),
        iov_len: buffer.len(),
    };
    // SAFETY: all-zero is a valid `msghdr`: null pointers with zero lengths.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_name = name.0.as_mut_ptr().cast::<c_void>();
    header.msg_namelen = sys::socklen::<Name>();
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast::<c_void>();
    header.msg_controllen = CONTROL_LEN;
    // SAFETY: the header points to room for a name, a datagram and control messages, each with
    // its size, that live through the call.
    let len = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, flags | libc::MSG_DONTWAIT) };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    let name_len = usize::try_from(header.msg_namelen).unwrap_or(0);
    let control_len = header.msg_controllen;
    let mut incoming = Incoming {
        len,
        peer: read_name(name.0.get(..name_len).unwrap_or(&[])),
        ..Incoming::default()
    };
    let messages = control.0.get(..control_len).unwrap_or(&[]);
    for (level, kind, data) in control_messages(messages) {
        incoming.note(level, kind, data);
    }
    Ok(incoming)
}

impl Incoming {
    fn note(&mut self, level: c_int, kind: c_int, data: &[u8]) {
        let number = read_int(data, 0).and_then(|n| u8::try_from(n).ok());
        match (level, kind) {
            (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                self.ttl = number;
            }
            // One byte, unlike what is sent.
            (libc::IPPROTO_IP, libc::IP_TOS) => self.tos = data.first().copied(),
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => self.tos = number,
            // Of the three times of the second, the first is the software's.
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS | libc::SCM_TIMESTAMPING) => {
                self.wall_ns = read_time(data);
            }
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => {
                self.error = read_error(data);
            }
            _ => {}
        }
    }
}

/// Bytes for control messages: those that are asked for take some 200.
const CONTROL_LEN: usize = 512;

/// Control messages, aligned as the kernel's `struct cmsghdr`.
#[repr(align(8))]
struct Control([u8; CONTROL_LEN]);

/// Bytes of the longest socket address, `struct sockaddr_in6`.
const NAME_LEN: usize = size_of::<libc::sockaddr_in6>();

/// A socket address of either family.
#[repr(align(4))]
struct Name([u8; NAME_LEN]);

/// Bytes of a control message before its data: length, level, type.
const CONTROL_HEADER: usize = size_of::<usize>() + 8;

/// Writes a control message with one number at `at` and returns where the next goes.
fn put(into: &mut [u8], at: usize, level: c_int, kind: c_int, value: c_int) -> usize {
    let len = CONTROL_HEADER + size_of::<c_int>();
    let end = at + len.next_multiple_of(size_of::<usize>());
    let bytes = &mut into[at..end];
    let (size, rest) = bytes.split_at_mut(size_of::<usize>());
    size.copy_from_slice(&len.to_ne_bytes());
    rest[..4].copy_from_slice(&level.to_ne_bytes());
    rest[4..8].copy_from_slice(&kind.to_ne_bytes());
    rest[8..12].copy_from_slice(&value.to_ne_bytes());
    end
}

/// Level, type and data of each control message.
fn control_messages(mut bytes: &[u8]) -> impl Iterator<Item = (c_int, c_int, &[u8])> {
    core::iter::from_fn(move || {
        let size = bytes.first_chunk::<{ size_of::<usize>() }>()?;
        let len = usize::from_ne_bytes(*size);
        let message = bytes.get(..len).filter(|m| m.len() >= CONTROL_HEADER)?;
        bytes = bytes
            .get(len.next_multiple_of(size_of::<usize>())..)
            .unwrap_or(&[]);
        let level = read_int(message, size_of::<usize>())?;
        let kind = read_int(message, size_of::<usize>() + 4)?;
        Some((level, kind, &message[CONTROL_HEADER..]))
    })
}

fn read_int(bytes: &[u8], at: usize) -> Option<c_int> {
    let word = bytes.get(at..)?.first_chunk()?;
    Some(c_int::from_ne_bytes(*word))
}

/// The first `struct timespec`, which is two words.
fn read_time(bytes: &[u8]) -> Option<u64> {
    const WORD: usize = size_of::<libc::c_long>();
    let word = |at: usize| {
        let word = bytes.get(at..)?.first_chunk::<WORD>()?;
        u64::try_from(libc::c_long::from_ne_bytes(*word)).ok()
    };
    word(0)?
        .checked_mul(1_000_000_000)?
        .checked_add(word(WORD)?)
}

/// `struct sock_extended_err` and the address behind it.
fn read_error(bytes: &[u8]) -> Option<ExtendedError> {
    let (fixed, offender) = bytes.split_at_checked(16)?;
    let word = |at: usize| read_int(fixed, at).map(c_int::cast_unsigned);
    Some(ExtendedError {
        origin: fixed[4],
        kind: fixed[5],
        code: fixed[6],
        info: word(8)?,
        data: word(12)?,
        offender: read_name(offender).map(|name| name.ip()),
    })
}

/// Reads a socket address; `None` if it is of neither family.
fn read_name(bytes: &[u8]) -> Option<SocketAddr> {
    let family = c_int::from(u16::from_ne_bytes(*bytes.first_chunk()?));
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    match family {
        libc::AF_INET => {
            let octets: [u8; 4] = *bytes.get(4..)?.first_chunk()?;
            let address = SocketAddrV4::new(Ipv4Addr::from(octets), port);
            Some(address.into())
        }
        libc::AF_INET6 => {
            let octets: [u8; 16] = *bytes.get(8..)?.first_chunk()?;
            let scope = read_int(bytes, 24)?.cast_unsigned();
            let address = SocketAddrV6::new(Ipv6Addr::from(octets), port, 0, scope);
            Some(address.into())
        }
        _ => None,
    }
}

/// Writes a socket address and returns its length.
fn write_name(into: &mut [u8; NAME_LEN], address: SocketAddr) -> libc::socklen_t {
    let family = match address {
        SocketAddr::V4(_) => libc::AF_INET,
        SocketAddr::V6(_) => libc::AF_INET6,
    };
    let family = u16::try_from(family).unwrap_or(0);
    into[..2].copy_from_slice(&family.to_ne_bytes());
    into[2..4].copy_from_slice(&address.port().to_be_bytes());
    match address {
        SocketAddr::V4(v4) => {
            into[4..8].copy_from_slice(&v4.ip().octets());
            sys::socklen::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            into[8..24].copy_from_slice(&v6.ip().octets());
            into[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
            sys::socklen::<libc::sockaddr_in6>()
        }
    }
}

/// Asks the kernel to say what [`Incoming`] holds, and to queue ICMP errors instead of dropping
/// them (`IP_RECVERR`), with their extensions found (`IP_RECVERR_RFC4884`, Linux 5.9; older kernels
/// go without). Packets are sent with "don't fragment", whatever path MTU the kernel believes in.
pub(crate) fn ask_for_details(fd: BorrowedFd<'_>, family: Family) -> io::Result<()> {
    const IP_RECVERR_RFC4884: c_int = 26;
    const IPV6_RECVERR_RFC4884: c_int = 31;
    let on = |level, name| sys::set_option(fd, level, name, &1);
    match family {
        Family::V4 => {
            let probe = libc::IP_PMTUDISC_PROBE;
            sys::set_option(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, &probe)?;
            on(libc::IPPROTO_IP, libc::IP_RECVERR)?;
            on(libc::IPPROTO_IP, libc::IP_RECVTTL)?;
            on(libc::IPPROTO_IP, libc::IP_RECVTOS)?;
            let _ = on(libc::IPPROTO_IP, IP_RECVERR_RFC4884);
        }
        Family::V6 => {
            let probe = libc::IPV6_PMTUDISC_PROBE;
            sys::set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, &probe)?;
            on(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY)?;
            on(libc::IPPROTO_IPV6, libc::IPV6_RECVERR)?;
            on(libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT)?;
            on(libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS)?;
            let _ = on(libc::IPPROTO_IPV6, IPV6_RECVERR_RFC4884);
        }
    }
    on(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_control_messages_and_names_read_back() {
        let mut bytes = [0; 64];
        let at = put(&mut bytes, 0, 7, 8, -9);
        let end = put(&mut bytes, at, 1, 2, 3);
        let read: Vec<_> = control_messages(&bytes[..end])
            .map(|(level, kind, data)| (level, kind, read_int(data, 0)))
            .collect();
        assert_eq!(read, [(7, 8, Some(-9)), (1, 2, Some(3))]);
        for address in ["192.0.2.1:80", "[2001:db8::1%3]:443"] {
            let address: SocketAddr = address.parse().unwrap();
            let mut name = [0; NAME_LEN];
            let len = usize::try_from(write_name(&mut name, address)).unwrap();
            assert_eq!(read_name(&name[..len]), Some(address));
        }
    }

    #[test]
    fn control_messages_of_impossible_length_end_the_list() {
        let mut bytes = [0; 32];
        put(&mut bytes, 0, 7, 8, 9);
        for len in [0, 1, 15, 33, usize::MAX] {
            bytes[..8].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(control_messages(&bytes).count(), 0, "{len}");
        }
        for len in 0..bytes.len() {
            let _ = control_messages(&bytes[..len]).count();
            let _ = read_error(&bytes[..len]);
            let _ = read_name(&bytes[..len]);
            let _ = read_time(&bytes[..len]);
        }
    }
}
