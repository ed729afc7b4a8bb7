//! The virtual TAP: copies of the packets of interfaces, chosen, cut and sampled in the kernel.
//!
//! A filter is a program that is generated for it (`program.rs`): the first that a packet meets, on
//! an interface's way in and out. What it does not choose costs nothing more. What it chooses, it
//! hands to the programs of `tap.bpf.c`, which put a slice into a ring that is read here
//! ([`Session::consume`]), or clone it to other interfaces ([`Output`]), with a header of a tunnel
//! before it if it is to go farther. The watched packet itself is never changed, and goes on in every
//! case.

mod attach;
pub mod cbpf;
mod choice;
mod chooser;
mod encapsulation;
pub mod filter;
mod insn;
mod layout;
mod program;
mod record;
mod ring;
mod session;
mod sys;
mod translate;
mod user_space;

use std::io;

use crate::denied::{is_refused_unprivileged, is_unprivileged};

pub use attach::Way;
pub use choice::{Choice, Rule};
pub use chooser::{Builder, Chooser, MAX_PREFIXES, Prefix, PrefixSet};
pub use encapsulation::{GENEVE_PORT, OPTION_CLASS, Output, Path, Tunnel, VXLAN_PORT};
pub use insn::TooLong;
pub use layout::{Counters, MARK, MAX_OUTPUTS};
pub use program::Hook;
pub use record::Packet;
pub use session::{Limits, Options, Session};
pub use sys::{Ran, has_tcx};

/// Why the kernel does not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The programs could not be loaded.
    #[error("the kernel does not load the programs: {reason}")]
    Load {
        /// What it says.
        reason: String,
        /// The error.
        source: io::Error,
    },
    /// The verifier refuses a generated program.
    #[error("the kernel refuses the program {program}: {reason}")]
    Verifier {
        /// Its name.
        program: String,
        /// What the verifier says last.
        reason: String,
        /// The error.
        source: io::Error,
    },
    /// The filter is too long.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// A program cannot be attached.
    #[error("cannot attach to interface {interface}: {source}")]
    Attach {
        /// Its number.
        interface: u32,
        /// The error.
        source: io::Error,
    },
    /// A map cannot be used.
    #[error("cannot use a map of the session: {source}")]
    Map {
        /// The error.
        source: io::Error,
    },
    /// There are more than [`MAX_OUTPUTS`].
    #[error("a session has {MAX_OUTPUTS} outputs at most")]
    TooManyOutputs,
    /// The filter runs in user space, so the kernel cannot do this to what it chooses.
    #[error(
        "the kernel does not load the filter ({reason}), so packets are chosen where they are read: no \
         rate limit and no other interface or tunnel is possible; use a simpler filter"
    )]
    InUserSpace {
        /// Why the kernel does not load it.
        reason: String,
    },
    /// There are more than [`MAX_PREFIXES`].
    #[error("a set has {MAX_PREFIXES} prefixes at most, not {0}")]
    TooManyPrefixes(usize),
}

/// What libbpf says of a map.
fn map_error(error: &libbpf_rs::Error) -> Error {
    Error::Map {
        source: io::Error::other(error.to_string()),
    }
}

impl Error {
    fn load(error: &libbpf_rs::Error) -> Self {
        let source = if is_refused_unprivileged(error) {
            io::Error::from_raw_os_error(libc::EPERM)
        } else {
            io::ErrorKind::Other.into()
        };
        Self::Load {
            reason: error.to_string(),
            source,
        }
    }

    /// Whether a permission is missing.
    pub fn is_permission(&self) -> bool {
        match self {
            Self::Load { source, .. }
            | Self::Verifier { source, .. }
            | Self::Attach { source, .. }
            | Self::Map { source } => is_unprivileged(source),
            Self::TooLong(_)
            | Self::TooManyOutputs
            | Self::InUserSpace { .. }
            | Self::TooManyPrefixes(_) => false,
        }
    }
}
