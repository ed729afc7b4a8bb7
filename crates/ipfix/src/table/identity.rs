//! Columns that say whose a record is, the same for all kinds.

/// The addresses and ports, then who owns the socket.
macro_rules! identity {
    () => {
        &[
            Column::<Record>::new(
                iana(
                    8,
                    "sourceIPv4Address",
                    T::Ipv4Address,
                    S::Default,
                    U::None,
                    "Address of the host that recorded.",
                ),
                "local_addr",
                |record| match record.local_addr {
                    IpAddr::V4(addr) => Some(Value::V4(addr)),
                    IpAddr::V6(_) => None,
                },
                |record, value| set_address(&mut record.local_addr, value),
            )
            .kernel("inet_saddr", "4.16"),
            Column::<Record>::new(
                iana(
                    12,
                    "destinationIPv4Address",
                    T::Ipv4Address,
                    S::Default,
                    U::None,
                    "Address of the remote end.",
                ),
                "remote_addr",
                |record| match record.remote_addr {
                    IpAddr::V4(addr) => Some(Value::V4(addr)),
                    IpAddr::V6(_) => None,
                },
                |record, value| set_address(&mut record.remote_addr, value),
            )
            .kernel("skc_daddr", "4.16"),
            Column::<Record>::new(
                iana(
                    27,
                    "sourceIPv6Address",
                    T::Ipv6Address,
                    S::Default,
                    U::None,
                    "Address of the host that recorded.",
                ),
                "local_addr",
                |record| match record.local_addr {
                    IpAddr::V6(addr) => Some(Value::V6(addr)),
                    IpAddr::V4(_) => None,
                },
                |record, value| set_address(&mut record.local_addr, value),
            )
            .kernel("skc_v6_rcv_saddr", "4.16"),
            Column::<Record>::new(
                iana(
                    28,
                    "destinationIPv6Address",
                    T::Ipv6Address,
                    S::Default,
                    U::None,
                    "Address of the remote end.",
                ),
                "remote_addr",
                |record| match record.remote_addr {
                    IpAddr::V6(addr) => Some(Value::V6(addr)),
                    IpAddr::V4(_) => None,
                },
                |record, value| set_address(&mut record.remote_addr, value),
            )
            .kernel("skc_v6_daddr", "4.16"),
            column::<Record>(
                iana(
                    7,
                    "sourceTransportPort",
                    T::Unsigned16,
                    S::Identifier,
                    U::None,
                    "Port of the host that recorded.",
                ),
                plain!(local_port),
            )
            .kernel("inet_sport", "4.16"),
            column::<Record>(
                iana(
                    11,
                    "destinationTransportPort",
                    T::Unsigned16,
                    S::Identifier,
                    U::None,
                    "Port of the remote end.",
                ),
                plain!(remote_port),
            )
            .kernel("skc_dport", "4.16"),
        ]
    };
}

/// The process, the control group and the namespace.
macro_rules! owner {
    () => {
        &[
            column::<Record>(
                ours(
                    9,
                    "processId",
                    T::Unsigned32,
                    S::Identifier,
                    U::None,
                    "Process that owns the socket, as the initial namespace numbers it.",
                ),
                optional!(pid),
            )
            .kernel("bpf_get_current_pid_tgid where a process runs", "4.2"),
            column::<Record>(
                ours(
                    10,
                    "controlGroupId",
                    T::Unsigned64,
                    S::Identifier,
                    U::None,
                    "Control group of the socket: the inode number of its directory.",
                ),
                optional!(cgroup_id),
            )
            .kernel("sk_cgrp_data", "4.5"),
            column::<Record>(
                ours(
                    12,
                    "networkNamespaceId",
                    T::Unsigned32,
                    S::Identifier,
                    U::None,
                    "Network namespace of the socket: the inode number of its file.",
                ),
                optional!(netns),
            )
            .kernel("skc_net.ns.inum", "3.8"),
            column::<Record>(
                iana(
                    96,
                    "applicationName",
                    T::String,
                    S::Default,
                    U::None,
                    "Name of the process that owns the socket.",
                ),
                words!(process),
            )
            .kernel("bpf_get_current_comm where a process runs", "4.2"),
            column::<Record>(
                ours(
                    11,
                    "controlGroupPath",
                    T::String,
                    S::Default,
                    U::None,
                    "Path of the control group of the socket, from the root of its hierarchy.",
                ),
                words!(cgroup),
            )
            .kernel("directory of the identifier", "4.18"),
        ]
    };
}

/// When a record begins and ends, twice: many collectors read milliseconds only.
macro_rules! window {
    () => {
        &[
            Column::<Record>::new(
                iana(
                    156,
                    "flowStartNanoseconds",
                    T::DateTimeNanoseconds,
                    S::Default,
                    U::Nanoseconds,
                    "Start of the window.",
                ),
                "start",
                |record| Some(Value::Time(record.start.0)),
                |record, value| set_time(&mut record.start, value),
            )
            .kernel("bpf_ktime_get_ns and the wall clock", "4.1"),
            Column::<Record>::new(
                iana(
                    157,
                    "flowEndNanoseconds",
                    T::DateTimeNanoseconds,
                    S::Default,
                    U::Nanoseconds,
                    "End of the window.",
                ),
                "end",
                |record| Some(Value::Time(record.end.0)),
                |record, value| set_time(&mut record.end, value),
            )
            .kernel("bpf_ktime_get_ns and the wall clock", "4.1"),
            Column::<Record>::new(
                iana(
                    152,
                    "flowStartMilliseconds",
                    T::DateTimeMilliseconds,
                    S::Default,
                    U::Milliseconds,
                    "Start of the window again, for collectors that read no nanoseconds.",
                ),
                "start",
                |record| Some(Value::Time(record.start.0)),
                derived,
            )
            .kernel("as flowStartNanoseconds", "4.1"),
            Column::<Record>::new(
                iana(
                    153,
                    "flowEndMilliseconds",
                    T::DateTimeMilliseconds,
                    S::Default,
                    U::Milliseconds,
                    "End of the window again, for collectors that read no nanoseconds.",
                ),
                "end",
                |record| Some(Value::Time(record.end.0)),
                derived,
            )
            .kernel("as flowEndNanoseconds", "4.1"),
        ]
    };
}

pub(super) use {identity, owner, window};

use core::net::IpAddr;

use plumb_record::WallTime;

use super::element::{Column, Element};
use crate::Value;

/// What one of the macros makes of a field.
pub(super) type Access<R> = (
    &'static str,
    for<'a> fn(&'a R) -> Option<Value<'a>>,
    fn(&mut R, Value<'_>),
);

/// A column of an element and a field.
pub(super) const fn column<R>(element: Element, access: Access<R>) -> Column<R> {
    let (field, get, set) = access;
    Column::new(element, field, get, set)
}

pub(super) fn set_address(field: &mut IpAddr, value: Value<'_>) {
    if let Value::V4(addr) = value {
        *field = addr.into();
    } else if let Value::V6(addr) = value {
        *field = addr.into();
    }
}

pub(super) fn set_time(field: &mut WallTime, value: Value<'_>) {
    if let Value::Time(nanos) = value {
        *field = WallTime(nanos);
    }
}
