//! How a machine is.

use core::net::IpAddr;
use std::fs;

use serde::{Deserialize, Serialize};

/// What a holder tells of its machine. The first part of a line of `plumb vm list --json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Status {
    /// Name of the machine.
    pub(super) name: String,
    /// Who runs it.
    pub(super) runner: String,
    /// What exactly that uses.
    pub(super) uses: String,
    /// What the uplink leads to.
    pub(super) uplink: String,
    /// Addresses with prefix lengths.
    pub(super) addresses: Vec<String>,
    /// Gateways.
    pub(super) gateways: Vec<IpAddr>,
    /// MAC address.
    pub(super) mac: String,
    /// Memory that the machine may use, in MiB.
    pub(super) memory_mib: u32,
    /// A client is being served.
    pub(super) busy: bool,
    /// Nanoseconds since it was started.
    pub(super) uptime_ns: u64,
    /// Traces and pings done.
    pub(super) jobs: u64,
    /// Clients that have come.
    pub(super) clients: u64,
    /// The machine's process, as the holder knows it.
    pub(super) pid: u32,
    /// The holder's process, as it knows itself.
    pub(super) holder_pid: u32,
}

/// Memory of a process in bytes (proc(5), smaps_rollup and ksm_stat).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Memory {
    /// Its share: what it has alone, and its part of what it has with others.
    pub(super) pss_bytes: u64,
    /// What it has alone.
    pub(super) private_bytes: u64,
    /// Pages that the kernel has merged with equal ones.
    pub(super) merged_bytes: u64,
}

impl Memory {
    /// Of a process; `None` if it is gone, or somebody else's.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let ksm = fs::read_to_string(format!("/proc/{pid}/ksm_stat")).unwrap_or_default();
        Self::parse(&rollup, &ksm)
    }

    fn parse(rollup: &str, ksm: &str) -> Option<Self> {
        let kilobytes = |key: &str| -> Option<u64> {
            let line = rollup.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let merged = ksm
            .lines()
            .find_map(|line| line.strip_prefix("ksm_merging_pages "))
            .and_then(|pages| pages.trim().parse::<u64>().ok());
        Some(Self {
            pss_bytes: kilobytes("Pss:")? * 1024,
            private_bytes: (kilobytes("Private_Clean:")? + kilobytes("Private_Dirty:")?) * 1024,
            merged_bytes: merged.unwrap_or(0) * PAGE,
        })
    }
}

const PAGE: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        let rollup = "55d5-7ffe ---p 00000000 00:00 0 [rollup]\nRss:   2300 kB\nPss:   520 kB\n\
                      Pss_Dirty:  480 kB\nPrivate_Clean:   10 kB\nPrivate_Dirty:   490 kB\n";
        let ksm = "ksm_rmap_items 90\nksm_zero_pages 0\nksm_merging_pages 70\n";
        let memory = Memory::parse(rollup, ksm).unwrap();
        assert_eq!(memory.pss_bytes, 520 * 1024);
        assert_eq!(memory.private_bytes, 500 * 1024);
        assert_eq!(memory.merged_bytes, 70 * 4096);
        assert_eq!(Memory::parse("", ""), None);
        assert!(Memory::of(std::process::id()).unwrap().pss_bytes > 0);
    }
}
