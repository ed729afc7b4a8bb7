//! What the owner may want to know of connections.

use plumb_wire::Instant;

use super::table::Entry;
use super::tuple::Tuple;
use super::verdict::{EntryId, Status, Traffic};

/// A connection has begun or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Instant,
    /// What.
    pub kind: EventKind,
    /// The connection as it was then.
    pub connection: Connection,
}

/// What has happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was taken into the table.
    New,
    /// It is over.
    Destroyed(End),
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// No packet came for as long as its state allows.
    TimedOut,
    /// It was given up for a newer one.
    Evicted,
    /// It was reset before it was answered.
    Reset,
    /// A new one has begun between the same ports.
    Reopened,
    /// The owner has removed it.
    Removed,
}

/// A connection as the table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its name.
    pub id: EntryId,
    /// Its first packet's addresses and ports.
    pub original: Tuple,
    /// Its VLAN, 0 without.
    pub zone: u16,
    /// What is known of it.
    pub status: Status,
    /// Its mark.
    pub mark: u32,
    /// What went in either [`Direction`](super::Direction).
    pub traffic: [Traffic; 2],
    /// When it began.
    pub since: Instant,
    /// When it ends if no packet comes.
    pub expires: Instant,
    /// How far it is, if it is TCP.
    pub tcp: Option<super::TcpState>,
}

impl Connection {
    /// None if it is not in the table, and never was.
    pub(super) fn of(entry: &Entry) -> Option<Self> {
        Some(Self {
            id: entry.id?,
            original: entry.original,
            zone: entry.zone,
            status: entry.status,
            mark: entry.mark,
            traffic: entry.traffic,
            since: entry.since,
            expires: entry.expires,
            tcp: entry.tcp(),
        })
    }
}
