//! The clock: the processor's counter, and how fast it counts.

use core::cell::UnsafeCell;

use plumb_unikernel::clock::Scale;
use plumb_wire::Instant;

use crate::io;

/// Monotonic time since this was made.
pub(crate) struct Clock {
    start: u64,
    scale: Scale,
}

impl Clock {
    /// Finds the counter's rate: asks a hypervisor, then the processor, then measures it with the
    /// machine's timer chip, which takes some milliseconds.
    pub(crate) fn start() -> Self {
        let start = io::tsc();
        let scale = from_hypervisor().or_else(from_processor);
        let scale = scale.unwrap_or_else(from_timer_chip);
        Self { start, scale }
    }

    pub(crate) fn now(&self) -> Instant {
        let ticks = io::tsc().saturating_sub(self.start);
        Instant::from_nanos(self.scale.nanoseconds(ticks))
    }
}

/// Written by KVM on request (Documentation/virt/kvm/x86/msr.rst).
#[repr(C, align(64))]
struct KvmTime {
    version: u32,
    _padding: u32,
    tsc: u64,
    system: u64,
    multiplier: u32,
    shift: i8,
    flags: u8,
}

struct Shared<T>(UnsafeCell<T>);

// SAFETY: only read, by the one processor, as volatile.
unsafe impl<T> Sync for Shared<T> {}

static KVM_TIME: Shared<KvmTime> = Shared(UnsafeCell::new(KvmTime {
    version: 0,
    _padding: 0,
    tsc: 0,
    system: 0,
    multiplier: 0,
    shift: 0,
    flags: 0,
}));

fn from_hypervisor() -> Option<Scale> {
    const HYPERVISOR: u32 = 0x4000_0000;
    const SYSTEM_TIME: u32 = 0x4b56_4d01;
    let about = io::cpuid(HYPERVISOR);
    let name = [about.ebx, about.ecx, about.edx].map(u32::to_le_bytes);
    if name.as_flattened() != b"KVMKVMKVM\0\0\0" {
        return None;
    }
    // Feature 3: the clock with this register.
    if io::cpuid(HYPERVISOR + 1).eax & 1 << 3 == 0 {
        return None;
    }
    let page = KVM_TIME.0.get();
    // SAFETY: KVM writes to this page, from now on, and nobody else. Bit 0 switches it on.
    let (multiplier, shift) = unsafe {
        io::write_msr(SYSTEM_TIME, page.expose_provenance() as u64 | 1);
        let multiplier = (&raw const (*page).multiplier).read_volatile();
        (multiplier, (&raw const (*page).shift).read_volatile())
    };
    Scale::from_kvm(multiplier, shift)
}

/// Leaf 0x15: the counter as a multiple of a crystal's frequency.
fn from_processor() -> Option<Scale> {
    if io::cpuid(0).eax < 0x15 {
        return None;
    }
    let ratio = io::cpuid(0x15);
    let hertz = u64::from(ratio.ecx) * u64::from(ratio.ebx);
    Scale::from_khz(hertz.checked_div(u64::from(ratio.eax))? / 1000)
}

/// Counts of the 8254's channel 0, which goes down at 1.193182 MHz and wraps after 55 ms.
fn from_timer_chip() -> Scale {
    const CONTROL: u16 = 0x43;
    const CHANNEL: u16 = 0x40;
    /// How long to measure: 6 ms, for an error of 0.05 % or so.
    const COUNTS: u16 = 7159;

    // Rate generator, low byte first, from 65536 down.
    io::write8(CONTROL, 0x34);
    io::write8(CHANNEL, 0);
    io::write8(CHANNEL, 0);
    // The count together with the processor's: of some readings the quickest, since whatever came
    // between the two makes it wrong.
    let read = || {
        let mut best = (u64::MAX, 0, 0);
        for _ in 0..5 {
            let before = io::tsc();
            io::write8(CONTROL, 0);
            let after = io::tsc();
            let count = u16::from_le_bytes([io::read8(CHANNEL), io::read8(CHANNEL)]);
            best = best.min((after - before, before + (after - before) / 2, count));
        }
        (best.1, best.2)
    };
    let first = read();
    loop {
        let now = read();
        let counts = first.1.wrapping_sub(now.1);
        if counts >= COUNTS {
            let nanoseconds = u64::from(counts) * 1_000_000_000 / 1_193_182;
            let scale = Scale::measured(now.0 - first.0, nanoseconds);
            return scale.unwrap_or_else(|| panic!("the processor's counter stands still"));
        }
        assert!(
            now.0 - first.0 < 1 << 36,
            "no clock: the timer chip stands still"
        );
    }
}
