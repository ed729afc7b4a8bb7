//! The machine when it runs: one thread runs the virtual CPU, another waits for packets and for the
//! channel. Both serve the devices, each for what it was woken by.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};
use rustix::event::epoll;

use super::device::{Access, Console, Frames, Memory, Net, Peer, Serial, Wants};
use crate::Error;

/// Where the devices are, and their interrupt lines.
const NET: u64 = 0xd000_0000;
const NET_LINE: u32 = 5;
const CONSOLE: u64 = 0xd000_1000;
const CONSOLE_LINE: u32 = 6;
/// Size of a device's registers.
const WINDOW: u64 = 0x1000;

/// What the command line of the image says about the devices.
pub(super) const DEVICES: &str =
    "virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0001000:6";

/// Keyboard controller: its command to reset the processor ends the machine.
const RESET_PORT: u16 = 0x64;
const RESET: u8 = 0xfe;
/// As QEMU's isa-debug-exit: what is written is the exit code.
const EXIT_PORT: u16 = 0xf4;

/// Why the machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The image ended it, with this code; a reset is 0.
    Exit(u8),
    /// The other end of the channel has closed.
    Closed,
    /// The machine broke: in words.
    Broken(String),
}

/// A device, and what its file descriptor is watched for.
#[derive(Debug)]
struct Watched<D> {
    device: D,
    input: bool,
    room: bool,
}

/// The machine without its processor.
#[derive(Debug)]
pub(super) struct Machine {
    vm: VmFd,
    memory: Memory,
    events: OwnedFd,
    tap: OwnedFd,
    net: Mutex<Watched<Net>>,
    console: Mutex<Watched<Console>>,
}

impl Machine {
    /// Puts a machine together. `tap` must not block; the channel is standard input.
    ///
    /// # Errors
    /// If the kernel refuses to watch the descriptors.
    pub(super) fn new(vm: VmFd, memory: Memory, tap: OwnedFd, mac: [u8; 6]) -> Result<Self, Error> {
        let failed = |error: rustix::io::Errno| Error::system("wait for events", error.into());
        let events = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
        let none = epoll::EventFlags::empty();
        epoll::add(&events, &tap, epoll::EventData::new_u64(NET), none).map_err(failed)?;
        let data = epoll::EventData::new_u64(CONSOLE);
        epoll::add(&events, channel(), data, none).map_err(failed)?;
        Ok(Self {
            vm,
            memory,
            events,
            tap,
            net: Mutex::new(watched(Net::new(mac))),
            console: Mutex::new(watched(Console::default())),
        })
    }

    /// Runs the processor until the machine ends.
    pub(super) fn run(&self, cpu: &mut VcpuFd) -> End {
        let mut serial = Serial::new(Output);
        loop {
            let exit = match cpu.run() {
                Ok(exit) => exit,
                Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => continue,
                Err(error) => return End::Broken(format!("the processor cannot run: {error}")),
            };
            #[expect(
                clippy::wildcard_enum_match_arm,
                reason = "every other exit, known or not, is the end"
            )]
            let end = match exit {
                VcpuExit::MmioRead(at, data) => {
                    self.read(at, data);
                    None
                }
                VcpuExit::MmioWrite(at, data) => self.write(at, data),
                VcpuExit::IoOut(port, data) if Serial::<Output>::has(port) => {
                    serial.write(port, data);
                    None
                }
                VcpuExit::IoIn(port, data) if Serial::<Output>::has(port) => {
                    data.fill(Serial::<Output>::read(port));
                    None
                }
                VcpuExit::IoOut(RESET_PORT, [RESET, ..]) => Some(End::Exit(0)),
                VcpuExit::IoOut(EXIT_PORT, [code, ..]) => Some(End::Exit(*code)),
                VcpuExit::IoOut(..) | VcpuExit::Intr | VcpuExit::IrqWindowOpen => None,
                // Nothing is there; the keyboard controller is, and its buffers are empty.
                VcpuExit::IoIn(RESET_PORT, data) => {
                    data.fill(0);
                    None
                }
                VcpuExit::IoIn(_, data) => {
                    data.fill(0xff);
                    None
                }
                VcpuExit::Shutdown => Some(End::Broken("the image failed: triple fault".into())),
                other => Some(End::Broken(format!("the processor stopped: {other:?}"))),
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    /// Serves what comes from outside, until the machine ends.
    pub(super) fn serve(&self) -> End {
        let mut again = false;
        loop {
            let mut ready = [epoll::Event {
                flags: epoll::EventFlags::empty(),
                data: epoll::EventData::new_u64(0),
            }; 2];
            let at_once = rustix::event::Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            let count = match epoll::wait(&self.events, &mut ready[..], again.then_some(&at_once)) {
                Ok(count) => count,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return End::Broken(format!("cannot wait for events: {error}")),
            };
            let (mut net, mut console) = (again, again);
            for event in &ready[..count] {
                let gone = epoll::EventFlags::HUP | epoll::EventFlags::ERR;
                let flags = event.flags;
                let gone = flags.intersects(gone);
                match event.data.u64() {
                    NET if gone => return lost(),
                    CONSOLE if gone => return End::Closed,
                    NET => net = true,
                    _ => console = true,
                }
            }
            again = false;
            if net {
                match self.work_net() {
                    Ok(more) => again |= more,
                    Err(end) => return end,
                }
            }
            if console {
                match self.work_console() {
                    Ok(more) => again |= more,
                    Err(end) => return end,
                }
            }
        }
    }

    fn read(&self, at: u64, data: &mut [u8]) {
        match at & !(WINDOW - 1) {
            NET => lock(&self.net).device.read(at - NET, data),
            CONSOLE => lock(&self.console).device.read(at - CONSOLE, data),
            // Nobody drives the bus.
            _ => data.fill(0xff),
        }
    }

    fn write(&self, at: u64, data: &[u8]) -> Option<End> {
        let access = match at & !(WINDOW - 1) {
            NET => lock(&self.net).device.write(at - NET, data, &self.memory),
            CONSOLE => lock(&self.console)
                .device
                .write(at - CONSOLE, data, &self.memory),
            _ => return None,
        };
        if access == Access::None {
            return None;
        }
        loop {
            let more = if at < CONSOLE {
                self.work_net()
            } else {
                self.work_console()
            };
            match more {
                Ok(true) => {}
                Ok(false) => return None,
                Err(end) => return Some(end),
            }
        }
    }

    /// Lets the network interface move what there is to move, and says whether there is more.
    fn work_net(&self) -> Result<bool, End> {
        let wants = {
            let mut net = lock(&self.net);
            let wants = net.device.work(&self.memory, &mut Tap(self.tap.as_fd()));
            if wants.closed {
                return Err(lost());
            }
            self.watch(&mut net, wants, self.tap.as_fd(), NET)?;
            wants
        };
        self.interrupt(wants, NET_LINE);
        Ok(wants.again)
    }

    /// The same for the console.
    fn work_console(&self) -> Result<bool, End> {
        let wants = {
            let mut console = lock(&self.console);
            let wants = console.device.work(&self.memory, &mut Channel);
            if wants.closed {
                return Err(End::Closed);
            }
            self.watch(&mut console, wants, channel(), CONSOLE)?;
            wants
        };
        self.interrupt(wants, CONSOLE_LINE);
        Ok(wants.again)
    }

    /// Watches the other side of a device for what it wants.
    fn watch<D>(
        &self,
        watched: &mut Watched<D>,
        wants: Wants,
        fd: BorrowedFd<'_>,
        data: u64,
    ) -> Result<(), End> {
        if (watched.input, watched.room) == (wants.input, wants.room) {
            return Ok(());
        }
        (watched.input, watched.room) = (wants.input, wants.room);
        let mut flags = epoll::EventFlags::empty();
        flags.set(epoll::EventFlags::IN, wants.input);
        flags.set(epoll::EventFlags::OUT, wants.room);
        epoll::modify(&self.events, fd, epoll::EventData::new_u64(data), flags)
            .map_err(|error| End::Broken(format!("cannot wait for events: {error}")))
    }

    /// Interrupts the processor, if that is wanted. Not under the lock of a device: the processor
    /// may be at that device before this returns.
    fn interrupt(&self, wants: Wants, line: u32) {
        if wants.interrupt {
            // An edge. The lines exist, so this cannot fail.
            let _ = self.vm.set_irq_line(line, true);
            let _ = self.vm.set_irq_line(line, false);
        }
    }
}

fn watched<D>(device: D) -> Watched<D> {
    Watched {
        device,
        input: false,
        room: false,
    }
}

fn lost() -> End {
    End::Broken("the network interface is gone".into())
}

/// A panic under the lock is a defect that ends the process anyway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The other end's socket.
fn channel() -> BorrowedFd<'static> {
    rustix::stdio::stdin()
}

/// The TAP device.
struct Tap<'a>(BorrowedFd<'a>);

impl Frames for Tap<'_> {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match rustix::io::read(self.0, into) {
            Err(rustix::io::Errno::INTR) => Err(io::ErrorKind::WouldBlock.into()),
            done => Ok(done?),
        }
    }

    fn send(&mut self, frame: &[u8]) {
        // An interface that is down, or a full queue, loses frames.
        let _ = rustix::io::write(self.0, frame);
    }
}

/// The channel.
struct Channel;

impl Peer for Channel {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let flags = rustix::net::RecvFlags::DONTWAIT;
        Ok(rustix::net::recv(channel(), into, flags)?.0)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let flags = rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL;
        Ok(rustix::net::send(channel(), bytes, flags)?)
    }
}

/// The console pipe, which does not block.
struct Output;

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(rustix::stdio::stdout(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
