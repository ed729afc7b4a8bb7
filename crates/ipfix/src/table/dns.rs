//! Columns of a name lookup.

use core::net::IpAddr;

use plumb_record::DnsProfile;

use super::codes::Code;
use super::element::{Column, Group, derived, iana, optional, ours, plain, words};
use super::identity::{column, identity, owner, set_address, set_time, window};
use crate::{DataType as T, Semantics as S, Unit as U, Value};

type Record = DnsProfile;

pub(super) const GROUPS: &[Group<DnsProfile>] = &[
    Group {
        title: "Addresses",
        columns: identity!(),
    },
    Group {
        title: "Window",
        columns: window!(),
    },
    Group {
        title: "Lookup",
        columns: LOOKUP,
    },
    Group {
        title: "Owner",
        columns: owner!(),
    },
];

const LOOKUP: &[Column<DnsProfile>] = &[
    column::<Record>(
        iana(
            148,
            "flowId",
            T::Unsigned64,
            S::Identifier,
            U::None,
            "Identifier of the connection while the host is up.",
        ),
        optional!(flow_id),
    )
    .kernel("bpf_get_socket_cookie in cgroup_skb", "4.12"),
    Column::<Record>::new(
        iana(
            4,
            "protocolIdentifier",
            T::Unsigned8,
            S::Identifier,
            U::None,
            "Protocol of the packets: 6 TCP, 17 UDP.",
        ),
        "transport",
        |record| Some(record.transport.code()),
        |record, value| record.transport = Code::from_code(value).unwrap_or_default(),
    )
    .kernel("cgroup_skb: IP header", "4.10"),
    column::<Record>(
        ours(
            65,
            "dnsQueryType",
            T::Unsigned16,
            S::Identifier,
            U::None,
            "Type that was asked for, as the DNS numbers it.",
        ),
        plain!(query_type),
    )
    .kernel("cgroup_skb: the question", "4.10"),
    column::<Record>(
        ours(
            66,
            "dnsQueryDeltaCount",
            T::Unsigned32,
            S::DeltaCounter,
            U::Messages,
            "Times that the question was sent.",
        ),
        plain!(queries),
    )
    .kernel("cgroup_skb/egress", "4.10"),
    column::<Record>(
        ours(
            67,
            "dnsResolutionDurationNanoseconds",
            T::Unsigned64,
            S::Quantity,
            U::Nanoseconds,
            "Time from the first question to the answer.",
        ),
        optional!(resolution_ns),
    )
    .kernel("bpf_ktime_get_ns in cgroup_skb", "4.10"),
    column::<Record>(
        ours(
            68,
            "dnsResponseCode",
            T::Unsigned16,
            S::Identifier,
            U::None,
            "Response code of the answer.",
        ),
        optional!(response_code),
    )
    .kernel("cgroup_skb/ingress: the answer", "4.10"),
    column::<Record>(
        ours(
            69,
            "dnsAnswers",
            T::Unsigned16,
            S::Quantity,
            U::Entries,
            "Records in the answer section.",
        ),
        optional!(answers),
    )
    .kernel("cgroup_skb/ingress: the answer", "4.10"),
    Column::<Record>::new(
        ours(
            70,
            "dnsTruncated",
            T::Boolean,
            S::Default,
            U::None,
            "Whether the answer was cut.",
        ),
        "truncated",
        |record| record.truncated.map(Value::Boolean),
        |record, value| record.truncated = value.truth(),
    )
    .kernel("cgroup_skb/ingress: the answer", "4.10"),
    Column::<Record>::new(
        ours(
            64,
            "dnsQueryName",
            T::String,
            S::Default,
            U::None,
            "Name that was asked for.",
        ),
        "name",
        |record| Some(Value::Text(&record.name)),
        |record, value| {
            if let Value::Text(name) = value {
                record.name = name.into();
            }
        },
    )
    .kernel("cgroup_skb: the question", "4.10"),
];
