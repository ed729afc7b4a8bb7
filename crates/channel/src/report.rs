//! What the guest says.

use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use plumb_probe::{Refused, Stats};
use plumb_wire::Instant;

use crate::codec::{Reader, Writer};
use crate::{Fault, VERSION};

/// The answer to `Configure`: what machine this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Number of the session, from its `Configure`.
    pub session: u64,
    /// The guest's clock.
    pub time: Instant,
    /// Address of its network interface.
    pub mac: [u8; 6],
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Most jobs under way at once: what was asked for, or what its memory allows.
    pub window: u32,
    /// Its addresses with prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// Why a job was not begun, or has no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The engine refused it.
    Engine(Refused),
    /// The guest has no such source address.
    NotMyAddress,
    /// It was stopped before it began.
    Stopped,
    /// Its record is longer than a frame may be.
    TooLong,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(refused) => refused.fmt(f),
            Self::NotMyAddress => f.write_str("the machine has no such source address"),
            Self::Stopped => f.write_str("stopped before it began"),
            Self::TooLong => f.write_str("its record is too long to be sent"),
        }
    }
}

/// How far the guest has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// The guest's clock.
    pub(crate) time: Instant,
    pub(crate) engine: Stats,
    /// Packets that were lost between network and engine.
    pub(crate) dropped: u64,
    /// Packets that were not reported though all should be.
    pub(crate) unreported: u64,
}

/// Which way a packet went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Sent,
    Received,
}

/// Something that the guest says. Records are JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Report<'a> {
    Ready(Ready),
    Refused {
        token: u64,
        why: Refusal,
    },
    Hop {
        token: u64,
        record: &'a [u8],
    },
    Trace {
        token: u64,
        /// The guest's clock now.
        time: Instant,
        started: Instant,
        record: &'a [u8],
    },
    PingReply {
        token: u64,
        record: &'a [u8],
    },
    Ping {
        token: u64,
        time: Instant,
        started: Instant,
        record: &'a [u8],
    },
    /// So many jobs of the session have left the inbox.
    Taken {
        jobs: u64,
    },
    Stats(Counters),
    Packet {
        at: Instant,
        way: Way,
        bytes: &'a [u8],
    },
    Text(&'a [u8]),
    Finished {
        /// Frames of the session, `Ready` and this one included.
        frames: u64,
    },
}

const READY: u8 = 1;
pub(crate) const REFUSED: u8 = 2;
const HOP: u8 = 3;
pub(crate) const TRACE: u8 = 4;
const PING_REPLY: u8 = 5;
pub(crate) const PING: u8 = 6;
const TAKEN: u8 = 7;
const STATS: u8 = 8;
const PACKET: u8 = 9;
pub(crate) const TEXT: u8 = 10;
const FINISHED: u8 = 11;

/// Most addresses of a guest.
const MOST_ADDRESSES: u8 = 64;
/// More than any counter can be in a human lifetime, and few enough to be multiplied.
const MOST_COUNT: u64 = 1 << 53;

impl<'a> Report<'a> {
    /// The kind and the name of its frame.
    pub(crate) const fn kind(&self) -> (u8, &'static str) {
        match self {
            Self::Ready(_) => (READY, "Ready"),
            Self::Refused { .. } => (REFUSED, "Refused"),
            Self::Hop { .. } => (HOP, "Hop"),
            Self::Trace { .. } => (TRACE, "Trace"),
            Self::PingReply { .. } => (PING_REPLY, "PingReply"),
            Self::Ping { .. } => (PING, "Ping"),
            Self::Taken { .. } => (TAKEN, "Taken"),
            Self::Stats(_) => (STATS, "Stats"),
            Self::Packet { .. } => (PACKET, "Packet"),
            Self::Text(_) => (TEXT, "Text"),
            Self::Finished { .. } => (FINISHED, "Finished"),
        }
    }

    /// Writes the payload.
    pub(crate) fn write(&self, w: &mut Writer<'_>) {
        match self {
            Self::Ready(ready) => {
                // The version comes first in all versions.
                w.u16(VERSION);
                w.u64(ready.session);
                w.instant(ready.time);
                w.bytes(&ready.mac);
                w.u16(ready.mtu);
                w.u32(ready.window);
                let addresses = ready.addresses.iter().take(MOST_ADDRESSES.into());
                w.u8(u8::try_from(addresses.len()).unwrap_or(MOST_ADDRESSES));
                for (address, prefix) in addresses {
                    w.address(*address);
                    w.u8(*prefix);
                }
            }
            Self::Refused { token, why } => {
                w.u64(*token);
                w.u8(refusal_code(*why));
            }
            Self::Hop { token, record } | Self::PingReply { token, record } => {
                w.u64(*token);
                w.bytes(record);
            }
            Self::Trace {
                token,
                time,
                started,
                record,
            }
            | Self::Ping {
                token,
                time,
                started,
                record,
            } => {
                w.u64(*token);
                w.instant(*time);
                w.instant(*started);
                w.bytes(record);
            }
            Self::Taken { jobs } => w.u64(*jobs),
            Self::Stats(counters) => write_counters(counters, w),
            Self::Packet { at, way, bytes } => {
                w.instant(*at);
                w.bool(*way == Way::Received);
                w.bytes(bytes);
            }
            Self::Text(text) => w.bytes(text),
            Self::Finished { frames } => w.u64(*frames),
        }
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// If it is not a report.
    pub(crate) fn read(kind: u8, payload: &'a [u8]) -> Result<Self, Fault> {
        let reader = |name| Reader::new(payload, name);
        let (report, rest) = match kind {
            READY => {
                let mut r = reader("Ready");
                (Self::Ready(read_ready(&mut r)?), r)
            }
            REFUSED => {
                let mut r = reader("Refused");
                let token = r.u64("job")?;
                let code = r.u8("reason")?;
                let why = refusal(code).ok_or_else(|| r.fault("reason"))?;
                (Self::Refused { token, why }, r)
            }
            // Records and packets take the rest of their frame.
            HOP => {
                let mut r = reader("Hop");
                let token = r.u64("job")?;
                let record = r.rest();
                return Ok(Self::Hop { token, record });
            }
            PING_REPLY => {
                let mut r = reader("PingReply");
                let token = r.u64("job")?;
                let record = r.rest();
                return Ok(Self::PingReply { token, record });
            }
            TRACE => {
                let mut r = reader("Trace");
                return Ok(Self::Trace {
                    token: r.u64("job")?,
                    time: r.instant("time")?,
                    started: r.instant("start")?,
                    record: r.rest(),
                });
            }
            PING => {
                let mut r = reader("Ping");
                return Ok(Self::Ping {
                    token: r.u64("job")?,
                    time: r.instant("time")?,
                    started: r.instant("start")?,
                    record: r.rest(),
                });
            }
            TAKEN => {
                let mut r = reader("Taken");
                let jobs = r.u64("jobs")?;
                (Self::Taken { jobs }, r)
            }
            STATS => {
                let mut r = reader("Stats");
                (Self::Stats(read_counters(&mut r)?), r)
            }
            PACKET => {
                let mut r = reader("Packet");
                return Ok(Self::Packet {
                    at: r.instant("time")?,
                    way: match r.bool("direction")? {
                        false => Way::Sent,
                        true => Way::Received,
                    },
                    bytes: r.rest(),
                });
            }
            TEXT => return Ok(Self::Text(payload)),
            FINISHED => {
                let mut r = reader("Finished");
                let frames = r.u64("frames")?;
                (Self::Finished { frames }, r)
            }
            unknown => return Err(Fault::UnknownKind(unknown)),
        };
        rest.end()?;
        Ok(report)
    }
}

fn read_ready(r: &mut Reader<'_>) -> Result<Ready, Fault> {
    let version = r.u16("version")?;
    if version != VERSION {
        return Err(Fault::Version(version));
    }
    let (session, time) = (r.u64("session")?, r.instant("time")?);
    let (mac, mtu, window) = (r.mac("MAC")?, r.u16("MTU")?, r.u32("window")?);
    let count = r.u8("addresses")?;
    if count > MOST_ADDRESSES {
        return Err(r.fault("addresses"));
    }
    let mut addresses = Vec::new();
    for _ in 0..count {
        let address = r.address("addresses")?;
        let prefix = r.u8("addresses")?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        if prefix > most {
            return Err(r.fault("addresses"));
        }
        addresses.push((address, prefix));
    }
    Ok(Ready {
        session,
        time,
        mac,
        mtu,
        window,
        addresses,
    })
}

fn write_counters(counters: &Counters, w: &mut Writer<'_>) {
    w.instant(counters.time);
    let engine = &counters.engine;
    for count in [
        engine.sent,
        engine.send_errors,
        engine.replies,
        engine.late,
        engine.duplicates,
        engine.ignored,
        engine.finished,
        counters.dropped,
        counters.unreported,
    ] {
        w.u64(count);
    }
}

fn read_counters(r: &mut Reader<'_>) -> Result<Counters, Fault> {
    let time = r.instant("time")?;
    let mut count = |field| match r.u64(field)? {
        value if value <= MOST_COUNT => Ok(value),
        _ => Err(r.fault(field)),
    };
    Ok(Counters {
        time,
        engine: Stats {
            sent: count("sent")?,
            send_errors: count("send errors")?,
            replies: count("replies")?,
            late: count("late")?,
            duplicates: count("duplicates")?,
            ignored: count("ignored")?,
            finished: count("finished")?,
        },
        dropped: count("dropped")?,
        unreported: count("unreported")?,
    })
}

impl Counters {
    /// Whether all of these are those of `earlier` or more.
    pub(crate) fn follow(&self, earlier: &Self) -> bool {
        let all = |counters: &Self| {
            let engine = counters.engine;
            [
                engine.sent,
                engine.send_errors,
                engine.replies,
                engine.late,
                engine.duplicates,
                engine.ignored,
                engine.finished,
                counters.dropped,
                counters.unreported,
            ]
        };
        let pairs = all(self).into_iter().zip(all(earlier));
        pairs.into_iter().all(|(now, then)| now >= then)
    }
}

const fn refusal_code(why: Refusal) -> u8 {
    match why {
        Refusal::Engine(Refused::Full) => 0,
        Refusal::Engine(Refused::FamilyMismatch) => 1,
        Refusal::Engine(Refused::NotATarget) => 2,
        Refusal::Engine(Refused::BadOptions) => 3,
        Refusal::NotMyAddress => 4,
        Refusal::Stopped => 5,
        Refusal::TooLong => 6,
    }
}

const fn refusal(code: u8) -> Option<Refusal> {
    Some(match code {
        0 => Refusal::Engine(Refused::Full),
        1 => Refusal::Engine(Refused::FamilyMismatch),
        2 => Refusal::Engine(Refused::NotATarget),
        3 => Refusal::Engine(Refused::BadOptions),
        4 => Refusal::NotMyAddress,
        5 => Refusal::Stopped,
        6 => Refusal::TooLong,
        _ => return None,
    })
}
