//! What is asked and said of network interfaces by their names, TAP devices included.

use core::mem;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use libc::c_int;

use super::{check, socket};

/// The index of a network interface, `None` if there is none of this name.
pub(crate) fn interface_index(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: `name` is a live string with a terminating zero.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => None,
        index => Some(index),
    }
}

/// Says whether an interface exists and is administratively up.
pub(crate) fn interface_is_up(name: &str) -> bool {
    let Ok(socket) = socket(libc::AF_INET, libc::SOCK_DGRAM, 0) else {
        return false;
    };
    let Some(answer) = ask_interface(socket.as_fd(), name, libc::SIOCGIFFLAGS) else {
        return false;
    };
    // SAFETY: the kernel has written the flags.
    let flags = unsafe { answer.ifr_ifru.ifru_flags };
    c_int::from(flags) & libc::IFF_UP != 0
}

/// The MTU of an interface, in bytes; none if there is none of this name. `fd` is any socket.
pub(crate) fn interface_mtu(fd: BorrowedFd<'_>, name: &str) -> Option<usize> {
    let answer = ask_interface(fd, name, libc::SIOCGIFMTU)?;
    // SAFETY: the kernel has written the MTU.
    usize::try_from(unsafe { answer.ifr_ifru.ifru_mtu }).ok()
}

/// What the kernel says of an interface; `question` is one of the SIOCGIF* that take no argument.
fn ask_interface(fd: BorrowedFd<'_>, name: &str, question: libc::Ioctl) -> Option<libc::ifreq> {
    let mut request = interface_request(name).ok()?;
    // SAFETY: such a question reads and writes one `ifreq`, which lives through the call.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), question, &raw mut request) };
    (result == 0).then_some(request)
}

/// Turns a device descriptor of /dev/net/tun into the device `name` (an empty name lets the kernel
/// choose) and returns the name it has.
pub(crate) fn tun_set_iff(fd: BorrowedFd<'_>, name: &str, flags: c_int) -> io::Result<String> {
    let mut request = interface_request(name)?;
    request.ifr_ifru.ifru_flags =
        libc::c_short::try_from(flags).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which lives through the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    let name = request.ifr_name.iter().take_while(|c| **c != 0);
    let name: Vec<u8> = name.map(|c| c.cast_unsigned()).collect();
    String::from_utf8(name).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Says what may be left to do with the frames that a TAP device gives: checksums, segmentation of
/// TCP, and of UDP too if `udp`.
pub(crate) fn tun_set_offload(fd: BorrowedFd<'_>, udp: bool) -> io::Result<()> {
    // <linux/if_tun.h>: TUN_F_CSUM, TSO4, TSO6, TSO_ECN; USO4, USO6.
    let features: libc::c_ulong = if udp { 0x6f } else { 0x0f };
    // SAFETY: the argument is a number.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETOFFLOAD, features) })
}

/// A request about the interface `name`, all else zero.
fn interface_request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all-zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    Ok(request)
}
