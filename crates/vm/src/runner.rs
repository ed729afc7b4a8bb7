//! What every runner does.

use std::fmt;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::process::{Signal, WaitId, WaitIdOptions};

use crate::{Error, Unavailable};

/// The runners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RunnerName {
    /// plumb's own virtual machine monitor, on /dev/kvm.
    Embedded,
    /// Firecracker, on /dev/kvm.
    Firecracker,
    /// QEMU: with KVM where there is one, otherwise in software.
    Qemu,
}

impl fmt::Display for RunnerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedded => "embedded",
            Self::Firecracker => "firecracker",
            Self::Qemu => "qemu",
        })
    }
}

/// A machine to be started.
#[derive(Debug)]
pub struct Launch<'a> {
    /// Its name for whoever looks at processes, if it has one.
    pub name: Option<&'a str>,
    /// The image: an ELF file with PVH and 64-bit Linux entry.
    pub image: &'a [u8],
    /// Command line of the image; what the runner has to add (devices) comes behind it.
    pub command_line: &'a str,
    /// The boot module (initrd): bytes that the engine reads before those of the stream.
    pub module: &'a [u8],
    /// Memory of the machine in MiB.
    pub memory_mib: u32,
    /// A TAP device (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR), to be the machine's network interface.
    /// It exists as long as someone holds it open.
    pub tap: OwnedFd,
    /// Name of that device in the network namespace that the calling thread is in.
    pub tap_name: &'a str,
    /// MAC address of the machine.
    pub mac: [u8; 6],
    /// Let the kernel merge the process's pages with equal ones of others (KSM).
    pub merge: bool,
}

/// A way to run machines.
pub trait Runner: fmt::Debug {
    /// Its name.
    fn name(&self) -> RunnerName;

    /// Says whether it can be used here, and what exactly would be used (program, accelerator).
    ///
    /// # Errors
    /// If it cannot, with the reason.
    fn check(&self) -> Result<String, Unavailable>;

    /// Starts a machine and returns when its process runs; the image may still be booting.
    ///
    /// # Errors
    /// If that fails. Nothing is left behind then.
    fn launch(&self, launch: Launch<'_>) -> Result<Vm, Error>;
}

/// A machine that was started. Dropping it ends the machine at once; nothing is left behind. When
/// the process that holds this dies, however it dies, the machine ends too.
#[derive(Debug)]
pub struct Vm {
    /// Who runs it.
    pub runner: RunnerName,
    /// The stream to the engine: non-blocking.
    pub channel: UnixStream,
    /// What the machine's serial port and the runner itself say: non-blocking, read end.
    pub console: OwnedFd,
    /// Becomes readable when the machine's process has ended (pidfd).
    pub process: OwnedFd,
    /// Process identifier of the machine.
    pub pid: u32,
}

impl Drop for Vm {
    fn drop(&mut self) {
        // It may have ended already; then it only has to be reaped.
        // A process without privileges may not kill one of another user; such a monitor ends when
        // its channel does.
        if rustix::process::pidfd_send_signal(&self.process, Signal::KILL).is_err() {
            let _ = self.channel.shutdown(Shutdown::Both);
        }
        let process = WaitId::PidFd(self.process.as_fd());
        while let Err(rustix::io::Errno::INTR) =
            rustix::process::waitid(process.clone(), WaitIdOptions::EXITED)
        {}
    }
}
