//! What can go wrong between plumb and the kernel.

use std::io;

use crate::Capability;

/// Why a port, a device or a namespace could not be had, or stopped working.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("cannot {operation} {object}: {source}")]
    System {
        /// What was attempted, as a verb: "open", "bind".
        operation: &'static str,
        /// On what: "a raw IPv4 socket", "/dev/net/tun".
        object: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel wants a capability that this process does not have.
    #[error("cannot {operation} {object}: this needs {capability}")]
    Privilege {
        /// What was attempted, as a verb.
        operation: &'static str,
        /// On what.
        object: String,
        /// What would have allowed it.
        capability: Capability,
        /// What the kernel said.
        source: io::Error,
    },
    /// This user may not have ICMP sockets (icmp(7)).
    #[error(
        "cannot open an ICMP socket: the groups in net.ipv4.ping_group_range are none of this \
         user's"
    )]
    PingGroup,
    /// Neither raw nor unprivileged sockets can be had.
    #[error("{raw}; and without it, {unprivileged}")]
    NoSockets {
        /// Why there are no raw sockets.
        raw: Box<Self>,
        /// Why there are no unprivileged ones.
        unprivileged: Box<Self>,
    },
    /// There is no network interface of this name.
    #[error("there is no network interface {0:?}")]
    NoInterface(String),
}

impl Error {
    /// The error of a failed call that needs no privilege.
    pub(crate) fn system(
        operation: &'static str,
        object: impl Into<String>,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::System {
            operation,
            object: object.into(),
            source: source.into(),
        }
    }

    /// The error of a failed call that EPERM or EACCES would forbid without `capability`.
    pub(crate) fn privileged(
        operation: &'static str,
        object: impl Into<String>,
        capability: Capability,
        source: impl Into<io::Error>,
    ) -> Self {
        let source = source.into();
        let object = object.into();
        if source.kind() == io::ErrorKind::PermissionDenied {
            Self::Privilege {
                operation,
                object,
                capability,
                source,
            }
        } else {
            Self::System {
                operation,
                object,
                source,
            }
        }
    }

    /// The capability that was missing, if that was what was wrong.
    pub fn capability(&self) -> Option<Capability> {
        match self {
            Self::Privilege { capability, .. } => Some(*capability),
            Self::NoSockets { raw, .. } => raw.capability(),
            Self::System { .. } | Self::PingGroup | Self::NoInterface(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_capability_and_any_other_failure_does_not() {
        let refused = Error::privileged(
            "open",
            "a raw IPv4 socket",
            Capability::NetRaw,
            io::Error::from_raw_os_error(libc::EPERM),
        );
        assert_eq!(refused.capability(), Some(Capability::NetRaw));
        assert_eq!(
            refused.to_string(),
            "cannot open a raw IPv4 socket: this needs CAP_NET_RAW"
        );
        let full = Error::privileged(
            "open",
            "a raw IPv4 socket",
            Capability::NetRaw,
            io::Error::from_raw_os_error(libc::EMFILE),
        );
        assert_eq!(full.capability(), None);
    }
}
