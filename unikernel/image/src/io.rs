//! Ports and other instructions that ring 3 borrows from ring 0: see `boot/traps.s`.

use core::arch::asm;

/// Writes a byte to an I/O port.
pub(crate) fn write8(port: u16, value: u8) {
    // SAFETY: no port that this image uses can change memory behind the compiler's back.
    unsafe {
        asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags))
    }
}
