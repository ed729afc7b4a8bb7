//! The system calls that no safe wrapper covers, each behind a safe function.

use core::mem::{self, MaybeUninit};
use core::net::{Ipv4Addr, Ipv6Addr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use libc::{c_int, c_void, socklen_t};
use rustix::thread::Pid;

pub(crate) use interface::{
    interface_index, interface_is_up, interface_mtu, tun_set_iff, tun_set_offload,
};

mod interface;

/// Opens a socket that is not inherited by programs and never blocks.
pub(crate) fn socket(domain: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are involved.
    let fd = unsafe {
        libc::socket(
            domain,
            kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            protocol,
        )
    };
    check(fd)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Types that the kernel reads or writes byte by byte: no padding, no pointers that outlive the
/// call, and every bit pattern is a value.
///
/// # Safety
/// The implementor must be such a type.
pub(crate) unsafe trait Plain {}
// SAFETY: integers have no padding and no invalid values.
unsafe impl Plain for c_int {}
// SAFETY: as above.
unsafe impl Plain for [c_int; 4] {}
// SAFETY: as above.
unsafe impl Plain for u8 {}
// SAFETY: four 32-bit integers.
unsafe impl Plain for libc::tpacket_req {}
// SAFETY: two 32-bit integers.
unsafe impl Plain for libc::tpacket_stats {}
// SAFETY: integers only.
unsafe impl Plain for [u32; 9] {}

/// Sets a socket option.
pub(crate) fn set_option<T: Plain>(
    fd: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: &T,
) -> io::Result<()> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes from a live reference, and keeps no pointer.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            core::ptr::from_ref(value).cast::<c_void>(),
            socklen::<T>(),
        )
    })
}

/// Reads a socket option of fixed size.
pub(crate) fn option<T: Plain>(fd: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut len = socklen::<T>();
    // SAFETY: the kernel writes at most `len` bytes into `value`, which has as many.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast::<c_void>(),
            &raw mut len,
        )
    })?;
    // SAFETY: `T` is `Plain`, so zeroed bytes with a written prefix are a value.
    Ok(unsafe { value.assume_init() })
}

/// Attaches a classic BPF program to a socket.
pub(crate) fn attach_filter(fd: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: `program` points to `len` instructions that live through the call; the kernel copies
    // and verifies them, and writes nothing.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast::<c_void>(),
            socklen::<libc::sock_fprog>(),
        )
    })
}

/// Ties a socket to a network interface.
pub(crate) fn bind_to_interface(fd: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let len = socklen_t::try_from(name.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the kernel reads `len` bytes of a live string and keeps no pointer.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            name.as_ptr().cast::<c_void>(),
            len,
        )
    })
}

/// Binds a packet socket to a protocol (EtherType) and an interface index, 0 for all.
pub(crate) fn bind_packet(fd: BorrowedFd<'_>, ethertype: u16, interface: u32) -> io::Result<()> {
    let address = link_layer(ethertype, interface);
    // SAFETY: the kernel reads one `sockaddr_ll` from a live reference.
    check(unsafe {
        libc::bind(
            fd.as_raw_fd(),
            (&raw const address).cast::<libc::sockaddr>(),
            socklen::<libc::sockaddr_ll>(),
        )
    })
}

/// Where a datagram goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Address {
    /// An IPv4 host.
    V4(Ipv4Addr),
    /// An IPv6 host, with the interface for a link-local address, else 0.
    V6(Ipv6Addr, u32),
    /// A neighbour: EtherType, interface, Ethernet address.
    Link(u16, u32, [u8; 6]),
}

/// Most datagrams of one [`send_many`].
pub(crate) const SEND_MANY: usize = crate::Batch::CAPACITY;

/// Sends datagrams with one call and returns how many the kernel took, which is at least one.
/// The error is that of the first, if it did not take that. More than [`SEND_MANY`] are left out.
pub(crate) fn send_many<'a>(
    fd: BorrowedFd<'_>,
    datagrams: impl Iterator<Item = (Address, &'a [u8])>,
) -> io::Result<usize> {
    let mut names = [const { MaybeUninit::<libc::sockaddr_in6>::uninit() }; SEND_MANY];
    let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; SEND_MANY];
    let mut messages = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; SEND_MANY];
    let mut count = 0;
    for (((name, vector), message), (to, payload)) in names
        .iter_mut()
        .zip(&mut vectors)
        .zip(&mut messages)
        .zip(datagrams)
    {
        let name_len = write_address(name, to);
        let vector = vector.write(libc::iovec {
            iov_base: payload.as_ptr().cast_mut().cast::<c_void>(),
            iov_len: payload.len(),
        });
        // SAFETY: all-zero is a valid `mmsghdr`: null pointers with zero lengths.
        let header = message.write(unsafe { mem::zeroed() });
        header.msg_hdr.msg_name = name.as_mut_ptr().cast::<c_void>();
        header.msg_hdr.msg_namelen = name_len;
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    // SAFETY: the first `count` messages were written above; each points to a name, a vector and a
    // payload that live until the end of this function. The kernel writes only `msg_len`.
    let sent = unsafe {
        libc::sendmmsg(
            fd.as_raw_fd(),
            messages.as_mut_ptr().cast::<libc::mmsghdr>(),
            count,
            libc::MSG_DONTWAIT,
        )
    };
    check(sent)?;
    usize::try_from(sent).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Room before each received packet, enough for the header of an IPv6 packet.
pub(crate) const HEADROOM: usize = 40;

/// What the kernel tells of a datagram beside its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// Wall time of its reception, in nanoseconds since the Unix epoch.
    pub(crate) wall_ns: Option<u64>,
    /// Its IPv6 header, where the kernel took that away.
    pub(crate) v6: Option<Envelope>,
    len: usize,
}

/// The fields of an IPv6 header that the kernel tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Envelope {
    pub(crate) source: Ipv6Addr,
    pub(crate) destination: Ipv6Addr,
    pub(crate) hop_limit: u8,
    pub(crate) traffic_class: u8,
}

/// Memory for the datagrams of one call.
#[derive(Debug)]
pub(crate) struct Inbox {
    slots: Vec<[u8; Self::SLOT_LEN]>,
    arrivals: Vec<Arrival>,
}

impl Inbox {
    /// Most datagrams of one call.
    pub(crate) const CAPACITY: usize = 32;
    const SLOT_LEN: usize = HEADROOM + 2008;
    /// Room for the control messages of a datagram, aligned as they are.
    const CONTROL_WORDS: usize = 24;

    pub(crate) fn new() -> Self {
        Self {
            slots: vec![[0; Self::SLOT_LEN]; Self::CAPACITY],
            arrivals: Vec::with_capacity(Self::CAPACITY),
        }
    }

    /// Takes up to `most` waiting datagrams from a socket in place of those that were there.
    pub(crate) fn receive(&mut self, fd: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        let mut names = [const { MaybeUninit::<libc::sockaddr_in6>::zeroed() }; Self::CAPACITY];
        let mut controls = [[0u64; Self::CONTROL_WORDS]; Self::CAPACITY];
        let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; Self::CAPACITY];
        let mut messages = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; Self::CAPACITY];
        self.arrivals.clear();
        let room = self.slots.iter_mut().zip(&mut names).zip(&mut controls);
        for (((slot, name), control), (vector, message)) in
            room.zip(vectors.iter_mut().zip(&mut messages))
        {
            let vector = vector.write(libc::iovec {
                iov_base: slot[HEADROOM..].as_mut_ptr().cast::<c_void>(),
                iov_len: Self::SLOT_LEN - HEADROOM,
            });
            // SAFETY: all-zero is a valid `mmsghdr`: null pointers with zero lengths.
            let header = message.write(unsafe { mem::zeroed() });
            header.msg_hdr.msg_name = name.as_mut_ptr().cast::<c_void>();
            header.msg_hdr.msg_namelen = socklen::<libc::sockaddr_in6>();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.as_mut_ptr().cast::<c_void>();
            header.msg_hdr.msg_controllen = size_of_val(control);
        }
        let most = libc::c_uint::try_from(most.min(Self::CAPACITY)).unwrap_or(0);
        // SAFETY: all `CAPACITY` messages were written above, and `most` is no greater; names,
        // vectors, controls and slots live until the end of this function, and each length is
        // that of what its pointer points to.
        let count = unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                messages.as_mut_ptr().cast::<libc::mmsghdr>(),
                most,
                libc::MSG_DONTWAIT,
                core::ptr::null_mut(),
            )
        };
        check(count)?;
        let count = usize::try_from(count).unwrap_or(0);
        for (message, name) in messages.iter().zip(&names).take(count) {
            // SAFETY: every message was written before the call.
            let message = unsafe { message.assume_init_ref() };
            // SAFETY: zeroed before the call, so that it is a value whatever the kernel wrote.
            let name = unsafe { name.assume_init_ref() };
            // SAFETY: the kernel wrote the control messages that this header describes.
            self.arrivals.push(unsafe { arrival(message, name) });
        }
        Ok(count)
    }

    /// The `index`-th datagram of the last call, after [`HEADROOM`] bytes of room.
    pub(crate) fn packet(&mut self, index: usize) -> (Arrival, &mut [u8]) {
        let arrival = self.arrivals[index];
        let len = HEADROOM + arrival.len.min(Self::SLOT_LEN - HEADROOM);
        (arrival, &mut self.slots[index][..len])
    }
}

/// Reads the control messages of a received datagram.
///
/// # Safety
/// `message` must be as the kernel left it, with its control buffer alive.
unsafe fn arrival(message: &libc::mmsghdr, name: &libc::sockaddr_in6) -> Arrival {
    let mut wall_ns = None;
    let (mut hop_limit, mut traffic_class, mut destination) = (None, 0, None);
    // SAFETY: the caller vouches for the header.
    let mut control = unsafe { libc::CMSG_FIRSTHDR(&raw const message.msg_hdr) };
    while !control.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return headers within the control buffer, or null.
        let header = unsafe { &*control };
        // SAFETY: as above.
        let data = unsafe { libc::CMSG_DATA(control) };
        match (header.cmsg_level, header.cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                // SAFETY: this message holds a `timespec`.
                let time = unsafe { data.cast::<libc::timespec>().read_unaligned() };
                let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
                let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
                wall_ns = Some(seconds * 1_000_000_000 + nanos);
            }
            (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                // SAFETY: this message holds an `int`.
                let value = unsafe { data.cast::<c_int>().read_unaligned() };
                hop_limit = u8::try_from(value).ok();
            }
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                // SAFETY: this message holds an `int`.
                let value = unsafe { data.cast::<c_int>().read_unaligned() };
                traffic_class = u8::try_from(value).unwrap_or(0);
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                // SAFETY: this message holds an `in6_pktinfo`.
                let value = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
                destination = Some(Ipv6Addr::from(value.ipi6_addr.s6_addr));
            }
            _ => {}
        }
        // SAFETY: `control` is a header of this message.
        control = unsafe { libc::CMSG_NXTHDR(&raw const message.msg_hdr, control) };
    }
    Arrival {
        wall_ns,
        v6: hop_limit
            .zip(destination)
            .map(|(hop_limit, destination)| Envelope {
                source: Ipv6Addr::from(name.sin6_addr.s6_addr),
                destination,
                hop_limit,
                traffic_class,
            }),
        len: usize::try_from(message.msg_len).unwrap_or(0),
    }
}

/// Opens a packet socket on an interface that receives what comes in over it, whoever it is for,
/// and not what this machine sends; with a virtio-net header before each frame, both ways.
pub(crate) fn packet_socket(interface: u32) -> io::Result<OwnedFd> {
    const PACKET_IGNORE_OUTGOING: c_int = 23;
    const ETH_P_ALL: u16 = 3;
    const ONE: c_int = 1;
    // Nothing is received before the socket is bound.
    let socket = socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
    let fd = socket.as_fd();
    set_option(fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &ONE)?;
    set_option(fd, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &ONE)?;
    // `struct packet_mreq`: interface, type and length of an address, address.
    let promiscuous = [interface.cast_signed(), libc::PACKET_MR_PROMISC, 0, 0];
    set_option(
        fd,
        libc::SOL_PACKET,
        libc::PACKET_ADD_MEMBERSHIP,
        &promiscuous,
    )?;
    // What the kernel may keep while nobody reads.
    let _ = set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, &(4 << 20));
    bind_packet(fd, ETH_P_ALL, interface)?;
    Ok(socket)
}

/// Reads a frame of up to `most` bytes, and the header before it, with one call. The frame takes the
/// place of what was in `frame`.
pub(crate) fn read_frame(
    fd: BorrowedFd<'_>,
    header: &mut [u8],
    frame: &mut Vec<u8>,
    most: usize,
) -> io::Result<()> {
    frame.clear();
    frame.reserve(most);
    let vectors = [
        libc::iovec {
            iov_base: header.as_mut_ptr().cast::<c_void>(),
            iov_len: header.len(),
        },
        libc::iovec {
            iov_base: frame.as_mut_ptr().cast::<c_void>(),
            iov_len: most,
        },
    ];
    // SAFETY: the kernel writes into a live slice and into room that was reserved above, and not
    // behind their ends.
    let len = unsafe { libc::readv(fd.as_raw_fd(), vectors.as_ptr(), 2) };
    let Ok(len) = usize::try_from(len) else {
        return Err(io::Error::last_os_error());
    };
    // SAFETY: so many bytes were written behind the header, and they are `most` at most.
    unsafe { frame.set_len(len.saturating_sub(header.len()).min(most)) };
    Ok(())
}

/// Blocks signals in this thread, and returns what becomes readable when one of them waits.
pub(crate) fn signals(wanted: &[c_int]) -> io::Result<OwnedFd> {
    let set = signal_set(wanted)?;
    change_mask(libc::SIG_BLOCK, &set)?;
    // SAFETY: reads the set and makes a descriptor.
    let fd = unsafe { libc::signalfd(-1, &raw const set, SIGNALFD_FLAGS) };
    check(fd)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets programs that `command` becomes receive signals that are blocked here.
pub(crate) fn unblock_in(command: &mut Command, signals: &[c_int]) -> io::Result<()> {
    let set = signal_set(signals)?;
    before_exec(command, move || change_mask(libc::SIG_UNBLOCK, &set));
    Ok(())
}

/// Has the child that is to become `command` do this before. It must make system calls only, and
/// allocate nothing.
pub(crate) fn before_exec(
    command: &mut Command,
    act: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    // SAFETY: the callers, all in this crate, allocate nothing and take no lock.
    unsafe { command.pre_exec(act) };
}

/// The number of the next signal that waits in a descriptor made by [`signals`].
pub(crate) fn next_signal(fd: BorrowedFd<'_>) -> Option<c_int> {
    let mut record = [0; size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(fd, &mut record[..]) {
        // The number is the first field.
        Ok(4..) => c_int::try_from(u32::from_ne_bytes(*record.first_chunk()?)).ok(),
        _ => None,
    }
}

/// Turns the -1 of a failed call into the error that `errno` holds.
/// Gives a thread a policy that has no priorities.
pub(crate) fn set_scheduler(thread: Pid, policy: c_int) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // Not the function of this name: musl's does nothing but fail.
    // SAFETY: the kernel reads the parameters from a live reference, and keeps no pointer.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_setscheduler,
            thread.as_raw_nonzero().get(),
            policy,
            core::ptr::from_ref(&parameters),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

pub(crate) fn check(result: c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "types given to the kernel are small"
)]
pub(crate) const fn socklen<T>() -> socklen_t {
    size_of::<T>() as socklen_t
}

const fn link_layer(ethertype: u16, interface: u32) -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: AF_PACKET,
        sll_protocol: ethertype.to_be(),
        sll_ifindex: interface.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}

const SIGNALFD_FLAGS: c_int = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;

pub(crate) fn signal_set(signals: &[c_int]) -> io::Result<libc::sigset_t> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: writes an empty set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in signals {
        // SAFETY: the set was initialized above; a number that is no signal is refused.
        check(unsafe { libc::sigaddset(set.as_mut_ptr(), *signal) })?;
    }
    // SAFETY: initialized above.
    Ok(unsafe { set.assume_init() })
}

fn change_mask(how: c_int, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: reads the set, and writes no old one.
    match unsafe { libc::pthread_sigmask(how, set, core::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

const AF_PACKET: libc::c_ushort = 17;
const AF_INET: libc::sa_family_t = 2;
const AF_INET6: libc::sa_family_t = 10;

/// Writes a socket address into room for the larger kind, and returns its length.
fn write_address(name: &mut MaybeUninit<libc::sockaddr_in6>, to: Address) -> socklen_t {
    match to {
        Address::V4(address) => {
            let v4 = libc::sockaddr_in {
                sin_family: AF_INET,
                sin_port: 0,
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(address.octets()),
                },
                sin_zero: [0; 8],
            };
            // SAFETY: `sockaddr_in6` is larger than `sockaddr_in` and at least as aligned.
            unsafe { name.as_mut_ptr().cast::<libc::sockaddr_in>().write(v4) };
            socklen::<libc::sockaddr_in>()
        }
        Address::Link(ethertype, interface, mac) => {
            let mut link = link_layer(ethertype, interface);
            link.sll_halen = 6;
            link.sll_addr[..6].copy_from_slice(&mac);
            // SAFETY: `sockaddr_in6` is larger than `sockaddr_ll` and at least as aligned.
            unsafe { name.as_mut_ptr().cast::<libc::sockaddr_ll>().write(link) };
            socklen::<libc::sockaddr_ll>()
        }
        Address::V6(address, scope) => {
            name.write(libc::sockaddr_in6 {
                sin6_family: AF_INET6,
                sin6_port: 0,
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr {
                    s6_addr: address.octets(),
                },
                sin6_scope_id: scope,
            });
            socklen::<libc::sockaddr_in6>()
        }
    }
}
