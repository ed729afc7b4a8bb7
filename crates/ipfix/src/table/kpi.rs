//! Columns of a connection's profile: how it fared.

use plumb_record::FlowProfile;

use super::element::{Column, multipath, number, optional, ours, words};
use super::identity::column;
use crate::{DataType as T, Semantics as S, Unit as U, Value};

type Record = FlowProfile;

pub(super) const DELAY: &[Column<FlowProfile>] = &[
    column::<Record>(ours(17, "establishmentDurationNanoseconds", T::Unsigned64, S::Quantity, U::Nanoseconds, "Time of the handshake: from SYN to SYN-ACK at the end that opened, from SYN-ACK to its acknowledgement at the other."), optional!(establishment_ns)).short(4).kernel("inet_sock_set_state; passive: srtt_us at ESTABLISHED", "4.16"),
    column::<Record>(ours(18, "synRetransmissionDeltaCount", T::Unsigned32, S::DeltaCounter, U::Packets, "SYN segments sent again."), optional!(syn_retransmitted)).short(2).kernel("tcp_sock.total_retrans at ESTABLISHED or at the end in SYN_SENT", "4.16"),
    column::<Record>(ours(19, "synAckRetransmissionDeltaCount", T::Unsigned32, S::DeltaCounter, U::Packets, "SYN-ACK segments sent again."), optional!(syn_ack_retransmitted)).short(2).kernel("tcp_sock.total_retrans at ESTABLISHED", "2.6"),
    column::<Record>(ours(20, "smoothedRoundTripTimeNanoseconds", T::Unsigned64, S::Quantity, U::Nanoseconds, "Smoothed round-trip time."), optional!(rtt_ns)).short(4).kernel("tcp_sock.srtt_us / 8", "3.15"),
    column::<Record>(ours(21, "roundTripTimeVariationNanoseconds", T::Unsigned64, S::Quantity, U::Nanoseconds, "Mean deviation of the round-trip time."), optional!(rtt_variance_ns)).short(4).kernel("tcp_sock.mdev_us / 4", "3.15"),
    column::<Record>(ours(22, "minimumRoundTripTimeNanoseconds", T::Unsigned64, S::Quantity, U::Nanoseconds, "Least round-trip time of the last minutes."), optional!(rtt_min_ns)).short(4).kernel("tcp_sock.rtt_min", "4.4"),
    column::<Record>(ours(23, "receiverRoundTripTimeNanoseconds", T::Unsigned64, S::Quantity, U::Nanoseconds, "Round-trip time as the receiver of data estimates it."), optional!(receiver_rtt_ns)).short(4).kernel("tcp_sock.rcv_rtt_est.rtt_us / 8", "4.13"),
    column::<Record>(ours(24, "roundTripTimeSampleDeltaCount", T::Unsigned64, S::DeltaCounter, U::None, "Round-trip times measured, that of the handshake not counted."), optional!(rtt_samples)).short(4).kernel("tcp_probe: what changes tcp_sock.srtt_us", "4.16").per_segment(),
    column::<Record>(ours(25, "roundTripTimeSampleMinimumNanoseconds", T::Unsigned64, S::Quantity, U::Nanoseconds, "Least of these samples."), optional!(rtt_sample_min_ns)).short(4).kernel("as roundTripTimeSampleDeltaCount", "4.16").per_segment(),
    column::<Record>(ours(26, "roundTripTimeSampleMeanNanoseconds", T::Unsigned64, S::Quantity, U::Nanoseconds, "Mean of these samples."), optional!(rtt_sample_mean_ns)).short(4).kernel("as roundTripTimeSampleDeltaCount", "4.16").per_segment(),
    column::<Record>(ours(27, "roundTripTimeSampleMaximumNanoseconds", T::Unsigned64, S::Quantity, U::Nanoseconds, "Greatest of these samples."), optional!(rtt_sample_max_ns)).short(4).kernel("as roundTripTimeSampleDeltaCount", "4.16").per_segment(),
];

pub(super) const RECOVERY: &[Column<FlowProfile>] = &[
    column::<Record>(
        ours(
            28,
            "retransmissionTimeoutDeltaCount",
            T::Unsigned32,
            S::DeltaCounter,
            U::None,
            "Retransmission timeouts, those of the handshake not counted.",
        ),
        optional!(rtos),
    )
    .kernel(
        "tcp_cong_state_set to Loss; tcp_sock.total_rto",
        "5.19; 6.7",
    ),
    column::<Record>(
        ours(
            29,
            "fastRecoveryDeltaCount",
            T::Unsigned32,
            S::DeltaCounter,
            U::None,
            "Episodes of fast recovery.",
        ),
        optional!(fast_recoveries),
    )
    .kernel("tcp_cong_state_set to Recovery", "5.19"),
    column::<Record>(
        ours(
            30,
            "tailLossProbeDeltaCount",
            T::Unsigned32,
            S::DeltaCounter,
            U::Packets,
            "Tail loss probes sent.",
        ),
        optional!(tail_loss_probes),
    )
    .kernel("tcp_retransmit_skb from the probe timer", "4.16"),
    column::<Record>(
        ours(
            31,
            "spuriousRetransmissionDeltaCount",
            T::Unsigned32,
            S::DeltaCounter,
            U::Packets,
            "Retransmissions that the remote end reported as superfluous.",
        ),
        optional!(spurious_retransmissions),
    )
    .kernel("tcp_sock.dsack_dups", "4.19"),
    column::<Record>(
        ours(
            32,
            "reorderingDeltaCount",
            T::Unsigned32,
            S::DeltaCounter,
            U::None,
            "Times that the sender saw segments overtake each other.",
        ),
        optional!(reorderings),
    )
    .kernel("tcp_sock.reord_seen", "4.19"),
];

pub(super) const RECEIVER: &[Column<FlowProfile>] = &[
    column::<Record>(
        ours(
            33,
            "duplicatePacketDeltaCount",
            T::Unsigned32,
            S::DeltaCounter,
            U::Packets,
            "Segments received whose data had been received.",
        ),
        optional!(duplicate_packets_received),
    )
    .kernel("kfree_skb with TCP_OLD_DATA, TCP_OLD_SEQUENCE", "6.11"),
    column::<Record>(
        ours(
            34,
            "duplicateOctetDeltaCount",
            T::Unsigned64,
            S::DeltaCounter,
            U::Octets,
            "Payload of these segments.",
        ),
        optional!(duplicate_bytes_received),
    )
    .kernel("kfree_skb with TCP_OLD_DATA, TCP_OLD_SEQUENCE", "6.11"),
    column::<Record>(
        ours(
            35,
            "outOfOrderPacketDeltaCount",
            T::Unsigned32,
            S::DeltaCounter,
            U::Packets,
            "Segments received ahead of a gap.",
        ),
        optional!(out_of_order_packets),
    )
    .kernel("tcp_sock.rcv_ooopack", "5.4"),
    column::<Record>(
        ours(
            36,
            "outOfOrderDistanceMeanOctets",
            T::Unsigned64,
            S::Quantity,
            U::Octets,
            "Mean distance between the gap and a segment received ahead of it.",
        ),
        optional!(out_of_order_distance_mean_bytes),
    )
    .short(4)
    .kernel("tcp_probe: sequence number less rcv_nxt", "4.16")
    .per_segment(),
    column::<Record>(
        ours(
            37,
            "outOfOrderDistanceDeviationOctets",
            T::Unsigned64,
            S::Quantity,
            U::Octets,
            "Standard deviation of that distance.",
        ),
        optional!(out_of_order_distance_stddev_bytes),
    )
    .short(4)
    .kernel("as outOfOrderDistanceMeanOctets", "4.16")
    .per_segment(),
    column::<Record>(
        ours(
            38,
            "outOfOrderDistanceMaximumOctets",
            T::Unsigned64,
            S::Quantity,
            U::Octets,
            "Greatest distance.",
        ),
        optional!(out_of_order_distance_max_bytes),
    )
    .short(4)
    .kernel("as outOfOrderDistanceMeanOctets", "4.16")
    .per_segment(),
];

pub(super) const STALLS: &[Column<FlowProfile>] = &[
    column::<Record>(
        ours(
            39,
            "busyDurationNanoseconds",
            T::Unsigned64,
            S::Quantity,
            U::Nanoseconds,
            "Time with data to send or not acknowledged.",
        ),
        optional!(busy_ns),
    )
    .kernel("tcp_sock.chrono_stat[0..3]", "4.10"),
    column::<Record>(
        ours(
            40,
            "receiveWindowLimitedDurationNanoseconds",
            T::Unsigned64,
            S::Quantity,
            U::Nanoseconds,
            "Busy time that the window of the receiver held data back.",
        ),
        optional!(receive_window_limited_ns),
    )
    .kernel("tcp_sock.chrono_stat[1]", "4.10"),
    column::<Record>(
        ours(
            41,
            "sendBufferLimitedDurationNanoseconds",
            T::Unsigned64,
            S::Quantity,
            U::Nanoseconds,
            "Busy time that the send buffer was too small.",
        ),
        optional!(send_buffer_limited_ns),
    )
    .kernel("tcp_sock.chrono_stat[2]", "4.10"),
    column::<Record>(
        ours(
            42,
            "zeroWindowDeltaCount",
            T::Unsigned32,
            S::DeltaCounter,
            U::None,
            "Times that the window of the receiver closed while data waited.",
        ),
        optional!(zero_windows),
    )
    .kernel("tcp_probe: tcp_sock.snd_wnd", "4.16")
    .per_segment(),
    column::<Record>(
        ours(
            43,
            "zeroWindowProbes",
            T::Unsigned32,
            S::Quantity,
            U::Packets,
            "Probes of a closed window that went unanswered, at the end of the window.",
        ),
        optional!(zero_window_probes),
    )
    .kernel("icsk_probes_out", "4.16"),
    column::<Record>(
        ours(
            44,
            "resetSentDeltaCount",
            T::Unsigned32,
            S::DeltaCounter,
            U::Packets,
            "Resets sent.",
        ),
        optional!(resets_sent),
    )
    .short(1)
    .kernel("tcp_send_reset", "4.16"),
    column::<Record>(
        ours(
            45,
            "resetReceivedDeltaCount",
            T::Unsigned32,
            S::DeltaCounter,
            U::Packets,
            "Resets received.",
        ),
        optional!(resets_received),
    )
    .short(1)
    .kernel("tcp_receive_reset", "4.16"),
];

pub(super) const PATH: &[Column<FlowProfile>] = &[
    Column::<Record>::new(
        ours(
            46,
            "ecnNegotiated",
            T::Boolean,
            S::Default,
            U::None,
            "Whether the ends agreed on explicit congestion notification.",
        ),
        "ecn",
        |record| record.ecn.map(Value::Boolean),
        |record, value| record.ecn = value.truth(),
    )
    .kernel("tcp_sock.ecn_flags", "2.6"),
    column::<Record>(
        ours(
            47,
            "congestionExperiencedPacketDeltaCount",
            T::Unsigned64,
            S::DeltaCounter,
            U::Packets,
            "Segments sent whose acknowledgement said that they met congestion.",
        ),
        optional!(ce_marks),
    )
    .short(4)
    .kernel("tcp_sock.delivered_ce", "4.17"),
    column::<Record>(
        ours(
            48,
            "maximumSegmentSize",
            T::Unsigned32,
            S::Quantity,
            U::Octets,
            "Greatest payload of a segment sent.",
        ),
        optional!(mss_bytes),
    )
    .kernel("tcp_sock.mss_cache", "2.6"),
    column::<Record>(
        ours(
            49,
            "pathMtu",
            T::Unsigned32,
            S::Quantity,
            U::Octets,
            "Path MTU.",
        ),
        optional!(path_mtu_bytes),
    )
    .kernel("icsk_pmtu_cookie", "2.6"),
    column::<Record>(
        ours(
            50,
            "congestionWindow",
            T::Unsigned32,
            S::Quantity,
            U::Packets,
            "Congestion window.",
        ),
        optional!(congestion_window_packets),
    )
    .kernel("tcp_sock.snd_cwnd", "2.6"),
    column::<Record>(
        ours(
            51,
            "sendWindow",
            T::Unsigned32,
            S::Quantity,
            U::Octets,
            "Window that the receiver offers.",
        ),
        optional!(send_window_bytes),
    )
    .kernel("tcp_sock.snd_wnd", "2.6"),
    column::<Record>(
        ours(
            52,
            "receiveBuffer",
            T::Unsigned32,
            S::Quantity,
            U::Octets,
            "Receive buffer.",
        ),
        optional!(receive_buffer_bytes),
    )
    .kernel("sk_rcvbuf", "2.6"),
    column::<Record>(
        ours(
            54,
            "deliveryRate",
            T::Unsigned64,
            S::Quantity,
            U::Octets,
            "Latest delivery rate, in octets per second.",
        ),
        optional!(delivery_rate_bytes_per_second),
    )
    .kernel("rate_delivered, rate_interval_us", "4.9"),
    column::<Record>(
        ours(
            55,
            "pacingRate",
            T::Unsigned64,
            S::Quantity,
            U::Octets,
            "Pacing rate, in octets per second.",
        ),
        optional!(pacing_rate_bytes_per_second),
    )
    .kernel("sk_pacing_rate", "3.18"),
    column::<Record>(
        ours(
            53,
            "congestionControlName",
            T::String,
            S::Default,
            U::None,
            "Name of the congestion control.",
        ),
        words!(congestion_control),
    )
    .kernel("icsk_ca_ops->name", "2.6"),
];

pub(super) const MULTIPATH: &[Column<FlowProfile>] = &[
    Column::<Record>::new(
        ours(56, "mptcpToken", T::Unsigned32, S::Identifier, U::None, "Token of the multipath connection at this end, the same in all its subflows."),
        "mptcp.token",
        |record| record.mptcp.as_ref().map(|mptcp| Value::Unsigned(mptcp.token.into())),
        |record, value| {
            record.mptcp.get_or_insert_default().token = number(value).unwrap_or_default();
        },
    ).kernel("mptcp_subflow_context.token", "5.6"),
    column::<Record>(ours(57, "mptcpPathIndex", T::Unsigned32, S::Identifier, U::None, "Index of the path, from 0 for the first subflow."), multipath!(path_index)).kernel("mptcp_subflow_context.subflow_id", "6.5"),
    column::<Record>(ours(58, "mptcpLocalAddressId", T::Unsigned8, S::Identifier, U::None, "Address identifier of the local end of a subflow."), multipath!(local_id)).kernel("mptcp_subflow_context.local_id", "5.7"),
    column::<Record>(ours(59, "mptcpRemoteAddressId", T::Unsigned8, S::Identifier, U::None, "Address identifier of the remote end of a subflow."), multipath!(remote_id)).kernel("mptcp_subflow_context.remote_id", "5.7"),
    Column::<Record>::new(
        ours(60, "mptcpBackup", T::Boolean, S::Default, U::None, "Whether the subflow is used only if no other can be."),
        "mptcp.backup",
        |record| record.mptcp.as_ref()?.backup.map(Value::Boolean),
        |record, value| record.mptcp.get_or_insert_default().backup = value.truth(),
    ).kernel("mptcp_subflow_context.backup", "5.7"),
    column::<Record>(ours(61, "mptcpSubflows", T::Unsigned32, S::Quantity, U::None, "Subflows of the connection at the end of the window."), multipath!(subflows)).short(2).kernel("mptcp_sock.pm.extra_subflows + 1", "5.7"),
    column::<Record>(ours(62, "reinjectedOctetDeltaCount", T::Unsigned64, S::DeltaCounter, U::Octets, "Payload sent again on another subflow."), multipath!(reinjected_bytes)).kernel("mptcp_sock.bytes_retrans", "6.5"),
    column::<Record>(ours(63, "headOfLineStallDeltaCount", T::Unsigned32, S::DeltaCounter, U::None, "Times that data waited in the receive queue for a gap that another subflow had to fill."), multipath!(head_of_line_stalls)).kernel("subflow_check_data_avail: mptcp_sock.out_of_order_queue", "5.13").per_segment(),
];
