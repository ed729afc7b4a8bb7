//! Being told when interfaces, routes or neighbours change (rtnetlink(7)).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, bind, recv};

use crate::{Error, sys};

/// RTMGRP_LINK.
const LINKS: u32 = 1;
/// RTMGRP_NEIGH.
const NEIGHBOURS: u32 = 4;
/// RTMGRP_IPV4_ROUTE and RTMGRP_IPV6_ROUTE.
const ROUTES: u32 = 0x40 | 0x400;

/// A subscription to changes of the network namespace that it was made in.
#[derive(Debug)]
pub struct Watch {
    socket: OwnedFd,
}

/// What has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Interfaces came, went, or are different.
    pub interfaces: bool,
    /// Routes or neighbours did.
    pub paths: bool,
}

impl Watch {
    /// Subscribes.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn open() -> Result<Self, Error> {
        let open = || -> io::Result<OwnedFd> {
            let socket = sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
            let groups = LINKS | NEIGHBOURS | ROUTES;
            bind(&socket, &SocketAddrNetlink::new(0, groups))?;
            Ok(socket)
        };
        let socket = open().map_err(|e| Error::system("watch", "the network interfaces", e))?;
        Ok(Self { socket })
    }

    /// Takes what was told since the last call.
    pub fn changes(&self) -> Changes {
        let mut changes = Changes::default();
        let mut message = [0; 4096];
        loop {
            match recv(&self.socket, &mut message[..], RecvFlags::DONTWAIT) {
                // More than the socket holds has happened.
                Err(rustix::io::Errno::NOBUFS) => {
                    changes = Changes {
                        interfaces: true,
                        paths: true,
                    };
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return changes,
                Ok((len, _)) => {
                    for (kind, _) in crate::netlink::messages(&message[..len]) {
                        match kind {
                            libc::RTM_NEWLINK | libc::RTM_DELLINK => changes.interfaces = true,
                            _ => changes.paths = true,
                        }
                    }
                }
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_has_changed_before_anything_changes() {
        let watch = Watch::open().unwrap();
        // Other tests may change something; it must not block.
        let _ = watch.changes();
    }
}
