//! Why a machine could not be had.

use std::io;

/// Why a runner cannot be used here, and what would help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unavailable {
    /// What is missing, in a line.
    pub reason: String,
    /// A command that helps, if there is one.
    pub remedy: Option<String>,
}

/// Why a machine could not be started or has failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The runner cannot be used here.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The system refused something.
    #[error("cannot {operation}: {source}")]
    System {
        /// What was tried, for example "open /dev/kvm".
        operation: String,
        /// What the system said.
        source: io::Error,
    },
    /// The image is not one that can be booted.
    #[error("the image cannot be booted: {0}")]
    Image(String),
    /// The runner ended before its machine was up.
    #[error("{runner} ended at once: {said}")]
    EndedEarly {
        /// The runner.
        runner: &'static str,
        /// Its last words.
        said: String,
    },
}

impl Error {
    /// A refusal of the system.
    pub(crate) fn system(operation: impl Into<String>, source: io::Error) -> Self {
        let operation = operation.into();
        Self::System { operation, source }
    }
}
