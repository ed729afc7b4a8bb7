//! How a command ends: exit codes, and failures that carry one.

use core::fmt;
use std::io::Write;
use std::process::ExitCode;

/// The exit status of `plumb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Done, and every target reached.
    Reached = 0,
    /// Done, but a target was not reached.
    NotReached = 1,
    /// Wrong usage or bad input.
    Usage = 2,
    /// A permission is missing.
    Permission = 3,
    /// Done in part: some targets could not be used.
    Partial = 5,
    /// The user interrupted it.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error whose cause decides the exit status.
///
/// An error without one in its chain ends with [`Exit::Usage`], except a broken pipe: whoever
/// closes our output has seen enough.
#[derive(Debug)]
pub struct Failure {
    /// The exit status.
    pub exit: Exit,
    /// What is wrong and what to do.
    pub message: String,
}

impl Failure {
    /// A mistake in what the user asked for.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Usage,
            message: message.into(),
        }
    }

    /// A missing permission.
    pub fn permission(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Permission,
            message: message.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl core::error::Error for Failure {}

/// The exit status that `error` leads to; `None` for a broken pipe, which is not worth a word.
pub fn status_of(error: &anyhow::Error) -> Option<Exit> {
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return Some(failure.exit);
        }
        if let Some(io) = cause.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::BrokenPipe
        {
            return None;
        }
    }
    Some(Exit::Usage)
}

/// Says what is wrong, and returns the exit status.
pub(crate) fn report(error: &anyhow::Error) -> Exit {
    let Some(exit) = status_of(error) else {
        return Exit::Reached;
    };
    // Nothing can be done about an error while an error is reported.
    drop(writeln!(std::io::stderr(), "plumb: {error:#}"));
    exit
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn the_cause_decides_the_exit_status_and_a_broken_pipe_is_silent() {
        let missing: anyhow::Result<()> =
            Err(Failure::permission("CAP_NET_RAW is missing")).context("cannot open a socket");
        assert_eq!(
            missing.as_ref().err().and_then(status_of),
            Some(Exit::Permission)
        );
        let broken: anyhow::Result<()> =
            Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe)).context("cannot write");
        assert_eq!(broken.as_ref().err().map(status_of), Some(None));
        assert_eq!(
            status_of(&anyhow::anyhow!("something else")),
            Some(Exit::Usage)
        );
    }
}
