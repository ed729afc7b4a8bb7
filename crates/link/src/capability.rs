//! Linux capabilities: what this process may do, and giving it all up.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use crate::Error;

/// A privilege that some way of sending packets needs (capabilities(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// CAP_BPF: programs and maps in the kernel.
    Bpf,
    /// CAP_PERFMON: programs that look into the kernel.
    PerfMon,
    /// CAP_NET_ADMIN: network devices, addresses and routes.
    NetAdmin,
    /// CAP_NET_RAW: raw and packet sockets.
    NetRaw,
    /// CAP_SYS_ADMIN: namespaces, where unprivileged ones are forbidden.
    SysAdmin,
    /// CAP_SYS_NICE: threads that rise in priority.
    SysNice,
}

impl Capability {
    /// The name as `setcap` takes it: "cap_net_raw".
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bpf => "cap_bpf",
            Self::PerfMon => "cap_perfmon",
            Self::NetAdmin => "cap_net_admin",
            Self::NetRaw => "cap_net_raw",
            Self::SysAdmin => "cap_sys_admin",
            Self::SysNice => "cap_sys_nice",
        }
    }

    const fn bit(self) -> CapabilitySet {
        match self {
            Self::Bpf => CapabilitySet::BPF,
            Self::PerfMon => CapabilitySet::PERFMON,
            Self::NetAdmin => CapabilitySet::NET_ADMIN,
            Self::NetRaw => CapabilitySet::NET_RAW,
            Self::SysAdmin => CapabilitySet::SYS_ADMIN,
            Self::SysNice => CapabilitySet::SYS_NICE,
        }
    }
}

impl core::fmt::Display for Capability {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Bpf => "CAP_BPF",
            Self::PerfMon => "CAP_PERFMON",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetRaw => "CAP_NET_RAW",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysNice => "CAP_SYS_NICE",
        })
    }
}

/// Says whether `capability` is in the effective set of the calling thread.
pub fn has(capability: Capability) -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(capability.bit()))
}

/// Empties all capability sets of the calling thread and forbids it to gain any by `execve`.
/// Sockets and devices that are open stay usable.
///
/// # Errors
/// If the kernel refuses, which it does not do on any supported version.
pub fn drop_all() -> Result<(), Error> {
    keep(CapabilitySet::empty())
}

/// The same, but for one capability, if the thread has it.
///
/// # Errors
/// As [`drop_all`].
pub fn drop_all_but(kept: Capability) -> Result<(), Error> {
    match has(kept) {
        true => keep(kept.bit()),
        false => drop_all(),
    }
}

fn keep(kept: CapabilitySet) -> Result<(), Error> {
    let failed =
        |operation, source| Error::system(operation, "of this process", io::Error::from(source));
    rustix::thread::set_no_new_privs(true).map_err(|e| failed("forbid new privileges", e))?;
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).map_err(|e| failed("drop the capabilities", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_dropped_everything_has_nothing() {
        // Capabilities belong to a thread, so the other tests keep theirs.
        std::thread::spawn(|| {
            drop_all().unwrap();
            for capability in [
                Capability::Bpf,
                Capability::PerfMon,
                Capability::NetAdmin,
                Capability::NetRaw,
                Capability::SysAdmin,
                Capability::SysNice,
            ] {
                assert!(!has(capability), "{capability}");
            }
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_thread_that_dropped_all_but_one_has_that_one_if_it_had_it() {
        std::thread::spawn(|| {
            let had = has(Capability::NetRaw);
            drop_all_but(Capability::NetRaw).unwrap();
            assert_eq!(has(Capability::NetRaw), had);
            assert!(!has(Capability::NetAdmin));
            drop_all_but(Capability::NetAdmin).unwrap();
            assert!(!has(Capability::NetAdmin) && !has(Capability::NetRaw));
        })
        .join()
        .unwrap();
    }
}
