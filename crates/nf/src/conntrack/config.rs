//! What connection tracking is told to do.

use core::time::Duration;

/// What connection tracking is told to do. The defaults are those of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Connections that there may be at most. When a new one has no room, one that is not assured
    /// goes; see [`Conntrack`](super::Conntrack).
    pub max_entries: u32,
    /// Connections that one source address may have at most, an IPv6 /64 counted as one; 0 for any
    /// number.
    pub per_source: u32,
    /// Packets that do not fit a TCP connection's window are not
    /// [`Invalid`](super::State::Invalid), but resets (Linux's `nf_conntrack_tcp_be_liberal`).
    pub tcp_be_liberal: bool,
    /// A TCP connection whose start was not seen is picked up (`nf_conntrack_tcp_loose`).
    pub tcp_loose: bool,
    /// A reset out of the window is let through as part of its connection, and changes nothing
    /// (`nf_conntrack_tcp_ignore_invalid_rst`).
    pub tcp_ignore_invalid_rst: bool,
    /// Retransmissions without an answer after which a connection is kept for
    /// [`Timeouts::tcp_max_retrans`] only.
    pub tcp_max_retrans: u8,
    /// Packets with wrong checksums are [`Invalid`](super::State::Invalid)
    /// (`nf_conntrack_checksum`).
    pub verify_checksums: bool,
    /// Networks behind different VLAN tags have nothing to do with each other, so that they may
    /// use the same addresses: the outermost identifier is the connection's zone.
    pub zone_per_vlan: bool,
    /// Connections that begin and end are told by [`poll_event`](super::Conntrack::poll_event).
    pub events: bool,
    /// How long what is unused is kept.
    pub timeouts: Timeouts,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_entries: 262_144,
            per_source: 0,
            tcp_be_liberal: false,
            tcp_loose: true,
            tcp_ignore_invalid_rst: false,
            tcp_max_retrans: 3,
            verify_checksums: true,
            zone_per_vlan: true,
            events: false,
            timeouts: Timeouts::default(),
        }
    }
}

/// How long a connection is kept after its last packet. The defaults are those of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP, a SYN was seen.
    pub tcp_syn_sent: Duration,
    /// TCP, both SYNs were seen.
    pub tcp_syn_recv: Duration,
    /// TCP, open: at least 2 h 4 min (RFC 5382 REQ-5).
    pub tcp_established: Duration,
    /// TCP, a FIN was seen.
    pub tcp_fin_wait: Duration,
    /// TCP, a FIN was acknowledged.
    pub tcp_close_wait: Duration,
    /// TCP, both FINs were seen.
    pub tcp_last_ack: Duration,
    /// TCP, both FINs were acknowledged.
    pub tcp_time_wait: Duration,
    /// TCP, reset.
    pub tcp_close: Duration,
    /// TCP, the same packet was sent again and again without an answer: the shorter of this and
    /// what the state has.
    pub tcp_max_retrans: Duration,
    /// TCP, data was not acknowledged: the shorter of this and what the state has.
    pub tcp_unacknowledged: Duration,
    /// UDP and UDP-Lite, without an answer.
    pub udp: Duration,
    /// UDP and UDP-Lite, answered and longer than two seconds in use: at least 2 minutes (RFC 4787 REQ-5).
    pub udp_stream: Duration,
    /// GRE, without an answer.
    pub gre: Duration,
    /// GRE, answered.
    pub gre_stream: Duration,
    /// Queries of ICMP.
    pub icmp: Duration,
    /// All other protocols.
    pub generic: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_syn_sent: Duration::from_secs(120),
            tcp_syn_recv: Duration::from_secs(60),
            tcp_established: Duration::from_secs(432_000),
            tcp_fin_wait: Duration::from_secs(120),
            tcp_close_wait: Duration::from_secs(60),
            tcp_last_ack: Duration::from_secs(30),
            tcp_time_wait: Duration::from_secs(120),
            tcp_close: Duration::from_secs(10),
            tcp_max_retrans: Duration::from_secs(300),
            tcp_unacknowledged: Duration::from_secs(300),
            udp: Duration::from_secs(30),
            udp_stream: Duration::from_secs(120),
            gre: Duration::from_secs(30),
            gre_stream: Duration::from_secs(180),
            icmp: Duration::from_secs(30),
            generic: Duration::from_secs(600),
        }
    }
}

impl Timeouts {
    /// Those that RFC 5382 REQ-5, RFC 4787 REQ-5 and RFC 5508 REQ-2 ask of translators: the
    /// defaults, none of them below 4 minutes for TCP, 2 minutes for UDP and 60 s for ICMP.
    pub fn of_rfcs() -> Self {
        const TRANSITORY: Duration = Duration::from_secs(240);
        let linux = Self::default();
        Self {
            tcp_syn_sent: TRANSITORY,
            tcp_syn_recv: TRANSITORY,
            tcp_fin_wait: TRANSITORY,
            tcp_close_wait: TRANSITORY,
            tcp_last_ack: TRANSITORY,
            tcp_time_wait: TRANSITORY,
            tcp_close: TRANSITORY,
            udp: Duration::from_secs(120),
            icmp: Duration::from_secs(60),
            ..linux
        }
    }
}
