//! The performance profile of a connection, `plumb.flow/1`.
//!
//! A profile covers a window of one connection, between two events that changed its state. Counters
//! are deltas: they count what happened in that window alone, so that the sum over a connection's
//! profiles is its total. Gauges (round-trip times, window, segment size) are as they stood at the
//! end of the window. What this kernel, this socket or this window cannot tell is absent, never 0.

use alloc::string::String;
use core::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::WallTime;

/// Name and version of the schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum FlowSchema {
    /// `plumb.flow/1`.
    #[default]
    #[serde(rename = "plumb.flow/1")]
    V1,
}

/// The value of `type` in a profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum FlowType {
    /// `flow`.
    #[default]
    Flow,
}

/// What a profile is about.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum FlowProtocol {
    /// A TCP connection.
    #[default]
    Tcp,
    /// A TCP connection that carries part of a multipath connection.
    MptcpSubflow,
    /// A multipath connection as the application sees it, over all its subflows.
    Mptcp,
    /// A QUIC connection, reported by the process that has it.
    Quic,
}

/// Which end opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum FlowOpen {
    /// This host did (`connect`).
    Active,
    /// The remote end did (`accept`).
    Passive,
}

/// State of a connection in the abstract machine of Flowcorder.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum FlowState {
    /// The handshake is not over.
    #[default]
    New,
    /// Data can flow.
    Established,
    /// Closed as the protocol wants it.
    Finished,
    /// The network took it away: unreachable, or no answer for too long.
    NetworkError,
    /// One of the ends broke it off: a reset, a refusal, a violation of the protocol.
    ProtocolError,
}

/// What a window was like.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum FlowPhase {
    /// From the first segment to the end of the handshake, or its failure.
    Establishing,
    /// Data flow, or could.
    #[default]
    Open,
    /// A retransmission timeout began it, and it lasts until what was lost is acknowledged.
    Lossy,
}

/// The event that ended a window.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum FlowEvent {
    /// The handshake succeeded.
    Established,
    /// A retransmission timeout: a lossy phase begins.
    LossyEntered,
    /// What was lost is acknowledged: the lossy phase is over.
    LossyLeft,
    /// The window had lasted as long as a window may; the connection goes on.
    ActiveTimeout,
    /// Nothing had happened for long; the connection goes on.
    IdleTimeout,
    /// The application closed its socket and the kernel is still sending; the connection goes on.
    Orphaned,
    /// The connection ended.
    #[default]
    Ended,
    /// The recorder stopped; the connection goes on.
    RecorderStopped,
    /// The recorder forgot the connection to stay within its memory.
    Evicted,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum FlowEnd {
    /// Both ends closed it.
    Closed,
    /// The remote end reset it.
    ResetReceived,
    /// This host reset it.
    ResetSent,
    /// The remote end refused it: a reset in answer to the first segment.
    Refused,
    /// No answer came for too long.
    TimedOut,
    /// A router or the local system said that the remote end cannot be reached.
    Unreachable,
    /// The application broke it off before it was established.
    Aborted,
    /// Any other error; `errno` has its number.
    Error,
}

/// What is known of a connection's place in a multipath connection (RFC 8684).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FlowMptcp {
    /// Token of the multipath connection at this end: the same in all its subflows.
    pub token: u32,
    /// Index of the path, from 0 for the first subflow; absent for the connection itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_index: Option<u32>,
    /// Address identifier of the local end of a subflow (RFC 8684 §3.4.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_id: Option<u8>,
    /// Address identifier of the remote end of a subflow (RFC 8684 §3.4.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_id: Option<u8>,
    /// Whether the subflow is used only if no other can be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<bool>,
    /// Subflows of the connection at the end of the window, the first included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subflows: Option<u32>,
    /// Bytes sent again on another subflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reinjected_bytes: Option<u64>,
    /// Times that data waited in the receive queue for a gap that another subflow had to fill, where
    /// each segment is watched: from the first that waits until none does is once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_of_line_stalls: Option<u32>,
}

/// The performance profile of one window of one connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FlowProfile {
    /// Schema of this record.
    pub schema: FlowSchema,
    /// Always `flow`.
    #[serde(rename = "type")]
    pub kind: FlowType,
    /// Identifier of the connection while this host is up: its socket cookie.
    pub flow_id: u64,
    /// Number of this profile among the connection's, from 0; a gap is a lost profile.
    pub profile: u32,
    /// What the profile is about.
    pub protocol: FlowProtocol,
    /// Which end opened the connection; absent if that was before the recorder started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<FlowOpen>,
    /// Address of this host.
    pub local_addr: IpAddr,
    /// Port of this host.
    pub local_port: u16,
    /// Address of the remote end.
    pub remote_addr: IpAddr,
    /// Port of the remote end.
    pub remote_port: u16,
    /// Identifier of the process that owns the connection, in the initial namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Name of that process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// Identifier of the control group of the socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_id: Option<u64>,
    /// Path of the control group, from the root of its hierarchy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Inode number of the network namespace, as in `/proc/PID/ns/net`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<u32>,

    /// Start of the window.
    pub start: WallTime,
    /// End of the window.
    pub end: WallTime,
    /// State at the start of the window.
    pub state_before: FlowState,
    /// State at the end of the window.
    pub state: FlowState,
    /// What the window was like.
    pub phase: FlowPhase,
    /// The event that ended the window.
    pub event: FlowEvent,
    /// How the connection ended; absent if it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<FlowEnd>,
    /// Linux's number of the socket's error; absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<u16>,

    /// Payload bytes sent, retransmissions included.
    pub bytes_sent: u64,
    /// Payload bytes received in order.
    pub bytes_received: u64,
    /// Payload bytes sent that the remote end acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_acked: Option<u64>,
    /// Payload bytes sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_retransmitted: Option<u64>,
    /// Segments sent, acknowledgements and retransmissions included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_sent: Option<u64>,
    /// Segments received, acknowledgements included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_received: Option<u64>,
    /// Segments sent that carried data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_packets_sent: Option<u64>,
    /// Segments received that carried data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_packets_received: Option<u64>,
    /// Segments sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_retransmitted: Option<u64>,
    /// Segments that the sender took for lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_lost: Option<u64>,

    /// Time of the handshake in nanoseconds, in the profile that ends with it. An active open: from
    /// the first SYN to its SYN-ACK. A passive open: from the SYN-ACK to its acknowledgement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub establishment_ns: Option<u64>,
    /// SYN segments sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syn_retransmitted: Option<u32>,
    /// SYN-ACK segments sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syn_ack_retransmitted: Option<u32>,

    /// Smoothed round-trip time in nanoseconds (RFC 6298).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ns: Option<u64>,
    /// Mean deviation of the round-trip time in nanoseconds (RFC 6298's RTTVAR, Linux's `mdev`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_variance_ns: Option<u64>,
    /// Least round-trip time in nanoseconds, of the last minutes (`tcp_min_rtt_wlen`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_min_ns: Option<u64>,
    /// Round-trip time in nanoseconds as the receiver of data estimates it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiver_rtt_ns: Option<u64>,
    /// Round-trip times measured in the window, as the kernel's estimator takes them (RFC 6298), where
    /// each segment is watched. That of the handshake is none, and after either end has closed its
    /// direction none is seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_samples: Option<u64>,
    /// Least of these samples in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_sample_min_ns: Option<u64>,
    /// Mean of these samples in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_sample_mean_ns: Option<u64>,
    /// Greatest of these samples in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_sample_max_ns: Option<u64>,

    /// Retransmission timeouts, those of the handshake not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtos: Option<u32>,
    /// Episodes of fast recovery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fast_recoveries: Option<u32>,
    /// Tail loss probes sent (RFC 8985).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail_loss_probes: Option<u32>,
    /// Retransmissions that the remote end reported as superfluous (D-SACK, RFC 2883).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spurious_retransmissions: Option<u32>,
    /// Times that the sender saw segments overtake each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reorderings: Option<u32>,

    /// Segments received whose data had been received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicate_packets_received: Option<u32>,
    /// Bytes of these segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicate_bytes_received: Option<u64>,
    /// Segments received ahead of a gap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_of_order_packets: Option<u32>,
    /// Mean distance in bytes between the gap and a segment received ahead of it: its sequence number
    /// less the next that was expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_of_order_distance_mean_bytes: Option<u64>,
    /// Standard deviation of that distance in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_of_order_distance_stddev_bytes: Option<u64>,
    /// Greatest distance in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_of_order_distance_max_bytes: Option<u64>,

    /// Nanoseconds with data to send or not acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy_ns: Option<u64>,
    /// Nanoseconds of these that the receiver's window held data back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receive_window_limited_ns: Option<u64>,
    /// Nanoseconds of these that the send buffer was too small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_buffer_limited_ns: Option<u64>,
    /// Times that the receiver's window closed while data waited, where each segment is watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zero_windows: Option<u32>,
    /// Probes of a closed window that went unanswered, as of the end of the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zero_window_probes: Option<u32>,
    /// Resets sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resets_sent: Option<u32>,
    /// Resets received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resets_received: Option<u32>,

    /// Whether the ends agreed on explicit congestion notification (RFC 3168).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecn: Option<bool>,
    /// Segments sent whose acknowledgement said that they met congestion (CE).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ce_marks: Option<u64>,
    /// Greatest payload of a segment sent, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mss_bytes: Option<u32>,
    /// Path MTU in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_mtu_bytes: Option<u32>,
    /// Congestion window in segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub congestion_window_packets: Option<u32>,
    /// Window that the receiver offers, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_window_bytes: Option<u32>,
    /// Receive buffer in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receive_buffer_bytes: Option<u32>,
    /// Name of the congestion control.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub congestion_control: Option<String>,
    /// Latest delivery rate in bytes per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery_rate_bytes_per_second: Option<u64>,
    /// Pacing rate in bytes per second; absent where the sender does not pace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pacing_rate_bytes_per_second: Option<u64>,

    /// Its place in a multipath connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mptcp: Option<FlowMptcp>,
}

impl FlowProfile {
    /// The profile of a window in which nothing is known to have happened.
    pub const fn new(
        flow_id: u64,
        protocol: FlowProtocol,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Self {
        Self {
            schema: FlowSchema::V1,
            kind: FlowType::Flow,
            flow_id,
            protocol,
            local_addr: local.ip(),
            local_port: local.port(),
            remote_addr: remote.ip(),
            remote_port: remote.port(),
            start: WallTime(0),
            end: WallTime(0),
            profile: 0,
            state_before: FlowState::New,
            state: FlowState::New,
            phase: FlowPhase::Open,
            event: FlowEvent::Ended,
            bytes_sent: 0,
            bytes_received: 0,
            open: None,
            pid: None,
            process: None,
            cgroup_id: None,
            cgroup: None,
            netns: None,
            end_reason: None,
            errno: None,
            bytes_acked: None,
            bytes_retransmitted: None,
            packets_sent: None,
            packets_received: None,
            data_packets_sent: None,
            data_packets_received: None,
            packets_retransmitted: None,
            packets_lost: None,
            establishment_ns: None,
            syn_retransmitted: None,
            syn_ack_retransmitted: None,
            rtt_ns: None,
            rtt_variance_ns: None,
            rtt_min_ns: None,
            receiver_rtt_ns: None,
            rtt_samples: None,
            rtt_sample_min_ns: None,
            rtt_sample_mean_ns: None,
            rtt_sample_max_ns: None,
            rtos: None,
            fast_recoveries: None,
            tail_loss_probes: None,
            spurious_retransmissions: None,
            reorderings: None,
            duplicate_packets_received: None,
            duplicate_bytes_received: None,
            out_of_order_packets: None,
            out_of_order_distance_mean_bytes: None,
            out_of_order_distance_stddev_bytes: None,
            out_of_order_distance_max_bytes: None,
            busy_ns: None,
            receive_window_limited_ns: None,
            send_buffer_limited_ns: None,
            zero_windows: None,
            zero_window_probes: None,
            resets_sent: None,
            resets_received: None,
            ecn: None,
            ce_marks: None,
            mss_bytes: None,
            path_mtu_bytes: None,
            congestion_window_packets: None,
            send_window_bytes: None,
            receive_buffer_bytes: None,
            congestion_control: None,
            delivery_rate_bytes_per_second: None,
            pacing_rate_bytes_per_second: None,
            mptcp: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn profile() -> FlowProfile {
        let socket = |text: &str| text.parse::<SocketAddr>().unwrap();
        FlowProfile::new(
            7,
            FlowProtocol::Tcp,
            socket("[2001:db8::1]:443"),
            socket("[2001:db8::2]:50000"),
        )
    }

    #[test]
    fn what_is_not_known_is_left_out_and_read_back_as_not_known() {
        let text = serde_json::to_string(&profile()).unwrap();
        assert!(!text.contains("null") && !text.contains("rtt"), "{text}");
        assert_eq!(
            serde_json::from_str::<FlowProfile>(&text).unwrap(),
            profile()
        );
    }

    #[test]
    fn a_profile_carries_its_schema_and_its_words_as_kebab_case() {
        let mut profile = profile();
        profile.protocol = FlowProtocol::MptcpSubflow;
        profile.state = FlowState::NetworkError;
        profile.end_reason = Some(FlowEnd::TimedOut);
        profile.mptcp = Some(FlowMptcp {
            token: 9,
            ..FlowMptcp::default()
        });
        let json = serde_json::to_value(&profile).unwrap();
        assert_eq!(json["schema"], "plumb.flow/1");
        assert_eq!(json["type"], "flow");
        assert_eq!(json["protocol"], "mptcp-subflow");
        assert_eq!(json["state"], "network-error");
        assert_eq!(json["end_reason"], "timed-out");
        assert_eq!(json["mptcp"].to_string(), r#"{"token":9}"#);
    }

    #[test]
    fn another_schema_is_not_a_profile() {
        let text = serde_json::to_string(&profile()).unwrap();
        let text = text.replace("plumb.flow/1", "plumb.flow/2");
        assert!(serde_json::from_str::<FlowProfile>(&text).is_err());
    }
}
