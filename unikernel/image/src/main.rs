//! The unikernel's image: what needs a real machine. The engine and the drivers are in the library
//! `plumb-unikernel`, where the host tests them.

#![no_std]
#![no_main]
#![cfg(target_arch = "x86_64")]

mod boot;
#[cfg(target_os = "linux")]
mod hosted;
mod io;
mod power;
mod serial;

use core::fmt::Write;

use crate::power::{Exit, exit};
use crate::serial::Serial;

/// Where assembly leads to, in ring 3: how the image was booted, and the address of what the loader
/// has to tell.
#[unsafe(no_mangle)]
extern "C" fn main(protocol: u32, info: usize) -> ! {
    let _ = writeln!(Serial, "plumb: protocol {protocol}, info at {info:#x}");
    exit(Exit::Done)
}
