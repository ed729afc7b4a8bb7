//! What elements are called and of which type they are: from the table, or because an exporter said
//! so (RFC 5610).

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use crate::table::{REVERSE_ENTERPRISE, Scope, elements};
use crate::{DataType, FieldSpec, Semantics, Template, Unit, Value};

/// An element that an exporter described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learned {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: DataType,
    /// What kind of quantity it is.
    pub semantics: Option<Semantics>,
    /// Its unit.
    pub unit: Option<Unit>,
}

/// The elements that are known in a session.
#[derive(Debug)]
pub(super) struct Known {
    table: BTreeMap<(u32, u16), (&'static str, DataType)>,
    learned: BTreeMap<(u32, u16), Learned>,
}

/// Longest name that is taken.
const MAX_NAME: usize = 256;

impl Known {
    /// The elements of the table that are IANA's, and other frequent ones. Plumb's own are learned
    /// as those of any exporter.
    pub(super) fn new() -> Self {
        let ours = elements()
            .filter(|element| element.scope != Scope::Plumb)
            .map(|element| {
                let enterprise = element.scope.enterprise(0);
                ((enterprise, element.id), (element.name, element.kind))
            });
        let frequent = FREQUENT
            .iter()
            .map(|&(id, name, kind)| ((0, id), (name, kind)));
        Self {
            table: frequent.chain(ours).collect(),
            learned: BTreeMap::new(),
        }
    }

    pub(super) fn learned(&self) -> impl Iterator<Item = ((u32, u16), &Learned)> {
        self.learned.iter().map(|(&key, learned)| (key, learned))
    }

    pub(super) fn kind(&self, field: FieldSpec) -> Option<DataType> {
        let key = (field.enterprise, field.id);
        match self.learned.get(&key) {
            Some(learned) => Some(learned.kind),
            None => self.standard(field).map(|(_, kind)| kind),
        }
    }

    pub(super) fn name(&self, field: FieldSpec) -> Cow<'_, str> {
        let key = (field.enterprise, field.id);
        if let Some(learned) = self.learned.get(&key) {
            return Cow::Borrowed(&learned.name);
        }
        match self.standard(field) {
            Some((name, _)) if !name.is_empty() => Cow::Borrowed(name),
            _ if field.enterprise == 0 => Cow::Owned(format!("{}", field.id)),
            _ => Cow::Owned(format!("{}/{}", field.enterprise, field.id)),
        }
    }

    /// An element of IANA's. One of the other direction has the type of its own one.
    fn standard(&self, field: FieldSpec) -> Option<(&'static str, DataType)> {
        let key = (field.enterprise, field.id);
        let found = self.table.get(&key).copied();
        found.or_else(|| match field.enterprise {
            REVERSE_ENTERPRISE => {
                let (_, kind) = self.table.get(&(0, field.id))?;
                Some(("", *kind))
            }
            _ => None,
        })
    }

    /// Learns an element if the record describes one. Says whether there was room for it.
    pub(super) fn learn(&mut self, template: &Template, octets: &[&[u8]], limit: usize) -> bool {
        let value = |id: u16| {
            let at = template
                .fields
                .iter()
                .position(|field| field.enterprise == 0 && field.id == id)?;
            octets.get(at).copied()
        };
        let number = |id: u16| Value::parse(DataType::Unsigned64, value(id)?).number();
        let described = || {
            let enterprise = u32::try_from(number(346)?).ok()?;
            let id = u16::try_from(number(303)?).ok()? & 0x7fff;
            let name = core::str::from_utf8(value(341)?).ok()?;
            let kind = DataType::from_number(u8::try_from(number(339)?).ok()?)?;
            // IANA's elements are what IANA says.
            if enterprise == 0 || name.is_empty() || name.len() > MAX_NAME {
                return None;
            }
            let semantics = number(344).and_then(|n| n.try_into().ok());
            let unit = number(345).and_then(|n| n.try_into().ok());
            let learned = Learned {
                name: name.into(),
                kind,
                semantics: semantics.and_then(Semantics::from_number),
                unit: unit.and_then(Unit::from_number),
            };
            Some(((enterprise, id), learned))
        };
        let Some((key, learned)) = described() else {
            return true;
        };
        if self.learned.len() >= limit && !self.learned.contains_key(&key) {
            return false;
        }
        self.learned.insert(key, learned);
        true
    }
}

/// Elements of IANA's that exporters often send and plumb does not.
const FREQUENT: &[(u16, &str, DataType)] = &[
    (3, "deltaFlowCount", DataType::Unsigned64),
    (5, "ipClassOfService", DataType::Unsigned8),
    (9, "sourceIPv4PrefixLength", DataType::Unsigned8),
    (13, "destinationIPv4PrefixLength", DataType::Unsigned8),
    (15, "ipNextHopIPv4Address", DataType::Ipv4Address),
    (16, "bgpSourceAsNumber", DataType::Unsigned32),
    (17, "bgpDestinationAsNumber", DataType::Unsigned32),
    (18, "bgpNextHopIPv4Address", DataType::Ipv4Address),
    (21, "flowEndSysUpTime", DataType::Unsigned32),
    (22, "flowStartSysUpTime", DataType::Unsigned32),
    (29, "sourceIPv6PrefixLength", DataType::Unsigned8),
    (30, "destinationIPv6PrefixLength", DataType::Unsigned8),
    (31, "flowLabelIPv6", DataType::Unsigned32),
    (52, "minimumTTL", DataType::Unsigned8),
    (53, "maximumTTL", DataType::Unsigned8),
    (56, "sourceMacAddress", DataType::MacAddress),
    (60, "ipVersion", DataType::Unsigned8),
    (62, "ipNextHopIPv6Address", DataType::Ipv6Address),
    (80, "destinationMacAddress", DataType::MacAddress),
    (85, "octetTotalCount", DataType::Unsigned64),
    (86, "packetTotalCount", DataType::Unsigned64),
    (89, "forwardingStatus", DataType::Unsigned32),
    (95, "applicationId", DataType::OctetArray),
    (130, "exporterIPv4Address", DataType::Ipv4Address),
    (131, "exporterIPv6Address", DataType::Ipv6Address),
    (145, "templateId", DataType::Unsigned16),
    (149, "observationDomainId", DataType::Unsigned32),
    (150, "flowStartSeconds", DataType::DateTimeSeconds),
    (151, "flowEndSeconds", DataType::DateTimeSeconds),
    (154, "flowStartMicroseconds", DataType::DateTimeMicroseconds),
    (155, "flowEndMicroseconds", DataType::DateTimeMicroseconds),
    (
        160,
        "systemInitTimeMilliseconds",
        DataType::DateTimeMilliseconds,
    ),
    (161, "flowDurationMilliseconds", DataType::Unsigned32),
    (192, "ipTTL", DataType::Unsigned8),
    (195, "ipDiffServCodePoint", DataType::Unsigned8),
    (210, "paddingOctets", DataType::OctetArray),
    (225, "postNATSourceIPv4Address", DataType::Ipv4Address),
    (226, "postNATDestinationIPv4Address", DataType::Ipv4Address),
    (227, "postNAPTSourceTransportPort", DataType::Unsigned16),
    (
        228,
        "postNAPTDestinationTransportPort",
        DataType::Unsigned16,
    ),
    (230, "natEvent", DataType::Unsigned8),
    (231, "initiatorOctets", DataType::Unsigned64),
    (232, "responderOctets", DataType::Unsigned64),
    (298, "initiatorPackets", DataType::Unsigned64),
    (299, "responderPackets", DataType::Unsigned64),
    (305, "samplingPacketInterval", DataType::Unsigned32),
    (306, "samplingPacketSpace", DataType::Unsigned32),
    (
        323,
        "observationTimeMilliseconds",
        DataType::DateTimeMilliseconds,
    ),
];
