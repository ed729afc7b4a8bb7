//! Which packets take a TCP connection from one state to the next, as a middlebox sees it: packets
//! that pass may still be lost behind it.

use plumb_wire::tcp::{ACK, FIN, RST, SYN, URG};

use crate::conntrack::Direction;

/// How far a TCP connection is. The names are those that `conntrack -L` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TcpState {
    /// Nothing was seen yet.
    None,
    /// A SYN was seen.
    SynSent,
    /// Both ends have sent a SYN and no acknowledgement: simultaneous open.
    SynSent2,
    /// A SYN and its acknowledgement were seen.
    SynRecv,
    /// Open.
    Established,
    /// A FIN was seen.
    FinWait,
    /// A FIN was acknowledged.
    CloseWait,
    /// Both FINs were seen.
    LastAck,
    /// Both FINs were acknowledged.
    TimeWait,
    /// It was reset.
    Close,
}

impl TcpState {
    /// Its name, as `conntrack -L` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::SynSent => "SYN_SENT",
            Self::SynSent2 => "SYN_SENT2",
            Self::SynRecv => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::FinWait => "FIN_WAIT",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
        }
    }

    /// Says whether it has begun to end, so that it is given up before those that have not.
    pub(in crate::conntrack) const fn is_closing(self) -> bool {
        matches!(
            self,
            Self::FinWait | Self::CloseWait | Self::LastAck | Self::TimeWait | Self::Close
        )
    }
}

/// What a segment is for, by its flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Syn,
    SynAck,
    Fin,
    Ack,
    Rst,
    /// None of them, which no TCP sends.
    None,
}

impl Kind {
    pub(super) const fn of(flags: u8) -> Self {
        if flags & RST != 0 {
            Self::Rst
        } else if flags & SYN != 0 {
            if flags & ACK != 0 {
                Self::SynAck
            } else {
                Self::Syn
            }
        } else if flags & FIN != 0 {
            Self::Fin
        } else if flags & ACK != 0 {
            Self::Ack
        } else {
            Self::None
        }
    }
}

/// Says whether a TCP sends this combination of flags. PSH, ECE and CWR go with any.
pub(super) const fn are_possible(flags: u8) -> bool {
    match flags & (FIN | SYN | RST | ACK | URG) {
        SYN | RST | ACK => true,
        flags => {
            flags == SYN | URG
                || flags == SYN | ACK
                || flags == RST | ACK
                || flags == FIN | ACK
                || flags == FIN | ACK | URG
                || flags == ACK | URG
        }
    }
}

/// What a segment does to a connection, if its numbers are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    To(TcpState),
    /// It may be right, if what is known here is not: it passes, and the answer will tell.
    Ignore,
    /// It is wrong whatever the ends know.
    Invalid,
}

/// The state that follows `state` when `direction` sends a segment of `kind`.
pub(super) const fn step(direction: Direction, kind: Kind, state: TcpState) -> Step {
    use Direction::{Original, Reply};
    use Step::{Ignore, Invalid, To};
    use TcpState::{
        Close, CloseWait, Established, FinWait, LastAck, None, SynRecv, SynSent, SynSent2, TimeWait,
    };
    match (direction, kind, state) {
        (_, Kind::None, _) | (Reply, _, None) => Invalid,

        (Original, Kind::Syn, None | SynSent | TimeWait | Close) => To(SynSent),
        (_, Kind::Syn, SynSent2) | (Reply, Kind::Syn, SynSent) => To(SynSent2),
        // The server may have become the client of a new connection.
        (Reply, Kind::Syn, TimeWait) => To(SynSent),
        // The client may have forgotten the connection that is known here.
        (Original, Kind::Syn, _) => Ignore,
        (Reply, Kind::Syn, _) => Invalid,

        // Only who has got a SYN acknowledges one.
        (Original, Kind::SynAck, SynRecv | SynSent2)
        | (Reply, Kind::SynAck, SynSent | SynSent2) => To(SynRecv),
        (Original, Kind::SynAck, _) => Invalid,
        // Sent again, or the answer to a SYN that was ignored here.
        (Reply, Kind::SynAck, _) => Ignore,

        (_, Kind::Fin, SynRecv | Established) => To(FinWait),
        (_, Kind::Fin, FinWait | CloseWait | LastAck) => To(LastAck),
        (_, Kind::Fin, TimeWait) => To(TimeWait),
        (_, Kind::Fin, Close) => To(Close),
        (_, Kind::Fin, _) => Invalid,

        // A connection whose start was missed.
        (Original, Kind::Ack, None | SynRecv) => To(Established),
        (Original, Kind::Ack, _) if matches!(state, SynSent | SynSent2) => Invalid,
        // The other end may have a half-open connection, and sends a challenge.
        (Reply, Kind::Ack, SynSent | SynSent2) => Ignore,
        // May answer a SYN that was sent again.
        (Reply, Kind::Ack, SynRecv) => To(SynRecv),
        (_, Kind::Ack, Established) => To(Established),
        (_, Kind::Ack, FinWait | CloseWait) => To(CloseWait),
        (_, Kind::Ack, LastAck | TimeWait) => To(TimeWait),
        (_, Kind::Ack, Close) => To(Close),
        (_, Kind::Ack, _) => Invalid,

        (_, Kind::Rst, None) => Invalid,
        (_, Kind::Rst, _) => To(Close),
    }
}
