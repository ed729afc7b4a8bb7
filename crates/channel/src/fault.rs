//! What the other end did wrong.

use core::fmt;

/// What the other end said that it may not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A frame is longer than any may be.
    TooLong {
        /// Its length in bytes, as announced.
        len: u32,
    },
    /// A frame has no kind.
    Empty,
    /// There is no such kind of frame.
    UnknownKind(u8),
    /// A frame does not have the form of its kind.
    Malformed {
        /// The kind.
        frame: &'static str,
        /// Where it goes wrong.
        field: &'static str,
    },
    /// A frame comes when its kind may not come.
    OutOfState {
        /// The kind.
        frame: &'static str,
    },
    /// A frame names a job that is not under way.
    UnknownJob(u64),
    /// A record is not one of its job: other addresses, more hops than there are TTLs.
    NotOfJob {
        /// The job.
        job: u64,
        /// What does not fit.
        field: &'static str,
    },
    /// The other end speaks another version.
    Version(u16),
    /// Frames are missing at the end.
    Missing {
        /// Frames that the other end says it sent.
        said: u64,
        /// Frames that came.
        came: u64,
    },
    /// More bytes came than were allowed.
    Flood {
        /// The bytes that were allowed.
        allowed: u64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { len } => write!(f, "a frame of {len} bytes"),
            Self::Empty => f.write_str("an empty frame"),
            Self::UnknownKind(kind) => write!(f, "a frame of unknown kind {kind}"),
            Self::Malformed { frame, field } => {
                write!(f, "a malformed {frame} frame, in its {field}")
            }
            Self::OutOfState { frame } => write!(f, "a {frame} frame out of turn"),
            Self::UnknownJob(job) => write!(f, "an event of job {job}, which is not under way"),
            Self::NotOfJob { job, field } => {
                write!(f, "a record that job {job} cannot have, in its {field}")
            }
            Self::Version(version) => write!(f, "version {version} of the job channel"),
            Self::Missing { said, came } => write!(f, "{said} frames, of which {came} came"),
            Self::Flood { allowed } => write!(f, "more than {allowed} bytes"),
        }
    }
}

impl core::error::Error for Fault {}
