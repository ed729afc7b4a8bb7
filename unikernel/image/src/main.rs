//! The unikernel's image: what needs a real machine. The engine and the drivers are in the library
//! `plumb-unikernel`, where the host tests them.

#![no_std]
#![no_main]
#![cfg(target_arch = "x86_64")]

extern crate alloc;

mod boot;
mod clock;
mod heap;
#[cfg(target_os = "linux")]
mod hosted;
mod interrupts;
mod io;
mod machine;
mod memory;
mod power;
mod serial;

use alloc::vec::Vec;
use core::fmt::Write;

use plumb_unikernel::boot::{BootInfo, Protocol, Region};
use plumb_unikernel::command_line::{self, BadWord, CommandLine};
use plumb_unikernel::platform::Platform;

use crate::clock::Clock;
use crate::interrupts::Calibration;
use crate::machine::Machine;
use crate::memory::{Kind, Loaded};
use crate::power::{Exit, exit};
use crate::serial::Serial;

unsafe extern "C" {
    static image_end: u8;
}

/// Below the image: its stacks, and nothing that a loader puts there.
const STACKS: u64 = 0x10_0000;

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
    prepare_memory(&info);

    let devices: Vec<_> = command_line::mmio_devices(info.command_line).collect();
    let mut machine = Machine::new(clock, calibration, Vec::new(), line.poll);
    let _ = writeln!(Serial, "plumb: {line:?} {devices:?} {:?}", info.module);
    let mut times = Vec::new();
    for _ in 0..20 {
        let before = machine.now();
        let until = plumb_wire::Instant::from_nanos(before.as_nanos() + 10_000_000);
        machine.wait(Some(until));
        times.push(machine.now().since(before).as_micros());
    }
    let _ = writeln!(
        Serial,
        "waits of 10 ms: {times:?}, up for {:?}",
        machine.now()
    );
    exit(Exit::Done)
}

/// Makes the module readable, and a heap of the largest free stretch of memory.
fn prepare_memory(info: &BootInfo<'_>) {
    let end = (&raw const image_end).addr() as u64;
    let image = Region { start: STACKS, end };
    assert!(
        !info.module.overlaps(image),
        "the boot module lies over the image"
    );
    if info.module.size() > 0 {
        assert!(
            memory::map(info.module, Kind::Memory),
            "the boot module is out of reach"
        );
    }
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
}
