//! What the programs in the kernel tell: `event.h`, read.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::segments::Segments;

/// Why a program told something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// The handshake is over.
    Established,
    /// The first retransmission timeout of a lossy phase.
    LossyEntered,
    /// What was lost is acknowledged.
    LossyLeft,
    /// The socket is closed.
    Closed,
    /// The connection was there before the recorder.
    Baseline,
    /// The window was open for long.
    ActiveTimeout,
    /// Nothing happened for long.
    IdleTimeout,
    /// The application is gone and the kernel still sends.
    Orphaned,
    /// The recorder stops.
    Stopped,
    /// Somebody looks; nothing has happened.
    Look,
    /// The handshake is over since the time that the event tells, and nothing else has happened.
    Opened,
}

impl EventKind {
    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Established,
            2 => Self::LossyEntered,
            3 => Self::LossyLeft,
            4 => Self::Closed,
            5 => Self::Baseline,
            6 => Self::ActiveTimeout,
            7 => Self::IdleTimeout,
            8 => Self::Orphaned,
            9 => Self::Stopped,
            10 => Self::Look,
            11 => Self::Opened,
            _ => return None,
        })
    }
}

/// State of a TCP socket (`include/net/tcp_states.h`).
pub(super) mod state {
    pub(crate) const SYN_SENT: u8 = 2;
    pub(crate) const SYN_RECV: u8 = 3;
    pub(crate) const FIN_WAIT2: u8 = 5;
    pub(crate) const TIME_WAIT: u8 = 6;
    pub(crate) const LAST_ACK: u8 = 9;
    pub(crate) const CLOSING: u8 = 11;
}

/// Bits of [`Event::flags`].
pub(super) mod flag {
    pub(crate) const ACTIVE: u8 = 0x01;
    pub(crate) const PASSIVE: u8 = 0x02;
    pub(crate) const LOSSY: u8 = 0x04;
    pub(crate) const FIN_RECEIVED: u8 = 0x08;
    pub(crate) const FIN_ACKED: u8 = 0x10;
    pub(crate) const META: u8 = 0x20;
    pub(crate) const SUBFLOW: u8 = 0x40;
    pub(crate) const BACKUP: u8 = 0x80;
}

/// A connection at one of its events, as `struct flow_event` has it: totals since its beginning, in
/// the kernel's units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Why this was told.
    pub kind: EventKind,
    /// The socket's cookie.
    pub cookie: u64,
    /// When, in nanoseconds of the monotonic clock.
    pub at: u64,
    pub(super) syn_at: u64,
    pub(super) cgroup: u64,
    pub(super) bytes_sent: u64,
    pub(super) bytes_acked: u64,
    pub(super) bytes_received: u64,
    pub(super) bytes_retrans: u64,
    pub(super) duplicate_bytes: u64,
    pub(super) pacing_rate: u64,
    /// Number of this event among the connection's, from 0.
    pub sequence: u32,
    pub(super) netns: u32,
    pub(super) pid: u32,
    pub(super) segs_out: u32,
    pub(super) segs_in: u32,
    pub(super) data_segs_out: u32,
    pub(super) data_segs_in: u32,
    pub(super) total_retrans: u32,
    pub(super) lost: u32,
    pub(super) rtos: u32,
    pub(super) fast_recoveries: u32,
    pub(super) tail_loss_probes: u32,
    pub(super) dsack_dups: u32,
    pub(super) reord_seen: u32,
    pub(super) rcv_ooopack: u32,
    pub(super) duplicates: u32,
    pub(super) resets_sent: u32,
    pub(super) resets_received: u32,
    pub(super) srtt_us8: u32,
    pub(super) mdev_us4: u32,
    pub(super) min_rtt_us: u32,
    pub(super) rcv_rtt_us8: u32,
    /// Jiffies busy alone, limited by the receiver's window, by the send buffer.
    pub(super) busy: [u32; 3],
    pub(super) delivered_ce: u32,
    pub(super) mss: u32,
    pub(super) pmtu: u32,
    pub(super) cwnd: u32,
    pub(super) snd_wnd: u32,
    pub(super) rcvbuf: u32,
    pub(super) rate_delivered: u32,
    pub(super) rate_interval_us: u32,
    pub(super) token: u32,
    pub(super) path_index: u32,
    pub(super) error: u16,
    pub(super) flags: u8,
    pub(super) old_state: u8,
    pub(super) ecn: bool,
    pub(super) probes_out: u8,
    pub(super) local_id: u8,
    pub(super) remote_id: u8,
    pub(super) subflows: u8,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) comm: [u8; 16],
    pub(super) congestion: [u8; 16],
    pub(super) paced: bool,
    pub(super) jiffies: u32,
    /// How a clean handshake ended that had no event of its own.
    pub(super) opening: Option<Opening>,
    /// What is watched for each segment; in a box, since mostly it is not.
    pub(super) segments: Option<Box<Segments>>,
}

/// A connection when its handshake was over, without repetition and without payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) at: u64,
    pub(super) segs_out: u32,
    pub(super) segs_in: u32,
    pub(super) srtt_us8: u32,
    pub(super) mdev_us4: u32,
    pub(super) min_rtt_us: u32,
    pub(super) cwnd: u32,
    pub(super) mss: u32,
    pub(super) snd_wnd: u32,
    pub(super) rcvbuf: u32,
}

impl Event {
    /// Bytes of an event.
    pub const LEN: usize = 352;

    /// Bytes of one where each segment is watched.
    pub(super) const WIDE_LEN: usize = Self::LEN + Segments::LEN;

    /// Reads an event, of either length; `None` if these bytes are none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < Self::LEN {
            return None;
        }
        let mut read = Cursor(bytes);
        let (cookie, at, syn_at, cgroup) = (read.u64()?, read.u64()?, read.u64()?, read.u64()?);
        let (bytes_sent, bytes_acked) = (read.u64()?, read.u64()?);
        let (bytes_received, bytes_retrans) = (read.u64()?, read.u64()?);
        let (duplicate_bytes, pacing_rate) = (read.u64()?, read.u64()?);
        let opened_at = read.u64()?;
        let words: [u32; 35] = read.words()?;
        let [segs_out, segs_in, srtt_us8, mdev_us4, min_rtt_us] = read.words()?;
        let [cwnd, mss, snd_wnd, rcvbuf] = read.words()?;
        let opening = (opened_at != 0).then_some(Opening {
            at: opened_at,
            segs_out,
            segs_in,
            srtt_us8,
            mdev_us4,
            min_rtt_us,
            cwnd,
            mss,
            snd_wnd,
            rcvbuf,
        });
        let [error, local_port, remote_port] = [read.u16()?, read.u16()?, read.u16()?];
        let [kind, flags, _family, old_state, _new_state] = read.bytes()?;
        let [ecn, probes_out, local_id, remote_id, subflows] = read.bytes()?;
        let (local, remote) = (read.bytes()?, read.bytes()?);
        let (comm, congestion) = (read.bytes()?, read.bytes()?);
        let [pacing_status, jiffies] = read.words()?;
        let [
            sequence,
            netns,
            pid,
            segs_out,
            segs_in,
            data_segs_out,
            data_segs_in,
            total_retrans,
            lost,
            rtos,
            fast_recoveries,
            tail_loss_probes,
            dsack_dups,
            reord_seen,
            rcv_ooopack,
            duplicates,
            resets_sent,
            resets_received,
            srtt_us8,
            mdev_us4,
            min_rtt_us,
            rcv_rtt_us8,
            busy,
            window_limited,
            buffer_limited,
            delivered_ce,
            mss,
            pmtu,
            cwnd,
            snd_wnd,
            rcvbuf,
            rate_delivered,
            rate_interval_us,
            token,
            path_index,
        ] = words;
        Some(Self {
            kind: EventKind::from_byte(kind)?,
            cookie,
            at,
            syn_at,
            cgroup,
            bytes_sent,
            bytes_acked,
            bytes_received,
            bytes_retrans,
            duplicate_bytes,
            pacing_rate,
            sequence,
            netns,
            pid,
            segs_out,
            segs_in,
            data_segs_out,
            data_segs_in,
            total_retrans,
            lost,
            rtos,
            fast_recoveries,
            tail_loss_probes,
            dsack_dups,
            reord_seen,
            rcv_ooopack,
            duplicates,
            resets_sent,
            resets_received,
            srtt_us8,
            mdev_us4,
            min_rtt_us,
            rcv_rtt_us8,
            busy: [busy, window_limited, buffer_limited],
            delivered_ce,
            mss,
            pmtu,
            cwnd,
            snd_wnd,
            rcvbuf,
            rate_delivered,
            rate_interval_us,
            token,
            path_index,
            error,
            flags,
            old_state,
            ecn: ecn != 0,
            probes_out,
            local_id,
            remote_id,
            subflows,
            local: socket(local, local_port),
            remote: socket(remote, remote_port),
            comm,
            congestion,
            paced: pacing_status != 0,
            jiffies,
            opening,
            segments: bytes
                .get(Self::LEN..)
                .and_then(Segments::parse)
                .map(Box::new),
        })
    }

    /// The event that the end of the handshake would have been, if this one tells of it.
    pub(super) fn opening(&self) -> Option<Self> {
        let opening = self.opening?;
        let began = if self.has(flag::ACTIVE) {
            state::SYN_SENT
        } else {
            state::SYN_RECV
        };
        Some(Self {
            kind: EventKind::Established,
            at: opening.at,
            sequence: 0,
            old_state: began,
            flags: self.flags & (flag::ACTIVE | flag::PASSIVE),
            // What the kernel counts of a SYN of this host.
            bytes_acked: u64::from(self.has(flag::ACTIVE)),
            bytes_sent: 0,
            bytes_received: 0,
            bytes_retrans: 0,
            duplicate_bytes: 0,
            segs_out: opening.segs_out,
            segs_in: opening.segs_in,
            data_segs_out: 0,
            data_segs_in: 0,
            total_retrans: 0,
            lost: 0,
            rtos: 0,
            fast_recoveries: 0,
            tail_loss_probes: 0,
            dsack_dups: 0,
            reord_seen: 0,
            rcv_ooopack: 0,
            duplicates: 0,
            resets_sent: 0,
            resets_received: 0,
            srtt_us8: opening.srtt_us8,
            mdev_us4: opening.mdev_us4,
            min_rtt_us: opening.min_rtt_us,
            rcv_rtt_us8: 0,
            busy: [0; 3],
            delivered_ce: 0,
            mss: opening.mss,
            cwnd: opening.cwnd,
            snd_wnd: opening.snd_wnd,
            rcvbuf: opening.rcvbuf,
            rate_delivered: 0,
            rate_interval_us: 0,
            pacing_rate: u64::MAX,
            error: 0,
            probes_out: 0,
            jiffies: 0,
            opening: None,
            segments: None,
            ..*self
        })
    }

    pub(super) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// An event with nothing counted.
    #[cfg(test)]
    pub(super) fn blank(kind: EventKind) -> Self {
        let mut bytes = vec![0; Self::LEN];
        // Nothing but its kind is needed to read it.
        bytes[270] = 4;
        let mut event = Self::parse(&bytes).unwrap();
        event.kind = kind;
        event
    }
}

/// IPv4 is told as IPv6 that maps it, as sockets of both do.
fn socket(address: [u8; 16], port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::from(address)).to_canonical(), port)
}

/// Reads numbers in the host's byte order from the front.
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl Cursor<'_> {
    pub(super) fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_ne_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.bytes().map(u16::from_ne_bytes)
    }

    pub(super) fn words<const N: usize>(&mut self) -> Option<[u32; N]> {
        let mut words = [0; N];
        for word in &mut words {
            *word = u32::from_ne_bytes(self.bytes()?);
        }
        Some(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members as `event.h` has them, in order, with the bytes of each.
    fn layout() -> Vec<(String, usize)> {
        let header = include_str!("event.h");
        let body = header.split_once("struct flow_event {").unwrap().1;
        let body = body.split_once("};").unwrap().0;
        body.lines()
            .filter_map(|line| {
                let line = line.trim().split(';').next()?;
                let (kind, name) = line.split_once(' ')?;
                let size = match kind {
                    "__u64" => 8,
                    "__u32" => 4,
                    "__u16" => 2,
                    "__u8" | "char" => 1,
                    _ => return None,
                };
                let (name, count) = match name.split_once('[') {
                    Some((name, count)) => (name, count.trim_end_matches(']').parse().unwrap()),
                    None => (name, 1),
                };
                Some((name.to_owned(), size * count))
            })
            .collect()
    }

    #[test]
    fn every_member_is_read_from_where_the_header_has_it() {
        let put = |member: &str, value: &[u8]| {
            let mut bytes = vec![0; Event::LEN];
            let (mut offset, mut found) = (0, false);
            for (name, size) in layout() {
                if name == "kind" {
                    bytes[offset] = 4;
                }
                if name == member {
                    assert!(value.len() <= size, "{member}");
                    bytes[offset..offset + value.len()].copy_from_slice(value);
                    found = true;
                }
                offset += size;
            }
            assert!(found, "{member}");
            assert_eq!(offset.next_multiple_of(8), Event::LEN);
            Event::parse(&bytes).unwrap()
        };
        let seven = 7u32.to_ne_bytes();
        assert_eq!(put("cookie", &[9]).cookie, 9);
        assert_eq!(put("pacing_rate", &[9]).pacing_rate, 9);
        assert_eq!(put("sequence", &seven).sequence, 7);
        assert_eq!(put("total_retrans", &seven).total_retrans, 7);
        assert_eq!(put("rcv_rtt_us8", &seven).rcv_rtt_us8, 7);
        assert_eq!(put("busy", &[1, 0, 0, 0, 2, 0, 0, 0, 3]).busy, [1, 2, 3]);
        assert_eq!(put("path_index", &seven).path_index, 7);
        assert_eq!(put("error", &110u16.to_ne_bytes()).error, 110);
        assert_eq!(put("remote_port", &80u16.to_ne_bytes()).remote.port(), 80);
        assert_eq!(
            put("old_state", &[state::LAST_ACK]).old_state,
            state::LAST_ACK
        );
        assert_eq!(put("subflows", &[2]).subflows, 2);
        assert_eq!(put("jiffies", &seven).jiffies, 7);
        assert_eq!(put("opened_rcvbuf", &seven).opening, None);
        assert_eq!(put("opened_at", &[9]).opening.unwrap().at, 9);
        assert!(put("pacing_status", &[1]).paced);
        assert_eq!(&put("comm", b"curl").comm[..5], b"curl\0");
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1];
        assert_eq!(put("local", &mapped).local.to_string(), "10.0.0.1:0");
        assert_eq!(put("remote", &[0x20, 1]).remote.to_string(), "[2001::]:0");
    }

    #[test]
    fn what_is_short_or_of_an_unknown_kind_is_no_event() {
        assert_eq!(Event::parse(&[0; Event::LEN]), None);
        assert_eq!(Event::parse(&[4; Event::LEN - 1]), None);
    }
}
