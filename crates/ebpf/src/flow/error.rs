//! Why the flow probes cannot run.

use std::io;

use crate::denied::is_refused_unprivileged;

/// Why the flow probes cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A privilege is missing: CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN before Linux 5.8.
    #[error("the kernel does not let this process load programs")]
    Permission,
    /// The kernel does not describe its types, so nothing can be found in them.
    #[error("this kernel has no BTF (/sys/kernel/btf/vmlinux, CONFIG_DEBUG_INFO_BTF)")]
    NoTypes,
    /// The program without which there is nothing cannot run.
    #[error("the kernel refuses the program that watches connections: {0}")]
    Refused(String),
    /// A call that failed.
    #[error("cannot {operation}: {source}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// The error of a call of libbpf.
    pub(super) fn of(operation: &'static str, error: &libbpf_rs::Error) -> Self {
        if is_refused_unprivileged(error) {
            return Self::Permission;
        }
        Self::System {
            operation,
            source: io::Error::other(error.to_string()),
        }
    }
}
