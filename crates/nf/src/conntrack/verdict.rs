//! What connection tracking says of a packet.

use crate::dissect::Fault;

/// How a packet stands to the connections that are known: `ct state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It begins a connection, or belongs to one that was not answered yet.
    New,
    /// It belongs to a connection that has seen packets both ways.
    Established,
    /// It is an ICMP error about a packet of a connection.
    Related,
    /// It belongs to no connection and cannot begin one.
    Invalid,
    /// It is of a kind that is not tracked: neighbour discovery, or no IP at all.
    Untracked,
}

impl State {
    /// Its bit in nftables' `ct state`.
    pub const fn bit(self) -> u32 {
        match self {
            Self::Invalid => 1,
            Self::Established => 2,
            Self::Related => 4,
            Self::New => 8,
            Self::Untracked => 64,
        }
    }

    /// Its name in nftables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Established => "established",
            Self::Related => "related",
            Self::Invalid => "invalid",
            Self::Untracked => "untracked",
        }
    }

    /// Says whether a packet of this state is of a connection.
    pub const fn has_connection(self) -> bool {
        match self {
            Self::New | Self::Established | Self::Related => true,
            Self::Invalid | Self::Untracked => false,
        }
    }
}

/// Which way a packet goes: `ct direction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// The way of the first packet.
    Original = 0,
    /// The other way.
    Reply = 1,
}

impl Direction {
    /// The other way.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Original => Self::Reply,
            Self::Reply => Self::Original,
        }
    }
}

/// What is known of a connection, as a set of bits: `ct status`, with nftables' numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status(u32);

impl Status {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Packets went both ways.
    pub const SEEN_REPLY: Self = Self(2);
    /// It was seen to be open, and is not given up for a newer one.
    pub const ASSURED: Self = Self(4);
    /// It is in the table.
    pub const CONFIRMED: Self = Self(8);
    /// It is over, and out of the table.
    pub const DYING: Self = Self(512);

    /// The bits.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Says whether all that is in `other` is in it.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// All that is in either.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What went one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets; a superframe is one.
    pub packets: u64,
    /// Bytes from the IP header on.
    pub bytes: u64,
}

/// The name of a connection in its table, never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    pub(super) number: u64,
    pub(super) slot: u32,
}

impl EntryId {
    /// Its number, counted from 1: `ct id`.
    pub const fn number(self) -> u64 {
        self.number
    }
}

/// What rules ask of a packet and its connection, once the packet has been counted in. The rest is
/// in the table: [`Conntrack::get`](super::Conntrack::get).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// How it stands to connections.
    pub state: State,
    /// Which way it goes; [`Direction::Original`] where there is no connection. Of an ICMP error,
    /// the way of an answer to the packet that it quotes.
    pub direction: Direction,
    /// What is known of its connection.
    pub status: Status,
    /// The connection's mark.
    pub mark: u32,
    /// The VLAN that the connection is in, 0 without.
    pub zone: u16,
    /// The connection's name; none as long as it is not in the table.
    pub id: Option<EntryId>,
    /// What is wrong with it, if it is [`State::Invalid`].
    pub invalid: Option<Invalid>,
    pub(super) ticket: u64,
}

impl Tracked {
    /// A packet without a connection.
    pub(super) const fn alone(state: State, invalid: Option<Invalid>) -> Self {
        Self {
            state,
            direction: Direction::Original,
            status: Status::NONE,
            mark: 0,
            zone: 0,
            id: None,
            invalid,
            ticket: 0,
        }
    }

    /// A packet that was not looked at yet: without a connection, which rules see as
    /// [`State::Invalid`], as in the kernel.
    pub(crate) const fn not_yet() -> Self {
        Self::alone(State::Invalid, None)
    }

    /// A packet that was not tracked because a rule or the kind of function says so.
    pub const fn untracked() -> Self {
        Self::alone(State::Untracked, None)
    }

    pub(super) const fn invalid(why: Invalid) -> Self {
        Self::alone(State::Invalid, Some(why))
    }
}

/// Why a packet is [`State::Invalid`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invalid {
    /// It is damaged.
    Fault(Fault),
    /// Its transport checksum is wrong.
    Checksum,
    /// It is a fragment without a transport header, and was not reassembled.
    LaterFragment,
    /// Its flags are a combination that no TCP sends.
    TcpFlags,
    /// It cannot begin a TCP connection, and there is none that it would be part of.
    TcpNoStart,
    /// It is in the middle of a TCP connection whose start was missed, and those are not picked
    /// up.
    TcpNotPickedUp,
    /// It has no place in the state that its TCP connection is in.
    TcpState,
    /// It is a reset with a number below what was acknowledged (RFC 5961 §3).
    TcpReset,
    /// Its sequence number is above what the receiver has room for.
    TcpAboveWindow,
    /// It acknowledges what was not sent.
    TcpAckNotSent,
    /// It is an ICMP message that neither asks nor answers a question that was seen.
    IcmpNoQuestion,
    /// It is an ICMP error that quotes a packet of no connection, or not enough of it.
    IcmpNoConnection,
    /// It is an ICMP error that goes to somebody else than the quoted packet came from.
    IcmpWrongTarget,
}

impl Invalid {
    /// The reason in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Fault(fault) => fault.words(),
            Self::Checksum => "wrong checksum",
            Self::LaterFragment => "fragment without a transport header",
            Self::TcpFlags => "impossible TCP flags",
            Self::TcpNoStart => "no TCP connection, and no SYN",
            Self::TcpNotPickedUp => "TCP connection whose start was missed",
            Self::TcpState => "out of place in the TCP connection's state",
            Self::TcpReset => "TCP reset below what was acknowledged",
            Self::TcpAboveWindow => "TCP segment above the receiver's window",
            Self::TcpAckNotSent => "TCP acknowledgement of what was not sent",
            Self::IcmpNoQuestion => "ICMP message without a question",
            Self::IcmpNoConnection => "ICMP error about no known connection",
            Self::IcmpWrongTarget => "ICMP error to somebody else than the quoted sender",
        }
    }
}

/// Why a connection was not taken into the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There are as many as there may be, all of them assured and open.
    Table,
    /// Its source has as many as it may have.
    Source,
}

impl Refused {
    /// The reason in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Table => "connection table full",
            Self::Source => "too many connections of one source",
        }
    }
}
