//! Columns of a connection's profile: whose it is, its window, what went through.

use core::net::IpAddr;

use plumb_record::{FlowProfile, FlowProtocol};

use super::codes::{Code, flow_end_reason};
use super::element::{
    Column, Element, Group, Scope, derived, iana, number, optional, ours, plain, words,
};
use super::identity::{column, identity, owner, set_address, set_time, window};
use super::kpi;
use crate::{DataType as T, Semantics as S, Unit as U, Value};

type Record = FlowProfile;

pub(super) const GROUPS: &[Group<FlowProfile>] = &[
    Group {
        title: "Addresses",
        columns: identity!(),
    },
    Group {
        title: "Connection",
        columns: CONNECTION,
    },
    Group {
        title: "Window",
        columns: window!(),
    },
    Group {
        title: "State",
        columns: STATE,
    },
    Group {
        title: "Traffic",
        columns: TRAFFIC,
    },
    Group {
        title: "Delay",
        columns: kpi::DELAY,
    },
    Group {
        title: "Loss and recovery",
        columns: kpi::RECOVERY,
    },
    Group {
        title: "What came in out of turn",
        columns: kpi::RECEIVER,
    },
    Group {
        title: "Stalls and resets",
        columns: kpi::STALLS,
    },
    Group {
        title: "Path and congestion",
        columns: kpi::PATH,
    },
    Group {
        title: "Multipath TCP",
        columns: kpi::MULTIPATH,
    },
    Group {
        title: "Owner",
        columns: owner!(),
    },
];

const CONNECTION: &[Column<FlowProfile>] = &[
    column::<Record>(
        iana(
            148,
            "flowId",
            T::Unsigned64,
            S::Identifier,
            U::None,
            "Identifier of the connection while the host is up.",
        ),
        plain!(flow_id),
    )
    .kernel("bpf_get_socket_cookie", "5.12"),
    Column::<Record>::new(
        iana(
            4,
            "protocolIdentifier",
            T::Unsigned8,
            S::Identifier,
            U::None,
            "Protocol of the packets: 6 TCP, 17 UDP.",
        ),
        "protocol",
        |record| Some(Value::Unsigned(protocol(record).into())),
        derived,
    )
    .kernel("sk_protocol", "4.16"),
    Column::<Record>::new(
        ours(
            2,
            "profileKind",
            T::Unsigned8,
            S::Identifier,
            U::None,
            "What the profile is about: 0 tcp, 1 mptcp-subflow, 2 mptcp, 3 quic.",
        ),
        "protocol",
        |record| Some(record.protocol.code()),
        |record, value| record.protocol = Code::from_code(value).unwrap_or_default(),
    )
    .range(0, 3)
    .kernel("sk_protocol, tcp_sock.is_mptcp", "5.6"),
    Column::<Record>::new(
        iana(
            239,
            "biflowDirection",
            T::Unsigned8,
            S::Identifier,
            U::None,
            "Which end opened the connection: 1 the source, 2 the destination, 0 not known.",
        ),
        "open",
        |record| Some(record.open.map_or(Value::Unsigned(0), Code::code)),
        |record, value| record.open = Code::from_code(value),
    )
    .kernel("inet_sock_set_state: from SYN_SENT or SYN_RECV", "4.16"),
    column::<Record>(
        ours(
            1,
            "profileIndex",
            T::Unsigned32,
            S::Identifier,
            U::None,
            "Number of the profile among its connection's, from 0; a gap is a lost profile.",
        ),
        plain!(profile),
    )
    .kernel("recorder", "5.8"),
];

const STATE: &[Column<FlowProfile>] = &[
    Column::<Record>::new(
        ours(
            3,
            "profileStateBefore",
            T::Unsigned8,
            S::Identifier,
            U::None,
            "State at the start of the window: 0 new, 1 established, 2 finished, \
             3 network-error, 4 protocol-error.",
        ),
        "state_before",
        |record| Some(record.state_before.code()),
        |record, value| record.state_before = Code::from_code(value).unwrap_or_default(),
    )
    .range(0, 4)
    .kernel("inet_sock_set_state", "4.16"),
    Column::<Record>::new(
        ours(
            4,
            "profileState",
            T::Unsigned8,
            S::Identifier,
            U::None,
            "State at the end of the window: 0 new, 1 established, 2 finished, \
             3 network-error, 4 protocol-error.",
        ),
        "state",
        |record| Some(record.state.code()),
        |record, value| record.state = Code::from_code(value).unwrap_or_default(),
    )
    .range(0, 4)
    .kernel("inet_sock_set_state, sk_err", "4.16"),
    Column::<Record>::new(
        ours(
            5,
            "profilePhase",
            T::Unsigned8,
            S::Identifier,
            U::None,
            "What the window was like: 0 establishing, 1 open, 2 lossy (from a retransmission \
             timeout to the acknowledgement of what was lost).",
        ),
        "phase",
        |record| Some(record.phase.code()),
        |record, value| record.phase = Code::from_code(value).unwrap_or_default(),
    )
    .range(0, 2)
    .kernel("inet_sock_set_state, tcp_cong_state_set", "5.19"),
    Column::<Record>::new(
        ours(
            6,
            "profileEvent",
            T::Unsigned8,
            S::Identifier,
            U::None,
            "What ended the window: 0 established, 1 lossy-entered, 2 lossy-left, \
             3 active-timeout, 4 idle-timeout, 5 orphaned, 6 ended, 7 recorder-stopped, \
             8 evicted.",
        ),
        "event",
        |record| Some(record.event.code()),
        |record, value| record.event = Code::from_code(value).unwrap_or_default(),
    )
    .range(0, 8)
    .kernel("inet_sock_set_state, tcp_cong_state_set", "5.19"),
    Column::<Record>::new(
        iana(
            136,
            "flowEndReason",
            T::Unsigned8,
            S::Identifier,
            U::None,
            "Why the window ended: 1 idle timeout, 2 still active, 3 end of the connection, \
             4 recorder stopped, 5 lack of resources.",
        ),
        "event",
        |record| Some(Value::Unsigned(flow_end_reason(record.event))),
        derived,
    )
    .kernel("as profileEvent", "4.16"),
    Column::<Record>::new(
        ours(
            7,
            "connectionEnd",
            T::Unsigned8,
            S::Identifier,
            U::None,
            "How the connection ended: 0 it goes on, 1 closed, 2 reset-received, 3 reset-sent, \
             4 refused, 5 timed-out, 6 unreachable, 7 aborted, 8 error.",
        ),
        "end_reason",
        |record| Some(record.end_reason.map_or(Value::Unsigned(0), Code::code)),
        |record, value| record.end_reason = Code::from_code(value),
    )
    .range(0, 8)
    .kernel("sk_err, tcp_receive_reset, tcp_send_reset", "4.16"),
    Column::<Record>::new(
        ours(
            8,
            "connectionErrorNumber",
            T::Unsigned16,
            S::Identifier,
            U::None,
            "Error of the socket as Linux numbers it; 0 for none.",
        ),
        "errno",
        |record| Some(Value::Unsigned(record.errno.unwrap_or(0).into())),
        |record, value| record.errno = number(value).filter(|&errno| errno != 0),
    )
    .kernel("sk_err", "4.16"),
];

const TRAFFIC: &[Column<FlowProfile>] = &[
    column::<Record>(
        iana(
            401,
            "transportOctetDeltaCount",
            T::Unsigned64,
            S::DeltaCounter,
            U::Octets,
            "Payload sent, retransmissions included.",
        ),
        plain!(bytes_sent),
    )
    .kernel("tcp_sock.bytes_sent", "4.19"),
    column::<Record>(
        reverse(
            401,
            "reverseTransportOctetDeltaCount",
            U::Octets,
            "Payload received in order.",
        ),
        plain!(bytes_received),
    )
    .kernel("tcp_sock.bytes_received", "4.1"),
    column::<Record>(
        ours(
            13,
            "acknowledgedOctetDeltaCount",
            T::Unsigned64,
            S::DeltaCounter,
            U::Octets,
            "Payload sent that the remote end acknowledged.",
        ),
        optional!(bytes_acked),
    )
    .kernel("tcp_sock.bytes_acked, less SYN and FIN", "4.1"),
    column::<Record>(
        ours(
            14,
            "retransmittedOctetDeltaCount",
            T::Unsigned64,
            S::DeltaCounter,
            U::Octets,
            "Payload sent again.",
        ),
        optional!(bytes_retransmitted),
    )
    .kernel("tcp_sock.bytes_retrans", "4.19"),
    column::<Record>(
        iana(
            2,
            "packetDeltaCount",
            T::Unsigned64,
            S::DeltaCounter,
            U::Packets,
            "Segments sent, acknowledgements and retransmissions included.",
        ),
        optional!(packets_sent),
    )
    .short(4)
    .kernel("tcp_sock.segs_out", "4.2"),
    column::<Record>(
        reverse(
            2,
            "reversePacketDeltaCount",
            U::Packets,
            "Segments received, acknowledgements included.",
        ),
        optional!(packets_received),
    )
    .short(4)
    .kernel("tcp_sock.segs_in", "4.2"),
    column::<Record>(
        iana(
            402,
            "transportPacketDeltaCount",
            T::Unsigned64,
            S::DeltaCounter,
            U::Packets,
            "Segments sent that carried data.",
        ),
        optional!(data_packets_sent),
    )
    .short(4)
    .kernel("tcp_sock.data_segs_out", "4.6"),
    column::<Record>(
        reverse(
            402,
            "reverseTransportPacketDeltaCount",
            U::Packets,
            "Segments received that carried data.",
        ),
        optional!(data_packets_received),
    )
    .short(4)
    .kernel("tcp_sock.data_segs_in", "4.6"),
    column::<Record>(
        ours(
            15,
            "retransmittedPacketDeltaCount",
            T::Unsigned64,
            S::DeltaCounter,
            U::Packets,
            "Segments sent again.",
        ),
        optional!(packets_retransmitted),
    )
    .short(4)
    .kernel("tcp_sock.total_retrans", "2.6"),
    column::<Record>(
        ours(
            16,
            "lostPacketDeltaCount",
            T::Unsigned64,
            S::DeltaCounter,
            U::Packets,
            "Segments that the sender took for lost.",
        ),
        optional!(packets_lost),
    )
    .short(4)
    .kernel("tcp_sock.lost", "4.9"),
    Column::<Record>::new(
        iana(
            1,
            "octetDeltaCount",
            T::Unsigned64,
            S::DeltaCounter,
            U::Octets,
            "Octets of IP packets sent: the payload, and for each segment the IP and transport \
             headers without options.",
        ),
        "bytes_sent, packets_sent",
        |record| ip_octets(record, record.bytes_sent, record.packets_sent),
        derived,
    )
    .kernel("from the counts above", "4.19"),
    Column::<Record>::new(
        reverse(
            1,
            "reverseOctetDeltaCount",
            U::Octets,
            "Octets of IP packets received: the payload, and for each segment the IP and transport \
             headers without options.",
        ),
        "bytes_received, packets_received",
        |record| ip_octets(record, record.bytes_received, record.packets_received),
        derived,
    )
    .kernel("from the counts above", "4.2"),
];

/// An element of IANA's, of what came from the remote end.
const fn reverse(id: u16, name: &'static str, unit: U, description: &'static str) -> Element {
    Element::new(
        Scope::Reverse,
        id,
        name,
        T::Unsigned64,
        S::DeltaCounter,
        unit,
        description,
    )
}

const fn protocol(record: &FlowProfile) -> u8 {
    match record.protocol {
        FlowProtocol::Tcp | FlowProtocol::MptcpSubflow | FlowProtocol::Mptcp => {
            plumb_wire::protocol::TCP
        }
        FlowProtocol::Quic => plumb_wire::protocol::UDP,
    }
}

/// Octets of IP packets, as far as counts tell.
fn ip_octets(record: &FlowProfile, payload: u64, packets: Option<u64>) -> Option<Value<'static>> {
    let ip = match record.local_addr {
        IpAddr::V4(_) => plumb_wire::ipv4::HEADER_LEN,
        IpAddr::V6(_) => plumb_wire::ipv6::HEADER_LEN,
    };
    let transport = match record.protocol {
        FlowProtocol::Tcp | FlowProtocol::MptcpSubflow | FlowProtocol::Mptcp => {
            plumb_wire::tcp::HEADER_LEN
        }
        FlowProtocol::Quic => plumb_wire::udp::HEADER_LEN,
    };
    let headers = u64::try_from(ip + transport).ok()?;
    let octets = packets?.saturating_mul(headers).saturating_add(payload);
    Some(Value::Unsigned(octets))
}
