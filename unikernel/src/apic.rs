//! Registers of the interrupt controllers (Intel SDM volume 3, chapter 11; 82093AA datasheet).

/// Physical address of the local APIC's registers after a reset.
pub const LOCAL: u64 = 0xfee0_0000;
/// Physical address of the I/O APIC's registers.
pub const IO: u64 = 0xfec0_0000;

/// Spurious interrupt vector register, which also switches the APIC on.
pub const SPURIOUS: u64 = 0xf0;
/// Local vector table: the timer.
pub const TIMER: u64 = 0x320;
/// Initial count of the timer: writing it arms the timer, 0 disarms it.
pub const TIMER_INITIAL: u64 = 0x380;
/// Current count of the timer, which goes down to 0.
pub const TIMER_CURRENT: u64 = 0x390;

/// Offset of the I/O APIC's data register; the one at offset 0 selects what is seen there.
pub const IO_DATA: u64 = 0x10;

/// Value for [`SPURIOUS`]: on, with this vector.
pub const fn enabled(vector: u8) -> u32 {
    1 << 8 | vector as u32
}

/// Value for [`TIMER`]: one shot, with this vector.
pub const fn one_shot(vector: u8) -> u32 {
    vector as u32
}

/// The I/O APIC's register with the lower half of an input's redirection entry; none for an input
/// that it cannot have.
pub fn redirection(input: u32) -> Option<u32> {
    (input < 240).then(|| 0x10 + 2 * input)
}

/// The lower half of a redirection entry: fixed delivery to a physical APIC (the upper half names
/// it, number 0 after a reset), active high, edge-triggered, not masked. Inputs that are
/// level-triggered work like this too, as long as the device's own status is cleared before its
/// queues are looked at.
pub const fn edge(vector: u8) -> u32 {
    vector as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_manuals() {
        assert_eq!(enabled(0x3f), 0x13f);
        assert_eq!(redirection(0), Some(0x10));
        assert_eq!(redirection(23), Some(0x3e));
        assert_eq!(redirection(239), Some(0x1ee));
        assert_eq!(redirection(240), None);
        assert_eq!(redirection(u32::MAX), None);
        // Bit 16 masks, 15 is level-triggered, 13 active low, 11 logical, 8-10 other deliveries.
        assert_eq!(edge(0x21), 0x21);
        assert_eq!(one_shot(0x20), 0x20);
    }
}
