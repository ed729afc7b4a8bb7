//! Time from counters: the processor's (TSC), and the timer of the local APIC.

/// How many nanoseconds a tick of a counter takes, as a multiple of 2^-32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale(u64);

impl Scale {
    /// A counter of so many ticks a millisecond (kHz); none for 0.
    pub fn from_khz(khz: u64) -> Option<Self> {
        Self::measured(khz, 1_000_000)
    }

    /// A counter that went on by `ticks` in `nanoseconds`; none if that is no rate (0, or a tick of
    /// more than 4 seconds).
    pub fn measured(ticks: u64, nanoseconds: u64) -> Option<Self> {
        let scale = (u128::from(nanoseconds) << 32).checked_div(u128::from(ticks))?;
        u64::try_from(scale)
            .ok()
            .filter(|&scale| scale > 0)
            .map(Self)
    }

    /// The TSC's scale from the page that KVM writes (`pvclock_vcpu_time_info`,
    /// Documentation/virt/kvm/x86/msr.rst): its fields `tsc_to_system_mul` and `tsc_shift`.
    pub fn from_kvm(multiplier: u32, shift: i8) -> Option<Self> {
        let scale = match u32::from(shift.unsigned_abs()) {
            by @ 0..32 if shift >= 0 => u64::from(multiplier) << by,
            by if shift < 0 => u64::from(multiplier).checked_shr(by)?,
            _ => return None,
        };
        (scale > 0).then_some(Self(scale))
    }

    /// Nanoseconds that so many ticks take.
    pub fn nanoseconds(self, ticks: u64) -> u64 {
        let product = u128::from(ticks) * u128::from(self.0);
        u64::try_from(product >> 32).unwrap_or(u64::MAX)
    }

    /// Ticks that are over after so many nanoseconds, rounded up.
    pub fn ticks(self, nanoseconds: u64) -> u64 {
        let ticks = (u128::from(nanoseconds) << 32).div_ceil(u128::from(self.0));
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_rate_that_kvm_gives_is_the_processors() {
        // 2 500 008 kHz, as KVM writes it: mul 0xcccca1d9, shift -1.
        let kvm = Scale::from_kvm(0xcccc_a1d9, -1).unwrap();
        let exact = Scale::from_khz(2_500_008).unwrap();
        let hour = 2_500_008_000 * 3600;
        let differ = kvm.nanoseconds(hour).abs_diff(exact.nanoseconds(hour));
        assert!(differ < 10_000, "{differ} ns in an hour");
        assert_eq!(exact.nanoseconds(2_500_008_000), 999_999_999);
    }

    #[test]
    fn slow_counters_are_scaled_too() {
        // A counter below 1 GHz: mul in its upper half, shift to the left.
        let scale = Scale::from_kvm(0x8000_0000, 3).unwrap();
        assert_eq!(scale.nanoseconds(1000), 4000);
        assert_eq!(scale.ticks(4000), 1000);
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        assert_eq!(Scale::from_khz(0), None);
        assert_eq!(Scale::measured(1, 0), None);
        assert_eq!(Scale::measured(1, u64::MAX), None);
        assert_eq!(Scale::from_kvm(0, 0), None);
        assert_eq!(Scale::from_kvm(1, 127), None);
        assert_eq!(Scale::from_kvm(1, -128), None);
        assert_eq!(Scale::from_kvm(u32::MAX, -40), None);
    }

    proptest! {
        #[test]
        fn a_timer_never_ends_early_and_at_most_a_tick_late(
            khz in 1_u64..10_000_000,
            nanoseconds in 0_u64..1 << 40,
        ) {
            let scale = Scale::from_khz(khz).unwrap();
            let ticks = scale.ticks(nanoseconds);
            // Rounded down by less than a nanosecond.
            prop_assert!(scale.nanoseconds(ticks) + 1 >= nanoseconds);
            prop_assert!(ticks == 0 || scale.nanoseconds(ticks - 1) <= nanoseconds);
        }

        #[test]
        fn no_page_of_a_hypervisor_makes_it_panic(multiplier: u32, shift: i8, ticks: u64) {
            if let Some(scale) = Scale::from_kvm(multiplier, shift) {
                let nanoseconds = scale.nanoseconds(ticks);
                scale.ticks(nanoseconds);
            }
        }
    }
}
