//! The end, good or bad.

use core::arch::asm;
use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::io;
use crate::serial::Serial;

/// How the machine ends. plumb's own monitor exits with 0 or 17, QEMU on its microvm with 33 or 35
/// and on its other machines with 0 or 35, where its isa-debug-exit device is at port 0xf4.
/// Firecracker always exits with 0: there only the serial port tells.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum Exit {
    /// All is done.
    Done = 0x10,
    /// A panic or an exception; the last words are on the serial port.
    Failed = 0x11,
}

/// Ends the machine.
pub(crate) fn exit(how: Exit) -> ! {
    // A port that takes an exit code, and the reset line of the keyboard controller. Not every
    // machine has both.
    let code = || io::write8(0xf4, how as u8);
    let reset = || io::write8(0x64, 0xfe);
    match how {
        Exit::Done => {
            reset();
            code();
        }
        Exit::Failed => {
            code();
            reset();
        }
    }
    loop {
        // SAFETY: halts; executed by ring 0 for ring 3, see boot/traps.s.
        unsafe { asm!("hlt", options(nomem, nostack)) }
    }
}

static FAILED: AtomicBool = AtomicBool::new(false);

/// Last words, once: what goes wrong while they are said is not worth more words.
fn last_words(words: core::fmt::Arguments<'_>) -> ! {
    if !FAILED.swap(true, Ordering::Relaxed) {
        let _ = writeln!(Serial, "plumb: {words}");
    }
    exit(Exit::Failed)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    match info.location() {
        Some(at) => last_words(format_args!(
            "{} ({}:{})",
            info.message(),
            at.file(),
            at.line()
        )),
        None => last_words(format_args!("{}", info.message())),
    }
}

/// Called by `boot/traps.s` in place of the instruction that failed.
#[unsafe(no_mangle)]
extern "C" fn exception_report(vector: u64, error: u64, rip: u64, rsp: u64, cr2: u64) -> ! {
    last_words(format_args!(
        "exception {vector} (error {error:#x}) at {rip:#x}, stack {rsp:#x}, address {cr2:#x}"
    ))
}
