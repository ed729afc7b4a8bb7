//! The fate of a single probe.

/// What has become of a probe that has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotState {
    /// Nothing yet, and its wait is not over.
    Waiting,
    /// Something answered it.
    Answered,
    /// Its wait is over. What still comes is late.
    Expired,
}
