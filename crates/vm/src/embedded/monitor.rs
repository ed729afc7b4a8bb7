//! The monitor's process, from its start to the machine's end.

use core::convert::Infallible;
use core::sync::atomic::{AtomicBool, Ordering};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use rustix::fs::OFlags;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use super::arguments::{Arguments, NAME};
use super::device::Memory;
use super::machine::{DEVICES, End, Machine};
use super::memory;
use super::part::Part;
use super::{boot, cpu, sandbox, seccomp};
use crate::{Error, IMAGE};

/// Stack of the thread that waits for events.
const STACK: usize = 64 * 1024;
/// Exit code of a machine that could not be started or broke.
const FAILED: i32 = 125;

/// Whether this process was started to be a monitor. To be asked before anything else is done.
#[must_use]
pub fn is_monitor() -> bool {
    std::env::args_os().next().is_some_and(|name| name == NAME)
}

/// Runs the machine that the parent asked for and ends the process with it.
pub fn main() -> ! {
    let error = match run() {
        Ok(never) => match never {},
        Err(error) => error,
    };
    end(End::Broken(error.to_string()))
}

/// Ends the process.
fn end(end: End) -> ! {
    let code = match end {
        End::Exit(code) => i32::from(code),
        End::Closed => 0,
        End::Broken(why) => {
            let _ = rustix::io::write(
                rustix::stdio::stderr(),
                format!("{NAME}: {why}\n").as_bytes(),
            );
            FAILED
        }
    };
    // SAFETY: nothing of this process needs to be done at its end; all of it goes away.
    unsafe { libc::_exit(code) }
}

fn run() -> Result<Infallible, Error> {
    sandbox::close_others()?;
    save_memory();
    let Some(arguments) = Arguments::from_words(std::env::args_os().skip(1)) else {
        return Err(Error::Image("this process is started by plumb vm".into()));
    };
    if arguments.merge
        && let Err(error) = plumb_link::memory::merge()
    {
        let words = format!("{NAME}: cannot have pages merged: {error}\n");
        let _ = rustix::io::write(rustix::stdio::stderr(), words.as_bytes());
    }
    let (machine, mut processor) = assemble(&arguments)?;
    sandbox::drop_privileges(arguments.parent)?;
    let machine: &'static Machine = Box::leak(Box::new(machine));
    // The image must not run before all threads are restricted.
    static RESTRICTED: AtomicBool = AtomicBool::new(false);
    std::thread::Builder::new()
        .stack_size(STACK)
        .spawn(move || {
            end(match sandbox::restrict(&seccomp::EVENTS) {
                Ok(()) => {
                    RESTRICTED.store(true, Ordering::Release);
                    machine.serve()
                }
                Err(error) => End::Broken(error.to_string()),
            })
        })
        .map_err(|error| Error::system("start a thread", error))?;
    while !RESTRICTED.load(Ordering::Acquire) {
        std::thread::yield_now();
    }
    sandbox::restrict(&seccomp::VCPU)?;
    end(machine.run(&mut processor))
}

/// Puts the machine together. Whatever else is opened for it is closed again.
fn assemble(arguments: &Arguments) -> Result<(Machine, VcpuFd), Error> {
    let (tap, image, module) = receive_files(arguments)?;
    let kvm = Kvm::new().map_err(|error| refused("open /dev/kvm", error))?;
    let vm = kvm
        .create_vm()
        .map_err(|e| refused("create a machine", e))?;
    let line = format!("{} {DEVICES}", arguments.command_line);
    let (bytes, part) = match image {
        Some(part) => (part.bytes()?, Some(part)),
        None => (IMAGE, Part::of_this_program(IMAGE)),
    };
    let image = (bytes, part.as_ref());
    let (memory, entry) = memory::load(arguments.memory_mib, image, module.as_ref(), &line)?;
    give_memory(&vm, &memory)?;
    // Only now: controllers are devices on buses of the machine, and with those the kernel would
    // first wait for a grace period, 4 to 8 ms, before there is memory.
    vm.create_irq_chip()
        .map_err(|e| refused("create interrupt controllers", e))?;
    let processor = processor(&kvm, &vm, entry)?;
    Ok((Machine::new(vm, memory, tap, arguments.mac)?, processor))
}

fn give_memory(vm: &VmFd, memory: &Memory) -> Result<(), Error> {
    let region = memory
        .iter()
        .next()
        .ok_or_else(|| Error::Image("there is no memory".into()))?;
    let address = region
        .get_host_address(vm_memory::MemoryRegionAddress(0))
        .map_err(|error| Error::system("reserve memory", io::Error::other(error)))?;
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: region.len(),
        userspace_addr: address as u64,
    };
    // SAFETY: the mapping belongs to `memory`, which goes into the machine beside `vm`, and lives
    // as long as the process.
    unsafe { vm.set_user_memory_region(region) }
        .map_err(|e| refused("give memory to the machine", e))
}

/// Makes the heap small. One serves both threads: a second one would cost pages, and system calls
/// that the filters do not allow. Blocks of some pages come from the system, which hands them out
/// untouched, and go back to it.
fn save_memory() {
    // Huge pages would make a machine out of one page two MiB large.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    #[cfg(target_env = "gnu")]
    // SAFETY: there is one thread yet, and it does not allocate meanwhile.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 8 * 1024);
        // What the heap has in reserve already would be taken, and touched, first.
        libc::mallopt(libc::M_TOP_PAD, 0);
        libc::malloc_trim(0);
    };
}

fn processor(kvm: &Kvm, vm: &VmFd, entry: u64) -> Result<VcpuFd, Error> {
    let failed = |error| refused("create a processor", error);
    let processor = vm.create_vcpu(0).map_err(failed)?;
    let mut cpuid = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(failed)?;
    let khz = processor.get_tsc_khz().unwrap_or(0);
    cpu::complete(&mut cpuid, khz, kvm.check_extension(Cap::TscDeadlineTimer));
    processor.set_cpuid2(&cpuid).map_err(failed)?;
    let mut special = processor.get_sregs().map_err(failed)?;
    boot::special_registers(&mut special);
    processor.set_sregs(&special).map_err(failed)?;
    processor
        .set_regs(&boot::registers(entry))
        .map_err(failed)?;
    Ok(processor)
}

/// Takes the files that the parent has sent: TAP device, image unless it is our own, and boot
/// module if there is one.
fn receive_files(arguments: &Arguments) -> Result<(OwnedFd, Option<Part>, Option<Part>), Error> {
    let failed = |error: io::Error| Error::system("take over the parent's files", error);
    let mut space = [core::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut into = [io::IoSliceMut::new(&mut byte)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    rustix::net::recvmsg(rustix::stdio::stdin(), &mut into, &mut control, flags)
        .map_err(|error| failed(error.into()))?;
    let mut files = control
        .drain()
        .filter_map(|message| {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                Some(files)
            } else {
                None
            }
        })
        .flatten();
    let mut next = || {
        files
            .next()
            .ok_or_else(|| failed(io::ErrorKind::UnexpectedEof.into()))
    };
    let tap = next()?;
    let tap = prepare(tap)?;
    let mut part = |there: bool| there.then(|| Part::all_of(next()?)).transpose();
    let image = part(arguments.image)?;
    let module = part(arguments.module)?;
    for fd in [rustix::stdio::stdout(), std::os::fd::AsFd::as_fd(&tap)] {
        rustix::fs::fcntl_getfl(fd)
            .and_then(|flags| rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK))
            .map_err(|error| failed(error.into()))?;
    }
    Ok((tap, image, module))
}

/// Sets a TAP device to headers of virtio 1, and to frames as they are on a wire. Anything else
/// that carries frames behind such headers is taken as it is.
fn prepare(tap: OwnedFd) -> Result<OwnedFd, Error> {
    const TUNSETOFFLOAD: libc::c_ulong = 0x4004_54d0;
    const TUNSETVNETHDRSZ: libc::c_ulong = 0x4004_54d8;
    let header: libc::c_int = 12;
    // SAFETY: both operations read what they are given, a number and an int, and nothing else.
    let done = unsafe {
        match libc::ioctl(tap.as_raw_fd(), TUNSETOFFLOAD, 0) {
            0 => libc::ioctl(tap.as_raw_fd(), TUNSETVNETHDRSZ, &raw const header),
            failed => failed,
        }
    };
    match io::Error::last_os_error() {
        error if done != 0 && error.raw_os_error() != Some(libc::ENOTTY) => {
            Err(Error::system("set up the TAP device", error))
        }
        _ => Ok(tap),
    }
}

fn refused(operation: &str, error: kvm_ioctls::Error) -> Error {
    Error::system(operation, error.into())
}
