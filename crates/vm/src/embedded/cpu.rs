//! What the processor of the machine says of itself (CPUID).

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

/// First leaf of those that describe KVM.
const HYPERVISOR: u32 = 0x4000_0000;
/// Frequencies, as VMware defined them: EAX the TSC's, EBX the local APIC's, in kHz.
const TIMING: u32 = 0x4000_0010;
/// What KVM's local APIC counts with.
const APIC_KHZ: u32 = 1_000_000;
const TSC_DEADLINE: u32 = 1 << 24;
const IS_GUEST: u32 = 1 << 31;

/// Completes what KVM supports: a timer that takes a deadline, if there is one, and the frequencies
/// of the clocks, so that the image need not measure them.
pub(super) fn complete(cpuid: &mut CpuId, tsc_khz: u32, deadline: bool) {
    let mut has_timing = false;
    for leaf in cpuid.as_mut_slice() {
        match leaf.function {
            1 => {
                leaf.ecx |= IS_GUEST;
                if deadline {
                    leaf.ecx |= TSC_DEADLINE;
                }
                // Initial APIC identifier: there is only one processor.
                leaf.ebx &= 0x00ff_ffff;
            }
            0xb | 0x1f => leaf.edx = 0,
            HYPERVISOR => leaf.eax = leaf.eax.max(TIMING),
            TIMING => has_timing = true,
            _ => {}
        }
    }
    if !has_timing && tsc_khz > 0 {
        // Without room for it the image measures for itself.
        let _ = cpuid.push(kvm_cpuid_entry2 {
            function: TIMING,
            eax: tsc_khz,
            ebx: APIC_KHZ,
            ..kvm_cpuid_entry2::default()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_finds_the_frequency_and_the_timer() {
        let leaf = |function, eax| kvm_cpuid_entry2 {
            function,
            eax,
            ebx: 0xff00_0000,
            ..kvm_cpuid_entry2::default()
        };
        let supported = [leaf(1, 0), leaf(HYPERVISOR, 0x4000_0001)];
        let mut cpuid = CpuId::from_entries(&supported).unwrap();
        complete(&mut cpuid, 2_500_000, true);
        let [first, hypervisor, timing] = cpuid.as_slice() else {
            panic!("a leaf is missing");
        };
        assert_eq!(first.ecx, TSC_DEADLINE | IS_GUEST);
        assert_eq!(first.ebx, 0);
        assert_eq!(hypervisor.eax, TIMING);
        assert_eq!((timing.function, timing.eax), (TIMING, 2_500_000));
    }
}
