//! What the host says.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use plumb_probe::{
    Config, Headers, Job, Ping, PingOptions, Reveal, Trace, TraceOptions, TunnelOptions,
};
use plumb_record::Method;

use crate::codec::{Reader, Writer, count};
use crate::frame::MOST_ORDER;
use crate::outbox::Outbox;
use crate::{Fault, VERSION};

/// The beginning of a session.
#[derive(Clone, Copy, Debug)]
pub struct Configure {
    /// Number of the session; another one than that of the session before.
    pub session: u64,
    /// Settings of the engine.
    pub engine: Config,
    /// Seed of the engine's random choices.
    pub seed: u64,
    /// Whether every packet sent and received is to be reported.
    pub packets: bool,
}

/// How jobs are done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Options {
    /// Of traces.
    Trace(Arc<TraceOptions>),
    /// Of pings.
    Ping(Arc<PingOptions>),
}

impl Options {
    /// The job with these options.
    pub fn job(&self, src: IpAddr, dst: IpAddr) -> Job {
        match self {
            Self::Trace(options) => Job::Trace(Trace {
                src,
                dst,
                options: Arc::clone(options),
            }),
            Self::Ping(options) => Job::Ping(Ping {
                src,
                dst,
                options: Arc::clone(options),
            }),
        }
    }

    /// The options of a job.
    pub fn of(job: &Job) -> Self {
        match job {
            Job::Trace(trace) => Self::Trace(Arc::clone(&trace.options)),
            Job::Ping(ping) => Self::Ping(Arc::clone(&ping.options)),
        }
    }
}

/// Something that the host says.
#[derive(Clone, Debug)]
pub enum Order {
    /// Ends the session before, if there is one, and begins another.
    Configure(Configure),
    /// Gives a number to options.
    Options {
        /// The number; one that was given before gets new options.
        number: u8,
        /// The options.
        options: Options,
    },
    /// A job.
    Start {
        /// What both ends call it; never used twice in a session.
        token: u64,
        /// Source address of the probes.
        src: IpAddr,
        /// Destination.
        dst: IpAddr,
        /// Number of its options.
        options: u8,
    },
    /// Ends a job early; its last event follows.
    Stop {
        /// The job.
        token: u64,
    },
    /// Ends all jobs early; their last events follow. Those that were not begun are refused.
    StopAll,
    /// There are no more jobs in this session.
    Finish,
    /// All frames of the session up to this number have been taken.
    Ack {
        /// Frames, from the session's `Ready` on.
        frames: u64,
    },
    /// So many bytes of the session have come, so that more may be sent.
    Received {
        /// Bytes, from the session's `Ready` on, or before.
        bytes: u64,
    },
    /// Ends the session at once: whoever began it is gone.
    Reset,
    /// Ends the machine as soon as everything is acknowledged.
    Shutdown,
}

/// Most numbers of options.
pub(crate) const MOST_OPTIONS: u8 = 16;

const CONFIGURE: u8 = 1;
const OPTIONS: u8 = 2;
const START: u8 = 3;
const STOP: u8 = 4;
const STOP_ALL: u8 = 5;
const FINISH: u8 = 6;
const ACK: u8 = 7;
const RESET: u8 = 8;
pub(crate) const SHUTDOWN: u8 = 9;
const RECEIVED: u8 = 10;

impl Order {
    /// The name of its frame.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Configure(_) => "Configure",
            Self::Options { .. } => "Options",
            Self::Start { .. } => "Start",
            Self::Stop { .. } => "Stop",
            Self::StopAll => "StopAll",
            Self::Finish => "Finish",
            Self::Ack { .. } => "Ack",
            Self::Received { .. } => "Received",
            Self::Reset => "Reset",
            Self::Shutdown => "Shutdown",
        }
    }

    /// The order as a frame, for who has neither end: whoever takes clients for a machine sends
    /// [`Reset`](Self::Reset) when one is gone.
    pub fn frame(&self) -> Vec<u8> {
        let mut outbox = Outbox::default();
        outbox.frame(self.kind(), MOST_ORDER, |w| self.write(w));
        outbox.waiting().to_vec()
    }

    /// The kind of its frame.
    pub(crate) const fn kind(&self) -> u8 {
        match self {
            Self::Configure(_) => CONFIGURE,
            Self::Options { .. } => OPTIONS,
            Self::Start { .. } => START,
            Self::Stop { .. } => STOP,
            Self::StopAll => STOP_ALL,
            Self::Finish => FINISH,
            Self::Ack { .. } => ACK,
            Self::Received { .. } => RECEIVED,
            Self::Reset => RESET,
            Self::Shutdown => SHUTDOWN,
        }
    }

    /// Writes the payload.
    pub(crate) fn write(&self, w: &mut Writer<'_>) {
        match self {
            Self::Configure(configure) => write_configure(configure, w),
            Self::Options { number, options } => {
                w.u8(*number);
                match options {
                    Options::Trace(options) => {
                        w.u8(0);
                        write_trace(options, w);
                    }
                    Options::Ping(options) => {
                        w.u8(1);
                        write_ping(options, w);
                    }
                }
            }
            Self::Start {
                token,
                src,
                dst,
                options,
            } => {
                w.u64(*token);
                w.address(*src);
                w.address(*dst);
                w.u8(*options);
            }
            Self::Stop { token } => w.u64(*token),
            Self::Ack { frames } => w.u64(*frames),
            Self::Received { bytes } => w.u64(*bytes),
            Self::StopAll | Self::Finish | Self::Reset | Self::Shutdown => {}
        }
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// If it is not an order.
    pub(crate) fn read(kind: u8, payload: &[u8]) -> Result<Self, Fault> {
        let reader = |name| Reader::new(payload, name);
        let (order, rest) = match kind {
            CONFIGURE => {
                let mut r = reader("Configure");
                (Self::Configure(read_configure(&mut r)?), r)
            }
            OPTIONS => {
                let mut r = reader("Options");
                let number = r.u8("number")?;
                if number >= MOST_OPTIONS {
                    return Err(r.fault("number"));
                }
                let options = match r.u8("what")? {
                    0 => Options::Trace(Arc::new(read_trace(&mut r)?)),
                    1 => Options::Ping(Arc::new(read_ping(&mut r)?)),
                    _ => return Err(r.fault("what")),
                };
                (Self::Options { number, options }, r)
            }
            START => {
                let mut r = reader("Start");
                let order = Self::Start {
                    token: r.u64("job")?,
                    src: r.address("source")?,
                    dst: r.address("destination")?,
                    options: r.u8("options")?,
                };
                (order, r)
            }
            STOP => {
                let mut r = reader("Stop");
                let token = r.u64("job")?;
                (Self::Stop { token }, r)
            }
            STOP_ALL => (Self::StopAll, reader("StopAll")),
            FINISH => (Self::Finish, reader("Finish")),
            ACK => {
                let mut r = reader("Ack");
                let frames = r.u64("frames")?;
                (Self::Ack { frames }, r)
            }
            RECEIVED => {
                let mut r = reader("Received");
                let bytes = r.u64("bytes")?;
                (Self::Received { bytes }, r)
            }
            RESET => (Self::Reset, reader("Reset")),
            SHUTDOWN => (Self::Shutdown, reader("Shutdown")),
            unknown => return Err(Fault::UnknownKind(unknown)),
        };
        rest.end()?;
        Ok(order)
    }
}

fn write_configure(configure: &Configure, w: &mut Writer<'_>) {
    // The version comes first in all versions.
    w.u16(VERSION);
    w.u64(configure.session);
    w.u64(configure.seed);
    w.bool(configure.packets);
    let engine = &configure.engine;
    w.option(engine.rate, Writer::u32);
    w.u32(count(engine.window));
    w.duration(engine.cache_lifetime);
    w.u32(count(engine.cache_entries));
    w.bool(engine.headers == Headers::Rebuilt);
}

fn read_configure(r: &mut Reader<'_>) -> Result<Configure, Fault> {
    let version = r.u16("version")?;
    if version != VERSION {
        return Err(Fault::Version(version));
    }
    Ok(Configure {
        session: r.u64("session")?,
        seed: r.u64("seed")?,
        packets: r.bool("packets")?,
        engine: Config {
            rate: r.option("rate", Reader::u32)?,
            window: r.size("window")?,
            cache_lifetime: r.duration("cache lifetime")?,
            cache_entries: r.size("cache entries")?,
            headers: match r.bool("headers")? {
                true => Headers::Rebuilt,
                false => Headers::Received,
            },
        },
    })
}

fn write_trace(options: &TraceOptions, w: &mut Writer<'_>) {
    w.u8(match options.method {
        Method::IcmpParis => 0,
        Method::UdpParis => 1,
        Method::TcpParis => 2,
    });
    w.bytes(&[
        options.first_ttl,
        options.max_ttl,
        options.attempts,
        options.gap_limit,
        options.parallel,
        options.tos,
    ]);
    w.duration(options.wait);
    w.u16(options.dst_port);
    w.option(options.flow, Writer::u16);
    w.u16(options.size);
    w.bool(options.report_hops);
    w.option(options.tunnels, |w, tunnels| {
        w.u8(match tunnels.reveal {
            Reveal::Auto => 0,
            Reveal::Always => 1,
            Reveal::Never => 2,
        });
        for threshold in [
            tunnels.frpla_threshold,
            tunnels.rtla_threshold,
            tunnels.uturn_threshold,
        ] {
            w.bytes(&threshold.to_le_bytes());
        }
        w.u8(tunnels.opaque_ttl);
        w.u8(tunnels.pings);
        w.bool(tunnels.first_only);
    });
}

fn read_trace(r: &mut Reader<'_>) -> Result<TraceOptions, Fault> {
    Ok(TraceOptions {
        method: match r.u8("method")? {
            0 => Method::IcmpParis,
            1 => Method::UdpParis,
            2 => Method::TcpParis,
            _ => return Err(r.fault("method")),
        },
        first_ttl: r.u8("first TTL")?,
        max_ttl: r.u8("highest TTL")?,
        attempts: r.u8("attempts")?,
        gap_limit: r.u8("gap limit")?,
        parallel: r.u8("parallel")?,
        tos: r.u8("TOS")?,
        wait: r.duration("wait")?,
        dst_port: r.u16("destination port")?,
        flow: r.option("flow", Reader::u16)?,
        size: r.u16("size")?,
        report_hops: r.bool("report of hops")?,
        tunnels: r.option("tunnels", |r, _| {
            Ok(TunnelOptions {
                reveal: match r.u8("revelation")? {
                    0 => Reveal::Auto,
                    1 => Reveal::Always,
                    2 => Reveal::Never,
                    _ => return Err(r.fault("revelation")),
                },
                frpla_threshold: r.i16("FRPLA")?,
                rtla_threshold: r.i16("RTLA")?,
                uturn_threshold: r.i16("U-turn")?,
                opaque_ttl: r.u8("opaque TTL")?,
                pings: r.u8("pings")?,
                first_only: r.bool("first only")?,
            })
        })?,
    })
}

fn write_ping(options: &PingOptions, w: &mut Writer<'_>) {
    w.option(options.count, Writer::u32);
    w.duration(options.interval);
    w.duration(options.wait);
    w.u8(options.ttl);
    w.u8(options.tos);
    w.u16(options.size);
    w.bool(options.report_replies);
}

fn read_ping(r: &mut Reader<'_>) -> Result<PingOptions, Fault> {
    Ok(PingOptions {
        count: r.option("count", Reader::u32)?,
        interval: r.duration("interval")?,
        wait: r.duration("wait")?,
        ttl: r.u8("TTL")?,
        tos: r.u8("TOS")?,
        size: r.u16("size")?,
        report_replies: r.bool("report of replies")?,
    })
}
