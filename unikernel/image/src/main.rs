//! The unikernel's image: what needs a real machine. The engine and the drivers are in the library
//! `plumb-unikernel`, where the host tests them.

#![no_std]
#![no_main]
#![cfg(target_arch = "x86_64")]

extern crate alloc;

mod boot;
mod clock;
mod devices;
mod heap;
#[cfg(target_os = "linux")]
mod hosted;
mod interrupts;
mod io;
mod machine;
mod memory;
mod pci;
mod power;
mod serial;

use alloc::boxed::Box;

use plumb_unikernel::boot::{BootInfo, Protocol, Region};
use plumb_unikernel::command_line::{BadWord, CommandLine};
use plumb_unikernel::net::Interface;
use plumb_unikernel::platform::Platform;
use plumb_unikernel::run::{self, End};
use plumb_unikernel::virtio::{Channel, Net, Transport};

use crate::clock::Clock;
use crate::devices::Devices;
use crate::interrupts::Calibration;
use crate::machine::Machine;
use crate::memory::{Kind, Loaded};
use crate::power::{Exit, exit};

unsafe extern "C" {
    static image_end: u8;
}

/// Below the image: its stacks, and nothing that a loader puts there.
const STACKS: u64 = 0x10_0000;

/// Largest IP packet where nobody says otherwise.
const MTU: u16 = 1500;

/// Where assembly leads to, in ring 3: how the image was booted, and the address of what the loader
/// has to tell.
#[unsafe(no_mangle)]
extern "C" fn main(protocol: u32, address: u64) -> ! {
    let protocol = match protocol {
        1 => Protocol::Pvh,
        _ => Protocol::Linux,
    };
    let clock = Clock::start();
    let calibration = Calibration::start(&clock);
    let info = match BootInfo::read(protocol, &Loaded, address) {
        Ok(info) => info,
        Err(error) => panic!("{}", error.words()),
    };
    let line = match CommandLine::parse(info.command_line) {
        Ok(line) => line,
        Err(BadWord(word)) => panic!("the command line makes no sense: {word}"),
    };
    let memory = prepare_memory(&info);
    let module = module(&info);

    let devices = Devices::find(info.command_line);
    let mut machine = Machine::new(clock, calibration, devices.inputs, line.poll);
    let Some(nic) = devices.net else {
        panic!("no virtio network interface among the devices");
    };
    let Some((kind, transport)) = devices.channel else {
        panic!("no channel to the host: neither a virtio console nor a socket device");
    };
    // The neighbours' answers are under way while the rest is set up.
    let mut link = Interface::new(nic_of(nic, &line), line.network);
    link.start(machine.now());
    let mut stream = match Channel::new(kind, transport) {
        Ok(Some(stream)) => stream,
        Ok(None) => panic!("no channel to the host over {kind:?}"),
        Err(error) => panic!("virtio {kind:?}: {error}"),
    };
    if line.poll {
        link.nic_mut().set_interrupts(false);
        stream.set_interrupts(false);
    }
    let end = run::run(&mut machine, &mut link, &mut stream, module, memory);
    match end {
        End::Shutdown => exit(Exit::Done),
        End::Closed => panic!("the host is gone"),
        End::Fault(fault) => panic!("the host cannot be understood: {fault}"),
    }
}

fn nic_of(transport: Box<dyn Transport>, line: &CommandLine) -> Net {
    // A locally administered address, if neither the device nor the command line has one.
    let mac = line.mac.unwrap_or([2, 0, 0, 0, 0, 1]);
    let mtu = line.mtu.unwrap_or(MTU).into();
    let nic = Net::new(transport, mac, mtu);
    nic.unwrap_or_else(|error| panic!("virtio network interface: {error}"))
}

/// Makes a heap of the largest free stretch of memory, and returns its size.
fn prepare_memory(info: &BootInfo<'_>) -> usize {
    let end = (&raw const image_end).addr() as u64;
    let line = info.command_line;
    let start = line.as_ptr().addr() as u64;
    let line = Region {
        start,
        end: start + line.len() as u64,
    };
    let free = info.memory.largest_free(end, &[info.module, line]);
    let free = free.unwrap_or_else(|| panic!("no memory behind the image"));
    // SAFETY: usable memory, and neither the image's nor the loader's.
    unsafe { heap::give(free) };
    usize::try_from(free.size()).unwrap_or(usize::MAX)
}

/// The boot module's bytes.
fn module(info: &BootInfo<'_>) -> &'static [u8] {
    let module = info.module;
    if module.size() == 0 {
        return &[];
    }
    let end = (&raw const image_end).addr() as u64;
    let image = Region { start: STACKS, end };
    assert!(
        !module.overlaps(image),
        "the boot module lies over the image"
    );
    assert!(
        memory::map(module, Kind::Memory),
        "the boot module is out of reach"
    );
    let size = usize::try_from(module.size()).unwrap_or_default();
    // SAFETY: mapped, never written to, and spared by the heap. Any bytes will do.
    unsafe { core::slice::from_raw_parts(memory::pointer(module.start), size) }
}
