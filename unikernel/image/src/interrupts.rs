//! Interrupts and the timer. Their handlers (`boot/traps.s`) only count; what there is to do is
//! found by looking. Interrupts are off but in [`io::halt`].

use plumb_unikernel::apic;
use plumb_unikernel::boot::Region;
use plumb_unikernel::clock::Scale;
use plumb_wire::Instant;

use crate::clock::Clock;
use crate::io;
use crate::memory::{self, Kind};

/// As in `boot/tables.s`.
const VECTOR_TIMER: u8 = 0x20;
pub(crate) const VECTOR_DEVICE: u8 = 0x21;
const VECTOR_SPURIOUS: u8 = 0x3f;

/// No input at all: a device with it is not heard.
pub(crate) const NO_INPUT: u32 = u32::MAX;

/// Inputs of the first I/O APIC.
const INPUTS: u32 = 24;

/// Counts while the clock is found and the devices are set up: the timer's rate is what is gone by
/// the first sleep.
pub(crate) struct Calibration {
    began: Instant,
}

impl Calibration {
    pub(crate) fn start(clock: &Clock) -> Self {
        for start in [apic::LOCAL, apic::IO] {
            let end = start + 4096;
            memory::map(Region { start, end }, Kind::Device);
        }
        // SAFETY: mapped. The timer raises nothing before it is told to.
        unsafe { io::write32(apic::LOCAL + apic::TIMER_INITIAL, u32::MAX) };
        Self { began: clock.now() }
    }

    /// Switches everything on. What devices signalled before is lost: look at them once more.
    pub(crate) fn finish(self, clock: &Clock, inputs: &[u32]) -> Interrupts {
        // SAFETY: mapped.
        let left = unsafe { io::read32(apic::LOCAL + apic::TIMER_CURRENT) };
        let gone = clock.now().as_nanos() - self.began.as_nanos();
        let ticks = u64::from(u32::MAX - left);
        assert!(
            ticks > 0,
            "the local APIC is not where it should be, or in x2APIC mode"
        );
        // Hypervisors count at 1 GHz, halved after a reset; a count that has run out says nothing.
        let usual = Scale::from_khz(500_000);
        let measured = Scale::measured(ticks, gone).filter(|_| left > 0);
        let scale = measured.or(usual);
        let scale = scale.unwrap_or_else(|| panic!("the timer stands still"));

        let mut all_routed = true;
        // SAFETY: mapped, and the handlers are in place.
        unsafe {
            for &input in inputs {
                match apic::redirection(input).filter(|_| input < INPUTS) {
                    Some(register) => {
                        io::write32(apic::IO, register);
                        io::write32(apic::IO + apic::IO_DATA, apic::edge(VECTOR_DEVICE));
                    }
                    None => all_routed = false,
                }
            }
            io::write32(apic::LOCAL + apic::SPURIOUS, apic::enabled(VECTOR_SPURIOUS));
            io::write32(apic::LOCAL + apic::TIMER, apic::one_shot(VECTOR_TIMER));
        }
        Interrupts { scale, all_routed }
    }
}

/// Interrupts, switched on.
pub(crate) struct Interrupts {
    scale: Scale,
    all_routed: bool,
}

impl Interrupts {
    /// Sleeps until a device interrupts or so many nanoseconds are over, if that is not too long. An
    /// interrupt that came since the last call ends it at once. The timer is always armed, so that
    /// an interrupt that is lost cannot end everything.
    pub(crate) fn sleep(&self, nanoseconds: u64) {
        const LONGEST: u64 = 1_000_000_000;
        /// Where a device cannot interrupt, it is looked at this often.
        const LOOK: u64 = 1_000_000;
        let longest = if self.all_routed { LONGEST } else { LOOK };
        let ticks = self.scale.ticks(nanoseconds.min(longest));
        let ticks = u32::try_from(ticks).unwrap_or(u32::MAX).max(1);
        // SAFETY: mapped.
        unsafe { io::write32(apic::LOCAL + apic::TIMER_INITIAL, ticks) };
        io::halt();
    }
}
