//! What is kept of a reply.

use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use plumb_record::Hop;
use plumb_wire::Instant;
use plumb_wire::mpls::Lse;

use crate::job::Headers;
use crate::reply::{Reply, ReplyKind};

/// The answer to one probe, without the packet.
#[derive(Clone, Debug)]
pub(crate) struct Observation {
    pub(crate) kind: ReplyKind,
    pub(crate) addr: IpAddr,
    pub(crate) rtt: Duration,
    pub(crate) attempt: u8,
    pub(crate) sent: Instant,
    pub(crate) reply_ttl: u8,
    pub(crate) reply_tos: u8,
    pub(crate) reply_ip_id: Option<u16>,
    pub(crate) reply_size: u16,
    pub(crate) icmp: Option<(u8, u8)>,
    pub(crate) tcp_flags: Option<u8>,
    pub(crate) quoted_ttl: Option<u8>,
    pub(crate) quoted_tos: Option<u8>,
    pub(crate) quoted_size: Option<u16>,
    pub(crate) nat: bool,
    pub(crate) stack: Vec<Lse>,
}

/// What the engine knows of the probe that a reply answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) src: IpAddr,
    pub(crate) seq: u16,
    pub(crate) attempt: u8,
    pub(crate) sent: Instant,
}

/// Entries that are kept of a label stack: deeper ones are only seen in hostile packets.
const DEEPEST_STACK: usize = 16;

impl Observation {
    pub(crate) fn new(reply: &Reply<'_>, asked: Asked, at: Instant) -> Self {
        let size = |len: usize| u16::try_from(len).unwrap_or(u16::MAX);
        let packet = &reply.packet;
        let stack = match &reply.extensions {
            Some(extensions) => extensions.mpls_stack().take(DEEPEST_STACK).collect(),
            None => Vec::new(),
        };
        Self {
            kind: reply.kind,
            addr: packet.src,
            rtt: at.since(asked.sent),
            attempt: asked.attempt,
            sent: asked.sent,
            reply_ttl: packet.ttl,
            reply_tos: packet.tos,
            reply_ip_id: packet.src.is_ipv4().then_some(packet.ident),
            reply_size: size(packet.len),
            icmp: reply.icmp,
            tcp_flags: reply.tcp_flags,
            quoted_ttl: reply.quote.map(|q| q.ttl),
            quoted_tos: reply.quote.map(|q| q.tos),
            quoted_size: reply.quote.map(|q| size(q.len)),
            nat: reply.shows_nat(asked.src, asked.seq),
            stack,
        }
    }

    /// The same, with what a driver cannot have known as unknown.
    pub(crate) fn with(self, headers: Headers) -> Self {
        match headers {
            Headers::Received => self,
            Headers::Rebuilt => Self {
                reply_ip_id: None,
                quoted_ttl: None,
                quoted_tos: None,
                quoted_size: None,
                ..self
            },
        }
    }

    pub(crate) fn is_time_exceeded(&self) -> bool {
        self.kind == ReplyKind::TimeExceeded
    }

    /// The record of a hop, without what takes other probes to know.
    pub(crate) fn to_hop(&self, ttl: u8, start: Instant) -> Hop {
        Hop {
            ttl,
            addr: Some(self.addr),
            rtt_ns: Some(nanos(self.rtt)),
            attempt: self.attempt,
            sent_after_ns: nanos(self.sent.since(start)),
            reply_ttl: Some(self.reply_ttl),
            reply_tos: Some(self.reply_tos),
            reply_ip_id: self.reply_ip_id,
            reply_size: Some(self.reply_size),
            icmp_type: self.icmp.map(|(kind, _)| kind),
            icmp_code: self.icmp.map(|(_, code)| code),
            tcp_flags: self.tcp_flags,
            quoted_ttl: self.quoted_ttl,
            quoted_tos: self.quoted_tos,
            quoted_size: self.quoted_size,
            nat: self.nat,
            mpls: self.stack.iter().map(|lse| (*lse).into()).collect(),
            ..Hop::default()
        }
    }
}

/// A duration in nanoseconds as records have it.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
