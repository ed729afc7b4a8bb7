//! TAP devices that other processes hold: those of virtual machines.

use std::fs::{self, File};
use std::io::{self, Error};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::namespace::Network;

/// A TAP device that a process has open.
#[derive(Debug)]
pub struct HeldTap {
    /// Name of the interface, in its network namespace.
    pub name: String,
    /// The network namespace that the interface is in; `None` if that cannot be told.
    pub network: Option<Network>,
}

impl HeldTap {
    /// The devices that a process has open (proc(5), fdinfo); none if it cannot be looked into.
    ///
    /// One with several queues is there once for each.
    pub fn of(process: u32) -> Vec<Self> {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{process}/fdinfo")) else {
            return Vec::new();
        };
        let names = descriptors.flatten().filter_map(|entry| {
            let descriptor: RawFd = entry.file_name().to_str()?.parse().ok()?;
            let info = fs::read_to_string(entry.path()).ok()?;
            let name = info.lines().find_map(|line| line.strip_prefix("iff:"))?;
            Some((descriptor, name.trim().to_owned()))
        });
        names
            .map(|(descriptor, name)| Self {
                name,
                network: network_of(process, descriptor)
                    .or_else(|_| Network::of_process(process))
                    .ok(),
            })
            .collect()
    }
}

/// The network namespace of the device behind a descriptor, which is seldom another than that of its
/// process, but of a runner in a sandbox it is.
fn network_of(process: u32, descriptor: RawFd) -> io::Result<Network> {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw);
    let process = process.ok_or(io::ErrorKind::NotFound)?;
    let process = pidfd_open(process, PidfdFlags::empty())?;
    let device = pidfd_getfd(&process, descriptor, PidfdGetfdFlags::empty())?;
    // SAFETY: the request takes no argument; on anything but a TUN or TAP device it fails.
    let found = unsafe { libc::ioctl(device.as_raw_fd(), TUNGETDEVNETNS) };
    if found < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    let found = unsafe { OwnedFd::from_raw_fd(found) };
    Network::of(File::from(found))
}

/// Opens the network namespace that a device is in (<linux/if_tun.h>).
const TUNGETDEVNETNS: libc::Ioctl = 0x54e3;
