//! Ports and registers, and the instructions that ring 3 borrows from ring 0: see `boot/traps.s`.

use core::arch::asm;
use core::arch::x86_64::{__cpuid, _rdtsc, CpuidResult};

use crate::memory::pointer;

/// Writes a byte to an I/O port.
pub(crate) fn write8(port: u16, value: u8) {
    // SAFETY: no port that this image uses changes memory behind the compiler's back.
    unsafe {
        asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags));
    }
}

/// Reads a byte from an I/O port.
pub(crate) fn read8(port: u16) -> u8 {
    let value;
    // SAFETY: as above.
    unsafe {
        asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags));
    }
    value
}

/// Writes four bytes to an I/O port.
pub(crate) fn write_port32(port: u16, value: u32) {
    // SAFETY: as above.
    unsafe {
        asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack, preserves_flags));
    }
}

/// Reads four bytes from an I/O port.
pub(crate) fn read_port32(port: u16) -> u32 {
    let value;
    // SAFETY: as above.
    unsafe {
        asm!("in eax, dx", in("dx") port, out("eax") value, options(nomem, nostack, preserves_flags));
    }
    value
}

/// Writes a model-specific register. One that the processor does not have ends the machine.
///
/// # Safety
/// What the register does must not break the compiler's idea of memory.
pub(crate) unsafe fn write_msr(register: u32, value: u64) {
    let [a, b, c, d, rest @ ..] = value.to_le_bytes();
    // SAFETY: the caller's promise.
    unsafe {
        asm!("wrmsr", in("ecx") register, in("eax") u32::from_le_bytes([a, b, c, d]),
            in("edx") u32::from_le_bytes(rest), options(nostack, preserves_flags));
    }
}

/// Sleeps until an interrupt comes, or has come since the last time.
pub(crate) fn halt() {
    // SAFETY: handlers of interrupts touch nothing but their counters.
    unsafe { asm!("hlt", options(nostack)) }
}

/// The processor's counter.
pub(crate) fn tsc() -> u64 {
    // SAFETY: every processor with 64 bits has it.
    unsafe { _rdtsc() }
}

/// What the processor, or the hypervisor in its place, says of itself.
pub(crate) fn cpuid(leaf: u32) -> CpuidResult {
    __cpuid(leaf)
}

/// Reads a device's register.
///
/// # Safety
/// The address must be that of a register, and mapped.
pub(crate) unsafe fn read32(address: u64) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { pointer::<u32>(address).read_volatile() }
}

/// Writes a device's register.
///
/// # Safety
/// As for reading; and what the device does then must not break the compiler's idea of memory.
pub(crate) unsafe fn write32(address: u64, value: u32) {
    // SAFETY: the caller's promise.
    unsafe { pointer::<u32>(address).write_volatile(value) }
}
