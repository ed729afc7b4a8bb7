//! Columns of a flow that a tap has counted. All are IANA's.

use core::net::IpAddr;

use plumb_record::TapFlow;

use super::codes::Code;
use super::element::{Column, Group, derived, iana, number, optional, plain, text};
use super::identity::{column, set_address, set_time};
use crate::{DataType as T, Semantics as S, Unit as U, Value};

type Record = TapFlow;

pub(super) const GROUPS: &[Group<TapFlow>] = &[
    Group {
        title: "Addresses",
        columns: ADDRESSES,
    },
    Group {
        title: "Traffic",
        columns: TRAFFIC,
    },
    Group {
        title: "Observation",
        columns: OBSERVATION,
    },
    Group {
        title: "Sampling",
        columns: SAMPLING,
    },
];

const fn v4(addr: IpAddr) -> Option<Value<'static>> {
    match addr {
        IpAddr::V4(addr) => Some(Value::V4(addr)),
        IpAddr::V6(_) => None,
    }
}

const fn v6(addr: IpAddr) -> Option<Value<'static>> {
    match addr {
        IpAddr::V6(addr) => Some(Value::V6(addr)),
        IpAddr::V4(_) => None,
    }
}

const ADDRESSES: &[Column<TapFlow>] = &[
    Column::<Record>::new(
        iana(
            8,
            "sourceIPv4Address",
            T::Ipv4Address,
            S::Default,
            U::None,
            "Source address of the packets.",
        ),
        "src_addr",
        |record| v4(record.src_addr),
        |record, value| set_address(&mut record.src_addr, value),
    ),
    Column::<Record>::new(
        iana(
            12,
            "destinationIPv4Address",
            T::Ipv4Address,
            S::Default,
            U::None,
            "Destination address of the packets.",
        ),
        "dst_addr",
        |record| v4(record.dst_addr),
        |record, value| set_address(&mut record.dst_addr, value),
    ),
    Column::<Record>::new(
        iana(
            27,
            "sourceIPv6Address",
            T::Ipv6Address,
            S::Default,
            U::None,
            "Source address of the packets.",
        ),
        "src_addr",
        |record| v6(record.src_addr),
        |record, value| set_address(&mut record.src_addr, value),
    ),
    Column::<Record>::new(
        iana(
            28,
            "destinationIPv6Address",
            T::Ipv6Address,
            S::Default,
            U::None,
            "Destination address of the packets.",
        ),
        "dst_addr",
        |record| v6(record.dst_addr),
        |record, value| set_address(&mut record.dst_addr, value),
    ),
    column::<Record>(
        iana(
            7,
            "sourceTransportPort",
            T::Unsigned16,
            S::Identifier,
            U::None,
            "Source port of the packets.",
        ),
        optional!(src_port),
    ),
    column::<Record>(
        iana(
            11,
            "destinationTransportPort",
            T::Unsigned16,
            S::Identifier,
            U::None,
            "Destination port of the packets.",
        ),
        optional!(dst_port),
    ),
    column::<Record>(
        iana(
            4,
            "protocolIdentifier",
            T::Unsigned8,
            S::Identifier,
            U::None,
            "Protocol behind the IP header.",
        ),
        plain!(protocol),
    ),
    Column::<Record>::new(
        iana(
            32,
            "icmpTypeCodeIPv4",
            T::Unsigned16,
            S::Identifier,
            U::None,
            "Type and code of ICMP: 256 x type + code.",
        ),
        "icmp_type_code",
        |record| icmp(record, record.src_addr.is_ipv4()),
        |record, value| record.icmp_type_code = number(value),
    ),
    Column::<Record>::new(
        iana(
            139,
            "icmpTypeCodeIPv6",
            T::Unsigned16,
            S::Identifier,
            U::None,
            "Type and code of ICMPv6: 256 x type + code.",
        ),
        "icmp_type_code",
        |record| icmp(record, record.src_addr.is_ipv6()),
        |record, value| record.icmp_type_code = number(value),
    ),
    column::<Record>(
        iana(
            58,
            "vlanId",
            T::Unsigned16,
            S::Identifier,
            U::None,
            "Identifier of the outermost VLAN tag.",
        ),
        optional!(vlan),
    ),
];

fn icmp(record: &TapFlow, is_its_version: bool) -> Option<Value<'static>> {
    let type_code = record.icmp_type_code.filter(|_| is_its_version)?;
    Some(Value::Unsigned(type_code.into()))
}

const TRAFFIC: &[Column<TapFlow>] = &[
    column::<Record>(
        iana(
            2,
            "packetDeltaCount",
            T::Unsigned64,
            S::DeltaCounter,
            U::Packets,
            "Packets since the flow's last record.",
        ),
        plain!(packets),
    ),
    column::<Record>(
        iana(
            1,
            "octetDeltaCount",
            T::Unsigned64,
            S::DeltaCounter,
            U::Octets,
            "Octets of these packets from their IP headers on.",
        ),
        plain!(bytes),
    ),
    Column::<Record>::new(
        iana(
            152,
            "flowStartMilliseconds",
            T::DateTimeMilliseconds,
            S::Default,
            U::Milliseconds,
            "Time of the first packet.",
        ),
        "start",
        |record| Some(Value::Time(record.start.0)),
        |record, value| set_time(&mut record.start, value),
    ),
    Column::<Record>::new(
        iana(
            153,
            "flowEndMilliseconds",
            T::DateTimeMilliseconds,
            S::Default,
            U::Milliseconds,
            "Time of the last packet.",
        ),
        "end",
        |record| Some(Value::Time(record.end.0)),
        |record, value| set_time(&mut record.end, value),
    ),
    column::<Record>(
        iana(
            6,
            "tcpControlBits",
            T::Unsigned16,
            S::Flags,
            U::None,
            "Flags of all TCP headers together.",
        ),
        optional!(tcp_flags),
    ),
    Column::<Record>::new(
        iana(
            136,
            "flowEndReason",
            T::Unsigned8,
            S::Identifier,
            U::None,
            "Why the record was made: 1 idle, 2 active, 3 ended, 4 stopped, 5 evicted.",
        ),
        "end_reason",
        |record| Some(record.end_reason.code()),
        |record, value| record.end_reason = Code::from_code(value).unwrap_or_default(),
    ),
];

const OBSERVATION: &[Column<TapFlow>] = &[
    Column::<Record>::new(
        iana(
            61,
            "flowDirection",
            T::Unsigned8,
            S::Identifier,
            U::None,
            "Which way the packets went through the interface: 0 it received them, 1 it sent them.",
        ),
        "received",
        |record| Some(Value::Unsigned((!record.received).into())),
        |record, value| record.received = value.number() == Some(0),
    ),
    Column::<Record>::new(
        iana(
            10,
            "ingressInterface",
            T::Unsigned32,
            S::Identifier,
            U::None,
            "Number of the interface that received the packets.",
        ),
        "interface_index",
        |record| interface(record, record.received),
        |record, value| record.interface_index = number(value).unwrap_or_default(),
    ),
    Column::<Record>::new(
        iana(
            14,
            "egressInterface",
            T::Unsigned32,
            S::Identifier,
            U::None,
            "Number of the interface that sent the packets.",
        ),
        "interface_index",
        |record| interface(record, !record.received),
        |record, value| record.interface_index = number(value).unwrap_or_default(),
    ),
    Column::<Record>::new(
        iana(
            82,
            "interfaceName",
            T::String,
            S::Default,
            U::None,
            "Name of the interface.",
        ),
        "interface",
        |record| Some(Value::Text(&record.interface)),
        |record, value| record.interface = text(value).unwrap_or_default(),
    ),
];

fn interface(record: &TapFlow, is_this: bool) -> Option<Value<'static>> {
    is_this.then(|| Value::Unsigned(record.interface_index.into()))
}

/// Random n-out-of-N, as collectors of NetFlow know it (element 35), and uniform probabilistic
/// (RFC 5477 §8.2.1).
const RANDOM: u64 = 2;
const UNIFORM_PROBABILISTIC: u64 = 4;

fn sampled(record: &TapFlow, value: Value<'static>) -> Option<Value<'static>> {
    record.sample.map(|_| value)
}

const SAMPLING: &[Column<TapFlow>] = &[
    column::<Record>(
        iana(
            34,
            "samplingInterval",
            T::Unsigned32,
            S::Quantity,
            U::Packets,
            "Packets of which one was taken, for collectors that know no probabilities.",
        ),
        optional!(sample),
    ),
    Column::<Record>::new(
        iana(
            35,
            "samplingAlgorithm",
            T::Unsigned8,
            S::Identifier,
            U::None,
            "How it was chosen, for the same: 2 at random.",
        ),
        "sample",
        |record| sampled(record, Value::Unsigned(RANDOM)),
        derived,
    ),
    Column::<Record>::new(
        iana(
            304,
            "selectorAlgorithm",
            T::Unsigned16,
            S::Identifier,
            U::None,
            "How packets were chosen: 4 each with the same probability.",
        ),
        "sample",
        |record| sampled(record, Value::Unsigned(UNIFORM_PROBABILISTIC)),
        derived,
    ),
    Column::<Record>::new(
        iana(
            311,
            "samplingProbability",
            T::Float64,
            S::Quantity,
            U::None,
            "Probability that a packet was taken.",
        ),
        "sample",
        |record| {
            record
                .sample
                .map(|one_in| Value::Float(1.0 / f64::from(one_in.max(1))))
        },
        derived,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::columns;
    use plumb_record::{TapFlowDirection, TapFlowEnd, TapFlowType, TapSchema, WallTime};

    fn flow(v4: bool) -> TapFlow {
        let address = |n: u8| match v4 {
            true => IpAddr::from([10, 0, 0, n]),
            false => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into()]),
        };
        TapFlow {
            schema: TapSchema::V1,
            kind: TapFlowType::Flow,
            interface: "tap0".into(),
            interface_index: 7,
            direction: TapFlowDirection::In,
            received: v4,
            vlan: Some(100),
            protocol: 6,
            src_addr: address(1),
            src_port: Some(1000),
            dst_addr: address(2),
            dst_port: Some(443),
            icmp_type_code: Some(0x0800),
            start: WallTime(1_000_000),
            end: WallTime(9_000_000),
            packets: 3,
            bytes: 300,
            tcp_flags: Some(0x1b),
            end_reason: TapFlowEnd::Evicted,
            sample: Some(64),
        }
    }

    #[test]
    fn what_is_sent_is_read_back() {
        for v4 in [true, false] {
            let sent = flow(v4);
            let mut read = TapFlow {
                interface: "".into(),
                interface_index: 0,
                received: !v4,
                vlan: None,
                protocol: 0,
                src_addr: [0, 0, 0, 0].into(),
                src_port: None,
                dst_addr: [0, 0, 0, 0].into(),
                dst_port: None,
                icmp_type_code: None,
                start: WallTime(0),
                end: WallTime(0),
                packets: 0,
                bytes: 0,
                tcp_flags: None,
                end_reason: TapFlowEnd::Idle,
                sample: None,
                ..sent.clone()
            };
            for column in columns(GROUPS) {
                if let Some(value) = (column.get)(&sent) {
                    let (kind, len) = (column.element.kind, column.element.len);
                    assert!(value.fits(kind, len), "{}", column.element.name);
                    (column.set)(&mut read, value);
                }
            }
            assert_eq!(read, sent);
        }
    }

    #[test]
    fn what_there_is_not_is_not_sent() {
        let mut plain = flow(true);
        (
            plain.vlan,
            plain.icmp_type_code,
            plain.tcp_flags,
            plain.sample,
        ) = (None, None, None, None);
        (plain.src_port, plain.dst_port) = (None, None);
        let sent = columns(GROUPS).filter(|column| (column.get)(&plain).is_some());
        assert_eq!(sent.count(), 11);
    }
}
