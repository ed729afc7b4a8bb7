//! How a connection ended, from what its socket says when it is closed.

use plumb_record::{FlowEnd, FlowState};

use super::event::{Event, flag, state};

/// Numbers of errors that are the same on every architecture that Linux has TCP on, but for MIPS,
/// SPARC, Alpha and PA-RISC.
mod errno {
    pub(super) const EPIPE: u16 = 32;
    pub(super) const ENONET: u16 = 64;
    pub(super) const ENOLINK: u16 = 67;
    pub(super) const ENETDOWN: u16 = 100;
    pub(super) const ENETUNREACH: u16 = 101;
    pub(super) const ENETRESET: u16 = 102;
    pub(super) const ECONNABORTED: u16 = 103;
    pub(super) const ECONNRESET: u16 = 104;
    pub(super) const ETIMEDOUT: u16 = 110;
    pub(super) const ECONNREFUSED: u16 = 111;
    pub(super) const EHOSTDOWN: u16 = 112;
    pub(super) const EHOSTUNREACH: u16 = 113;
}

/// How the connection of a [`Closed`](super::EventKind::Closed) event ended.
///
/// The error of the socket alone does not tell: 104 (ECONNRESET) stands for a reset in either
/// direction, a reset received while waiting to close is EPIPE, and a local abort has none yet. So
/// resets are watched, and where no error was set the state says whether the kernel resets the
/// remote end (`tcp_need_reset`).
pub(super) fn reason(event: &Event) -> FlowEnd {
    let reset = event.resets_received > 0;
    if event.old_state == state::SYN_SENT {
        return match event.error {
            0 => FlowEnd::Aborted,
            errno::ECONNREFUSED => FlowEnd::Refused,
            errno::ECONNRESET if reset => FlowEnd::Refused,
            other => of_error(other),
        };
    }
    if reset {
        return FlowEnd::ResetReceived;
    }
    match event.error {
        0 if event.has(flag::META) => FlowEnd::Closed,
        0 => match event.old_state {
            // Moved to a TIME_WAIT socket of its own, or all is acknowledged.
            state::FIN_WAIT2 | state::TIME_WAIT | state::LAST_ACK | state::CLOSING => {
                FlowEnd::Closed
            }
            _ => FlowEnd::ResetSent,
        },
        errno::ECONNABORTED => FlowEnd::ResetSent,
        other => of_error(other),
    }
}

fn of_error(error: u16) -> FlowEnd {
    match error {
        errno::ETIMEDOUT => FlowEnd::TimedOut,
        errno::ENONET
        | errno::ENOLINK
        | errno::ENETDOWN
        | errno::ENETUNREACH
        | errno::ENETRESET
        | errno::EHOSTDOWN
        | errno::EHOSTUNREACH => FlowEnd::Unreachable,
        // Only where received resets cannot be watched.
        errno::ECONNRESET | errno::EPIPE => FlowEnd::ResetReceived,
        errno::ECONNREFUSED => FlowEnd::Refused,
        _ => FlowEnd::Error,
    }
}

/// The state that a connection is in after it ended so.
pub(super) const fn state_after(end: FlowEnd) -> FlowState {
    match end {
        FlowEnd::Closed => FlowState::Finished,
        FlowEnd::TimedOut | FlowEnd::Unreachable => FlowState::NetworkError,
        FlowEnd::ResetReceived
        | FlowEnd::ResetSent
        | FlowEnd::Refused
        | FlowEnd::Aborted
        | FlowEnd::Error => FlowState::ProtocolError,
    }
}
