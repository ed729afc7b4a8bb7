//! Elements of what the exporting process says of itself and of its elements.

use super::element::{Element, iana};
use crate::{DataType as T, Semantics as S, Unit as U};

const EXPORTER_ID: Element = iana(
    144,
    "exportingProcessId",
    T::Unsigned32,
    S::Identifier,
    U::None,
    "The exporting process that the record is about.",
);
const OBSERVED: Element = iana(
    325,
    "observationTimeNanoseconds",
    T::DateTimeNanoseconds,
    S::Default,
    U::Nanoseconds,
    "When the counts were read.",
);
const MESSAGES: Element = iana(
    41,
    "exportedMessageTotalCount",
    T::Unsigned64,
    S::TotalCounter,
    U::Messages,
    "Messages sent.",
);
const FLOWS: Element = iana(
    42,
    "exportedFlowRecordTotalCount",
    T::Unsigned64,
    S::TotalCounter,
    U::Flows,
    "Flow records sent.",
);
const OCTETS: Element = iana(
    40,
    "exportedOctetTotalCount",
    T::Unsigned64,
    S::TotalCounter,
    U::Octets,
    "Octets of messages sent.",
);
const NOT_SENT_FLOWS: Element = iana(
    166,
    "notSentFlowTotalCount",
    T::Unsigned64,
    S::TotalCounter,
    U::Flows,
    "Flow records that were made and dropped instead of being sent.",
);
const NOT_SENT_PACKETS: Element = iana(
    167,
    "notSentPacketTotalCount",
    T::Unsigned64,
    S::TotalCounter,
    U::Packets,
    "Packets that those flow records counted.",
);
const NOT_SENT_OCTETS: Element = iana(
    168,
    "notSentOctetTotalCount",
    T::Unsigned64,
    S::TotalCounter,
    U::Octets,
    "Octets that those flow records counted.",
);

/// Scope of the statistics of the exporting process (RFC 7011 §4.3).
pub(crate) const EXPORTER_SCOPE: &[Element] = &[EXPORTER_ID];

/// Statistics of the exporting process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExporterFields {
    pub(crate) time_nanos: u64,
    pub(crate) messages: u64,
    pub(crate) flows: u64,
    pub(crate) octets: u64,
    pub(crate) not_sent_flows: u64,
    pub(crate) not_sent_packets: u64,
    pub(crate) not_sent_octets: u64,
}

/// A statistic and how it is read.
pub(crate) type ExporterField = (Element, fn(&ExporterFields) -> u64);

/// Statistics of the exporting process, in the order of the wire.
pub(crate) const EXPORTER_FIELDS: &[ExporterField] = &[
    (OBSERVED, |fields| fields.time_nanos),
    (MESSAGES, |fields| fields.messages),
    (FLOWS, |fields| fields.flows),
    (OCTETS, |fields| fields.octets),
    (NOT_SENT_FLOWS, |fields| fields.not_sent_flows),
    (NOT_SENT_PACKETS, |fields| fields.not_sent_packets),
    (NOT_SENT_OCTETS, |fields| fields.not_sent_octets),
];

/// Scope of a record that describes an element (RFC 5610 §3.9).
pub(crate) const TYPE_SCOPE: &[Element] = &[
    iana(
        346,
        "privateEnterpriseNumber",
        T::Unsigned32,
        S::Identifier,
        U::None,
        "Enterprise number of the element that is described.",
    ),
    iana(
        303,
        "informationElementId",
        T::Unsigned16,
        S::Identifier,
        U::None,
        "Number of the element that is described.",
    ),
];

/// What such a record says.
pub(crate) const TYPE_FIELDS: &[Element] = &[
    iana(
        339,
        "informationElementDataType",
        T::Unsigned8,
        S::Default,
        U::None,
        "Its type.",
    ),
    iana(
        344,
        "informationElementSemantics",
        T::Unsigned8,
        S::Default,
        U::None,
        "What kind of quantity it is.",
    ),
    iana(
        345,
        "informationElementUnits",
        T::Unsigned16,
        S::Default,
        U::None,
        "Its unit.",
    ),
    iana(
        342,
        "informationElementRangeBegin",
        T::Unsigned64,
        S::Quantity,
        U::None,
        "Its least value.",
    ),
    iana(
        343,
        "informationElementRangeEnd",
        T::Unsigned64,
        S::Quantity,
        U::None,
        "Its greatest value.",
    ),
    iana(
        341,
        "informationElementName",
        T::String,
        S::Default,
        U::None,
        "Its name.",
    ),
    iana(
        340,
        "informationElementDescription",
        T::String,
        S::Default,
        U::None,
        "What it means.",
    ),
];

/// All elements of this module.
pub(crate) fn process_elements() -> impl Iterator<Item = &'static Element> {
    EXPORTER_SCOPE
        .iter()
        .chain(EXPORTER_FIELDS.iter().map(|(element, _)| element))
        .chain(TYPE_SCOPE)
        .chain(TYPE_FIELDS)
}
